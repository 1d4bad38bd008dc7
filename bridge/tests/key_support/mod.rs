//! Keys for accounts of tests.

use starling_bridge::crypto::AwsLc;
use starling_core::identity::AccountKeys;

/// Keys of half the usual length: made in a moment.
pub(crate) fn keys() -> AccountKeys {
    let mut keys = AwsLc.generate_rsa_keys(2048, 3).unwrap().into_iter();
    AccountKeys {
        ca: keys.next().unwrap(),
        account: keys.next().unwrap(),
        device: keys.next().unwrap(),
    }
}
