//! The multiplexer: named channels on one reliable byte stream.
//!
//! A stream of msgpack arrays `[channel, data]`, where channel 0 carries requests for channels
//! and their answers, 0xFFFF the version and the beacon, and every other number one channel.
//! Sans-IO: bytes in by [`Mux::handle_bytes`], packets out by [`Mux::poll_transmit`], where
//! control goes ahead of queued bulk and channels take turns.

use crate::msgpack::{self, MsgpackError, Value};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

/// Requests for channels and their answers.
pub const CONTROL: u16 = 0;
/// Version and beacon.
pub const PROTOCOL: u16 = 0xffff;
/// What we announce (dhtnet `MULTIPLEXED_SOCKET_VERSION`).
pub const VERSION: u64 = 1;
/// Most data in one packet (dhtnet cuts writes at `UINT16_MAX`).
pub const MAX_DATA: usize = 65_535;
/// Longest name that is accepted. The longest of the catalogue, a file with arguments, has some 250 bytes.
pub const MAX_NAME: usize = 1024;
/// Most channels at a time, in all states. Daemons have no limit; a busy connection has some ten.
pub const MAX_CHANNELS: usize = 1024;
/// An unanswered beacon means that the connection is dead (dhtnet `SEND_BEACON_TIMEOUT`, 3 s).
pub const BEACON_TIMEOUT: Duration = Duration::from_secs(3);
/// Most bytes of answers that wait for a peer who does not read them.
const MAX_CONTROL_QUEUE: usize = 256 * 1024;
/// Longest object that is not a packet and is skipped: the protocol has none, so short ones do.
const MAX_STRANGE: usize = 4096;
/// Longest head before a packet's data: array32, uint64 and bin32 markers.
const MAX_HEAD: usize = 5 + 9 + 5;
/// Bytes that are allowed to wait in a channel's outgoing queue before [`Mux::write`] refuses more.
pub const WRITE_BUDGET: usize = 256 * 1024;

/// Which half of the channel numbers is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsRole {
    /// Counts from 1.
    Client,
    /// Counts from 0x8000.
    Server,
}

/// A channel of one connection. A number is used again after its channel ended, an id is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId {
    number: u16,
    serial: u64,
}

impl ChannelId {
    /// The number on the wire.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// What the peer did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It wants a channel: answer by [`Mux::accept`] or [`Mux::decline`], at once.
    Requested(ChannelId, String),
    /// It accepted a channel of ours.
    Accepted(ChannelId),
    /// It declined a channel of ours, which is gone.
    Declined(ChannelId),
    /// Data of an open channel.
    Data(ChannelId, Vec<u8>),
    /// It ended a channel, which is gone.
    Ended(ChannelId),
    /// It announced a version.
    Version(u64),
    /// It did not answer a beacon: the connection is to be closed.
    Dead,
}

/// A packet to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The bytes for the stream.
    pub packet: Vec<u8>,
    /// Of which channel's data how many bytes these are: so much room it has again.
    pub data: Option<(ChannelId, usize)>,
}

/// Why a connection cannot go on, or a call was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MuxError {
    /// The stream is not msgpack.
    #[error("the stream is not msgpack: {0}")]
    Stream(#[from] MsgpackError),
    /// A packet announces more data than allowed.
    #[error("a packet of {0} bytes is longer than {MAX_DATA}")]
    PacketTooLong(u64),
    /// The peer asks and asks, and does not read the answers.
    #[error("the peer does not read its answers")]
    AnswersUnread,
    /// All numbers are in use.
    #[error("too many channels are open")]
    TooManyChannels,
    /// The name is longer than a peer accepts.
    #[error("the channel name is longer than {MAX_NAME} bytes")]
    NameTooLong,
    /// The channel is not in a state for this: it ended, or was not accepted yet.
    #[error("the channel is not open")]
    NotOpen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// We asked.
    Requested,
    /// The peer asked.
    Offered,
    Open,
    /// We ended it; what is queued is still sent, then the end.
    Ending,
}

