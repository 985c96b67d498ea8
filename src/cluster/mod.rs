//! This server as one node of several, by brokers that keep a replicated log: NATS JetStream.
//!
//! What a node does is decided by the pure engine (`uproar_proto::cluster`); this module moves its bytes. The brokers'
//! client is used here and nowhere else.

pub mod bucket;
#[cfg(feature = "cluster")]
#[expect(dead_code, reason = "the thread that uses the rest follows")]
mod connect;
mod fault;
#[cfg(feature = "cluster")]
mod kv;
#[cfg(feature = "cluster")]
#[expect(dead_code, reason = "the thread that uses the rest follows")]
mod names;
mod settings;
#[cfg(feature = "cluster")]
mod setup;
pub mod survey;

pub use fault::ClusterFault;
#[cfg(feature = "cluster")]
pub use kv::open;
pub use settings::ClusterSettings;
#[cfg(feature = "cluster")]
pub use setup::setup;
