//! What is not taken, counted by kind: who misreads others finds out here.

use core::fmt;

use crate::dht::packet::code;
use crate::dht::types::Refused;

/// What a node did not take of what others sent, and others not of what it sent, since it began. All of it is zero among
/// honest nodes that understand each other; a hostile one can let it rise, and nothing follows from it.
///
/// Not counted is what is dropped without regard to what it says: above a limit of requests, for another network, from
/// an address that is none, for a key that is others' to keep, or as an answer to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refusals {
    /// Datagrams that are no packet ([`crate::dht::packet::PacketError`]).
    pub datagrams: u64,
    /// Values in pieces which are none once they are put together.
    pub pieces: u64,
    /// Requests that were answered with an error.
    pub requests: ErrorCounts,
    /// Values that somebody put and that are not kept. The sender is not told.
    pub values: ValueCounts,
    /// Errors with which others answered requests of ours.
    pub errors: ErrorCounts,
}

/// Errors by their code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ErrorCounts {
    /// [`code::NO_KEY`].
    pub no_key: u64,
    /// [`code::BAD_TOKEN`]: a token of somebody else, or one that was kept for too long.
    pub bad_token: u64,
    /// [`code::NOT_FOUND`].
    pub not_found: u64,
    /// Any other.
    pub other: u64,
}

/// Values by why they are not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ValueCounts {
    /// [`Refused::TooLarge`].
    pub too_large: u64,
    /// [`Refused::Signature`].
    pub signature: u64,
    /// [`Refused::Content`].
    pub content: u64,
    /// [`Refused::WrongKey`].
    pub wrong_key: u64,
    /// [`Refused::Edit`].
    pub edit: u64,
    /// Made longer ago than its type lives: one of the two clocks is wrong.
    pub too_old: u64,
    /// The key has as many of others as may be ([`super::NodeLimits::values_per_key`]).
    pub key_full: u64,
}

fn one_more(count: &mut u64) {
    *count = count.saturating_add(1);
}

impl ErrorCounts {
    pub(super) fn count(&mut self, code: u16) {
        one_more(match code {
            code::NO_KEY => &mut self.no_key,
            code::BAD_TOKEN => &mut self.bad_token,
            code::NOT_FOUND => &mut self.not_found,
            _ => &mut self.other,
        });
    }
}

impl ValueCounts {
    pub(super) fn count(&mut self, why: Refused) {
        one_more(match why {
            Refused::TooLarge => &mut self.too_large,
            Refused::Signature => &mut self.signature,
            Refused::Content => &mut self.content,
            Refused::WrongKey => &mut self.wrong_key,
            Refused::Edit => &mut self.edit,
        });
    }

    pub(super) fn count_old(&mut self) {
        one_more(&mut self.too_old);
    }

    pub(super) fn count_full(&mut self) {
        one_more(&mut self.key_full);
    }
}

impl Refusals {
    pub(super) fn count_datagram(&mut self) {
        one_more(&mut self.datagrams);
    }

    /// The kinds of which there was any, in words, with how many.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let (asked, values, told) = (&self.requests, &self.values, &self.errors);
        [
            ("datagrams that are no packet", self.datagrams),
            ("values in pieces that are none", self.pieces),
            ("requests without a key", asked.no_key),
            ("requests with a wrong token", asked.bad_token),
            ("requests for what is not there", asked.not_found),
            ("other requests", asked.other),
            ("values that are too large", values.too_large),
            ("values with a wrong signature", values.signature),
            ("values that do not fit their type", values.content),
            ("certificates of other keys", values.wrong_key),
            ("changes that are not allowed", values.edit),
            ("values that are too old", values.too_old),
            ("values for a full key", values.key_full),
            ("answers that a key is missing", told.no_key),
            ("answers that a token is wrong", told.bad_token),
            ("answers that something is not there", told.not_found),
            ("answers with another error", told.other),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
    }
}

/// For people: "nothing", or how many of what.
impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kinds().next().is_none() {
            return f.write_str("nothing");
        }
        for (at, (kind, count)) in self.kinds().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{count} {kind}")?;
        }
        Ok(())
    }
}