#[derive(Debug)]
struct Channel {
    serial: u64,
    state: State,
    queue: VecDeque<Vec<u8>>,
    queued: usize,
}

/// One side of a multiplexed connection.
#[derive(Debug)]
pub struct Mux {
    channels: BTreeMap<u16, Channel>,
    next_number: u16,
    first_number: u16,
    next_serial: u64,
    buffer: Vec<u8>,
    control: VecDeque<Vec<u8>>,
    control_bytes: usize,
    events: VecDeque<Event>,
    /// Number of the channel that was served last.
    turn: u16,
    /// When a sign of life is due.
    beacon_deadline: Option<Duration>,
    peer_version: Option<u64>,
}

impl Mux {
    /// A fresh connection: the version is the first packet.
    pub fn new(role: TlsRole) -> Self {
        let first_number = match role {
            TlsRole::Client => 1,
            TlsRole::Server => 0x8000,
        };
        let mut mux = Self {
            channels: BTreeMap::new(),
            next_number: first_number,
            first_number,
            next_serial: 0,
            buffer: Vec::new(),
            control: VecDeque::new(),
            control_bytes: 0,
            events: VecDeque::new(),
            turn: 0,
            beacon_deadline: None,
            peer_version: None,
        };
        mux.put(PROTOCOL, &msgpack::map([("v", Value::from(VERSION))]));
        mux
    }

    /// Asks the peer for a channel.
    pub fn request(&mut self, name: &str) -> Result<ChannelId, MuxError> {
        if name.len() > MAX_NAME {
            return Err(MuxError::NameTooLong);
        }
        if self.channels.len() >= MAX_CHANNELS {
            return Err(MuxError::TooManyChannels);
        }
        // There are more numbers than channels may be open, so this ends.
        while self.next_number == CONTROL
            || self.next_number == PROTOCOL
            || self.channels.contains_key(&self.next_number)
        {
            self.advance();
        }
        let number = self.next_number;
        self.advance();
        let id = self.insert(number, State::Requested);
        self.put_control(name, number, 0);
        Ok(id)
    }

    /// Accepts a channel that the peer asked for.
    pub fn accept(&mut self, id: ChannelId, name: &str) -> Result<(), MuxError> {
        match self.channel(id) {
            Some(channel) if channel.state == State::Offered => channel.state = State::Open,
            _ => return Err(MuxError::NotOpen),
        }
        self.put_control(name, id.number, 1);
        Ok(())
    }

    /// Declines a channel that the peer asked for.
    pub fn decline(&mut self, id: ChannelId, name: &str) -> Result<(), MuxError> {
        match self.channel(id) {
            Some(channel) if channel.state == State::Offered => {}
            _ => return Err(MuxError::NotOpen),
        }
        self.channels.remove(&id.number);
        self.put_control(name, id.number, 2);
        Ok(())
    }

    /// Queues data, up to the channel's budget. Returns how many bytes were taken.
    pub fn write(&mut self, id: ChannelId, data: &[u8]) -> Result<usize, MuxError> {
        let channel = self.channel(id).ok_or(MuxError::NotOpen)?;
        if channel.state != State::Open {
            return Err(MuxError::NotOpen);
        }
        let room = WRITE_BUDGET.saturating_sub(channel.queued);
        let taken = data.get(..room.min(data.len())).unwrap_or(data);
        for piece in taken.chunks(MAX_DATA) {
            channel.queue.push_back(piece.to_vec());
        }
        channel.queued = channel.queued.saturating_add(taken.len());
        Ok(taken.len())
    }

    /// Ends a channel, after what is queued. A channel that the peer still has to accept is ended, too.
    pub fn end(&mut self, id: ChannelId) {
        if let Some(channel) = self.channel(id) {
            channel.state = match channel.state {
                State::Open | State::Requested => State::Ending,
                other => other,
            };
        }
    }

