//! HTTP on loopback: the page, its socket, pairing. What may be asked from where is decided in
//! [`guard`], before anything else looks at a request.

pub mod assets;
pub mod data_dir;
pub mod guard;
pub mod health;
mod objects;
pub mod pairing;
mod pairing_http;
pub mod private;
mod server;
mod socket;

pub use server::{BindError, Server, ServerConfig};
