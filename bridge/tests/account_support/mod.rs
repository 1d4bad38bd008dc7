//! People with accounts, on a network of their own.

#![allow(dead_code)]

#[path = "../key_support/mod.rs"]
pub(crate) mod key_support;

pub(crate) use key_support::keys;
use starling_bridge::account::book::Profile;
use starling_bridge::account::registry::Accounts;
use starling_bridge::account::{Account, Bounds, Context, Options};
use starling_bridge::crypto::AwsLc;
use starling_bridge::dht::{Dht, DhtConfig};
use starling_core::api::{
    ApiError, Conversation, ConversationMode, ConversationState, Event, LinkPhase, LocalAccountId,
    Member, MemberRole, Message,
};
use starling_core::id::{AccountId, ConversationId, ObjectId};
use starling_core::swarm::commit::{Commit, Draft};
use starling_core::swarm::message::Message as Swarm;
use starling_core::swarm::object::{Kind, NewObject, Objects};
use starling_core::swarm::path::TreePath;
use starling_core::swarm::tree::Trees;
use starling_core::swarm::write::Written;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// Nothing of what is awaited takes this long on an idle machine; a busy one gets its time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A node on the loopback interface.
pub(crate) fn node(bootstrap: Option<&Dht>) -> Dht {
    // Silent unless asked by RUST_LOG.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let config = DhtConfig {
        bind_v4: Some(Ipv4Addr::LOCALHOST),
        bind_v6: None,
        bootstrap: bootstrap
            .map(|b| format!("127.0.0.1:{}", b.ports().0).parse().unwrap())
            .into_iter()
            .collect(),
        ..DhtConfig::default()
    };
    Dht::start(config, Arc::new(AwsLc)).unwrap()
}

/// The code and the sentence of what must not work.
pub(crate) fn refused<T: std::fmt::Debug, E: std::fmt::Debug>(result: Result<T, E>) -> ApiError
where
    ApiError: From<E>,
{
    ApiError::from(result.unwrap_err())
}

pub(crate) fn named(name: &str) -> Options {
    Options {
        profile: Profile {
            display_name: name.into(),
            avatar: None,
        },
        ..Options::default()
    }
}

/// One person's bridge.
pub(crate) struct Bridge {
    pub dir: tempfile::TempDir,
    pub dht: Dht,
    pub accounts: Option<Accounts>,
    pub bounds: Bounds,
    events: Arc<Mutex<Vec<Event>>>,
    count: watch::Sender<usize>,
}

impl Bridge {
    pub(crate) async fn start(first: &Dht) -> Self {
        Self::start_within(first, Bounds::default()).await
    }

    async fn start_within(first: &Dht, bounds: Bounds) -> Self {
        let mut new = Self {
            bounds,
            dir: tempfile::tempdir().unwrap(),
            dht: node(Some(first)),
            accounts: None,
            events: Arc::default(),
            count: watch::Sender::new(0),
        };
        assert!(
            tokio::time::timeout(PATIENCE, new.dht.connected())
                .await
                .unwrap()
        );
        new.open().await;
        new
    }

    /// A bridge with one account.
    pub(crate) async fn of(first: &Dht, name: &str) -> Self {
        Self::within(first, name, Bounds::default()).await
    }

    /// The same, where peers may cost no more than this.
    pub(crate) async fn within(first: &Dht, name: &str, bounds: Bounds) -> Self {
        let new = Self::start_within(first, bounds).await;
        new.accounts()
            .create_with(keys(), named(name), None)
            .await
            .unwrap();
        new
    }

    /// Another device of the account, made from a backup that is protected by `password`.
    pub(crate) async fn from_backup(first: &Dht, backup: &[u8], password: Option<&str>) -> Self {
        let new = Self::start(first).await;
        let imported = new.accounts().import(backup, password, named(""));
        imported.await.unwrap();
        new
    }

    pub(crate) async fn open(&mut self) {
        self.open_and(|_| {}).await;
    }

