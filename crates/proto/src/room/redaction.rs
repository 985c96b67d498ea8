//! Taking deleted messages back: which ones an event asks for, and batches without them.
//!
//! Cursors count frames, those that were taken back too: they stay valid.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;

use super::batch::Batch;
use crate::base::id::{FrameId, ID_CHARS};
use crate::base::limits::REDACTED_FRAMES_MAX;
use crate::base::segment::Piece;
use crate::chat::encode;
use crate::extension::speech::Key;
use crate::ws::{self, Inflater};

/// What an event asks to take back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redaction {
    /// One message.
    Message(FrameId),
    /// All messages of a user.
    User(Key),
    /// All messages of the room.
    All,
}

/// Lineage of the allocations for one connection alone: of no room log.
const ALONE: u32 = u32::MAX - 1;
/// Lineages of pieces that were made anew count from here, beyond those of a room: by the log of a shard, and by the home.
const REBUILT: u32 = 1 << 31;
/// See [`REBUILT`].
const REBUILT_AT_HOME: u32 = 3 << 30;
/// Number of lineages of each.
const REBUILT_MAX: u32 = 1 << 29;

impl Redaction {
    /// Whether it takes this message of this user back.
    pub fn takes(self, message: FrameId, sender: Key) -> bool {
        match self {
            Self::Message(deleted) => deleted == message,
            Self::User(purged) => purged == sender,
            Self::All => true,
        }
    }

    /// The one message that it takes back; `None`: it takes back all of somebody, or all.
    pub fn message(self) -> Option<FrameId> {
        match self {
            Self::Message(id) => Some(id),
            Self::User(_) | Self::All => None,
        }
    }

    /// Whether it takes back more than one message.
    pub fn is_wide(self) -> bool {
        self.message().is_none()
    }

    /// Reads the payload of a frame; `None`: it takes nothing back. `purge_event` is the name of the event that takes back
    /// all of a user's messages.
    pub fn read(payload: &[u8], purge_event: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Event<'a> {
            #[serde(rename = "EventName", borrow)]
            name: Cow<'a, str>,
            #[serde(rename = "Attributes")]
            attributes: BTreeMap<String, String>,
        }
        if !payload.starts_with(b"{\"Type\":\"EVENT\",") {
            return None;
        }
        let Event { name, attributes } = serde_json::from_slice(payload).ok()?;
        if name == encode::DELETED {
            let id = attributes.get("MessageID")?;
            return FrameId::parse(id).map(Self::Message);
        }
        if name == purge_event {
            return purged(&attributes).map(|user| Self::User(Key::of_user(user)));
        }
        (name == encode::CLEARED).then_some(Self::All)
    }
}

/// The user whose messages a purge's event takes back, by its attributes; as in samples of AWS, and as other attributes are.
pub fn purged(attributes: &BTreeMap<String, String>) -> Option<&str> {
    let user = attributes.get("userId").or(attributes.get("UserId"))?;
    Some(user)
}

/// How the JSON of a message begins, up to its id.
const MESSAGE_BEGIN: &[u8] = b"{\"Type\":\"MESSAGE\",\"Id\":\"";
/// Bytes that tell a message's id.
const HEAD_BYTES: usize = MESSAGE_BEGIN.len() + ID_CHARS;

/// The id of the message that a frame's payload is; `None`: it is another one.
pub fn message_id(payload: &[u8]) -> Option<FrameId> {
    let id = payload.strip_prefix(MESSAGE_BEGIN)?;
    FrameId::from_bytes(id.first_chunk()?)
}

/// `Sender` of the message that a frame's payload is.
///
/// What begins it is found nowhere else: within a JSON string a quote has a backslash before it, and attributes are strings.
pub fn sender_json(payload: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(payload).ok()?;
    let (_, sender) = text.rsplit_once(",\"Sender\":{")?;
    // One byte of ASCII was split off behind the colon, and one closes the message.
    let start = text.len() - sender.len() - 1;
    text.get(start..text.len() - 1)
}

/// The JSON of those of a batch's messages that have one of these ids.
pub fn taken<'a>(batch: &'a Batch, ids: &'a [FrameId]) -> impl Iterator<Item = &'a [u8]> {
    let is_taken = |payload: &&[u8]| message_id(payload).is_some_and(|id| ids.contains(&id));
    ws::payloads(batch.plain.bytes()).filter(is_taken)
}

