//! The serving end of a git channel, with one commit to give out.
use starling_core::git::Repository;
use starling_core::git::object::{Kind, hash_object};
use starling_core::git::serve::UploadPack;
use starling_core::id::{ConversationId, ObjectId};

const COMMIT: &[u8] = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a> 1 +0000\ncommitter A <a> 1 +0000\n\n{}";

struct One;

impl Repository for One {
    fn head(&self) -> Option<ObjectId> {
        Some(hash_object(Kind::Commit, COMMIT))
    }
    fn object(&self, id: &ObjectId) -> Option<(Kind, Vec<u8>)> {
        if Some(*id) == self.head() {
            return Some((Kind::Commit, COMMIT.to_vec()));
        }
        (*id == hash_object(Kind::Tree, b"")).then(|| (Kind::Tree, Vec::new()))
    }
}

pub(crate) fn run(data: &[u8]) {
    let mut server = UploadPack::new(ConversationId([0xaa; 20]));
    let mut input = Vec::new();
    let request = format!("git-upload-pack /{}\0", ConversationId([0xaa; 20]));
    let _ = starling_core::git::pktline::write(&mut input, request.as_bytes());
    input.extend_from_slice(data);
    for chunk in input.chunks(64) {
        server.handle_input(chunk, &One);
        while server.poll_output(&One).is_some() {}
    }
}
