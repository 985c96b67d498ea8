//! The rooms of all shards: rates, messages under review, and the batches that some members have not
//! got yet.
//!
//! Settings are not in it: they are in the database. Members are counted anew as they arrive.

mod memory;
pub mod merge;
mod pending;
mod viewers;
mod waiting;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

pub(in crate::shard) use self::pending::{Decided, PendingMessage};
use self::viewers::ViewersEstate;
use super::carried::SenderTag;
use crate::shard::shard_room::remembering::Remembering;
use uproar_proto::base::clock::{Shift, Tick, UnixTime};
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::base::limits::FRAME_BYTES_MAX;
use uproar_proto::base::segment::Piece;
use uproar_proto::chat::encode;
use uproar_proto::chat::review::Rewrite;
use uproar_proto::cluster::engine::LogsEstate;
use uproar_proto::extension::recent::Note;
use uproar_proto::extension::speech::Key;
use uproar_proto::extension::viewers::Viewers;
use uproar_proto::room::log::Batch;
use uproar_proto::room::review::Fallback;
use uproar_proto::room::stands::Stand;
use uproar_proto::tagged::{Fault, Fields, Tagged};

// The fields of an estate. Instants are ticks of the process that writes them, in nanoseconds.
/// Until when the account's budgets are used: messages, deletions, disconnects.
const SENDS: u32 = 1;
const DELETIONS: u32 = 2;
const DISCONNECTS: u32 = 3;
/// Since when the last shard has been freezing; without it, since the rooms are taken over.
const FREEZING: u32 = 4;
/// A room; repeated.
const ROOM: u32 = 5;
/// On a node of a cluster: how far its members were given each log (`uproar_proto::cluster::engine::LogsEstate`).
const LOGS: u32 = 6;
// 7 and 8 are what is unfinished (`super::unfinished`).

// The fields of a room.
const ID: u32 = 1;
/// Until when the budget of messages is used. It and the next two come from the room's home.
const BUDGET: u32 = 2;
/// `SendTime` of the newest frame, in nanoseconds since 1970.
const LAST_SENT: u32 = 3;
/// A message under review; repeated, in order.
const PENDING: u32 = 4;
/// What chat modes remember: users, and texts; each is a key and when it was noted, 8 bytes each, oldest first.
const NOTED_USERS: u32 = 9;
const NOTED_TEXTS: u32 = 10;
/// Tallies and reactions (`uproar_proto::extension::Tallies::carry`).
const TALLIES: u32 = 20;
/// Number of frames of the room so far.
const FRAMES_SO_FAR: u32 = 31;
/// A batch's numbers; repeated, oldest first. The newest ends at the log's head.
const BATCH: u32 = 6;
/// The bytes of all batches, in order, in both encodings.
const PLAIN: u32 = 7;
const DEFLATED: u32 = 8;

// The fields of a batch: frames, bytes of each encoding, when it was appended.
const FRAMES: u32 = 1;
const PLAIN_BYTES: u32 = 2;
const DEFLATED_BYTES: u32 = 3;
const APPENDED: u32 = 4;

// The fields of a message under review.
const CONTENT: u32 = 1;
const ATTRIBUTES: u32 = 2;
const REQUEST_ID: u32 = 3;
const SENDER: u32 = 4;
const IP: u32 = 5;
const FRAME_ID: u32 = 6;
/// When it arrived, in nanoseconds since 1970.
const SENT: u32 = 7;
const TAG_SHARD: u32 = 8;
const TAG_KEY: u32 = 9;
/// Present while it is undecided: 1 if it is allowed without a verdict, 0 if it is denied then.
const FALLBACK: u32 = 10;
/// Present if a verdict allowed it: the handler's content and attributes.
const REWRITE_CONTENT: u32 = 11;
const REWRITE_ATTRIBUTES: u32 = 12;
/// 1 if its user alone gets it.
const SHADOWED: u32 = 13;

/// The account's budgets: until when each is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::shard) struct AccountUse {
    pub sends: Tick,
    pub deletions: Tick,
    pub disconnects: Tick,
}

/// Writes the estate of one shard's rooms.
#[derive(Debug, Default)]
pub(in crate::shard) struct RoomsWriter(Fields);

