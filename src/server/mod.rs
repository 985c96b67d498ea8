//! Start-up, wiring, signals and shutdown: from valid settings to a running server.

mod acme;
mod admin;
mod audit;
mod certificate;
mod cluster;
mod demo;
mod dev_cluster;
mod drain;
mod emulator;
mod error;
mod figures;
mod heartbeat;
mod io;
mod keys;
mod listeners;
mod load;
mod node;
mod notify;
mod opening;
mod operator;
mod orders;
mod pem;
mod preflight;
mod process;
mod process_metrics;
mod ready_file;
mod registry;
mod reload;
mod remedy;
mod serve;
mod start;
mod succession;
mod tickets;
mod tls;
mod upgrade;
mod vitals;

use std::net::SocketAddr;
use std::path::Path;

use crate::clock;
use crate::config::Settings;

pub(crate) use admin::{
    AskError, By, CallOrder, DrainOrder, Health, JoinOrder, Order, RefusalCode, RoomOrder,
    RoomsOrder, ask, ask_to_join, ask_within,
};
pub(crate) use cluster::{ClusterReport, ask_cluster};
pub(crate) use dev_cluster::{
    DEV_CLUSTER_PAGE, DevClusterError, TETHER, dev_ports, run_dev_cluster, tether,
};
pub(crate) use error::StartError;
pub(crate) use io::ChosenIo;
pub(crate) use keys::{load_keyring, nonce, open_or_make, rotate_keyring};
pub(crate) use orders::Ended;
pub(crate) use preflight::raise_descriptor_limit;
pub(crate) use process::Process;
pub(crate) use ready_file::{ReadyFacts, reachable};
pub(crate) use remedy::ring_remedy;
pub(crate) use start::run;
pub(crate) use upgrade::{LAUNCH, Upgraded, launch};

/// Locks a data directory as a server does, so that no server runs on it meanwhile.
pub(crate) fn hold(data_dir: &Path) -> Result<impl Sized, StartError> {
    preflight::data_directory(data_dir, false)
}

/// The addresses of a server that has just become ready.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    /// Address for viewers.
    pub messaging: SocketAddr,
    /// Address of the API.
    pub control: SocketAddr,
    /// Whether viewers use TLS.
    pub messaging_tls: bool,
    /// Whether callers of the API use TLS.
    pub control_tls: bool,
    /// Names and ARNs of the ready rooms of dev, the lobby first.
    pub rooms: Vec<(String, String)>,
    /// What moves the bytes of viewers.
    pub io: ChosenIo,
}

/// Whether a start would accept the certificates and keys that `settings` names. Changes nothing. Returns the start's
/// warnings.
pub(crate) fn check(settings: &Settings) -> Result<Vec<String>, StartError> {
    let Some(certificates) = tls::configure(settings, None, None)?.certificates else {
        return Ok(Vec::new());
    };
    let acme = settings.acme.as_ref().and_then(acme::warning);
    if acme.is_some() || certificates.current(0).is_none() {
        return Ok(acme.into_iter().collect());
    }
    let now = clock::unix_now();
    let warning = |place| {
        let validity = certificates.validity(place);
        let warning = validity.map(|validity| validity.warning(now));
        let warning = warning.unwrap_or_else(|error| Some(certificate::unreadable(&error)))?;
        let file = certificates.files(place);
        let file = file.map_or_else(String::new, |[path, _]| path.display().to_string());
        Some(format!("{file}: {warning}"))
    };
    Ok((0..certificates.count()).filter_map(warning).collect())
}
