//! Where a page of remembered messages ended, so that the next one goes on there although its last message was taken back.

use std::fmt;

use serde::Deserialize;

use super::Remembered;
use crate::base::id::{FrameId, ID_CHARS};

/// Messages behind a place that are named in it, at most: one of them is still there, unless many were taken back at once.
const NEXT_MAX: usize = 8;
/// Most characters of a place as text.
pub const PLACE_CHARS_MAX: usize = ID_CHARS + 1 + 20 + 1 + 5 + 1 + NEXT_MAX * ID_CHARS;

/// Before a message. As text it is the message's id, alone or with what follows `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The message.
    pub id: FrameId,
    // Those said before it, newest first: where to go on once it is taken back.
    next: Vec<FrameId>,
    // Its time in nanoseconds since 1970, and how many messages of the same time were said before it: a time alone does not
    // tell two of them apart.
    sent: Option<(u64, usize)>,
}

impl From<FrameId> for Place {
    fn from(id: FrameId) -> Self {
        Self {
            id,
            next: Vec::new(),
            sent: None,
        }
    }
}

impl Place {
    /// That of the last message of a page, by its JSON and that of those before it, newest first.
    pub fn of<'a>(last: &[u8], before: impl Iterator<Item = &'a [u8]> + Clone) -> Option<Self> {
        let id = super::message_id(last)?;
        let time = sent(last);
        let next = before.clone().filter_map(super::message_id).take(NEXT_MAX);
        let next = next.collect();
        let alike = before.take_while(|older| time.is_some() && sent(older) == time);
        let alike = alike.count();
        Some(Self {
            id,
            next,
            sent: time.map(|time| (time, alike)),
        })
    }

    /// Reads one; `None`: it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, sent) = text.split_at_checked(ID_CHARS)?;
        let id = FrameId::parse(id)?;
        if sent.is_empty() {
            return Some(id.into());
        }
        let mut parts = sent.strip_prefix('-')?.splitn(3, '-');
        let (time, alike) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let (ids, rest) = parts.next()?.as_bytes().as_chunks::<ID_CHARS>();
        let next: Option<Vec<_>> = ids.iter().map(FrameId::from_bytes).collect();
        Some(Self {
            id,
            next: next.filter(|next| rest.is_empty() && next.len() <= NEXT_MAX)?,
            sent: Some((time, alike)),
        })
    }

    /// How many of these messages, newest first, are not before it; all if that cannot be told. The next message that is still
    /// there decides; if none of those that are named is, the time does, and some of one time may come twice.
    pub(super) fn skipped<'a>(
        &self,
        all: impl Iterator<Item = (FrameId, &'a Remembered)> + Clone,
    ) -> usize {
        let place = |wanted: FrameId| all.clone().position(|(id, _)| id == wanted);
        if let Some(own) = place(self.id) {
            return own + 1;
        }
        if let Some(at) = self.next.iter().find_map(|next| place(*next)) {
            return at;
        }
        let Some((time, alike)) = self.sent.filter(|_| self.next.len() == NEXT_MAX) else {
            // All that was older is named, and gone.
            return usize::MAX;
        };
        let times = all.map(|(_, remembered)| sent(remembered.payload()).unwrap_or_default());
        let (mut later, mut equal) = (0, 0);
        for other in times.take_while(|other| *other >= time) {
            later += usize::from(other > time);
            equal += usize::from(other == time);
        }
        later + equal - alike.min(equal)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id.as_str())?;
        match self.sent {
            Some((time, alike)) => write!(f, "-{time}-{alike}-")?,
            None => return Ok(()),
        }
        self.next.iter().try_for_each(|id| f.write_str(id.as_str()))
    }
}

/// `SendTime` of a message, in nanoseconds since 1970.
fn sent(payload: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Sent<'a> {
        #[serde(rename = "SendTime")]
        time: &'a str,
    }
    let Sent { time } = serde_json::from_slice(payload).ok()?;
    let time: jiff::Timestamp = time.parse().ok()?;
    u64::try_from(time.as_nanosecond()).ok()
}