impl RoomsWriter {
    /// Begins with the account's budgets, and since when the shard has been freezing.
    pub(in crate::shard) fn new(account: AccountUse, freezing: Tick) -> Self {
        let mut fields = Fields::default();
        fields.number(SENDS, account.sends.nanos());
        fields.number(DELETIONS, account.deletions.nanos());
        fields.number(DISCONNECTS, account.disconnects.nanos());
        fields.number(FREEZING, freezing.nanos());
        Self(fields)
    }

    /// Adds a room.
    pub(in crate::shard) fn room(&mut self, id: RoomId, write: impl FnOnce(&mut RoomWriter)) {
        self.0.nested(ROOM, |fields| {
            fields.bytes(ID, id.as_bytes());
            let mut room = RoomWriter(std::mem::take(fields));
            write(&mut room);
            *fields = room.0;
        });
    }

    /// Returns the encoded estate.
    pub(in crate::shard) fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}

/// Writes one room.
#[derive(Debug)]
pub(in crate::shard) struct RoomWriter(Fields);

impl RoomWriter {
    /// What the home has used of the room's rate, and the time of the newest frame.
    pub(in crate::shard) fn home(&mut self, used_until: Tick, last_sent: UnixTime) {
        self.0.number(BUDGET, used_until.nanos());
        self.0.number(LAST_SENT, last_sent.nanos());
    }

    /// What is known of its viewers.
    pub(in crate::shard) fn viewers(&mut self, viewers: &Viewers) {
        viewers::write(&mut self.0, viewers);
    }

    /// What its chat modes remember: users, and texts.
    pub(in crate::shard) fn notes(&mut self, notes: [impl Iterator<Item = Note>; 2]) {
        for (number, notes) in [NOTED_USERS, NOTED_TEXTS].into_iter().zip(notes) {
            let pairs = notes.map(|(noted, key)| [key.bits(), noted.nanos()]);
            let bytes: Vec<u8> = pairs.flatten().flat_map(u64::to_le_bytes).collect();
            if !bytes.is_empty() {
                self.0.bytes(number, &bytes);
            }
        }
    }

    /// Its tallies and reactions.
    pub(in crate::shard) fn tallies(&mut self, carried: &[u8]) {
        self.0.bytes(TALLIES, carried);
    }

    /// Number of frames so far, what is remembered of them, and where viewers stood who left.
    pub(in crate::shard) fn remembering(&mut self, frames: u64, kept: Option<&Remembering>) {
        self.0.number(FRAMES_SO_FAR, frames);
        if let Some(kept) = kept {
            memory::write(&mut self.0, kept);
        }
    }

    /// A message that waits for a moderator until then, because of this rule; in order.
    pub(in crate::shard) fn waiting(
        &mut self,
        message: &PendingMessage<'_>,
        until: Tick,
        rule: &str,
    ) {
        waiting::write(&mut self.0, |fields| message.write(fields), (until, rule));
    }

    /// A message under review, in order.
    pub(in crate::shard) fn pending(&mut self, message: &PendingMessage<'_>) {
        self.0.nested(PENDING, |fields| message.write(fields));
    }

    /// The batches that some member needs, oldest first.
    pub(in crate::shard) fn log<'b, B>(&mut self, batches: impl Fn() -> B)
    where
        B: Iterator<Item = (&'b Batch, Tick)>,
    {
        for (batch, appended) in batches() {
            self.0.nested(BATCH, |fields| {
                fields.number(FRAMES, batch.frames.into());
                fields.number(PLAIN_BYTES, wide(batch.plain.len()));
                if let Some(piece) = &batch.deflated {
                    fields.number(DEFLATED_BYTES, wide(piece.len()));
                }
                fields.number(APPENDED, appended.nanos());
            });
        }
        let plain: Vec<&[u8]> = batches()
            .map(|(batch, _)| &batch.plain.bytes()[..])
            .collect();
        self.0.bytes(PLAIN, &plain.concat());
        let deflated = batches().filter_map(|(batch, _)| batch.deflated.as_ref());
        let deflated: Vec<&[u8]> = deflated.map(|piece| &piece.bytes()[..]).collect();
        self.0.bytes(DEFLATED, &deflated.concat());
    }
}

impl<'a> PendingMessage<'a> {
    /// Writes it.
    pub(in crate::shard) fn write(&self, fields: &mut Fields) {
        for (number, text) in [
            (CONTENT, self.content),
            (ATTRIBUTES, self.attributes_json),
            (REQUEST_ID, self.request_id),
            (SENDER, self.sender_json),
            (IP, self.ip),
        ] {
            fields.bytes(number, text.as_bytes());
        }
        fields.bytes(FRAME_ID, self.id.as_bytes());
        fields.number(SENT, self.sent.nanos());
        fields.number(TAG_SHARD, self.tag.shard);
        fields.number(TAG_KEY, self.tag.key);
        fields.number(SHADOWED, self.is_shadowed.into());
        match &self.decided {
            Decided::Waits(fallback) => {
                fields.number(FALLBACK, u64::from(*fallback == Fallback::Allow));
            }
            Decided::Allowed(None) => {}
            Decided::Allowed(Some(rewrite)) => {
                fields.bytes(REWRITE_CONTENT, rewrite.content.as_bytes());
                if let Some(attributes) = &rewrite.attributes_json {
                    fields.bytes(REWRITE_ATTRIBUTES, attributes.as_bytes());
                }
            }
        }
    }

