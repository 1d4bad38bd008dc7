//! Keys for accounts of tests: of half the usual length, and made before, since making one takes a processor a
//! quarter of a second.

use starling_bridge::crypto::AwsLc;
use starling_core::crypto::{Crypto as _, PrivateKey};
use starling_core::identity::{AccountKeys, private_key_from_pem};
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Mutex;

/// Keys of nobody.
const MADE: &str = include_str!("../data/keys.pem");

/// A key that nobody else was given, neither in this process nor in one that runs beside it.
pub(crate) fn key() -> Box<dyn PrivateKey> {
    const END: &str = "-----END PRIVATE KEY-----\n";
    let made: Vec<_> = MADE.split_inclusive(END).collect();
    match taken(made.len()) {
        Some(n) => private_key_from_pem(&AwsLc, made[n].as_bytes()).unwrap(),
        None => AwsLc.generate_rsa(2048).unwrap(),
    }
}

/// A number below `all` that is this process's as long as it runs.
fn taken(all: usize) -> Option<usize> {
    /// How many this process has looked at; the files whose locks show which it has.
    static LOOKED: Mutex<(usize, Vec<File>)> = Mutex::new((0, Vec::new()));
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("keys");
    std::fs::create_dir_all(&dir).unwrap();
    // Others in each process, so that who has the smaller id is not the same each time.
    let first = usize::try_from(std::process::id()).unwrap();
    let (looked, held) = &mut *LOOKED.lock().unwrap();
    while *looked < all {
        let n = (first + *looked) % all;
        *looked += 1;
        let file = File::create(dir.join(n.to_string())).unwrap();
        match file.try_lock() {
            Ok(()) => {
                held.push(file);
                return Some(n);
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) => panic!("{}: {e}", dir.display()),
        }
    }
    None
}

/// Those of an account and its first device.
pub(crate) fn keys() -> AccountKeys {
    AccountKeys {
        ca: key(),
        account: key(),
        device: key(),
    }
}
