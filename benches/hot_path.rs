//! The parts of the way from a received frame to a send, one by one: `cargo bench --bench hot_path`.
//!
//! Times are of this machine and this moment; compare them within one run only. What a delivery costs
//! as a whole, kernel included, `uproar bench fanout` shows.
#![allow(missing_docs, reason = "the harness generates functions")]

use std::time::Duration;

use bytes::BytesMut;
use divan::{Bencher, black_box};
use uproar::base::clock::{Now, Tick, UnixTime};
use uproar::base::id::{FrameIds, RoomId};
use uproar::base::limits::{PARSE_PADDING_BYTES, WINDOW_AGE_MAX, WINDOW_BYTES_MAX};
use uproar::base::wheel::Wheel;
use uproar::protocol::chat::{Parser, encode};
use uproar::protocol::token::{Capability, Claims, Key, Keyring};
use uproar::protocol::ws::{Bounds, Decoder, Deflater, Inflater};
use uproar::room::audience::Audience;
use uproar::room::log::{Batch, Next, Window};
use uproar::room::order::{Press, Room, Said};
use uproar::room::{ArchiveTargets, RoomSettings};

fn main() {
    divan::main();
}

const BOUNDS: Bounds = Bounds {
    message_bytes_max: 16 * 1024,
    fragments_max: 64,
};
const SENDER: &str = r#"{"UserId":"0123456789012345678901234567890123456789","Attributes":{}}"#;

/// A SEND_MESSAGE request with 200 bytes of content, as the JavaScript SDK writes it.
fn request() -> String {
    format!(
        r#"{{"Action":"SEND_MESSAGE","RequestId":"2d719db0-630c-4918-9cee-6930c5087a2c","Content":"{}"}}"#,
        "x".repeat(200)
    )
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    [bytes, &[0; PARSE_PADDING_BYTES]].concat()
}