    /// Asks the peer for a sign of life, due within three seconds: whatever comes is one, since its answer may stand
    /// behind much else. A peer that announced no version knows no beacon.
    pub fn beacon(&mut self, now: Duration) {
        if self.peer_version.is_some_and(|v| v >= 1) {
            // Asked again meanwhile it has no longer.
            self.beacon_deadline
                .get_or_insert(now.saturating_add(BEACON_TIMEOUT));
            self.put(PROTOCOL, &msgpack::map([("p", Value::from(true))]));
        }
    }

    /// Takes bytes of the stream, however they were cut. After an error the stream is lost.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), MuxError> {
        if !bytes.is_empty() {
            self.beacon_deadline = None;
        }
        self.buffer.extend_from_slice(bytes);
        let mut buffer = core::mem::take(&mut self.buffer);
        let mut at = 0usize;
        let result = loop {
            let rest = buffer.get(at..).unwrap_or_default();
            if rest.is_empty() {
                break Ok(());
            }
            match next_object(rest) {
                Ok(Object::Packet { channel, head, len }) => {
                    let end = head.saturating_add(len);
                    let data = rest.get(head..end).unwrap_or_default();
                    if let Err(e) = self.handle_packet(channel, data) {
                        break Err(e);
                    }
                    at = at.saturating_add(end);
                }
                Ok(Object::Other { len }) => at = at.saturating_add(len),
                Ok(Object::Incomplete) => break Ok(()),
                Err(e) => break Err(e),
            }
        };
        buffer.drain(..at.min(buffer.len()));
        self.buffer = buffer;
        result
    }

    /// Tells the time.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.beacon_deadline.is_some_and(|d| d <= now) {
            self.beacon_deadline = None;
            self.events.push_back(Event::Dead);
        }
    }

    /// When to tell the time next.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.beacon_deadline
    }

    /// What the peer did.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next packet to send: control first, then the channels in turn.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        if let Some(packet) = self.control.pop_front() {
            self.control_bytes = self.control_bytes.saturating_sub(packet.len());
            return Some(Transmit { packet, data: None });
        }
        let ready = |(number, c): (&u16, &Channel)| {
            (!c.queue.is_empty() || c.state == State::Ending).then_some(*number)
        };
        let after = self.turn.saturating_add(1);
        let number = self
            .channels
            .range(after..)
            .find_map(ready)
            .or_else(|| self.channels.iter().find_map(ready))?;
        self.turn = number;
        let channel = self.channels.get_mut(&number)?;
        let serial = channel.serial;
        match channel.queue.pop_front() {
            Some(data) => {
                channel.queued = channel.queued.saturating_sub(data.len());
                Some(Transmit {
                    packet: packet(number, &data),
                    data: Some((ChannelId { number, serial }, data.len())),
                })
            }
            None => {
                self.channels.remove(&number);
                Some(Transmit {
                    packet: packet(number, &[]),
                    data: None,
                })
            }
        }
    }

    /// Whether [`Self::poll_transmit`] has something, without taking it.
    pub fn wants_transmit(&self) -> bool {
        !self.control.is_empty()
            || self
                .channels
                .values()
                .any(|c| !c.queue.is_empty() || c.state == State::Ending)
    }

    /// How many bytes [`Self::write`] would take now.
    pub fn room(&self, id: ChannelId) -> usize {
        self.channels
            .get(&id.number)
            .filter(|c| c.serial == id.serial && c.state == State::Open)
            .map_or(0, |c| WRITE_BUDGET.saturating_sub(c.queued))
    }

    /// How many channels there are, in all states.
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    fn advance(&mut self) {
        self.next_number = self.next_number.checked_add(1).unwrap_or(self.first_number);
    }

    fn insert(&mut self, number: u16, state: State) -> ChannelId {
        let serial = self.next_serial;
        self.next_serial = self.next_serial.wrapping_add(1);
        self.channels.insert(
            number,
            Channel {
                serial,
                state,
                queue: VecDeque::new(),
                queued: 0,
            },
        );
        ChannelId { number, serial }
    }

    fn channel(&mut self, id: ChannelId) -> Option<&mut Channel> {
        self.channels
            .get_mut(&id.number)
            .filter(|c| c.serial == id.serial)
    }

    fn put(&mut self, number: u16, value: &Value) {
        let packet = packet(number, &msgpack::encode(value));
        self.control_bytes = self.control_bytes.saturating_add(packet.len());
        self.control.push_back(packet);
    }

    fn put_control(&mut self, name: &str, number: u16, state: u8) {
        self.put(
            CONTROL,
            &Value::Array(vec![name.into(), number.into(), state.into()]),
        );
    }

    fn handle_packet(&mut self, number: u16, data: &[u8]) -> Result<(), MuxError> {
        match number {
            CONTROL => self.handle_messages(data, usize::MAX),
            // Daemons treat only the first object there.
            PROTOCOL => self.handle_messages(data, 1),
            _ => self.handle_data(number, data),
        }
        if self.control_bytes > MAX_CONTROL_QUEUE {
            return Err(MuxError::AnswersUnread);
        }
        Ok(())
    }

    fn handle_data(&mut self, number: u16, data: &[u8]) {
        let Some(channel) = self.channels.get(&number) else {
            return;
        };
        let id = ChannelId {
            number,
            serial: channel.serial,
        };
        if data.is_empty() {
            self.channels.remove(&number);
            self.events.push_back(Event::Ended(id));
        } else if channel.state == State::Open {
            self.events.push_back(Event::Data(id, data.to_vec()));
        }
    }

    /// The objects of a control or protocol packet. The first that makes no sense ends it.
    fn handle_messages(&mut self, mut data: &[u8], most: usize) {
        for _ in 0..most {
            let Ok((value, len)) = msgpack::first(data, MAX_DATA.saturating_add(1)) else {
                return;
            };
            let understood = match &value {
                Value::Array(fields) => self.handle_control(fields),
                Value::Map(_) => self.handle_protocol(&value),
                _ => false,
            };
            if !understood {
                return;
            }
            data = data.get(len..).unwrap_or_default();
        }
    }

    fn handle_protocol(&mut self, value: &Value) -> bool {
        if let Some(version) = msgpack::get(value, "v").and_then(Value::as_u64) {
            self.peer_version = Some(version);
            self.events.push_back(Event::Version(version));
            return true;
        }
        match msgpack::get(value, "p").and_then(Value::as_bool) {
            Some(true) => self.put(PROTOCOL, &msgpack::map([("p", Value::from(false))])),
            Some(false) => {}
            None => return false,
        }
        true
    }

    fn handle_control(&mut self, fields: &[Value]) -> bool {
        let [name, number, state] = fields else {
            return false;
        };
        let (Some(name), Some(number), Some(state)) = (
            msgpack::bytes(name).and_then(|b| core::str::from_utf8(b).ok()),
            number.as_u64().and_then(|n| u16::try_from(n).ok()),
            state.as_u64(),
        ) else {
            return false;
        };
        if state == 0 {
            let refuse = number == CONTROL
                || number == PROTOCOL
                || name.len() > MAX_NAME
                || self.channels.contains_key(&number)
                || self.channels.len() >= MAX_CHANNELS;
            if refuse {
                // A name that is too long is not sent back whole: answers are matched by number.
                let name: String = name.chars().take(MAX_NAME / 4).collect();
                self.put_control(&name, number, 2);
            } else {
                let id = self.insert(number, State::Offered);
                self.events.push_back(Event::Requested(id, name.to_owned()));
            }
            return true;
        }
        let Some(channel) = self.channels.get_mut(&number) else {
            return true;
        };
        let id = ChannelId {
            number,
            serial: channel.serial,
        };
        match (channel.state, state) {
            (State::Requested, 1) => {
                channel.state = State::Open;
                self.events.push_back(Event::Accepted(id));
            }
            // Every other answer is a no.
            (State::Requested, _) => {
                self.channels.remove(&number);
                self.events.push_back(Event::Declined(id));
            }
            _ => {}
        }
        true
    }
}

