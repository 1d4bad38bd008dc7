//! Anyone in a story of a group: a Starling or a daemon, asked in the same words.

use crate::jami::Loud;
use crate::{Host, Jami, Lab, Starling, client, starling, wait};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The daemon's source that judges histories. What it prints as an error or a warning is a complaint, but for
/// [`HARMLESS`].
const JUDGE: &str = "conversationrepository.cpp";

/// Those that fetch and keep what it judges. Their errors are complaints likewise. They warn of much that says
/// nothing of what came, such as that they are told something by somebody who is back from a ban of whose end they
/// are to hear yet: of their warnings only what has words of [`ELSEWHERE`].
const FETCHERS: [&str; 2] = ["conversation_module.cpp", "conversation.cpp"];

/// What a judge says of something else than what it was given, as it begins, and why.
const HARMLESS: [(&str, &str); 24] = [
    // Whom it is connected with.
    ("Refreshing tracked members", "whom it looks for"),
    ("Rotating tracked members", "a connection failed"),
    ("Already fetching", "it asks one at a time"),
    (
        "Clone failed",
        "nobody that it is connected with has it yet",
    ),
    (
        "Successfully fetched from device",
        "it had what it was told of already, or got what the other had by then",
    ),
    (
        "Unable to fetch new commit from",
        "who was asked is away; what is wrong with a commit is said besides",
    ),
    (
        "Unable to fetch remote repository",
        "a fetch broke off, or brought nothing new",
    ),
    (
        "Unable to find conversation, asking for an invite",
        "it is told of one that it has not accepted yet",
    ),
    (
        "Request not found",
        "it looks for the request of a conversation that it asked for itself",
    ),
    (
        "Error when retrieving remote conversation",
        "a first copy broke off; what is wrong with one is said besides",
    ),
    ("Something went wrong when cloning", "the same"),
    ("Replacing pre-existing directory", "it copies once more"),
    (
        "No message detected. This is a bug",
        "news of what it is just copying, and has nothing of yet",
    ),
    // What it reads at its start, before there is anything.
    ("unable to load syncing metadata", "a new account"),
    ("Failed to read conversations directory", "a new account"),
    // That it gives up a merge of its own where two changed the same is no verdict on what it was given: it takes ours then.
    ("Merge operation aborted", "a merge of its own"),
    (
        "announced but not found",
        "a device that is no more where it wrote, as who leaves, and whom it has not met; a file that is missing is named",
    ),
    ("Unable to merge history", "a merge of its own"),
    // What its person did.
    ("Decline conversation request", "its person declined"),
    (
        "Received a commit, but conversation is removed",
        "its person left",
    ),
    ("conversaton is being removed", "its person left"),
    ("Remove conversation", "its person left"),
    ("Vote solved for", "its person banned somebody"),
    (
        "More than half of the admins voted",
        "its person banned somebody",
    ),
];

/// What it says besides when it copies a conversation once more while it merges or fetches, as nowhere else.
const REPLACED: [&str; 3] = [
    "Unable to sign commit",
    "No remote found with",
    "Unable to get HEAD of",
];

/// What others of its sources print when something is wrong with what came, in lower case.
const ELSEWHERE: [&str; 5] = [
    "failed validation",
    "malformed",
    "unable to validate",
    "verification failed",
    "validation failed",
];

/// What a daemon says against what it was given.
fn complaints_in(loud: Vec<Loud>) -> Vec<Loud> {
    let copies = |line: &Loud| line.words.contains("Replacing pre-existing directory");
    let replaced = loud.iter().any(copies);
    let against = |line: &Loud| {
        let source = line.source.as_str();
        if source != JUDGE && !(line.error && FETCHERS.contains(&source)) {
            let words = line.words.to_lowercase();
            return ELSEWHERE.iter().any(|w| words.contains(w));
        }
        let mut words = line.words.as_str();
        while let Some((mark, rest)) = words.split_once("] ") {
            if !mark.starts_with('[') {
                break;
            }
            words = rest;
        }
        // Which device it is about.
        if let Some((id, rest)) = words.split_once(' ')
            && id.len() == 64
            && id.bytes().all(|b| b.is_ascii_hexdigit())
        {
            words = rest;
        }
        let of_copy = replaced && REPLACED.iter().any(|known| words.starts_with(known));
        !of_copy && !HARMLESS.iter().any(|(known, _)| words.starts_with(known))
    };
    loud.into_iter().filter(against).collect()
}

