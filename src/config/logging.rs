//! `[logging]`: where chat logs go, and how long they may wait.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::ConfigError;
use crate::base::limits::LOG_SEGMENT_BYTES;
use crate::control::archive::ArchiveSettings;
use crate::control::arn::Realm;
use crate::control::client::Endpoint;
use crate::protocol::sigv4::sign::Credentials;

/// The section as written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    pub directory: Option<PathBuf>,
    pub spool_bytes: Option<u64>,
    pub spool_hours: Option<u64>,
    pub object_seconds: Option<u64>,
    pub stream_ms: Option<u64>,
    pub s3_endpoint: Option<String>,
    pub cloudwatch_endpoint: Option<String>,
    pub firehose_endpoint: Option<String>,
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<String>,
    pub session_token: Option<String>,
}

impl std::fmt::Debug for Logging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Logging { .. }")
    }
}

/// Valid settings of the section.
pub(super) fn resolve(
    raw: Logging,
    realm: &Realm,
    data_dir: &Path,
) -> Result<ArchiveSettings, ConfigError> {
    let mut settings = ArchiveSettings::local(realm.clone(), data_dir);
    settings.directory = raw.directory.unwrap_or(settings.directory);
    let number = |key, value: Option<u64>, valid: fn(u64) -> bool, must| match value {
        Some(value) if !valid(value) => Err(wrong(key, value, must)),
        valid => Ok(valid),
    };
    let spool_bytes = number(
        "logging.spool_bytes",
        raw.spool_bytes,
        |bytes| bytes >= 2 * LOG_SEGMENT_BYTES,
        "at least 33554432, two segments",
    )?;
    settings.spool_bytes_max = spool_bytes.unwrap_or(settings.spool_bytes_max);
    let hours = number(
        "logging.spool_hours",
        raw.spool_hours,
        |hours| (1..=14 * 24).contains(&hours),
        "1 to 336: CloudWatch Logs takes nothing older than 14 days",
    )?;
    settings.age_max = hours.map_or(settings.age_max, Duration::from_hours);
    let window = number(
        "logging.object_seconds",
        raw.object_seconds,
        |seconds| (1..=3600).contains(&seconds) && 3600 % seconds == 0,
        "a divisor of 3600, so that no object spans two hours",
    )?;
    settings.window = window.map_or(settings.window, Duration::from_secs);
    let linger = number(
        "logging.stream_ms",
        raw.stream_ms,
        |millis| millis <= 60_000,
        "0 to 60000",
    )?;
    settings.linger = linger.map_or(settings.linger, Duration::from_millis);

    let endpoint = |key, text: Option<String>| {
        let parse = |text: String| {
            let must = "http:// or https://, a host, perhaps a port, and nothing else";
            Endpoint::parse(&text).ok_or_else(|| wrong(key, text, must))
        };
        text.map(parse).transpose()
    };
    settings.s3 = endpoint("logging.s3_endpoint", raw.s3_endpoint)?;
    settings.cloudwatch = endpoint("logging.cloudwatch_endpoint", raw.cloudwatch_endpoint)?;
    settings.firehose = endpoint("logging.firehose_endpoint", raw.firehose_endpoint)?;
    settings.credentials = match (raw.access_key_id, raw.secret_access_key) {
        (Some(key_id), Some(secret)) => Some(Credentials {
            key_id,
            secret: Zeroizing::new(secret),
            session_token: raw.session_token,
        }),
        (None, None) => None,
        _ => {
            let must = "given together with its other half";
            return Err(wrong(
                "logging.access_key_id or secret_access_key",
                "alone",
                must,
            ));
        }
    };
    let calls =
        settings.s3.is_some() || settings.cloudwatch.is_some() || settings.firehose.is_some();
    if calls && settings.credentials.is_none() {
        let must = "given, with logging.secret_access_key, if there is an endpoint";
        return Err(wrong("logging.access_key_id", "missing", must));
    }
    Ok(settings)
}

fn wrong(key: &'static str, value: impl ToString, must: &'static str) -> ConfigError {
    ConfigError::Value {
        key,
        value: value.to_string(),
        must,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<ArchiveSettings, String> {
        let realm = Realm {
            region: "us-west-2".to_owned(),
            account: "123456789012".to_owned(),
        };
        let raw: Logging = toml::from_str(text).map_err(|error| error.to_string())?;
        resolve(raw, &realm, Path::new("/data")).map_err(|error| error.to_string())
    }

    /// Goal: without the section, everything goes to files in the data directory.
    #[test]
    fn the_default_is_local() {
        let settings = load("").expect("valid");
        assert_eq!(settings.directory, Path::new("/data/chat-logs"));
        assert_eq!(settings.spool, Path::new("/data/spool"));
        assert!(settings.s3.is_none() && settings.credentials.is_none());
    }

    /// Goal: mistakes are named, secrets are not.
    #[test]
    fn mistakes_are_named() {
        let keys = "access_key_id = \"AKID\"\nsecret_access_key = \"hush\"\n";
        let cases = [
            ("s3_endpoint = \"http://127.0.0.1:9000\"", "access_key_id"),
            ("access_key_id = \"AKID\"", "other half"),
            ("secret_access_key = \"hush\"", "other half"),
            (
                &format!("{keys}s3_endpoint = \"localhost:9000\""),
                "s3_endpoint",
            ),
            (
                &format!("{keys}firehose_endpoint = \"http://a/path\""),
                "firehose_endpoint",
            ),
            ("spool_bytes = 5", "33554432"),
            ("spool_hours = 400", "spool_hours"),
            ("object_seconds = 7", "object_seconds"),
            ("stream_ms = 100000", "stream_ms"),
            ("bucket = \"x\"", "bucket"),
        ];
        for (text, expected) in cases {
            let error = load(text).expect_err(text);
            assert!(
                error.contains(expected) && !error.contains("hush"),
                "{text}: {error}"
            );
        }
        let settings = load(&format!(
            "{keys}s3_endpoint = \"https://s3.us-west-2.amazonaws.com\"\nobject_seconds = 60"
        ));
        let settings = settings.expect("valid");
        assert!(settings.s3.is_some_and(|endpoint| endpoint.is_secure()));
        assert_eq!(settings.window, Duration::from_mins(1));
        assert!(!format!("{:?}", settings.credentials).contains("hush"));
    }
}
