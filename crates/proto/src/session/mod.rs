//! One connection's protocol state: received bytes in, effects out (IVS Chat messaging, RFC 6455).
//!
//! Owns: the frame decoder, the token's grant, the connection's rate budgets, its deadlines.
//! Never: sockets, rooms, clocks. Bytes and time are arguments.
//!
//! # Grammar
//!
//! The caller wraps the bytes of one receive in an [`Input`] and pulls [`Session::next`] until it
//! returns `None`; it carries each [`Effect`] out before it asks for the next:
//!
//! ```text
//! input    = { Publish | Refuse | Pong | Echo } [ last ]
//! last     = Flood                     the connection is cut
//!          | [ Refuse ] Violation      the client broke RFC 6455; Refuse: its message was too big
//!          | [ AnswerClose ] PeerClosed
//! ```
//!
//! After `last` the rest of the input is ignored. After `Flood`, `Violation`, `AnswerClose` or
//! [`Session::begin_close`] the session is closing: later inputs only have `PeerClosed`, for the
//! client's own Close frame, or `Flood`.
//!
//! Between inputs the caller may call [`Session::due`], at the instant that the last call named,
//! and
//! [`Session::charge_overhead`] for refusals that it sent itself.

mod carry;
mod close;
mod context;
mod effect;
mod policy;
mod receive;
mod state;
#[cfg(test)]
mod tests;

pub use carry::NotReplayable;
pub use close::Ending;
pub use context::SessionContext;
pub use effect::Effect;
pub use receive::Input;
pub use state::{Due, Grant, Session};
