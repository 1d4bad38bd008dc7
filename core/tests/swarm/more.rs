//! More ways to break the rules of what a commit, an author and a tree are: each condition of a rule
//! that one way alone does not show.

use super::{Cast, TEXT, fork, graft, member, refused};
use crate::swarm::{Device, Room};
use starling_core::crypto::SignatureAlgorithm;
use starling_core::git::object::{Mode, TreeEntry, write_tree};
use starling_core::id::ObjectId;
use starling_core::swarm::commit::Draft;
use starling_core::swarm::message::{Action, ConversationMode, Message};
use starling_core::swarm::object::{Kind, NewObject};
use starling_core::swarm::path::{Direction, TreePath};
use starling_core::swarm::tree::Trees;

pub type Files<'f> = Vec<(TreePath, Option<&'f [u8]>)>;

/// One commit on top of a room: refused by that rule.
pub(super) fn tries(
    room: &Room,
    rule: &str,
    by: &Device,
    text: &str,
    files: &[(TreePath, Option<&[u8]>)],
) {
    let mut room = room.clone();
    room.forge(by, text, files);
    let paths: Vec<String> = files.iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(refused(&room), rule, "{text} {paths:?}");
}

/// A conversation that begins with these files besides those that it has to: refused by that rule.
pub(super) fn begins(by: &Device, rule: &str, text: &str, files: &[(TreePath, Option<&[u8]>)]) {
    let mut room = Room::create(by, ConversationMode::InvitesOnly, None);
    let tree = room.changed(files);
    room.forge_tree(by, text, tree, vec![]);
    room.conversation = room.head.into();
    let paths: Vec<String> = files.iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(refused(&room), rule, "{text} {paths:?}");
}

pub(super) const BEGIN: &str = r#"{"mode":2,"type":"initial"}"#;

/// A commit whose bytes are changed on the way: refused by that rule.
fn garbles(c: &Cast, rule: &str, what: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) {
    let mut room = c.room.clone();
    let draft = Draft {
        tree: room.tree(),
        parents: vec![room.head],
        name: "M",
        device: c.mallory.id(),
        time: room.now,
        message: TEXT,
    };
    let commit = draft.sign(&*c.mallory.key).unwrap();
    room.put(NewObject::new(Kind::Commit, change(commit.data)));
    assert_eq!(refused(&room), rule, "{what}");
}

/// The same with a text that is replaced.
fn replaces(c: &Cast, rule: &str, from: &str, to: &str) {
    garbles(c, rule, to, |data| {
        let text = String::from_utf8(data).unwrap();
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1).into_bytes()
    });
}

/// A tree that is written by hand: refused by that rule.
fn plants(c: &Cast, rule: &str, what: &str, tree: impl Fn(&mut Room) -> ObjectId) {
    let mut room = c.room.clone();
    let tree = tree(&mut room);
    room.forge_tree(&c.mallory, TEXT, tree, vec![room.head]);
    assert_eq!(refused(&room), rule, "{what}");
}

/// A directory with one entry.
fn directory(room: &mut Room, mode: Mode, name: &str, id: ObjectId) -> ObjectId {
    let entry = TreeEntry {
        mode,
        name: name.as_bytes(),
        id,
    };
    let bytes = write_tree(&mut [entry]);
    room.objects.insert(Kind::Tree, &bytes)
}

/// Ben is banned, or Ann has voted to let him back in as well.
pub(super) fn ben_is_banned(c: &mut Cast, back: bool) {
    let (ann, ben) = (c.ann.writer(), c.ben.account());
    let room = &mut c.room;
    room.write(|r, now| r.vote(&ann, Direction::Ban, ben, now))
        .unwrap();
    room.write(|r, now| r.resolve(&ann, Direction::Ban, ben, now))
        .unwrap();
    if back {
        room.write(|r, now| r.vote(&ann, Direction::Unban, ben, now))
            .unwrap();
    }
}

/// What breaks a rule in more ways.
pub type More = fn(&mut Cast, &str);

