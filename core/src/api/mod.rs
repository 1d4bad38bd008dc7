//! What page and bridge say to each other: one set of Rust types for both ends.
//!
//! The wire is JSON-RPC 2.0, fields in camelCase, times in milliseconds since
//! 1970 (UTC), identifiers in hexadecimal. [`method`] lists every call with its
//! parameters, its result and who may make it; [`Event`] lists everything the
//! bridge reports by itself. The OpenRPC description is made from these types.

pub mod error;
pub mod event;
pub mod message;
pub mod method;
pub mod objects;
pub mod params;
pub mod rpc;
#[cfg(feature = "schema")]
pub mod schema;
pub mod types;

pub use error::{ApiError, ErrorCode};
pub use event::{Event, SequencedEvent};
pub use message::{
    Delivery, DeviceStatus, Edit, FileInfo, MemberAction, MemberChange, Message, MessageStatus,
    MessageType, PersonStatus, ProfileChange, Reaction,
};
pub use method::{Access, Method, MethodInfo};
pub use params::*;
pub use rpc::{Notification, Request as RpcRequest, RequestId, Response as RpcResponse};
pub use types::*;