/// Adds the messages among these frames to `ids` that are taken back, if not by their ids: those that are not there yet.
pub fn add_taken<'a>(
    frames: impl IntoIterator<Item = &'a [u8]>,
    redactions: &[Redaction],
    ids: &mut Vec<FrameId>,
) {
    let known: HashSet<FrameId> = ids.iter().copied().collect();
    let payloads = frames.into_iter().flat_map(ws::payloads);
    let taken = payloads.filter_map(|payload| {
        let id = message_id(payload).filter(|id| !known.contains(id))?;
        let sender = Key::of_sender(sender_json(payload).unwrap_or_default());
        let mut wide = redactions.iter().filter(|redaction| redaction.is_wide());
        wide.any(|redaction| redaction.takes(id, sender))
            .then_some(id)
    });
    ids.extend(taken);
}

/// Who waits for the echo of a message, by its JSON: the sender's id, and the sender's own id for the request; `None`: nobody
/// does.
pub fn asker(payload: &[u8]) -> Option<(String, String)> {
    #[derive(Deserialize)]
    struct Asked {
        #[serde(rename = "RequestId")]
        request_id: String,
        #[serde(rename = "Sender")]
        sender: Sender,
    }
    #[derive(Deserialize)]
    struct Sender {
        #[serde(rename = "UserId")]
        user_id: String,
    }
    let asked: Asked = serde_json::from_slice(payload).ok()?;
    (!asked.request_id.is_empty()).then_some((asked.sender.user_id, asked.request_id))
}

/// A piece of whole frames for one connection alone.
pub fn alone(frames: Bytes) -> Piece {
    Piece::rebuilt(frames, ALONE)
}

/// Messages that were taken back of late: sends that had begun before carry them still.
#[derive(Debug, Default)]
pub struct Redacted {
    // All of them, newest last.
    ids: VecDeque<FrameId>,
    // Their compressed frames in the room's log, newest last: these do not tell their ids.
    places: VecDeque<Place>,
    // Those of them whose compressed frames were not found there, newest last: the log has dropped them, or has made them anew
    // while sends carry what was there before.
    lost: VecDeque<FrameId>,
    // Number of pieces made anew: each is an allocation of its own.
    rebuilt: u32,
    is_home: bool,
}

/// A frame in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    // The number of its allocation, of which a room has one each.
    allocation: u64,
    address: usize,
}

impl Redacted {
    /// Makes that of a room's home, whose batches go to all shards.
    pub fn at_home() -> Self {
        Self {
            is_home: true,
            ..Self::default()
        }
    }