/// What a daemon said against what it was given, in all its runs: the lines of its log, and which errors of
/// which conversations it told its client of.
pub fn complaints(daemon: &Jami) -> Vec<String> {
    let said = complaints_in(daemon.loud()).into_iter();
    let told = daemon.conversation_errors().into_iter();
    said.map(|line| format!("{}: {}", line.source, line.words))
        .chain(told.map(|error| error.to_string()))
        .collect()
}

/// A person at a machine of the lab.
pub struct Peer {
    /// The machine.
    pub host: Host,
    /// Their Jami ID.
    pub id: String,
    /// What runs there.
    pub program: Program,
    boot: Host,
}

/// What somebody uses.
pub enum Program {
    /// Ours.
    Starling(Box<Starling>),
    /// The reference.
    Jami(Box<Jami>),
}

use Program::{Jami as Daemon, Starling as Ours};

impl Peer {
    /// A person with a Starling.
    pub fn starling(lab: &mut Lab, name: &str, boot: &Host) -> Self {
        Self::starling_at(lab.host(name), boot)
    }

    pub(crate) fn starling_at(host: Host, boot: &Host) -> Self {
        let name = host.name.as_str();
        let mut starling = Starling::start(&host, boot);
        let id = starling.have_account(name);
        Self {
            host,
            id,
            program: Ours(Box::new(starling)),
            boot: boot.clone(),
        }
    }

    /// A person with a daemon.
    pub fn jami(lab: &mut Lab, name: &str, boot: &Host) -> Self {
        Self::jami_at(lab.host(name), boot)
    }

    /// Two people with a Starling and two with a daemon, who come at the same time.
    pub fn two_and_two(
        lab: &mut Lab,
        starlings: [&str; 2],
        daemons: [&str; 2],
        boot: &Host,
    ) -> ([Self; 2], [Self; 2]) {
        let starlings = starlings.map(|name| lab.host(name));
        let daemons = daemons.map(|name| lab.host(name));
        std::thread::scope(|scope| {
            let starlings = starlings.map(|host| scope.spawn(|| Self::starling_at(host, boot)));
            let daemons = daemons.map(|host| scope.spawn(|| Self::jami_at(host, boot)));
            let come = |one: std::thread::ScopedJoinHandle<'_, Self>| one.join().expect("is there");
            (starlings.map(come), daemons.map(come))
        })
    }

    pub(crate) fn jami_at(host: Host, boot: &Host) -> Self {
        let name = host.name.as_str();
        let mut jami = Jami::with_account(&host, boot, name);
        let id = jami.id();
        Self {
            host,
            id,
            program: Daemon(Box::new(jami)),
            boot: boot.clone(),
        }
    }

    /// The Starling of somebody who must have one.
    pub fn as_starling(&self) -> &Starling {
        match &self.program {
            Ours(s) => s,
            Daemon(_) => panic!("{} has a daemon", self.host.name),
        }
    }

    /// The daemon of somebody who must have one.
    pub fn as_jami(&mut self) -> &mut Jami {
        match &mut self.program {
            Daemon(j) => j,
            Ours(_) => panic!("{} has a Starling", self.host.name),
        }
    }

