//! Parses a whole head: a WebSocket handshake, or a request for a page.

#![expect(
    clippy::indexing_slicing,
    reason = "a table of 256 has an entry for each byte"
)]

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::fault::HeadFault;
use super::scanner::HeadScanner;
use crate::base::limits::{HEAD_FIELDS_MAX, TOKEN_BYTES_MAX};
use crate::ws::extension::Offers;

/// Hands `read` the values of the field `name` in the order of the head, which must be whole, as
/// [`HeadScanner`] delimits it.
///
/// # Errors
///
/// The errors of [`parse`] about fields.
pub fn field_values(
    head: &[u8],
    name: &'static str,
    read: impl FnOnce(&mut dyn DoubleEndedIterator<Item = &[u8]>),
) -> Result<(), HeadFault> {
    let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(HeadFault::TooManyFields),
        Ok(httparse::Status::Partial) | Err(_) => return Err(HeadFault::Malformed),
    }
    let named = |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
    read(
        &mut request
            .headers
            .iter()
            .filter(named)
            .map(|field| field.value),
    );
    Ok(())
}

/// The request of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// A WebSocket handshake.
    Upgrade(Upgrade<'a>),
    /// A request for a page; no field of the head belongs to an upgrade.
    Plain {
        /// `GET` or `HEAD`.
        method: &'a str,
        /// Path and query.
        target: &'a str,
        /// `Host`; empty: it is not ASCII.
        host: &'a str,
    },
}

/// A WebSocket handshake (RFC 6455 §4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upgrade<'a> {
    /// `Sec-WebSocket-Key`.
    pub key: &'a str,
    /// The only offered subprotocol: the chat token.
    pub token: Option<&'a str>,
    /// `Origin`, which browsers send.
    pub origin: Option<&'a str>,
    /// Path and query.
    pub target: &'a str,
    /// The offers of compression.
    pub offers: Offers,
}

/// Parses a whole head, as [`HeadScanner`] delimits it.
pub fn parse(head: &[u8]) -> Result<Request<'_>, HeadFault> {
    if HeadScanner::default().scan(head)? != Some(head.len()) {
        return Err(HeadFault::Malformed);
    }
    let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(HeadFault::TooManyFields),
        Err(httparse::Error::Version) => return Err(HeadFault::Version),
        Ok(httparse::Status::Partial) | Err(_) => return Err(HeadFault::Malformed),
    }
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(HeadFault::Malformed);
    };
    let fields = Fields(request.headers);
    if version != 1 {
        return Err(HeadFault::Version);
    }
    let host = text(fields.once("Host")?).unwrap_or_default();
    if fields.has("Transfer-Encoding") || fields.all("Content-Length").any(|value| value != b"0") {
        return Err(HeadFault::Body);
    }
    if fields.all("Content-Length").count() > 1 {
        return Err(HeadFault::NotOnce("Content-Length"));
    }
    if !matches!(method, "GET" | "HEAD") {
        return Err(HeadFault::Method);
    }
    if !fields.want_upgrade() {
        return Ok(Request::Plain {
            method,
            target,
            host,
        });
    }
    if method != "GET" {
        return Err(HeadFault::Method);
    }
    if !fields.lists("Upgrade", "websocket") {
        return Err(HeadFault::OtherUpgrade);
    }
    upgrade(&fields, target).map(Request::Upgrade)
}

/// The key's last character may have meaningless bits set, as in RFC 6455's own example.
const KEY: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

fn upgrade<'a>(fields: &Fields<'_, 'a>, target: &'a str) -> Result<Upgrade<'a>, HeadFault> {
    if !fields.lists("Connection", "upgrade") {
        return Err(HeadFault::Handshake("Connection must list Upgrade"));
    }
    if fields.once("Sec-WebSocket-Version")? != b"13" {
        return Err(HeadFault::WebSocketVersion);
    }
    let key = text(fields.once("Sec-WebSocket-Key")?)
        .filter(|key| KEY.decode(key).is_ok_and(|bytes| bytes.len() == 16))
        .ok_or(HeadFault::Handshake(
            "Sec-WebSocket-Key must be 16 bytes in base64",
        ))?;
    let token = match fields
        .at_most_once("Sec-WebSocket-Protocol")
        .map_err(|_| HeadFault::Token)?
    {
        None | Some(b"") => None,
        Some(value) => Some(token(value).ok_or(HeadFault::Token)?),
    };
    let origin = fields.at_most_once("Origin")?.and_then(text);
    let mut offers = Offers::default();
    for field in fields.all("Sec-WebSocket-Extensions") {
        offers.read(field);
    }
    Ok(Upgrade {
        key,
        token,
        origin,
        target,
        offers,
    })
}

fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| text.is_ascii())
}

/// Parses a list of one token (RFC 9110 §5.6.2). The list may have empty elements, which a
/// recipient must ignore (§5.6.1.2).
fn token(value: &[u8]) -> Option<&str> {
    let mut elements = value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty());
    let value = elements.next().filter(|_| elements.next().is_none())?;
    (value.len() <= TOKEN_BYTES_MAX && value.iter().all(|byte| IS_TOKEN[usize::from(*byte)]))
        .then(|| text(value))
        .flatten()
}

/// Whether a byte is a `tchar` of RFC 9110.
#[expect(clippy::as_conversions, reason = "usize::from is not const")]
const IS_TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut marks: &[u8] = b"!#$%&'*+-.^_`|~";
    while let [mark, rest @ ..] = marks {
        table[*mark as usize] = true;
        marks = rest;
    }
    table
};

struct Fields<'f, 'a>(&'f [httparse::Header<'a>]);

impl<'a> Fields<'_, 'a> {
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|f| f.value)
    }

    fn has(&self, name: &'static str) -> bool {
        self.all(name).next().is_some()
    }

    fn at_most_once(&self, name: &'static str) -> Result<Option<&'a [u8]>, HeadFault> {
        let mut all = self.all(name);
        let first = all.next();
        if all.next().is_some() {
            Err(HeadFault::NotOnce(name))
        } else {
            Ok(first)
        }
    }

    fn once(&self, name: &'static str) -> Result<&'a [u8], HeadFault> {
        self.at_most_once(name)?.ok_or(HeadFault::NotOnce(name))
    }

    /// Whether any field belongs to an upgrade. Half a handshake comes from a broken client, or a
    /// proxy that dropped the rest; a page would hide that.
    fn want_upgrade(&self) -> bool {
        const WEB_SOCKET: &str = "Sec-WebSocket-";
        self.has("Upgrade")
            || self.lists("Connection", "upgrade")
            || self.0.iter().any(|field| {
                let start = field.name.get(..WEB_SOCKET.len());
                start.is_some_and(|start| start.eq_ignore_ascii_case(WEB_SOCKET))
            })
    }

    /// Whether a comma-separated field lists `item`, in any letter case.
    fn lists(&self, name: &'static str, item: &str) -> bool {
        self.all(name).any(|value| {
            value
                .split(|byte| *byte == b',')
                .any(|part| part.trim_ascii().eq_ignore_ascii_case(item.as_bytes()))
        })
    }
}
