//! `Sec-WebSocket-Extensions`: reads offers of permessage-deflate and answers one of them (RFC 6455
//! §9.1, RFC 7692 §7).
//!
//! An offer with any unknown part is declined, as RFC 7692 §7 requires, and the next one is tried;
//! a field that is not a list of extensions is read up to its error. No offer makes a handshake
//! fail.

#![expect(
    clippy::indexing_slicing,
    reason = "the first byte was read before it is passed over"
)]

use std::fmt::Write;

use crate::base::limits::EXTENSION_OFFERS_MAX;

const NAME: &str = "permessage-deflate";
/// Valid window sizes, as powers of two (RFC 7692 §7.1.2).
const BITS: std::ops::RangeInclusive<u8> = 8..=15;

/// The offers of permessage-deflate that can be accepted, in the client's order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offers {
    offers: [Option<Offer>; EXTENSION_OFFERS_MAX],
    len: usize,
}

/// The largest window that the client accepts, if its offer sets a bound. A bound on its own window
/// is ignored: the inflater has the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Offer {
    server_bits: Option<u8>,
}

/// An agreement: each message is compressed on its own, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// The window the server compresses with, as a power of two.
    pub window_bits: u8,
    // The client asked for a bound, so the answer must name one (§7.1.2.1).
    named: bool,
}

impl Offers {
    /// Reads one more header field, in time linear in its length; the head parser bounds the
    /// length.
    pub fn read(&mut self, field: &[u8]) {
        let mut reader = Reader { rest: field };
        loop {
            let Some((name, offer)) = reader.extension() else {
                return;
            };
            let more = reader.takes(b',');
            if !more && !reader.rest.is_empty() {
                return;
            }
            if name.eq_ignore_ascii_case(NAME.as_bytes())
                && offer.is_some()
                && let Some(place) = self.offers.get_mut(self.len)
            {
                *place = offer;
                self.len += 1;
            }
            if !more {
                return;
            }
        }
    }

    /// Accepts the first offer that a server can meet if it compresses with `window_bits`, or with
    /// fewer, down to `window_bits_min`, where an offer requires it.
    pub fn agree(&self, window_bits_min: u8, window_bits: u8) -> Option<Agreement> {
        let offers = self.offers.iter().flatten();
        offers
            .map(|offer| offer.server_bits)
            .find(|bits| bits.is_none_or(|bits| bits >= window_bits_min))
            .map(|bits| Agreement {
                window_bits: bits.map_or(window_bits, |bits| bits.min(window_bits)),
                named: bits.is_some(),
            })
    }
}

