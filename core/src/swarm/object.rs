//! Where git objects are read from and what becomes of new ones.

pub use crate::git::object::{Kind, hash_object};
use crate::id::ObjectId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The blob without content: what `invited/…` and vote files hold.
pub const EMPTY_BLOB: ObjectId = ObjectId([
    0xe6, 0x9d, 0xe2, 0x9b, 0xb2, 0xd1, 0xd6, 0x43, 0x4b, 0x8b, 0x29, 0xae, 0x77, 0x5a, 0xd8, 0xc2,
    0xe4, 0x8c, 0x53, 0x91,
]);

/// Read access to git objects, wherever they are kept. Whoever implements it
/// has made sure that an object's content hashes to its id.
pub trait Objects {
    /// Kind and content of an object, without git's header.
    fn object(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)>;

    /// Whether the object is there.
    fn contains(&self, id: &ObjectId) -> bool {
        self.object(id).is_some()
    }
}

impl<T: Objects + ?Sized> Objects for &T {
    fn object(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        (**self).object(id)
    }
    fn contains(&self, id: &ObjectId) -> bool {
        (**self).contains(id)
    }
}

impl<T: Objects + ?Sized> Objects for Arc<T> {
    fn object(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        (**self).object(id)
    }
    fn contains(&self, id: &ObjectId) -> bool {
        (**self).contains(id)
    }
}

/// Objects in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryObjects {
    objects: BTreeMap<ObjectId, (Kind, Arc<[u8]>)>,
}

impl MemoryObjects {
    /// No objects.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an object and says its id.
    pub fn insert(&mut self, kind: Kind, data: &[u8]) -> ObjectId {
        let id = hash_object(kind, data);
        self.objects
            .entry(id)
            .or_insert_with(|| (kind, data.into()));
        id
    }

    /// Takes over what an operation has written.
    pub fn extend(&mut self, objects: impl IntoIterator<Item = NewObject>) {
        for object in objects {
            self.objects
                .entry(object.id)
                .or_insert_with(|| (object.kind, object.data.into()));
        }
    }

    /// Takes over what others hold, which was hashed when they took it in.
    pub fn take_in(&mut self, others: &Self) {
        for (id, object) in &others.objects {
            if !self.objects.contains_key(id) {
                self.objects.insert(*id, object.clone());
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectId, Kind, &[u8])> {
        self.objects
            .iter()
            .map(|(id, (kind, data))| (id, *kind, &**data))
    }
}

impl Objects for MemoryObjects {
    fn object(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        self.objects
            .get(id)
            .map(|(kind, data)| (*kind, data.to_vec()))
    }
    fn contains(&self, id: &ObjectId) -> bool {
        self.objects.contains_key(id)
    }
}

/// Two places, the first asked first: quarantine over store, new over old.
#[derive(Debug, Clone, Copy)]
pub struct Overlay<A, B>(pub A, pub B);

impl<A: Objects, B: Objects> Objects for Overlay<A, B> {
    fn object(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        self.0.object(id).or_else(|| self.1.object(id))
    }
    fn contains(&self, id: &ObjectId) -> bool {
        self.0.contains(id) || self.1.contains(id)
    }
}

/// An object that an operation made and that is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewObject {
    /// Its id.
    pub id: ObjectId,
    /// Its kind.
    pub kind: Kind,
    /// Its content, without git's header.
    pub data: Vec<u8>,
}

impl NewObject {
    /// An object with its id computed.
    pub fn new(kind: Kind, data: Vec<u8>) -> Self {
        Self {
            id: hash_object(kind, &data),
            kind,
            data,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_blob_is_gits() {
        assert_eq!(hash_object(Kind::Blob, b""), EMPTY_BLOB);
    }

    #[test]
    fn the_upper_layer_is_asked_first_and_the_lower_one_answers_the_rest() {
        let (mut low, mut high) = (MemoryObjects::new(), MemoryObjects::new());
        let a = low.insert(Kind::Blob, b"a");
        let b = high.insert(Kind::Blob, b"b");
        let both = Overlay(&high, &low);
        assert_eq!(both.object(&a), Some((Kind::Blob, b"a".to_vec())));
        assert!(both.contains(&b) && !both.contains(&EMPTY_BLOB));
    }
}