    /// Reads a message under review.
    ///
    /// # Errors
    ///
    /// What is missing, or has a value that no message has.
    pub(in crate::shard) fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        // A frame of the message's texts is bounded: so are they.
        if bytes.len() > 2 * FRAME_BYTES_MAX {
            return Err(Fault::Value(CONTENT));
        }
        let fields = Tagged::parse(bytes)?;
        let id = fields.need(FRAME_ID)?.try_into().ok();
        let id = id.and_then(FrameId::from_bytes);
        let decided = match fields.number(FALLBACK)? {
            Some(0) => Decided::Waits(Fallback::Deny),
            Some(_) => Decided::Waits(Fallback::Allow),
            None if fields.get(REWRITE_CONTENT).is_none() => Decided::Allowed(None),
            None => Decided::Allowed(Some(Rewrite {
                content: fields.need_text(REWRITE_CONTENT)?.into(),
                attributes_json: match fields.get(REWRITE_ATTRIBUTES) {
                    Some(_) => Some(fields.need_text(REWRITE_ATTRIBUTES)?.into()),
                    None => None,
                },
            })),
        };
        let message = Self {
            content: fields.need_text(CONTENT)?,
            attributes_json: fields.need_text(ATTRIBUTES)?,
            request_id: fields.need_text(REQUEST_ID)?,
            sender_json: fields.need_text(SENDER)?,
            ip: fields.need_text(IP)?,
            id: id.ok_or(Fault::Value(FRAME_ID))?,
            sent: UnixTime::from_nanos(fields.need_number(SENT)?),
            tag: SenderTag {
                shard: fields.need_number(TAG_SHARD)?,
                key: fields.need_number(TAG_KEY)?,
            },
            is_shadowed: fields.number(SHADOWED)? == Some(1),
            decided,
        };
        if message.frame_bytes_max() > usize::from(u16::MAX) {
            return Err(Fault::Value(CONTENT));
        }
        Ok(message)
    }

    /// Most bytes of the frame that the message becomes.
    fn frame_bytes_max(&self) -> usize {
        let rewrite = match &self.decided {
            Decided::Allowed(Some(rewrite)) => Some(rewrite),
            Decided::Allowed(None) | Decided::Waits(_) => None,
        };
        let attributes = rewrite.and_then(|rewrite| rewrite.attributes_json.as_deref());
        let message = encode::Message {
            id: self.id,
            request_id: self.request_id,
            attributes_json: attributes.unwrap_or(self.attributes_json),
            content: rewrite.map_or(self.content, |rewrite| &rewrite.content),
            sent: self.sent,
            sender_json: self.sender_json,
        };
        message.bytes_max()
    }
}

/// The rooms that another process hands over, read once and shared by all shards. The bytes of the
/// batches are not copied.
#[derive(Debug, Default)]
pub struct RoomsEstate {
    shift: Shift,
    account: AccountUse,
    freezing: Option<Tick>,
    rooms: HashMap<RoomId, RoomEstate>,
    // Senders of messages under review: the homes of their rooms must learn where they are now.
    senders: HashSet<SenderTag>,
    broken: usize,
    logs: Option<LogsEstate>,
}

