//! Why a node does not start. Each says what to do.

use std::io;
use std::path::PathBuf;

/// What waiting does not mend.
#[derive(Debug, thiserror::Error)]
pub enum ClusterFault {
    /// A file of `[cluster]` cannot be read.
    #[error("{key} {path}: {cause}", path = path.display())]
    File {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// A file has not what it should.
    #[error("{key} {path}: {must}", path = path.display())]
    Content {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What it must have.
        must: &'static str,
    },
    /// The client cannot begin.
    #[error("the brokers cannot be called: {0}")]
    Client(String),
    /// Nobody answers, where an answer is needed now.
    #[error("no broker answers ({servers}): {cause}")]
    Silent {
        /// Those that were called.
        servers: String,
        /// The last cause.
        cause: String,
    },
    /// The broker is older than what this design rests on.
    #[error(
        "broker {broker} is nats-server {version}; at least 2.15.0 is needed, since older ones lose or reorder records \
         when a broker is killed: install nats-server 2.15 or later on each broker"
    )]
    Version {
        /// Its name and address.
        broker: String,
        /// Its version.
        version: String,
    },
    /// The broker keeps nothing.
    #[error("broker {broker} has no JetStream: give it a `jetstream` block with a `store_dir`")]
    NoJetStream {
        /// Its name and address.
        broker: String,
    },
    /// The broker takes only small messages.
    #[error(
        "broker {broker} takes messages of at most {bytes} bytes; 1000000 are needed: set `max_payload: 1MB` on each broker"
    )]
    Payload {
        /// Its name and address.
        broker: String,
        /// Its `max_payload`.
        bytes: usize,
    },
    /// Nobody has made the streams.
    #[error(
        "the brokers have no stream {stream}: run `uproar cluster init --config FILE` once, on one node"
    )]
    NoStream {
        /// The first that is missing.
        stream: String,
    },
    /// A stream is not as this program needs it.
    #[error("stream {stream} of the brokers: {what}")]
    Stream {
        /// Its name.
        stream: String,
        /// How it differs, and what to do.
        what: String,
    },
    /// The brokers refuse a call.
    #[error("the brokers refuse {what}: {cause}")]
    Refused {
        /// The call.
        what: String,
        /// Their words.
        cause: String,
    },
    /// This program has no code for it.
    #[error("this program was built without the feature `cluster`")]
    NotBuilt,
    /// Threads, descriptors or random bytes were not available.
    #[error(transparent)]
    Io(#[from] io::Error),
}
