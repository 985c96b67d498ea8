//! The handshake: TLS, the request head, the token.
//!
//! [`first_read`](partial::PartialRequest::first_read) answers what the first read holds whole, which is nearly
//! every upgrade without TLS. Anything else continues in [`task`], async code on a runtime of the thread, because it is
//! sequential and short-lived. Both judge a head by [`upgrade`], and hand an accepted one to its shard by
//! [`enter`]. What they share, above all the bounds, is the [`acceptor`].

pub(super) mod acceptor;
mod config;
pub(super) mod enter;
mod log;
pub(super) mod partial;
mod rejected;
mod stream;
pub(super) mod task;
mod upgrade;

pub use config::{
    AcceptSettings, ECHO_ROOM, HandshakeConfig, HandshakeSettings, LiveKeyring, Pages, percent_of,
};
