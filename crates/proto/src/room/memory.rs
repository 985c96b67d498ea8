//! What a room remembers of its messages, where its order is: for who joins, who comes back, and the API.
//!
//! Frames are kept as members got them. What was taken back is not remembered, only that it was: who comes back learns it.

mod place;
mod precede;
mod replay;
mod replaying;

use std::collections::VecDeque;
use std::time::Duration;

use super::redaction::{Redaction, message_id, sender_json};
use crate::base::clock::Tick;
use crate::base::id::FrameId;
use crate::base::limits::RESUME_MESSAGES_MAX;
use crate::extension::Recall;
use crate::extension::speech::Key;
use crate::ws;
pub use place::{PLACE_CHARS_MAX, Place};
use replay::Snapshot;
pub use replay::{Replay, Start};

/// A remembered frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    // Its number among the room's frames; it grows.
    number: u64,
    kind: Kind,
    // When it was flushed here.
    noted: Tick,
    frame: Box<[u8]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A message, and who sent it.
    Message(FrameId, Key),
    /// The event that took messages back.
    Redaction,
}

impl Remembered {
    /// Its whole frame, as members got it.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Its JSON.
    pub fn payload(&self) -> &[u8] {
        ws::payloads(&self.frame).next().unwrap_or_default()
    }

    /// Its number among the room's frames, and when it was flushed.
    pub fn place(&self) -> (u64, Tick) {
        (self.number, self.noted)
    }

    fn is_message(&self) -> bool {
        matches!(self.kind, Kind::Message(..))
    }

    /// Bytes that it takes.
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.frame.len()
    }
}

/// The messages of one room.
#[derive(Debug)]
pub struct Memory {
    // Oldest first.
    kept: VecDeque<Remembered>,
    // Number of messages among them.
    messages: usize,
    // The sum of their bytes.
    bytes: usize,
    // Messages before this frame may be forgotten.
    forgotten: u64,
    // What was taken back while it may get what others remember; `None`: it gets nothing.
    taken: Option<Vec<Redaction>>,
    recall: Recall,
    // What joining viewers get, with and without events: made when the first one joins after a change.
    snapshots: [Option<Snapshot>; 2],
}

impl Memory {
    /// Remembers from this frame of the room on.
    pub fn new(recall: Recall, frames: u64) -> Self {
        Self {
            kept: VecDeque::new(),
            messages: 0,
            bytes: 0,
            forgotten: frames,
            taken: None,
            recall,
            snapshots: [None, None],
        }
    }

    /// Changes what is remembered.
    pub fn follow(&mut self, recall: Recall) {
        self.recall = recall;
        self.trim();
    }

    /// What is asked for.
    pub fn recall(&self) -> Recall {
        self.recall
    }

    /// Remembers flushed frames, `count` as cursors count, of which the first has number `first`. Returns the messages that
    /// events among them take back; they are forgotten.
    pub fn note(
        &mut self,
        frames: &[u8],
        (first, count): (u64, u32),
        now: Tick,
        purge_event: &str,
    ) -> Vec<FrameId> {
        let mut gone = Vec::new();
        let last = first + u64::from(count.max(1)) - 1;
        for (number, (whole, payload)) in (first..).zip(ws::split(frames)) {
            let number = number.min(last);
            if let Some(id) = message_id(payload) {
                let user = Key::of_sender(sender_json(payload).unwrap_or_default());
                self.push(number, Kind::Message(id, user), now, whole);
            } else if let Some(redaction) = Redaction::read(payload, purge_event) {
                self.redact(redaction, &mut gone);
                self.push(number, Kind::Redaction, now, whole);
            }
        }
        self.trim();
        gone
    }

    fn push(&mut self, number: u64, kind: Kind, noted: Tick, frame: &[u8]) {
        let remembered = Remembered {
            number,
            kind,
            // The clock of another process may have been ahead.
            noted: self
                .kept
                .back()
                .map_or(noted, |newest| noted.max(newest.noted)),
            frame: frame.into(),
        };
        self.bytes += remembered.bytes();
        self.messages += usize::from(remembered.is_message());
        self.kept.push_back(remembered);
        self.snapshots = [None, None];
    }

    /// Forgets what is taken back.
    fn redact(&mut self, redaction: Redaction, gone: &mut Vec<FrameId>) {
        self.note_taken(redaction);
        // Whether or not it is remembered: batches may have it still.
        if let Redaction::Message(id) = redaction {
            gone.push(id);
        }
        let before = gone.len();
        self.kept.retain(|remembered| {
            let Kind::Message(id, user) = remembered.kind else {
                return true;
            };
            let is_gone = redaction.takes(id, user);
            if is_gone {
                self.bytes -= remembered.bytes();
                self.messages -= 1;
                gone.push(id);
            }
            !is_gone
        });
        if matches!(redaction, Redaction::Message(_)) {
            gone.truncate(before);
        }
        self.snapshots = [None, None];
    }

