//! Git as Jami speaks it: objects, packs, and both ends of `git://`.
//!
//! * [`object`]: kinds, ids, trees and commits, read strictly;
//! * [`pktline`]: the framing of the wire;
//! * [`serve`]: the `git-upload-pack` side of a channel;
//! * [`fetch`]: the asking side;
//! * [`pack`]: reading packs from strangers within limits, writing our own.
//!
//! The engines know no socket, no clock and no disk: bytes come in, outputs
//! are polled. Deadlines are the host's, which sees when a peer is silent.

pub mod object;
