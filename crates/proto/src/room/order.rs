//! One room on its home shard: order, rate, ids, times, and one encoding for all, or two while some
//! of its members take compressed messages.
//!
//! Owns: the room's rate budget and the open end of its log.
//! Never: members, sockets, clocks.

#![expect(
    clippy::indexing_slicing,
    reason = "the frame was appended after this position"
)]

mod shared;

use std::time::Duration;

use super::RoomSettings;
use super::log::Batch;
use crate::base::clock::{Now, Tick, UnixTime};
use crate::base::id::{FrameId, FrameIds};
use crate::base::limits::{DEFLATE_WINDOW_BITS, ROOM_UNFLUSHED_BYTES_MAX};
use crate::base::meter::Meter;
use crate::base::rate::{Budget, Rate};
use crate::base::segment::Segment;
use crate::chat::encode;
use crate::ws::{self, Deflater};
pub use shared::NewEvent;

/// The parts of a shard that a room needs to append: ids, time, compression.
#[derive(Debug)]
pub struct EncodeContext<'a> {
    /// Source of frame ids.
    pub ids: &'a mut FrameIds,
    /// The time of this turn.
    pub now: Now,
    /// Compresses for the members that take compressed messages.
    pub deflater: &'a mut Deflater,
}

/// A message to append; its texts are unescaped unless named JSON.
#[derive(Debug, Clone, Copy)]
pub struct NewMessage<'a> {
    /// The message text.
    pub content: &'a str,
    /// The attributes as a JSON object, or `null`.
    pub attributes_json: &'a str,
    /// The sender's own id for the request; empty if none.
    pub request_id: &'a str,
    /// `Sender` as JSON.
    pub sender_json: &'a str,
}

impl<'a> NewMessage<'a> {
    /// Gives it its id and time.
    fn dated(self, id: FrameId, sent: UnixTime) -> encode::Message<'a> {
        encode::Message {
            id,
            request_id: self.request_id,
            attributes_json: self.attributes_json,
            content: self.content,
            sent,
            sender_json: self.sender_json,
        }
    }
}

/// The room's rate is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct OverRate;

/// One room.
#[derive(Debug)]
pub struct Room {
    settings: RoomSettings,
    // For messages of all senders together, at `settings.messages_per_second`.
    budget: Budget,
    // The open end of the log: the frames since the last cut, for members without compression.
    segment: Segment,
    // The compressed encoding, while members take it. Invariant: both segments have the same frames
    // pending.
    deflated: Option<Box<Segment>>,
    // Number of segments that the room has made: the next one's lineage.
    segments: u32,
    // Number of frames pending in `segment`; 0 exactly if no byte is pending.
    pending_frames: u32,
    // Messages and events of somebody since the last flush.
    said: u32,
    // Batches cut because a segment was full, still to be flushed before the pending part.
    cut: Vec<Batch>,
    // Invariant: the sum of their bytes, in both encodings.
    cut_bytes: usize,
    // When the room was flushed last.
    flushed: Tick,
    // An event waits: the next flush does not wait for the pace.
    urgent: bool,
    // `SendTime` of the newest frame. Clients sort by it: it never goes back, whatever the wall
    // clock does and however long a review took.
    last_sent: UnixTime,
    // Frames flushed of late.
    meter: Meter,
}

impl Room {
    /// Makes a room without messages.
    pub fn new(settings: RoomSettings) -> Self {
        Self {
            settings,
            budget: Budget::default(),
            segment: Segment::new(0),
            deflated: None,
            segments: 1,
            pending_frames: 0,
            said: 0,
            cut: Vec::new(),
            cut_bytes: 0,
            flushed: Tick::default(),
            urgent: false,
            last_sent: UnixTime::default(),
            meter: Meter::default(),
        }
    }

    /// Returns how many messages and events a minute were flushed of late.
    pub fn per_minute(&self, now: Tick) -> u64 {
        self.meter.per_minute(now)
    }

    /// Takes over what another process has used of the room's rate, and the time of its newest frame.
    pub fn inherit(&mut self, budget: Budget, last_sent: UnixTime) {
        self.budget = budget;
        self.last_sent = self.last_sent.max(last_sent);
    }

    /// Returns what is used of the room's rate.
    pub fn budget(&self) -> Budget {
        self.budget
    }

    /// Returns `SendTime` of the newest frame.
    pub fn last_sent(&self) -> UnixTime {
        self.last_sent
    }

    /// Whether nothing waits to be flushed.
    pub fn is_flushed(&self) -> bool {
        self.pending_frames == 0 && self.cut.is_empty()
    }

