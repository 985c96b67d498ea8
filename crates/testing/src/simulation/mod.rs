//! Shards, rooms and clients on fake rings, clocks and mailboxes, and everything that can happen to them.
//!
//! The code that ships runs here unchanged. A seed (simulation) or bytes (fuzzer) decide: completions come late,
//! short, in any order or as errors, received bytes are split anywhere, connections are cut, shards oversleep
//! while their mailboxes fill, clocks step.

pub(crate) mod dice;
mod drain;
mod events;
mod hand_over;
pub(crate) mod net;
mod oracle;
mod plan;
mod review;
pub(crate) mod turn;
mod watch;
mod world;

pub use self::oracle::Counts;
pub use self::world::{MAIN, World};
