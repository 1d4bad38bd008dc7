//! A member who plays foul: a real account, found through the DHT, connected by ICE and TLS like
//! any other; but what its git server sends and what it says in notices is written in the test.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use crate::account_support::{Bridge, keys, node};
use crate::swarm::{Device, Room};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use starling_bridge::account::{Bounds, keep};
use starling_bridge::crypto::AwsLc;
use starling_bridge::dht::Dht;
use starling_bridge::peer::{
    Channel, DhtSignalling, Incoming, Limits, OpenError, PeerConfig, PeerManager, Signalling as _,
};
use starling_core::git::pack::PackWriter;
use starling_core::git::pktline::{self, Decoder, Line};
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};
use starling_core::identity::{Identity, create_account};
use starling_core::notice::Notice;
use starling_core::peer::channel_name::ChannelName;
use starling_core::swarm::object::{MemoryObjects, Objects as _};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

pub mod packs;
pub mod process;
pub mod raw;
pub mod stage;

pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// What one request for git meets. Gives back a channel that can be used again.
pub type Play = Arc<dyn Fn(Lines) -> BoxFuture<'static, Option<Lines>> + Send + Sync>;

pub fn play<F: Future<Output = Option<Lines>> + Send + 'static>(
    what: impl Fn(Lines) -> F + Send + Sync + 'static,
) -> Play {
    Arc::new(move |lines| what(lines).boxed())
}

#[derive(Default)]
struct Script {
    plays: Mutex<BTreeMap<ConversationId, Play>>,
    heard: Mutex<Vec<Notice>>,
}

/// The hostile member's machine.
pub struct Hostile {
    pub identity: Identity,
    pub dht: Dht,
    pub manager: PeerManager,
    pub signalling: Arc<DhtSignalling>,
    pub said: mpsc::UnboundedSender<Vec<u8>>,
    script: Arc<Script>,
    /// Held by the connection that notices go over.
    says: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Vec<u8>>>>,
    _dir: tempfile::TempDir,
}

impl Hostile {
    pub async fn start(first: &Dht) -> Self {
        let (_, identity) = create_account(&AwsLc, now(), keys()).unwrap();
        let dht = node(Some(first));
        assert!(dht.connected().await);
        let dir = tempfile::tempdir().unwrap();
        let signalling = Arc::new(DhtSignalling::new(dht.clone(), Arc::new(AwsLc), &identity));
        let config = PeerConfig {
            chain: identity.chain.clone(),
            key: identity.device_key.clone(),
            crypto: Arc::new(AwsLc),
            directory: dir.path().to_owned(),
            loopback: true,
            policy: Arc::new(|_, _| true),
            limits: Limits {
                // No limit of its own holds it back.
                channels: usize::MAX,
                ..Limits::default()
            },
        };
        let (manager, incoming) = PeerManager::start(config, signalling.clone()).unwrap();
        signalling.publish().await.unwrap();
        let script = Arc::new(Script::default());
        tokio::spawn(answer(script.clone(), incoming));
        let (said, says) = mpsc::unbounded_channel();
        Self {
            identity,
            dht,
            manager,
            signalling,
            said,
            script,
            says: Arc::new(tokio::sync::Mutex::new(says)),
            _dir: dir,
        }
    }

    pub fn account(&self) -> AccountId {
        self.identity.account_id()
    }

    pub fn device(&self) -> DeviceId {
        self.identity.device_id()
    }

    /// As a writer of commits.
    pub fn writer(&self) -> Device {
        Device {
            name: "Eve".into(),
            chain: self.identity.chain.clone(),
            key: self.identity.device_key.clone(),
        }
    }

