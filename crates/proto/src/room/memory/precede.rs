//! What others remember of a room, behind which this memory began: a node of a cluster that starts has read nothing yet.

use std::collections::HashSet;

use super::{Kind, Memory, Remembered};
use crate::base::clock::Tick;
use crate::base::id::FrameId;
use crate::base::limits::RECALL_REDACTIONS_MAX;
use crate::extension::speech::Key;
use crate::room::redaction::{Redaction, message_id, sender_json};
use crate::ws;

impl Memory {
    /// The same, which may get what others remember.
    #[must_use]
    pub fn awaiting(self) -> Self {
        Self {
            taken: Some(Vec::new()),
            ..self
        }
    }

    /// Notes what is taken back: what others remember may have it still.
    pub(super) fn note_taken(&mut self, redaction: Redaction) {
        if let Some(taken) = &mut self.taken {
            taken.push(redaction);
            if taken.len() > RECALL_REDACTIONS_MAX {
                self.taken = None;
            }
        }
    }

    /// Takes what others remember, oldest first, when they say it was flushed and whole frames: up to the first message that
    /// is known here, without what was taken back since. Only once, and if it may get that. Returns how many were new.
    pub fn precede<'a>(&mut self, all: impl IntoIterator<Item = (Tick, &'a [u8])>) -> usize {
        let Some(taken) = self.taken.take() else {
            return 0;
        };
        let known: HashSet<FrameId> = self.messages().map(|(id, _)| id).collect();
        let read = |(noted, frame): (Tick, &'a [u8])| {
            let payload = ws::is_whole(frame).then(|| ws::payloads(frame).next())??;
            let id = message_id(payload)?;
            let user = Key::of_sender(sender_json(payload).unwrap_or_default());
            Some((id, user, noted, frame))
        };
        let all = all.into_iter().filter_map(read);
        let new = all.take_while(|(id, ..)| !known.contains(id));
        let new: Vec<_> = new
            .filter(|(id, user, ..)| !taken.iter().any(|redaction| redaction.takes(*id, *user)))
            .collect();
        let front = self.kept.front();
        let mut number = front.map_or(self.forgotten, |oldest| oldest.number);
        let mut noted_max = front.map(|oldest| oldest.noted);
        let mut count = 0;
        for (id, user, noted, frame) in new.into_iter().rev() {
            // Numbers below those of the room's first frames are free, as many as rooms remember messages.
            let Some(before) = number.checked_sub(1) else {
                break;
            };
            number = before;
            let noted = noted_max.map_or(noted, |most| noted.min(most));
            noted_max = Some(noted);
            let remembered = Remembered {
                number,
                kind: Kind::Message(id, user),
                noted,
                frame: frame.into(),
            };
            self.bytes += remembered.bytes();
            self.messages += 1;
            self.kept.push_front(remembered);
            count += 1;
        }
        self.forgotten = self.forgotten.min(number);
        self.snapshots = [None, None];
        self.trim();
        count
    }
}
