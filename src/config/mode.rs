//! The two ways to run a server, and what `uproar dev` fixes.

use std::path::{Path, PathBuf};

/// Region of `uproar dev`.
pub const DEV_REGION: &str = "us-west-2";
/// Account of `uproar dev`.
pub const DEV_ACCOUNT: &str = "123456789012";
/// Access key id of `uproar dev`; public knowledge.
pub const DEV_KEY_ID: &str = "AKIDUPROARDEV0000000";
/// Its secret; public knowledge, which is why `dev` binds to loopback unless it is told otherwise.
pub const DEV_SECRET: &str = "uproar-dev-secret-not-for-production";
/// The ready room of `uproar dev`.
pub const DEV_ROOM: &str = "lobby";
/// The certificate of `uproar dev --tls`, in its data directory.
pub const DEV_CERTIFICATE: &str = "dev-cert.pem";
/// The end of its ARN, the same at every start, so that fixtures can name it.
pub const DEV_ROOM_ID: &str = "lobby0000000";

/// `serve` for production, `dev` with everything ready on loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Production.
    Serve,
    /// Laptop and CI.
    Dev {
        /// With a self-signed certificate.
        tls: bool,
        /// Reachable from other machines, with the key that everybody knows.
        remote: bool,
    },
}

impl Mode {
    /// `uproar dev` without flags.
    pub const DEV: Self = Self::Dev {
        tls: false,
        remote: false,
    };

    /// Whether it is `uproar dev` with TLS.
    pub fn is_dev_with_tls(self) -> bool {
        matches!(self, Self::Dev { tls: true, .. })
    }
}

/// The data directory of `uproar dev`, where `uproar token create` looks for its keys: in the user's runtime
/// directory, or in the shared temporary one under the user's id.
pub fn dev_data_dir() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    own.filter(|path| path.is_absolute() && path.is_dir())
        .map_or_else(
            || {
                let uid = rustix::process::getuid().as_raw();
                std::env::temp_dir().join(format!("uproar-dev-{uid}"))
            },
            |own| own.join("uproar-dev"),
        )
}

/// The directory of `uproar dev --cluster`.
pub fn dev_cluster_dir() -> PathBuf {
    let mut shared = dev_data_dir().into_os_string();
    shared.push("-cluster");
    shared.into()
}

/// The data directory of a node of it, by its number.
pub fn dev_node_dir(cluster: &Path, number: u16) -> PathBuf {
    cluster.join(format!("node-{number}"))
}

/// The configuration of a node of it, by its number.
pub fn dev_node_file(cluster: &Path, number: u16) -> PathBuf {
    cluster.join(format!("node-{number}.toml"))
}

/// The data directory of an `uproar dev` that leaves a port to the kernel, since several may run.
pub(super) fn dev_data_dir_of(process: u32) -> PathBuf {
    let mut shared = dev_data_dir().into_os_string();
    shared.push(format!("-{process}"));
    shared.into()
}
