//! Settings in two stages: what file, environment and flags say, then values that are known to be valid.
//!
//! Precedence: flag, environment (`UPROAR_SECTION__KEY`), file, default. An unknown key is an error at
//! start, not a mystery at night.

mod logging;
mod raw;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::base::limits::{
    ACCOUNT_MODERATIONS_PER_SECOND, ACCOUNT_SENDS_PER_SECOND, CONNECTION_REQUESTS_PER_SECOND,
    CONNECTIONS_MAX_AWS, FRAME_BYTES_MAX, PACE_CEILING, STRIPE_MEMBERS_MIN, TOKEN_LIFE,
    WINDOW_AGE_MAX, WINDOW_BYTES_MAX,
};
use crate::base::rate::Rate;
use crate::control::access::AccessKey;
use crate::control::archive::ArchiveSettings;
use crate::control::arn::Realm;
use crate::room::audience::SlowPolicy;
use crate::room::log::Window;
use crate::shard::settings::ShardSettings;

pub use raw::{Raw, SAMPLE};

/// Region of `uproar dev`.
pub const DEV_REGION: &str = "us-west-2";
/// Account of `uproar dev`.
pub const DEV_ACCOUNT: &str = "123456789012";
/// Access key id of `uproar dev`; public knowledge.
pub const DEV_KEY_ID: &str = "AKIDUPROARDEV0000000";
/// Its secret; public knowledge, which is why `dev` binds to loopback only.
pub const DEV_SECRET: &str = "uproar-dev-secret-not-for-production";
/// The room `uproar dev` makes ready.
pub const DEV_ROOM: &str = "lobby";

/// `serve` for real, `dev` with everything made ready on loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Production.
    Serve,
    /// Laptop and CI.
    Dev {
        /// With a throw-away certificate.
        tls: bool,
    },
}

/// Profile of the quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Quotas {
    /// The managed service's rates.
    Aws,
    /// Per-connection, per-room and API rates lifted; every other limit as it is.
    Open,
}

/// Flags of `serve` and `dev`; they win over everything.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where viewers connect (WebSocket)
    #[arg(long, value_name = "ADDRESS")]
    pub messaging_listen: Option<SocketAddr>,
    /// Where application servers call the API; keep it private
    #[arg(long, value_name = "ADDRESS")]
    pub control_listen: Option<SocketAddr>,
    /// Where rooms, keys and used tokens are kept
    #[arg(long, value_name = "DIRECTORY")]
    pub data_dir: Option<PathBuf>,
    /// Shard threads, one a core [default: all cores]
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,
    /// Rates: the managed service's, or none
    #[arg(long, value_enum)]
    pub quotas: Option<Quotas>,
}

/// Certificate and key files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM chain.
    pub certificate: PathBuf,
    /// PEM key.
    pub key: PathBuf,
}

/// Valid settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How the server was started.
    pub mode: Mode,
    /// Messaging listener.
    pub messaging_listen: SocketAddr,
    /// Control listener.
    pub control_listen: SocketAddr,
    /// Data directory.
    pub data_dir: PathBuf,
    /// Region and account.
    pub realm: Realm,
    /// Access keys.
    pub keys: Vec<AccessKey>,
    /// Of all shards.
    pub shard: ShardSettings,
    /// Whether shards are pinned to CPUs.
    pub pin: bool,
    /// Whether API calls are limited to the managed service's rates.
    pub api_rates: bool,
    /// How long a token may be used to connect.
    pub token_life: Duration,
    /// `Origin` values that may connect; empty: any.
    pub origins: Vec<String>,
    /// TLS of both listeners.
    pub tls: Option<TlsFiles>,
    /// How chat logs are kept and delivered.
    pub archive: ArchiveSettings,
    /// Log filter, as in `info,uproar=debug`.
    pub log_filter: String,
    /// One JSON object a line; `None`: unless on a terminal.
    pub log_json: Option<bool>,
}

/// Why there are no valid settings. Each names the value, what it may be, and where to change it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// Not TOML, or not our keys.
    #[error("configuration: {0}")]
    Syntax(String),
    /// A value out of its range.
    #[error("configuration: {key} is {value}; it must be {must}")]
    Value {
        /// As in the file.
        key: &'static str,
        /// As given.
        value: String,
        /// What it may be.
        must: &'static str,
    },
}

