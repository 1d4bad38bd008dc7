//! Backups go both ways between a Starling and the Jami daemon of today, with a password and without:
//! whoever is made from one is the same person, and has their contacts and conversations. And a device
//! that a daemon or a Starling takes back is not let in by a Starling.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use starling_e2e::{Host, Jami, Lab, Peer, Starling, jami, needs, wait};
use std::path::{Path, PathBuf};

const PASSWORD: &str = "correct horse \u{fc}";

/// The backup of a Starling, in a file on another machine.
fn export(starling: &Starling, to: &Host, password: Option<&str>) -> PathBuf {
    let made = starling.rpc(
        "account.export",
        json!({"account": starling.account(), "password": password}),
    );
    let archive = made["archive"].as_str().expect("an archive");
    let bytes = STANDARD.decode(archive).expect("base64");
    let path = to.dir.join("backup.gz");
    std::fs::write(&path, bytes).expect("written");
    path
}

/// A Starling that takes a backup from a file; gives the Jami ID.
fn import(starling: &mut Starling, archive: &Path, password: Option<&str>) -> String {
    let archive = STANDARD.encode(std::fs::read(archive).expect("a backup"));
    starling.rpc(
        "account.import",
        json!({"archive": archive, "password": password}),
    );
    starling.adopt_account()
}

/// Two friends with a Starling each.
fn two_starlings() -> (Lab, Host, Peer, Peer) {
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let mut alice = Peer::starling(&mut lab, "alice", &boot);
    let mut bob = Peer::starling(&mut lab, "bob", &boot);
    alice.befriend(&mut bob);
    (lab, boot, alice, bob)
}

/// Whether a daemon shows this contact and this conversation.
fn wait_knows(daemon: &mut Jami, contact: &str, conversation: &str) {
    let account = daemon.account();
    wait::until("contact and conversation from the backup", || {
        let contacts = daemon.call("getContacts", json!([account]));
        let known = contacts.as_array()?.iter().any(|c| c["id"] == contact);
        let conversations = daemon.call("getConversations", json!([account]));
        let listed = conversations.as_array()?.contains(&json!(conversation));
        (known && listed).then_some(())
    });
}

#[test]
fn a_daemon_takes_over_the_backup_of_a_starling() {
    needs!(jami::missing());
    let (mut lab, boot, alice, bob) = two_starlings();
    let conversation = {
        let s = alice.as_starling();
        let list = s.rpc("conversation.list", json!({"account": s.account()}));
        list[0]["id"].as_str().expect("a conversation").to_owned()
    };
    for (name, password) in [("plain", None), ("sealed", Some(PASSWORD))] {
        let host = lab.host(name);
        let archive = export(alice.as_starling(), &host, password);
        let mut daemon = Jami::start(&host, &boot);
        let id = daemon.import_account(name, &boot, &archive, password.unwrap_or_default());
        assert_eq!(id, alice.id, "{name} is another person");
        wait_knows(&mut daemon, &bob.id, &conversation);
    }
}

