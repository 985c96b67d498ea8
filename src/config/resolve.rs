//! Checks every value; the result is valid.

use std::sync::Arc;
use std::time::Duration;

use super::acme::AcmeSettings;
use super::check::Check;
use super::dev::DevSettings;
use super::error::ConfigError;
use super::mode::Mode;
use super::raw::{Audit, Delivery, Quotas, Raw, Server, SlowClient, Tls, TlsListeners, TokenUses};
use super::settings::{DrainSettings, Local, Settings, TlsFiles};
use super::source::{Source, Sources};
use super::{access_keys, acme, admission, cluster, listen, logging, names, review};
use crate::control::arn::Account;
use crate::control::operation::Operation;
use crate::control::throttle::Rates;
use crate::shard::settings::ShardSettings;
use uproar_proto::base::limits::{
    AUDIT_MIB_MAX, AUDIT_MIB_MIN, DRAIN_MAX, EVENT_NAME_CHARS_MAX, FRAME_BYTES_MAX,
    TLS_MORE_CERTIFICATES_MAX, TOKEN_LIFE_MAX,
};
use uproar_proto::base::rate::Rate;
use uproar_proto::room::audience::SlowPolicy;
use uproar_proto::room::log::Window;

pub(super) fn resolve(mode: Mode, raw: Raw, sources: &Sources) -> Result<Settings, ConfigError> {
    let check = Check(sources);
    let dev = matches!(mode, Mode::Dev { .. });
    listen_addresses(&raw, mode, &check)?;
    let (server, minutes) = (raw.server, raw.tokens.life_minutes);
    server_values(&server, &check)?;
    let token_life = token_life(minutes, &check)?;
    log_filter(&raw.log.filter, &check)?;
    let (region, id) = (server.region, server.account);
    let account = Account { region, id };
    let data_dir = server.data_dir;
    let archive = logging::resolve(raw.logging, &account, &data_dir, &check)?;
    let mut shard = shard(server.shards, &raw.quotas, &raw.delivery, &check)?;
    let (review_timeout, review) = review::resolve(raw.review, &check)?;
    shard.review_timeout = review_timeout;
    shard.purge_event = purge_event(raw.extensions.purge_event, &check)?;
    shard.history_bytes_per_second = raw.history.bytes_per_second;
    shard.tokens_reopen = raw.tokens.uses == TokenUses::Reconnect;
    let tls = tls(mode, &raw.tls, &check)?;
    let cluster = cluster::resolve(raw.cluster, token_life, &check)?;
    let acme = acme::resolve(&raw.tls, (mode, cluster.is_some()), &data_dir, &check)?;
    Ok(Settings {
        mode,
        messaging_listen: raw.messaging.listen,
        control_listen: raw.control.listen,
        accept: admission::messaging(&raw.messaging, &check)?,
        control_admission: admission::control(&raw.control, &check)?,
        metrics_rooms: admission::metrics_rooms(&raw.control, &check)?,
        console: raw.control.console,
        data_is_temporary: dev && sources.of("server.data_dir") == Source::Default,
        data_is_own: false,
        take_over: None,
        keys: access_keys::resolve(raw.keys, &data_dir, dev, &check)?,
        data_dir,
        shard,
        review,
        account,
        pin: server.pin,
        io: server.io,
        api_rates: rates(&raw.quotas, &check)?,
        token_life,
        extensions: raw.extensions.enabled,
        audit_bytes: audit_bytes(&raw.audit, raw.extensions.enabled, &check)?,
        drain: DrainSettings {
            notice: drain_time("drain.notice_s", raw.drain.notice_s, &check)?,
            over: drain_time("drain.over_s", raw.drain.over_s, &check)?,
        },
        origins: raw.messaging.origins,
        compression: raw.messaging.compression,
        tls_listeners: raw.tls.listeners,
        more_certificates: more_certificates(mode, &raw.tls, &check)?,
        tls: tls.or_else(|| acme.as_ref().map(ordered_files)),
        acme,
        archive,
        cluster,
        dev: DevSettings::default(),
        log_filter: raw.log.filter,
        log_json: raw.log.json,
    })
}

/// Bytes of the audit file's parts together; `None`: there is none.
fn audit_bytes(
    audit: &Audit,
    has_extensions: bool,
    check: &Check<'_>,
) -> Result<Option<u64>, ConfigError> {
    check.holds(
        (AUDIT_MIB_MIN..=AUDIT_MIB_MAX).contains(&audit.mib),
        "audit.mib",
        audit.mib,
        "8 to 65536",
    )?;
    let bytes = u64::from(audit.mib) << 20;
    Ok(audit.enabled.unwrap_or(has_extensions).then_some(bytes))
}

