//! The parts of the path from a received frame to a send, and those of the handshake.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use uproar::shard::doorbell::Doorbell;
use uproar::shard::mailbox::{MustArrive, mailbox};
use uproar_proto::base::clock::{Now, Tick, UnixTime};
use uproar_proto::base::id::{FrameIds, RoomId};
use uproar_proto::base::limits::{PARSE_PADDING_BYTES, WINDOW_AGE_MAX, WINDOW_BYTES_MAX};
use uproar_proto::base::segment::{Piece, Segment};
use uproar_proto::base::wheel::Wheel;
use uproar_proto::chat::{ErrorCode, Parser, encode, request_id_scan, texts};
use uproar_proto::extension::rules::{Action, CompiledSet, Fold, Kind, Rule, judge};
use uproar_proto::http;
use uproar_proto::room::audience::{Audience, MemberIndex};
use uproar_proto::room::log::{Batch, Next, Window};
use uproar_proto::room::order::{EncodeContext, NewMessage, Room};
use uproar_proto::room::{ArchiveTargets, RoomSettings};
use uproar_proto::sigv4::sign::{Credentials, Outgoing, sign};
use uproar_proto::sigv4::{Claim, Received, Scope, SigningKey};
use uproar_proto::token::{Capability, Claims, Key, Keyring};
use uproar_proto::ws::{Bounds, Decoder, Deflater, Inflater, payloads};

use super::{Call, Case};
use uproar_testing::client::{self, request};

const MANY: (u32, u32) = (100, 1_000);

pub(super) const CASES: &[Case] = &[
    case("unmask", "a binary frame of 4 KiB", 1, MANY, unmask),
    case("frame", "a text frame of 300 bytes", 1, MANY, frame),
    case("parse", "a SEND_MESSAGE request", 1, MANY, parse),
    case("encode_message", "a MESSAGE frame", 1, MANY, encode_message),
    case("encode_event", "an EVENT frame", 1, MANY, encode_event),
    case("encode_error", "an ERROR frame", 1, MANY, encode_error),
    case("post", "a message, flushed", 1, MANY, post_plain),
    case(
        "post_deflated",
        "the same, also compressed",
        1,
        MANY,
        post_deflated,
    ),
    case("inflate", "a compressed request", 1, MANY, inflate),
    case("segment_cut", "a frame written and cut", 1, MANY, cut),
    case("mailbox", "a command, 16 a wake-up", 16, MANY, mail),
    case("log_next", "a reader one batch behind", 1, MANY, next_near),
    case("log_next_far", "500 batches behind", 1, MANY, next_far),
    case("walk", "a member of 10,000", 10_000, (1, 10), walk),
    case("timer", "a deadline set and met", 1, (600, 2_000), timer),
    case("rules", "a message held to 10,000 words", 1, MANY, rules),
    case(
        "rules_long",
        "500 letters and digits of it",
        1,
        MANY,
        rules_long,
    ),
    case("head_parse", "an upgrade request", 1, MANY, head_parse),
    case("token_open", "a chat token opened", 1, MANY, token_open),
    case("token_seal", "a chat token sealed", 1, MANY, token_seal),
    case("signature", "a signed API call proven", 1, MANY, signature),
];

const fn case(
    name: &'static str,
    what: &'static str,
    operations: u32,
    calls: (u32, u32),
    make: fn() -> Call,
) -> Case {
    Case {
        name,
        what,
        operations,
        calls,
        make,
    }
}

const BOUNDS: Bounds = Bounds {
    message_bytes_max: 16 * 1024,
    oversized_bytes_max: 128 * 1024,
    scan: request_id_scan,
    fragments_max: 64,
};
const WINDOW: Window = Window {
    bytes_max: WINDOW_BYTES_MAX,
    age_max: WINDOW_AGE_MAX,
};
const SENDER: &str = r#"{"UserId":"0123456789012345678901234567890123456789","Attributes":{}}"#;
const REQUEST_ID: &str = "2d719db0-630c-4918-9cee-6930c5087a2c";
const SENT: UnixTime = UnixTime::from_nanos(1_800_000_000_123_456_789);
/// 200 bytes of chat.
const TEXT: &str = "that was so close, no way! did you see him drop it again? gg chat, what a save. hello from \
    brazil, this song tho, lets gooo. first time here: how long has she been live? the audio is a bit low, is it?";
