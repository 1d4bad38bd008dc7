//! An account whose key is at hand, and the lists that it makes.

#![allow(dead_code, clippy::unwrap_used)]

use starling_bridge::crypto::AwsLc;
use starling_core::crypto::PrivateKey;
use starling_core::identity::{Archive, Identity, RevocationList, create_account};
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// An account with its archive, which makes devices and takes them back.
pub(crate) struct Owner {
    pub archive: Archive,
    pub key: Box<dyn PrivateKey>,
}

impl Owner {
    /// With its first device.
    pub(crate) fn new() -> (Self, Identity) {
        let (archive, first) =
            create_account(&AwsLc, now(), crate::account_support::keys()).unwrap();
        (Self::of(archive), first)
    }

    pub(crate) fn of(archive: Archive) -> Self {
        let key = archive.read_account_key(&AwsLc).unwrap();
        Self { archive, key }
    }

    pub(crate) fn device(&mut self) -> Identity {
        let key = crate::account_support::key_support::key();
        self.archive.new_device(&AwsLc, now(), key).unwrap()
    }

    pub(crate) fn list(
        &self,
        previous: Option<&RevocationList>,
        device: &Identity,
    ) -> RevocationList {
        let chain = &device.chain;
        let (key, account) = (self.key.as_ref(), &self.archive.certificates[0]);
        RevocationList::revoke(previous, &chain.device, account, key, &AwsLc, now()).unwrap()
    }
}

/// A list with another signature.
pub(crate) fn bent(list: &RevocationList) -> RevocationList {
    bent_by(list, 1)
}

/// The same, of several that differ.
pub(crate) fn bent_by(list: &RevocationList, n: u8) -> RevocationList {
    let mut der = list.der().to_vec();
    *der.last_mut().unwrap() ^= n;
    RevocationList::from_der(&der).unwrap()
}
