//! The last frames of all rooms, kept for tests under `uproar dev --frames N`: requests of viewers as they were understood, and
//! what rooms and single viewers were sent.
//!
//! One ring for all shards, so that its numbers are one order. Without `--frames` there is none, and what is left is one
//! load and a branch for each request and each batch; deliveries know nothing of it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::BytesMut;
use serde_json::{Map, Value, json};

use crate::clock::unix_now;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::EMULATOR_FRAMES_BYTES_MAX;
use uproar_proto::chat::Request;
use uproar_proto::room::log::Batch;

static RING: OnceLock<Mutex<Ring>> = OnceLock::new();

/// Starts to keep frames: the last `count_max`, and of these as many as [`EMULATOR_FRAMES_BYTES_MAX`] holds.
pub fn keep(count_max: usize) {
    let ring = Ring {
        count_max,
        frames: VecDeque::new(),
        bytes: 0,
        next: 0,
    };
    let _kept_since = RING.set(Mutex::new(ring));
}

/// Whether frames are kept.
pub fn are_kept() -> bool {
    RING.get().is_some()
}

/// What a caller wants to see.
#[derive(Debug, Default)]
pub struct Query {
    /// One room's frames.
    pub room: Option<RoomId>,
    /// Frames of this user: the user's requests, and what the user alone was sent.
    pub user: Option<String>,
    /// Frames with this number and later ones.
    pub from: u64,
    /// The most that are told.
    pub count: usize,
}

/// The frames that a query asks for, the oldest first, as JSON; `None`: none are kept.
pub fn answer(query: &Query) -> Option<Value> {
    let ring = ring()?;
    let wanted = ring.frames.iter().filter(|frame| query.wants(frame));
    let frames: Vec<Value> = wanted.take(query.count).map(Frame::json).collect();
    let first = ring.frames.front().map_or(ring.next, |frame| frame.number);
    Some(json!({"frames": frames, "oldest": first, "next": ring.next}))
}

/// Forgets all of them; numbers begin anew.
pub fn forget() {
    if let Some(mut ring) = ring() {
        ring.frames.clear();
        (ring.bytes, ring.next) = (0, 0);
    }
}

/// Notes a viewer's request.
pub(super) fn note_request(room: RoomId, request: &Request<'_>, sender_json: &str) {
    if are_kept() {
        note(
            room,
            Direction::In,
            Some(sender_json),
            request_json(request),
        );
    }
}

/// Notes the frames that a room's viewers are sent.
pub(super) fn note_batch(room: RoomId, batch: &Batch) {
    if are_kept() {
        for frame in server_frames(batch.plain.bytes()) {
            note(room, Direction::Out, None, frame);
        }
    }
}

