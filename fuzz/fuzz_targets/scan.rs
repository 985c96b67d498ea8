//! The scanner of one JSON member: however the text is cut it says the same, in a text that a full parser takes it says
//! what that reads, and what it has read for certain stays read, whatever comes behind.
//!
//! Input: which member, three piece lengths, then the text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;
use uproar_proto::base::limits::REQUEST_ID_ECHOED_BYTES_MAX;
use uproar_proto::chat::request_id_scan;
use uproar_proto::scan::{Scan, mend_lone_surrogates};

/// What a scanner looks for.
struct Wanted {
    key: &'static str,
    scan: fn() -> Scan,
    accept: fn(&str) -> bool,
    value_bytes_max: usize,
}

const SHORT_BYTES_MAX: usize = 24;

fn is_denial(value: &str) -> bool {
    value.trim().eq_ignore_ascii_case("DENY")
}

/// Of a request, as a session does it; of a verdict, as a review does; and a short one, so that its bound is met.
const WANTED: [Wanted; 3] = [
    Wanted {
        key: "RequestId",
        scan: request_id_scan,
        accept: |_| true,
        value_bytes_max: REQUEST_ID_ECHOED_BYTES_MAX,
    },
    Wanted {
        key: "ReviewResult",
        scan: || Scan::new("ReviewResult", 64, is_denial),
        accept: is_denial,
        value_bytes_max: 64,
    },
    Wanted {
        key: "k",
        scan: || Scan::new("k", SHORT_BYTES_MAX, |_| true),
        accept: |_| true,
        value_bytes_max: SHORT_BYTES_MAX,
    },
];

fuzz_target!(|data: &[u8]| {
    let Some(([which, lengths @ ..], text)) = data.split_first_chunk::<4>() else {
        return;
    };
    let wanted = &WANTED[usize::from(*which) % WANTED.len()];
    let found = scanned(wanted, [text].into_iter());
    let (mut pieces, mut rest) = (Vec::new(), text);
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, later) = rest.split_at((usize::from(*length) + 1).min(rest.len()));
        pieces.push(piece);
        rest = later;
    }
    assert_eq!(found, scanned(wanted, pieces.into_iter()));
    assert!(found.as_deref().is_none_or(wanted.accept));
    if let Ok(Members(members)) = serde_json::from_slice(text) {
        agree(wanted, found.as_deref(), &members);
        // A comma and more, or the text once more: what was certain stays.
        let more = scanned(wanted, [text, b",\"", text].into_iter());
        assert!(found.is_none() || more == found, "{found:?} {more:?}");
    } else if serde_json::from_slice::<Value>(text).is_ok() {
        assert_eq!(found, None, "no object");
    }
    mended(text);
});

fn scanned<'a>(wanted: &Wanted, pieces: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let mut scan = (wanted.scan)();
    pieces.for_each(|piece| scan.feed(piece));
    scan.value().map(str::to_owned)
}

/// The first member that fits is the one.
fn agree(wanted: &Wanted, found: Option<&str>, members: &[(String, Value)]) {
    let named = members
        .iter()
        .filter(|(key, _)| key.eq_ignore_ascii_case(wanted.key));
    let values = named.filter_map(|(_, value)| value.as_str());
    for value in values.filter(|value| (wanted.accept)(value)) {
        // As it is written it may be up to six times as long.
        if found == Some(value) {
            return;
        }
        assert!(
            6 * value.len() > wanted.value_bytes_max,
            "{value} was passed over for {found:?}"
        );
    }
    assert_eq!(found, None);
}

/// What is mended is as long as before, needs no mending, and what a parser takes needs none.
fn mended(text: &[u8]) {
    let mut mended = text.to_vec();
    let any = mend_lone_surrogates(&mut mended);
    assert_eq!(mended.len(), text.len());
    assert_eq!(any, mended != text);
    let once = mended.clone();
    assert!(!mend_lone_surrogates(&mut mended) && mended == once);
    assert!(!any || serde_json::from_slice::<Value>(text).is_err());
}

/// The members of an object, all of them, in order.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}
