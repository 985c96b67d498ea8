//! The cluster's secret: seals access keys and sealing keys before they reach brokers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use zeroize::Zeroizing;

use crate::durable::{self, Access, Survives};
use crate::random;
use uproar_proto::base::limits::CLUSTER_SECRET_BYTES;

const NONCE_BYTES: usize = 12;

/// Why the secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file system refused.
    #[error(
        "cluster.secret_file {path}: {cause}. It is made by `uproar cluster init` on the first node: copy it from there, \
         with mode 0600"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// Others could read it.
    #[error(
        "cluster.secret_file {path} has mode {mode:04o}: others may read it; it must be 0600, or 0640 and root's. If \
         anybody has, run `uproar token rotate-key` and replace the access keys"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is something else.
    #[error(
        "cluster.secret_file {path} has {bytes} bytes: expected {CLUSTER_SECRET_BYTES} random ones"
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
}

/// Seals and opens values of the bucket under one secret. A value is bound to its key: under another one it does not
/// open.
pub struct ClusterSecret(Aes256Gcm);

impl std::fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterSecret")
    }
}

impl ClusterSecret {
    /// Reads the secret of a file.
    ///
    /// # Errors
    ///
    /// Also if others may read it.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let io = |cause| SecretError::Io {
            path: path.to_owned(),
            cause,
        };
        let metadata = fs::metadata(path).map_err(io)?;
        if let Some(mode) = durable::exposed(&metadata) {
            let path = path.to_owned();
            return Err(SecretError::Open { path, mode });
        }
        let bytes = Zeroizing::new(fs::read(path).map_err(io)?);
        let secret: &[u8; CLUSTER_SECRET_BYTES] =
            bytes
                .as_slice()
                .try_into()
                .map_err(|_| SecretError::Length {
                    path: path.to_owned(),
                    bytes: bytes.len(),
                })?;
        Ok(Self::of(secret))
    }

    /// Reads the secret of a file; makes one if there is none. Says whether it was made.
    pub fn read_or_make(path: &Path) -> Result<(Self, bool), SecretError> {
        let missing = matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound);
        if missing {
            let io = |cause| SecretError::Io {
                path: path.to_owned(),
                cause,
            };
            let made = Zeroizing::new(random::bytes::<CLUSTER_SECRET_BYTES>().map_err(io)?);
            let access = Access::PRIVATE_TO_DIRECTORY;
            durable::replace(path, &made[..], access, Survives::PowerLoss).map_err(io)?;
        }
        Ok((Self::read(path)?, missing))
    }

    /// From its bytes.
    pub fn of(secret: &[u8; CLUSTER_SECRET_BYTES]) -> Self {
        Self(Aes256Gcm::new(secret.into()))
    }

    /// Seals the value of a key.
    ///
    /// # Errors
    ///
    /// The kernel gives no random bytes.
    pub fn seal(&self, key: &str, value: &[u8]) -> io::Result<Vec<u8>> {
        let nonce = random::bytes::<NONCE_BYTES>()?;
        let payload = Payload {
            msg: value,
            aad: key.as_bytes(),
        };
        let sealed = self.0.encrypt(&Nonce::from(nonce), payload);
        let sealed = sealed.expect("a secret is far below AES-GCM's 64 GiB");
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens the value of a key; `None` if it was sealed under another secret, for another key, or was changed.
    pub fn open(&self, key: &str, value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = value.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload {
            msg: sealed,
            aad: key.as_bytes(),
        };
        let opened = self.0.decrypt(&Nonce::from(*nonce), payload).ok()?;
        Some(Zeroizing::new(opened))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::durable::faults::Scratch;

    /// Goal: what is sealed opens under the same secret and key only, unchanged.
    #[test]
    fn a_value_opens_under_its_secret_and_key_alone() {
        let (ours, other) = (ClusterSecret::of(&[7; 32]), ClusterSecret::of(&[8; 32]));
        let sealed = ours.seal("secret.ring", b"keys").expect("random bytes");
        assert_eq!(
            ours.open("secret.ring", &sealed).expect("ours").as_slice(),
            b"keys"
        );
        assert!(ours.open("secret.key.A", &sealed).is_none());
        assert!(other.open("secret.ring", &sealed).is_none());
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(ours.open("secret.ring", &changed).is_none(), "bit {bit}");
        }
        assert!(ours.open("secret.ring", &sealed[..NONCE_BYTES]).is_none());
    }

    /// Goal: a secret is made once, for its owner alone; one that others may read, or of another length, is refused
    /// by name.
    #[test]
    fn a_secret_is_made_once_and_kept_private() {
        let scratch = Scratch::new();
        let path = scratch.0.join("cluster.key");
        let missing = ClusterSecret::read(&path).expect_err("none").to_string();
        assert!(missing.contains("uproar cluster init"), "{missing}");
        let (first, made) = ClusterSecret::read_or_make(&path).expect("makes");
        assert!(made);
        let (second, made) = ClusterSecret::read_or_make(&path).expect("reads");
        assert!(!made);
        let sealed = first.seal("k", b"v").expect("random bytes");
        assert!(second.open("k", &sealed).is_some());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changes");
        let open = ClusterSecret::read(&path).expect_err("open").to_string();
        assert!(open.contains("0640"), "{open}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changes");
        fs::write(&path, [1; 31]).expect("writes");
        let short = ClusterSecret::read(&path).expect_err("short").to_string();
        assert!(short.contains("31 bytes"), "{short}");
    }
}
