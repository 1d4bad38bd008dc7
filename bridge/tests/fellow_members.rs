//! Fellow members of a group who are not each other's contacts: what they may, and what they,
//! strangers and banned members may not.
#![allow(clippy::unwrap_used)]

mod account_support;

use account_support::{Bridge, PATIENCE, befriend, keys, node};
use starling_bridge::account::keep::read_identity;
use starling_bridge::account::now_unix;
use starling_bridge::conversation::wire::{Fetched, Fetcher, Sink};
use starling_bridge::crypto::AwsLc;
use starling_bridge::dht::Dht;
use starling_bridge::peer::{Channel, DhtSignalling, Limits, OpenError, PeerConfig, PeerManager};
use starling_core::api::{ConversationMode, Event, MemberRole};
use starling_core::drt::Message;
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};
use starling_core::identity::{Identity, create_account};
use starling_core::notice::Notice;
use starling_core::peer::channel_name::{Arguments, ChannelName};
use starling_core::swarm::members::Role;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

/// Alice knows Bob and Carol, who do not know each other, and has a group with both. Gives the
/// conversation of Alice and Bob, and the group.
async fn three(alice: &Bridge, bob: &Bridge, carol: &Bridge) -> (ConversationId, ConversationId) {
    let private = befriend(alice, bob).await;
    befriend(alice, carol).await;
    let group = alice
        .account()
        .create_group(
            ConversationMode::InvitesOnly,
            Some("Three".into()),
            vec![bob.id(), carol.id()],
        )
        .await
        .unwrap()
        .id;
    for who in [bob, carol] {
        who.accepts(group).await;
    }
    for who in [alice, bob, carol] {
        who.ready(group, "three members", |c| {
            let in_it = |m: &&starling_core::api::Member| m.role != MemberRole::Invited;
            c.members.iter().filter(in_it).count() == 3
        })
        .await;
    }
    (private, group)
}

