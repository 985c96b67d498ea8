//! Why the access key files cannot be read or changed.

use std::io;
use std::path::{Path, PathBuf};

use uproar_proto::base::limits::ACCESS_KEYS_MAX;

/// Why the access keys cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file system refused.
    #[error("{path}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// Others could read the file.
    #[error(
        "{path} has mode {mode:04o} and owner {owner}: it must be a file of the data directory's owner \
         with mode 0600. Anybody may have read it: revoke its keys and create new ones"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Its owner.
        owner: u32,
    },
    /// The file does not have our format.
    #[error(
        "{path} is damaged: {cause}. Restore it from a backup, or remove it and create new keys"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The damage.
        cause: String,
    },
    /// Sealed with another master key, or changed by hand.
    #[error("key {id} in {path} was not sealed under this master key, or was changed since")]
    Seal {
        /// The file.
        path: PathBuf,
        /// The key.
        id: String,
    },
    /// There are too many keys.
    #[error("there are {ACCESS_KEYS_MAX} access keys already; revoke some")]
    Full,
}

impl KeyFileError {
    pub(super) fn io(path: &Path, cause: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            cause,
        }
    }
}