    /// Notes messages that are taken back; `batches` may have them: all that a log keeps.
    pub fn note<'a>(&mut self, ids: &[FrameId], batches: impl Iterator<Item = &'a Batch>) {
        self.ids.extend(ids);
        keep(&mut self.ids);
        let mut found = Vec::new();
        for batch in batches {
            let Some(deflated) = &batch.deflated else {
                continue;
            };
            // Sends may carry the piece that this one was made from.
            let is_first = deflated.number() >> 32 < u64::from(REBUILT)
                || deflated.number() >> 32 >= u64::from(REBUILT_AT_HOME);
            let both = ws::payloads(batch.plain.bytes()).zip(ws::split(deflated.bytes()));
            for (payload, (whole, _)) in both {
                let Some(id) = message_id(payload).filter(|id| ids.contains(id)) else {
                    continue;
                };
                self.places.push_back(Place {
                    allocation: deflated.number(),
                    address: whole.as_ptr().addr(),
                });
                if is_first {
                    found.push(id);
                }
            }
        }
        keep(&mut self.places);
        self.lost
            .extend(ids.iter().filter(|id| !found.contains(id)));
        keep(&mut self.lost);
    }

    /// Returns a batch without these messages; `None`: it has none of them. A batch of nothing else keeps its place by an
    /// empty Pong, which clients ignore.
    pub fn cut(&mut self, batch: &Batch, ids: &[FrameId]) -> Option<Batch> {
        let is_gone = |payload| message_id(payload).is_some_and(|id| ids.contains(&id));
        let gone: Vec<bool> = ws::payloads(batch.plain.bytes()).map(is_gone).collect();
        if !gone.contains(&true) {
            return None;
        }
        let plain = self.rebuild(&batch.plain, &gone);
        let deflated = batch.deflated.as_ref();
        Some(Batch {
            plain,
            deflated: deflated.map(|piece| self.rebuild(piece, &gone)),
            frames: batch.frames,
        })
    }

    fn rebuild(&mut self, piece: &Piece, gone: &[bool]) -> Piece {
        let mut kept = BytesMut::with_capacity(piece.len());
        for ((whole, _), is_gone) in ws::split(piece.bytes()).zip(gone) {
            if !is_gone {
                kept.put_slice(whole);
            }
        }
        if kept.is_empty() {
            ws::pong(&mut kept, b"");
        }
        self.rebuilt = (self.rebuilt + 1) % REBUILT_MAX;
        let first = if self.is_home {
            REBUILT_AT_HOME
        } else {
            REBUILT
        };
        Piece::rebuilt(kept.freeze(), first + self.rebuilt)
    }

    /// Returns `all`, whole frames in this allocation of which `done` bytes are sent, from the frame on that has begun and
    /// without those that were taken back, and how much of it is sent; `None`: nothing that is left was taken back. A frame
    /// that has begun is ended.
    pub fn rest(&self, allocation: u64, all: &[u8], done: usize) -> Option<(Bytes, usize)> {
        let mut inflater = Inflater::default();
        let (mut rest, mut begun) = (BytesMut::new(), 0);
        let (mut at, mut is_cut) = (0, false);
        for (whole, payload) in ws::split(all) {
            let end = at + whole.len();
            if end > done {
                let mut is_gone = || self.takes(allocation, (whole, payload), &mut inflater);
                if at >= done && is_gone() {
                    is_cut = true;
                } else {
                    begun = begun.max(done.saturating_sub(at));
                    rest.extend_from_slice(whole);
                }
            }
            at = end;
        }
        if !is_cut {
            return None;
        }
        if rest.is_empty() {
            // A send has bytes.
            ws::pong(&mut rest, b"");
        }
        Some((rest.freeze(), begun))
    }

    /// Whether a frame is a message that was taken back.
    fn takes(
        &self,
        allocation: u64,
        (whole, payload): (&[u8], &[u8]),
        inflater: &mut Inflater,
    ) -> bool {
        if !ws::is_deflated(whole) {
            return message_id(payload).is_some_and(|id| self.ids.contains(&id));
        }
        let place = Place {
            allocation,
            address: whole.as_ptr().addr(),
        };
        let lost = if allocation == u64::from(ALONE) << 32 {
            &self.ids
        } else {
            &self.lost
        };
        let mut is_lost = || {
            let head = inflater.beginning::<HEAD_BYTES>(payload);
            let id = head.and_then(|head| message_id(&head));
            id.is_some_and(|id| lost.contains(&id))
        };
        self.places.contains(&place) || !lost.is_empty() && is_lost()
    }
}

/// The number of bytes that end the frame which has begun, behind the `done` bytes of whole frames that are sent.
pub fn begun_left(all: &[u8], done: usize) -> usize {
    let mut end = 0;
    for (whole, _) in ws::split(all) {
        if end >= done {
            break;
        }
        end += whole.len();
    }
    end.saturating_sub(done)
}

/// Whole frames of what is left of a send that another process has begun, and how much of them is sent: its first `left`
/// bytes end a frame, which gets a header of their length.
pub fn inherited(rest: &[u8], left: usize) -> Option<(Bytes, usize)> {
    let (ends, frames) = rest.split_at_checked(left)?;
    let mut all = BytesMut::with_capacity(rest.len() + HEADER_BYTES_MAX);
    let mut begun = 0;
    if left > 0 {
        ws::message(&mut all, false, ends);
        begun = all.len() - left;
    }
    all.extend_from_slice(frames);
    (frames.is_empty() || ws::is_whole(frames)).then(|| (all.freeze(), begun))
}

/// Most bytes before a server frame's payload.
const HEADER_BYTES_MAX: usize = 10;

