//! Many nodes as one server, pure: an [`Engine`](engine::Engine) for each node takes records, messages
//! and time, and says what to append, read, send and deliver.
//!
//! Rooms are hashed into 256 [`HashSlot`]s. A hash slot has one replicated log; what is said counts once its
//! record is in it, and its order is the log's. The hash slot's **home**, the node whose `Takeover` is
//! the newest one in the log, appends one record at a time, on the condition that nothing was
//! appended since the last one that it knows. So the log itself keeps a replaced home out.
//!
//! Owns: what nodes write to logs and to each other, and every decision about them.
//! Never: sockets, brokers, clocks, randomness, rooms.

mod append;
mod assign;
mod author;
pub mod crowd;
pub mod engine;
pub mod here;
mod id;
mod kept;
pub mod message;
mod peers;
mod purse;
mod reader;
pub mod record;
#[cfg(test)]
mod tests;
pub mod user_event;
mod wire;

pub use id::{Epoch, HashSlot, Incarnation, Number, Sequence};
pub use purse::{Grant, PurseCounts, Quota, Wish};
pub use wire::WireFault;
