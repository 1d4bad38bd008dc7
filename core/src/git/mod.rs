//! Git as Jami speaks it: objects, packs, and both ends of `git://`.
//!
//! * [`object`]: kinds, ids, trees and commits, read strictly;
//! * [`pktline`]: the framing of the wire;
//! * [`serve`]: the `git-upload-pack` side of a channel;
//! * [`fetch`]: the asking side;
//! * [`reach`]: which objects a peer lacks, and which commits to tell it of;
//! * [`pack`]: reading packs from strangers within limits, writing our own.
//!
//! The engines know no socket, no clock and no disk: bytes come in, outputs
//! are polled. Deadlines are the host's, which sees when a peer is silent.

pub mod fetch;
pub mod object;
pub mod pack;
pub mod pktline;
pub mod reach;
pub mod serve;

use crate::id::ObjectId;
use object::Kind;

/// A repository to read from: a store on disk, or a test's memory.
pub trait Repository {
    /// The commit `refs/heads/main` points at; `None` in an empty repository.
    fn head(&self) -> Option<ObjectId>;

    /// An object: its kind and its bytes.
    fn object(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)>;

    /// The entry of a pack in which the object lies, header and all, if it lies in one: it is sent as
    /// it is ([`pack::PackWriter::copy`]).
    fn packed(&self, _id: &ObjectId) -> Option<Vec<u8>> {
        None
    }

    /// Whether the object is there. Worth doing better than reading it.
    fn contains(&self, id: &ObjectId) -> bool {
        self.object(id).is_some()
    }
}