/// By the name of the rule.
pub const MORE: &[(&str, More)] = &[
    ("MissingObject", |c, rule| {
        // A parent; and files of all kinds.
        let mut room = c.room.clone();
        room.forge_tree(&c.mallory, TEXT, room.tree(), vec![ObjectId([7; 20])]);
        assert_eq!(refused(&room), rule);
        for (by, text, path) in [
            (
                &c.ann,
                r#"{"type":"application/update-profile"}"#,
                TreePath::Profile,
            ),
            (&c.mallory, TEXT, TreePath::device(c.mallory.id())),
            (&c.mallory, TEXT, TreePath::member(c.mallory.account())),
        ] {
            let mut room = c.room.clone();
            let edits = [(path, Some(ObjectId([7; 20])))].into();
            let (tree, new) = Trees::new(&room.objects)
                .change(Some(room.tree()), &edits)
                .unwrap();
            room.objects.extend(new);
            room.forge_tree(by, text, tree, vec![room.head]);
            assert_eq!(refused(&room), rule, "{path}");
        }
        plants(c, rule, "a directory", |room| {
            room.grafted(Mode::Tree, "votes", ObjectId([7; 20]))
        });
    }),
    ("MalformedCommit", |c, rule| {
        let (device, account) = (c.mallory.id().to_hex(), c.mallory.account().to_hex());
        // Two signatures, one on two lines, and what stands before it.
        replaces(c, rule, "\nsignature ", "\nsignature eA==\nsignature ");
        replaces(c, rule, "\nsignature ", "\nsignature eA==\n ");
        replaces(c, rule, "\nsignature ", "\ngpgsig ");
        replaces(c, rule, "\nsignature ", "\nmergetag x\nsignature ");
        replaces(c, rule, "\nauthor ", "\nauthor M <> 1 +0000\nauthor ");
        replaces(c, rule, "\ncommitter ", "\nparent 0\ncommitter ");
        // An address that is no device.
        replaces(c, rule, &format!("<{device}>"), &format!("<{account}>"));
        replaces(c, rule, &format!("<{device}>"), &format!("<{device}00>"));
        replaces(c, rule, &format!("<{device}>"), "<>");
        // Times and names that are none.
        replaces(c, rule, " +0000\ncommitter", " +00:00\ncommitter");
        replaces(c, rule, &format!("<{device}> "), &format!("<{device}> -"));
        replaces(c, rule, "author M <", "author M < <");
        replaces(c, rule, "author M <", "author M\0 <");
        garbles(c, rule, "no text", |mut data| {
            data.extend([0xff, 0xfe]);
            data
        });
        garbles(c, rule, "longer than any", |mut data| {
            data.resize((4 << 20) + 1, b' ');
            data
        });
    }),
    ("NotACommit", |c, rule| {
        let mut room = c.room.clone();
        let tree = room.tree();
        room.forge_tree(
            &c.mallory,
            &Message::merge(tree).to_text(),
            tree,
            vec![room.head, tree],
        );
        assert_eq!(refused(&room), rule);
    }),
    ("CommitterDiffers", |c, rule| {
        let time = c.room.now;
        let of = |text: String, from: &str, to: &str| {
            let (author, committer) = text.split_once("\ncommitter").unwrap();
            format!("{author}\ncommitter{}", committer.replacen(from, to, 1))
        };
        let device = c.mallory.id().to_hex();
        for (from, to) in [
            (format!(" {time} "), format!(" {} ", time + 1)),
            ("+0000".into(), "+0100".into()),
            (device, c.ben.id().to_hex()),
        ] {
            garbles(c, rule, &to, |data| {
                of(String::from_utf8(data).unwrap(), &from, &to).into_bytes()
            });
        }
    }),
    ("WrongSignature", |c, rule| {
        // With another hash, over more than the commit, and cut.
        let draft = Draft {
            tree: c.room.tree(),
            parents: vec![c.room.head],
            name: "M",
            device: c.mallory.id(),
            time: c.room.now,
            message: TEXT,
        };
        let sign = |algorithm, bytes: &[u8]| c.mallory.key.sign(algorithm, bytes).unwrap();
        let right = sign(SignatureAlgorithm::RsaPkcs1Sha512, &draft.to_sign());
        for signature in [
            sign(SignatureAlgorithm::RsaPkcs1Sha256, &draft.to_sign()),
            sign(
                SignatureAlgorithm::RsaPkcs1Sha512,
                &[&draft.to_sign()[..], b"\n"].concat(),
            ),
            right[1..].to_vec(),
            [&right[..], &[0]].concat(),
            vec![0; right.len()],
            vec![],
        ] {
            let mut room = c.room.clone();
            room.put(draft.signed(&signature));
            assert_eq!(refused(&room), rule, "{} bytes", signature.len());
        }
    }),
    ("DeviceNotAuthorised", |c, rule| {
        // Takes its own certificate away, merges or leaves without one, comes in without one.
        let own = (TreePath::device(c.mallory.id()), None);
        tries(&c.room, rule, &c.mallory, TEXT, &[own]);
        let cat = c.cat.account();
        tries(&c.room, rule, &c.cat, &member(Action::Remove, cat), &[]);
        let mut room = c.room.clone();
        room.write(|r, now| r.add(&c.ann.writer(), cat, now))
            .unwrap();
        let pem = c.cat.chain.account.pem();
        tries(
            &room,
            rule,
            &c.cat,
            &member(Action::Join, cat),
            &[
                (TreePath::invited(cat), None),
                (TreePath::member(cat), Some(pem.as_bytes())),
            ],
        );
        let (a, b) = fork(c);
        let tree = c.room.tree();
        c.room
            .forge_tree(&c.cat, &Message::merge(b).to_text(), tree, vec![a, b]);
        assert_eq!(refused(&c.room), rule);
    }),
    ("DeviceWithoutAccount", |c, rule| {
        let nameless = Device::load("mallory-nameless");
        begins(&nameless, rule, BEGIN, &[]);
        // The same key as one that has a name: what the certificate says counts, not who it was before.
        assert_eq!(nameless.id(), c.mallory.id());
    }),
    ("NotAMember", |c, rule| {
        let own = (TreePath::member(c.mallory.account()), None);
        tries(&c.room, rule, &c.mallory, TEXT, &[own]);
        // Merges what bans him, rightly, and was not there any more to do so.
        let base = c.room.clone();
        let (ann, mallory) = (c.ann.writer(), c.mallory.account());
        c.room
            .write(|r, now| r.vote(&ann, Direction::Ban, mallory, now))
            .unwrap();
        c.room
            .write(|r, now| r.resolve(&ann, Direction::Ban, mallory, now))
            .unwrap();
        let (banned, tree) = (c.room.head, c.room.tree());
        let mut other = base;
        let mine = other.say(&c.mallory, "no");
        c.room.objects.take_in(&other.objects);
        c.room.forge_tree(
            &c.mallory,
            &Message::merge(banned).to_text(),
            tree,
            vec![mine, banned],
        );
        assert_eq!(refused(&c.room), rule);
    }),
    ("MalformedTree", |c, rule| {
        let file = |name: &'static [u8]| TreeEntry {
            mode: Mode::File,
            name,
            id: ObjectId([1; 20]),
        };
        let raw = |bytes: Vec<u8>| move |room: &mut Room| room.objects.insert(Kind::Tree, &bytes);
        plants(
            c,
            rule,
            "a name twice",
            raw([write_tree(&mut [file(b"a")]), write_tree(&mut [file(b"a")])].concat()),
        );
        plants(c, rule, "a cut entry", raw(b"100644 a\0too short".to_vec()));
        plants(
            c,
            rule,
            "a mode that is none",
            raw([&b"100600 a\0"[..], &[1; 20]].concat()),
        );
        plants(
            c,
            rule,
            "a leading zero",
            raw([&b"0100644 a\0"[..], &[1; 20]].concat()),
        );
        plants(
            c,
            rule,
            "an empty name",
            raw([&b"100644 \0"[..], &[1; 20]].concat()),
        );
        for name in [".", "..", ".git", "a/b"] {
            plants(
                c,
                rule,
                name,
                raw(write_tree(&mut [TreeEntry {
                    mode: Mode::File,
                    name: name.as_bytes(),
                    id: ObjectId([1; 20]),
                }])),
            );
        }
        plants(c, rule, "an empty directory", |room| {
            let empty = room.objects.insert(Kind::Tree, b"");
            room.grafted(Mode::Tree, "votes", empty)
        });
        plants(c, rule, "a file that is called a directory", |room| {
            let blob = room.blob(b"x");
            room.grafted(Mode::Tree, "votes", blob)
        });
    }),
    ("UnknownPath", |c, rule| {
        for name in [
            "Profile.vcf",
            "profile.vcf.",
            "profile.vcf ",
            "con",
            "members.crt",
            "\u{202e}fcv.eliforp",
            "votes",
        ] {
            plants(c, rule, name, |room| graft(room, Mode::File, name));
        }
        let target = c.ben.account().to_hex();
        let long = c.ben.id().to_hex();
        // Directories that no conversation has, and files of directories that it has.
        for (names, file) in [
            (&["crls"][..], "x"),
            (&["Votes"], "x"),
            (&["invited"], "nobody"),
            (&["invited", "more"], &*target),
            (&["banned"], "x"),
            (&["banned", "invited"], "x.crt"),
            (&["votes"], "ban"),
            (&["votes", "ban"], &target),
            (&["votes", "forgive"], "x"),
            (&["votes", "ban", "members"], &target),
            (&["votes", "ban", "members", &target], "nobody"),
            (&["votes", "ban", "members", &target, &target], &target),
            (&["votes", "ban", "devices", &target], &target),
            (&["votes", "ban", "members", &long], &target),
            (&["attachments"], "x"),
        ] {
            plants(c, rule, &format!("{names:?} {file}"), |room| {
                let blob = room.blob(b"");
                let mut id = directory(room, Mode::File, file, blob);
                for name in names[1..].iter().rev() {
                    id = directory(room, Mode::Tree, name, id);
                }
                room.grafted(Mode::Tree, names[0], id)
            });
        }
    }),
    ("NotAPlainFile", |c, rule| {
        for mode in [Mode::Executable, Mode::Submodule, Mode::Link] {
            plants(c, rule, mode.as_str(), |room| {
                graft(room, mode, "profile.vcf")
            });
            plants(c, rule, mode.as_str(), |room| graft(room, mode, "votes"));
            plants(c, rule, mode.as_str(), |room| {
                let blob = room.blob(b"x");
                let invited = directory(room, mode, &"1".repeat(40), blob);
                room.grafted(Mode::Tree, "invited", invited)
            });
        }
    }),
    ("UnreadableCertificate", |c, rule| {
        let (mallory, cat) = (c.mallory.account(), c.cat.account());
        let account = c.cat.chain.account.pem();
        let much = account.repeat(40);
        for pem in [&b"no certificate"[..], b"", much.as_bytes()] {
            tries(
                &c.room,
                rule,
                &c.mallory,
                TEXT,
                &[(TreePath::member(mallory), Some(pem))],
            );
            tries(
                &c.room,
                rule,
                &c.mallory,
                TEXT,
                &[(TreePath::device(c.mallory.id()), Some(pem))],
            );
            begins(
                &c.ann,
                rule,
                BEGIN,
                &[(TreePath::admin(c.ann.account()), Some(pem))],
            );
            begins(
                &c.ann,
                rule,
                BEGIN,
                &[(TreePath::device(c.ann.id()), Some(pem))],
            );
        }
        c.room
            .write(|r, now| r.add(&c.ann.writer(), cat, now))
            .unwrap();
        let device = c.cat.chain.device.pem();
        tries(
            &c.room,
            rule,
            &c.cat,
            &member(Action::Join, cat),
            &[
                (TreePath::invited(cat), None),
                (TreePath::member(cat), Some(b"no certificate")),
                (TreePath::device(c.cat.id()), Some(device.as_bytes())),
            ],
        );
    }),
    ("CertificateMismatch", |c, rule| {
        let (mallory, cat) = (c.mallory.account(), c.cat.account());
        let (ben, device) = (c.ben.chain.account.pem(), c.cat.chain.device.pem());
        let other = Some(ben.as_bytes());
        tries(
            &c.room,
            rule,
            &c.mallory,
            TEXT,
            &[(TreePath::member(mallory), other)],
        );
        begins(
            &c.ann,
            rule,
            BEGIN,
            &[(TreePath::admin(c.ann.account()), other)],
        );
        begins(
            &c.ann,
            rule,
            BEGIN,
            &[(TreePath::device(c.ann.id()), Some(device.as_bytes()))],
        );
        c.room
            .write(|r, now| r.add(&c.ann.writer(), cat, now))
            .unwrap();
        tries(
            &c.room,
            rule,
            &c.cat,
            &member(Action::Join, cat),
            &[
                (TreePath::invited(cat), None),
                (TreePath::member(cat), other),
                (TreePath::device(c.cat.id()), Some(device.as_bytes())),
            ],
        );
    }),
    ("InitialIncomplete", |c, rule| {
        begins(&c.ann, rule, BEGIN, &[(TreePath::device(c.ann.id()), None)]);
        let pem = c.ann.writer().account_pem;
        begins(
            &c.ann,
            rule,
            BEGIN,
            &[
                (TreePath::admin(c.ann.account()), None),
                (TreePath::member(c.ann.account()), Some(&pem)),
            ],
        );
    }),
];
