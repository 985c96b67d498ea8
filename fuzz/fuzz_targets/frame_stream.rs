//! Frames of a client: how the bytes arrive changes nothing of what they say.
//!
//! Input: four piece lengths, of which the first also says whether compression was agreed on, then the
//! stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uproar_proto::base::limits::PARSE_PADDING_BYTES;
use uproar_proto::chat::request_id_scan;
use uproar_proto::ws::{Bounds, Decoder, Inflater, Item, Violation};

/// Small, so that short inputs reach them.
const BOUNDS: Bounds = Bounds {
    message_bytes_max: 512,
    oversized_bytes_max: 2048,
    scan: request_id_scan,
    fragments_max: 8,
};

fuzz_target!(|data: &[u8]| {
    let Some((lengths, stream)) = data.split_first_chunk::<4>() else {
        return;
    };
    let deflate = lengths[0] >= 0x80;
    let lengths = lengths.map(|length| usize::from(length) + 1);
    let whole = decode(stream, &[stream.len()], deflate);
    assert_eq!(whole, decode(stream, &lengths, deflate));
});

/// Everything the stream says: kind and bytes of each item, and how it ends.
fn decode(
    stream: &[u8],
    lengths: &[usize],
    deflate: bool,
) -> (Vec<(char, Vec<u8>)>, Option<Violation>) {
    let mut inflater = Inflater::default();
    let (mut decoder, mut said, mut rest) = (Decoder::default(), Vec::new(), stream);
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, later) = rest.split_at((*length).min(rest.len()));
        rest = later;
        // Padding that would mean something if it were read.
        let mut buffer = [piece, &[0x81; PARSE_PADDING_BYTES]].concat();
        let mut start = 0;
        while start < piece.len() {
            let shared = deflate.then_some(&mut inflater);
            let step = match decoder.step(&mut buffer, start, piece.len(), &BOUNDS, shared) {
                Ok(step) => step,
                Err(violation) => return (said, Some(violation)),
            };
            assert!(step.consumed > 0, "progress");
            start += step.consumed;
            assert!(start <= piece.len(), "nothing behind the received bytes");
            let mut lend = |span| {
                let payload = decoder.payload(span, &mut buffer, Some(&mut inflater));
                payload.into_bytes().to_vec()
            };
            said.extend(step.item.map(|item| match item {
                Item::Text(span) => {
                    let text = String::from_utf8(lend(span)).expect("UTF-8");
                    ('t', bounded(text.into()))
                }
                Item::Binary(span) => ('b', bounded(lend(span))),
                Item::Oversized(scan) => ('s', scan.value().unwrap_or_default().into()),
                Item::Ping(span) => ('i', lend(span)),
                Item::Pong(span) => ('o', lend(span)),
                Item::Close { code, reason } => {
                    let reason = String::from_utf8(lend(reason)).expect("UTF-8");
                    ('c', format!("{code:?} {reason}").into())
                }
            }));
        }
        decoder.release();
    }
    (said, None)
}

fn bounded(payload: Vec<u8>) -> Vec<u8> {
    assert!(payload.len() <= BOUNDS.message_bytes_max);
    payload
}