#[test]
fn a_starling_takes_over_the_backup_of_a_daemon() {
    needs!(jami::missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let mut alice = Peer::starling(&mut lab, "alice", &boot);
    let mut bob = Peer::jami(&mut lab, "bob", &boot);
    alice.befriend(&mut bob);
    let account = bob.as_jami().account();
    for (name, password) in [("plain", None), ("sealed", Some(PASSWORD))] {
        let host = lab.host(name);
        let daemon = bob.as_jami();
        let path = match password {
            None => {
                let path = host.dir.join("backup.gz");
                let written = daemon.call("exportToFile", json!([account, path, ""]));
                assert_eq!(written, true, "{name}: no backup");
                path
            }
            // A daemon's backup is protected as the account is, and is a copy of its archive. The add-on
            // has no parameter for the password, so here it is the archive itself.
            Some(password) => {
                let changed = daemon.call("changeAccountPassword", json!([account, "", password]));
                assert_eq!(changed, true, "{name}: no password was set");
                let dir = daemon.host.dir.join("data/jami").join(&account);
                dir.join("archive.gz")
            }
        };
        let mut starling = Starling::start(&host, &boot);
        if password.is_some() {
            let archive = STANDARD.encode(std::fs::read(&path).expect("a backup"));
            let refused = starling.try_rpc("account.import", json!({"archive": archive}));
            let why = refused.expect_err("the backup has a password");
            assert!(why.contains("wrong_password"), "{why}");
        }
        assert_eq!(import(&mut starling, &path, password), bob.id, "{name}");
        let contacts = starling.rpc("contact.list", json!({"account": starling.account()}));
        let contacts = contacts.as_array().expect("a list");
        assert!(contacts.iter().any(|c| c["id"] == alice.id), "{contacts:?}");
        let list = || starling.rpc("conversation.list", json!({"account": starling.account()}));
        assert_eq!(list().as_array().map(Vec::len), Some(1), "{name}");
    }
}

/// Bob's laptop was made from a backup of his phone, and is taken back by it. Both are daemons.
#[test]
fn a_device_that_a_daemon_revokes_is_not_let_in() {
    needs!(jami::missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let mut alice = Peer::starling(&mut lab, "alice", &boot);
    let mut bob = Peer::jami(&mut lab, "bob", &boot);
    alice.befriend(&mut bob);
    let mut laptop = bob.second_device(&mut lab, "laptop");
    let device = {
        let daemon = laptop.as_jami();
        let details = daemon.call("getVolatileAccountDetails", json!([daemon.account()]));
        let device = details["Account.deviceID"].as_str();
        device.expect("a device").to_owned()
    };
    let owner = bob.id.clone();
    let of_laptop = |kind: &str| {
        alice.as_starling().wait(kind, |k, e: &Value| {
            (k == kind && e["id"] == owner && e["device"] == device).then_some(())
        });
    };
    of_laptop("device.added");
    let wait_log = |what: &[&str]| {
        wait::until(&format!("{what:?} in the log"), || {
            let log = alice.as_starling().log();
            let said = |line: &&str| what.iter().all(|w| line.contains(w));
            log.lines().any(|line| said(&line)).then_some(())
        });
    };
    let daemon = bob.as_jami();
    let account = daemon.account();
    daemon.call("revokeDevice", json!([account, device, ""]));
    of_laptop("device.revoked");
    wait_log(&["is not let in any more", &device]);
    // It goes on as if nothing had happened, and has something to say. (Not after a new start: a daemon that finds
    // itself revoked then makes a new device of the account that its archive holds.)
    let before = connections(alice.as_starling(), &device);
    // Its group may come all the same, by the phone: a daemon goes on with a device that it revoked.
    let theirs = laptop.create("From the laptop");
    laptop.invite(&theirs, &alice.id);
    comes_into_a_group_of(alice.as_starling(), &mut bob);
    assert_eq!(connections(alice.as_starling(), &device), before);
}

/// How often a device has come to be connected.
fn connections(who: &Starling, device: &str) -> usize {
    let log = who.log();
    let of_it = |l: &&str| l.contains(device) && l.contains("state: Connected");
    log.lines().filter(of_it).count()
}

/// The owner's phone is let in as before.
fn comes_into_a_group_of(who: &Starling, owner: &mut Peer) {
    let group = owner.create("From the phone");
    owner.invite(&group, &who.id());
    who.wait_request_for(&group);
    who.accept(&group);
    owner.wait_role(&group, &who.id(), "member");
    owner.send(&group, "it was stolen");
    who.wait_text_or_history(&group, "it was stolen");
}

/// Bob's laptop, a daemon, was made from a backup of his Starling, and is taken back by that.
#[test]
fn a_device_that_a_starling_revokes_is_not_let_in() {
    needs!(jami::missing());
    let (mut lab, boot, alice, mut bob) = two_starlings();
    let phone = bob.as_starling();
    let account = phone.account();
    phone.rpc(
        "account.changePassword",
        json!({"account": account, "new": PASSWORD}),
    );
    let host = lab.host("laptop");
    let archive = export(phone, &host, Some(PASSWORD));
    let mut laptop = Jami::start(&host, &boot);
    let id = laptop.import_account("laptop", &boot, &archive, PASSWORD);
    assert_eq!(id, bob.id);
    let details = laptop.call("getVolatileAccountDetails", json!([laptop.account()]));
    let device = details["Account.deviceID"].as_str().expect("a device");
    let of_laptop = |who: &Starling, kind: &str| {
        who.wait(kind, |k, e: &Value| {
            (k == kind && e["id"] == bob.id && e["device"] == device).then_some(())
        });
    };
    for who in [alice.as_starling(), phone] {
        of_laptop(who, "device.added");
    }

    let listed = |revoked: bool| {
        let list = phone.rpc("device.list", json!({"account": account}));
        let list = list.as_array().expect("a list").clone();
        let found = list.iter().find(|d| d["device"] == device);
        assert_eq!(found.expect("the laptop")["revoked"], revoked, "{list:?}");
    };
    listed(false);
    let revoke = |password: Value| {
        phone.try_rpc(
            "device.revoke",
            json!({"account": account, "device": device, "password": password}),
        )
    };
    for wrong in [Value::Null, json!("wrong")] {
        let why = revoke(wrong).expect_err("the account has a password");
        assert!(why.contains("wrong_password"), "{why}");
    }
    revoke(json!(PASSWORD)).expect("revoked");
    listed(true);
    for who in [alice.as_starling(), phone] {
        of_laptop(who, "device.revoked");
        wait::until("it in the log", || {
            let log = who.log();
            let said = |l: &str| l.contains("is not let in any more") && l.contains(device);
            log.lines().any(said).then_some(())
        });
    }
    // The list is one that daemons take: the laptop keeps it as its account's.
    let kept = host.dir.join("data/jami").join(laptop.account());
    let kept = kept.join("crls").join(&bob.id);
    wait::until("the list at the daemon", || {
        let mut files = std::fs::read_dir(&kept).ok()?.filter_map(Result::ok);
        let list = |f: std::fs::DirEntry| std::fs::read(f.path()).ok();
        files.find_map(|f| list(f).filter(|der| der.first() == Some(&0x30)))
    });
    // It goes on as if nothing had happened, and asks in vain.
    let before = [alice.as_starling(), phone].map(|who| connections(who, device));
    let theirs = laptop.start_conversation();
    laptop.add_member(&theirs, &alice.id);
    comes_into_a_group_of(alice.as_starling(), &mut bob);
    let asked = |who: &Starling| {
        let log = who.log();
        let of_it = |l: &str| l.contains("took back asks for a connection") && l.contains(device);
        log.lines().any(of_it)
    };
    let both = [alice.as_starling(), bob.as_starling()];
    wait::until("the daemon to ask", || asked(both[0]).then_some(()));
    assert_eq!(both.map(|who| connections(who, device)), before);
}
