//! Which keys a running server takes over from a changed configuration, and which need another process.

/// What a reload does with a changed key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloading {
    /// It takes the value over.
    Live,
    /// It refuses the whole configuration; a new process takes the value over.
    Upgrade,
    /// It refuses the whole configuration, and so does an upgrade: the value tells which server this is.
    Never,
}

use Reloading::{Live, Never, Upgrade};

/// Every key, decided. `docs/configuration.md` has the same in its column "reload".
pub(super) const KEYS: &[(&str, Reloading)] = &[
    ("server.region", Never),
    ("server.account", Never),
    ("server.data_dir", Never),
    ("server.shards", Upgrade),
    ("server.pin", Upgrade),
    ("messaging.listen", Upgrade),
    ("messaging.origins", Upgrade),
    ("messaging.trusted_proxies", Upgrade),
    ("messaging.forwarded_header", Upgrade),
    ("messaging.address_connections", Upgrade),
    ("messaging.address_handshakes_percent", Upgrade),
    ("messaging.address_refusals", Upgrade),
    ("messaging.compression", Upgrade),
    ("control.listen", Upgrade),
    ("control.trusted_proxies", Upgrade),
    ("control.forwarded_header", Upgrade),
    ("control.address_connections_percent", Upgrade),
    ("keys", Live),
    ("tls.listeners", Upgrade),
    ("tls.certificate", Upgrade),
    ("tls.key", Upgrade),
    ("quotas.profile", Live),
    ("quotas.connection_requests", Upgrade),
    ("quotas.room_rates", Upgrade),
    ("quotas.account_sends", Upgrade),
    ("quotas.account_moderations", Upgrade),
    ("quotas.api_rates", Live),
    ("quotas.operations", Live),
    ("quotas.connections", Upgrade),
    ("delivery.window_bytes", Upgrade),
    ("delivery.window_age_ms", Upgrade),
    ("delivery.pace_ceiling_ms", Upgrade),
    ("delivery.slow_client", Upgrade),
    ("delivery.spread_members", Upgrade),
    ("review.timeout_ms", Upgrade),
    ("review.omitted_attributes", Upgrade),
    ("review.functions", Upgrade),
    ("review.lambda_endpoint", Upgrade),
    ("review.lambda_access_key_id", Upgrade),
    ("review.lambda_secret_access_key", Upgrade),
    ("review.lambda_session_token", Upgrade),
    ("tokens.life_minutes", Live),
    ("logging.directory", Upgrade),
    ("logging.spool_bytes", Upgrade),
    ("logging.spool_hours", Upgrade),
    ("logging.object_seconds", Upgrade),
    ("logging.stream_ms", Upgrade),
    ("logging.s3_endpoint", Upgrade),
    ("logging.cloudwatch_endpoint", Upgrade),
    ("logging.firehose_endpoint", Upgrade),
    ("logging.access_key_id", Upgrade),
    ("logging.secret_access_key", Upgrade),
    ("logging.session_token", Upgrade),
    ("log.filter", Live),
    ("log.json", Upgrade),
];

/// What a reload does with `key`. A key that nobody has decided is refused.
pub(super) fn of(key: &str) -> Reloading {
    let found = KEYS.iter().find(|(decided, _)| *decided == key);
    found.map_or(Upgrade, |(_, reloading)| *reloading)
}