/// A MESSAGE frame with 200 bytes of content.
const FRAME: [u8; 386] = [b'x'; 386];

fn padded(bytes: &[u8]) -> Vec<u8> {
    [bytes, &[0; PARSE_PADDING_BYTES]].concat()
}

/// Decodes one whole frame.
fn decode(opcode: u8, payload: &[u8]) -> Call {
    let io = client::frame(0x80 | opcode, payload, [1, 2, 3, 4]);
    let (len, io) = (io.len(), padded(&io));
    let mut buffer = io.clone();
    let mut decoder = Decoder::default();
    Box::new(move || {
        buffer.copy_from_slice(&io);
        let step = decoder
            .step(&mut buffer, 0, len, &BOUNDS, None)
            .expect("valid");
        black_box(step.consumed);
    })
}

/// Unmasks, and does hardly anything else: binary payloads are not parsed.
fn unmask() -> Call {
    decode(2, &[b'x'; 4096])
}

/// Decodes a text frame: header, unmasking, UTF-8.
fn frame() -> Call {
    decode(1, request().as_bytes())
}

/// Parses JSON to a request, in place.
fn parse() -> Call {
    let text = request();
    let (len, text) = (text.len(), padded(text.as_bytes()));
    let mut buffer = text.clone();
    let mut parser = Parser::default();
    Box::new(move || {
        buffer.copy_from_slice(&text);
        let request = parser.parse(&mut buffer, len, 500).expect("valid");
        black_box(&request);
    })
}

fn encode_message() -> Call {
    let mut ids = FrameIds::seeded(1);
    let content = "x".repeat(200);
    let mut out = BytesMut::with_capacity(4096);
    Box::new(move || {
        out.clear();
        let message = encode::Message {
            id: ids.next_id(),
            request_id: REQUEST_ID,
            attributes_json: "null",
            content: &content,
            sent: SENT,
            sender_json: SENDER,
        };
        encode::message(&mut out, &message);
        black_box(out.len());
    })
}

fn encode_event() -> Call {
    let mut ids = FrameIds::seeded(1);
    let mut out = BytesMut::with_capacity(4096);
    let attributes_json = encode::deleted_attributes("M2YcHkgffEvU", "Deleted by moderator");
    Box::new(move || {
        out.clear();
        let event = encode::Event {
            id: ids.next_id(),
            request_id: REQUEST_ID,
            name: encode::DELETED,
            attributes_json: &attributes_json,
            sent: SENT,
        };
        encode::event(&mut out, &event);
        black_box(out.len());
    })
}

/// Encodes a frame for one connection alone.
fn encode_error() -> Call {
    let mut ids = FrameIds::seeded(1);
    let mut out = BytesMut::with_capacity(4096);
    Box::new(move || {
        out.clear();
        let error = encode::Error {
            id: ids.next_id(),
            request_id: REQUEST_ID,
            code: ErrorCode::TooManyRequests,
            message: texts::RATE,
            retry_after: None,
        };
        encode::error(&mut out, &error);
        black_box(out.len());
    })
}

/// Posts a message: id, time, one encoding for all members, or two, and the cut.
fn post(deflated: bool) -> Call {
    let mut room = Room::new(RoomSettings {
        content_chars_max: 500,
        messages_per_second: 100,
        archive: ArchiveTargets::default(),
        extension: None,
        review: None,
    });
    room.set_deflated(deflated);
    let (mut ids, mut deflater) = (FrameIds::seeded(1), Deflater::default());
    let content = TEXT;
    let now = Now {
        tick: Tick::from_nanos(1),
        unix: SENT,
    };
    Box::new(move || {
        let mut encode_context = EncodeContext {
            ids: &mut ids,
            now,
            deflater: &mut deflater,
        };
        let message = NewMessage {
            content,
            attributes_json: "null",
            request_id: REQUEST_ID,
            sender_json: SENDER,
        };
        black_box(room.post(&mut encode_context, message));
        room.flush(now.tick, |batch| drop(black_box(batch)));
    })
}

