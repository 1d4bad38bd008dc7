//! More ways to break the rules of votes, members, messages and merges: see [`super::more`].

use super::more::{BEGIN, Files, More, begins, ben_is_banned, tries};
use super::{Cast, TEXT, as_member, fork, member, refused, vote_path};
use crate::swarm::Room;
use starling_core::id::ObjectId;
use starling_core::swarm::message::{Action, ConversationMode, Message};
use starling_core::swarm::path::{Direction, Standing, Target, TreePath};
use std::cell::Cell;

/// By the name of the rule.
pub const MORE: &[(&str, More)] = &[
    ("UnexpectedFile", unexpected_files),
    ("VoteByNonAdmin", |c, rule| {
        let vote = |direction| TreePath::Vote(direction, as_member(&c.ben), c.mallory.account());
        let text = Message::Vote {
            uri: c.ben.account().to_hex(),
        }
        .to_text();
        tries(
            &c.room,
            rule,
            &c.mallory,
            &text,
            &[(vote(Direction::Unban), Some(b""))],
        );
        let device = Target::Device(c.ann.id());
        let text = Message::Vote { uri: device.id() }.to_text();
        tries(
            &c.room,
            rule,
            &c.mallory,
            &text,
            &[(vote_path(device, &c.mallory), Some(b""))],
        );
    }),
    ("VoteNotNew", |c, rule| {
        c.room
            .write(|r, now| r.vote(&c.ann.writer(), Direction::Ban, c.ben.account(), now))
            .unwrap();
        let text = Message::Vote {
            uri: c.ben.account().to_hex(),
        }
        .to_text();
        tries(
            &c.room,
            rule,
            &c.ann,
            &text,
            &[(vote_path(as_member(&c.ben), &c.ann), Some(b"again"))],
        );
    }),
    ("VoteFileNotEmpty", |c, rule| {
        ben_is_banned(c, false);
        let text = Message::Vote {
            uri: c.ben.account().to_hex(),
        }
        .to_text();
        let path = TreePath::Vote(Direction::Unban, as_member(&c.ben), c.ann.account());
        tries(&c.room, rule, &c.ann, &text, &[(path, Some(b"x"))]);
    }),
    ("VoteMessageDiffers", |c, rule| {
        let device = Target::Device(c.ben.id());
        let files: Files<'_> = vec![(vote_path(device, &c.ann), Some(b""))];
        for uri in [
            c.ben.account().to_hex(),
            c.mallory.id().to_hex(),
            String::new(),
        ] {
            tries(
                &c.room,
                rule,
                &c.ann,
                &Message::Vote { uri }.to_text(),
                &files,
            );
        }
    }),
    ("VoteAboutStranger", |c, rule| {
        // Who is banned is not there to be banned again.
        ben_is_banned(c, false);
        let text = Message::Vote {
            uri: c.ben.account().to_hex(),
        }
        .to_text();
        tries(
            &c.room,
            rule,
            &c.ann,
            &text,
            &[(vote_path(as_member(&c.ben), &c.ann), Some(b""))],
        );
    }),
    ("BadMemberUri", |c, rule| {
        for uri in ["", "jami:x", &"0".repeat(40), &c.mallory.id().to_hex()[1..]] {
            for (action, by) in [
                (Action::Join, &c.mallory),
                (Action::Remove, &c.mallory),
                (Action::Ban, &c.ann),
                (Action::Unban, &c.ann),
            ] {
                let text = Message::Member {
                    action,
                    uri: uri.into(),
                }
                .to_text();
                tries(&c.room, rule, by, &text, &[]);
            }
            let text = format!(r#"{{"invited":"{uri}","mode":0,"type":"initial"}}"#);
            if !uri.is_empty() {
                begins(&c.ann, rule, &text, &[]);
            }
        }
    }),
    ("InvitedFileNotEmpty", |c, rule| {
        let text = Message::initial(ConversationMode::OneToOne, Some(c.ben.account())).to_text();
        begins(
            &c.ann,
            rule,
            &text,
            &[(TreePath::invited(c.ben.account()), Some(b"x"))],
        );
    }),
    ("AddWithoutFile", |c, rule| {
        // Takes an invitation back.
        let cat = c.cat.account();
        c.room
            .write(|r, now| r.add(&c.ann.writer(), cat, now))
            .unwrap();
        tries(
            &c.room,
            rule,
            &c.mallory,
            &member(Action::Add, cat),
            &[(TreePath::invited(cat), None)],
        );
    }),
    ("JoinWithoutInvite", |c, rule| {
        // Comes back from a ban by himself, and an invitation that comes with the joining is none.
        ben_is_banned(c, false);
        let (pem, cat) = (c.ben.writer().account_pem, c.cat.account());
        tries(
            &c.room,
            rule,
            &c.ben,
            &member(Action::Join, c.ben.account()),
            &[(TreePath::member(c.ben.account()), Some(&pem))],
        );
        let (account, device) = (c.cat.chain.account.pem(), c.cat.chain.device.pem());
        tries(
            &c.room,
            rule,
            &c.cat,
            &member(Action::Join, cat),
            &[
                (TreePath::invited(cat), Some(b"")),
                (TreePath::member(cat), Some(account.as_bytes())),
                (TreePath::device(c.cat.id()), Some(device.as_bytes())),
            ],
        );
    }),
    ("RemoveWrites", |c, rule| {
        let mallory = c.mallory.account();
        tries(
            &c.room,
            rule,
            &c.mallory,
            &member(Action::Remove, mallory),
            &[
                (TreePath::member(mallory), None),
                (TreePath::invited(mallory), Some(b"")),
            ],
        );
    }),
    ("ForeignDevice", |c, rule| {
        // Others' devices go or come with somebody's ban.
        let ben = c.ben.account();
        let pem = c.ben.writer().account_pem;
        let (live, banned) = (TreePath::member(ben), TreePath::Banned(as_member(&c.ben)));
        let clean = c.room.clone();
        c.room
            .write(|r, now| r.vote(&c.ann.writer(), Direction::Ban, ben, now))
            .unwrap();
        tries(
            &c.room,
            rule,
            &c.ann,
            &member(Action::Ban, ben),
            &[
                (vote_path(as_member(&c.ben), &c.ann), None),
                (live, None),
                (banned, Some(&pem)),
                (TreePath::device(c.mallory.id()), None),
            ],
        );
        c.room = clean;
        ben_is_banned(c, true);
        let device = c.cat.chain.device.pem();
        tries(
            &c.room,
            rule,
            &c.ann,
            &member(Action::Unban, ben),
            &[
                (
                    TreePath::Vote(Direction::Unban, as_member(&c.ben), c.ann.account()),
                    None,
                ),
                (live, Some(&pem)),
                (banned, None),
                (TreePath::device(c.cat.id()), Some(device.as_bytes())),
            ],
        );
    }),
    ("BanByNonAdmin", |c, rule| {
        // Of the admin; of a device; and back again.
        let (ann, ben) = (c.ann.account(), c.ben.account());
        let pem = c.ann.writer().account_pem;
        let admin = Target::Account(Standing::Admin, ann);
        tries(
            &c.room,
            rule,
            &c.mallory,
            &member(Action::Ban, ann),
            &[
                (TreePath::admin(ann), None),
                (TreePath::Banned(admin), Some(&pem)),
            ],
        );
        let device = Target::Device(c.ben.id());
        let pem = c.ben.writer().device_pem;
        let text = Message::Member {
            action: Action::Ban,
            uri: device.id(),
        }
        .to_text();
        tries(
            &c.room,
            rule,
            &c.mallory,
            &text,
            &[
                (TreePath::Live(device), None),
                (TreePath::Banned(device), Some(&pem)),
            ],
        );
        ben_is_banned(c, true);
        let pem = c.ben.writer().account_pem;
        tries(
            &c.room,
            rule,
            &c.mallory,
            &member(Action::Unban, ben),
            &[
                (
                    TreePath::Vote(Direction::Unban, as_member(&c.ben), ann),
                    None,
                ),
                (TreePath::member(ben), Some(&pem)),
                (TreePath::Banned(as_member(&c.ben)), None),
            ],
        );
    }),
    ("BanWithoutMajority", |c, rule| {
        ben_is_banned(c, false);
        let pem = c.ben.writer().account_pem;
        tries(
            &c.room,
            rule,
            &c.ann,
            &member(Action::Unban, c.ben.account()),
            &[
                (TreePath::member(c.ben.account()), Some(&pem)),
                (TreePath::Banned(as_member(&c.ben)), None),
            ],
        );
    }),
    ("BanWithoutEffect", |c, rule| {
        let device = Target::Device(c.ben.id());
        let clean = c.room.clone();
        c.room
            .write(|r, now| r.vote(&c.ann.writer(), Direction::Ban, c.ben.id(), now))
            .unwrap();
        let text = Message::Member {
            action: Action::Ban,
            uri: device.id(),
        }
        .to_text();
        tries(
            &c.room,
            rule,
            &c.ann,
            &text,
            &[(vote_path(device, &c.ann), None)],
        );
        c.room = clean;
        ben_is_banned(c, true);
        let vote = TreePath::Vote(Direction::Unban, as_member(&c.ben), c.ann.account());
        tries(
            &c.room,
            rule,
            &c.ann,
            &member(Action::Unban, c.ben.account()),
            &[(vote, None)],
        );
    }),
    ("BanChangesContent", |c, rule| {
        let device = Target::Device(c.ben.id());
        c.room
            .write(|r, now| r.vote(&c.ann.writer(), Direction::Ban, c.ben.id(), now))
            .unwrap();
        let other = c.mallory.writer().device_pem;
        let text = Message::Member {
            action: Action::Ban,
            uri: device.id(),
        }
        .to_text();
        tries(
            &c.room,
            rule,
            &c.ann,
            &text,
            &[
                (vote_path(device, &c.ann), None),
                (TreePath::Live(device), None),
                (TreePath::Banned(device), Some(&other)),
            ],
        );
    }),
    ("ProfileByNonAdmin", |c, rule| {
        let text = r#"{"type":"application/update-profile"}"#;
        c.room
            .forge(&c.ann, text, &[(TreePath::Profile, Some(b"ours"))]);
        tries(
            &c.room,
            rule,
            &c.mallory,
            text,
            &[(TreePath::Profile, None)],
        );
        tries(&c.room, rule, &c.mallory, text, &[]);
    }),
    ("EditOfUnknown", |c, rule| {
        // A file, a tree, and what comes later.
        let tree = c.room.tree();
        tries(
            &c.room,
            rule,
            &c.mallory,
            &Message::edit("x", tree).to_text(),
            &[],
        );
        tries(&c.room, rule, &c.mallory, &deletes(ObjectId([9; 20])), &[]);
    }),
    ("EditOfForeign", |c, rule| {
        let theirs = c.room.forge(&c.ben, FILE, &[]);
        tries(&c.room, rule, &c.mallory, &deletes(theirs), &[]);
        let text = format!(r#"{{"body":"x","edit":"{theirs}","type":"application/x-unknown"}}"#);
        tries(&c.room, rule, &c.mallory, &text, &[]);
        // Admins have no part in it.
        tries(
            &c.room,
            rule,
            &c.ann,
            &Message::edit("x", theirs).to_text(),
            &[],
        );
    }),
    ("EditOfNonMessage", |c, rule| {
        let (mallory, cat) = (c.mallory.writer(), c.cat.account());
        let invites = c.room.write(|r, now| r.add(&mallory, cat, now)).unwrap();
        tries(&c.room, rule, &c.mallory, &deletes(invites), &[]);
        let call = c.room.forge(
            &c.mallory,
            r#"{"duration":"5","to":"x","type":"application/call-history+json"}"#,
            &[],
        );
        tries(
            &c.room,
            rule,
            &c.mallory,
            &Message::edit("x", call).to_text(),
            &[],
        );
        let unknown = c
            .room
            .forge(&c.mallory, r#"{"type":"application/x-unknown"}"#, &[]);
        tries(
            &c.room,
            rule,
            &c.mallory,
            &Message::edit("x", unknown).to_text(),
            &[],
        );
    }),
    ("MessageInDocument", |c, rule| {
        for text in [
            FILE,
            r#"{"type":"application/x-unknown"}"#,
            r#"{"duration":"5","to":"x","type":"application/call-history+json"}"#,
        ] {
            tries(&document(c), rule, &c.ann, text, &[]);
        }
    }),
    ("AttachmentMisnamed", |c, rule| {
        // Nor is one taken away.
        for after in [None, Some(&b"another"[..])] {
            let mut room = document(c);
            let blob = room.blob(b"picture");
            let path = TreePath::Attachment(blob);
            room.forge(&c.ann, CHECKPOINT, &[(path, Some(b"picture"))]);
            tries(&room, rule, &c.ann, CHECKPOINT, &[(path, after)]);
        }
    }),
    ("MergeWithContent", |c, rule| {
        let (a, b) = fork(c);
        let merge = Message::merge(b).to_text();
        let clean = c.room.clone();
        let pem = c.cat.chain.account.pem();
        for files in [
            vec![(TreePath::member(c.ben.account()), None)],
            vec![(TreePath::admin(c.mallory.account()), Some(pem.as_bytes()))],
            vec![(TreePath::invited(c.cat.account()), Some(&b""[..]))],
            vec![(vote_path(as_member(&c.ben), &c.ann), Some(&b""[..]))],
        ] {
            let mut room = clean.clone();
            let tree = room.changed(&files);
            room.forge_tree(&c.mallory, &merge, tree, vec![a, b]);
            assert_eq!(refused(&room), rule, "{}", files[0].0);
        }
    }),
    ("MergeUndoes", |c, rule| {
        // In whichever order the parents stand, whatever it is that is undone.
        let base = c.room.clone();
        let cat = c.cat.account();
        let text = r#"{"type":"application/update-profile"}"#;
        let mut sides = Vec::new();
        let mut invited = base.clone();
        invited
            .write(|r, now| r.add(&c.ann.writer(), cat, now))
            .unwrap();
        sides.push(invited);
        let mut titled = base.clone();
        titled.forge(&c.ann, text, &[(TreePath::Profile, Some(b"title"))]);
        sides.push(titled);
        let mut voted = base.clone();
        voted
            .write(|r, now| r.vote(&c.ann.writer(), Direction::Ban, c.ben.account(), now))
            .unwrap();
        sides.push(voted);
        for side in sides {
            let mut other = base.clone();
            let mine = other.say(&c.mallory, "no");
            let tree = other.tree();
            other.objects.take_in(&side.objects);
            other.now = other.now.max(side.now);
            for parents in [vec![mine, side.head], vec![side.head, mine]] {
                let mut room = other.clone();
                let merge = Message::merge(parents[1]).to_text();
                room.forge_tree(&c.mallory, &merge, tree, parents);
                assert_eq!(refused(&room), rule);
            }
        }
    }),
];

const FILE: &str = r#"{"displayName":"f","sha3sum":"0","tid":"7","totalSize":"1","type":"application/data-transfer+json"}"#;
const CHECKPOINT: &str = r#"{"body":"","type":"application/checkpoint"}"#;

thread_local! {
    static DOCUMENTS: Cell<u64> = const { Cell::new(0) };
}

/// A document of Ann's: another one each time.
fn document(c: &Cast) -> Room {
    let at = c.room.now + DOCUMENTS.replace(DOCUMENTS.get() + 1);
    Room::create_at(&c.ann, ConversationMode::Document, None, at)
}

/// A file that is to be gone.
fn deletes(id: ObjectId) -> String {
    Message::FileDeletion { edit: id.to_hex() }.to_text()
}

fn unexpected_files(c: &mut Cast, rule: &str) {
    let (ann, ben, cat, mallory) = (
        c.ann.account(),
        c.ben.account(),
        c.cat.account(),
        c.mallory.account(),
    );
    let ben_pem = c.ben.writer().account_pem;
    let (cat_pem, cat_device) = (c.cat.chain.account.pem(), c.cat.chain.device.pem());
    let (dan_device, second) = (c.dan.chain.device.pem(), c.mallory2.chain.device.pem());
    let mallory_pem = c.mallory.writer().account_pem;
    let profile = (TreePath::Profile, Some(&b"x"[..]));
    let invitation = (TreePath::invited(cat), Some(&b""[..]));
    let vote = (vote_path(as_member(&c.mallory), &c.ann), Some(&b""[..]));
    let foreign = (TreePath::device(c.cat.id()), Some(cat_device.as_bytes()));

    // The first commit: no second device, no second admin, nobody who is there or banned already.
    for file in [
        foreign,
        (TreePath::admin(ben), Some(&*ben_pem)),
        (TreePath::member(ben), Some(&*ben_pem)),
        invitation,
        vote,
        (TreePath::Banned(as_member(&c.ben)), Some(&*ben_pem)),
        (TreePath::device(c.dan.id()), Some(dan_device.as_bytes())),
    ] {
        begins(&c.ann, rule, BEGIN, &[file]);
    }
    // Nobody makes themselves an admin, nor writes votes or bans with a message of another kind.
    let own = c.room.forge(&c.mallory, FILE, &[]);
    for text in [
        TEXT,
        FILE,
        &*deletes(own),
        &Message::reaction("x", own).to_text(),
        r#"{"duration":"5","to":"x","type":"application/call-history+json"}"#,
    ] {
        for file in [
            (TreePath::admin(mallory), Some(&*mallory_pem)),
            (vote_path(as_member(&c.ben), &c.mallory), Some(&b""[..])),
            (TreePath::Banned(as_member(&c.ben)), Some(&*ben_pem)),
            (TreePath::device(c.ben.id()), None),
            profile,
        ] {
            tries(&c.room, rule, &c.mallory, text, &[file]);
        }
    }
    // Leaving takes nobody else along.
    let leaves = (TreePath::member(mallory), None);
    for file in [
        (TreePath::member(ben), None),
        invitation,
        (TreePath::Banned(as_member(&c.ben)), Some(&*ben_pem)),
        foreign,
    ] {
        tries(
            &c.room,
            rule,
            &c.mallory,
            &member(Action::Remove, mallory),
            &[leaves, file],
        );
    }
    // Joining brings oneself.
    let mut room = c.room.clone();
    room.write(|r, now| r.add(&c.ann.writer(), cat, now))
        .unwrap();
    let joins = [
        (TreePath::invited(cat), None),
        (TreePath::member(cat), Some(cat_pem.as_bytes())),
        foreign,
    ];
    for file in [
        profile,
        (TreePath::admin(cat), Some(cat_pem.as_bytes())),
        (TreePath::member(ben), None),
        (TreePath::device(c.mallory2.id()), Some(second.as_bytes())),
        vote,
    ] {
        let files = [&joins[..], &[file]].concat();
        tries(&room, rule, &c.cat, &member(Action::Join, cat), &files);
    }
    // Bans move the one that they are about.
    let clean = c.room.clone();
    let votes = |direction| TreePath::Vote(direction, as_member(&c.ben), ann);
    let other_way = (votes(Direction::Unban), Some(&b""[..]));
    let text = Message::Vote { uri: ben.to_hex() }.to_text();
    c.room = clean.clone();
    c.room.forge(&c.ann, &text, &[other_way]);
    c.room.valid().unwrap();
    c.room
        .write(|r, now| r.vote(&c.ann.writer(), Direction::Ban, ben, now))
        .unwrap();
    let bans = [
        (votes(Direction::Ban), None),
        (TreePath::member(ben), None),
        (TreePath::Banned(as_member(&c.ben)), Some(&*ben_pem)),
    ];
    let all = [
        profile,
        invitation,
        vote,
        (TreePath::member(mallory), None),
        (TreePath::Banned(as_member(&c.mallory)), Some(&*mallory_pem)),
        foreign,
        (TreePath::Attachment(ObjectId([1; 20])), Some(&b"x"[..])),
    ];
    for file in all.iter().chain(&[(votes(Direction::Unban), None)]) {
        let files = [&bans[..], &[*file]].concat();
        tries(&c.room, rule, &c.ann, &member(Action::Ban, ben), &files);
    }
    c.room = clean;
    ben_is_banned(c, true);
    let votes = |direction| TreePath::Vote(direction, as_member(&c.ben), ann);
    let back = [
        (votes(Direction::Unban), None),
        (TreePath::member(ben), Some(&*ben_pem)),
        (TreePath::Banned(as_member(&c.ben)), None),
    ];
    let renewed = format!("renewed\n{}", c.mallory.chain.device.pem());
    let of_other = (TreePath::device(c.mallory.id()), Some(renewed.as_bytes()));
    // (A device that is new here, of somebody else, is told apart by its name.)
    for file in all
        .iter()
        .filter(|f| f.0 != foreign.0)
        .chain(&[(votes(Direction::Ban), Some(&b""[..])), of_other])
    {
        let files = [&back[..], &[*file]].concat();
        tries(&c.room, rule, &c.ann, &member(Action::Unban, ben), &files);
    }
    // Documents keep their devices, and have attachments, no more.
    for file in [
        profile,
        invitation,
        vote,
        foreign,
        (TreePath::device(c.dan.id()), None),
        (TreePath::admin(ben), Some(&*ben_pem)),
    ] {
        let mut room = document(c);
        let dan = (TreePath::device(c.dan.id()), Some(dan_device.as_bytes()));
        room.forge(&c.dan, CHECKPOINT, &[dan]);
        room.valid().unwrap();
        tries(&room, rule, &c.ann, CHECKPOINT, &[file]);
    }
}
