//! Every way to break a rule, as histories: each is refused by its name, wherever it is offered.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    dead_code,
    unreachable_pub,
    unused_macros
)]

use crate::swarm::{DAY, Device, Room};
use starling_core::crypto::SignatureAlgorithm;
use starling_core::git::object::{Mode, TreeEntry, write_tree};
use starling_core::id::{AccountId, ObjectId};
use starling_core::swarm::commit::Draft;
use starling_core::swarm::message::{Action, ConversationMode, Message};
use starling_core::swarm::misbehaviour::Misbehaviour;
use starling_core::swarm::object::{Kind, NewObject, Objects as _};
use starling_core::swarm::path::{Direction, Standing, Target, TreePath};
use starling_core::swarm::validate::{Limits, Validation};
use std::cell::RefCell;

/// Ann (admin) with her second device Dan, Ben and Mallory (members), Mallory's second device; Cat is a stranger.
pub struct Cast {
    pub ann: Device,
    pub dan: Device,
    pub ben: Device,
    pub cat: Device,
    pub mallory: Device,
    pub mallory2: Device,
    pub room: Room,
}

impl Cast {
    /// The cast with their group, made at that time; `others` are members as well.
    pub fn new(others: &[&Device], at: u64) -> Self {
        let load = Device::load;
        let (ann, ben, mallory) = (load("ann"), load("ben"), load("mallory"));
        let people: Vec<&Device> = [&ann, &ben, &mallory]
            .into_iter()
            .chain(others.iter().copied())
            .collect();
        let room = Room::group_at(&people, at);
        Self {
            ann,
            dan: load("dan"),
            ben,
            cat: load("cat"),
            mallory,
            mallory2: load("mallory2"),
            room,
        }
    }
}

#[path = "more.rs"]
mod more;
#[path = "more_people.rs"]
mod more_people;

const TEXT: &str = r#"{"body":"hi","type":"text/plain"}"#;

fn member(action: Action, who: AccountId) -> String {
    Message::member(action, who).to_text()
}

fn vote_path(target: Target, voter: &Device) -> TreePath {
    TreePath::Vote(Direction::Ban, target, voter.account())
}

fn as_member(who: &Device) -> Target {
    Target::Account(Standing::Member, who.account())
}

/// A history that is refused, and for what.
#[derive(Clone)]
pub struct Refused {
    pub room: Room,
    pub commit: ObjectId,
    pub rule: String,
}

thread_local! {
    static REFUSED: RefCell<Vec<Refused>> = const { RefCell::new(Vec::new()) };
}

/// The histories that [`refusal`] saw in this thread since the last time: to be offered to others.
pub fn take_refused() -> Vec<Refused> {
    REFUSED.take()
}

/// What histories may ask where they are judged here and where they are offered: less than is usual,
/// so that it is reached by histories that are soon made.
pub const LOW: Limits = Limits {
    commits: 600,
    steps: 500,
    steps_per_commit: 0,
};

/// The rule that refuses the room's history, which must otherwise name its author rightly.
fn refusal(room: &Room) -> Misbehaviour {
    let fault = room.valid_within(LOW).expect_err("this must be refused");
    assert!(
        fault.to_string().contains(&fault.commit.to_hex()),
        "{fault}"
    );
    let json = serde_json::to_value(&fault).unwrap();
    assert_eq!(json["rule"], fault.misbehaviour.name());
    REFUSED.with_borrow_mut(|list| {
        list.push(Refused {
            room: room.clone(),
            commit: fault.commit,
            rule: fault.misbehaviour.name(),
        });
    });
    *fault.misbehaviour
}

/// The name of the rule that refuses a room's history, which is kept for others as well.
fn refused(room: &Room) -> String {
    refusal(room).name()
}

/// Breaks a rule, that of this name, in all ways that there are.
pub fn break_fully(name: &str, breaks: fn(&mut Cast) -> Misbehaviour, c: &mut Cast) {
    let before = c.room.clone();
    assert_eq!(breaks(c).name(), name);
    c.room = before;
    let all = more::MORE.iter().chain(more_people::MORE);
    for (_, more) in all.filter(|(of, _)| *of == name) {
        more(c, name);
    }
}