fn post_plain() -> Call {
    post(false)
}

fn post_deflated() -> Call {
    post(true)
}

/// Decompresses a request.
fn inflate() -> Call {
    let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
    let mut frame = BytesMut::new();
    deflater.message(&mut frame, 15, true, request().as_bytes());
    let payload = payloads(&frame).next().expect("one").to_vec();
    Box::new(move || {
        let inflated = inflater.inflate(&payload, BOUNDS.message_bytes_max);
        black_box(inflated.expect("valid").1);
    })
}

/// Cuts one frame as one batch.
fn cut_one(segment: &mut Segment) -> Piece {
    while !segment.write(FRAME.len(), |out| out.extend_from_slice(&FRAME)) {
        segment.renew(FRAME.len(), Tick::default());
    }
    segment.cut().expect("just written")
}

fn cut_batch(segment: &mut Segment) -> Batch {
    Batch {
        plain: cut_one(segment),
        deflated: None,
        frames: 1,
    }
}

fn cut() -> Call {
    let mut segment = Segment::new(0);
    Box::new(move || drop(black_box(cut_one(&mut segment))))
}

/// As long as a small command.
struct Words([u64; 4]);

impl MustArrive for Words {}

/// Does sixteen pushes, one flush, sixteen pops; no thread sleeps.
fn mail() -> Call {
    let bell = Arc::new(Doorbell::new().expect("an eventfd"));
    let (mut sender, mut receiver) = mailbox(&bell);
    Box::new(move || {
        for item in 0..16_u64 {
            sender.deliver(Words([item; 4]));
        }
        sender.flush();
        while let Ok(item) = receiver.pop() {
            black_box(item.0);
        }
    })
}

/// Reads a log of 600 batches from a cursor that is `behind` batches behind.
fn next(behind: usize) -> Call {
    let (mut audience, mut segment) = (Audience::default(), Segment::new(0));
    // Segments double at first; at their full size one holds 679 such frames.
    for _ in 0..1_000 {
        cut_one(&mut segment);
    }
    segment.renew(FRAME.len(), Tick::default());
    let mut reader: Option<MemberIndex> = None;
    for batch in 0..600 {
        if batch == 600 - behind {
            reader = Some(audience.join(1, 0, false));
        }
        audience.append(cut_batch(&mut segment), WINDOW, Tick::from_nanos(1));
    }
    let reader = reader.expect("joined on the way");
    Box::new(move || {
        let Next::Run { run, after, .. } = audience.next(reader) else {
            panic!("{behind} batches behind")
        };
        assert_eq!(run.len(), behind * FRAME.len(), "one run");
        black_box((run, after));
    })
}

fn next_near() -> Call {
    next(1)
}

fn next_far() -> Call {
    next(500)
}

/// Serves one member in a flush: finds its batch in the log, takes the run, moves the cursor.
fn walk() -> Call {
    let mut audience = Audience::default();
    for key in 0..10_000 {
        audience.join(key, 0, false);
    }
    let mut segment = Segment::new(0);
    Box::new(move || {
        audience.append(cut_batch(&mut segment), WINDOW, Tick::from_nanos(1));
        while let Some((index, key)) = audience.walk() {
            if let Next::Run { run, after, .. } = audience.next(index) {
                audience.set_cursor(index, after);
                black_box((key, &run));
            }
        }
    })
}