/// Notes frames that one viewer alone is sent; `encode` writes them.
pub(super) fn note_own(room: RoomId, sender_json: &str, encode: impl FnOnce(&mut BytesMut)) {
    if are_kept() {
        let mut bytes = BytesMut::new();
        encode(&mut bytes);
        for frame in server_frames(&bytes) {
            note(room, Direction::Out, Some(sender_json), frame);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

#[derive(Debug)]
struct Frame {
    number: u64,
    time: UnixTime,
    room: RoomId,
    direction: Direction,
    // Of the viewer who made it, or who alone got it.
    user: Option<String>,
    text: String,
}

#[derive(Debug)]
struct Ring {
    count_max: usize,
    frames: VecDeque<Frame>,
    // Of all texts and users.
    bytes: usize,
    next: u64,
}

fn ring() -> Option<MutexGuard<'static, Ring>> {
    // It is whole at every instant.
    Some(RING.get()?.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cold]
fn note(room: RoomId, direction: Direction, sender_json: Option<&str>, text: String) {
    let user = sender_json.and_then(user_of);
    if let Some(mut ring) = ring() {
        let number = ring.next;
        ring.push(Frame {
            number,
            time: unix_now(),
            room,
            direction,
            user,
            text,
        });
    }
}

impl Ring {
    fn push(&mut self, frame: Frame) {
        self.next += 1;
        self.bytes += frame.len();
        self.frames.push_back(frame);
        while self.frames.len() > self.count_max || self.bytes > EMULATOR_FRAMES_BYTES_MAX {
            let Some(oldest) = self.frames.pop_front() else {
                return;
            };
            self.bytes -= oldest.len();
        }
    }
}

impl Frame {
    fn len(&self) -> usize {
        self.text.len() + self.user.as_ref().map_or(0, String::len)
    }

    fn json(&self) -> Value {
        let parsed: Value =
            serde_json::from_str(&self.text).unwrap_or_else(|_| self.text.as_str().into());
        json!({
            "number": self.number,
            "time": self.time.rfc3339(),
            "room": self.room.to_string(),
            "direction": if self.direction == Direction::In { "in" } else { "out" },
            "user": self.user,
            "frame": parsed,
        })
    }
}

impl Query {
    fn wants(&self, frame: &Frame) -> bool {
        frame.number >= self.from
            && self.room.is_none_or(|room| room == frame.room)
            && (self.user.is_none() || self.user == frame.user)
    }
}

fn user_of(sender_json: &str) -> Option<String> {
    let sender: Value = serde_json::from_str(sender_json).ok()?;
    sender["UserId"].as_str().map(str::to_owned)
}

/// A request as a client writes it.
fn request_json(request: &Request<'_>) -> String {
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| drop(members.insert(name.to_owned(), value));
    match request {
        Request::SendMessage {
            content,
            attributes_json,
            ..
        } => {
            put("Action", "SEND_MESSAGE".into());
            put("Content", (*content).into());
            let attributes = serde_json::from_str(attributes_json).unwrap_or(Value::Null);
            put("Attributes", attributes);
        }
        Request::DeleteMessage { id, reason, .. } => {
            put("Action", "DELETE_MESSAGE".into());
            put("Id", (*id).into());
            put("Reason", (*reason).into());
        }
        Request::DisconnectUser {
            user_id, reason, ..
        } => {
            put("Action", "DISCONNECT_USER".into());
            put("UserId", (*user_id).into());
            put("Reason", (*reason).into());
        }
    }
    put("RequestId", request.request_id().into());
    Value::Object(members).to_string()
}

/// The frames that a server wrote, in order: a text as it is, a Close as JSON.
fn server_frames(bytes: &[u8]) -> Vec<String> {
    let mut frames = Vec::new();
    let mut rest = bytes;
    while let [first, second, after @ ..] = rest {
        let (len, payload) = match (*second, after) {
            (126, [a, b, payload @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), payload),
            (len @ ..126, payload) => (usize::from(len), payload),
            // No frame of ours is as long as the long form says.
            _ => break,
        };
        let Some((payload, next)) = payload.split_at_checked(len) else {
            break;
        };
        match (first & 0xF, payload) {
            (0x1, text) => frames.push(String::from_utf8_lossy(text).into_owned()),
            (0x8, [a, b, reason @ ..]) => {
                let code = u16::from_be_bytes([*a, *b]);
                let reason = String::from_utf8_lossy(reason);
                frames.push(json!({"Close": code, "Reason": reason}).to_string());
            }
            _ => {}
        }
        rest = next;
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;
    use uproar_proto::ws;

    fn frame(number: u64, text: &str) -> Frame {
        Frame {
            number,
            time: UnixTime::from_secs(0),
            room: RoomId::parse("lobby0000000").expect("valid"),
            direction: Direction::Out,
            user: None,
            text: text.to_owned(),
        }
    }

    /// Goal: neither many frames nor long ones take more than their bounds.
    #[test]
    fn the_oldest_frames_go_first() {
        let mut ring = Ring {
            count_max: 3,
            frames: VecDeque::new(),
            bytes: 0,
            next: 0,
        };
        for number in 0..5 {
            ring.push(frame(number, "12345"));
        }
        let numbers: Vec<_> = ring.frames.iter().map(|frame| frame.number).collect();
        assert_eq!((numbers, ring.bytes), (vec![2, 3, 4], 15));
        let long = "x".repeat(EMULATOR_FRAMES_BYTES_MAX - 4);
        ring.push(frame(5, &long));
        assert_eq!((ring.frames.len(), ring.bytes), (1, long.len()));
    }

    /// Goal: what the server encodes is read back; bytes that end early, or are none of its frames, end the reading.
    #[test]
    fn frames_are_read_back() {
        let mut bytes = BytesMut::new();
        ws::close(&mut bytes, 1000, "bye");
        bytes.extend_from_slice(b"\x81\x02{}");
        bytes.extend_from_slice(&[0x81, 126, 0, 130]);
        bytes.extend_from_slice(&[b'a'; 130]);
        let close = json!({"Close": 1000, "Reason": "bye"}).to_string();
        let all = [close, "{}".to_owned(), "a".repeat(130)];
        assert_eq!(server_frames(&bytes), all);
        for cut in 0..bytes.len() {
            assert!(all.starts_with(&server_frames(&bytes[..cut])), "{cut}");
        }
        assert!(server_frames(&[0x81, 127, 0, 0, 0, 0, 0, 0, 0, 1, b'x']).is_empty());
    }
}
