//! Reasons why a server does not start, with their remedies.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::remedy::{bind_remedy, directory_remedy, ring_remedy};
use crate::cluster::ClusterFault;
use crate::control::access::KeyFileError;
use crate::control::registry::{CopyError, SecretError};
use crate::control::store::StoreError;
use uproar_proto::token::KeyringError;

/// A failed start: cause and remedy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The data directory cannot be used.
    #[error("data directory {path}: {cause}. {}", directory_remedy(cause))]
    Directory {
        /// Its path.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// The ready file cannot be written.
    #[error(
        "--ready-file {path}: {cause}. Name a file in a directory that exists and that this user may write to"
    )]
    ReadyFile {
        /// Its path.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// The ready file is another server's.
    #[error(
        "--ready-file {path} is that of another server, process {holder}, which still runs: name another file, or stop that one"
    )]
    ReadyFileInUse {
        /// Its path.
        path: PathBuf,
        /// The other server's process.
        holder: u32,
    },
    /// The database is not a copy of the configured cluster.
    #[error("data directory {data_dir}: {cause}")]
    Copy {
        /// Its path.
        data_dir: PathBuf,
        /// The cause.
        cause: CopyError,
    },
    /// The cluster's secret cannot be used.
    #[error("{0}")]
    Secret(SecretError),
    /// Another server holds the lock.
    #[error(
        "data directory {path} is in use by another server{}. Stop that one, or choose another directory \
         with --data-dir",
        process(*holder)
    )]
    Locked {
        /// Its path.
        path: PathBuf,
        /// Its process, if it is known.
        holder: Option<u32>,
    },
    /// A port cannot be bound.
    #[error("cannot listen on {address} ({flag}): {cause}. {}", bind_remedy(cause))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// The cause.
        cause: io::Error,
    },
    /// `io_uring` is missing or forbidden.
    #[error(
        "io_uring cannot be used: {cause}. {remedy}. Or serve with epoll: `io = \"epoll\"` in [server], --io epoll"
    )]
    Ring {
        /// The cause.
        cause: io::Error,
        /// The remedy.
        remedy: String,
    },
    /// Too few descriptors.
    #[error(
        "the limit on open files (nofile) is {limit}, at least {needed} are needed. Raise it: `ulimit -n {needed}`, or LimitNOFILE= in the unit"
    )]
    Descriptors {
        /// The current limit.
        limit: u64,
        /// The required minimum.
        needed: u64,
    },
    /// The key file is broken.
    #[error(
        "key file {path}: {cause}. Restore it from a backup; without it every token in use is refused"
    )]
    Keys {
        /// Its path.
        path: PathBuf,
        /// The cause.
        cause: KeyringError,
    },
    /// The database cannot be opened.
    #[error(
        "{database}: {cause}. If it is damaged, restore it from a backup; --data-dir with an empty \
         directory starts without rooms"
    )]
    Store {
        /// Its path.
        database: PathBuf,
        /// The cause.
        cause: StoreError,
    },
    /// Chat logs cannot be kept or delivered.
    #[error("chat logs: {cause}. See [logging] in the configuration")]
    Archive {
        /// The cause.
        cause: io::Error,
    },
    /// The access keys cannot be read.
    #[error("access keys: {0}")]
    AccessKeys(KeyFileError),
    /// A stored room cannot be read.
    #[error("{0}. Restore the data directory from a backup")]
    Load(StoreError),
    /// The ready room cannot be created.
    #[error("the ready room could not be made: {0}")]
    Room(String),
    /// The system's certificates, which message review needs, cannot be read.
    #[error(
        "the system's certificates: {0}. Install ca-certificates, name a file in SSL_CERT_FILE, or use http:// in [review]"
    )]
    Certificates(io::Error),
    /// A certificate or key file is unusable.
    #[error(
        "TLS: {path}: {cause}. Needed are PEM files of a certificate chain and its private key, \
         unencrypted and readable by this user"
    )]
    Tls {
        /// Its path.
        path: PathBuf,
        /// The cause.
        cause: String,
    },
    /// The server that serves does not hand over.
    #[error("cannot take over: {0}")]
    TakeOver(String),
    /// The node cannot join its cluster.
    #[error("cluster: {0}")]
    Cluster(Arc<ClusterFault>),
    /// A task of the control thread ended.
    #[error("{task} ended, which must live: {cause}")]
    Task {
        /// The task.
        task: &'static str,
        /// The cause.
        cause: io::Error,
    },
    /// A thread, a runtime or a signal handler failed.
    #[error("start failed: {0}")]
    Runtime(io::Error),
}

impl StartError {
    /// Exit code: 3 if an address cannot be bound, 2 if a configured file is missing or unusable, 1 otherwise.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Bind { .. } => 3,
            Self::Tls { .. } | Self::Secret(_) | Self::Copy { .. } => 2,
            Self::Directory { .. }
            | Self::Locked { .. }
            | Self::Ring { .. }
            | Self::Descriptors { .. }
            | Self::Keys { .. }
            | Self::Store { .. }
            | Self::Archive { .. }
            | Self::AccessKeys(_)
            | Self::Load(_)
            | Self::Room(_)
            | Self::Certificates(_)
            | Self::TakeOver(_)
            | Self::Cluster(_)
            | Self::Task { .. }
            | Self::ReadyFile { .. }
            | Self::ReadyFileInUse { .. }
            | Self::Runtime(_) => 1,
        }
    }

    /// The error for shards that failed to start.
    pub(super) fn of_shards(cause: crate::shard::mesh::StartFault) -> Self {
        use crate::shard::mesh::StartFault;
        match cause {
            StartFault::Ring(cause) => Self::Ring {
                remedy: ring_remedy(&cause),
                cause,
            },
            StartFault::Other(cause) => Self::Runtime(cause),
        }
    }
}

fn process(holder: Option<u32>) -> String {
    holder.map_or_else(String::new, |id| format!(" (process {id})"))
}