/// The packet `[number, data]` in its shortest form.
pub fn packet(number: u16, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len().saturating_add(8));
    out.push(0x92);
    // Writing into a Vec cannot fail.
    let _ = rmpv::encode::write_value(&mut out, &Value::from(number));
    match u8::try_from(data.len()) {
        Ok(len) => out.extend_from_slice(&[0xc4, len]),
        Err(_) => {
            out.push(0xc5);
            let len = u16::try_from(data.len()).unwrap_or(u16::MAX);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
    out.extend_from_slice(data.get(..MAX_DATA).unwrap_or(data));
    out
}

enum Object {
    /// A packet whose data is the `len` bytes after `head`.
    Packet {
        channel: u16,
        head: usize,
        len: usize,
    },
    /// Something else of `len` bytes.
    Other {
        len: usize,
    },
    Incomplete,
}

/// What the stream begins with. Packets are recognised by their head alone, so that one that
/// arrives byte by byte costs a few steps a byte.
fn next_object(bytes: &[u8]) -> Result<Object, MuxError> {
    match packet_head(bytes) {
        Some(Ok((channel, head, len))) => {
            if len > MAX_DATA as u64 {
                return Err(MuxError::PacketTooLong(len));
            }
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            if bytes.len() < head.saturating_add(len) {
                return Ok(Object::Incomplete);
            }
            return Ok(Object::Packet { channel, head, len });
        }
        // It may still become one.
        Some(Err(())) if bytes.len() < MAX_HEAD => return Ok(Object::Incomplete),
        _ => {}
    }
    match msgpack::object_len(bytes) {
        Ok(len) => Ok(Object::Other { len }),
        Err(MsgpackError::Incomplete) if bytes.len() < MAX_STRANGE => Ok(Object::Incomplete),
        Err(MsgpackError::Incomplete) => Err(MsgpackError::TooLong(MAX_STRANGE).into()),
        Err(e) => Err(e.into()),
    }
}

/// Channel, length of the head and length of the data, if this is the head of a packet.
/// `Some(Err)`: it is cut off. Every form of the numbers is accepted.
fn packet_head(bytes: &[u8]) -> Option<Result<(u16, usize, u64), ()>> {
    let mut at = 0usize;
    // The next `n` bytes as a number; `None` when they are not there yet.
    let take = |at: &mut usize, n: usize| -> Option<u64> {
        let end = at.saturating_add(n);
        let field = bytes.get(*at..end)?;
        *at = end;
        Some(field.iter().fold(0, |a, b| (a << 8) | u64::from(*b)))
    };
    macro_rules! take {
        ($n:expr) => {
            match take(&mut at, $n) {
                Some(v) => v,
                None => return Some(Err(())),
            }
        };
    }
    let count = match take!(1) {
        marker @ 0x90..=0x9f => marker & 0x0f,
        0xdc => take!(2),
        0xdd => take!(4),
        _ => return None,
    };
    if count != 2 {
        return None;
    }
    let channel = match take!(1) {
        n @ 0x00..=0x7f => n,
        0xcc => take!(1),
        0xcd => take!(2),
        0xce => take!(4),
        0xcf => take!(8),
        // Signed forms of a positive number.
        0xd1 => take!(2),
        0xd2 => take!(4),
        0xd3 => take!(8),
        _ => return None,
    };
    let channel = u16::try_from(channel).ok()?;
    let len = match take!(1) {
        0xc4 => take!(1),
        0xc5 => take!(2),
        0xc6 => take!(4),
        // A str where a bin is expected: msgpack-c converts it as well.
        n @ 0xa0..=0xbf => n & 0x1f,
        0xd9 => take!(1),
        0xda => take!(2),
        0xdb => take!(4),
        _ => return None,
    };
    Some(Ok((channel, at, len)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