    /// Another machine of the same person, with the same program, from a backup.
    pub fn second_device(&mut self, lab: &mut Lab, name: &str) -> Self {
        let host = lab.host(name);
        let program = match &mut self.program {
            Ours(first) => {
                let backup = first.rpc("account.export", json!({"account": first.account()}));
                let mut starling = Starling::start(&host, &self.boot);
                starling.rpc("account.import", json!({"archive": backup["archive"]}));
                starling.adopt_account();
                Ours(Box::new(starling))
            }
            Daemon(first) => {
                let archive = host.dir.join("backup.gz");
                let path = archive.display().to_string();
                let account = first.account();
                let written = first.call("exportToFile", json!([account, path, ""]));
                assert_eq!(written, true, "{}: no backup", self.host.name);
                let mut jami = Jami::start(&host, &self.boot);
                let id = jami.import_account(name, &self.boot, &archive, "");
                assert_eq!(id, self.id, "{name} is another person");
                Daemon(Box::new(jami))
            }
        };
        Self {
            host,
            id: self.id.clone(),
            program,
            boot: self.boot.clone(),
        }
    }

    /// Asks somebody, who accepts; both are in the conversation then.
    pub fn befriend(&mut self, other: &mut Self) {
        let id = other.id.clone();
        let conversation = self.ask(&id);
        other.accept(&conversation);
        self.wait_role(&conversation, &id, "member");
    }

    /// Asks somebody to be a contact; gives the conversation with them.
    pub fn ask(&mut self, id: &str) -> String {
        match &mut self.program {
            Ours(s) => s.add_contact(id),
            Daemon(j) => j.add_contact(id),
        }
    }

    /// Makes a group.
    pub fn create(&mut self, title: &str) -> String {
        match &mut self.program {
            Ours(s) => {
                let c = s.rpc(
                    "conversation.create",
                    json!({"account": s.account(), "mode": "invitesOnly", "title": title}),
                );
                c["id"].as_str().expect("an id").to_owned()
            }
            Daemon(j) => {
                let group = j.start_conversation();
                self.rename(&group, title);
                group
            }
        }
    }

    /// Invites somebody.
    pub fn invite(&mut self, group: &str, id: &str) {
        match &mut self.program {
            Ours(s) => {
                s.rpc(
                    "conversation.invite",
                    json!({"account": s.account(), "conversation": group, "id": id}),
                );
            }
            Daemon(j) => j.add_member(group, id),
        }
    }

    /// Waits for an invitation, accepts it, and waits until the conversation is there.
    pub fn accept(&mut self, group: &str) {
        match &mut self.program {
            Ours(s) => {
                s.wait_request_for(group);
                s.accept(group);
            }
            Daemon(j) => {
                j.wait_request_for(group);
                j.accept(group);
            }
        }
    }

    /// Waits for an invitation, and declines it.
    pub fn decline(&mut self, group: &str) {
        match &mut self.program {
            Ours(s) => s.decline(group),
            Daemon(j) => {
                j.wait_request_for(group);
                j.decline(group);
            }
        }
    }

    /// Brings people into a group: they are invited, and accept.
    pub fn gather(&mut self, group: &str, others: &mut [&mut Self]) {
        for other in others {
            self.invite(group, &other.id);
            other.accept(group);
            self.wait_role(group, &other.id, "member");
        }
    }

    /// Leaves.
    pub fn leave(&mut self, group: &str) {
        match &mut self.program {
            Ours(s) => {
                s.rpc(
                    "conversation.leave",
                    json!({"account": s.account(), "conversation": group}),
                );
            }
            Daemon(j) => {
                let account = j.account();
                j.call("removeConversation", json!([account, group]));
            }
        }
    }

    /// Bans somebody, as an admin.
    pub fn ban(&mut self, group: &str, id: &str) {
        match &mut self.program {
            Ours(s) => {
                s.rpc(
                    "conversation.ban",
                    json!({"account": s.account(), "conversation": group, "id": id}),
                );
            }
            Daemon(j) => {
                let account = j.account();
                j.call("removeConversationMember", json!([account, group, id]));
            }
        }
    }

