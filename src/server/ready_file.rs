//! The file that tells programs that `uproar dev` is ready, and how it is reached.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::admin::is_served;
use super::{Ready, StartError};
use crate::config::{DEV_CERTIFICATE, DEV_KEY_ID, DEV_SECRET, Settings};
use crate::control::arn::Account;
use crate::durable::{self, Access, Survives};

/// What the file says, as JSON. Names and meanings stay; a reader skips names that it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReadyFacts {
    /// Grows when a name is given another meaning.
    pub(crate) format: u32,
    /// The server's process.
    pub(crate) pid: u32,
    /// Its version.
    pub(crate) version: String,
    /// Where viewers connect, as in `ws://127.0.0.1:8080`.
    pub(crate) messaging: String,
    /// Where the API is, as in `http://127.0.0.1:8081`.
    pub(crate) control: String,
    /// Region of signatures and ARNs.
    pub(crate) region: String,
    /// Account of ARNs.
    pub(crate) account: String,
    /// The access key's id.
    pub(crate) access_key_id: String,
    /// The access key's secret.
    pub(crate) secret_access_key: String,
    /// ARNs of the ready rooms, by their names.
    pub(crate) rooms: BTreeMap<String, String>,
    /// The data directory, absolute.
    pub(crate) data_dir: PathBuf,
    /// The certificate that clients have to trust, with `--tls`.
    pub(crate) certificate: Option<PathBuf>,
    /// `io_uring` or `epoll`.
    pub(crate) io: String,
}

/// The format that is written.
const FORMAT: u32 = 1;

/// Where the file is, and what is known of it before the server is ready.
#[derive(Debug, Clone)]
pub(super) struct ReadyFile {
    path: PathBuf,
    account: Account,
    data_dir: PathBuf,
}

impl ReadyFile {
    /// The file that the settings ask for. A file of a server before this one is removed, unless that server hands over
    /// to this one: nobody must take it for ours.
    ///
    /// # Errors
    ///
    /// It cannot be removed, or is that of a server that still runs.
    pub(super) fn prepare(
        settings: &Settings,
        takes_over: bool,
    ) -> Result<Option<Self>, StartError> {
        let Some(path) = &settings.dev.ready_file else {
            return Ok(None);
        };
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let data_dir =
            std::path::absolute(&settings.data_dir).unwrap_or_else(|_| settings.data_dir.clone());
        // Whoever wrote it from this directory has ended: this process has its lock.
        if let Some(other) = read(&path).filter(|other| !takes_over && other.data_dir != data_dir)
            && is_served(&other.data_dir)
        {
            let holder = other.pid;
            return Err(StartError::ReadyFileInUse { path, holder });
        }
        match fs::metadata(&path) {
            Ok(_) if !takes_over => durable::remove(&path).map_err(|cause| fail(&path, cause))?,
            _ => {}
        }
        Ok(Some(Self {
            account: settings.account.clone(),
            data_dir,
            path,
        }))
    }

    /// Writes it as a whole.
    pub(super) fn write(&self, ready: &Ready) -> Result<(), StartError> {
        let secure = |tls: bool| if tls { "s" } else { "" };
        let certificate = self.data_dir.join(DEV_CERTIFICATE);
        let facts = ReadyFacts {
            format: FORMAT,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            messaging: format!(
                "ws{}://{}",
                secure(ready.messaging_tls),
                reachable(ready.messaging)
            ),
            control: format!(
                "http{}://{}",
                secure(ready.control_tls),
                reachable(ready.control)
            ),
            region: self.account.region.clone(),
            account: self.account.id.clone(),
            access_key_id: DEV_KEY_ID.to_owned(),
            secret_access_key: DEV_SECRET.to_owned(),
            rooms: ready.rooms.iter().cloned().collect(),
            certificate: certificate.exists().then_some(certificate),
            data_dir: self.data_dir.clone(),
            io: ready.io.kind.name().to_owned(),
        };
        let mut text = serde_json::to_vec_pretty(&facts).expect("strings and numbers");
        text.push(b'\n');
        durable::replace(&self.path, &text, Access::PRIVATE, Survives::Kill)
            .map_err(|cause| fail(&self.path, cause))
    }

    /// Removes it at the server's end, unless another process has written it since.
    pub(super) fn remove(&self) {
        if read(&self.path).is_some_and(|facts| facts.pid == std::process::id())
            && let Err(error) = durable::remove(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the ready file stays");
        }
    }
}

fn read(path: &Path) -> Option<ReadyFacts> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn fail(path: &Path, cause: std::io::Error) -> StartError {
    StartError::ReadyFile {
        path: path.to_owned(),
        cause,
    }
}

/// The address at which a client on this machine reaches a listener: loopback, if it listens on all addresses.
pub(crate) fn reachable(listener: SocketAddr) -> SocketAddr {
    if !listener.ip().is_unspecified() {
        return listener;
    }
    let ip = if listener.is_ipv4() {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else {
        IpAddr::V6(Ipv6Addr::LOCALHOST)
    };
    SocketAddr::new(ip, listener.port())
}
