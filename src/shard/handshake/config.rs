//! Settings of accepting and of handshakes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use uproar_proto::base::limits::{
    ADDRESS_HANDSHAKES_PERCENT, ADDRESS_REFUSALS_PER_SECOND, HANDSHAKES_MAX, HANDSHAKES_MIN,
};
use uproar_proto::base::rate::Rate;
use uproar_proto::proxy::TrustedProxies;
use uproar_proto::token::Keyring;

/// Answers plain HTTP requests of the messaging listener: the demo page, where there is one.
pub trait Pages: Send + Sync {
    /// Appends the whole HTTP answer to a request for `target`, by a page or a user who calls the server `host`, to `out`,
    /// or returns `false` for 404.
    fn answer(&self, target: &str, host: &str, out: &mut Vec<u8>) -> bool;
}

/// The sealing keys, replaced as a whole while handshakes read them.
pub type LiveKeyring = Arc<ArcSwap<Keyring>>;

/// Limits on handshakes and on single addresses, for one shard.
#[derive(Debug, Clone)]
pub struct AcceptSettings {
    /// Most handshakes in progress.
    pub handshakes_max: usize,
    /// When no place is free, an address with more handshakes than this loses its oldest first.
    pub address_handshakes_max: usize,
    /// Most open connections of one address on all shards together; `None`: not limited.
    pub address_connections_max: Option<usize>,
    /// How many refused handshakes of one address are answered.
    pub address_refusals: Option<Rate>,
    /// Proxies that may name the client's address.
    pub trusted: TrustedProxies,
}

impl Default for AcceptSettings {
    fn default() -> Self {
        Self {
            handshakes_max: HANDSHAKES_MAX,
            address_handshakes_max: percent_of(HANDSHAKES_MAX, ADDRESS_HANDSHAKES_PERCENT),
            address_connections_max: None,
            address_refusals: Some(Rate::per_second(ADDRESS_REFUSALS_PER_SECOND)),
            trusted: TrustedProxies::default(),
        }
    }
}

impl AcceptSettings {
    /// Lowers the limit on handshakes to `descriptors`, but not below [`HANDSHAKES_MIN`]; the limit per address
    /// shrinks in proportion.
    #[must_use]
    pub fn within(self, descriptors: usize) -> Self {
        let handshakes_max = descriptors.max(HANDSHAKES_MIN).min(self.handshakes_max);
        let part = self.address_handshakes_max * handshakes_max / self.handshakes_max;
        Self {
            handshakes_max,
            address_handshakes_max: part.max(1),
            ..self
        }
    }
}

/// `percent` of `whole`, at least one.
pub fn percent_of(whole: usize, percent: u32) -> usize {
    let percent = usize::try_from(percent).expect("at most 100");
    (whole * percent / 100).max(1)
}

/// What the handshakes of all shards share.
#[derive(Clone)]
pub struct HandshakeConfig {
    /// Opens tokens.
    pub keyring: LiveKeyring,
    /// Answers plain HTTP requests.
    pub pages: Option<Arc<dyn Pages>>,
    /// Conformance mode: every connection is admitted without a token.
    pub echo: bool,
    /// Whether attributes `uproar:` of tokens are for the server, not for everybody.
    pub extensions: bool,
    /// Settings at first.
    pub settings: HandshakeSettings,
}

/// Settings of handshakes that a running server may change.
#[derive(Debug, Clone)]
pub struct HandshakeSettings {
    /// TLS settings, if the listener uses TLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// `Origin` values that may connect; empty: any. The token is the only credential either way.
    pub origins: Arc<[String]>,
    /// Whether the server accepts permessage-deflate.
    pub compression: bool,
    /// Limits on handshakes and on single addresses.
    pub limits: Arc<AcceptSettings>,
}

/// The one room of the conformance mode.
pub const ECHO_ROOM: &str = "ConformEcho0";
