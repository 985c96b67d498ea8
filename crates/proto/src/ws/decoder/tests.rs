//! Streams of tungstenite's client, fragments, compression, violations, in any pieces.

use std::io::Cursor;

use super::*;
use crate::scan::Scan;
use proptest::prelude::*;
use tungstenite::Message;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

const BOUNDS: Bounds = Bounds {
    message_bytes_max: 16 * 1024,
    oversized_bytes_max: 128 * 1024,
    scan: || Scan::new("RequestId", 300, |_| true),
    fragments_max: 64,
};

/// Decodes a stream: kind and payload of each item, then the violation if there is one.
fn decode(stream: &[u8], chunks: &[usize]) -> (Vec<(char, Vec<u8>)>, Option<Violation>) {
    decode_with(None, stream, chunks)
}

/// Does the same on a connection that agreed to compression.
fn decode_deflated(stream: &[u8], chunks: &[usize]) -> (Vec<(char, Vec<u8>)>, Option<Violation>) {
    decode_with(Some(&mut Inflater::default()), stream, chunks)
}

fn decode_with(
    mut inflater: Option<&mut Inflater>,
    stream: &[u8],
    chunks: &[usize],
) -> (Vec<(char, Vec<u8>)>, Option<Violation>) {
    let (mut decoder, mut read) = (Decoder::default(), Read::default());
    let mut sizes = chunks.iter().cycle();
    let mut rest = stream;
    while !rest.is_empty() && read.1.is_none() {
        let len = (*sizes.next().expect("endless")).clamp(1, rest.len());
        read.feed(&mut decoder, &rest[..len], inflater.as_deref_mut());
        rest = &rest[len..];
    }
    let Read(items, violation) = read;
    (items, violation)
}

/// What was read of a stream: kind and payload of each item, and the violation that ended it.
#[derive(Debug, Default, PartialEq)]
struct Read(Vec<(char, Vec<u8>)>, Option<Violation>);

impl Read {
    /// Reads the next received bytes, up to a violation.
    fn feed(&mut self, decoder: &mut Decoder, bytes: &[u8], mut inflater: Option<&mut Inflater>) {
        let len = bytes.len();
        let mut buffer = bytes.to_vec();
        // Padding that would change the result if it were read as bytes of the message.
        buffer.resize(len + PARSE_PADDING_BYTES, b'{');
        let mut start = 0;
        while start < len {
            let shared = inflater.as_deref_mut();
            let step = match decoder.step(&mut buffer, start, len, &BOUNDS, shared) {
                Ok(step) => step,
                Err(violation) => {
                    self.1 = Some(violation);
                    return;
                }
            };
            assert!(
                step.consumed > 0 && start + step.consumed <= len,
                "progress in bounds"
            );
            start += step.consumed;
            let mut lend = |span| {
                let shared = inflater.as_deref_mut();
                let payload = decoder.payload(span, &mut buffer, shared);
                payload.into_bytes().to_vec()
            };
            self.0.extend(step.item.map(|item| match item {
                Item::Text(span) => ('t', lend(span)),
                Item::Binary(span) => ('b', lend(span)),
                Item::Oversized(scan) => {
                    ('s', scan.value().unwrap_or_default().as_bytes().to_vec())
                }
                Item::Ping(span) => ('i', lend(span)),
                Item::Pong(span) => ('o', lend(span)),
                Item::Close { code, reason } => {
                    let reason = String::from_utf8(lend(reason)).expect("UTF-8");
                    ('c', format!("{code:?}{reason}").into_bytes())
                }
            }));
        }
        decoder.release();
        assert!(
            !decoder.is_idle() || decoder.assembly.is_none(),
            "idle costs nothing"
        );
    }
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | u8::try_from(len).expect("short")),
        len @ 126..0x1_0000 => {
            frame.push(0x80 | 0x7E);
            frame.extend(u16::try_from(len).expect("short").to_be_bytes());
        }
        len => {
            frame.push(0x80 | 0x7F);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    frame.extend(mask);
    frame.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        ".{0,300}".prop_map(Message::text),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Message::binary),
        prop::collection::vec(any::<u8>(), 0..125).prop_map(|p| Message::Ping(p.into())),
        prop::collection::vec(any::<u8>(), 0..125).prop_map(|p| Message::Pong(p.into())),
    ]
}

