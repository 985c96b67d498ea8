//! A received request, and why it may not be authentic.

/// A received request.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// The path as received, with its escapes.
    pub path: &'a str,
    /// The query as received, without `?`; empty if none.
    pub query: &'a str,
    /// Header names in lower case, with their values, in order.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The whole body.
    pub body: &'a [u8],
}

impl<'a> Received<'a> {
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(other, _)| *other == name)
            .map(|(_, value)| *value)
    }

    pub(super) fn one(&self, name: &str) -> Option<&'a str> {
        let mut all = self.all(name);
        let value = all.next()?;
        if all.next().is_some() {
            None
        } else {
            std::str::from_utf8(value).ok()
        }
    }
}

/// Why a request is not authentic. Each maps to one AWS exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// The request has no credentials.
    #[error("Request is missing Authentication Token")]
    Missing,
    /// The credentials cannot be parsed.
    #[error("Authorization header is incomplete: {0}")]
    Incomplete(&'static str),
    /// The access key is unknown.
    #[error("The security token included in the request is invalid")]
    UnknownKey,
    /// It is signed for another region, service, day or time, or without a part that must be
    /// signed.
    #[error("Signature does not apply: {0}")]
    Invalid(&'static str),
    /// It is signed with another secret, or was changed since.
    #[error(
        "The request signature we calculated does not match the signature you provided. \
         Check your AWS Secret Access Key and signing method"
    )]
    Mismatch,
}