    /// Most messages that are remembered.
    fn messages_max(&self) -> usize {
        if self.recall.resume.is_zero() {
            self.recall.history
        } else {
            self.recall.history.max(RESUME_MESSAGES_MAX)
        }
    }

    fn trim(&mut self) {
        let most = self.messages_max();
        while self.messages > most {
            self.forget_oldest();
        }
        let events_max = if self.recall.resume.is_zero() {
            0
        } else {
            RESUME_MESSAGES_MAX
        };
        while self.kept.len() - self.messages > events_max {
            let oldest = self.kept.iter().position(|kept| !kept.is_message());
            let forgotten = oldest.and_then(|at| self.kept.remove(at));
            self.bytes -= forgotten.map_or(0, |forgotten| forgotten.bytes());
        }
        if self.kept.is_empty() && self.kept.capacity() > 0 {
            self.kept = VecDeque::new();
        }
        self.check();
    }

    /// Forgets the oldest frame; `false`: there is none.
    pub fn forget_oldest(&mut self) -> bool {
        let Some(oldest) = self.kept.pop_front() else {
            return false;
        };
        self.bytes -= oldest.bytes();
        if oldest.is_message() {
            self.messages -= 1;
            self.forgotten = oldest.number + 1;
        }
        self.snapshots = [None, None];
        true
    }

    /// Forgets what is too old.
    pub fn expire(&mut self, now: Tick) {
        let Recall {
            history,
            history_age,
            resume,
        } = self.recall;
        let age = if history > 0 {
            history_age.max(resume)
        } else {
            resume
        };
        let is_old = |remembered: &Remembered| remembered.noted.after(age) < now;
        while self.kept.front().is_some_and(is_old) {
            self.forget_oldest();
        }
        self.trim();
    }

    /// Keeps everything longer, by a pause that ends `now`.
    pub fn postpone(&mut self, pause: Duration, now: Tick) {
        for remembered in &mut self.kept {
            remembered.noted = remembered.noted.after(pause).min(now);
        }
        self.snapshots = [None, None];
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.messages
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Bytes of what is remembered.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The message with this id.
    pub fn find(&self, id: FrameId) -> Option<&Remembered> {
        self.messages()
            .find(|(known, _)| *known == id)
            .map(|(_, found)| found)
    }

    /// Messages before a place, newest first; none if that place is not known.
    pub fn before(&self, place: Option<&Place>) -> impl Iterator<Item = &Remembered> {
        let newest_first = self.messages().rev();
        let skipped = place.map_or(0, |place| place.skipped(newest_first.clone()));
        newest_first.skip(skipped).map(|(_, remembered)| remembered)
    }

    /// The ids of a user's messages, newest first.
    pub fn of_user(&self, user: Key) -> impl Iterator<Item = FrameId> {
        let all = self.kept.iter().rev();
        all.filter_map(move |remembered| match remembered.kind {
            Kind::Message(id, sender) if sender == user => Some(id),
            Kind::Message(..) | Kind::Redaction => None,
        })
    }

    fn messages(&self) -> impl DoubleEndedIterator<Item = (FrameId, &Remembered)> + Clone {
        self.kept
            .iter()
            .filter_map(|remembered| match remembered.kind {
                Kind::Message(id, _) => Some((id, remembered)),
                Kind::Redaction => None,
            })
    }

    /// Everything that is remembered, oldest first, and before which frame messages may be forgotten: for another process.
    pub fn all(&self) -> (impl Iterator<Item = &Remembered>, u64) {
        (self.kept.iter(), self.forgotten)
    }

    /// Takes over what another process remembered, oldest first: numbers, when they were flushed, whole frames. Frames that
    /// are none are left out.
    pub fn inherit<'a>(
        &mut self,
        frames: impl IntoIterator<Item = (u64, Tick, &'a [u8])>,
        forgotten: u64,
        purge_event: &str,
    ) {
        debug_assert!(self.is_empty(), "it is new");
        for (number, noted, frame) in frames {
            if ws::is_whole(frame) {
                self.note(frame, (number, 1), noted, purge_event);
            }
        }
        self.forgotten = forgotten;
        self.trim();
    }

    /// Asserts the invariants of the fields, in debug builds.
    fn check(&self) {
        debug_assert_eq!(
            self.bytes,
            self.kept.iter().map(Remembered::bytes).sum::<usize>()
        );
        debug_assert_eq!(self.messages, self.messages().count());
    }
}

#[cfg(test)]
mod tests;