/// Header, unmasking, UTF-8.
#[divan::bench]
fn frame(bencher: Bencher<'_, '_>) {
    let text = request();
    let mut wire = vec![0x81, 0x80 | 0x7E];
    wire.extend(u16::try_from(text.len()).expect("short").to_be_bytes());
    let mask = [1, 2, 3, 4];
    wire.extend(mask);
    wire.extend(text.bytes().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
    let (len, wire) = (wire.len(), padded(&wire));
    let mut decoder = Decoder::default();
    bencher
        .with_inputs(|| wire.clone())
        .bench_local_refs(|buffer| {
            let step = decoder.step(buffer, 0, len, &BOUNDS, None).expect("valid");
            black_box(step.consumed)
        });
}

/// JSON to a request, in place.
#[divan::bench]
fn parse(bencher: Bencher<'_, '_>) {
    let text = request();
    let (len, text) = (text.len(), padded(text.as_bytes()));
    let mut parser = Parser::default();
    bencher
        .with_inputs(|| text.clone())
        .bench_local_refs(|buffer| {
            let request = parser.parse(buffer, len, 500).expect("valid");
            black_box(&request);
        });
}

/// Words of a chat; enough for no two messages to be the same.
const WORDS: &str = "that was so close no way did you see him drop it again gg chat what a save hello \
    from brazil this song tho lets gooo 😂 first time here how long has she been live the audio is a bit low";

fn said(number: usize) -> String {
    let words = WORDS.split_whitespace().cycle().skip(number % 37);
    let mut text = String::new();
    words.step_by(1 + number % 3).take(12).for_each(|word| {
        text.push_str(word);
        text.push(' ');
    });
    text
}

/// Rate, id, time, and the one encoding of a message for all members, or the two.
#[divan::bench(args = [false, true])]
fn say(bencher: Bencher<'_, '_>, deflated: bool) {
    let mut room = Room::new(RoomSettings {
        content_chars_max: 500,
        messages_per_second: 100,
        archive: ArchiveTargets::default(),
        review: None,
    });
    let mut ids = FrameIds::seeded(1);
    room.set_deflated(deflated);
    let mut deflater = Deflater::default();
    let mut number = 0;
    let now = Now {
        tick: Tick::from_nanos(1),
        unix: UnixTime::from_nanos(1_800_000_000_123_456_789),
    };
    bencher.bench_local(|| {
        number += 1;
        let content = said(number);
        let mut press = Press {
            ids: &mut ids,
            now,
            deflater: &mut deflater,
        };
        let said = Said {
            content: &content,
            attributes_json: "null",
            request_id: "2d719db0-630c-4918-9cee-6930c5087a2c",
            sender_json: SENDER,
        };
        black_box(room.say(&mut press, said));
        room.flush(now.tick, |batch| drop(black_box(batch)));
    });
}

/// A compressed request.
#[divan::bench]
fn inflate(bencher: Bencher<'_, '_>) {
    let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
    let mut frame = BytesMut::new();
    deflater.message(&mut frame, 15, true, request().as_bytes());
    let payload = uproar::protocol::ws::payloads(&frame).next().expect("one");
    bencher.bench_local(|| black_box(inflater.inflate(payload, 16 << 10).expect("valid").1));
}

/// One member's turn in a flush: find its place in the log, take the run, move the cursor.
#[divan::bench(args = [100, 10_000])]
fn walk(bencher: Bencher<'_, '_>, members: u64) {
    let window = Window {
        bytes_max: WINDOW_BYTES_MAX,
        age_max: WINDOW_AGE_MAX,
    };
    let mut audience = Audience::default();
    for key in 0..members {
        audience.join(key, 0, false);
    }
    let mut text = BytesMut::new();
    let batch = Batch {
        plain: uproar::base::segment::Piece::alone(text.split().freeze()),
        deflated: None,
        frames: 1,
    };
    bencher.counter(members).bench_local(|| {
        audience.append(batch.clone(), window, Tick::from_nanos(1));
        while let Some((index, key)) = audience.walk() {
            if let Next::Run { run, after, .. } = audience.next(index) {
                audience.set_cursor(index, after);
                black_box((key, &run));
            }
        }
    });
}

fn keyring_and_claims() -> (Keyring, Claims) {
    let mut ring = Keyring::default();
    ring.push(Key::new([7; 32], UnixTime::from_secs(1)));
    let claims = Claims {
        room: RoomId::parse("abcdefghijkl").expect("twelve letters"),
        user_id: "0123456789012345678901234567890123456789".to_owned(),
        attributes: vec![("displayName".to_owned(), "Bob".to_owned())],
        capabilities: Capability::ALL.into_iter().collect(),
        expires: UnixTime::from_secs(2_000_000_000),
        session_end: UnixTime::from_secs(2_000_000_000),
    };
    (ring, claims)
}

#[divan::bench]
fn token_seal(bencher: Bencher<'_, '_>) {
    let (ring, claims) = keyring_and_claims();
    bencher.bench_local(|| ring.seal(&claims, [9; 12]));
}

#[divan::bench]
fn token_open(bencher: Bencher<'_, '_>) {
    let (ring, claims) = keyring_and_claims();
    let token = ring.seal(&claims, [9; 12]);
    let mut scratch = Vec::new();
    bencher.bench_local(|| {
        let opened = ring.open(&token, &mut scratch, UnixTime::from_secs(1_900_000_000));
        black_box(opened.expect("genuine").room());
    });
}

/// A deadline set and met.
#[divan::bench]
fn timer(bencher: Bencher<'_, '_>) {
    let mut now = Tick::from_nanos(0);
    let mut wheel = Wheel::new(Duration::from_millis(250), now);
    let mut due = Vec::new();
    bencher.bench_local(|| {
        now = now.after(Duration::from_millis(1));
        wheel.insert(now.after(Duration::from_secs(25)), 1_u64);
        wheel.expire(now, &mut due);
        due.clear();
    });
}

/// A frame for one connection alone.
#[divan::bench]
fn error_frame(bencher: Bencher<'_, '_>) {
    let mut ids = FrameIds::seeded(1);
    let mut out = BytesMut::with_capacity(1024);
    bencher.bench_local(|| {
        out.clear();
        let code = uproar::protocol::chat::ErrorCode::TooManyRequests;
        encode::error(&mut out, ids.next_id(), "r", code, "Rate exceeded");
        black_box(out.len())
    });
}
