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
    ("server.io", Upgrade),
    ("messaging.listen", Upgrade),
    ("messaging.origins", Live),
    ("messaging.trusted_proxies", Live),
    ("messaging.forwarded_header", Live),
    ("messaging.address_connections", Live),
    ("messaging.address_handshakes_percent", Live),
    ("messaging.address_refusals", Live),
    ("messaging.compression", Live),
    ("control.listen", Upgrade),
    ("control.trusted_proxies", Live),
    ("control.forwarded_header", Live),
    ("control.address_connections_percent", Live),
    ("control.metrics_rooms", Live),
    ("control.console", Upgrade),
    ("keys", Live),
    ("tls.listeners", Live),
    ("tls.certificate", Live),
    ("tls.key", Live),
    ("tls.more_certificates", Live),
    ("tls.acme_domains", Upgrade),
    ("tls.acme_terms_agreed", Upgrade),
    ("tls.acme_directory", Upgrade),
    ("tls.acme_contact", Upgrade),
    ("tls.acme_challenge", Upgrade),
    ("tls.acme_http_listen", Upgrade),
    ("tls.acme_root", Upgrade),
    ("tls.acme_account_id", Upgrade),
    ("tls.acme_account_secret", Upgrade),
    ("quotas.profile", Live),
    ("quotas.connection_requests", Live),
    ("quotas.room_rates", Live),
    ("quotas.account_sends", Live),
    ("quotas.account_moderations", Live),
    ("quotas.api_rates", Live),
    ("quotas.operations", Live),
    ("quotas.connections", Live),
    ("delivery.window_bytes", Live),
    ("delivery.window_age_ms", Live),
    ("delivery.pace_ceiling_ms", Live),
    ("delivery.slow_client", Live),
    ("delivery.spread_members", Live),
    ("review.timeout_ms", Live),
    ("review.omitted_attributes", Live),
    ("review.functions", Live),
    ("review.lambda_endpoint", Live),
    ("review.lambda_access_key_id", Live),
    ("review.lambda_secret_access_key", Live),
    ("review.lambda_session_token", Live),
    ("tokens.life_minutes", Live),
    ("tokens.uses", Upgrade),
    ("extensions.enabled", Upgrade),
    ("extensions.purge_event", Live),
    ("history.bytes_per_second", Live),
    ("drain.notice_s", Live),
    ("drain.over_s", Live),
    ("logging.directory", Upgrade),
    ("logging.spool_bytes", Live),
    ("logging.spool_hours", Live),
    ("logging.object_seconds", Live),
    ("logging.stream_ms", Live),
    ("logging.s3_endpoint", Live),
    ("logging.cloudwatch_endpoint", Live),
    ("logging.firehose_endpoint", Live),
    ("logging.access_key_id", Live),
    ("logging.secret_access_key", Live),
    ("logging.session_token", Live),
    ("log.filter", Live),
    ("log.json", Upgrade),
    ("cluster.name", Never),
    ("cluster.servers", Upgrade),
    ("cluster.node", Never),
    ("cluster.credentials", Upgrade),
    ("cluster.tls_ca", Upgrade),
    ("cluster.tls_certificate", Upgrade),
    ("cluster.tls_key", Upgrade),
    ("cluster.secret_file", Upgrade),
    ("cluster.replicas", Upgrade),
    ("cluster.linger_ms", Upgrade),
    ("cluster.isolated_cut_seconds", Upgrade),
];

/// What a reload does with `key`. A key that nobody has decided is refused.
pub(super) fn of(key: &str) -> Reloading {
    let found = KEYS.iter().find(|(decided, _)| *decided == key);
    found.map_or(Upgrade, |(_, reloading)| *reloading)
}