    /// Connects to a device and opens the message channel that notices go over.
    pub async fn connect(&self, device: DeviceId, account: AccountId) {
        let name = ChannelName::Message { device };
        let channel = self
            .manager
            .open(&device, Some(account), name)
            .await
            .unwrap();
        let (mut read, mut write) = tokio::io::split(channel);
        // Until the other side is gone: then there may be another connection.
        let ended = async move { while matches!(read.read(&mut [0; 4096]).await, Ok(1..)) {} };
        let says = self.says.clone();
        let speak = async move {
            let mut says = says.lock_owned().await;
            while let Some(bytes) = says.recv().await {
                if write.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = ended => {}
                () = speak => {}
            }
        });
    }

    /// Opens a channel of any name.
    pub async fn open(
        &self,
        device: DeviceId,
        account: AccountId,
        name: ChannelName,
    ) -> Result<Channel, OpenError> {
        self.manager.open(&device, Some(account), name).await
    }

    /// Says something on the message channel.
    pub fn tell(&self, notice: &Notice) {
        self.said.send(notice.to_frame(7)).unwrap();
    }

    /// Tells of a new commit.
    pub fn tell_commit(&self, conversation: ConversationId, commit: ObjectId) {
        let device = self.device();
        self.tell(&Notice::NewCommit {
            conversation,
            commit,
            device,
        });
    }

    /// Asks somebody into a conversation.
    pub fn invite(&self, conversation: ConversationId) {
        self.tell(&Notice::Invite {
            conversation,
            metadata: BTreeMap::from([("mode".into(), "2".into())]),
            received_ms: now() * 1000,
        });
    }

    /// From now on, this is what each fetch of the conversation meets.
    pub fn serve(&self, conversation: ConversationId, play: Play) {
        self.script.plays.lock().unwrap().insert(conversation, play);
    }
}

async fn answer(script: Arc<Script>, mut incoming: mpsc::Receiver<Incoming>) {
    while let Some(incoming) = incoming.recv().await {
        match &incoming.name {
            ChannelName::Git { conversation, .. } => {
                let conversation = *conversation;
                if script.plays.lock().unwrap().contains_key(&conversation) {
                    let mut lines = Lines::new(incoming.accept());
                    let script = script.clone();
                    tokio::spawn(async move {
                        while lines.request().await.is_some() {
                            let play = script.plays.lock().unwrap()[&conversation].clone();
                            match play(lines).await {
                                Some(again) => lines = again,
                                None => return,
                            }
                        }
                    });
                }
            }
            ChannelName::Message { .. } => {
                let (script, mut channel) = (script.clone(), incoming.accept());
                tokio::spawn(async move {
                    let (mut buffer, mut piece) = (Vec::new(), [0; 4096]);
                    while let Ok(n @ 1..) = channel.read(&mut piece).await {
                        buffer.extend_from_slice(&piece[..n]);
                        while let Ok(Some((len, notice))) = Notice::first_frame(&buffer) {
                            buffer.drain(..len);
                            script.heard.lock().unwrap().extend(notice.ok());
                        }
                    }
                });
            }
            // Dropped: declined.
            _ => {}
        }
    }
}

/// A channel read by pkt-lines.
pub struct Lines {
    pub channel: Channel,
    decoder: Decoder,
}

impl Lines {
    fn new(channel: Channel) -> Self {
        Self {
            channel,
            decoder: Decoder::new(),
        }
    }

    /// The next line; an empty one for a flush; nothing when the channel has ended.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.decoder.next_line().unwrap() {
                Some(Line::Flush) => return Some(Vec::new()),
                Some(Line::Data(data)) => return Some(data.to_vec()),
                None => {}
            }
            let mut piece = [0; 4096];
            match self.channel.read(&mut piece).await {
                Ok(n @ 1..) => self.decoder.push(&piece[..n]),
                _ => return None,
            }
        }
    }

    /// Waits for the next request.
    pub async fn request(&mut self) -> Option<()> {
        while !self.next().await?.starts_with(b"git-upload-pack ") {}
        Some(())
    }

    /// Shows a branch, and says whether anything is wanted of it. `None`: the end.
    pub async fn advertise(&mut self, head: ObjectId) -> Option<bool> {
        self.send(&advertisement(head)).await?;
        if self.next().await?.is_empty() {
            return Some(false);
        }
        while self.next().await? != b"done\n" {}
        self.send(b"0008NAK\n").await?;
        Some(true)
    }

    /// Shows a branch; gives what the other side says it has. `None`: the end. Nothing: it wants nothing.
    pub async fn haves(&mut self, head: ObjectId) -> Option<Option<Vec<ObjectId>>> {
        let asked = self.asked(head).await?;
        Some(asked.map(|(_, haves)| haves))
    }

    /// The same, with what it wants.
    pub async fn asked(&mut self, head: ObjectId) -> Option<Option<(ObjectId, Vec<ObjectId>)>> {
        self.send(&advertisement(head)).await?;
        let want = self.next().await?;
        if want.is_empty() {
            return Some(None);
        }
        let want = String::from_utf8_lossy(&want).into_owned();
        let want = want.strip_prefix("want ").and_then(|w| w.get(..40))?;
        let want = want.parse().ok()?;
        let mut haves = Vec::new();
        loop {
            let line = self.next().await?;
            if line == b"done\n" {
                break;
            }
            let text = String::from_utf8_lossy(&line).into_owned();
            haves.extend(
                text.strip_prefix("have ")
                    .and_then(|id| id.trim().parse::<ObjectId>().ok()),
            );
        }
        self.send(b"0008NAK\n").await?;
        Some(Some((want, haves)))
    }

    /// Sends bytes of a pack.
    pub async fn pack(&mut self, bytes: &[u8]) -> Option<()> {
        for piece in bytes.chunks(pktline::MAX_DATA - 1) {
            let mut line = Vec::new();
            pktline::write_parts(&mut line, &[b"\x01", piece]).unwrap();
            self.send(&line).await?;
        }
        Some(())
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Option<()> {
        self.channel.write_all(bytes).await.ok()
    }

    /// Until the other side has had enough.
    pub async fn wait_for_end(&mut self) {
        while self.next().await.is_some() {}
    }
}

