//! Messages that a rule holds until a moderator decides, or their time is over.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::base::clock::Tick;
use crate::base::id::FrameId;
use crate::base::limits::{HELD_PER_ROOM_MAX, REASON_CHARS_MAX};

/// `EventName` of what tells moderators of a held message.
pub const HELD: &str = "uproar:held";
/// `EventName` of what tells moderators, and its sender, what became of it.
pub const DECIDED: &str = "uproar:decided";
/// The attribute of a held message that its sender gets back.
pub const IS_HELD: &str = "uproar:held";

/// What a moderator decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The message.
    pub id: FrameId,
    /// Whether it is said now.
    pub allows: bool,
    /// Why not; may be empty.
    pub reason: Box<str>,
}

impl Decision {
    /// Reads a command's.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn read(
        allows: bool,
        arguments: &BTreeMap<String, String>,
    ) -> Result<Self, Cow<'static, str>> {
        let id = arguments.get("id").and_then(|id| FrameId::parse(id));
        let reason = arguments.get("reason").map_or("", |reason| reason);
        if reason.chars().count() > REASON_CHARS_MAX {
            let text = format!("uproar:reason must have at most {REASON_CHARS_MAX} characters");
            return Err(text.into());
        }
        Ok(Self {
            id: id.ok_or("uproar:id must be the id of a message")?,
            allows,
            reason: reason.into(),
        })
    }

    /// The name of its verb.
    pub const fn verb(&self) -> &'static str {
        if self.allows { "allow" } else { "deny" }
    }
}

/// A message that waits, as moderators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldMessage {
    /// Its id.
    pub id: String,
    /// `Sender`, as JSON.
    pub sender_json: String,
    /// Its text, masked where rules mask.
    pub content: String,
    /// Its attributes, as JSON.
    pub attributes_json: String,
    /// The rule that holds it, with its set.
    pub rule: String,
    /// When it was sent, in milliseconds since 1970.
    pub sent_ms: u64,
    /// When it is denied if nobody has decided, the same.
    pub ends_ms: u64,
}

/// Some of the messages that wait, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeldPage {
    /// The messages.
    pub messages: Vec<HeldMessage>,
    /// Where others follow.
    pub next: Option<String>,
}

/// A place in a list of messages that wait: behind one of them, whether it still does or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldPlace {
    id: FrameId,
    until: Tick,
}

impl HeldPlace {
    /// The place behind this message, which waits until then.
    pub const fn behind(id: FrameId, until: Tick) -> Self {
        Self { id, until }
    }

    /// Reads what [`HeldPlace`] shows.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, until) = text.split_once('.')?;
        Some(Self {
            id: FrameId::parse(id)?,
            until: Tick::from_nanos(until.parse().ok()?),
        })
    }
}

impl std::fmt::Display for HeldPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.id.as_str(), self.until.nanos())
    }
}

/// The held messages of one room, in the order in which they came.
#[derive(Debug)]
pub struct Waiting<T> {
    // Each with its end. Invariant: at most `HELD_PER_ROOM_MAX`.
    messages: VecDeque<(FrameId, Tick, T)>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self {
            messages: VecDeque::new(),
        }
    }
}

impl<T> Waiting<T> {
    /// Whether no more may wait.
    pub fn is_full(&self) -> bool {
        self.messages.len() >= HELD_PER_ROOM_MAX
    }

    /// Holds a message until then; one too many is dropped, and the answer is `false`.
    pub fn put(&mut self, id: FrameId, until: Tick, message: T) -> bool {
        let has_room = !self.is_full();
        if has_room {
            self.messages.push_back((id, until, message));
        }
        has_room
    }

    /// Takes a message that still waits.
    pub fn take(&mut self, id: FrameId) -> Option<T> {
        let at = self.messages.iter().position(|(held, ..)| *held == id)?;
        self.messages.remove(at).map(|(_, _, message)| message)
    }

    /// Takes the next message whose time is over.
    pub fn take_over(&mut self, now: Tick) -> Option<(FrameId, T)> {
        let over = self.messages.pop_front_if(|(_, until, _)| *until <= now);
        over.map(|(id, _, message)| (id, message))
    }