/// One room of an estate.
#[derive(Debug, Default)]
pub(in crate::shard) struct RoomEstate {
    /// Until when its rate is used, and the time of its newest frame.
    pub home: Option<(Tick, UnixTime)>,
    /// What its chat modes remember.
    pub notes: [Vec<Note>; 2],
    /// Its tallies and reactions; empty: it has none.
    pub tallies: Bytes,
    /// What is known of its viewers.
    pub viewers: ViewersEstate,
    /// Number of its frames so far.
    pub frames: u64,
    /// What it remembers: numbers, when they were flushed, frames; and before which frame messages may be forgotten.
    pub remembered: (Vec<(u64, Tick, Bytes)>, u64),
    /// Where viewers stood who left.
    pub places: Vec<(Key, Stand, Tick)>,
    /// Who is there, and at which frame he came.
    pub present: Vec<(Key, u64)>,
    /// Messages that wait for a moderator, until when, and why.
    pub waiting: Vec<(Bytes, Tick, Box<str>)>,
    /// Messages under review, in order; each was read once, without a fault.
    pub pending: Vec<Bytes>,
    /// Batches, oldest first, and when each was appended.
    pub batches: Vec<(Batch, Tick)>,
    // Number of frames from each batch's first one to the head, in their order.
    behind: Vec<u64>,
}

impl RoomEstate {
    /// Whether the room remembers messages: the number before which they may be forgotten is never 0.
    pub(in crate::shard) fn remembers(&self) -> bool {
        self.remembered.1 > 0
    }
}

impl RoomsEstate {
    /// Reads an estate whose ticks are `shift` away from those of this process. It takes memory in
    /// proportion to `bytes`, whatever they say.
    ///
    /// # Errors
    ///
    /// [`Fault::Cut`] if they are no fields, any fault of what they say of a cluster's logs: members would miss something. A
    /// room that has not what this version needs is left out: see [`RoomsEstate::broken`].
    pub fn parse(bytes: Vec<u8>, shift: Shift) -> Result<Self, Fault> {
        let bytes = Bytes::from(bytes);
        let fields = Tagged::parse(&bytes)?;
        let until = |number| Ok(shift.tick(fields.number(number)?.unwrap_or(0)));
        let mut estate = Self {
            shift,
            account: AccountUse {
                sends: until(SENDS)?,
                deletions: until(DELETIONS)?,
                disconnects: until(DISCONNECTS)?,
            },
            freezing: fields.number(FREEZING)?.map(|since| shift.tick(since)),
            logs: fields.get(LOGS).map(LogsEstate::decode).transpose()?,
            ..Self::default()
        };
        for room in fields.all(ROOM) {
            match RoomEstate::read(&bytes.slice_ref(room), shift) {
                Ok((id, room)) => {
                    let pending = room.pending.iter();
                    let tags = pending.flat_map(|message| PendingMessage::read(message));
                    estate.senders.extend(tags.map(|message| message.tag));
                    estate.rooms.insert(id, room);
                }
                Err(_) => estate.broken += 1,
            }
        }
        Ok(estate)
    }

    /// How far its ticks are away.
    pub(in crate::shard) fn shift(&self) -> Shift {
        self.shift
    }

    /// What is used of the account's rates.
    pub(in crate::shard) fn account(&self) -> AccountUse {
        self.account
    }

    /// Since when its process has paused, if it says so.
    pub(in crate::shard) fn freezing(&self) -> Option<Tick> {
        self.freezing
    }

    /// How far its members were given the logs of its cluster, if it is of one.
    pub fn logs(&self) -> Option<&LogsEstate> {
        self.logs.as_ref()
    }

    /// Returns a room.
    pub(in crate::shard) fn room(&self, room: RoomId) -> Option<&RoomEstate> {
        self.rooms.get(&room)
    }

    /// Returns every room.
    pub(in crate::shard) fn rooms(&self) -> impl Iterator<Item = (&RoomId, &RoomEstate)> {
        self.rooms.iter()
    }

    /// Whether a message of this sender is under review.
    pub(in crate::shard) fn is_sender(&self, tag: SenderTag) -> bool {
        self.senders.contains(&tag)
    }

    /// Whether a member of a room may stand this many frames before the head.
    pub(in crate::shard) fn is_boundary(&self, room: RoomId, behind: u64) -> bool {
        self.room(room).is_none_or(|part| part.is_boundary(behind))
    }