    /// Returns the settings.
    pub fn settings(&self) -> &RoomSettings {
        &self.settings
    }

    /// Changes the settings, for messages from now on.
    pub fn set_settings(&mut self, settings: RoomSettings) {
        self.settings = settings;
    }

    /// Charges one message to the room's rate, all senders together.
    pub fn charge(&mut self, now: Tick) -> Result<(), OverRate> {
        let rate = Rate::per_second(self.settings.messages_per_second.max(1));
        if self.budget.take(rate, now) {
            Ok(())
        } else {
            Err(OverRate)
        }
    }

    /// Whether one message more would be over the room's rate.
    pub fn is_over_rate(&self, now: Tick) -> bool {
        let rate = Rate::per_second(self.settings.messages_per_second.max(1));
        let mut budget = self.budget;
        !budget.take(rate, now)
    }

    /// Posts a message that just arrived: gives it its id and time.
    pub fn post(
        &mut self,
        encode_context: &mut EncodeContext<'_>,
        message: NewMessage<'_>,
    ) -> FrameId {
        let id = encode_context.ids.next_id();
        self.order(
            encode_context.deflater,
            id,
            encode_context.now.unix,
            message,
        );
        id
    }

    /// Gives a message its place in the order, and encodes it for all members. Its time is `sent`,
    /// or that of the previous frame if that is later.
    pub fn order(
        &mut self,
        deflater: &mut Deflater,
        id: FrameId,
        sent: UnixTime,
        new: NewMessage<'_>,
    ) {
        let message = new.dated(id, self.stamp(sent));
        self.append(deflater, message.bytes_max(), |out| {
            encode::message(out, &message);
        });
        self.said += 1;
    }

    /// Announces an event. Events are not charged to the room's rate and do not wait for the pace.
    pub fn announce(
        &mut self,
        encode_context: &mut EncodeContext<'_>,
        name: &str,
        attributes_json: &str,
        request_id: &str,
    ) -> FrameId {
        let event = encode::Event {
            id: encode_context.ids.next_id(),
            request_id,
            name,
            attributes_json,
            sent: self.stamp(encode_context.now.unix),
        };
        let id = event.id;
        self.append(encode_context.deflater, event.bytes_max(), |out| {
            encode::event(out, &event);
        });
        self.said += 1;
        self.urgent = true;
        id
    }

    /// Returns when the room should be flushed; `None` while nothing waits. `interval` is the pace,
    /// counted from the last flush; moderation and events do not wait for it.
    pub fn flush_due(&self, interval: Duration, now: Tick) -> Option<Tick> {
        if self.pending_frames == 0 && self.cut.is_empty() {
            return None;
        }
        Some(if self.urgent {
            now
        } else {
            self.flushed.after(interval)
        })
    }

    /// Whether the room must be flushed before it takes more.
    pub fn is_full(&self) -> bool {
        self.cut_bytes >= ROOM_UNFLUSHED_BYTES_MAX
    }

    /// Hands out everything appended since the last flush, in order.
    pub fn flush(&mut self, now: Tick, mut take: impl FnMut(Batch)) {
        let newest = self.pending_batch();
        self.flushed = now;
        self.urgent = false;
        self.meter.add(std::mem::take(&mut self.said), now);
        // Most flushes have one batch.
        if !self.cut.is_empty() {
            self.cut_bytes = 0;
            self.cut.drain(..).for_each(&mut take);
        }
        newest.into_iter().for_each(take);
        self.check();
    }

    /// Frees the memory of the segments of a room without new messages.
    pub fn release_memory(&mut self) {
        if self.pending_frames == 0 && self.cut.is_empty() {
            self.segment = self.next_segment();
            if self.deflated.is_some() {
                self.deflated = Some(Box::new(self.next_segment()));
            }
            self.cut = Vec::new();
        }
    }

    /// Sets whether some members take compressed messages, for messages from now on.
    pub fn set_deflated(&mut self, deflated: bool) {
        if deflated != self.deflated.is_some() {
            // A batch is compressed as a whole or not at all.
            self.cut_pending();
            self.deflated = deflated.then(|| Box::new(self.next_segment()));
        }
    }

