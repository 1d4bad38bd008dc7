//! Components that views are made of.

mod avatar;
mod icon;
mod qr;
mod sheet;

pub(crate) use avatar::Avatar;
pub(crate) use icon::{Icon, icon, turning_icon};
pub(crate) use qr::Qr;
pub(crate) use sheet::Sheet;