/// The branch, as daemons show it.
pub fn advertisement(head: ObjectId) -> Vec<u8> {
    let mut out = Vec::new();
    pktline::write(
        &mut out,
        format!("{head} HEAD\0side-band-64k no-progress\n").as_bytes(),
    )
    .unwrap();
    pktline::write(&mut out, format!("{head} refs/heads/main\n").as_bytes()).unwrap();
    out.extend_from_slice(pktline::FLUSH);
    out
}

/// An ordinary server of one branch, with one pack, whatever the other side has.
pub fn offers(head: ObjectId, pack: Vec<u8>) -> Play {
    let pack = Arc::new(pack);
    play(move |mut lines| {
        let pack = pack.clone();
        async move {
            if lines.advertise(head).await? {
                lines.pack(&pack).await?;
                lines.send(pktline::FLUSH).await?;
            }
            Some(lines)
        }
    })
}

/// The newest commit of a room without all that it stands upon.
pub fn only_the_newest(room: &Room) -> Vec<u8> {
    let (kind, data) = room.objects.object(&room.head).unwrap();
    let mut lacking = MemoryObjects::new();
    lacking.insert(kind, &data);
    pack(&lacking, &MemoryObjects::new())
}

/// A pack of what one has and the other lacks.
pub fn pack(objects: &MemoryObjects, known: &MemoryObjects) -> Vec<u8> {
    let new: Vec<_> = objects
        .iter()
        .filter(|(id, ..)| !known.contains(id))
        .collect();
    let (mut writer, mut out) = PackWriter::new(new.len() as u32, false);
    for (_, kind, data) in new {
        out.extend(writer.object(kind, data));
    }
    out.extend(writer.finish().0);
    out
}

/// Serves a room, honestly.
pub fn offers_room(room: &Room, known: &MemoryObjects) -> Play {
    offers(room.head, pack(&room.objects, known))
}

/// The device of an account, as a writer of commits.
pub fn writer_of(dir: &Path, name: &str) -> Device {
    let identity = keep::read_identity(dir, now()).unwrap();
    Device {
        name: name.into(),
        chain: identity.chain,
        key: identity.device_key,
    }
}

/// A victim in this process, online and connected.
pub async fn victim(first: &Dht, eve: &Hostile) -> Bridge {
    victim_within(first, eve, Bounds::default()).await
}

/// The same, which takes no more than this from anybody.
pub async fn victim_within(first: &Dht, eve: &Hostile, bounds: Bounds) -> Bridge {
    let vic = Bridge::within(first, "Vic", bounds).await;
    vic.until("to be online", |a| async move {
        (a.view().state == starling_core::api::AccountState::Online).then_some(())
    })
    .await;
    let address = eve.account().to_hex();
    vic.account().add_contact(&address, None).await.unwrap();
    eve.connect(vic.account().device_id(), vic.id()).await;
    vic
}

/// git's own opinion of a repository.
pub fn fsck(path: &Path) {
    let out = std::process::Command::new("git")
        .args(["fsck", "--strict", "--full"])
        .current_dir(path)
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
}

/// `starling verify` of a repository.
pub fn verify(path: &Path) {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_starling"))
        .arg("verify")
        .arg(path)
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
}