/// Reads file and environment, applies flags, checks everything.
pub fn load(
    mode: Mode,
    flags: &Flags,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Settings, ConfigError> {
    let text = match &flags.config {
        Some(path) => std::fs::read_to_string(path).map_err(|cause| ConfigError::File {
            path: path.clone(),
            cause,
        })?,
        None => String::new(),
    };
    let mut raw = Raw::parse(&text, environment)?;
    raw.server.data_dir = flags.data_dir.clone().or(raw.server.data_dir);
    raw.server.shards = flags.shards.or(raw.server.shards);
    raw.messaging.listen = flags.messaging_listen.or(raw.messaging.listen);
    raw.control.listen = flags.control_listen.or(raw.control.listen);
    raw.quotas.profile = flags.quotas.or(raw.quotas.profile);
    resolve(mode, raw)
}

/// Where `uproar dev` keeps its data, and `uproar token create` looks for its keys.
pub fn dev_data_dir() -> PathBuf {
    let uid = rustix::process::getuid().as_raw();
    std::env::temp_dir().join(format!("uproar-dev-{uid}"))
}

/// The key file within a data directory.
pub fn keyring_path(data_dir: &Path) -> PathBuf {
    data_dir.join("token-keys")
}

fn resolve(mode: Mode, raw: Raw) -> Result<Settings, ConfigError> {
    let dev = matches!(mode, Mode::Dev { .. });
    let port = |port| SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port);
    let messaging_listen = raw.messaging.listen.unwrap_or(port(8080));
    let control_listen = raw.control.listen.unwrap_or(port(8081));
    let loopback = |key, address: SocketAddr| {
        check(
            !dev || address.ip().is_loopback(),
            key,
            address,
            "a loopback address with `uproar dev`, whose access key is public; \
             use `uproar serve` with keys of your own",
        )
    };
    loopback("messaging.listen", messaging_listen)?;
    loopback("control.listen", control_listen)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let shards = raw.server.shards.unwrap_or(cores);
    check(
        (1..=1024).contains(&shards),
        "server.shards",
        shards,
        "1 to 1024",
    )?;
    let region = raw.server.region.unwrap_or_else(|| DEV_REGION.to_owned());
    let is_region = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    check(
        !region.is_empty() && region.chars().all(is_region),
        "server.region",
        &region,
        "lower-case letters, digits and dashes, as in us-west-2",
    )?;
    let account = raw.server.account.unwrap_or_else(|| DEV_ACCOUNT.to_owned());
    check(
        account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()),
        "server.account",
        &account,
        "twelve digits",
    )?;
    let mut keys: Vec<AccessKey> = raw
        .keys
        .into_iter()
        .map(|key| AccessKey {
            id: key.id,
            secret: Zeroizing::new(key.secret),
        })
        .collect();
    if dev {
        let secret = Zeroizing::new(DEV_SECRET.to_owned());
        keys.push(AccessKey {
            id: DEV_KEY_ID.to_owned(),
            secret,
        });
    }
    for key in &keys {
        let public = key.id == DEV_KEY_ID && !dev;
        check(
            !public,
            "keys.id",
            &key.id,
            "a key of your own: this one is public",
        )?;
        let valid =
            (16..=128).contains(&key.id.len()) && key.id.bytes().all(|b| b.is_ascii_alphanumeric());
        check(valid, "keys.id", &key.id, "16 to 128 letters and digits")?;
        check(
            key.secret.len() >= 16,
            "keys.secret",
            "too short",
            "at least 16 characters",
        )?;
    }
    check(
        !keys.is_empty(),
        "keys",
        "empty",
        "at least one [[keys]] with id and secret",
    )?;
    let data_dir = match (raw.server.data_dir, dev) {
        (Some(directory), _) => directory,
        (None, true) => dev_data_dir(),
        (None, false) => PathBuf::from("/var/lib/uproar"),
    };
    let shard = shard_settings(shards, &raw.quotas, &raw.delivery)?;
    let token_minutes = raw.tokens.life_minutes.unwrap_or(TOKEN_LIFE.as_secs() / 60);
    check(
        (2..=24 * 60).contains(&token_minutes),
        "tokens.life_minutes",
        token_minutes,
        "2 to 1440: below 2 the JavaScript SDK reconnects in a loop",
    )?;
    let tls = match (raw.tls.certificate, raw.tls.key) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
        (None, None) => None,
        _ => {
            return Err(ConfigError::Value {
                key: "tls",
                value: "half given".to_owned(),
                must: "both certificate and key, or neither",
            });
        }
    };
    let realm = Realm { region, account };
    let archive = logging::resolve(raw.logging, &realm, &data_dir)?;
    Ok(Settings {
        mode,
        messaging_listen,
        control_listen,
        data_dir,
        realm,
        keys,
        shard,
        pin: raw.server.pin.unwrap_or(shards <= cores),
        api_rates: raw.quotas.profile.unwrap_or(Quotas::Aws) == Quotas::Aws,
        token_life: Duration::from_secs(60 * token_minutes),
        origins: raw.messaging.origins,
        tls,
        archive,
        log_filter: raw.log.filter.unwrap_or_else(|| "info".to_owned()),
        log_json: raw.log.json,
    })
}

