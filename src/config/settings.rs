//! Validated settings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::acme::AcmeSettings;
use super::dev::DevSettings;
use super::mode::Mode;
use super::raw::{IoChoice, TlsListeners};
use crate::cluster::ClusterSettings;
use crate::control::ControlAdmissionSettings;
use crate::control::access::AccessKey;
use crate::control::archive::ArchiveSettings;
use crate::control::arn::Account;
use crate::control::review::ReviewSettings;
use crate::control::throttle::Rates;
use crate::shard::handshake::AcceptSettings;
use crate::shard::settings::ShardSettings;

/// Certificate and key files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM chain.
    pub certificate: PathBuf,
    /// PEM key.
    pub key: PathBuf,
}

/// The settings a server starts with.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent settings, not a state"
)]
pub struct Settings {
    /// How the server was started.
    pub mode: Mode,
    /// Messaging listener.
    pub messaging_listen: SocketAddr,
    /// Control listener.
    pub control_listen: SocketAddr,
    /// What one address may hold of the messaging listener.
    pub accept: AcceptSettings,
    /// What one address may hold of the control listener.
    pub control_admission: ControlAdmissionSettings,
    /// Rooms that `/metrics` names by each figure; 0: none.
    pub metrics_rooms: usize,
    /// Whether the control listener has the operator's page and its API.
    pub console: bool,
    /// Data directory.
    pub data_dir: PathBuf,
    /// Whether the data directory is dev's own, emptied at each start.
    pub data_is_temporary: bool,
    /// Whether the data directory is removed at the end.
    pub data_is_own: bool,
    /// The data directory of the server that is to be taken over, if one is.
    pub take_over: Option<PathBuf>,
    /// Region and account.
    pub account: Account,
    /// Access keys.
    pub keys: Vec<AccessKey>,
    /// Settings of all shards.
    pub shard: ShardSettings,
    /// Addresses of message review handlers.
    pub review: ReviewSettings,
    /// Whether shards are pinned to CPUs.
    pub pin: bool,
    /// What moves the bytes of viewers.
    pub io: IoChoice,
    /// API calls per second.
    pub api_rates: Rates,
    /// How long a token may be used to connect.
    pub token_life: Duration,
    /// Whether rooms may have what IVS Chat has not, by their tags.
    pub extensions: bool,
    /// Bytes of the files of who moderated what; `None`: there are none.
    pub audit_bytes: Option<u64>,
    /// `Origin` values that may connect; empty: any.
    pub origins: Vec<String>,
    /// Whether viewers may get compressed messages (permessage-deflate).
    pub compression: bool,
    /// Certificate and key, if configured.
    pub tls: Option<TlsFiles>,
    /// Further ones, for the names in them.
    pub more_certificates: Vec<TlsFiles>,
    /// Who issues the certificate, if the server orders it itself; `tls` names its files then.
    pub acme: Option<AcmeSettings>,
    /// Which listeners present them.
    pub tls_listeners: TlsListeners,
    /// What SIGTERM does before the server ends.
    pub drain: DrainSettings,
    /// How chat logs are kept and delivered.
    pub archive: ArchiveSettings,
    /// The cluster that this server is a node of, if any.
    pub cluster: Option<ClusterSettings>,
    /// What `uproar dev` makes ready beside the server.
    pub dev: DevSettings,
    /// Log filter, as in `info,uproar=debug`.
    pub log_filter: String,
    /// One JSON object a line.
    pub log_json: bool,
}

/// A drain: viewers are cut, and reconnect elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DrainSettings {
    /// How long before the first cut `/readyz` says that no viewer is welcome.
    pub notice: Duration,
    /// From the first cut to the last; zero: all at once.
    pub over: Duration,
}

/// The settings that a command beside the server needs.
#[derive(Debug)]
pub struct Local {
    /// The server's data directory; `None` if not configured.
    pub data_dir: Option<PathBuf>,
    /// How long a token may be used to connect.
    pub token_life: Duration,
    /// Region and account.
    pub account: Account,
    /// The cluster that the server is a node of.
    pub cluster: Option<ClusterSettings>,
}
