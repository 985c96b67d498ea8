//! The shape of the configuration: every key with its type, unchecked.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

use uproar_proto::base::limits::{
    LOG_AGE_MAX, LOG_OBJECT_WINDOW, LOG_SPOOL_BYTES_MAX, LOG_STREAM_LINGER, REVIEW_TIMEOUT,
};

/// All sections. `sample.toml` documents every key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) server: Server,
    pub(super) messaging: Messaging,
    pub(super) control: Control,
    pub(super) tls: Tls,
    pub(super) quotas: Quotas,
    pub(super) delivery: Delivery,
    pub(super) review: Review,
    pub(super) tokens: Tokens,
    pub(super) extensions: Extensions,
    pub(super) audit: Audit,
    pub(super) history: History,
    pub(super) drain: Drain,
    pub(super) logging: Logging,
    pub(super) log: Log,
    pub(super) cluster: Cluster,
    pub(super) keys: Vec<Key>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub(super) region: String,
    pub(super) account: String,
    pub(super) data_dir: PathBuf,
    pub(super) shards: usize,
    pub(super) pin: bool,
    pub(super) io: IoChoice,
}

/// Which interface of the kernel moves the bytes of viewers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[clap(rename_all = "snake_case")]
pub enum IoChoice {
    /// `io_uring` if the kernel lets the server use it, else epoll.
    Auto,
    /// `io_uring`, or no start.
    IoUring,
    /// Epoll, which every kernel and every container allows.
    Epoll,
}

impl IoChoice {
    /// The name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Messaging {
    pub(super) listen: SocketAddr,
    pub(super) origins: Vec<String>,
    pub(super) trusted_proxies: Vec<String>,
    pub(super) forwarded_header: Forwarded,
    pub(super) address_connections: usize,
    pub(super) address_handshakes_percent: u32,
    pub(super) address_refusals: u32,
    pub(super) compression: bool,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Forwarded {
    XForwardedFor,
    Forwarded,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Control {
    pub(super) listen: SocketAddr,
    pub(super) trusted_proxies: Vec<String>,
    pub(super) forwarded_header: Forwarded,
    pub(super) address_connections_percent: u32,
    pub(super) metrics_rooms: usize,
    pub(super) console: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) listeners: TlsListeners,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) more_certificates: Vec<String>,
    pub(super) acme_domains: Option<Vec<String>>,
    pub(super) acme_terms_agreed: bool,
    pub(super) acme_directory: String,
    pub(super) acme_contact: Option<Vec<String>>,
    pub(super) acme_challenge: AcmeChallenge,
    pub(super) acme_http_listen: SocketAddr,
    pub(super) acme_root: Option<PathBuf>,
    pub(super) acme_account_id: Option<String>,
    #[serde(serialize_with = "hidden", skip_serializing_if = "Option::is_none")]
    pub(super) acme_account_secret: Option<String>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls { .. }")
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            listeners: TlsListeners::default(),
            certificate: None,
            key: None,
            more_certificates: Vec::new(),
            acme_domains: None,
            acme_terms_agreed: false,
            acme_directory: ACME_DIRECTORY.to_owned(),
            acme_contact: None,
            acme_challenge: AcmeChallenge::default(),
            acme_http_listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80)),
            acme_root: None,
            acme_account_id: None,
            acme_account_secret: None,
        }
    }
}

/// The authority that is asked if nobody says otherwise: Let's Encrypt.
const ACME_DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// How a certificate authority convinces itself that the names are this server's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AcmeChallenge {
    /// A TLS handshake at port 443 of each name (RFC 8737), answered by the listeners that speak TLS.
    #[default]
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// A request at port 80 of each name (RFC 8555, 8.3), answered while an order runs.
    #[serde(rename = "http-01")]
    Http01,
}

/// The listeners that use TLS if there is a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsListeners {
    /// Both.
    #[default]
    Both,
    /// Only the messaging listener; the API is plain, for a private network.
    Messaging,
    /// Only the control listener; viewers come through a proxy that terminates TLS.
    Control,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Quotas {
    pub(super) profile: Profile,
    pub(super) connection_requests: u32,
    pub(super) room_rates: bool,
    pub(super) account_sends: u32,
    pub(super) account_moderations: u32,
    pub(super) api_rates: bool,
    pub(super) operations: Vec<String>,
    pub(super) connections: usize,
}

/// Decides the defaults of the other keys of `[quotas]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// The managed service's rates.
    Aws,
    /// Per-connection, per-room and API rates lifted, account-wide message rates among them; every
    /// other limit as it is.
    Open,
}

