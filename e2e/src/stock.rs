//! Accounts that were made once, for tests that are not about making one.
//!
//! `e2e/accounts` has backups, without a password, of nobody with nothing: whoever takes one over makes the key of a
//! device instead of three keys. What a program has made of one is kept in the target directory, for each name and machine of
//! a lab, and is put in place the next time: a key of 4096 bits takes a processor three seconds, and there are
//! hundreds of devices in these tests.

use crate::Host;
use std::path::{Path, PathBuf};

/// The backup for the one account of this machine; each machine of a lab has another.
pub fn backup(host: &Host) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("accounts/{}.gz", number(host)));
    assert!(
        path.is_file(),
        "{}: a lab with so many machines has no account for this one: let it make its own",
        host.name
    );
    path
}

fn number(host: &Host) -> u8 {
    let [.., n] = host.addr.octets();
    n
}

/// What a program keeps of an account that it took over, and did nothing else with.
pub struct Stock(PathBuf);

impl Stock {
    /// That of a program for the account of this machine, with this name.
    pub fn of(program: &str, host: &Host, name: &str) -> Self {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
            PathBuf::from,
        );
        let name: String = name.bytes().map(|b| format!("{b:02x}")).collect();
        Self(target.join(format!("accounts/{program}-{}-{name}", number(host))))
    }

    /// Puts these directories where the program looks for them, if they were kept. Says whether they were.
    pub fn bring(&self, directories: &[(&str, &Path)]) -> bool {
        let there = self.0.is_dir();
        for (name, place) in directories.iter().filter(|_| there) {
            copy(&self.0.join(name), place);
        }
        there
    }

    /// Keeps these directories of a program that is down.
    pub fn keep(&self, directories: &[(&str, &Path)]) {
        let parent = self.0.parent().expect("a directory above");
        std::fs::create_dir_all(parent).expect("a directory");
        let new = tempfile::tempdir_in(parent).expect("a directory");
        for (name, place) in directories {
            copy(place, &new.path().join(name));
        }
        // Another test may have been quicker.
        if std::fs::rename(new.path(), &self.0).is_ok() {
            let _ = new.keep();
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    let done = std::process::Command::new("cp")
        .arg("-a")
        .arg(from.join("."))
        .arg(to)
        .status();
    assert!(
        done.expect("cp runs").success(),
        "{} is copied",
        from.display()
    );
}