/// Reads a stream with one decoder to `cut`, and on with a fresh one that got the first one's replay.
fn decode_replayed(stream: &[u8], cut: usize, deflate: bool) -> Option<Read> {
    let mut inflater = deflate.then(Inflater::default);
    let mut decoder = Decoder::default();
    let mut read = Read::default();
    read.feed(&mut decoder, &stream[..cut], inflater.as_mut());
    if read.1.is_some() {
        return Some(read);
    }
    let replay = decoder.replay()?;
    assert!(
        replay.len() <= BOUNDS.message_bytes_max + 64 * 8 + 125 + 28,
        "{}",
        replay.len()
    );
    let (mut fresh, mut silent) = (Decoder::default(), Read::default());
    silent.feed(&mut fresh, &replay, inflater.as_mut());
    assert_eq!(silent, Read::default(), "a replay has no item");
    assert_eq!(fresh.fragments(), decoder.fragments());
    assert_eq!(
        fresh.replay().as_ref(),
        Some(&replay),
        "and is replayed the same"
    );
    read.feed(&mut fresh, &stream[cut..], inflater.as_mut());
    Some(read)
}

/// Goal: a stream is read the same if the decoder is replaced anywhere by a fresh one with the first one's
/// replay. Method: a stream with everything a decoder can hold, cut at each byte, plain and compressed.
#[test]
fn a_decoder_is_replaced_at_each_byte() {
    let mut plain = Vec::new();
    for (first, payload) in [
        (0x01, "hällo \u{1F600}".as_bytes()),
        (0x00, b""),
        (0x89, b"a ping between"),
        (0x00, &[0xF0, 0x9F]),
        (0x8A, b""),
        (0x00, &[0x98, 0x80]),
        (0x80, b"end"),
        (0x82, &[7; 300]),
        (0x81, b"whole"),
        (0x02, &[9; 70]),
        (0x80, &[8; 126]),
        (0x88, &[3, 232, b'x']),
    ] {
        plain.extend(frame(first, payload));
    }
    let mut compressed = Vec::new();
    let bytes = deflated(b"a text that is compressed, and a text that is compressed");
    let (one, two) = bytes.split_at(11);
    for (first, payload) in [
        (0x41, one),
        (0x89, b"p"),
        (0x00, b""),
        (0x80, two),
        (0xC1, &bytes),
        (0x81, b"x"),
    ] {
        compressed.extend(frame(first, payload));
    }
    for (stream, deflate) in [(plain, false), (compressed, true)] {
        let whole = decode_replayed(&stream, 0, deflate).expect("nothing is too large");
        assert!(whole.1.is_none() && whole.0.len() >= 4, "{whole:?}");
        for cut in 0..=stream.len() {
            let read = decode_replayed(&stream, cut, deflate);
            assert_eq!(read.as_ref(), Some(&whole), "cut at {cut}");
        }
    }
}

/// Goal: a message too large to keep has no replay while it arrives, and the decoder has one again after it.
#[test]
fn an_oversized_message_has_no_replay() {
    let stream = frame(0x81, &vec![b'x'; 20_000]);
    let (mut decoder, mut read) = (Decoder::default(), Read::default());
    read.feed(&mut decoder, &stream[..100], None);
    assert_eq!(decoder.replay(), None);
    read.feed(&mut decoder, &stream[100..], None);
    assert_eq!(decoder.replay(), Some(Vec::new()));
}

