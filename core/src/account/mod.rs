//! What an account remembers: contacts, conversations, requests, devices, profiles,
//! and how the records of several devices become one.
//!
//! Times are unix milliseconds, 0 for never. Older writers give whole seconds only;
//! both are written, milliseconds are preferred when read.

mod contact;
mod conversation;
mod device;
mod fields;
mod request;
mod sync;
mod trust;
mod vcard;

pub use contact::{Contact, decode_contacts, encode_contacts};
pub use conversation::{
    ConvInfo, InfoMerge, MODE_DOCUMENT, MODE_ONE_TO_ONE, decode_conversations, encode_conversations,
};
pub use device::{KnownDevice, decode_known_devices, encode_known_devices};
pub use fields::{MAX_FILE_LEN, RecordError};
pub use request::{
    ConversationRequest, MAX_FUTURE_MS, RequestMerge, decode_requests, encode_requests,
};
pub use sync::{DeviceSync, MAX_SYNC_LEN, MAX_SYNC_TRUST_REQUESTS, MemberStatus, SyncMessage};
pub use trust::{
    MAX_TRUST_PAYLOAD, Offer, PendingTrustRequest, Permission, Received, TrustRequest,
    TrustRequestError, TrustStatus, TrustStore, decode_pending, encode_pending,
    receive_trust_request,
};
pub use vcard::{MAX_VCARD_LEN, Photo, VCard, VCardError};
