//! Why a command failed, and the exit code that says so.

use crate::config::ConfigError;
use crate::server::{DevClusterError, StartError};

/// Follows the help of every command that ends by itself or by a signal.
pub(super) const EXIT_CODES: &str = "Exit codes:\n  0  done, or stopped by SIGTERM or SIGINT\n  1  failed while running or starting\n  \
                          2  wrong usage or configuration, certificate files included\n  3  a listener's address cannot be bound\n  4  stopped by a second signal, which cut viewers at once";

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Start(#[from] StartError),
    #[error("{0}")]
    DevCluster(#[from] DevClusterError),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Run(String),
    #[error(
        "stopped at once by a second signal: {0} viewers were cut, perhaps before they had what was said"
    )]
    CutAtOnce(u64),
}

impl Failure {
    /// 1 run-time failure, 2 usage or configuration, 3 cannot bind, 4 viewers were cut at once.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Usage(_) => 2,
            Self::Start(error) => error.exit_code(),
            Self::DevCluster(error) => error.exit_code(),
            Self::Run(_) => 1,
            Self::CutAtOnce(_) => 4,
        }
    }
}
