//! Why a server does not start, and what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::control::access::keyfile::KeyFileError;
use crate::control::store::StoreError;
use crate::protocol::token::KeyringError;

/// A failed start: cause and remedy.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(
        "data directory {path}: {cause}. Choose another with --data-dir, or give this user the right to write there"
    )]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Another server has it.
    #[error(
        "data directory {path} is in use by another server. Stop that one, or choose another with --data-dir"
    )]
    Locked {
        /// Which.
        path: PathBuf,
    },
    /// A port cannot be bound.
    #[error("cannot listen on {address}: {cause}. {}", bind_remedy(cause))]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// `io_uring` is missing or forbidden.
    #[error("io_uring cannot be used: {cause}. {}", ring_remedy(cause))]
    Ring {
        /// Why.
        cause: io::Error,
    },
    /// Too few descriptors.
    #[error(
        "the limit on open files is {limit}, at least {needed} are needed. Raise it: `ulimit -n {needed}`, or LimitNOFILE= in the unit"
    )]
    Descriptors {
        /// In force.
        limit: u64,
        /// Wanted.
        needed: u64,
    },
    /// The key file is broken.
    #[error(
        "key file {path}: {cause}. Restore it from a backup; without it every token in use is refused"
    )]
    Keys {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: KeyringError,
    },
    /// The database cannot be opened.
    #[error("database {database}: {cause}")]
    Store {
        /// Which.
        database: PathBuf,
        /// Why.
        cause: StoreError,
    },
    /// The access keys cannot be read.
    #[error("access keys: {0}")]
    AccessKeys(KeyFileError),
    /// A stored room cannot be read.
    #[error("{0}")]
    Load(StoreError),
    /// The ready room cannot be made.
    #[error("the ready room could not be made: {0}")]
    Room(String),
    /// A certificate or key file.
    #[error("TLS: {path}: {cause}")]
    Tls {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A thread, a runtime, a signal handler.
    #[error("start failed: {0}")]
    Runtime(io::Error),
}

impl StartError {
    /// Exit code: 3 cannot bind, 1 anything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Bind { .. } => 3,
            Self::Directory { .. }
            | Self::Locked { .. }
            | Self::Ring { .. }
            | Self::Descriptors { .. }
            | Self::Keys { .. }
            | Self::Store { .. }
            | Self::AccessKeys(_)
            | Self::Load(_)
            | Self::Room(_)
            | Self::Tls { .. }
            | Self::Runtime(_) => 1,
        }
    }

    /// What a failure to start the shards means.
    pub(super) fn of_shards(cause: crate::shard::mesh::StartFault, address: SocketAddr) -> Self {
        use crate::shard::mesh::StartFault;
        match cause {
            StartFault::Listen(cause) => Self::Bind { address, cause },
            StartFault::Ring(cause) => Self::Ring { cause },
            StartFault::Journal(path, cause) => Self::Directory { path, cause },
            StartFault::Other(cause) => Self::Runtime(cause),
        }
    }
}

fn bind_remedy(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => {
            "Another process has the port: find it with `ss -ltnp`, or choose another port"
        }
        io::ErrorKind::PermissionDenied => {
            "Ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher port, or grant it"
        }
        io::ErrorKind::AddrNotAvailable => "No interface of this machine has the address",
        _ => "Choose another address",
    }
}

fn ring_remedy(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(12) => {
            "Too little locked memory: raise it with `ulimit -l unlimited`, or LimitMEMLOCK=infinity in the unit"
        }
        Some(24) => "Too few descriptors: raise `ulimit -n`, or LimitNOFILE= in the unit",
        Some(22) => "The kernel is too old: Linux 6.1 or later is needed",
        _ => {
            "It needs Linux 6.1 or later, sysctl kernel.io_uring_disabled=0, and in a container a seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register"
        }
    }
}