    /// Bans somebody who may have been banned in the meantime.
    pub fn try_ban(&mut self, group: &str, id: &str) {
        if let Ours(s) = &self.program {
            let ban = json!({"account": s.account(), "conversation": group, "id": id});
            match s.try_rpc("conversation.ban", ban) {
                Ok(_) => {}
                Err(why) => println!("{}: {why}", self.host.name),
            }
        } else {
            self.ban(group, id);
        }
    }

    /// Takes a ban back, as an admin.
    pub fn unban(&mut self, group: &str, id: &str) {
        match &mut self.program {
            Ours(s) => {
                s.rpc(
                    "conversation.unban",
                    json!({"account": s.account(), "conversation": group, "id": id}),
                );
            }
            // Whom an admin invites is let back.
            Daemon(j) => j.add_member(group, id),
        }
    }

    /// Gives a group another title, as an admin.
    pub fn rename(&mut self, group: &str, title: &str) {
        match &mut self.program {
            Ours(s) => {
                s.rpc(
                    "conversation.update",
                    json!({"account": s.account(), "conversation": group, "title": title}),
                );
            }
            Daemon(j) => {
                let account = j.account();
                j.call(
                    "updateConversationInfos",
                    json!([account, group, {"title": title}]),
                );
            }
        }
    }

    /// Gives a group a description and a picture (in base64), as an admin.
    pub fn describe(&mut self, group: &str, description: &str, picture: &str) {
        match &mut self.program {
            Ours(s) => {
                let picture = format!("data:image/png;base64,{picture}");
                s.rpc(
                    "conversation.update",
                    json!({"account": s.account(), "conversation": group, "description": description, "avatar": picture}),
                );
            }
            Daemon(j) => {
                let account = j.account();
                let change = json!({"description": description, "avatar": picture});
                j.call("updateConversationInfos", json!([account, group, change]));
            }
        }
    }

    /// A group's description, and its picture in base64. A daemon's are read from its repository, see [`Self::title`].
    pub fn description(&mut self, group: &str) -> (String, String) {
        let [description, picture] = match &mut self.program {
            Ours(s) => {
                let shown = s.rpc(
                    "conversation.get",
                    json!({"account": s.account(), "conversation": group}),
                );
                ["description", "avatar"]
                    .map(|key| shown[key].as_str().unwrap_or_default().to_owned())
            }
            Daemon(_) => ["DESCRIPTION", "PHOTO"].map(|key| self.in_profile(group, key)),
        };
        let picture = match picture.split_once(";base64,") {
            Some((_, data)) => data.to_owned(),
            None => picture,
        };
        (description, picture)
    }

    /// A line of the profile in a daemon's repository of a group. Nothing: there is none.
    fn in_profile(&self, group: &str, key: &str) -> String {
        if !self.files(group).iter().any(|f| f == "profile.vcf") {
            return String::new();
        }
        let profile = git(
            &self.repository(group),
            &["show", "refs/heads/main:profile.vcf"],
        );
        let line = profile.lines().find_map(|l| {
            let (name, value) = l.split_once(':')?;
            (name.split(';').next() == Some(key)).then_some(value)
        });
        line.unwrap_or_default().to_owned()
    }

    /// Waits until a client shows a description and a picture.
    pub fn wait_description(&mut self, group: &str, description: &str, picture: &str) {
        let what = format!("{}: the description {description:?}", self.host.name);
        wait::until(&what, || {
            let (words, data) = self.description(group);
            (words == description && data == picture).then_some(())
        });
    }

    /// Writes a text. It is committed when this returns.
    pub fn send(&mut self, group: &str, body: &str) {
        match &mut self.program {
            Ours(s) => drop(s.send(group, body)),
            Daemon(j) => drop(j.send(group, body)),
        }
    }

    /// Writes many texts, one after the other. All are committed when this returns.
    pub fn send_all(&mut self, group: &str, bodies: impl IntoIterator<Item = String>) {
        match &mut self.program {
            Ours(s) => {
                let mut client = client::Client::new(s);
                for body in bodies {
                    client.send(group, &body);
                }
            }
            Daemon(j) => bodies.into_iter().for_each(|b| drop(j.send(group, &b))),
        }
    }