fn purge_event(name: String, check: &Check<'_>) -> Result<Arc<str>, ConfigError> {
    check.holds(
        !name.is_empty() && name.chars().count() <= EVENT_NAME_CHARS_MAX,
        "extensions.purge_event",
        &name,
        "a name of 1 to 100 characters",
    )?;
    Ok(name.into())
}

/// Both listeners are apart from each other, and those of `uproar dev` on loopback unless it is told otherwise.
fn listen_addresses(raw: &Raw, mode: Mode, check: &Check<'_>) -> Result<(), ConfigError> {
    let listeners = [
        ("messaging.listen", raw.messaging.listen),
        ("control.listen", raw.control.listen),
    ];
    for (key, address) in listeners {
        check.holds(
            !matches!(mode, Mode::Dev { remote: false, .. }) || address.ip().is_loopback(),
            key,
            address,
            "a loopback address with `uproar dev`, whose access key is public; \
             use `uproar serve` with keys of your own, or, in a container or a network of your own, \
             --allow-remote-with-public-key",
        )?;
    }
    let (messaging, control) = (raw.messaging.listen, raw.control.listen);
    check.holds(
        !listen::collide(messaging, control),
        "control.listen",
        control,
        format!("another address than messaging.listen, which is {messaging}: the API is not for viewers"),
    )
}

/// The name of the server's resources, and its threads.
fn server_values(server: &Server, check: &Check<'_>) -> Result<(), ConfigError> {
    check.holds(
        (1..=1024).contains(&server.shards),
        "server.shards",
        server.shards,
        "1 to 1024",
    )?;
    let is_region = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    check.holds(
        !server.region.is_empty() && server.region.chars().all(is_region),
        "server.region",
        &server.region,
        "lower-case letters, digits and dashes, as in us-west-2",
    )?;
    check.holds(
        server.account.len() == 12 && server.account.bytes().all(|b| b.is_ascii_digit()),
        "server.account",
        &server.account,
        "twelve digits",
    )
}

fn log_filter(filter: &str, check: &Check<'_>) -> Result<(), ConfigError> {
    check.holds(
        filter.parse::<tracing_subscriber::EnvFilter>().is_ok(),
        "log.filter",
        filter,
        "levels by module, as in info,uproar::shard=debug",
    )
}

/// The settings that commands beside the server need; the rest may be wrong or missing. Whoever names a file means the
/// server that is started with it, and its directory is the default if the file has none.
pub(super) fn local(raw: Raw, sources: &Sources, has_file: bool) -> Result<Local, ConfigError> {
    let check = Check(sources);
    let given = has_file || sources.of("server.data_dir") != Source::Default;
    let token_life = token_life(raw.tokens.life_minutes, &check)?;
    Ok(Local {
        data_dir: given.then_some(raw.server.data_dir),
        token_life,
        account: Account {
            region: raw.server.region,
            id: raw.server.account,
        },
        cluster: cluster::resolve(raw.cluster, token_life, &check)?,
    })
}

fn token_life(minutes: u64, check: &Check<'_>) -> Result<Duration, ConfigError> {
    check.holds(
        (2..=TOKEN_LIFE_MAX.as_secs() / 60).contains(&minutes),
        "tokens.life_minutes",
        minutes,
        "2 to 1440: below 2 the JavaScript SDK reconnects in a loop",
    )?;
    Ok(Duration::from_secs(60 * minutes))
}

fn drain_time(key: &'static str, seconds: u64, check: &Check<'_>) -> Result<Duration, ConfigError> {
    let must = "0 to 86400: seconds of at most a day";
    check.holds(seconds <= DRAIN_MAX.as_secs(), key, seconds, must)?;
    Ok(Duration::from_secs(seconds))
}

/// Parses entries such as `CreateChatToken=20000`.
fn rates(quotas: &Quotas, check: &Check<'_>) -> Result<Rates, ConfigError> {
    let mut rates = if quotas.api_rates {
        Rates::aws()
    } else {
        Rates::open()
    };
    for text in &quotas.operations {
        let (name, per_second) = text.split_once('=').unwrap_or((text, ""));
        let operation = Operation::parse(name.trim());
        let per_second = per_second.trim().parse().ok();
        if let Some((operation, per_second)) = operation.zip(per_second) {
            rates.set(operation, per_second);
        } else {
            let must = must_be_rate(name.trim(), operation.is_some());
            check.holds(false, "quotas.operations", text, must)?;
        }
    }
    Ok(rates)
}