impl Agreement {
    /// Appends the value of the answer's `Sec-WebSocket-Extensions`.
    pub fn answer(&self, out: &mut Vec<u8>) {
        let mut text = format!("{NAME}; server_no_context_takeover; client_no_context_takeover");
        if self.named {
            let _infallible = write!(text, "; server_max_window_bits={}", self.window_bits);
        }
        out.extend_from_slice(text.as_bytes());
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads one extension of the list: its name, and its offer if it is permessage-deflate; `None`
    /// if the field is not a list of extensions.
    fn extension(&mut self) -> Option<(&'a [u8], Option<Offer>)> {
        // RFC 9110 §5.6.1.2: empty list elements are ignored.
        while self.takes(b',') {}
        let name = self.token()?;
        let mut read = Some(Params::default());
        while self.takes(b';') {
            let param = self.token()?;
            let value = if self.takes(b'=') {
                Some(self.value()?)
            } else {
                None
            };
            read = read.and_then(|read| read.with(param, value));
        }
        Some((name, read.map(|read| read.offer)))
    }

    fn takes(&mut self, byte: u8) -> bool {
        self.rest = self.rest.trim_ascii_start();
        let rest = self.rest.strip_prefix(&[byte]);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn token(&mut self) -> Option<&'a [u8]> {
        self.rest = self.rest.trim_ascii_start();
        let end = self.rest.iter().position(|byte| !is_token(*byte));
        let (token, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    /// Reads a token, quoted or not. Quoted pairs are not unescaped: a text that needs one is not a
    /// token.
    fn value(&mut self) -> Option<&'a [u8]> {
        if !self.takes(b'"') {
            return self.token();
        }
        let mut escaped = false;
        let end = self.rest.iter().position(|byte| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        })?;
        let (value, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        Some(value)
    }
}

/// Whether a byte may be in a token (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The parameters of one offer, each at most once.
#[derive(Debug, Clone, Copy, Default)]
struct Params {
    offer: Offer,
    server_alone: bool,
    client_alone: bool,
    client_bits: bool,
}

impl Params {
    /// Adds a parameter; `None` if the offer must be declined for it (RFC 7692 §7.1).
    fn with(mut self, name: &[u8], value: Option<&[u8]>) -> Option<Self> {
        let first = match name.to_ascii_lowercase().as_slice() {
            b"server_no_context_takeover" if value.is_none() => {
                !std::mem::replace(&mut self.server_alone, true)
            }
            b"client_no_context_takeover" if value.is_none() => {
                !std::mem::replace(&mut self.client_alone, true)
            }
            b"server_max_window_bits" => {
                let bits = bits(value?)?;
                self.offer.server_bits.replace(bits).is_none()
            }
            b"client_max_window_bits" => {
                if let Some(value) = value {
                    bits(value)?;
                }
                !std::mem::replace(&mut self.client_bits, true)
            }
            _ => false,
        };
        first.then_some(self)
    }
}

/// Parses 8 to 15 without leading zeros (RFC 7692 §7.1.2.1).
fn bits(value: &[u8]) -> Option<u8> {
    let number = match *value {
        [digit @ b'8'..=b'9'] => digit - b'0',
        [b'1', digit @ b'0'..=b'5'] => 10 + digit - b'0',
        _ => return None,
    };
    BITS.contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn agree(fields: &[&str], min: u8, own: u8) -> Option<String> {
        let mut offers = Offers::default();
        for field in fields {
            offers.read(field.as_bytes());
        }
        let mut out = Vec::new();
        offers.agree(min, own)?.answer(&mut out);
        Some(String::from_utf8(out).expect("ASCII"))
    }

    const PLAIN: &str =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    /// Goal: the offers of browsers and libraries are accepted, with a window they can take.
    #[test]
    fn offers_of_known_clients_are_accepted() {
        let plain = Some(PLAIN.to_owned());
        let named = |bits| Some(format!("{PLAIN}; server_max_window_bits={bits}"));
        let cases: &[(&[&str], Option<String>)] = &[
            (
                &["permessage-deflate; client_max_window_bits"],
                plain.clone(),
            ),
            (&["permessage-deflate"], plain.clone()),
            (
                &["permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"],
                named(12),
            ),
            (
                &["Permessage-Deflate;server_max_window_bits=\"15\""],
                named(12),
            ),
            (
                &["permessage-deflate; server_no_context_takeover; client_no_context_takeover"],
                plain.clone(),
            ),
            // The first offer that can be met is accepted.
            (
                &["permessage-deflate; server_max_window_bits=9, permessage-deflate"],
                plain.clone(),
            ),
            (
                &[
                    "x-webkit-deflate-frame",
                    "foo; a=\"b,\\\"c;\", permessage-deflate",
                ],
                plain.clone(),
            ),
            (&[",, permessage-deflate ,"], plain),
        ];
        for (fields, answer) in cases {
            assert_eq!(&agree(fields, 12, 12), answer, "{fields:?}");
        }
        let small = ["permessage-deflate; server_max_window_bits=9"];
        assert_eq!(agree(&small, 9, 15), named(9), "a server that can");
    }

    /// Goal: an offer with any unknown part is declined.
    #[test]
    fn doubtful_offers_are_declined() {
        for params in [
            "; server_max_window_bits",
            "; server_max_window_bits=7",
            "; server_max_window_bits=16",
            "; server_max_window_bits=08",
            "; server_max_window_bits=4294967304",
            "; server_max_window_bits=+9",
            "; server_max_window_bits=\"\"",
            "; server_max_window_bits=11",
            "; client_max_window_bits=",
            "; client_max_window_bits=99",
            "; client_max_window_bits; client_max_window_bits=15",
            "; server_no_context_takeover=1",
            "; client_no_context_takeover; client_no_context_takeover",
            "; unknown",
            "; constructor; toString",
            "=15",
            "; =",
            " server_no_context_takeover",
            "; client_max_window_bits=\"15",
            "; a\u{e9}",
            ";;;",
        ] {
            let field = format!("permessage-deflate{params}");
            let declined = agree(&[&field], 12, 12);
            // A name that ends the list leaves a bare offer before it, which must not be accepted
            // as another one.
            assert!(declined.is_none(), "{field}: {declined:?}");
            // The next field is still read.
            assert!(agree(&[&field, "permessage-deflate"], 12, 12).is_some());
        }
        let many = "permessage-deflate; server_max_window_bits=8,".repeat(100);
        assert_eq!(
            agree(&[&many, "permessage-deflate"], 12, 12),
            None,
            "bounded"
        );
    }

    proptest! {
        /// Goal: no bytes panic; an offer after any valid list is found.
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut offers = Offers::default();
            offers.read(&bytes);
            offers.read(&[b"permessage-deflate; ", &bytes[..]].concat());
            offers.read(b"permessage-deflate");
            prop_assert!(offers.agree(12, 12).is_some());
        }
    }
}