    /// Drops messages that are not such.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&T) -> bool) {
        self.messages.retain(|(_, _, message)| is_kept(message));
    }

    /// All of them, with their ends.
    pub fn all(&self) -> impl Iterator<Item = (FrameId, Tick, &T)> {
        self.messages
            .iter()
            .map(|(id, until, message)| (*id, *until, message))
    }

    /// Those behind a place, with their ends. If its message does not wait any more, those that end later.
    pub fn behind(&self, place: Option<HeldPlace>) -> impl Iterator<Item = (FrameId, Tick, &T)> {
        let from = place.map_or(0, |HeldPlace { id, until }| {
            let mut all = self.messages.iter();
            let found = all.position(|(held, ..)| *held == id).map(|at| at + 1);
            found.unwrap_or_else(|| self.messages.partition_point(|(_, end, _)| *end <= until))
        });
        self.all().skip(from)
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u128) -> FrameId {
        FrameId::from_random(number)
    }

    /// Goal: as many wait as may, and one more does not.
    #[test]
    fn the_number_is_bounded() {
        let mut waiting = Waiting::default();
        for number in 0..500 {
            assert!(waiting.put(id(number), Tick::from_nanos(1), number));
        }
        assert!(waiting.is_full() && !waiting.put(id(500), Tick::from_nanos(1), 500));
        assert_eq!(
            (waiting.take(id(499)), waiting.take(id(500))),
            (Some(499), None)
        );
        assert!(waiting.put(id(500), Tick::from_nanos(1), 500));
    }

    /// Goal: pages have each message that waits all the time exactly once, whatever leaves meanwhile.
    #[test]
    fn pages_miss_none() {
        let mut waiting = Waiting::default();
        for number in 0..10 {
            assert!(waiting.put(id(number.into()), Tick::from_nanos(number + 1), number));
        }
        let (mut place, mut seen) = (None, Vec::new());
        for leaves in [1_u128, 3, 6, 9] {
            let page: Vec<_> = waiting
                .behind(place)
                .take(2)
                .map(|(id, until, at)| (id, until, *at))
                .collect();
            let (last, until, _) = *page.last().expect("some wait");
            seen.extend(page.iter().map(|(.., at)| *at));
            let text = HeldPlace::behind(last, until).to_string();
            place = HeldPlace::parse(&text);
            assert!(place.is_some(), "{text}");
            waiting.take(id(leaves));
        }
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 7, 8]);
        assert!(
            ["", ".", "a.1", "M2YcHkgffEvU.", "M2YcHkgffEvU.x"]
                .iter()
                .all(|text| HeldPlace::parse(text).is_none())
        );
    }

    proptest! {
        /// Goal: each message leaves once, by its decision or at its time, in any order of both.
        #[test]
        fn each_leaves_once(steps in proptest::collection::vec((0..4_u8, 0..20_u128), 1..200)) {
            let mut waiting = Waiting::default();
            let (mut inside, mut now): (Vec<(u64, u128)>, u64) = (Vec::new(), 0);
            for (step, number) in steps {
                match step {
                    0 | 1 => {
                        if !inside.iter().any(|(_, other)| *other == number) {
                            prop_assert!(waiting.put(id(number), Tick::from_nanos(now + 5), number));
                            inside.push((now + 5, number));
                        }
                    }
                    2 => {
                        let at = inside.iter().position(|(_, other)| *other == number);
                        let wanted = at.map(|at| inside.remove(at).1);
                        prop_assert_eq!(waiting.take(id(number)), wanted);
                    }
                    _ => {
                        now += 1;
                        while let Some((_, taken)) = waiting.take_over(Tick::from_nanos(now)) {
                            let (until, wanted) = inside.remove(0);
                            prop_assert!(until <= now && wanted == taken);
                        }
                        prop_assert!(inside.iter().all(|(until, _)| *until > now));
                    }
                }
                prop_assert_eq!(waiting.len(), inside.len());
            }
        }
    }
}