proptest! {
    /// Goal: as above, for arbitrary frames, broken ones too, in any cut.
    #[test]
    fn a_decoder_is_replaced_anywhere(
        frames in prop::collection::vec(
            (prop::sample::select(vec![0x01_u8, 0x00, 0x80, 0x81, 0x82, 0x89, 0x8A, 0x41, 0xC1, 0x88, 0x09]),
             prop::collection::vec(prop_oneof![Just(0x20), any::<u8>()], 0..200)),
            1..12),
        cut in any::<prop::sample::Index>(),
        deflate in any::<bool>(),
    ) {
        let stream: Vec<u8> = frames.iter().flat_map(|(first, payload)| frame(*first, payload)).collect();
        let whole = decode_replayed(&stream, 0, deflate).expect("nothing is too large");
        let read = decode_replayed(&stream, cut.index(stream.len() + 1), deflate);
        prop_assert_eq!(read, Some(whole));
    }

    /// Goal: streams of tungstenite's client are read the same, in any chunks.
    #[test]
    fn streams_of_tungstenite_are_understood(
        messages in prop::collection::vec(message(), 1..8),
        chunks in prop::collection::vec(1_usize..400, 1..6),
    ) {
        let mut client = WebSocket::from_raw_socket(
            Cursor::new(Vec::new()), Role::Client, Some(WebSocketConfig::default()),
        );
        let mut expected = Vec::new();
        for message in messages {
            expected.push(match &message {
                Message::Text(text) => ('t', text.as_bytes().to_vec()),
                Message::Binary(bytes) => ('b', bytes.to_vec()),
                Message::Ping(bytes) => ('i', bytes.to_vec()),
                Message::Pong(bytes) => ('o', bytes.to_vec()),
                _ => unreachable!("not generated"),
            });
            client.send(message).expect("a vector takes all");
        }
        let stream = client.get_ref().get_ref().clone();
        prop_assert_eq!(decode(&stream, &chunks), (expected, None));
    }

    /// Goal: fragments and control frames between them give the same message, in any chunks.
    #[test]
    fn fragments_are_joined(
        text in ".{0,200}",
        cuts in prop::collection::vec(0_usize..600, 0..6),
        chunks in prop::collection::vec(1_usize..50, 1..6),
    ) {
        let bytes = text.as_bytes();
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.sort_unstable();
        let (mut stream, mut start, mut pings) = (Vec::new(), 0, 0);
        for (index, cut) in cuts.iter().enumerate() {
            stream.extend(frame(u8::from(index == 0), &bytes[start..*cut]));
            stream.extend(frame(0x89, b"p"));
            (start, pings) = (*cut, pings + 1);
        }
        stream.extend(frame(if cuts.is_empty() { 0x81 } else { 0x80 }, &bytes[start..]));
        let mut expected = vec![('i', b"p".to_vec()); pings];
        expected.push(('t', bytes.to_vec()));
        prop_assert_eq!(decode(&stream, &chunks), (expected, None));
    }

    /// Goal: no bytes panic, and chunks never change the items.
    #[test]
    fn any_bytes_mean_the_same_in_any_chunks(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        start in prop_oneof![Just(0x81_u8), Just(0x82), Just(0x01), Just(0x89), Just(0x88)],
        chunks in prop::collection::vec(1_usize..20, 1..6),
    ) {
        let mut stream = frame(start, &bytes[..bytes.len().min(100)]);
        stream.extend(&bytes);
        let (whole, violation) = decode(&stream, &[stream.len()]);
        let (items, in_chunks) = decode(&stream, &chunks);
        prop_assert_eq!(violation, in_chunks);
        prop_assert_eq!(whole, items);
    }

    /// Goal: the same holds where compression was agreed on.
    #[test]
    fn compressed_bytes_mean_the_same_in_any_chunks(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        start in prop_oneof![Just(0xC1_u8), Just(0xC2), Just(0x41), Just(0xC0), Just(0x81)],
        chunks in prop::collection::vec(1_usize..20, 1..6),
    ) {
        let mut stream = frame(start, &bytes[..bytes.len().min(100)]);
        stream.extend(&bytes);
        prop_assert_eq!(
            decode_deflated(&stream, &[stream.len()]),
            decode_deflated(&stream, &chunks)
        );
    }

    /// Goal: compressed messages are read back, in any fragments and any chunks, with plain ones
    /// and control frames between them.
    #[test]
    fn compressed_messages_are_read(
        texts in prop::collection::vec("[a-c\u{e9} ]{0,400}", 1..4),
        cut in 0_usize..300,
        chunks in prop::collection::vec(1_usize..80, 1..6),
    ) {
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for text in &texts {
            let deflated = deflated(text.as_bytes());
            let (first, rest) = deflated.split_at(cut.min(deflated.len()));
            stream.extend(frame(0x41, first));
            stream.extend(frame(0x89, b"p"));
            stream.extend(frame(0x80, rest));
            stream.extend(frame(0x81, text.as_bytes()));
            stream.extend(frame(0xC2, &deflated));
            expected.push(('i', b"p".to_vec()));
            let kinds = ['t', 't', 'b'];
            expected.extend(kinds.map(|kind| (kind, text.as_bytes().to_vec())));
        }
        prop_assert_eq!(decode_deflated(&stream, &chunks), (expected, None));
    }
}