    /// The same; `then` is called with each event, at the place that reports it.
    pub(crate) async fn open_and(&mut self, then: impl Fn(&Event) + Send + Sync + 'static) {
        let (events, count) = (self.events.clone(), self.count.clone());
        let context = Context {
            emit: Arc::new(move |event| {
                then(&event);
                events.lock().unwrap().push(event);
                count.send_modify(|n| *n += 1);
            }),
            dht: self.dht.clone(),
            loopback: true,
            bounds: self.bounds,
        };
        self.accounts = Some(Accounts::open(self.dir.path(), context).await.unwrap());
    }

    pub(crate) async fn stop(&mut self) {
        self.accounts.take().unwrap().stop().await;
    }

    pub(crate) fn accounts(&self) -> &Accounts {
        self.accounts.as_ref().unwrap()
    }

    pub(crate) fn account(&self) -> Arc<Account> {
        self.accounts().all().first().unwrap().clone()
    }

    pub(crate) fn local_id(&self) -> LocalAccountId {
        self.account().id.clone()
    }

    pub(crate) fn id(&self) -> AccountId {
        self.account().jami_id()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    /// Waits until something holds, looking again whenever anything was reported.
    pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
        &self,
        what: &str,
        mut holds: impl FnMut(Arc<Account>) -> F,
    ) -> T {
        let mut news = self.count.subscribe();
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                news.borrow_and_update();
                if let Some(found) = holds(self.account()).await {
                    return found;
                }
                news.changed().await.unwrap();
            }
        });
        match waited.await {
            Ok(found) => found,
            Err(_) => {
                let events = self.events();
                let tail = &events[events.len().saturating_sub(15)..];
                panic!("{what}: not after {PATIENCE:?}; last events: {tail:#?}")
            }
        }
    }

    /// Waits until something holds of two people, looking again whenever either reports anything.
    pub(crate) async fn until_both(
        &self,
        other: &Self,
        what: &str,
        holds: impl Fn(&Arc<Account>, &Arc<Account>) -> bool,
    ) {
        let (mut mine, mut theirs) = (self.count.subscribe(), other.count.subscribe());
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                mine.borrow_and_update();
                theirs.borrow_and_update();
                if holds(&self.account(), &other.account()) {
                    return;
                }
                tokio::select! {
                    changed = mine.changed() => changed.unwrap(),
                    changed = theirs.changed() => changed.unwrap(),
                }
            }
        });
        assert!(waited.await.is_ok(), "{what}: not after {PATIENCE:?}");
    }

    /// Waits for an event, among those of before as well.
    pub(crate) async fn heard<T>(&self, what: &str, pick: impl Fn(&Event) -> Option<T>) -> T {
        self.until(what, |_| {
            let found = self.events().iter().find_map(&pick);
            async move { found }
        })
        .await
    }

    /// Waits until there is a connection to somebody, as it is shown.
    pub(crate) async fn linked(&self, other: AccountId) {
        self.until(
            "a link",
            |a| async move { is_linked(&a, other).then_some(()) },
        )
        .await;
    }

    /// Waits until there is none.
    pub(crate) async fn unlinked(&self, other: AccountId) {
        self.until("the end of the link", |a| async move {
            (!is_linked(&a, other)).then_some(())
        })
        .await;
    }

    /// Waits to be asked into a conversation, and accepts.
    pub(crate) async fn accepts(&self, id: ConversationId) {
        self.until("an invitation", |a| async move {
            let requests = a.requests().await.unwrap();
            requests.iter().any(|r| r.conversation == id).then_some(())
        })
        .await;
        self.account().accept_request(id).await.unwrap();
    }

    /// Waits until a conversation is here and satisfies.
    pub(crate) async fn ready(
        &self,
        id: ConversationId,
        what: &str,
        fits: impl Fn(&Conversation) -> bool,
    ) -> Conversation {
        self.until(what, |a| {
            let fits = &fits;
            async move {
                let c = a.conversation_view(id).await.ok()?;
                (c.state == ConversationState::Ready && fits(&c)).then_some(c)
            }
        })
        .await
    }

    /// The texts of a conversation, in order.
    pub(crate) async fn texts(&self, id: ConversationId) -> Vec<String> {
        texts(&self.account(), id).await
    }

    /// Waits until these texts are there, each once, in whatever order.
    pub(crate) async fn has_texts(&self, id: ConversationId, texts: &[&str]) {
        let mut wanted: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
        wanted.sort();
        self.until(&format!("texts {texts:?}"), |a| {
            let wanted = &wanted;
            async move {
                let mut found = self::texts(&a, id).await;
                found.sort();
                (found == *wanted).then_some(())
            }
        })
        .await;
    }
}