impl Profile {
    /// The name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Open => "open",
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Delivery {
    pub(super) window_bytes: usize,
    pub(super) window_age_ms: u64,
    pub(super) pace_ceiling_ms: u64,
    pub(super) slow_client: SlowClient,
    pub(super) spread_members: usize,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SlowClient {
    Skip,
    Disconnect,
}

/// `[review]`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Review {
    pub(super) timeout_ms: u64,
    pub(super) omitted_attributes: Omitted,
    pub(super) functions: Vec<String>,
    pub(super) lambda_endpoint: Option<String>,
    pub(super) lambda_access_key_id: Option<String>,
    #[serde(serialize_with = "hidden", skip_serializing_if = "Option::is_none")]
    pub(super) lambda_secret_access_key: Option<String>,
    #[serde(serialize_with = "hidden", skip_serializing_if = "Option::is_none")]
    pub(super) lambda_session_token: Option<String>,
}

impl std::fmt::Debug for Review {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Review { .. }")
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Omitted {
    Keep,
    Drop,
}

impl Default for Review {
    fn default() -> Self {
        Self {
            timeout_ms: u64::try_from(REVIEW_TIMEOUT.as_millis()).expect("below a second"),
            omitted_attributes: Omitted::Keep,
            functions: Vec::new(),
            lambda_endpoint: None,
            lambda_access_key_id: None,
            lambda_secret_access_key: None,
            lambda_session_token: None,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tokens {
    pub(super) life_minutes: u64,
    pub(super) uses: TokenUses,
}

/// How often a token opens a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TokenUses {
    /// Once, as the managed service's.
    Once,
    /// Until it expires, one connection at a time.
    Reconnect,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Extensions {
    pub(super) enabled: bool,
    pub(super) purge_event: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Audit {
    // Absent: as the extensions.
    pub(super) enabled: Option<bool>,
    pub(super) mib: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct History {
    pub(super) bytes_per_second: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Drain {
    pub(super) notice_s: u64,
    pub(super) over_s: u64,
}

/// `[logging]`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Logging {
    pub(super) directory: Option<PathBuf>,
    pub(super) spool_bytes: u64,
    pub(super) spool_hours: u64,
    pub(super) object_seconds: u64,
    pub(super) stream_ms: u64,
    pub(super) s3_endpoint: Option<String>,
    pub(super) cloudwatch_endpoint: Option<String>,
    pub(super) firehose_endpoint: Option<String>,
    pub(super) access_key_id: Option<String>,
    #[serde(serialize_with = "hidden", skip_serializing_if = "Option::is_none")]
    pub(super) secret_access_key: Option<String>,
    #[serde(serialize_with = "hidden", skip_serializing_if = "Option::is_none")]
    pub(super) session_token: Option<String>,
}

impl std::fmt::Debug for Logging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Logging { .. }")
    }
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            directory: None,
            spool_bytes: LOG_SPOOL_BYTES_MAX,
            spool_hours: LOG_AGE_MAX.as_secs() / 3600,
            object_seconds: LOG_OBJECT_WINDOW.as_secs(),
            stream_ms: u64::try_from(LOG_STREAM_LINGER.as_millis()).expect("seconds"),
            s3_endpoint: None,
            cloudwatch_endpoint: None,
            firehose_endpoint: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) filter: String,
    pub(super) json: bool,
}

/// `[cluster]`. Without a name and servers there is none.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    pub(super) name: Option<String>,
    pub(super) servers: Option<Vec<String>>,
    pub(super) node: Option<String>,
    pub(super) credentials: Option<PathBuf>,
    pub(super) tls_ca: Option<PathBuf>,
    pub(super) tls_certificate: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
    pub(super) secret_file: Option<PathBuf>,
    pub(super) replicas: usize,
    pub(super) linger_ms: u64,
    pub(super) isolated_cut_seconds: u64,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            name: None,
            servers: None,
            node: None,
            credentials: None,
            tls_ca: None,
            tls_certificate: None,
            tls_key: None,
            secret_file: None,
            replicas: 3,
            linger_ms: 1,
            isolated_cut_seconds: 0,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    pub(super) id: String,
    #[serde(serialize_with = "hidden", skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<String>,
    pub(super) secret_file: Option<PathBuf>,
    /// Whether variables give it, not the file.
    #[serde(skip)]
    pub(super) is_of_variables: bool,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

pub(super) fn hidden<T, S: Serializer>(_secret: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("(hidden)")
}
