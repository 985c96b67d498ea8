//! What file and environment say, before anything is checked.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use toml::{Table, Value};

use super::ConfigError;
use super::logging::Logging;

/// Every key, with its default and meaning: `uproar config sample`.
pub const SAMPLE: &str = include_str!("sample.toml");

/// The file's shape.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "sample.toml documents every key")]
pub struct Raw {
    pub server: Server,
    pub messaging: Messaging,
    pub control: Control,
    pub keys: Vec<Key>,
    pub tls: Tls,
    pub quotas: Quotas,
    pub delivery: Delivery,
    pub tokens: Tokens,
    pub logging: Logging,
    pub log: Log,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    pub region: Option<String>,
    pub account: Option<String>,
    pub data_dir: Option<PathBuf>,
    pub shards: Option<usize>,
    pub pin: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Messaging {
    pub listen: Option<SocketAddr>,
    pub origins: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    pub listen: Option<SocketAddr>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    pub id: String,
    pub secret: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    pub profile: Option<super::Quotas>,
    pub connection_requests: Option<u32>,
    pub room_rates: Option<bool>,
    pub account_sends: Option<u32>,
    pub account_moderations: Option<u32>,
    pub connections: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    pub window_bytes: Option<usize>,
    pub window_age_ms: Option<u64>,
    pub pace_ceiling_ms: Option<u64>,
    pub slow_client: Option<String>,
    pub spread_members: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tokens {
    pub life_minutes: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    pub filter: Option<String>,
    pub json: Option<bool>,
}

impl Raw {
    /// Lays `UPROAR_SECTION__KEY` over the file's text. A value that is TOML is taken as such, anything
    /// else as a string.
    pub fn parse(
        text: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| ConfigError::Syntax(error.to_string()))?;
        for (name, value) in environment {
            let Some((section, key)) = name
                .strip_prefix("UPROAR_")
                .and_then(|path| path.split_once("__"))
            else {
                continue;
            };
            let section = table
                .entry(section.to_ascii_lowercase())
                .or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(section) = section else {
                return Err(ConfigError::Syntax(format!(
                    "{name}: lists are set in the file only"
                )));
            };
            let parsed = format!("v = {value}").parse::<Table>().ok();
            let parsed = parsed.and_then(|mut table| table.remove("v"));
            section.insert(
                key.to_ascii_lowercase(),
                parsed.unwrap_or(Value::String(value)),
            );
        }
        Self::deserialize(table).map_err(|error| ConfigError::Syntax(error.to_string()))
    }
}
