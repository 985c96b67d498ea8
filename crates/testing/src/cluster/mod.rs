//! Several nodes as one server, on brokers that are a model: the engines that ship, driven by a seed.
//!
//! Acks are lost or late, records are committed and never republished, streams have no leader, messages are lost, late
//! and overtake each other, nodes are cut off, paused, killed and drained, clocks step. An oracle knows the true log and
//! judges each commit, delivery and answer by it; once nothing goes wrong any more, all must be well soon.
//!
//! The model of the brokers ([`broker`]) is itself compared with real ones: `tests/clients/python/test_cluster_broker_model.py`.

mod account;
mod append;
mod archive;
mod author;
mod broker;
mod bus;
mod cores;
mod crowd;
mod fault;
mod flight;
mod freeze;
mod granted;
mod link;
mod node;
mod oracle;
mod planted;
mod streams;
mod trouble;
mod upgrade;
mod viewers;
mod world;

pub use self::fault::{Fault, Tally};
pub use self::oracle::Seen;
pub use self::planted::Planted;
pub use self::world::{Counts, World};
