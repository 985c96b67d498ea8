//! Addresses of message review handlers.

use std::collections::BTreeMap;

use hyper::Uri;

use crate::control::aws_client::Endpoint;
use uproar_proto::base::limits::REVIEW_IN_FLIGHT_MAX;
use uproar_proto::sigv4::sign::{Credentials, escape_path};

/// How messages are reviewed.
#[derive(Debug, Clone, Default)]
pub struct ReviewSettings {
    /// If set, a handler that returns no attributes removes the message's; otherwise they stay.
    pub omitted_attributes_drop: bool,
    /// Functions with a plain URL, by ARN.
    pub functions: BTreeMap<String, Uri>,
    /// The service that invokes all other functions.
    pub lambda: Option<Lambda>,
}

/// A service with Lambda's Invoke API.
#[derive(Debug, Clone)]
pub struct Lambda {
    /// Its address.
    pub endpoint: Endpoint,
    /// Credentials that sign calls; unsigned calls work with some emulators.
    pub credentials: Option<Credentials>,
}

/// How to call one handler.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) uri: Uri,
    /// Region and credentials, if the call is signed.
    pub(super) signed: Option<(String, Credentials)>,
}

impl ReviewSettings {
    /// Whether any handler uses TLS.
    pub fn is_secure(&self) -> bool {
        let is_secure = |uri: &Uri| uri.scheme_str() == Some("https");
        let lambda = self.lambda.as_ref();
        lambda.is_some_and(|lambda| lambda.endpoint.is_secure())
            || self.functions.values().any(is_secure)
    }

    /// Upper bound of connections to handlers.
    pub fn connections_max(&self) -> usize {
        let has_handlers = !self.functions.is_empty() || self.lambda.is_some();
        if has_handlers {
            REVIEW_IN_FLIGHT_MAX
        } else {
            0
        }
    }

    /// How to call the function of this ARN; `None` if its address is not configured.
    pub(super) fn target(&self, function: &str) -> Option<Target> {
        if let Some(uri) = self.functions.get(function) {
            let uri = uri.clone();
            return Some(Target { uri, signed: None });
        }
        let Lambda {
            endpoint,
            credentials,
        } = self.lambda.as_ref()?;
        // A slash in a name must not lead to another path of the service.
        let name = escape_path(function).replace('/', "%2F");
        let path = format!("/2015-03-31/functions/{name}/invocations");
        let uri = endpoint.uri(&path).ok()?;
        let region = function.split(':').nth(3)?.to_owned();
        let signed = credentials.clone().map(|keys| (region, keys));
        Some(Target { uri, signed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUNCTION: &str = "arn:aws:lambda:eu-west-1:123456789012:function:check";

    /// Goal: a mapped function is its URL, any other one is invoked at the endpoint, and its name
    /// cannot change the path.
    #[test]
    fn functions_are_mapped_or_invoked() {
        let mut settings = ReviewSettings::default();
        assert!(settings.target(FUNCTION).is_none());
        settings.lambda = Some(Lambda {
            endpoint: Endpoint::parse("http://127.0.0.1:9001").expect("an endpoint"),
            credentials: None,
        });
        let path = |settings: &ReviewSettings, function: &str| {
            settings.target(function).expect("a target").uri.to_string()
        };
        assert_eq!(
            path(&settings, FUNCTION),
            "http://127.0.0.1:9001/2015-03-31/functions/\
             arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Acheck/invocations"
        );
        let sly = format!("{FUNCTION}/../other?x#y");
        assert!(path(&settings, &sly).ends_with("check%2F..%2Fother%3Fx%23y/invocations"));
        assert!(!settings.is_secure());
        let url = Uri::from_static("https://review.example/check?x=1");
        settings.functions.insert(FUNCTION.to_owned(), url);
        assert_eq!(
            path(&settings, FUNCTION),
            "https://review.example/check?x=1"
        );
        assert!(settings.is_secure());
    }
}
