//! A member who writes what is valid and huge, over a real connection: it is shown as far as it can
//! be read, and costs little.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod account_support;
mod hostile_support;
#[path = "../../core/tests/swarm/mod.rs"]
mod swarm;

use account_support::node;
use hostile_support::process::Victim;
use hostile_support::{Hostile, fsck, offers_room, verify};
use serde_json::{Value, json};
use starling_core::id::ObjectId;
use starling_core::swarm::message::Message;
use starling_core::swarm::object::MemoryObjects;
use swarm::{DAY, Device, Room};

/// The longest text that fits into a commit of 4 MiB.
const LONG: usize = (4 << 20) - 4096;

struct Stage {
    eve: Hostile,
    vic: Victim,
    room: Room,
}

impl Stage {
    /// Writes something of each given author, and shows it to the victim at once.
    fn write(&mut self, all: impl IntoIterator<Item = (bool, String)>, ben: &Device) -> ObjectId {
        let known = self.room.objects.clone();
        let eve = self.eve.writer();
        self.vic.forget_peak();
        tokio::task::block_in_place(|| {
            for (hers, text) in all {
                let by = if hers { &eve } else { ben };
                self.room.forge(by, &text, &[]);
            }
            let play = offers_room(&self.room, &known);
            self.eve.serve(self.room.conversation, play);
        });
        let head = self.room.head;
        self.eve.tell_commit(self.room.conversation, head);
        head
    }

    /// The victim is told of a message that is as it should be.
    async fn shows(&self, id: ObjectId, fits: impl Fn(&Value) -> bool) -> Value {
        let id = json!(id);
        let seen = |e: &Value| {
            let kind = e["type"].as_str().unwrap();
            kind.starts_with("message.") && e["message"]["id"] == id && fits(&e["message"])
        };
        let event = self.vic.until("the message", |v| v.events(seen).pop());
        event.await["message"].clone()
    }

    fn params(&self) -> Value {
        json!({"account": self.vic.account, "conversation": self.room.conversation})
    }

    fn get(&self, id: ObjectId) -> Value {
        let mut params = self.params();
        params["id"] = json!(id);
        self.vic.rpc("message.get", params)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_of_any_length_cost_little() {
    let first = node(None);
    let eve = Hostile::start(&first).await;
    let vic = Victim::start(&first, &eve).await;
    let (ann, ben, writer) = (Device::load("ann"), Device::load("ben"), eve.writer());
    let people = [&ann, &ben, &vic.writer, &writer];
    let room = tokio::task::block_in_place(|| Room::group_at(&people, DAY));
    let id = room.conversation;
    eve.serve(id, offers_room(&room, &MemoryObjects::new()));
    vic.takes(&eve, id).await;
    let mut stage = Stage { eve, vic, room };

    // One text, changed sixty times.
    let text = |body: String| Message::text(body, None).to_text();
    let long = |n: usize| format!("{n} {}", "a".repeat(LONG));
    let said = stage.write([(true, text("short".into()))], &ben);
    stage.shows(said, |m| m["body"] == "short").await;
    let edits = (0..60).map(|n| (true, Message::edit(long(n), said).to_text()));
    stage.write(edits, &ben);
    let shown = stage.shows(said, |m| m["cut"] == true).await;
    assert!(shown["body"].as_str().unwrap().starts_with("59 aaa"));
    stage.vic.check_peak("sixty changes of 4 MiB");
    stage.vic.forget_peak();
    assert_eq!(stage.get(said)["body"], long(59));
    stage.vic.check_peak("all words of it");

    // What somebody else wrote, with reactions of that length: it is right all the same.
    let said = stage.write([(false, text("rihgt".into()))], &ben);
    let edit = Message::edit("right", said).to_text();
    let reactions = (0..40).map(|n| (true, Message::reaction(long(n), said).to_text()));
    stage.write(std::iter::once((false, edit)).chain(reactions), &ben);
    let shown = stage.shows(said, |m| m["body"] == "right").await;
    assert_eq!(shown["edits"][0]["body"], "rihgt");
    stage.vic.check_peak("forty reactions of 4 MiB");

    // Many texts, read page by page.
    let last = stage.write((0..50).map(|n| (true, text(long(n)))), &ben);
    stage.shows(last, |m| m["cut"] == true).await;
    stage.vic.check_peak("fifty texts of 4 MiB");
    stage.vic.forget_peak();
    let (mut read, mut params) = (0, stage.params());
    loop {
        let page = stage.vic.rpc("conversation.history", params.clone());
        let messages = page["messages"].as_array().unwrap();
        read += messages.len();
        if page["more"] == false {
            break;
        }
        params["before"] = messages[0]["id"].clone();
    }
    assert!(read >= 52, "{read}");
    let mut query = stage.params();
    query["query"] = json!("aaaa");
    let found = stage.vic.rpc("message.search", query);
    assert!(!found.as_array().unwrap().is_empty());
    assert_eq!(
        stage
            .vic
            .rpc("conversation.list", json!({"account": stage.vic.account}))[0]["lastMessage"]["cut"],
        true
    );
    stage.vic.check_peak("reading them");

    stage.vic.stop();
    let path = stage.vic.repository(id);
    verify(&path);
    fsck(&path);
}
