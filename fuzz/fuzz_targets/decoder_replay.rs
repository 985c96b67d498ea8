//! A decoder that is replaced by a fresh one, which got its replay, reads the rest of the stream as it would have.
//!
//! Input: three bytes say where the stream is cut and whether compression was agreed on, then the stream.

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

/// Kind and bytes of each item, and the violation that ended the stream.
type Read = (Vec<(char, Vec<u8>)>, Option<Violation>);

fuzz_target!(|data: &[u8]| {
    let Some(([high, low, deflate], stream)) = data.split_first_chunk::<3>() else {
        return;
    };
    let cut = (usize::from(*high) << 8 | usize::from(*low)) % (stream.len() + 1);
    let mut inflater = (*deflate >= 0x80).then(Inflater::default);
    let (mut whole, mut decoder) = (Read::default(), Decoder::default());
    feed(&mut whole, &mut decoder, stream, &mut inflater);
    let (mut read, mut decoder) = (Read::default(), Decoder::default());
    feed(&mut read, &mut decoder, &stream[..cut], &mut inflater);
    if read.1.is_none() {
        let Some(replay) = decoder.replay() else {
            return;
        };
        let (mut silent, mut fresh) = (Read::default(), Decoder::default());
        feed(&mut silent, &mut fresh, &replay, &mut inflater);
        assert_eq!(silent, Read::default(), "a replay has no item");
        assert_eq!(fresh.replay(), Some(replay), "and is replayed the same");
        feed(&mut read, &mut fresh, &stream[cut..], &mut inflater);
    }
    assert_eq!(read, whole);
});

/// Reads received bytes, up to a violation.
fn feed(read: &mut Read, decoder: &mut Decoder, bytes: &[u8], inflater: &mut Option<Inflater>) {
    let mut buffer = [bytes, &[0x81; PARSE_PADDING_BYTES]].concat();
    let mut start = 0;
    while start < bytes.len() {
        let step = decoder.step(&mut buffer, start, bytes.len(), &BOUNDS, inflater.as_mut());
        let step = match step {
            Ok(step) => step,
            Err(violation) => {
                read.1 = Some(violation);
                return;
            }
        };
        start += step.consumed;
        let mut lend = |span| {
            let payload = decoder.payload(span, &mut buffer, inflater.as_mut());
            payload.into_bytes().to_vec()
        };
        read.0.extend(step.item.map(|item| match item {
            Item::Text(span) => ('t', lend(span)),
            Item::Binary(span) => ('b', lend(span)),
            Item::Oversized(scan) => ('s', scan.value().unwrap_or_default().into()),
            Item::Ping(span) => ('i', lend(span)),
            Item::Pong(span) => ('o', lend(span)),
            Item::Close { code, reason } => {
                let reason = lend(reason);
                ('c', [format!("{code:?} ").as_bytes(), &reason].concat())
            }
        }));
    }
    decoder.release();
}