fn must_be_rate(name: &str, is_known: bool) -> String {
    let must = "an operation and its calls per second, a whole number, as in CreateChatToken=20000; 0 lifts its rate";
    if is_known {
        return must.to_owned();
    }
    let all = || {
        Operation::ALL
            .iter()
            .map(|operation| operation.name().to_owned())
    };
    let meant = names::nearest(name, all());
    let meant = meant.map_or_else(String::new, |name| format!(". Did you mean {name}?"));
    let all = all().collect::<Vec<_>>().join(", ");
    format!("{must}{meant}. The operations are {all}")
}

fn shard(
    shards: usize,
    quotas: &Quotas,
    delivery: &Delivery,
    check: &Check<'_>,
) -> Result<ShardSettings, ConfigError> {
    check.holds(
        quotas.connections > 0,
        "quotas.connections",
        quotas.connections,
        "at least 1",
    )?;
    check.holds(
        delivery.window_bytes >= FRAME_BYTES_MAX,
        "delivery.window_bytes",
        delivery.window_bytes,
        "at least 20480, one frame",
    )?;
    check.holds(
        delivery.window_age_ms > 0,
        "delivery.window_age_ms",
        delivery.window_age_ms,
        "at least 1",
    )?;
    check.holds(
        delivery.pace_ceiling_ms <= 1000,
        "delivery.pace_ceiling_ms",
        delivery.pace_ceiling_ms,
        "0 (no pacing) to 1000",
    )?;
    let rate = |per_second: u32| (per_second > 0).then(|| Rate::per_second(per_second));
    Ok(ShardSettings {
        connection_rate: rate(quotas.connection_requests),
        room_rates: quotas.room_rates,
        account_sends: rate(quotas.account_sends),
        account_moderations: rate(quotas.account_moderations),
        connections_max: quotas.connections,
        window: Window {
            bytes_max: delivery.window_bytes,
            age_max: Duration::from_millis(delivery.window_age_ms),
        },
        pace_ceiling: Duration::from_millis(delivery.pace_ceiling_ms),
        slow_policy: match delivery.slow_client {
            SlowClient::Skip => SlowPolicy::Skip,
            SlowClient::Disconnect => SlowPolicy::Disconnect,
        },
        stripe_members_min: delivery.spread_members,
        ..ShardSettings::open(shards)
    })
}

/// Pairs of files: `CERTIFICATE=KEY`.
fn more_certificates(
    mode: Mode,
    given: &Tls,
    check: &Check<'_>,
) -> Result<Vec<TlsFiles>, ConfigError> {
    let key = "tls.more_certificates";
    check.requires(
        key,
        !given.more_certificates.is_empty(),
        "tls.certificate and tls.key",
        given.certificate.is_some() || mode.is_dev_with_tls(),
    )?;
    let count = given.more_certificates.len();
    let most = TLS_MORE_CERTIFICATES_MAX;
    check.holds(
        count <= most,
        key,
        count,
        "at most 31 pairs, or names of several hosts in one certificate",
    )?;
    let mut pairs = Vec::with_capacity(count);
    for text in &given.more_certificates {
        let pair = text.split_once('=').filter(|(certificate, key)| {
            !certificate.is_empty() && !key.is_empty() && !key.contains('=')
        });
        let must = "CERTIFICATE=KEY, two PEM files without = in their names";
        check.holds(pair.is_some(), key, text, must)?;
        pairs.extend(pair.map(|(certificate, key)| TlsFiles {
            certificate: certificate.into(),
            key: key.into(),
        }));
    }
    Ok(pairs)
}

fn tls(mode: Mode, given: &Tls, check: &Check<'_>) -> Result<Option<TlsFiles>, ConfigError> {
    let is_ordered = given.acme_domains.is_some();
    let has_certificate = given.certificate.is_some() || is_ordered || mode.is_dev_with_tls();
    check.requires(
        "tls.listeners",
        given.listeners != TlsListeners::Both,
        "tls.certificate and tls.key",
        has_certificate,
    )?;
    let (certificate, key) = (given.certificate.clone(), given.key.clone());
    check.requires(
        "tls.certificate",
        certificate.is_some(),
        "tls.key",
        key.is_some(),
    )?;
    check.requires(
        "tls.key",
        key.is_some(),
        "tls.certificate",
        certificate.is_some(),
    )?;
    let pair = certificate.zip(key);
    Ok(pair.map(|(certificate, key)| TlsFiles { certificate, key }))
}

/// Where the server keeps the certificate that it orders.
fn ordered_files(acme: &AcmeSettings) -> TlsFiles {
    TlsFiles {
        certificate: acme.certificate(),
        key: acme.certificate(),
    }
}