/// Says something in a group and waits until the other has it.
async fn say(from: &Bridge, to: &Bridge, group: ConversationId, text: &str) {
    from.account()
        .send(group, text.to_owned(), None)
        .await
        .unwrap();
    to.until(text, |a| async move {
        let texts = account_support::texts(&a, group).await;
        texts.iter().any(|t| t == text).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fellow_members_talk_while_the_one_who_invited_both_is_away() {
    let first = node(None);
    let mut alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let carol = Bridge::of(&first, "Carol").await;
    let (_, group) = three(&alice, &bob, &carol).await;
    alice.stop().await;
    say(&bob, &carol, group, "Is she away?").await;
    say(&carol, &bob, group, "She is").await;
    assert_eq!(bob.texts(group).await, carol.texts(group).await);
    // Neither became a contact of the other.
    for (who, other) in [(&bob, carol.id()), (&carol, bob.id())] {
        let contacts = who.account().contacts().await.unwrap();
        assert!(contacts.iter().all(|c| c.id != other));
        assert!(who.account().requests().await.unwrap().is_empty());
    }
    // She gets it all when she is back.
    alice.open().await;
    alice
        .until("what was said meanwhile", |a| async move {
            let texts = account_support::texts(&a, group).await;
            (texts == ["Is she away?", "She is"]).then_some(())
        })
        .await;
}

/// Connections of an identity and nothing else: says and asks for whatever the test wants.
struct Raw {
    peers: PeerManager,
    _dir: tempfile::TempDir,
    _incoming: tokio::sync::mpsc::Receiver<starling_bridge::peer::Incoming>,
}

impl Raw {
    async fn new(dht: &Dht, identity: &Identity) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let crypto = Arc::new(AwsLc);
        let config = PeerConfig {
            chain: identity.chain.clone(),
            key: identity.device_key.clone(),
            crypto: crypto.clone(),
            directory: dir.path().to_owned(),
            loopback: true,
            policy: Arc::new(|_, _| false),
            limits: Limits::default(),
        };
        let signalling = Arc::new(DhtSignalling::new(dht.clone(), crypto, identity));
        let (peers, incoming) = PeerManager::start(config, signalling).unwrap();
        timeout(PATIENCE, peers.publish()).await.unwrap().unwrap();
        Self {
            peers,
            _dir: dir,
            _incoming: incoming,
        }
    }

    async fn open(&self, to: &Bridge, name: ChannelName) -> Result<Channel, OpenError> {
        let (device, account) = (to.account().device_id(), to.id());
        let opened = self.peers.open(&device, Some(account), name);
        timeout(PATIENCE, opened).await.unwrap()
    }
}

async fn say_notice(channel: &mut Channel, notice: &Notice) {
    channel.write_all(&notice.to_frame(1)).await.unwrap();
    channel.flush().await.unwrap();
}

async fn hears_typing(who: &Bridge, conversation: ConversationId, from: AccountId) {
    who.heard("that somebody types", |e| match e {
        Event::Typing {
            conversation: c,
            id,
            typing: true,
            ..
        } if *c == conversation && *id == from => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fellow_member_gets_the_channels_of_the_shared_group_and_nothing_else() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let mut carol = Bridge::of(&first, "Carol").await;
    let (private, group) = three(&alice, &bob, &carol).await;
    let (dir, carol_id) = (carol.account().dir().to_owned(), carol.id());
    carol.stop().await;
    let identity = read_identity(&dir, now_unix()).unwrap();
    let own = identity.device_id();
    let raw = Raw::new(&carol.dht, &identity).await;
    let bobs = bob.account().device_id();

    let git = |conversation| ChannelName::Git {
        device: bobs,
        conversation,
    };
    let swarm = |conversation| ChannelName::Swarm { conversation };
    let card = |conversation, device| ChannelName::MemberProfile {
        conversation,
        device,
        arguments: Arguments::default(),
    };
    let profile = |conversation, account| ChannelName::ProfileOf {
        conversation,
        account,
    };
    // Of the group: git, routing, cards, notices.
    raw.open(&bob, git(group)).await.unwrap();
    raw.open(&bob, card(group, own)).await.unwrap();
    let mut bobs_card = Vec::new();
    let mut channel = raw.open(&bob, profile(group, bob.id())).await.unwrap();
    channel.read_to_end(&mut bobs_card).await.unwrap();
    assert!(String::from_utf8(bobs_card).unwrap().contains("FN:Bob"));
    let mut neighbour = raw.open(&bob, swarm(group)).await.unwrap();
    let mut bytes = Vec::new();
    let (_, message) = loop {
        let mut piece = [0; 512];
        let n = neighbour.read(&mut piece).await.unwrap();
        assert!(n > 0);
        bytes.extend_from_slice(&piece[..n]);
        if let Some(found) = Message::first(&bytes).unwrap() {
            break found;
        }
    };
    assert_eq!(message, Message::find(bobs));
    let mut notices = raw
        .open(&bob, ChannelName::Message { device: bobs })
        .await
        .unwrap();

    // Of what is not shared, and of what only contacts and own devices have: nothing.
    let other = AccountId([7; 20]);
    for name in [
        git(private),
        git(ConversationId([1; 20])),
        ChannelName::Git {
            device: own,
            conversation: group,
        },
        swarm(private),
        card(private, own),
        card(group, DeviceId([3; 32])),
        profile(private, bob.id()),
        profile(group, other),
        ChannelName::OwnProfile {
            arguments: Arguments::default(),
        },
        // What was sent in the group is fetched by git; files are not there yet.
        ChannelName::File {
            conversation: group,
            device: own,
            file: format!("{}_7", ObjectId::from(group)),
            arguments: Arguments::default(),
        },
        ChannelName::Sync { device: bobs },
        ChannelName::Sip,
        ChannelName::ServiceQuery,
        ChannelName::from("svc://7f000001"),
        ChannelName::from("something else"),
    ] {
        let opened = raw.open(&bob, name.clone()).await;
        assert_eq!(opened.err(), Some(OpenError::Declined), "{name}");
    }

    // An invitation, and a word about a conversation of others, are not heard; what comes after
    // them on the same channel is.
    let elsewhere = ConversationId([9; 20]);
    say_notice(
        &mut notices,
        &Notice::Invite {
            conversation: elsewhere,
            metadata: BTreeMap::from([("mode".to_owned(), "2".to_owned())]),
            received_ms: 1,
        },
    )
    .await;
    say_notice(
        &mut notices,
        &Notice::NewCommit {
            conversation: elsewhere,
            commit: elsewhere.into(),
            device: own,
        },
    )
    .await;
    for conversation in [private, group] {
        say_notice(
            &mut notices,
            &Notice::Composing {
                conversation,
                active: true,
            },
        )
        .await;
    }
    hears_typing(&bob, group, carol_id).await;
    assert!(bob.account().requests().await.unwrap().is_empty());
    assert!(bob.events().iter().all(|e| !matches!(
        e,
        Event::Typing { conversation, .. } if *conversation == private
    )));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_gets_nothing_and_a_banned_member_no_more() {
    let first = node(None);
    let alice = Bridge::of(&first, "Alice").await;
    let bob = Bridge::of(&first, "Bob").await;
    let mut carol = Bridge::of(&first, "Carol").await;
    let (_, group) = three(&alice, &bob, &carol).await;
    let bobs = bob.account().device_id();
    let git = || ChannelName::Git {
        device: bobs,
        conversation: group,
    };

    let stranger = create_account(&AwsLc, now_unix(), keys()).unwrap().1;
    let raw = Raw::new(&first, &stranger).await;
    let (pack, notices) = tokio::join!(
        raw.open(&bob, git()),
        raw.open(&bob, ChannelName::Message { device: bobs })
    );
    for no in [pack, notices] {
        assert_eq!(no.err(), Some(OpenError::NoAnswer));
    }

    let (dir, carol_id) = (carol.account().dir().to_owned(), carol.id());
    carol.stop().await;
    let identity = read_identity(&dir, now_unix()).unwrap();
    let raw = Raw::new(&carol.dht, &identity).await;
    let mut notices = raw
        .open(&bob, ChannelName::Message { device: bobs })
        .await
        .unwrap();
    raw.open(&bob, git()).await.unwrap();
    // Alice, the one admin, shuts Carol out.
    alice.account().ban(group, carol_id, None).await.unwrap();
    let ban = alice.account().conversation(&group).unwrap().head();
    say(&alice, &bob, group, "She is out").await;
    // She may learn that she is out, and nothing of what was said since.
    let channel = raw.open(&bob, git()).await.unwrap();
    let fetched = Fetcher::new(channel, group, bobs)
        .fetch(&mut Nothing)
        .await
        .unwrap();
    assert_eq!(fetched, Fetched::Pack(ban));
    // Then the connection ends, and no other one comes about.
    let mut end = Vec::new();
    let ended = timeout(PATIENCE, notices.read_to_end(&mut end)).await;
    assert!(ended.is_ok());
    let again = raw.open(&bob, git()).await.err().unwrap();
    assert!(
        matches!(again, OpenError::NoAnswer | OpenError::Closed),
        "{again}"
    );
    let view = bob.account().conversation_view(group).await.unwrap();
    let role = view.members.iter().find(|m| m.id == carol_id);
    assert!(role.is_none_or(|m| m.role == MemberRole::Banned));
}

/// What was fetched before the ban was known, and stands after it, is no news of the ban; nor is what was on its
/// way when the connection ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_has_fetched_a_ban_has_heard_of_it() {
    let first = node(None);
    let mut alice = Bridge::of(&first, "Alice").await;
    let mut bob = Bridge::of(&first, "Bob").await;
    let mut carol = Bridge::of(&first, "Carol").await;
    let (_, group) = three(&alice, &bob, &carol).await;
    let (dir, carol_id) = (carol.account().dir().to_owned(), carol.id());
    carol.stop().await;
    bob.stop().await;
    alice.account().ban(group, carol_id, None).await.unwrap();
    let ban = alice.account().conversation(&group).unwrap().head();
    let banned = now_unix();
    alice.stop().await;
    // In a later second Bob, who does not know of it, writes something, and Carol fetches that.
    while now_unix() == banned {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bob.open().await;
    let newer = bob.account().send(group, "newer".into(), None).await;
    let identity = read_identity(&dir, now_unix()).unwrap();
    let raw = Raw::new(&carol.dht, &identity).await;
    let git = || ChannelName::Git {
        device: bob.account().device_id(),
        conversation: group,
    };
    let fetches = async |raw: &Raw| {
        let channel = raw.open(&bob, git()).await.unwrap();
        let mut fetcher = Fetcher::new(channel, group, bob.account().device_id());
        let fetched = fetcher.fetch(&mut Nothing).await.unwrap();
        (fetched, fetcher)
    };
    assert_eq!(fetches(&raw).await.0, Fetched::Pack(newer.unwrap()));
    alice.open().await;
    bob.until("the ban", |b| async move {
        let snapshot = b.conversation(&group).unwrap().snapshot();
        (snapshot.role(&carol_id) == Some(Role::Banned)).then_some(())
    })
    .await;
    let (fetched, _still_open) = fetches(&raw).await;
    assert_eq!(fetched, Fetched::Pack(ban));
    raw.peers.shutdown();
    bob.unlinked(carol_id).await;
    let again = Raw::new(&carol.dht, &identity).await;
    assert_eq!(fetches(&again).await.0, Fetched::Pack(ban));
}

/// Who fetches and has nothing yet.
struct Nothing;

impl Sink for Nothing {
    fn has(&self, _: &ObjectId) -> bool {
        false
    }
    fn refuses(&self, _: &ObjectId) -> bool {
        false
    }
    fn haves(&self) -> Vec<ObjectId> {
        Vec::new()
    }
    fn pack(&mut self, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}
