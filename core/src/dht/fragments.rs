//! Putting values together that came in parts: any order, bounded in memory and time.

use super::packet::{Packet, Part, Piece};
use super::value::Value;
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// With fewer values than this, and fewer bytes than [`INLINE_SIZE`], values are sent inline
/// (OpenDHT `MAX_PACKET_VALUE_SIZE`, 50 values).
pub const INLINE_COUNT: usize = 50;

/// Sum of packed sizes below which values are sent inline, bytes (OpenDHT: 600).
pub const INLINE_SIZE: usize = 600;

/// Bytes of a value in one part (OpenDHT `MTU`).
pub const PART_SIZE: usize = 1280;

/// A message that is not complete after this time is given up (OpenDHT `RX_MAX_PACKET_TIME`).
pub const MAX_AGE: Duration = Duration::from_secs(10);

/// A message that gets no part for this long is given up (OpenDHT `RX_TIMEOUT`).
pub const MAX_IDLE: Duration = Duration::from_secs(3);

/// Parts that came before their header: bytes kept for each source and transaction
/// (OpenDHT 4.3).
pub const EARLY_BYTES: usize = 122_912;

/// Parts that came before their header: datagrams kept for each source and transaction
/// (OpenDHT 4.3).
pub const EARLY_PARTS: usize = 98;

/// Bytes that all unfinished messages may announce together. Ours: the reference sets no bound.
pub const MAX_TOTAL: usize = 32 << 20;

/// Bytes that unfinished messages of one address may announce together. Ours: room for
/// replies with many values, but not for one peer to fill [`MAX_TOTAL`].
pub const MAX_PER_SOURCE: usize = 8 << 20;

/// Unfinished messages kept at once. Ours.
pub const MAX_MESSAGES: usize = 1024;

type Key = (SocketAddr, u32);

#[derive(Debug, Clone)]
struct Partial {
    header: Option<Packet>,
    /// Values by position: announced size and what came of them.
    values: BTreeMap<u32, Body>,
    early: Vec<Piece>,
    started: Duration,
    touched: Duration,
    cost: usize,
}

#[derive(Debug, Clone)]
struct Body {
    size: usize,
    /// Pieces by offset; they neither overlap nor reach beyond the size.
    pieces: BTreeMap<usize, Vec<u8>>,
    have: usize,
}

impl Body {
    fn insert(&mut self, offset: usize, data: Vec<u8>) -> bool {
        let Some(end) = offset.checked_add(data.len()) else {
            return false;
        };
        if data.is_empty() || end > self.size {
            return false;
        }
        let free_before = self
            .pieces
            .range(..=offset)
            .next_back()
            .is_none_or(|(o, d)| o.saturating_add(d.len()) <= offset);
        let free_after = self
            .pieces
            .range(offset..)
            .next()
            .is_none_or(|(o, _)| *o >= end);
        if !free_before || !free_after {
            return false;
        }
        self.have = self.have.saturating_add(data.len());
        self.pieces.insert(offset, data);
        true
    }

    fn join(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.have);
        for d in self.pieces.values() {
            out.extend_from_slice(d);
        }
        out
    }
}

/// Unfinished messages.
#[derive(Debug, Clone, Default)]
pub struct Assembler {
    partial: BTreeMap<Key, Partial>,
    total: usize,
    unreadable: u64,
}

impl Assembler {
    /// Nothing pending.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many values were whole, and none, since this began.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Takes a datagram. Returns it at once if nothing of it is missing; keeps it and
    /// returns `None` if it announces values whose parts are to come.
    /// Whether such a datagram is expected at all is for the caller to decide before.
    pub fn header(&mut self, now: Duration, from: SocketAddr, packet: Packet) -> Option<Packet> {
        let Some(announced) = packet.values().map(|v| v.announced.clone()) else {
            return Some(packet);
        };
        if announced.is_empty() {
            return Some(packet);
        }
        let key = (from, packet.tid());
        let cost: usize = announced.values().sum();
        match self.partial.get(&key) {
            // Sent again: what has come so far stays.
            Some(p) if p.header.is_some() => return None,
            Some(_) => {}
            None if self.partial.len() >= MAX_MESSAGES => return None,
            None => {}
        }
        if !self.room_for(from, cost) {
            return None;
        }
        let p = self.partial.entry(key).or_insert_with(|| Partial::new(now));
        p.header = Some(packet);
        p.values = announced
            .into_iter()
            .map(|(i, size)| {
                (
                    i,
                    Body {
                        size,
                        pieces: BTreeMap::new(),
                        have: 0,
                    },
                )
            })
            .collect();
        p.touched = now;
        for piece in core::mem::take(&mut p.early) {
            if let Some(body) = p.values.get_mut(&piece.index) {
                body.insert(piece.offset, piece.data);
            }
        }
        self.total = self.total.saturating_sub(p.cost).saturating_add(cost);
        p.cost = cost;
        self.finish(key)
    }

