//! Accounts: one actor each, and the tasks that keep it in touch with others.

pub mod book;
pub mod links;
