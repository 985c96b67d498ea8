//! One request of the control listener as its handlers see it: who sent it, and what its signature
//! covers.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;

use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::http::request::Parts;

use super::calls::Calls;
use crate::control::admission::AdmissionSlot;
use uproar_proto::sigv4::Received;

/// State of a call besides its head.
#[derive(Default)]
pub(super) struct CallContext {
    /// The access key id, once it is authenticated.
    pub(super) key: Option<String>,
    /// The part of the body that was read.
    pub(super) body: Bytes,
}

/// The caller of a request.
pub(super) struct Caller {
    /// The client's address, also behind a trusted proxy.
    pub(super) ip: IpAddr,
    /// Whether nobody between the client and this server can read along: by TLS, or on one machine.
    pub(super) is_private: bool,
    /// Its connection's admission slot.
    pub(super) slot: Rc<AdmissionSlot>,
    /// Set when its connection ends while the client may still be sending.
    pub(super) ends_unread: Rc<Cell<bool>>,
    /// Its connection's calls.
    pub(super) calls: Calls,
}

/// The headers that a signature may cover.
pub(super) fn signed_headers(parts: &Parts) -> Vec<(&str, &[u8])> {
    let mut headers: Vec<(&str, &[u8])> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    // HTTP/2 carries the host as `:authority`; some clients sign it by that name, others as the
    // host.
    let authority = parts
        .uri
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    if let Some(authority) = authority {
        headers.push((":authority", authority));
        if !parts.headers.contains_key(HOST) {
            headers.push(("host", authority));
        }
    }
    headers
}

/// A request for the verifier, before its body is read; `headers` are [`signed_headers`].
pub(super) fn without_body<'a>(
    parts: &'a Parts,
    headers: &'a [(&'a str, &'a [u8])],
) -> Received<'a> {
    Received {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers,
        body: &[],
    }
}
