//! `account.*`

use super::Router;

pub(super) fn register(_r: &mut Router) {}
