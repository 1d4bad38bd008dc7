//! Who someone is: keys, certificates, their chain, what an archive holds.
//!
//! An account is its key: the Jami ID is the key's hash. The account key signs a
//! certificate for each device, and a device shows the chain device, account, CA.

mod certificate;
mod chain;
mod der;
mod keys;
mod pem;
mod revocation;

pub use certificate::{Certificate, CertificateError, MAX_CERTIFICATE_LEN};
pub use chain::{CertificateChain, ChainError, MAX_CHAIN_CERTIFICATES, MAX_CHAIN_LEN};
pub use der::DerError;
pub use keys::{private_key_from_pem, private_key_to_pem};
pub use revocation::{MAX_REVOCATION_LIST_LEN, RevocationError, RevocationList, Revoked};