fn deflated(payload: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut writer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(payload).expect("memory");
    writer.flush().expect("memory");
    let deflated = writer.get_ref();
    let deflated = deflated.strip_suffix(&[0, 0, 0xFF, 0xFF]);
    deflated.expect("a flush ends in an empty block").to_vec()
}

/// Makes bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(1);
    std::iter::repeat_with(|| rng.alphanumeric() as u8)
        .take(len)
        .collect()
}

/// Goal: a message too large to keep is skipped and its id found wherever it is, plain or
/// compressed, whole or in fragments with pings between them, in any chunks; the next message is
/// read.
#[test]
fn oversized_messages_are_skipped() {
    let after = frame(0x81, b"after");
    for len in [16 * 1024, 17_000, 60_000, 128 * 1024 - 40] {
        for filler in [vec![b'x'; len], noise(len)] {
            let filler = String::from_utf8(filler).expect("ASCII");
            for json in [
                format!(r#"{{"RequestId":"r","Content":"{filler}"}}"#),
                format!(r#"{{"Content":"{filler}","RequestId":"r"}}"#),
            ] {
                let (plain, squeezed) = (json.as_bytes(), deflated(json.as_bytes()));
                for (bits, payload) in [(0, plain), (0x40, &*squeezed)] {
                    let (a, b) = payload.split_at(payload.len() / 3);
                    let (b, c) = b.split_at(b.len() / 2);
                    let whole = frame(0x81 | bits, payload);
                    let ping = frame(0x89, b"p");
                    let parts = [frame(0x01 | bits, a), frame(0x00, b), ping, frame(0x80, c)];
                    for (stream, pings) in [(whole, 0), (parts.concat(), 1)] {
                        let stream = [stream, after.clone()].concat();
                        for chunk in [997, 4000, stream.len()] {
                            let mut expected = vec![('i', b"p".to_vec()); pings];
                            expected.push(('s', b"r".to_vec()));
                            expected.push(('t', b"after".to_vec()));
                            let decoded = decode_deflated(&stream, &[chunk]);
                            assert!(decoded == (expected, None), "{len} {bits} {chunk}");
                        }
                    }
                }
            }
        }
    }
}

/// Goal: each violation of RFC 7692 has its close code.
#[test]
fn violations_in_compression_have_their_close_codes() {
    let half = [0xC3_u8];
    let long_text = [vec![b'x'; 17_000], half.to_vec()].concat();
    let noise = deflated(&noise(120_000));
    let bomb = deflated(&vec![b'x'; 128 * 1024 + 1]);
    assert!(bomb.len() < 300);
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("ping", frame(0xC9, b"x"), 1002),
        ("close", frame(0xC8, b""), 1002),
        (
            "continuation",
            [frame(0x41, b""), frame(0xC0, b"")].concat(),
            1002,
        ),
        ("RSV1 and RSV2", frame(0xE1, b""), 1002),
        ("RSV2", frame(0xA1, b""), 1002),
        ("RSV3", frame(0x91, b""), 1002),
        ("garbage", frame(0xC1, &[0xFF; 20]), 1007),
        ("half a character", frame(0xC1, &deflated(&half)), 1007),
        ("bomb", frame(0xC1, &bomb), 1009),
        ("binary bomb", frame(0xC2, &bomb), 1009),
        ("long", frame(0xC1, &vec![0; 128 * 1024 + 1]), 1009),
        ("long garbage", frame(0xC1, &vec![0xFF; 17_000]), 1007),
        ("long text", frame(0xC1, &deflated(&long_text)), 1007),
        (
            "long in fragments",
            [frame(0x41, &noise[..80_000]), frame(0x80, &noise[..80_000])].concat(),
            1009,
        ),
    ];
    for (name, stream, code) in cases {
        for chunk in [1, stream.len()] {
            let (items, violation) = decode_deflated(&stream, &[chunk]);
            let violation = violation.unwrap_or_else(|| panic!("{name} passes: {items:?}"));
            assert_eq!(violation.close_code(), code, "{name}: {violation}");
        }
    }
    let (items, _) = decode_deflated(&frame(0xC2, &deflated(&half)), &[1]);
    assert_eq!(items, [('b', half.to_vec())]);
}

/// Goal: each violation has its close code, by the header alone where a length is claimed.
#[test]
fn violations_have_their_close_codes() {
    let huge = |len: u64| {
        let mut frame = vec![0x82, 0xFF];
        frame.extend(len.to_be_bytes());
        frame.extend([0; 4]);
        frame
    };
    let bomb = frame(0x01, b"")
        .into_iter()
        .chain(frame(0x00, b"").repeat(64))
        .collect();
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("unmasked", vec![0x81, 0x01, b'x'], 1002),
        ("reserved bit", frame(0xC1, b"x"), 1002),
        ("reserved opcode", frame(0x83, b"x"), 1002),
        ("reserved control opcode", frame(0x8B, b"x"), 1002),
        ("long ping", frame(0x89, &[0; 126]), 1002),
        ("fragmented ping", frame(0x09, b""), 1002),
        ("continuation first", frame(0x80, b"x"), 1002),
        (
            "text inside",
            [frame(0x01, b"x"), frame(0x81, b"y")].concat(),
            1002,
        ),
        ("close of one byte", frame(0x88, &[3]), 1002),
        (
            "close code 1005",
            frame(0x88, &1005_u16.to_be_bytes()),
            1002,
        ),
        ("close code 999", frame(0x88, &999_u16.to_be_bytes()), 1002),
        ("close reason", frame(0x88, &[0x03, 0xE8, 0xFF]), 1007),
        ("text", frame(0x81, &[0xED, 0xA0, 0x80]), 1007),
        ("half a character", frame(0x81, &[0xC3]), 1007),
        (
            "half a character in fragments",
            [frame(0x01, &[0xC3]), frame(0x80, b"x")].concat(),
            1007,
        ),
        (
            "128 KiB and one",
            frame(0x82, &vec![0; 128 * 1024 + 1]),
            1009,
        ),
        (
            "128 KiB and one in fragments",
            [frame(0x02, &vec![0; 128 * 1024]), frame(0x80, b"x")].concat(),
            1009,
        ),
        ("long text", frame(0x81, &vec![0xFF; 17_000]), 1007),
        (
            "half a character at the end of a long text",
            frame(0x81, &[vec![b'x'; 17_000], vec![0xC3]].concat()),
            1007,
        ),
        ("2^62", huge(1 << 62), 1009),
        ("2^63", huge(1 << 63), 1009),
        ("2^64 - 1", huge(u64::MAX), 1009),
        ("2^32 + 2", huge((1 << 32) + 2), 1009),
        ("1 GiB", huge(1 << 30), 1009),
        ("empty fragments", bomb, 1008),
    ];
    for (name, stream, code) in cases {
        for chunk in [1, stream.len()] {
            let (_, violation) = decode(&stream, &[chunk]);
            let violation = violation.unwrap_or_else(|| panic!("{name} passes"));
            assert_eq!(violation.close_code(), code, "{name}: {violation}");
        }
    }
}
