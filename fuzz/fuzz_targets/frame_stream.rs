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
            let inflater = deflate.then_some(&mut inflater);
            let step = match decoder.step(&mut buffer, start, piece.len(), &BOUNDS, inflater) {
                Ok(step) => step,
                Err(violation) => return (said, Some(violation)),
            };
            assert!(step.consumed > 0, "progress");
            start += step.consumed;
            assert!(start <= piece.len(), "nothing behind the received bytes");
            said.extend(step.item.map(|item| match item {
                Item::Text(payload) => {
                    assert!(std::str::from_utf8(payload.bytes()).is_ok());
                    ('t', bounded(payload.bytes()))
                }
                Item::Binary(payload) => ('b', bounded(payload.bytes())),
                Item::Oversized(scan) => ('s', scan.value().unwrap_or_default().into()),
                Item::Ping(payload) => ('i', payload.to_vec()),
                Item::Pong(payload) => ('o', payload.to_vec()),
                Item::Close { code, reason } => ('c', format!("{code:?} {reason}").into()),
            }));
        }
        decoder.release();
    }
    (said, None)
}

fn bounded(payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() <= BOUNDS.message_bytes_max);
    payload.to_vec()
}