    /// Waits until a text is there.
    pub fn wait_text(&mut self, group: &str, body: &str) {
        match &mut self.program {
            Ours(s) => s.wait_text_or_history(group, body),
            Daemon(_) => {
                let what = format!("{}: the text {body:?}", self.host.name);
                wait::until(&what, || {
                    self.texts(group).iter().any(|t| t == body).then_some(())
                });
            }
        }
    }

    /// Waits until a group is there that another device of the same person is in.
    pub fn wait_ready(&self, group: &str) {
        match &self.program {
            Ours(s) => s.wait_ready(group),
            Daemon(j) => j.wait("the group", 0, |signal, args| {
                (signal == "conversationReady" && args["conversation_id"] == group).then_some(())
            }),
        }
    }

    /// Everybody with a role. A daemon's are read from its repository: it reads its list anew only when
    /// it sees a commit about members among those it fetched, and misses the ones that a merge of
    /// somebody else brings from the side.
    pub fn members(&self, group: &str) -> BTreeMap<String, String> {
        match &self.program {
            Ours(s) => {
                let list = s.rpc(
                    "conversation.members",
                    json!({"account": s.account(), "conversation": group}),
                );
                let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
                let list = list.as_array().cloned().unwrap_or_default();
                list.iter()
                    .map(|m| (text(&m["id"]), text(&m["role"])))
                    // Who left is in no file.
                    .filter(|(_, role)| role != "left")
                    .collect()
            }
            Daemon(_) => {
                let files = self.files(group);
                let role = |path: &str| match path {
                    "admins" => Some("admin"),
                    "members" => Some("member"),
                    "invited" => Some("invited"),
                    "banned/admins" | "banned/members" | "banned/invited" => Some("banned"),
                    _ => None,
                };
                let members = files.iter().filter_map(|file| {
                    let (path, name) = file.rsplit_once('/')?;
                    let id = name.strip_suffix(".crt").unwrap_or(name);
                    Some((id.to_owned(), role(path)?.to_owned()))
                });
                members.collect()
            }
        }
    }

    /// Waits until somebody has a role.
    pub fn wait_role(&self, group: &str, id: &str, role: &str) {
        let what = format!("{}: {id} to be {role} in {group}", self.host.name);
        wait::until(&what, || {
            (self.members(group).get(id).map(String::as_str) == Some(role)).then_some(())
        });
    }

    /// Waits until somebody is in no list any more, or only as one who is banned.
    pub fn wait_gone(&self, group: &str, id: &str) {
        let what = format!("{}: {id} to be gone from {group}", self.host.name);
        wait::until(&what, || {
            let role = self.members(group).remove(id);
            role.is_none_or(|r| r == "banned").then_some(())
        });
    }

    /// The group's title. A daemon's is read from its repository: when an invitation reaches it twice
    /// and is accepted in between, which only a test is fast enough for, its client goes on showing
    /// what the invitation said.
    pub fn title(&self, group: &str) -> String {
        match &self.program {
            Ours(s) => {
                let shown = s.rpc(
                    "conversation.get",
                    json!({"account": s.account(), "conversation": group}),
                );
                shown["title"].as_str().unwrap_or_default().to_owned()
            }
            Daemon(_) => self.in_profile(group, "FN"),
        }
    }

    /// Waits for a title.
    pub fn wait_title(&self, group: &str, title: &str) {
        let what = format!("{}: the title {title:?}", self.host.name);
        wait::until(&what, || (self.title(group) == title).then_some(()));
    }

    /// Where the repository is.
    pub fn repository(&self, group: &str) -> PathBuf {
        match &self.program {
            Ours(s) => s.repository(group),
            Daemon(j) => j.repository(group),
        }
    }

    /// The newest commit.
    pub fn head(&self, group: &str) -> String {
        git(&self.repository(group), &["rev-parse", "refs/heads/main"])
    }