    /// Takes a part. Returns the datagram that it completes, with its values in the order of
    /// their announcement.
    pub fn part(&mut self, now: Duration, from: SocketAddr, part: Part) -> Option<Packet> {
        let key = (from, part.tid);
        if !self.partial.contains_key(&key) {
            let bytes: usize = part.pieces.iter().map(|p| p.data.len()).sum();
            if self.partial.len() >= MAX_MESSAGES || !self.room_for(from, bytes) {
                return None;
            }
            self.partial.insert(key, Partial::new(now));
        }
        let p = self.partial.get_mut(&key)?;
        if p.header.is_none() {
            for piece in part.pieces {
                let cost = p.cost.saturating_add(piece.data.len());
                if p.early.len() >= EARLY_PARTS || cost > EARLY_BYTES {
                    continue;
                }
                self.total = self.total.saturating_add(piece.data.len());
                p.cost = cost;
                p.early.push(piece);
            }
            return None;
        }
        for piece in part.pieces {
            let Some(body) = p.values.get_mut(&piece.index) else {
                continue;
            };
            if body.insert(piece.offset, piece.data) {
                p.touched = now;
            }
        }
        self.finish(key)
    }

    /// Whether parts of this source and transaction have been announced, and are not complete.
    pub fn awaits(&self, from: SocketAddr, tid: u32) -> bool {
        self.partial
            .get(&(from, tid))
            .is_some_and(|p| p.header.is_some())
    }

    /// Gives up what has become too old.
    pub fn expire(&mut self, now: Duration) {
        let total = &mut self.total;
        self.partial.retain(|_, p| {
            let keep = now < p.deadline();
            if !keep {
                *total = total.saturating_sub(p.cost);
            }
            keep
        });
    }

    /// When [`Assembler::expire`] has something to do.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.partial.values().map(Partial::deadline).min()
    }

    /// How many messages are unfinished.
    pub fn len(&self) -> usize {
        self.partial.len()
    }

    /// Whether no message is unfinished.
    pub fn is_empty(&self) -> bool {
        self.partial.is_empty()
    }

    fn room_for(&self, from: SocketAddr, more: usize) -> bool {
        let of_source: usize = self
            .partial
            .range((from, 0)..=(from, u32::MAX))
            .map(|(_, p)| p.cost)
            .sum();
        self.total.saturating_add(more) <= MAX_TOTAL
            && of_source.saturating_add(more) <= MAX_PER_SOURCE
    }

    fn finish(&mut self, key: Key) -> Option<Packet> {
        let p = self.partial.get(&key)?;
        if p.values.values().any(|b| b.have < b.size) {
            return None;
        }
        let p = self.partial.remove(&key)?;
        self.total = self.total.saturating_sub(p.cost);
        let mut packet = p.header?;
        if let Some(values) = packet.values_mut() {
            values.announced.clear();
            for body in p.values.values() {
                match Value::unpack_bytes(&body.join()) {
                    Ok(v) => values.values.push(Arc::new(v)),
                    Err(_) => self.unreadable = self.unreadable.saturating_add(1),
                }
            }
        }
        Some(packet)
    }
}

impl Partial {
    fn new(now: Duration) -> Self {
        Self {
            header: None,
            values: BTreeMap::new(),
            early: Vec::new(),
            started: now,
            touched: now,
            cost: 0,
        }
    }

    fn deadline(&self) -> Duration {
        self.started
            .saturating_add(MAX_AGE)
            .min(self.touched.saturating_add(MAX_IDLE))
    }
}
