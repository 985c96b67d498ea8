//! How a room's memory answers who joins.

use bytes::{Bytes, BytesMut};

use super::replay::{Part, Snapshot};
use super::{Memory, Remembered, Replay, Start};
use crate::base::clock::Tick;
use crate::base::limits::{HISTORY_JOIN_BYTES_MAX, RESUME_MESSAGES_MAX, RESUME_OVERLAP_FRAMES};

impl Snapshot {
    fn of<'a>(kept: impl DoubleEndedIterator<Item = &'a Remembered>) -> Self {
        let mut newest = Vec::new();
        let (mut len, mut is_cut) = (0, false);
        for remembered in kept.rev() {
            if len + remembered.frame.len() > HISTORY_JOIN_BYTES_MAX {
                is_cut = true;
                break;
            }
            len += remembered.frame.len();
            newest.push(remembered);
        }
        let mut bytes = BytesMut::with_capacity(len);
        let parts = newest.into_iter().rev().map(|remembered| {
            let start = bytes.len();
            bytes.extend_from_slice(&remembered.frame);
            Part {
                number: remembered.number,
                noted: remembered.noted,
                is_message: remembered.is_message(),
                start,
            }
        });
        let parts = parts.collect();
        Self {
            bytes: bytes.freeze(),
            parts,
            is_cut,
        }
    }
}

impl Memory {
    /// Gives a viewer what he missed or, if he is new, the newest messages: one slice of what all who join now get.
    pub fn replay(&mut self, start: Start, now: Tick) -> Replay {
        let (from, known, overlap) = match start {
            Start::New => return self.history(now),
            Start::At(stand) => (stand.frame, stand.is_sure, RESUME_OVERLAP_FRAMES),
            Start::After(id) => match self.find(id) {
                Some(found) => (found.number + 1, true, 0),
                None => {
                    // How much he missed is not known.
                    return Replay {
                        is_complete: false,
                        ..self.history(now)
                    };
                }
            },
        };
        let is_after = matches!(start, Start::After(_));
        let (recall, forgotten) = (self.recall, self.forgotten);
        let snapshot = self.snapshot(true);
        let begin = from.saturating_sub(overlap);
        let (mut messages, mut at) = (0_usize, snapshot.parts.len());
        for part in snapshot.parts.iter().rev() {
            // He may have begun anew, with an empty page: he gets as much as a new one.
            let is_history = !is_after
                && messages < recall.history
                && now <= part.noted.after(recall.history_age);
            let is_wanted = part.number >= begin || is_history;
            if !is_wanted || (part.is_message && messages == RESUME_MESSAGES_MAX) {
                break;
            }
            messages += usize::from(part.is_message);
            at -= 1;
        }
        let before = at
            .checked_sub(1)
            .and_then(|before| snapshot.parts.get(before));
        let has_all = match before {
            Some(before) => before.number < from,
            None => {
                !snapshot.is_cut
                    || snapshot
                        .parts
                        .first()
                        .is_some_and(|part| part.number <= from)
            }
        };
        snapshot.slice(
            at,
            Replay {
                messages: count(messages),
                is_complete: known && has_all && forgotten <= from,
                is_resumed: true,
                frames: Bytes::new(),
            },
        )
    }

    fn history(&mut self, now: Tick) -> Replay {
        let recall = self.recall;
        let snapshot = self.snapshot(false);
        let mut at = snapshot.parts.len();
        for part in snapshot.parts.iter().rev().take(recall.history) {
            if part.noted.after(recall.history_age) < now {
                break;
            }
            at -= 1;
        }
        let messages = snapshot.parts.len() - at;
        let is_short = at == 0 && snapshot.is_cut && messages < recall.history;
        snapshot.slice(
            at,
            Replay {
                messages: count(messages),
                is_complete: !is_short,
                is_resumed: false,
                frames: Bytes::new(),
            },
        )
    }

    fn snapshot(&mut self, with_events: bool) -> &Snapshot {
        let Self {
            kept, snapshots, ..
        } = self;
        let [messages, all] = snapshots;
        let place = if with_events { all } else { messages };
        place.get_or_insert_with(|| {
            let wanted = |remembered: &&Remembered| with_events || remembered.is_message();
            Snapshot::of(kept.iter().filter(wanted))
        })
    }
}

fn count(messages: usize) -> u32 {
    u32::try_from(messages).expect("a few hundred")
}