    /// What the commits of the history say, but for merges, in an order that is the same for the same head.
    pub fn messages(&self, group: &str) -> Vec<Value> {
        let log = git(
            &self.repository(group),
            &[
                "log",
                "--topo-order",
                "--reverse",
                "--no-merges",
                "--format=%B%x00",
                "refs/heads/main",
            ],
        );
        let messages = log.split('\0').map(str::trim);
        messages
            .filter_map(|m| serde_json::from_str(m).ok())
            .collect()
    }

    /// The texts in the history, in that order.
    pub fn texts(&self, group: &str) -> Vec<String> {
        let messages = self.messages(group).into_iter();
        messages
            .filter(|m| m["type"] == "text/plain")
            .filter_map(|m| Some(m["body"].as_str()?.to_owned()))
            .collect()
    }

    /// The files of the group's newest commit.
    pub fn files(&self, group: &str) -> Vec<String> {
        let list = ["ls-tree", "-r", "--name-only", "refs/heads/main"];
        let files = git(&self.repository(group), &list);
        files.lines().map(String::from).collect()
    }

    /// How many merges the history has.
    pub fn merges(&self, group: &str) -> usize {
        let count = ["rev-list", "--merges", "--count", "refs/heads/main"];
        let count = git(&self.repository(group), &count);
        count.parse().expect("a number")
    }

    /// Ends the client in order.
    pub fn down(&mut self) {
        match &mut self.program {
            Ours(s) => s.down(),
            Daemon(j) => j.stop(),
        }
    }

    /// Starts it again with its data.
    pub fn up(&mut self) {
        match &mut self.program {
            Ours(s) => s.up(),
            Daemon(j) => {
                j.start_again(&self.boot);
                j.wait_registered();
            }
        }
    }

    /// The repository is sound by git's rules and ours, and nothing of anybody's was refused.
    pub fn check(&self, group: &str) {
        let name = &self.host.name;
        sound(name, &self.repository(group));
        match &self.program {
            Ours(s) => assert_eq!(s.rejections(), Vec::<Value>::new(), "{name}"),
            Daemon(j) => silent(j),
        }
    }
}

/// A repository is sound by git's rules.
pub fn fsck(repository: &Path) {
    git(repository, &["fsck", "--strict", "--full"]);
}

/// A repository is sound by git's rules and ours.
pub fn sound(name: &str, repository: &Path) {
    fsck(repository);
    let verify = Command::new(starling::binary())
        .arg("verify")
        .arg(repository)
        .output()
        .expect("starling runs");
    assert!(
        verify.status.success(),
        "{name}: {}{}",
        String::from_utf8_lossy(&verify.stdout),
        String::from_utf8_lossy(&verify.stderr)
    );
}

/// A daemon found nothing wrong with what it was given.
pub fn silent(daemon: &Jami) {
    let name = &daemon.host.name;
    assert_eq!(complaints(daemon), Vec::<String>::new(), "{name}");
}

