//! The client's address behind a proxy: PROXY protocol v1 and v2, `X-Forwarded-For`, `Forwarded`
//! (RFC 7239).
//!
//! Only trusted proxies may name an address; such headers of other peers are ignored.

#![expect(clippy::indexing_slicing, reason = "lengths are minima of both slices")]

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use proxy_header::{ParseConfig, ProxyHeader};

use crate::base::limits::PROXY_HEADER_BYTES_MAX;

/// The addresses of trusted proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    header: ForwardedHeader,
}

/// The header field in which trusted proxies name the client. Only one is read: a proxy that writes
/// one field passes on the other as the client sent it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For: client, proxy`.
    #[default]
    XForwardedFor,
    /// `Forwarded: for=client, for=proxy`.
    Forwarded,
}

impl ForwardedHeader {
    /// Returns the field's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "X-Forwarded-For",
            Self::Forwarded => "Forwarded",
        }
    }
}

impl TrustedProxies {
    /// Trusts these networks, which name the client in `header`.
    pub fn new(networks: Vec<IpNet>, header: ForwardedHeader) -> Self {
        Self { networks, header }
    }

    /// Parses an address, or a network as in `10.0.0.0/8`.
    pub fn parse_network(text: &str) -> Option<IpNet> {
        let address = IpAddr::from_str(text).map(IpNet::from);
        address.or_else(|_| text.parse()).ok()
    }

    /// Whether no address is trusted.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Returns the header field in which they name the client.
    pub fn header(&self) -> ForwardedHeader {
        self.header
    }

    /// Whether `ip` is trusted.
    pub fn trusts(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&ip))
    }

    /// Returns the client of a request: `peer`, or the address that trusted proxies name in the
    /// `values` of their header field, in the order of the request. Each proxy appends its peer's
    /// address, so the last one is used if `peer` is trusted, the one before it if the last is
    /// trusted, and so on. A value that cannot be parsed ends the walk at the proxy that wrote it.
    pub fn viewer<'a>(
        &self,
        peer: IpAddr,
        values: impl DoubleEndedIterator<Item = &'a [u8]>,
    ) -> IpAddr {
        let mut viewer = peer;
        for value in values.rev() {
            for element in value.rsplit(|byte| *byte == b',') {
                if !self.trusts(viewer) {
                    return viewer;
                }
                let named = std::str::from_utf8(element).ok().and_then(|element| {
                    let element = element.trim_matches([' ', '\t']);
                    match self.header {
                        ForwardedHeader::XForwardedFor => node(element),
                        ForwardedHeader::Forwarded => node(forwarded_for(element)?),
                    }
                });
                match named {
                    Some(ip) => viewer = ip,
                    None => return viewer,
                }
            }
        }
        viewer
    }
}

/// Returns the `for` of one element of `Forwarded`. A quoted address has no escapes and no comma.
fn forwarded_for(element: &str) -> Option<&str> {
    let mut found = None;
    for pair in element.split(';') {
        let (name, value) = pair.split_once('=')?;
        if name.trim_matches([' ', '\t']).eq_ignore_ascii_case("for") {
            if found.is_some() {
                return None;
            }
            let value = value.trim_matches([' ', '\t']);
            let bare = value.strip_prefix('"').map(|rest| rest.strip_suffix('"'));
            found = Some(bare.unwrap_or(Some(value))?);
        }
    }
    found
}

/// Parses an address, perhaps in brackets, perhaps with a port.
fn node(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']');
    let ip = text
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()))
        .ok()
        .or_else(|| bracketed()?.parse::<IpAddr>().ok().filter(IpAddr::is_ipv6))?;
    Some(ip.to_canonical())
}

/// The first bytes of a trusted peer's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Preface {
    /// They may be a PROXY header: more bytes are needed.
    Incomplete,
    /// There is no header: these bytes are the client's.
    Absent,
    /// They begin with a PROXY header.
    Header {
        /// Its length in bytes; the client's bytes follow.
        len: usize,
        /// The client's address; `None`: the connection is the proxy's own (LOCAL, UNKNOWN), as in
        /// health checks.
        source: Option<IpAddr>,
    },
}

/// The PROXY header is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Malformed PROXY protocol header, or longer than {PROXY_HEADER_BYTES_MAX} bytes")]
pub struct PrefaceFault;

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of signature, command, family and length of v2.
const V2_FIXED_BYTES: usize = 16;
/// Most bytes of a line of v1, including its end.
const V1_BYTES_MAX: usize = 107;

/// Reads a PROXY header, v1 or v2, from the start of `received`, all bytes so far.
///
/// # Errors
///
/// Bytes that begin like a header are not one.
pub fn preface(received: &[u8]) -> Result<Preface, PrefaceFault> {
    let begins = |with: &[u8]| {
        let len = with.len().min(received.len());
        received[..len] == with[..len]
    };
    let bound = match (begins(V1), begins(V2)) {
        (false, false) => return Ok(Preface::Absent),
        (true, false) if received.len() >= V1.len() => V1_BYTES_MAX,
        (false, true) if received.len() >= V2_FIXED_BYTES => v2_len(received)?,
        _ => return Ok(Preface::Incomplete),
    };
    let within = &received[..received.len().min(bound)];
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    match ProxyHeader::parse(within, config) {
        Ok((header, len)) => {
            let source = header.proxied_address().map(|proxied| proxied.source);
            let source = source.map(|source| source.ip().to_canonical());
            Ok(Preface::Header { len, source })
        }
        Err(proxy_header::Error::BufferTooShort) if received.len() < bound => {
            Ok(Preface::Incomplete)
        }
        Err(_) => Err(PrefaceFault),
    }
}

/// Returns the length that a header of v2 declares.
fn v2_len(received: &[u8]) -> Result<usize, PrefaceFault> {
    let claimed = received[V2_FIXED_BYTES - 2..].first_chunk().copied();
    let claimed = u16::from_be_bytes(claimed.ok_or(PrefaceFault)?);
    let len = V2_FIXED_BYTES + usize::from(claimed);
    (len <= PROXY_HEADER_BYTES_MAX)
        .then_some(len)
        .ok_or(PrefaceFault)
}

#[cfg(test)]
mod tests;
