//! Which cluster this server is a node of, and how its brokers are reached.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of a node, valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSettings {
    /// The cluster's name: letters, digits and dashes, so that it can be part of a subject and of a stream's name.
    pub name: String,
    /// The brokers, as URLs. `nats://` stands for loopback only.
    pub servers: Vec<String>,
    /// This node's name, which people and the dealing out of slots know it by.
    pub node: String,
    /// A `.creds` file, or a file with an nkey seed.
    pub credentials: Option<PathBuf>,
    /// Who signed the brokers' certificates; `None`: one of the system's roots.
    pub tls_ca: Option<PathBuf>,
    /// Certificate and key for brokers that verify their clients.
    pub tls_identity: Option<(PathBuf, PathBuf)>,
    /// The key that seals what brokers must not read.
    pub secret_file: PathBuf,
    /// Brokers that keep each record.
    pub replicas: usize,
    /// How long frames of a slot are collected into one record.
    pub linger: Duration,
    /// How long no message may have gone through the cluster before this node drains; `None`: it never does so.
    pub isolated_cut: Option<Duration>,
    /// How long a token may be used to connect; the streams of token uses remember that long.
    pub token_life: Duration,
}
