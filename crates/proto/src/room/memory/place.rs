//! Where a page of remembered messages ended, so that the next one goes on there although its last message was taken back.

use std::fmt;

use serde::Deserialize;

use super::Remembered;
use crate::base::id::{FrameId, ID_CHARS};

/// Before a message. As text it is the message's id, alone or with what follows `-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The message.
    pub id: FrameId,
    // Its time in nanoseconds since 1970, and how many messages of the same time were said before it: a time alone does not
    // tell two of them apart.
    sent: Option<(u64, usize)>,
}

impl From<FrameId> for Place {
    fn from(id: FrameId) -> Self {
        Self { id, sent: None }
    }
}

impl Place {
    /// That of the last message of a page, by its JSON and that of those before it, newest first.
    pub fn of<'a>(last: &[u8], before: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let id = super::message_id(last)?;
        let time = sent(last);
        let alike = before.take_while(|older| time.is_some() && sent(older) == time);
        let alike = alike.count();
        Some(Self {
            id,
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
        let (time, alike) = sent.strip_prefix('-')?.split_once('-')?;
        let sent = Some((time.parse().ok()?, alike.parse().ok()?));
        Some(Self { id, sent })
    }

    /// How many of these messages, newest first, are not before it, if its own is not among them; all if that cannot be told.
    pub(super) fn skipped<'a>(&self, all: impl Iterator<Item = &'a Remembered>) -> usize {
        let Some((time, alike)) = self.sent else {
            return usize::MAX;
        };
        let times = all.map(|remembered| sent(remembered.payload()).unwrap_or_default());
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
            Some((time, alike)) => write!(f, "-{time}-{alike}"),
            None => Ok(()),
        }
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