fn timer() -> Call {
    let mut now = Tick::from_nanos(0);
    let mut wheel = Wheel::new(Duration::from_millis(250), now);
    let mut due = Vec::new();
    Box::new(move || {
        now = now.after(Duration::from_millis(250));
        wheel.insert(now.after(Duration::from_secs(25)), 1_u64);
        wheel.expire(now, &mut due);
        due.clear();
    })
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

fn token_seal() -> Call {
    let (ring, claims) = keyring_and_claims();
    Box::new(move || drop(black_box(ring.seal(&claims, [9; 12]))))
}

fn token_open() -> Call {
    let (ring, claims) = keyring_and_claims();
    let token = ring.seal(&claims, [9; 12]);
    let mut scratch = Vec::new();
    Box::new(move || {
        let opened = ring.open(&token, &mut scratch, UnixTime::from_secs(1_900_000_000));
        black_box(opened.expect("genuine").room());
    })
}

/// A browser's WebSocket handshake with a chat token.
/// As many words as a set may have, and a message without any of them.
fn held_to_rules(content: String) -> Call {
    let word = |number: u32| {
        let letters = (0..4).map(|place| {
            let digit = (number / 26_u32.pow(place)) % 26;
            char::from_u32(u32::from('a') + digit).expect("a letter")
        });
        format!("q{}x*", letters.collect::<String>())
    };
    let rule = Rule {
        id: "words".to_owned(),
        kind: Kind::Words,
        patterns: (0..10_000).map(word).collect(),
        allow: Vec::new(),
        action: Action::Reject,
        seconds: None,
        reason: String::new(),
    };
    let fold = Fold::default();
    let set = CompiledSet::compile(vec![rule], &fold).expect("valid");
    Box::new(move || {
        let found = judge([&set], black_box(&content), &fold);
        assert!(found.is_none(), "it has none of the words");
    })
}

fn rules() -> Call {
    held_to_rules("Hello everybody, what a goal that was, did you see it?".to_owned())
}

fn rules_long() -> Call {
    held_to_rules("did anyone see it @ 20:45 or b4 that?! ".repeat(13)[..500].to_owned())
}

fn head_parse() -> Call {
    let (ring, claims) = keyring_and_claims();
    let token = ring.seal(&claims, [9; 12]);
    let head = format!(
        "GET / HTTP/1.1\r\nHost: chat.example.com\r\nConnection: Upgrade\r\nPragma: no-cache\r\n\
         Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 \
         (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\nUpgrade: websocket\r\n\
         Origin: https://www.example.com\r\nSec-WebSocket-Version: 13\r\n\
         Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
         Sec-WebSocket-Protocol: {token}\r\n\r\n"
    );
    Box::new(move || {
        let request = http::parse(head.as_bytes()).expect("a handshake");
        black_box(&request);
    })
}

/// Verifies the signature of a CreateChatToken call.
fn signature() -> Call {
    let scope = Scope {
        region: "us-east-1",
        service: "ivschat",
    };
    let credentials = Credentials {
        key_id: "AKIDEXAMPLE".to_owned(),
        secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned().into(),
        session_token: None,
    };
    let (host, content_type) = ("127.0.0.1:3000", ("content-type", "application/json"));
    let body = format!(
        r#"{{"roomIdentifier":"arn:aws:ivschat:us-east-1:123456789012:room/abcdefghijkl","userId":"{}","capabilities":["SEND_MESSAGE"]}}"#,
        "u".repeat(40)
    );
    let outgoing = Outgoing {
        method: "POST",
        path: "/CreateChatToken",
        query: "",
        host,
        headers: &[content_type],
        body: body.as_bytes(),
    };
    let mut added = sign(&outgoing, &credentials, scope, SENT);
    added.push(("host", host.to_owned()));
    added.push((content_type.0, content_type.1.to_owned()));
    let date = added
        .iter()
        .find(|(name, _)| *name == "x-amz-date")
        .map(|(_, time)| time[..8].to_owned())
        .expect("always added");
    let key = SigningKey::derive(&credentials.secret, &date, scope);
    Box::new(move || {
        let headers: Vec<_> = added
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        let received = Received {
            method: "POST",
            path: "/CreateChatToken",
            query: "",
            headers: &headers,
            body: body.as_bytes(),
        };
        let claim = Claim::read(&received).expect("signed");
        let proven = claim.verify(&received, scope, &key, SENT);
        proven.expect("by the owner of the key");
    })
}
