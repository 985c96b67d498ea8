//! Messages that a rule holds until a moderator decides, or their time is over.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

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