    fn append(
        &mut self,
        deflater: &mut Deflater,
        bytes_max: usize,
        write: impl FnOnce(&mut bytes::BytesMut),
    ) {
        let fit = self.segment.fits(bytes_max)
            && (self.deflated.as_ref()).is_none_or(|deflated| deflated.fits(bytes_max));
        if !fit {
            self.cut_pending();
        }
        let start = self.segment.pending().len();
        append_to(&mut self.segment, bytes_max, self.flushed, write);
        if let Some(deflated) = &mut self.deflated {
            let frame = &self.segment.pending()[start..];
            append_to(deflated, bytes_max, self.flushed, |out| {
                for payload in ws::payloads(frame) {
                    deflater.message(out, DEFLATE_WINDOW_BITS, true, payload);
                }
            });
        }
        self.pending_frames += 1;
        self.check();
    }

    /// Asserts the invariants of the fields, in debug builds.
    fn check(&self) {
        debug_assert_eq!(
            self.cut_bytes,
            self.cut.iter().map(Batch::bytes).sum::<usize>(),
            "the bytes of the batches to flush"
        );
        let is_empty = self.segment.pending().is_empty();
        debug_assert_eq!(is_empty, self.pending_frames == 0, "frames have bytes");
        let deflated = self.deflated.as_ref();
        debug_assert!(
            deflated.is_none_or(|deflated| deflated.pending().is_empty() == is_empty),
            "both encodings have the same frames"
        );
    }

    /// Makes a segment whose allocations differ from those of all segments that the room had
    /// before.
    fn next_segment(&mut self) -> Segment {
        let lineage = self.segments;
        self.segments = lineage.wrapping_add(1);
        Segment::new(lineage)
    }

    /// Returns the time of the next frame, which is never before the last.
    fn stamp(&mut self, sent: UnixTime) -> UnixTime {
        self.last_sent = self.last_sent.max(sent);
        self.last_sent
    }

    fn cut_pending(&mut self) {
        if let Some(batch) = self.pending_batch() {
            self.cut_bytes += batch.bytes();
            self.cut.push(batch);
        }
        self.check();
    }

    /// Cuts off what is pending, in both encodings.
    fn pending_batch(&mut self) -> Option<Batch> {
        let plain = self.segment.cut()?;
        Some(Batch {
            plain,
            deflated: self.deflated.as_mut().and_then(|deflated| deflated.cut()),
            frames: std::mem::take(&mut self.pending_frames),
        })
    }
}

/// Appends to a segment, which must have nothing pending if it is full; `now` may be as old as the
/// last flush.
fn append_to(
    segment: &mut Segment,
    bytes_max: usize,
    now: Tick,
    write: impl FnOnce(&mut bytes::BytesMut),
) {
    if !segment.fits(bytes_max) {
        segment.renew(bytes_max, now);
    }
    let fits = segment.write(bytes_max, write);
    assert!(fits, "a renewed segment has the room it was asked for");
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::room::ArchiveTargets;

    proptest! {
        /// Goal: the times of messages, reviewed or not, and of events never go back, and follow
        /// the clock while it goes forward.
        #[test]
        fn times_never_go_back(steps in proptest::collection::vec((0..3_u8, 0..2_000_000_000_u64, 0..90_u64), 1..40)) {
            let mut room = Room::new(RoomSettings {
                content_chars_max: 500,
                messages_per_second: 10,
                review: None,
                archive: ArchiveTargets::default(),
                extension: None,
            });
            let (mut ids, mut deflater) = (FrameIds::seeded(1), Deflater::default());
            let (mut expected, mut last) = (Vec::new(), 0);
            for (kind, secs, waited) in steps {
                let unix = UnixTime::from_secs(secs);
                let mut encode_context = EncodeContext {
                    ids: &mut ids,
                    now: Now { tick: Tick::default(), unix },
                    deflater: &mut deflater,
                };
                let message = NewMessage {
                    content: "x",
                    attributes_json: "null",
                    request_id: "",
                    sender_json: "{}",
                };
                let mut came = secs;
                match kind {
                    0 => drop(room.post(&mut encode_context, message)),
                    1 => drop(room.announce(&mut encode_context, "e", "{}", "")),
                    _ => {
                        came = secs.saturating_sub(waited);
                        let id = encode_context.ids.next_id();
                        room.order(encode_context.deflater, id, UnixTime::from_secs(came), message);
                    }
                }
                last = came.max(last);
                expected.push(last);
            }
            let mut found = Vec::new();
            room.flush(Tick::default(), |batch| {
                for frame in ws::payloads(batch.plain.bytes()) {
                    let frame: serde_json::Value = serde_json::from_slice(frame).expect("JSON");
                    let time = frame["SendTime"].as_str().expect("a time");
                    let time: Timestamp = time.parse().expect("RFC 3339");
                    found.push(u64::try_from(time.as_second()).expect("after 1970"));
                }
            });
            prop_assert_eq!(found, expected);
        }
    }
}
