//! `[logging]`: destinations of chat logs, and how long records may wait.

use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::check::Check;
use super::error::ConfigError;
use super::raw::Logging;
use crate::control::archive::ArchiveSettings;
use crate::control::arn::Account;
use crate::control::aws_client::Endpoint;
use uproar_proto::base::limits::LOG_SEGMENT_BYTES;
use uproar_proto::sigv4::sign::Credentials;

/// Valid settings of the section.
pub(super) fn resolve(
    raw: Logging,
    account: &Account,
    data_dir: &Path,
    check: &Check<'_>,
) -> Result<ArchiveSettings, ConfigError> {
    spool(&raw, check)?;
    let endpoint = |key, text: Option<String>| -> Result<Option<Endpoint>, ConfigError> {
        let Some(text) = text else { return Ok(None) };
        let endpoint = Endpoint::parse(&text);
        let must = "http:// or https://, a host, perhaps a port, and nothing else";
        check.holds(endpoint.is_some(), key, text, must)?;
        Ok(endpoint)
    };
    let s3 = endpoint("logging.s3_endpoint", raw.s3_endpoint)?;
    let cloudwatch = endpoint("logging.cloudwatch_endpoint", raw.cloudwatch_endpoint)?;
    let firehose = endpoint("logging.firehose_endpoint", raw.firehose_endpoint)?;
    let has_endpoint = s3.is_some() || cloudwatch.is_some() || firehose.is_some();
    check.holds(
        !has_endpoint || raw.access_key_id.is_some(),
        "logging.access_key_id",
        "missing",
        "given with an endpoint",
    )?;
    let (id_key, secret_key) = ("logging.access_key_id", "logging.secret_access_key");
    let (key_id, secret) = (raw.access_key_id, raw.secret_access_key);
    check.requires(id_key, key_id.is_some(), secret_key, secret.is_some())?;
    check.requires(secret_key, secret.is_some(), id_key, key_id.is_some())?;
    Ok(ArchiveSettings {
        account: account.clone(),
        spool: data_dir.join("spool"),
        directory: raw.directory.unwrap_or_else(|| data_dir.join("chat-logs")),
        spool_bytes_max: raw.spool_bytes,
        age_max: Duration::from_hours(raw.spool_hours),
        window: Duration::from_secs(raw.object_seconds),
        linger: Duration::from_millis(raw.stream_ms),
        s3,
        cloudwatch,
        firehose,
        credentials: key_id.zip(secret).map(|(key_id, secret)| Credentials {
            key_id,
            secret: Zeroizing::new(secret),
            session_token: raw.session_token,
        }),
    })
}

/// Checks what bounds the spool and its objects.
fn spool(raw: &Logging, check: &Check<'_>) -> Result<(), ConfigError> {
    check.holds(
        raw.spool_bytes >= 2 * LOG_SEGMENT_BYTES,
        "logging.spool_bytes",
        raw.spool_bytes,
        "at least 33554432, two segments",
    )?;
    check.holds(
        (1..=14 * 24).contains(&raw.spool_hours),
        "logging.spool_hours",
        raw.spool_hours,
        "1 to 336: CloudWatch Logs takes nothing older than 14 days",
    )?;
    let divides = |seconds| (1..=3600).contains(&seconds) && 3600 % seconds == 0;
    check.holds(
        divides(raw.object_seconds),
        "logging.object_seconds",
        raw.object_seconds,
        "a divisor of 3600, so that no object spans two hours",
    )?;
    check.holds(
        raw.stream_ms <= 60_000,
        "logging.stream_ms",
        raw.stream_ms,
        "0 to 60000",
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Effective, Flags, Mode, Settings, settle};
    use super::*;

    fn load(section: &str) -> Result<(Settings, Effective), String> {
        let text = format!("[logging]\n{section}");
        let file = Some((Path::new("uproar.toml"), &*text));
        let dev = Mode::DEV;
        let loaded = settle(dev, file, std::iter::empty(), &Flags::default());
        let loaded = loaded.map_err(|error| error.to_string())?;
        Ok((loaded.settings, loaded.effective))
    }

    const KEYS: &str = "access_key_id = \"AKID\"\nsecret_access_key = \"hush\"\n";

    /// Goal: without the section, everything goes to files in the data directory.
    #[test]
    fn the_default_is_local() {
        let (settings, _) = load("").expect("valid");
        let archive = settings.archive;
        assert_eq!(archive.directory, settings.data_dir.join("chat-logs"));
        assert_eq!(archive.spool, settings.data_dir.join("spool"));
        assert!(archive.s3.is_none() && archive.credentials.is_none());
    }

    /// Goal: mistakes are named, secrets are not.
    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("s3_endpoint = \"http://127.0.0.1:9000\"", "access_key_id"),
            (
                "access_key_id = \"AKID\"",
                "logging.access_key_id requires logging.secret_access_key",
            ),
            (
                "secret_access_key = \"hush\"",
                "logging.secret_access_key requires logging.access_key_id",
            ),
            (
                &format!("{KEYS}s3_endpoint = \"localhost:9000\""),
                "s3_endpoint",
            ),
            (
                &format!("{KEYS}firehose_endpoint = \"http://a/path\""),
                "firehose_endpoint",
            ),
            ("spool_bytes = 5", "33554432"),
            ("spool_hours = 400", "spool_hours"),
            ("object_seconds = 7", "object_seconds"),
            ("stream_ms = 100000", "stream_ms"),
        ];
        for (text, expected) in cases {
            let error = load(text).expect_err(text);
            assert!(
                error.contains(expected) && !error.contains("hush"),
                "{text}: {error}"
            );
        }
        let text = format!(
            "{KEYS}session_token = \"hush\"\ns3_endpoint = \"https://s3.us-west-2.amazonaws.com\"\nobject_seconds = 60"
        );
        let (settings, printed) = load(&text).expect("valid");
        assert!(
            settings
                .archive
                .s3
                .as_ref()
                .is_some_and(Endpoint::is_secure)
        );
        assert_eq!(settings.archive.window, Duration::from_mins(1));
        assert!(!format!("{settings:?}{printed}").contains("hush"));
    }
}