/// Lets the oldest go.
fn keep<T>(newest: &mut VecDeque<T>) {
    let surplus = newest.len().saturating_sub(REDACTED_FRAMES_MAX);
    newest.drain(..surplus);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::UnixTime;
    use crate::base::id::FrameIds;
    use crate::ws::Deflater;
    use proptest::prelude::*;

    fn message(id: FrameId, user: &str, attributes: &[(&str, &str)], content: &str) -> BytesMut {
        let mut out = BytesMut::new();
        let message = encode::Message {
            id,
            request_id: "r",
            attributes_json: &encode::attributes_json(attributes.iter().copied()),
            content,
            sent: UnixTime::from_secs(1_700_000_000),
            sender_json: &encode::sender_json(user, [("Sender", "{"), ("a", ",\"Sender\":{")]),
        };
        encode::message(&mut out, &message);
        out
    }

    fn event(name: &str, attributes: &str) -> Vec<u8> {
        let mut out = BytesMut::new();
        let event = encode::Event {
            id: FrameIds::seeded(9).next_id(),
            request_id: "\",\"EventName\":\"aws:DELETE_MESSAGE\"",
            name,
            attributes_json: attributes,
            sent: UnixTime::from_secs(1),
        };
        encode::event(&mut out, &event);
        ws::payloads(&out).next().expect("a frame").to_vec()
    }

    /// Goal: events that take messages back are told from others, whatever texts they have.
    #[test]
    fn events_are_read() {
        let id = FrameIds::seeded(1).next_id();
        let read = |name: &str, attributes: &str| Redaction::read(&event(name, attributes), "p");
        let deleted = encode::deleted_attributes(id.as_str(), "spam");
        assert_eq!(
            read(encode::DELETED, &deleted),
            Some(Redaction::Message(id))
        );
        let purged = encode::purged_attributes("bob \"x\"", "r");
        assert_eq!(
            read("p", &purged),
            Some(Redaction::User(Key::of_user("bob \"x\"")))
        );
        assert_eq!(
            read("p", "{\"UserId\":\"b\"}"),
            Some(Redaction::User(Key::of_user("b")))
        );
        assert_eq!(read(encode::CLEARED, "{}"), Some(Redaction::All));
        let disguised =
            encode::attributes_json([("EventName", encode::DELETED), ("MessageID", id.as_str())]);
        for (name, attributes) in [("other", &*disguised), ("p", "{}"), (encode::DELETED, "{}")] {
            assert_eq!(read(name, attributes), None, "{name}");
        }
        let said = message(
            id,
            "bob",
            &[],
            &String::from_utf8_lossy(&event(encode::CLEARED, "{}")),
        );
        let payload = ws::payloads(&said).next().expect("a frame");
        assert_eq!(Redaction::read(payload, "p"), None);
        assert_eq!(message_id(payload), Some(id));
    }

    proptest! {
        /// Goal: nobody's words make a message another user's. Oracle: serde_json.
        #[test]
        fn senders_are_found(user in "\\PC{1,20}|,\"Sender\":\\{", key in "Sender|\\PC{0,8}", value in "\\PC{0,20}|,\"Sender\":\\{", content in "\\PC{0,30}|,\"Sender\":\\{\"UserId\":\"eve\"") {
            let frame = message(FrameIds::seeded(2).next_id(), &user, &[(&key, &value)], &content);
            let payload = ws::payloads(&frame).next().expect("a frame");
            let found: serde_json::Value = serde_json::from_str(sender_json(payload).expect("a sender")).expect("JSON");
            let parsed: serde_json::Value = serde_json::from_slice(payload).expect("JSON");
            prop_assert_eq!(&found, &parsed["Sender"]);
            prop_assert_eq!(Key::of_sender(sender_json(payload).expect("a sender")), Key::of_user(&user));
        }

        /// Goal: batches lose exactly the frames that are taken back, in both encodings, and what is left of a send that
        /// had begun is whole frames behind the one that has begun.
        #[test]
        fn frames_are_cut(gone in proptest::collection::vec(any::<bool>(), 1..12), done in 0..3_000_usize, deflates: bool, is_kept: bool) {
            let (mut ids, mut deflater) = (FrameIds::seeded(3), Deflater::default());
            let all: Vec<(FrameId, BytesMut)> = gone.iter().enumerate().map(|(at, _)| {
                let id = ids.next_id();
                (id, message(id, "bob", &[], &format!("{at} {}", "chat ".repeat(20))))
            }).collect();
            let mut deflated = BytesMut::new();
            for (_, frame) in &all {
                deflater.message(&mut deflated, 15, true, ws::payloads(frame).next().expect("a frame"));
            }
            let plain: Vec<u8> = all.iter().flat_map(|(_, frame)| frame.to_vec()).collect();
            let batch = Batch {
                plain: Piece::alone(plain.into()),
                deflated: Some(Piece::alone(deflated.freeze())),
                frames: 9,
            };
            let taken: Vec<FrameId> = all.iter().zip(&gone).filter(|(_, gone)| **gone).map(|((id, _), _)| *id).collect();
            let mut redacted = Redacted::default();
            redacted.note(&taken, is_kept.then_some(&batch).into_iter());
            let cut = redacted.cut(&batch, &taken);
            prop_assert_eq!(cut.is_some(), gone.contains(&true));
            let piece = |batch: &Batch| if deflates { batch.deflated.clone().expect("both") } else { batch.plain.clone() };
            let whole: Vec<(usize, Vec<u8>)> = {
                let piece = piece(&batch);
                let begin = piece.bytes().as_ptr().addr();
                ws::split(piece.bytes()).map(|(whole, _)| (whole.as_ptr().addr() - begin, whole.to_vec())).collect()
            };
            if let Some(cut) = &cut {
                prop_assert_eq!(cut.frames, 9);
                let kept: Vec<u8> = whole.iter().zip(&gone).filter(|(_, gone)| !**gone).flat_map(|((_, bytes), _)| bytes.clone()).collect();
                let wanted = if kept.is_empty() { vec![0x8A, 0] } else { kept };
                let found = piece(cut);
                prop_assert_eq!(&found.bytes()[..], &wanted[..]);
            }
            let sent = piece(&batch);
            let done = done.min(sent.len());
            let rest = redacted.rest(sent.number(), sent.bytes(), done);
            let wanted: Vec<u8> = whole.iter().zip(&gone).filter(|((start, _), gone)| !(**gone && *start >= done))
                .flat_map(|((start, bytes), _)| bytes[done.saturating_sub(*start).min(bytes.len())..].to_vec()).collect();
            let is_cut = whole.iter().zip(&gone).any(|((start, _), gone)| *gone && *start >= done);
            let wanted = if wanted.is_empty() { vec![0x8A, 0] } else { wanted };
            let unsent = |(frames, begun): &(Bytes, usize)| frames[*begun..].to_vec();
            prop_assert_eq!(rest.as_ref().map(unsent), is_cut.then_some(wanted));
            if let Some((frames, begun)) = &rest {
                prop_assert!(frames.starts_with(&[0x8A]) || ws::is_whole(frames));
                prop_assert_eq!(begun_left(frames, *begun), begun_left(sent.bytes(), done));
            }
            // As another process goes on with it.
            let left = begun_left(sent.bytes(), done);
            let (frames, begun) = inherited(&sent.bytes()[done..], left).expect("whole frames");
            prop_assert_eq!(&frames[begun..], &sent.bytes()[done..]);
            let rest = redacted.rest(alone(frames.clone()).number(), &frames, begun);
            prop_assert_eq!(rest.is_some(), is_cut);
        }
    }

    /// Goal: what one connection alone gets is cut as well, again and again.
    #[test]
    fn frames_for_one_are_cut() {
        let mut ids = FrameIds::seeded(4);
        let [a, b, c] = [ids.next_id(), ids.next_id(), ids.next_id()];
        let [one, two, three] = [(a, "one"), (b, "two"), (c, "three")]
            .map(|(id, content)| message(id, "x", &[], content));
        let piece = alone([&one[..], &two[..], &three[..]].concat().into());
        let mut redacted = Redacted::default();
        assert_eq!(redacted.rest(piece.number(), piece.bytes(), 0), None);
        redacted.note(&[b], std::iter::empty());
        let (rest, begun) = redacted
            .rest(piece.number(), piece.bytes(), 1)
            .expect("cut");
        assert_eq!(
            (&rest[..], begun),
            (&[&one[..], &three[..]].concat()[..], 1)
        );
        redacted.note(&[a, c], std::iter::empty());
        let (rest, begun) = redacted.rest(piece.number(), &rest, 1).expect("cut");
        assert_eq!((&rest[..], begun), (&one[..], 1), "it has begun");
        assert_eq!(redacted.rest(piece.number(), &rest, begun), None);
    }

    /// Goal: a compressed frame is found in a send that began before its batch was made anew.
    #[test]
    fn batches_are_made_anew_twice() {
        let (mut ids, mut deflater) = (FrameIds::seeded(5), Deflater::default());
        let said: Vec<(FrameId, BytesMut)> = (0..3)
            .map(|_| {
                let id = ids.next_id();
                (id, message(id, "bob", &[], &"chat ".repeat(20)))
            })
            .collect();
        let (mut plain, mut deflated) = (Vec::new(), BytesMut::new());
        for (_, frame) in &said {
            let payload = ws::payloads(frame).next().expect("a frame");
            deflater.message(&mut deflated, 12, true, payload);
            plain.extend_from_slice(frame);
        }
        let sent = Piece::alone(deflated.freeze());
        let mut batch = Batch {
            plain: Piece::alone(plain.into()),
            deflated: Some(sent.clone()),
            frames: 3,
        };
        let mut redacted = Redacted::default();
        for (id, _) in &said[..2] {
            redacted.note(&[*id], std::iter::once(&batch));
            batch = redacted.cut(&batch, &[*id]).expect("it has it");
        }
        let (last, _) = ws::split(sent.bytes()).last().expect("three");
        let rest = redacted.rest(sent.number(), sent.bytes(), 0).expect("cut");
        assert_eq!(rest, (Bytes::copy_from_slice(last), 0));
    }
}