    /// Number of rooms that could not be read: their rates begin anew, and messages that their members had
    /// not got yet count as skipped.
    pub fn broken(&self) -> usize {
        self.broken
    }

    /// Number of rooms.
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether it has no rooms.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }
}

impl RoomEstate {
    fn read(bytes: &Bytes, shift: Shift) -> Result<(RoomId, Self), Fault> {
        let fields = Tagged::parse(bytes)?;
        let id = fields.need(ID)?.try_into().ok();
        let id = id.and_then(RoomId::from_bytes).ok_or(Fault::Value(ID))?;
        let home = match fields.number(BUDGET)? {
            Some(until) => {
                let last_sent = fields.number(LAST_SENT)?.unwrap_or(0);
                Some((shift.tick(until), UnixTime::from_nanos(last_sent)))
            }
            None => None,
        };
        let mut pending = Vec::new();
        for message in fields.all(PENDING) {
            PendingMessage::read(message)?;
            pending.push(bytes.slice_ref(message));
        }
        let waiting = fields.all(waiting::WAITING);
        let waiting = waiting.filter_map(|waiting| waiting::read(waiting, bytes, shift));
        let waiting = waiting.filter(|(message, ..)| PendingMessage::read(message).is_ok());
        let waiting = waiting.collect();
        let piece = |number| bytes.slice_ref(fields.get(number).unwrap_or_default());
        let batches = read_batches(fields, (piece(PLAIN), piece(DEFLATED)), shift)?;
        let mut behind: Vec<u64> = Vec::with_capacity(batches.len());
        let mut frames = 0;
        for (batch, _) in batches.iter().rev() {
            frames += u64::from(batch.frames);
            behind.push(frames);
        }
        behind.reverse();
        let noted = |number| read_notes(fields.get(number).unwrap_or_default(), shift);
        let room = Self {
            home,
            notes: [noted(NOTED_USERS), noted(NOTED_TEXTS)],
            tallies: piece(TALLIES),
            viewers: viewers::read(fields)?,
            frames: fields.number(FRAMES_SO_FAR)?.unwrap_or(0),
            remembered: (
                memory::read(fields, bytes, shift),
                fields.number(memory::FORGOTTEN)?.unwrap_or(0),
            ),
            places: memory::read_places(fields.get(memory::PLACES).unwrap_or_default(), shift),
            present: memory::read_present(fields.get(memory::PRESENT).unwrap_or_default()),
            waiting,
            pending,
            batches,
            behind,
        };
        Ok((id, room))
    }

    /// Whether a member may stand this many frames before the head: where a batch begins, or before all of
    /// them, out of the window.
    fn is_boundary(&self, behind: u64) -> bool {
        behind == 0
            || self.behind.first().is_none_or(|all| behind > *all)
            || self
                .behind
                .binary_search_by(|frames| behind.cmp(frames))
                .is_ok()
    }
}

fn read_notes(bytes: &[u8], shift: Shift) -> Vec<Note> {
    let (pairs, _) = bytes.as_chunks::<16>();
    let read = |pair: &[u8; 16]| {
        let bits = u128::from_le_bytes(*pair);
        let [key, noted] =
            [bits, bits >> 64].map(|half| u64::try_from(half & u128::from(u64::MAX)));
        Some((shift.tick(noted.ok()?), Key::from_bits(key.ok()?)))
    };
    pairs.iter().filter_map(read).collect()
}

/// Cuts the bytes of a room into its batches.
fn read_batches(
    room: Tagged<'_>,
    (mut plain, mut deflated): (Bytes, Bytes),
    shift: Shift,
) -> Result<Vec<(Batch, Tick)>, Fault> {
    let mut batches = Vec::new();
    for numbers in room.all(BATCH) {
        let numbers = Tagged::parse(numbers)?;
        let frames = u32::try_from(numbers.need_number(FRAMES)?).ok();
        let frames = frames.filter(|frames| *frames > 0);
        let take = |from: &mut Bytes, len: u64| {
            // A batch has bytes, so its memory is in proportion to them.
            let len = usize::try_from(len).ok().filter(|len| *len > 0);
            let len = len.filter(|len| *len <= from.len());
            len.map(|len| Piece::inherited(from.split_to(len)))
        };
        let piece = take(&mut plain, numbers.need_number(PLAIN_BYTES)?);
        let compressed = match numbers.number(DEFLATED_BYTES)? {
            Some(len) => Some(take(&mut deflated, len).ok_or(Fault::Value(DEFLATED_BYTES))?),
            None => None,
        };
        let batch = Batch {
            plain: piece.ok_or(Fault::Value(PLAIN_BYTES))?,
            deflated: compressed,
            frames: frames.ok_or(Fault::Value(FRAMES))?,
        };
        // `Log` counts on it.
        let longer = batch
            .deflated
            .as_ref()
            .is_some_and(|piece| piece.len() > batch.plain.len());
        if longer {
            return Err(Fault::Value(DEFLATED_BYTES));
        }
        batches.push((batch, shift.tick(numbers.need_number(APPENDED)?)));
    }
    Ok(batches)
}

