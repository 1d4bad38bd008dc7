//! Who someone is: keys, certificates, their chain, what an archive holds.
//!
//! An account is its key: the Jami ID is the key's hash. The account key signs a
//! certificate for each device, and a device shows the chain device, account, CA.

mod announcement;
mod archive;
mod certificate;
mod chain;
mod der;
mod eth;
mod issue;
mod keys;
mod make;
mod pem;
mod receipt;
mod revocation;

pub use announcement::{Announcement, AnnouncementError};
pub use archive::{Archive, ArchiveError, Credential, MAX_ARCHIVE_LEN, stretch};
pub use certificate::{Certificate, CertificateError, MAX_CERTIFICATE_LEN, MAX_SERIAL_LEN};
pub use chain::{CertificateChain, ChainError, MAX_CHAIN_CERTIFICATES, MAX_CHAIN_LEN};
pub use der::DerError;
pub use eth::EthKey;
pub use issue::{CertificateKind, VALIDITY, issue, issue_with_serial};
pub use keys::{private_key_from_pem, private_key_to_pem};
pub use make::{AccountKeys, Identity, IdentityError, KEY_BITS, create_account};
pub use receipt::{Receipt, ReceiptError};
pub use revocation::{
    MAX_ALL_LISTS, MAX_LISTS, MAX_REVOCATION_LIST_LEN, RevocationError, RevocationList,
    Revocations, Revoked,
};