/// How each rule is broken. A variant without a line here does not compile, nor does a line
/// without its variant; whoever wants a test a rule calls `for_each_rule!` with a macro `tests!`.
macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident($c:ident) $body:block)*) => {
        #[allow(non_snake_case)]
        pub mod breaks {
            use super::*;
            $($(#[$doc])* pub fn $name($c: &mut Cast) -> Misbehaviour $body)*
        }
        /// All rules by name, and what breaks them.
        pub const RULES: &[(&str, fn(&mut Cast) -> Misbehaviour)] =
            &[$((stringify!($name), breaks::$name)),*];
        const _: fn(&Misbehaviour) = |rule| match rule {
            $(Misbehaviour::$name { .. } => (),)*
        };
        macro_rules! for_each_rule {
            () => { tests! { $($name)* } };
        }
    };
}

rules! {
    MissingObject(c) {
        let lost = ObjectId([7; 20]);
        c.room.forge_tree(&c.mallory, TEXT, lost, vec![c.room.head]);
        refusal(&c.room)
    }
    TooManyCommits(c) {
        c.room.unsigned(&c.mallory, LOW.commits + 1);
        refusal(&c.room)
    }
    TooTangled(c) {
        // Too much in its first merge, whatever was walked before.
        c.room.tangle(&c.mallory, 251, 1, true);
        refusal(&c.room)
    }
    MalformedCommit(c) {
        let commit = c.room.objects.object(&c.room.head).unwrap().1;
        let text = String::from_utf8(commit).unwrap().replace("\ncommitter", "\nencoding latin1\ncommitter");
        c.room.put(NewObject::new(Kind::Commit, text.into_bytes()));
        refusal(&c.room)
    }
    NotACommit(c) {
        let blob = c.room.blob(b"");
        let tree = c.room.tree();
        c.room.forge_tree(&c.mallory, TEXT, tree, vec![blob]);
        refusal(&c.room)
    }
    CommitterDiffers(c) {
        let draft = Draft { tree: c.room.tree(), parents: vec![c.room.head], name: "M", device: c.mallory.id(), time: DAY, message: TEXT };
        let text = String::from_utf8(draft.to_sign()).unwrap().replace("committer M", "committer N");
        let signature = c.mallory.key.sign(SignatureAlgorithm::RsaPkcs1Sha512, text.as_bytes()).unwrap();
        use base64::Engine as _;
        let header = format!("\nsignature {}\n\n", base64::engine::general_purpose::STANDARD.encode(signature));
        c.room.put(NewObject::new(Kind::Commit, text.replacen("\n\n", &header, 1).into_bytes()));
        refusal(&c.room)
    }
    MalformedMessage(c) {
        let before = c.room.clone();
        for text in ["", "hi", "{}", r#"{"type":""}"#, r#"{"action":"promote","type":"member","uri":""}"#, "Merge commit 'x'"] {
            c.room = before.clone();
            c.room.forge(&c.mallory, text, &[]);
            assert_eq!(refusal(&c.room).name(), "MalformedMessage", "{text}");
        }
        refusal(&c.room)
    }
    UnknownMode(c) {
        let tree = c.room.tree();
        for mode in ["5", "-1", "\"public\""] {
            c.room.forge_tree(&c.ann, &format!(r#"{{"mode":{mode},"type":"initial"}}"#), tree, vec![]);
            c.room.conversation = c.room.head.into();
            assert_eq!(refusal(&c.room).name(), "UnknownMode", "{mode}");
        }
        // And without any.
        c.room.forge_tree(&c.ann, r#"{"type":"initial"}"#, tree, vec![]);
        c.room.conversation = c.room.head.into();
        refusal(&c.room)
    }
    ForeignRoot(c) {
        let mut other = Room::create(&c.mallory, ConversationMode::InvitesOnly, None);
        let (root, tree) = (other.head, c.room.tree());
        for (_, kind, data) in c.room.objects.iter() {
            other.objects.insert(kind, data);
        }
        other.conversation = c.room.conversation;
        other.forge_tree(&c.mallory, &Message::merge(root).to_text(), tree, vec![c.room.head, root]);
        refusal(&other)
    }
    SecondInitial(c) {
        c.room.forge(&c.mallory, r#"{"mode":3,"type":"initial"}"#, &[]);
        refusal(&c.room)
    }
    RootIsNotInitial(c) {
        let tree = c.room.tree();
        c.room.forge_tree(&c.mallory, TEXT, tree, vec![]);
        c.room.conversation = c.room.head.into();
        refusal(&c.room)
    }
    TooManyParents(c) {
        let (a, tree) = (c.room.head, c.room.tree());
        let b = c.room.say(&c.ben, "b");
        let d = c.room.say(&c.ben, "d");
        c.room.forge_tree(&c.mallory, "Merge commit 'x'", tree, vec![a, b, d]);
        refusal(&c.room)
    }

    MissingSignature(c) {
        let draft = Draft { tree: c.room.tree(), parents: vec![c.room.head], name: "M", device: c.mallory.id(), time: DAY, message: TEXT };
        let text = String::from_utf8(draft.signed(b"x").data).unwrap().replace("eA==", "not base64");
        let before = c.room.clone();
        c.room.put(NewObject::new(Kind::Commit, text.into_bytes()));
        assert_eq!(refusal(&c.room).name(), "MissingSignature");
        c.room = before;
        c.room.put(NewObject::new(Kind::Commit, draft.to_sign()));
        refusal(&c.room)
    }
    WrongSignature(c) {
        // In Ben's name, signed by Mallory.
        let draft = Draft { tree: c.room.tree(), parents: vec![c.room.head], name: "Ben", device: c.ben.id(), time: DAY, message: TEXT };
        let commit = draft.sign(&*c.mallory.key).unwrap();
        let before = c.room.clone();
        c.room.put(commit);
        assert_eq!(refusal(&c.room).name(), "WrongSignature");
        // The first commit is checked as well, which the daemon does not do.
        let mut forged = Room::create(&c.ann, ConversationMode::InvitesOnly, None);
        let draft = Draft { tree: forged.tree(), parents: vec![], name: "Ann", device: c.ann.id(), time: DAY + 5, message: r#"{"mode":2,"type":"initial"}"# };
        forged.put(draft.sign(&*c.mallory.key).unwrap());
        forged.conversation = forged.head.into();
        assert_eq!(refusal(&forged).name(), "WrongSignature");
        // And a signed commit under another message.
        c.room = before;
        let signed = c.room.say(&c.mallory, "signed");
        let text = String::from_utf8(c.room.objects.object(&signed).unwrap().1).unwrap();
        c.room.put(NewObject::new(Kind::Commit, text.replace("Mallory <", "Malory <").into_bytes()));
        refusal(&c.room)
    }
    DeviceNotAuthorised(c) {
        c.room.forge(&c.cat, TEXT, &[]);
        refusal(&c.room)
    }
    DeviceWithoutAccount(c) {
        let nameless = Device::load("mallory-nameless");
        let path = TreePath::device(nameless.id());
        let pem = nameless.chain.device.pem();
        c.room.forge(&nameless, TEXT, &[(path, Some(pem.as_bytes()))]);
        // Whoever knows the device from elsewhere takes it.
        let mut pinned = Validation::new(&c.room.objects, c.room.conversation, None, c.room.head).unwrap();
        pinned.pin([(nameless.id(), nameless.account())].into());
        assert!(pinned.next_batch(100).is_ok());
        refusal(&c.room)
    }
    NotAMember(c) {
        let pem = c.cat.chain.device.pem();
        let mut room = c.room.clone();
        c.room.forge(&c.cat, TEXT, &[(TreePath::device(c.cat.id()), Some(pem.as_bytes()))]);
        assert_eq!(refusal(&c.room).name(), "NotAMember");
        // Banned: the device's file is still there, the member's is not.
        room.write(|r, now| r.vote(&c.ann.writer(), Direction::Ban, c.mallory.account(), now)).unwrap();
        room.write(|r, now| r.resolve(&c.ann.writer(), Direction::Ban, c.mallory.account(), now)).unwrap();
        room.forge(&c.mallory, TEXT, &[]);
        refusal(&room)
    }
    BannedDevice(c) {
        let device = c.mallory2.id();
        c.room.say(&c.mallory2, "from the tablet");
        c.room.write(|r, now| r.vote(&c.ann.writer(), Direction::Ban, device, now)).unwrap();
        c.room.write(|r, now| r.resolve(&c.ann.writer(), Direction::Ban, device, now)).unwrap();
        let before = c.room.clone();
        // The account is a member still, and its other device may write.
        c.room.say(&c.mallory, "it was stolen");
        c.room.valid().unwrap();
        // To the daemon a device that brings its certificate along is as good as new.
        let pem = c.mallory2.writer().device_pem;
        let back = (TreePath::device(device), Some(&*pem));
        for (text, files) in [
            (TEXT.to_owned(), vec![back]),
            (member(Action::Add, c.cat.account()), vec![back, (TreePath::invited(c.cat.account()), Some(&b""[..]))]),
            (member(Action::Remove, c.mallory.account()), vec![(TreePath::member(c.mallory.account()), None)]),
        ] {
            c.room = before.clone();
            c.room.forge(&c.mallory2, &text, &files);
            assert_eq!(refusal(&c.room).name(), "BannedDevice", "{text}");
        }
        // Merging is writing.
        c.room = before.clone();
        let (a, b) = fork(c);
        let tree = c.room.changed(&[back]);
        c.room.forge_tree(&c.mallory2, &Message::merge(b).to_text(), tree, vec![a, b]);
        refusal(&c.room)
    }
    CertificateExpired(c) {
        let old = Device::load("mallory-old");
        let pem = old.chain.device.pem();
        c.room.forge(&old, TEXT, &[(TreePath::device(old.id()), Some(pem.as_bytes()))]);
        refusal(&c.room)
    }
    ForgedDevice(c) {
        // The certificate says Mallory's account signed it; somebody else did.
        let forged = Device::load("mallory-forged");
        let pem = forged.chain.device.pem();
        c.room.forge(&forged, TEXT, &[(TreePath::device(forged.id()), Some(pem.as_bytes()))]);
        refusal(&c.room)
    }

    MalformedTree(c) {
        let entry = |name: &'static [u8]| TreeEntry { mode: Mode::File, name, id: ObjectId([1; 20]) };
        let mut bytes = write_tree(&mut [entry(b"b")]);
        bytes.extend(write_tree(&mut [entry(b"a")]));
        let tree = c.room.objects.insert(Kind::Tree, &bytes);
        c.room.forge_tree(&c.mallory, TEXT, tree, vec![c.room.head]);
        refusal(&c.room)
    }
    UnknownPath(c) {
        let tree = graft(&mut c.room, Mode::File, "readme.txt");
        c.room.forge_tree(&c.mallory, TEXT, tree, vec![c.room.head]);
        refusal(&c.room)
    }
    NotAPlainFile(c) {
        let tree = graft(&mut c.room, Mode::Link, "profile.vcf");
        c.room.forge_tree(&c.ann, r#"{"type":"application/update-profile"}"#, tree, vec![c.room.head]);
        refusal(&c.room)
    }
    UnexpectedFile(c) {
        let cat = c.cat.chain.device.pem();
        let second = c.mallory2.chain.device.pem();
        let foreign = (TreePath::device(c.cat.id()), Some(cat.as_bytes()));
        let own_other = (TreePath::device(c.mallory2.id()), Some(second.as_bytes()));
        let invitation = (TreePath::invited(c.cat.account()), Some(&b""[..]));
        let profile = (TreePath::Profile, Some(&b"x"[..]));
        let gone = (TreePath::member(c.ben.account()), None);
        let text = Message::text("x", None).to_text();
        let own = c.room.say(&c.mallory, "mine");
        let edit = Message::edit("y", own).to_text();
        let before = c.room.clone();
        for (what, file) in [
            (&text, foreign), (&text, own_other), (&text, invitation), (&text, profile), (&text, gone),
            // The daemon does not look at the files of an edit at all.
            (&edit, profile), (&edit, gone),
            (&r#"{"type":"application/x-unknown"}"#.to_owned(), profile),
            (&member(Action::Add, c.cat.account()), profile),
            (&Message::Vote { uri: c.ben.account().to_hex() }.to_text(), profile),
        ] {
            c.room = before.clone();
            c.room.forge(&c.mallory, what, &[file]);
            assert_eq!(refusal(&c.room).name(), "UnexpectedFile", "{what} {}", file.0);
        }
        // The first commit has its two or three files.
        let mut room = Room::create(&c.ann, ConversationMode::InvitesOnly, None);
        let tree = room.changed(&[profile]);
        room.forge_tree(&c.ann, r#"{"mode":2,"type":"initial"}"#, tree, vec![]);
        room.conversation = room.head.into();
        assert_eq!(refusal(&room).name(), "UnexpectedFile");
        // A profile change changes the profile; leaving takes one's own; two votes are one too many.
        for (by, what, files) in [
            (&c.ann, r#"{"type":"application/update-profile"}"#.to_owned(), vec![profile, invitation]),
            (&c.mallory, member(Action::Remove, c.mallory.account()), vec![profile]),
            (&c.ann, Message::Vote { uri: c.ben.account().to_hex() }.to_text(), vec![
                (vote_path(as_member(&c.ben), &c.ann), Some(&b""[..])),
                (vote_path(as_member(&c.mallory), &c.ann), Some(&b""[..])),
            ]),
        ] {
            c.room = before.clone();
            c.room.forge(by, &what, &files);
            assert_eq!(refusal(&c.room).name(), "UnexpectedFile", "{what}");
        }
        Misbehaviour::UnexpectedFile(TreePath::Profile)
    }
    UnreadableCertificate(c) {
        c.room.forge(&c.dan, TEXT, &[(TreePath::device(c.dan.id()), Some(b"no certificate"))]);
        refusal(&c.room)
    }
    CertificateMismatch(c) {
        // Ben's file overwritten with another key's certificate; a device under another one's name.
        let pem = c.mallory2.chain.device.pem();
        c.room.forge(&c.mallory, TEXT, &[(TreePath::device(c.mallory.id()), Some(pem.as_bytes()))]);
        refusal(&c.room)
    }
    DeviceOfOtherAccount(c) {
        // A certificate of Mallory's key that names another account would be refused as not of a member; the
        // leaving one may touch his own device's file, and there the name counts.
        let nameless = Device::load("mallory-nameless");
        let pem = nameless.chain.device.pem();
        c.room.forge(&c.mallory, &member(Action::Remove, c.mallory.account()), &[
            (TreePath::device(c.mallory.id()), Some(pem.as_bytes())),
            (TreePath::member(c.mallory.account()), None),
        ]);
        refusal(&c.room)
    }

    InitialIncomplete(c) {
        let mut room = Room::create(&c.ann, ConversationMode::InvitesOnly, None);
        let tree = room.changed(&[(TreePath::admin(c.ann.account()), None)]);
        room.forge_tree(&c.ann, r#"{"mode":2,"type":"initial"}"#, tree, vec![]);
        room.conversation = room.head.into();
        refusal(&room)
    }
    InitialWithoutInvited(c) {
        let mut room = Room::create(&c.ann, ConversationMode::InvitesOnly, None);
        let tree = room.tree();
        room.forge_tree(&c.ann, r#"{"mode":0,"type":"initial"}"#, tree, vec![]);
        room.conversation = room.head.into();
        refusal(&room)
    }

    VoteByNonAdmin(c) {
        let target = as_member(&c.ben);
        c.room.forge(&c.mallory, &Message::Vote { uri: target.id() }.to_text(), &[(vote_path(target, &c.mallory), Some(b""))]);
        refusal(&c.room)
    }
    VoteInOtherName(c) {
        let target = as_member(&c.mallory);
        c.room.forge(&c.ann, &Message::Vote { uri: target.id() }.to_text(), &[(vote_path(target, &c.ben), Some(b""))]);
        refusal(&c.room)
    }
    VoteWithoutFile(c) {
        let pem = c.dan.chain.device.pem();
        c.room.forge(&c.dan, &Message::Vote { uri: c.ben.account().to_hex() }.to_text(), &[(TreePath::device(c.dan.id()), Some(pem.as_bytes()))]);
        refusal(&c.room)
    }
    VoteNotNew(c) {
        let target = as_member(&c.ben);
        c.room.write(|r, now| r.vote(&c.ann.writer(), Direction::Ban, c.ben.account(), now)).unwrap();
        c.room.forge(&c.ann, &Message::Vote { uri: target.id() }.to_text(), &[(vote_path(target, &c.ann), None)]);
        refusal(&c.room)
    }
    VoteFileNotEmpty(c) {
        let target = as_member(&c.ben);
        c.room.forge(&c.ann, &Message::Vote { uri: target.id() }.to_text(), &[(vote_path(target, &c.ann), Some(b"x"))]);
        refusal(&c.room)
    }
    VoteAboutSelf(c) {
        let before = c.room.clone();
        let target = Target::Account(Standing::Admin, c.ann.account());
        c.room.forge(&c.ann, &Message::Vote { uri: target.id() }.to_text(), &[(vote_path(target, &c.ann), Some(b""))]);
        assert_eq!(refusal(&c.room).name(), "VoteAboutSelf");
        c.room = before;
        let target = Target::Device(c.ann.id());
        c.room.forge(&c.ann, &Message::Vote { uri: target.id() }.to_text(), &[(vote_path(target, &c.ann), Some(b""))]);
        refusal(&c.room)
    }
    VoteAboutStranger(c) {
        let before = c.room.clone();
        for target in [as_member(&c.cat), Target::Device(c.cat.id())] {
            c.room = before.clone();
            c.room.forge(&c.ann, &Message::Vote { uri: target.id() }.to_text(), &[(vote_path(target, &c.ann), Some(b""))]);
            assert_eq!(refusal(&c.room).name(), "VoteAboutStranger");
        }
        refusal(&c.room)
    }
    VoteMessageDiffers(c) {
        c.room.forge(&c.ann, &Message::Vote { uri: c.ben.account().to_hex() }.to_text(), &[(vote_path(as_member(&c.mallory), &c.ann), Some(b""))]);
        refusal(&c.room)
    }

    BadMemberUri(c) {
        let before = c.room.clone();
        let cat = c.cat.account();
        for uri in [format!("jami:{cat}"), "0".repeat(40), String::new(), cat.to_hex()[1..].to_owned(), format!("{cat}00")] {
            c.room = before.clone();
            let text = Message::Member { action: Action::Add, uri: uri.clone() }.to_text();
            c.room.forge(&c.mallory, &text, &[(TreePath::invited(cat), Some(b""))]);
            assert_eq!(refusal(&c.room).name(), "BadMemberUri", "{uri}");
        }
        refusal(&c.room)
    }
    ThirdInOneToOne(c) {
        let mut room = Room::create(&c.ann, ConversationMode::OneToOne, Some(c.ben.account()));
        room.forge(&c.ann, &member(Action::Add, c.cat.account()), &[(TreePath::invited(c.cat.account()), Some(b""))]);
        assert_eq!(refusal(&room).name(), "ThirdInOneToOne");
        // Neither one nor two others with the first commit.
        let mut room = Room::create(&c.ann, ConversationMode::OneToOne, Some(c.ben.account()));
        let tree = room.changed(&[(TreePath::invited(c.cat.account()), Some(b""))]);
        let text = Message::initial(ConversationMode::OneToOne, Some(c.ben.account())).to_text();
        room.forge_tree(&c.ann, &text, tree, vec![]);
        room.conversation = room.head.into();
        assert_eq!(refusal(&room).name(), "UnexpectedFile");
        Misbehaviour::ThirdInOneToOne
    }
    AddSelf(c) {
        c.room.forge(&c.mallory, &member(Action::Add, c.mallory.account()), &[(TreePath::invited(c.mallory.account()), Some(b""))]);
        refusal(&c.room)
    }
    AddWithoutFile(c) {
        c.room.forge(&c.mallory, &member(Action::Add, c.cat.account()), &[]);
        refusal(&c.room)
    }
    InvitedFileNotEmpty(c) {
        c.room.forge(&c.mallory, &member(Action::Add, c.cat.account()), &[(TreePath::invited(c.cat.account()), Some(b"x"))]);
        refusal(&c.room)
    }
    AddBanned(c) {
        let clean = c.room.clone();
        c.room.write(|r, now| r.vote(&c.ann.writer(), Direction::Ban, c.ben.account(), now)).unwrap();
        c.room.write(|r, now| r.resolve(&c.ann.writer(), Direction::Ban, c.ben.account(), now)).unwrap();
        c.room.forge(&c.mallory, &member(Action::Add, c.ben.account()), &[(TreePath::invited(c.ben.account()), Some(b""))]);
        assert_eq!(refusal(&c.room).name(), "AddBanned");
        // Nor somebody whose invitation was banned, which the daemon's check forgets.
        let mut room = clean;
        room.write(|r, now| r.add(&c.mallory.writer(), c.cat.account(), now)).unwrap();
        room.write(|r, now| r.vote(&c.ann.writer(), Direction::Ban, c.cat.account(), now)).unwrap();
        room.write(|r, now| r.resolve(&c.ann.writer(), Direction::Ban, c.cat.account(), now)).unwrap();
        room.forge(&c.mallory, &member(Action::Add, c.cat.account()), &[(TreePath::invited(c.cat.account()), Some(b""))]);
        refusal(&room)
    }
    InviteByNonAdmin(c) {
        let mut room = Room::create(&c.ann, ConversationMode::AdminInvitesOnly, None);
        room.invite(&c.ann, &c.mallory);
        room.forge(&c.mallory, &member(Action::Add, c.cat.account()), &[(TreePath::invited(c.cat.account()), Some(b""))]);
        refusal(&room)
    }
    JoinWithoutInvite(c) {
        let (account, device) = (c.cat.chain.account.pem(), c.cat.chain.device.pem());
        c.room.forge(&c.cat, &member(Action::Join, c.cat.account()), &[
            (TreePath::member(c.cat.account()), Some(account.as_bytes())),
            (TreePath::device(c.cat.id()), Some(device.as_bytes())),
        ]);
        refusal(&c.room)
    }
    JoinKeepsInvite(c) {
        c.room.write(|r, now| r.add(&c.ann.writer(), c.cat.account(), now)).unwrap();
        let (account, device) = (c.cat.chain.account.pem(), c.cat.chain.device.pem());
        c.room.forge(&c.cat, &member(Action::Join, c.cat.account()), &[
            (TreePath::member(c.cat.account()), Some(account.as_bytes())),
            (TreePath::device(c.cat.id()), Some(device.as_bytes())),
        ]);
        refusal(&c.room)
    }
    JoinTwice(c) {
        // An admin does not become a member besides.
        let mut room = c.room.clone();
        room.forge(&c.mallory, &member(Action::Add, c.ann.account()), &[(TreePath::invited(c.ann.account()), Some(b""))]);
        room.valid().unwrap();
        let pem = c.ann.writer().account_pem;
        room.forge(&c.ann, &member(Action::Join, c.ann.account()), &[
            (TreePath::invited(c.ann.account()), None),
            (TreePath::member(c.ann.account()), Some(&pem)),
        ]);
        assert_eq!(refusal(&room).name(), "JoinTwice");
        let account = c.mallory.chain.account.pem();
        c.room.forge(&c.mallory, &member(Action::Join, c.mallory.account()), &[(TreePath::member(c.mallory.account()), Some(account.as_bytes()))]);
        refusal(&c.room)
    }
    JoinWithoutCertificate(c) {
        c.room.write(|r, now| r.add(&c.ann.writer(), c.cat.account(), now)).unwrap();
        let device = c.cat.chain.device.pem();
        c.room.forge(&c.cat, &member(Action::Join, c.cat.account()), &[
            (TreePath::invited(c.cat.account()), None),
            (TreePath::device(c.cat.id()), Some(device.as_bytes())),
        ]);
        refusal(&c.room)
    }
    JoinForOther(c) {
        c.room.write(|r, now| r.add(&c.ann.writer(), c.cat.account(), now)).unwrap();
        let account = c.cat.chain.account.pem();
        c.room.forge(&c.mallory, &member(Action::Join, c.cat.account()), &[
            (TreePath::invited(c.cat.account()), None),
            (TreePath::member(c.cat.account()), Some(account.as_bytes())),
        ]);
        refusal(&c.room)
    }
    RemoveOther(c) {
        c.room.forge(&c.mallory, &member(Action::Remove, c.ben.account()), &[(TreePath::member(c.ben.account()), None)]);
        refusal(&c.room)
    }
    RemoveWrites(c) {
        // Leaves as a member and comes back as an admin.
        let account = c.mallory.chain.account.pem();
        c.room.forge(&c.mallory, &member(Action::Remove, c.mallory.account()), &[
            (TreePath::member(c.mallory.account()), None),
            (TreePath::admin(c.mallory.account()), Some(account.as_bytes())),
        ]);
        refusal(&c.room)
    }
    RemoveWithoutEffect(c) {
        // Says goodbye and stays.
        let before = c.room.clone();
        for files in [vec![], vec![(TreePath::device(c.mallory.id()), None)]] {
            c.room = before.clone();
            c.room.forge(&c.mallory, &member(Action::Remove, c.mallory.account()), &files);
            assert_eq!(refusal(&c.room).name(), "RemoveWithoutEffect");
        }
        refusal(&c.room)
    }
    ForeignDevice(c) {
        c.room.forge(&c.mallory, &member(Action::Remove, c.mallory.account()), &[
            (TreePath::member(c.mallory.account()), None),
            (TreePath::device(c.ben.id()), None),
        ]);
        refusal(&c.room)
    }
    BanByNonAdmin(c) {
        let pem = c.ben.writer().account_pem;
        c.room.forge(&c.mallory, &member(Action::Ban, c.ben.account()), &[
            (TreePath::member(c.ben.account()), None),
            (TreePath::Banned(as_member(&c.ben)), Some(&pem)),
        ]);
        refusal(&c.room)
    }
    BanWithoutMajority(c) {
        let pem = c.ben.writer().account_pem;
        c.room.forge(&c.ann, &member(Action::Ban, c.ben.account()), &[
            (TreePath::member(c.ben.account()), None),
            (TreePath::Banned(as_member(&c.ben)), Some(&pem)),
        ]);
        refusal(&c.room)
    }
    BanWithoutEffect(c) {
        c.room.write(|r, now| r.vote(&c.ann.writer(), Direction::Ban, c.ben.account(), now)).unwrap();
        c.room.forge(&c.ann, &member(Action::Ban, c.ben.account()), &[(vote_path(as_member(&c.ben), &c.ann), None)]);
        refusal(&c.room)
    }
    BanChangesContent(c) {
        c.room.write(|r, now| r.vote(&c.ann.writer(), Direction::Ban, c.ben.account(), now)).unwrap();
        let before = c.room.clone();
        let (good, other) = (c.ben.writer().account_pem, c.ben.chain.account.pem());
        // Another content, nobody taken away, or taken away and brought back elsewhere.
        for files in [
            vec![(TreePath::member(c.ben.account()), None), (TreePath::Banned(as_member(&c.ben)), Some(other.as_bytes()))],
            vec![(TreePath::Banned(as_member(&c.ben)), Some(&*good))],
            vec![
                (TreePath::member(c.ben.account()), None),
                (TreePath::Banned(as_member(&c.ben)), Some(&*good)),
                (TreePath::admin(c.ben.account()), Some(&*good)),
            ],
        ] {
            c.room = before.clone();
            let mut files = files;
            files.push((vote_path(as_member(&c.ben), &c.ann), None));
            c.room.forge(&c.ann, &member(Action::Ban, c.ben.account()), &files);
            assert_eq!(refusal(&c.room).name(), "BanChangesContent");
        }
        // Unbanned and made an admin by the way: the daemon lets that pass.
        c.room = before;
        c.room.write(|r, now| r.resolve(&c.ann.writer(), Direction::Ban, c.ben.account(), now)).unwrap();
        c.room.write(|r, now| r.vote(&c.ann.writer(), Direction::Unban, c.ben.account(), now)).unwrap();
        let before = c.room.clone();
        let vote = TreePath::Vote(Direction::Unban, as_member(&c.ben), c.ann.account());
        for place in [vec![TreePath::admin(c.ben.account())], vec![TreePath::member(c.ben.account()), TreePath::admin(c.ben.account())]] {
            c.room = before.clone();
            let mut files = vec![(vote, None), (TreePath::Banned(as_member(&c.ben)), None)];
            files.extend(place.into_iter().map(|p| (p, Some(&*good))));
            c.room.forge(&c.ann, &member(Action::Unban, c.ben.account()), &files);
            assert_eq!(refusal(&c.room).name(), "BanChangesContent");
        }
        refusal(&c.room)
    }
    ProfileByNonAdmin(c) {
        c.room.forge(&c.mallory, r#"{"type":"application/update-profile"}"#, &[(TreePath::Profile, Some(b"x"))]);
        refusal(&c.room)
    }

    EditOfUnknown(c) {
        let before = c.room.clone();
        for text in [
            Message::edit("x", ObjectId([9; 20])).to_text(),
            r#"{"body":"x","edit":"nothing","type":"text/plain"}"#.to_owned(),
            r#"{"body":"x","edit":"nothing","type":"application/x-unknown"}"#.to_owned(),
            r#"{"body":"x","type":"application/edited-message"}"#.to_owned(),
        ] {
            c.room = before.clone();
            c.room.forge(&c.mallory, &text, &[]);
            assert_eq!(refusal(&c.room).name(), "EditOfUnknown", "{text}");
        }
        refusal(&c.room)
    }
    EditOfForeign(c) {
        let theirs = c.room.say(&c.ben, "mine");
        c.room.forge(&c.mallory, &Message::edit("x", theirs).to_text(), &[]);
        refusal(&c.room)
    }
    EditOfNonMessage(c) {
        let own = c.room.write(|r, now| r.add(&c.mallory.writer(), c.cat.account(), now)).unwrap();
        c.room.forge(&c.mallory, &Message::edit("x", own).to_text(), &[]);
        refusal(&c.room)
    }
    MessageInDocument(c) {
        let mut room = Room::create(&c.ann, ConversationMode::Document, None);
        room.forge(&c.ann, TEXT, &[]);
        refusal(&room)
    }
    CheckpointOutsideDocument(c) {
        c.room.forge(&c.ann, r#"{"body":"","type":"application/checkpoint"}"#, &[]);
        refusal(&c.room)
    }
    AttachmentMisnamed(c) {
        let mut room = Room::create(&c.ann, ConversationMode::Document, None);
        let blob = room.blob(b"picture");
        let checkpoint = r#"{"body":"","type":"application/checkpoint"}"#;
        room.forge(&c.ann, checkpoint, &[(TreePath::Attachment(blob), Some(b"picture"))]);
        assert!(room.valid().is_ok());
        room.forge(&c.ann, checkpoint, &[(TreePath::Attachment(ObjectId([1; 20])), Some(b"other"))]);
        refusal(&room)
    }

    MergeWithMessage(c) {
        let (a, b) = fork(c);
        let tree = c.room.tree();
        c.room.forge_tree(&c.mallory, TEXT, tree, vec![a, b]);
        refusal(&c.room)
    }
    MergeWithContent(c) {
        let (a, b) = fork(c);
        let tree = c.room.changed(&[(TreePath::Profile, Some(b"mine"))]);
        c.room.forge_tree(&c.mallory, &Message::merge(b).to_text(), tree, vec![a, b]);
        refusal(&c.room)
    }
    MergeUndoes(c) {
        // Mallory merges so that the ban of himself is as if it had not been: each path is as on
        // one of the sides, which is all the daemon asks.
        let (ann, mallory) = (&c.ann, &c.mallory);
        let base = c.room.clone();
        c.room.write(|r, now| r.vote(&ann.writer(), Direction::Ban, mallory.account(), now)).unwrap();
        c.room.write(|r, now| r.resolve(&ann.writer(), Direction::Ban, mallory.account(), now)).unwrap();
        let banned = c.room.head;
        let mut other = base.clone();
        let mine = other.say(mallory, "no");
        let unbanned = other.tree();
        for (_, kind, data) in other.objects.iter() {
            c.room.objects.insert(kind, data);
        }
        c.room.forge_tree(mallory, &Message::merge(banned).to_text(), unbanned, vec![mine, banned]);
        refusal(&c.room)
    }
}

/// Two heads from here; the room stays on the first.
fn fork(c: &mut Cast) -> (ObjectId, ObjectId) {
    let mut other = c.room.clone();
    other.now += 10;
    let b = other.say(&c.ben, "b");
    let a = c.room.say(&c.mallory, "a");
    for (_, kind, data) in other.objects.iter() {
        c.room.objects.insert(kind, data);
    }
    (a, b)
}

/// The head's tree with something at its top that has no business there.
fn graft(room: &mut Room, mode: Mode, name: &str) -> ObjectId {
    let id = room.blob(b"x");
    room.grafted(mode, name, id)
}