fn wide(len: usize) -> u64 {
    u64::try_from(len).expect("64 bits")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::BytesMut;
    use uproar_proto::extension::Recall;
    use uproar_proto::room::memory::Memory;

    use super::merge::merge_rooms;
    use super::*;

    /// Goal: what chat modes remember crosses to another process, at its own ticks, by way of the merged estate; a cut piece is
    /// left out.
    #[test]
    fn notes_cross() {
        let room = RoomId::from_random(1);
        let at = Tick::from_nanos;
        let noted = [
            vec![
                (at(5), Key::from_bits(u64::MAX)),
                (at(9), Key::from_bits(0)),
            ],
            vec![(at(1 << 40), Key::from_bits(7))],
        ];
        let mut writer = RoomsWriter::new(AccountUse::default(), at(0));
        writer.room(room, |room| {
            room.home(at(1), UnixTime::default());
            room.notes(noted.each_ref().map(|notes| notes.iter().copied()));
        });
        let merged = merge_rooms(&[writer.into_bytes()], None).expect("an estate");
        let estate = RoomsEstate::parse(merged, Shift::between(0, 100)).expect("an estate");
        let shift = Shift::between(0, 100);
        let moved = noted.map(|notes| -> Vec<Note> {
            let moved = notes.iter().map(|(at, key)| (shift.tick(at.nanos()), *key));
            moved.collect()
        });
        assert_eq!(estate.room(room).expect("it is there").notes, moved);
        assert_eq!(read_notes(&[1; 31], Shift::default()).len(), 1);
    }

    /// Goal: what a room remembers, and where viewers stood who left, cross to another process, at its own ticks; a cut piece
    /// is left out.
    #[test]
    fn memories_cross() {
        let room = RoomId::from_random(1);
        let at = Tick::from_nanos;
        let recall = Recall {
            history: 50,
            history_age: Duration::from_secs(100),
            resume: Duration::from_mins(1),
        };
        let mut memory = Memory::new(recall, 3);
        let mut frame = BytesMut::new();
        let message = encode::Message {
            id: FrameId::from_random(9),
            request_id: "",
            attributes_json: "null",
            content: "x",
            sent: UnixTime::default(),
            sender_json: &encode::sender_json("bob", []),
        };
        encode::message(&mut frame, &message);
        memory.note(&frame, (7, 1), at(5), encode::PURGED);
        let stand = Stand {
            frame: 6,
            is_sure: true,
        };
        let mut kept = Remembering::holding(memory);
        kept.stands
            .leave(Key::from_bits(4), stand, true, recall.resume, at(8));
        kept.stands
            .join(Key::from_bits(5), (7, false), recall.resume, at(8));
        let mut writer = RoomsWriter::new(AccountUse::default(), at(0));
        writer.room(room, |room| {
            room.home(at(1), UnixTime::default());
            room.remembering(8, Some(&kept));
        });
        let merged = merge_rooms(&[writer.into_bytes()], None).expect("an estate");
        let shift = Shift::between(0, 100);
        let estate = RoomsEstate::parse(merged, shift).expect("an estate");
        let part = estate.room(room).expect("it is there");
        assert_eq!(part.frames, 8);
        assert_eq!(
            part.remembered,
            (vec![(7, shift.tick(5), frame.freeze())], 3)
        );
        assert_eq!(part.places, [(Key::from_bits(4), stand, shift.tick(8))]);
        assert_eq!(part.present, [(Key::from_bits(5), 7)]);
        assert!(part.remembers());
        assert!(memory::read_places(&[0; 31], shift).is_empty());
    }
}
