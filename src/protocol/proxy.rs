//! Whom a proxy speaks for: PROXY protocol v1 and v2, `X-Forwarded-For`, `Forwarded` (RFC 7239).
//!
//! Only what a trusted proxy says counts. Anybody else's words about addresses are not looked at.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use proxy_header::{ParseConfig, ProxyHeader};

use crate::base::limits::PROXY_HEADER_BYTES_MAX;

/// Addresses whose word counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    header: ForwardedHeader,
}

/// In which header field trusted proxies name the client. One only: a proxy that writes the one hands on the
/// other as the client sent it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For: client, proxy`.
    #[default]
    XForwardedFor,
    /// `Forwarded: for=client, for=proxy`.
    Forwarded,
}

impl ForwardedHeader {
    /// The field's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "X-Forwarded-For",
            Self::Forwarded => "Forwarded",
        }
    }
}

impl TrustedProxies {
    /// These networks, and where they name the client.
    pub fn new(networks: Vec<IpNet>, header: ForwardedHeader) -> Self {
        Self { networks, header }
    }

    /// An address, or a network as in `10.0.0.0/8`.
    pub fn parse_network(text: &str) -> Option<IpNet> {
        let address = IpAddr::from_str(text).map(IpNet::from);
        address.or_else(|_| text.parse()).ok()
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// In which header field they name the client.
    pub fn header(&self) -> ForwardedHeader {
        self.header
    }

    /// Whether `ip` is trusted.
    pub fn trusts(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&ip))
    }

    /// Whom a request is from: `peer`, or whom trusted proxies name in the `values` of their header field,
    /// in the order of the request. Each proxy appends the address it was called from, so the last is
    /// believed if `peer` is trusted, the one before it if the last is trusted, and so on. What cannot be
    /// read ends that: then it is the proxy that wrote it.
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

/// The `for` of one element of `Forwarded`. Quotes have no escapes in an address, and no comma.
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

/// An address, perhaps in brackets, perhaps with a port.
fn node(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']');
    let ip = text
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()))
        .ok()
        .or_else(|| bracketed()?.parse::<IpAddr>().ok().filter(IpAddr::is_ipv6))?;
    Some(ip.to_canonical())
}

/// What the first bytes of a trusted peer's connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preface {
    /// Perhaps a PROXY header: more bytes are needed.
    Incomplete,
    /// None: these bytes are the client's.
    Absent,
    /// A PROXY header.
    Header {
        /// Its length in bytes; what follows is the client's.
        len: usize,
        /// The client; `None`: the proxy speaks for itself (LOCAL, UNKNOWN), as in health checks.
        source: Option<IpAddr>,
    },
}

/// A PROXY header that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Malformed PROXY protocol header, or longer than {PROXY_HEADER_BYTES_MAX} bytes")]
pub struct PrefaceFault;

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family and length of v2.
const V2_FIXED_BYTES: usize = 16;
/// Longest line of v1, its end included.
const V1_BYTES_MAX: usize = 107;

/// Reads a PROXY header, v1 or v2, off the start of `received`, everything so far.
///
/// # Errors
///
/// What begins like a header must be one.
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

/// How long a header of v2 is, as it says.
fn v2_len(received: &[u8]) -> Result<usize, PrefaceFault> {
    let claimed = received[V2_FIXED_BYTES - 2..].first_chunk().copied();
    let claimed = u16::from_be_bytes(claimed.ok_or(PrefaceFault)?);
    let len = V2_FIXED_BYTES + usize::from(claimed);
    (len <= PROXY_HEADER_BYTES_MAX)
        .then_some(len)
        .ok_or(PrefaceFault)
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