fn shard_settings(
    shards: usize,
    quotas: &raw::Quotas,
    delivery: &raw::Delivery,
) -> Result<ShardSettings, ConfigError> {
    let aws = quotas.profile.unwrap_or(Quotas::Aws) == Quotas::Aws;
    // Zero lifts a rate; the profile decides what is not given.
    let rate = |given: Option<u32>, of_aws: u32| {
        let per_second = given.unwrap_or(if aws { of_aws } else { 0 });
        (per_second > 0).then(|| Rate::per_second(per_second))
    };
    let connections_max = quotas.connections.unwrap_or(CONNECTIONS_MAX_AWS);
    check(
        connections_max > 0,
        "quotas.connections",
        connections_max,
        "at least 1",
    )?;
    let bytes_max = delivery.window_bytes.unwrap_or(WINDOW_BYTES_MAX);
    check(
        bytes_max >= FRAME_BYTES_MAX,
        "delivery.window_bytes",
        bytes_max,
        "at least 16384, one frame",
    )?;
    let age = delivery
        .window_age_ms
        .map_or(WINDOW_AGE_MAX, Duration::from_millis);
    let pace = delivery
        .pace_ceiling_ms
        .map_or(PACE_CEILING, Duration::from_millis);
    check(
        pace <= Duration::from_secs(1),
        "delivery.pace_ceiling_ms",
        pace.as_millis(),
        "0 (no pacing) to 1000",
    )?;
    let slow_policy = match delivery.slow_client.as_deref() {
        None | Some("skip") => SlowPolicy::Skip,
        Some("disconnect") => SlowPolicy::Disconnect,
        Some(other) => {
            return check(false, "delivery.slow_client", other, "skip or disconnect")
                .map(|()| unreachable!("the check fails"));
        }
    };
    Ok(ShardSettings {
        connection_rate: rate(quotas.connection_requests, CONNECTION_REQUESTS_PER_SECOND),
        room_rates: quotas.room_rates.unwrap_or(aws),
        account_sends: rate(quotas.account_sends, ACCOUNT_SENDS_PER_SECOND),
        account_moderations: rate(quotas.account_moderations, ACCOUNT_MODERATIONS_PER_SECOND),
        connections_max,
        window: Window {
            bytes_max,
            age_max: age,
        },
        pace_ceiling: pace,
        slow_policy,
        stripe_members_min: delivery.spread_members.unwrap_or(STRIPE_MEMBERS_MIN),
        ..ShardSettings::open(shards)
    })
}

fn check(
    holds: bool,
    key: &'static str,
    value: impl ToString,
    must: &'static str,
) -> Result<(), ConfigError> {
    if holds {
        Ok(())
    } else {
        Err(ConfigError::Value {
            key,
            value: value.to_string(),
            must,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(
        mode: Mode,
        text: &str,
        environment: &[(&str, &str)],
    ) -> Result<Settings, ConfigError> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        resolve(mode, Raw::parse(text, environment.iter().map(own))?)
    }

    /// Goal: environment over file over default, and the sample file is valid.
    #[test]
    fn environment_wins_over_file_over_default() {
        let text = "[messaging]\nlisten = \"127.0.0.1:9000\"\n[quotas]\nprofile = \"open\"\n";
        let dev = Mode::Dev { tls: false };
        let environment = [
            ("UPROAR_MESSAGING__LISTEN", "127.0.0.1:9100"),
            ("UPROAR_SERVER__SHARDS", "3"),
        ];
        let settings = load_text(dev, text, &environment).expect("valid");
        assert_eq!(settings.messaging_listen.port(), 9100);
        assert_eq!(settings.shard.shard_count, 3);
        assert_eq!(settings.shard.connection_rate, None);
        assert!(!settings.api_rates);
        let defaults = load_text(dev, "", &[]).expect("valid");
        assert_eq!(defaults.shard.connection_rate, Some(Rate::per_second(10)));
        load_text(Mode::Serve, SAMPLE, &[]).expect("the sample is valid");
    }

    /// Goal: mistakes are named, with the key.
    #[test]
    fn mistakes_are_named() {
        let dev = Mode::Dev { tls: false };
        let cases = [
            (
                dev,
                "[messaging]\nlisten = \"0.0.0.0:8080\"",
                "messaging.listen",
            ),
            (dev, "[server]\nshards = 0", "server.shards"),
            (dev, "[server]\nshrads = 1", "shrads"),
            (
                dev,
                "[delivery]\nslow_client = \"kill\"",
                "delivery.slow_client",
            ),
            (dev, "[tls]\nkey = \"k\"", "tls"),
            (Mode::Serve, "", "keys"),
            (
                Mode::Serve,
                "[[keys]]\nid = \"AKIDUPROARDEV0000000\"\nsecret = \"x\"",
                "public",
            ),
        ];
        for (mode, text, expected) in cases {
            let error = load_text(mode, text, &[]).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let error = load_text(dev, "", &[("UPROAR_QUOTAS__PROFILE", "opne")]).expect_err("typo");
        assert!(error.to_string().contains("open"), "{error}");
    }
}
