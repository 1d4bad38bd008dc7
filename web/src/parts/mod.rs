//! Components that views are made of.

mod avatar;
mod emoji;
mod icon;
mod photo;
mod qr;
mod sheet;

pub(crate) use avatar::{Avatar, ConversationFace, PersonFace};
pub(crate) use emoji::{EmojiGrid, MORE, QUICK};
pub(crate) use icon::{Icon, icon, turning_icon};
pub(crate) use photo::Photo;
pub(crate) use qr::Qr;
pub(crate) use sheet::Sheet;