fn git(path: &Path, args: &[&str]) -> String {
    let out = Command::new("git")
        .args(["-c", "safe.directory=*", "-C"])
        .arg(path)
        .args(args)
        .output()
        .expect("git runs");
    assert!(
        out.status.success(),
        "git {args:?} in {}: {}",
        path.display(),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// Waits until all have the same newest commit; then they have the same history and members.
pub fn wait_same(people: &[&mut Peer], group: &str) {
    let heads = |people: &[&mut Peer]| -> BTreeMap<String, String> {
        people
            .iter()
            .map(|p| (p.host.name.clone(), p.head(group)))
            .collect()
    };
    let same = |people: &[&mut Peer]| {
        let heads = heads(people);
        heads.values().collect::<BTreeSet<_>>().len() == 1
    };
    let what = || format!("the same head for all, which are {:#?}", heads(people));
    let end = std::time::Instant::now() + wait::PATIENCE;
    while !same(people) {
        assert!(
            std::time::Instant::now() < end,
            "waited {:?} for {}",
            wait::PATIENCE,
            what()
        );
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    // What clients show follows what they have.
    let end = std::time::Instant::now() + wait::PATIENCE;
    loop {
        let shown: Vec<_> = people
            .iter()
            .map(|p| (p.members(group), p.title(group)))
            .collect();
        if shown.windows(2).all(|w| w.first() == w.last()) {
            return;
        }
        assert!(
            std::time::Instant::now() < end,
            "waited {:?} for the same members and title for all: {shown:#?}",
            wait::PATIENCE
        );
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// Each of some people writes, and all of them read it.
pub fn say(people: &mut [&mut Peer], group: &str, what: &str) {
    let mut said = Vec::new();
    for who in people.iter_mut() {
        let text = format!("{what}: {}", who.host.name);
        who.send(group, &text);
        said.push(text);
    }
    for who in people.iter_mut() {
        for text in &said {
            who.wait_text(group, text);
        }
    }
}

/// All have the same, and it is sound.
pub fn agree(people: &mut [&mut Peer], group: &str) {
    wait_same(people, group);
    for who in people.iter() {
        who.check(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jami::loud;

    /// One line as the daemon prints it: grave or not, by that source.
    fn line(colour: &str, source: &str, words: &str) -> String {
        format!(
            "\u{1b}[22;36m[1795900825.114|24217|{source:<24}:87  ] \u{1b}[0m{colour}{words}\u{1b}[0m\n"
        )
    }

    #[test]
    fn every_complaint_is_noticed_and_what_is_harmless_is_not() {
        let [error, warning] = ["\u{1b}[22;31m", "\u{1b}[01;33m"];
        let judge = "conversationrepository.cpp";
        let mut log = String::from("ALSA lib: malformed\n");
        // What is no error, or says nothing of what came.
        for quiet in [
            line("", judge, "Malformed commit b, says the debugging"),
            line(error, "jamiaccount.cpp", "useIdentity failed!"),
            line(
                error,
                "conversation_module.cpp",
                "[Account a] [Conversation b] Remove conversation (b)",
            ),
            line(
                warning,
                "conversation.cpp",
                "[Account a] [Conversation b] Refreshing tracked members: 0/2 active (0/4 devices)",
            ),
            line(
                error,
                judge,
                "Merge operation aborted; Unable to automatically resolve conflicts",
            ),
            line(
                error,
                judge,
                &format!("{} announced but not found", "0a".repeat(32)),
            ),
        ] {
            log.push_str(&quiet);
        }
        assert_eq!(complaints_in(loud(&log)), []);
        // Only where it copies once more.
        let unsigned = line(
            error,
            judge,
            "[Account a] [Conversation b] Unable to sign commit",
        );
        let copies = line(
            warning,
            judge,
            "[Account a] Replacing pre-existing directory /b",
        );
        assert_eq!(complaints_in(loud(&unsigned)).len(), 1);
        assert_eq!(complaints_in(loud(&[copies, unsigned].concat())), []);
        // Also in words that nobody has thought of.
        for (colour, source, words) in [
            (error, judge, "Commit b not signed by device c."),
            (warning, judge, "[Account a] [Conversation b] what is this?"),
            (error, judge, "devices/b.crt announced but not found"),
            (
                error,
                "conversation_module.cpp",
                "[Account a] [Conversation b] Failed validation 3 times",
            ),
            (
                warning,
                "conversation_module.cpp",
                "Remote conversation failed validation",
            ),
            (error, "conversation.cpp", "No, Remove conversation"),
            (warning, "jamiaccount.cpp", "Malformed something"),
        ] {
            let with = format!("{log}{}{log}", line(colour, source, words));
            let heard = Loud {
                source: source.into(),
                words: words.into(),
                error: colour == error,
            };
            assert_eq!(complaints_in(loud(&with)), [heard]);
        }
    }
}
