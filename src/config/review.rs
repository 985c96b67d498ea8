//! `[review]`: addresses of message review handlers.

use std::time::Duration;

use hyper::Uri;
use zeroize::Zeroizing;

use super::check::Check;
use super::error::ConfigError;
use super::raw::{Omitted, Review};
use crate::control::aws_client::Endpoint;
use crate::control::review::{Lambda, ReviewSettings};
use uproar_proto::base::limits::REVIEW_TIMEOUT_MAX;
use uproar_proto::sigv4::sign::Credentials;

/// The time-out for the shards, and the settings for the control thread.
pub(super) fn resolve(
    given: Review,
    check: &Check<'_>,
) -> Result<(Duration, ReviewSettings), ConfigError> {
    let timeout = Duration::from_millis(given.timeout_ms);
    check.holds(
        !timeout.is_zero() && timeout <= REVIEW_TIMEOUT_MAX,
        "review.timeout_ms",
        given.timeout_ms,
        "1 to 10000",
    )?;
    let mut settings = ReviewSettings {
        omitted_attributes_drop: matches!(given.omitted_attributes, Omitted::Drop),
        ..ReviewSettings::default()
    };
    for pair in &given.functions {
        let parsed = pair
            .split_once('=')
            .filter(|(function, _)| function.starts_with("arn:aws:lambda:"))
            .and_then(|(function, url)| Some((function, parse(url)?)));
        let must = "FUNCTION_ARN=URL, as in \
                    arn:aws:lambda:us-west-2:123456789012:function:check=http://127.0.0.1:9000/check";
        check.holds(parsed.is_some(), "review.functions", pair, must)?;
        if let Some((function, uri)) = parsed {
            settings.functions.insert(function.to_owned(), uri);
        }
    }
    let credentials = credentials(&given, check)?;
    if let Some(endpoint) = &given.lambda_endpoint {
        let parsed = Endpoint::parse(endpoint);
        let must = "http:// or https://, a host, perhaps a port, and nothing else";
        check.holds(parsed.is_some(), "review.lambda_endpoint", endpoint, must)?;
        settings.lambda = parsed.map(|endpoint| Lambda {
            endpoint,
            credentials,
        });
    }
    Ok((timeout, settings))
}

fn credentials(given: &Review, check: &Check<'_>) -> Result<Option<Credentials>, ConfigError> {
    let id_key = "review.lambda_access_key_id";
    let secret_key = "review.lambda_secret_access_key";
    let (key_id, secret) = (&given.lambda_access_key_id, &given.lambda_secret_access_key);
    let session_token = &given.lambda_session_token;
    check.requires(id_key, key_id.is_some(), secret_key, secret.is_some())?;
    check.requires(secret_key, secret.is_some(), id_key, key_id.is_some())?;
    check.requires(
        "review.lambda_session_token",
        session_token.is_some(),
        "review.lambda_access_key_id and review.lambda_secret_access_key",
        key_id.is_some(),
    )?;
    let pair = key_id.as_ref().zip(secret.as_ref());
    Ok(pair.map(|(key_id, secret)| Credentials {
        key_id: key_id.clone(),
        secret: Zeroizing::new(secret.clone()),
        session_token: session_token.clone(),
    }))
}

/// An absolute URL without credentials in it.
fn parse(url: &str) -> Option<Uri> {
    let uri: Uri = url.parse().ok()?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let authority = uri.authority()?.as_str();
    (is_http && !authority.contains('@')).then_some(uri)
}

#[cfg(test)]
mod tests {
    use super::super::{Effective, Flags, Mode, Settings, settle};
    use super::*;
    use std::path::Path;
    use uproar_proto::base::limits::REVIEW_TIMEOUT;

    fn load(section: &str) -> Result<(Settings, Effective), String> {
        let text = format!("[review]\n{section}");
        let file = Some((Path::new("uproar.toml"), &*text));
        let dev = Mode::DEV;
        let loaded = settle(dev, file, std::iter::empty(), &Flags::default());
        let loaded = loaded.map_err(|error| error.to_string())?;
        Ok((loaded.settings, loaded.effective))
    }

    /// Goal: valid values are parsed.
    #[test]
    fn handlers_are_found() {
        let (settings, _) = load("").expect("all keys have defaults");
        assert_eq!(settings.shard.review_timeout, REVIEW_TIMEOUT);
        assert!(settings.review.lambda.is_none() && settings.review.functions.is_empty());
        let text = r#"
            timeout_ms = 500
            omitted_attributes = "drop"
            functions = ["arn:aws:lambda:us-west-2:1:function:f=https://a.example:8443/x?y=z"]
            lambda_endpoint = "https://lambda.us-west-2.amazonaws.com"
            lambda_access_key_id = "AKID"
            lambda_secret_access_key = "topmost"
        "#;
        let (settings, printed) = load(text).expect("valid");
        assert_eq!(settings.shard.review_timeout, Duration::from_millis(500));
        let review = &settings.review;
        assert!(review.omitted_attributes_drop);
        let uri = &review.functions["arn:aws:lambda:us-west-2:1:function:f"];
        assert_eq!(uri.to_string(), "https://a.example:8443/x?y=z");
        let lambda = review.lambda.as_ref().expect("an endpoint");
        assert!(lambda.credentials.is_some());
        assert!(!format!("{settings:?}{printed}").contains("topmost"));
    }

    /// Goal: mistakes are named, with the key, and secrets are not printed.
    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("timeout_ms = 0", "review.timeout_ms"),
            ("timeout_ms = 10001", "review.timeout_ms"),
            ("omitted_attributes = \"maybe\"", "keep"),
            ("functions = [\"http://a.example/\"]", "review.functions"),
            (
                "functions = [\"arn:aws:lambda:r:1:function:f=a.example\"]",
                "review.functions",
            ),
            (
                "functions = [\"arn:aws:lambda:r:1:function:f=http://u:p@a.example/\"]",
                "review.functions",
            ),
            (
                "lambda_endpoint = \"localhost:9000\"",
                "review.lambda_endpoint",
            ),
            (
                "lambda_endpoint = \"http://a.example/path\"",
                "review.lambda_endpoint",
            ),
            (
                "lambda_access_key_id = \"AKID\"",
                "review.lambda_access_key_id",
            ),
            (
                "lambda_secret_access_key = \"topmost\"",
                "review.lambda_secret_access_key",
            ),
            (
                "lambda_session_token = \"topmost\"",
                "review.lambda_session_token",
            ),
        ] {
            let error = load(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("topmost"), "{error}");
        }
    }
}
