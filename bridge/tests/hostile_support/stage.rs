//! A hostile member and a bridge of its own process that knows her, and rooms that both are in.

use super::process::Victim;
use super::{Hostile, fsck, offers_room, verify};
use crate::account_support::node;
use crate::swarm::{DAY, Device, Room};
use starling_bridge::dht::Dht;
use starling_core::id::ConversationId;
use starling_core::swarm::object::MemoryObjects;

/// Where an attack takes place.
pub struct Stage {
    /// Where the others found each other.
    _first: Dht,
    pub eve: Hostile,
    pub vic: Victim,
    pub ann: Device,
    pub ben: Device,
    pub rooms: u64,
}

impl Stage {
    pub async fn new() -> Self {
        let first = node(None);
        let eve = Hostile::start(&first).await;
        let vic = Victim::start(&first, &eve).await;
        Self {
            _first: first,
            eve,
            vic,
            ann: Device::load("ann"),
            ben: Device::load("ben"),
            rooms: 0,
        }
    }

    /// A group of Ann, Ben, Vic and Eve, that Vic has.
    pub async fn room(&mut self) -> Room {
        let eve = self.eve.writer();
        let people = [&self.ann, &self.ben, &self.vic.writer, &eve];
        self.rooms += 1;
        let room = tokio::task::block_in_place(|| Room::group_at(&people, DAY + 1000 * self.rooms));
        let id = room.conversation;
        self.eve
            .serve(id, offers_room(&room, &MemoryObjects::new()));
        self.vic.takes(&self.eve, id).await;
        room
    }

    /// An honest message in a room comes through.
    pub fn say(&self, room: &mut Room, text: &str) {
        let known = room.objects.clone();
        let said = tokio::task::block_in_place(|| room.say(&self.ben, text));
        self.eve.serve(room.conversation, offers_room(room, &known));
        self.eve.tell_commit(room.conversation, said);
    }

    pub async fn hears(&self, conversation: ConversationId, text: &str) {
        let id = conversation.to_hex();
        self.vic
            .until(text, |v| {
                v.events(|e| {
                    e["type"] == "message.received"
                        && e["message"]["body"] == text
                        && e["conversation"] == *id
                })
                .pop()
            })
            .await;
    }

    /// Ends the bridge, and looks at the repositories it leaves.
    pub fn finish(mut self, rooms: &[Room]) {
        self.vic.stop();
        for room in rooms {
            let path = self.vic.repository(room.conversation);
            verify(&path);
            fsck(&path);
            let left = std::fs::read_dir(path.join("quarantine")).unwrap().count();
            assert_eq!(left, 0);
            let head = std::fs::read_to_string(path.join("refs/heads/main")).unwrap();
            assert_eq!(head.trim(), room.head.to_hex());
        }
    }
}