fn is_linked(account: &Account, other: AccountId) -> bool {
    let mut links = account.link_states().into_iter();
    links.any(|l| l.peer == other && l.phase == LinkPhase::Connected)
}

pub(crate) async fn messages(account: &Arc<Account>, id: ConversationId) -> Vec<Message> {
    match account.history(id, None, 1000).await {
        Ok((messages, _)) => messages,
        Err(_) => Vec::new(),
    }
}

pub(crate) async fn texts(account: &Arc<Account>, id: ConversationId) -> Vec<String> {
    messages(account, id)
        .await
        .into_iter()
        .filter_map(|m| m.body)
        .collect()
}

/// Asks and accepts; gives the conversation, when both sides have it.
pub(crate) async fn befriend(alice: &Bridge, bob: &Bridge) -> ConversationId {
    let contact = alice
        .account()
        .add_contact(&bob.id().to_hex(), Some("It is me".into()))
        .await
        .unwrap();
    let id = contact.conversation.unwrap();
    let request = bob
        .until("a request", |a| async move {
            a.requests().await.unwrap().into_iter().next()
        })
        .await;
    assert_eq!((request.conversation, request.from), (id, alice.id()));
    bob.account().accept_request(id).await.unwrap();
    bob.ready(id, "the conversation at who accepted", |_| true)
        .await;
    let other = bob.id();
    alice
        .until("the contact to be confirmed", |a| async move {
            let c = a.contact(other).await.unwrap();
            let joined = a
                .conversation(&id)
                .is_some_and(|c| c.snapshot().takes_part(&other));
            (c.confirmed && joined).then_some(())
        })
        .await;
    id
}

/// A group whose other members are friends of who made it, and have come in.
pub(crate) async fn group(
    admin: &Bridge,
    mode: ConversationMode,
    others: &[&Bridge],
) -> ConversationId {
    for other in others {
        let who = other.id();
        let known = admin.account().contact(who).await;
        if known.is_err() {
            befriend(admin, other).await;
        }
    }
    let ids = others.iter().map(|b| b.id()).collect();
    let made = admin.account().create_group(mode, None, ids).await.unwrap();
    let id = made.id;
    for other in others {
        other.accepts(id).await;
    }
    let all = |c: &Conversation| {
        let inside = |m: &&Member| matches!(m.role, MemberRole::Admin | MemberRole::Member);
        c.members.iter().filter(inside).count() == others.len() + 1
    };
    for who in others.iter().chain([&admin]) {
        who.ready(id, "all members", all).await;
    }
    id
}

/// Writes what no honest program writes, rightly signed, and tells everybody of it.
pub(crate) async fn forge(
    who: &Bridge,
    id: ConversationId,
    message: Swarm,
    files: &[(TreePath, Option<&[u8]>)],
) -> ObjectId {
    let account = who.account();
    let conversation = account.conversation(&id).unwrap();
    let store = conversation.store.clone();
    let mut objects = Vec::new();
    let mut edits = BTreeMap::new();
    for (path, data) in files {
        let blob = data.map(|d| NewObject::new(Kind::Blob, d.to_vec()));
        edits.insert(*path, blob.as_ref().map(|b| b.id));
        objects.extend(blob);
    }
    account
        .write(id, move |repository, writer, now| {
            let head = repository.head().unwrap();
            let (_, data) = Objects::object(&*store, &head).unwrap();
            let before = Commit::parse(&data).unwrap().tree;
            let (tree, new) = Trees::new(&*store).change(Some(before), &edits).unwrap();
            objects.extend(new);
            let draft = Draft {
                tree,
                parents: vec![head],
                name: writer.name,
                device: writer.device,
                time: now,
                message: &message.to_text(),
            };
            let commit = draft.sign(writer.key)?;
            let id = commit.id;
            objects.push(commit);
            Ok(Written {
                commit: id,
                tree,
                message,
                objects,
            })
        })
        .await
        .unwrap()
}
