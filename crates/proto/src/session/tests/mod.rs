//! A session against a client of frames: what it asks for, in what order, and when.

mod closing;
mod due;
mod effects;
mod forgery;
mod overhead;
mod pieces;

use super::{Effect, Grant, Input, Session, SessionContext};
use crate::base::clock::Tick;
use crate::base::limits::PARSE_PADDING_BYTES;
use crate::base::rate::Rate;
use crate::token::Capability;
use crate::ws::Violation;
use crate::ws::extension::{Agreement, Offers};

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;
/// The first, a middle and the last frame of a fragmented text.
const FRAGMENT: u8 = 0x01;
const CONTINUATION: u8 = 0x00;
const LAST: u8 = 0x80;
/// Added to the first byte of a compressed message.
const COMPRESSED: u8 = 0x40;

const SENDER: &str = r#"{"UserId":"u","Attributes":{}}"#;
/// The room's bound on a message, in code points.
const CONTENT_CHARS_MAX: usize = 10;

/// An instant, in milliseconds after the session's start.
fn at(millis: u64) -> Tick {
    Tick::from_nanos((10_000 + millis) * 1_000_000)
}

/// An effect that outlives the bytes it came from.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    /// The request as `Debug` shows it.
    Publish(String),
    /// Number, message, request id.
    Refuse(u16, &'static str, String),
    Pong(Vec<u8>),
    Echo(bool, Vec<u8>),
    AnswerClose(Option<u16>),
    PeerClosed,
    Violation(Violation),
    Flood,
}

impl Seen {
    fn of(effect: Effect<'_>) -> Self {
        match effect {
            Effect::Publish {
                request,
                sender_json,
            } => {
                assert_eq!(sender_json, SENDER);
                Self::Publish(format!("{request:?}"))
            }
            Effect::Refuse(refusal) => Self::Refuse(
                refusal.code.number(),
                refusal.message,
                refusal.request_id.into(),
            ),
            Effect::Command { .. } => unreachable!("no room here has commands"),
            Effect::Pong(payload) => Self::Pong(payload.into()),
            Effect::Echo { text, payload } => Self::Echo(text, payload.into()),
            Effect::AnswerClose { code } => Self::AnswerClose(code),
            Effect::PeerClosed => Self::PeerClosed,
            Effect::Violation(violation) => Self::Violation(violation),
            Effect::Flood => Self::Flood,
        }
    }
}

/// A connection without its socket.
struct Connection {
    session: Session,
    context: SessionContext,
}

impl Connection {
    /// Makes one of a client that may do everything, without a limit on its requests.
    fn open() -> Self {
        Self::new(&Capability::ALL, None, None)
    }

    /// Makes one that agreed to compression.
    fn compressed() -> Self {
        Self::new(&Capability::ALL, None, Some(agreement()))
    }

    fn new(capabilities: &[Capability], rate: Option<Rate>, agreement: Option<Agreement>) -> Self {
        let grant = Grant {
            sender_json: SENDER.into(),
            capabilities: capabilities.iter().copied().collect(),
            ends: at(7_200_000),
        };
        Self {
            session: Session::new(grant, agreement, at(0)),
            context: SessionContext::chat(rate),
        }
    }

    /// Receives `bytes` at once, and charges the refusals as the shard does.
    fn receive(&mut self, bytes: &[u8], now: Tick) -> Vec<Seen> {
        // Padding that would mean something if it were read.
        let mut buffer = [bytes, &[TEXT; PARSE_PADDING_BYTES]].concat();
        let mut input = Input::new(&mut buffer, bytes.len(), CONTENT_CHARS_MAX);
        let (mut seen, mut refusals) = (Vec::new(), 0);
        while let Some(effect) = self.session.next(&mut input, &mut self.context, now) {
            refusals += u32::from(matches!(effect, Effect::Refuse(_)));
            seen.push(Seen::of(effect));
        }
        if !self.session.charge_overhead(refusals, &self.context, now) {
            seen.push(Seen::Flood);
        }
        seen
    }

    /// Receives `bytes` in pieces of `len` bytes, all at one instant.
    fn receive_pieces(&mut self, bytes: &[u8], len: usize) -> Vec<Seen> {
        let pieces = bytes.chunks(len.max(1));
        pieces
            .flat_map(|piece| self.receive(piece, at(0)))
            .collect()
    }
}

fn agreement() -> Agreement {
    let mut offers = Offers::default();
    offers.read(b"permessage-deflate");
    offers.agree(9, 15).expect("an offer without bounds")
}

/// Makes a client's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u16::try_from(payload.len()) {
        Ok(len @ 0..126) => frame.push(0x80 | u8::try_from(len).expect("short")),
        Ok(len) => {
            frame.push(0xFE);
            frame.extend(len.to_be_bytes());
        }
        Err(_) => {
            frame.push(0xFF);
            let len = u64::try_from(payload.len()).expect("64 bits");
            frame.extend(len.to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    frame.extend(mask);
    let key = mask.iter().cycle();
    frame.extend(payload.iter().zip(key).map(|(byte, key)| byte ^ key));
    frame
}

/// Makes a text of several frames, cut every `len` bytes.
fn fragmented(first: u8, payload: &[u8], len: usize) -> Vec<u8> {
    let (head, rest) = payload.split_at(len.min(payload.len()));
    let mut frames = frame(first & 0x7F, head);
    for piece in rest.chunks(len) {
        frames.extend(frame(CONTINUATION, piece));
    }
    frames.extend(frame(LAST, b""));
    frames
}

/// Compresses as a client does.
fn deflated(payload: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut writer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(payload).expect("memory");
    writer.flush().expect("memory");
    let tail = writer.get_ref().strip_suffix(&[0, 0, 0xFF, 0xFF]);
    tail.expect("a flush ends in an empty block").to_vec()
}

/// A request to send "hi", with an id.
fn send(request_id: &str) -> Vec<u8> {
    let json = format!(r#"{{"Action":"SEND_MESSAGE","RequestId":"{request_id}","Content":"hi"}}"#);
    frame(TEXT, json.as_bytes())
}

/// What [`send`] leads to.
fn sent(request_id: &str) -> Seen {
    let request = crate::chat::Request::SendMessage {
        content: "hi",
        attributes_json: "null",
        request_id,
    };
    Seen::Publish(format!("{request:?}"))
}

fn refused(number: u16, message: &'static str, request_id: &str) -> Seen {
    Seen::Refuse(number, message, request_id.into())
}
