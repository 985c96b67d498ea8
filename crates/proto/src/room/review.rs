//! Messages of a reviewed room between arrival and verdict: they keep their order, each is decided
//! once.
//!
//! Owns: the queue of pending messages, their deadlines and verdicts.
//! Never: handlers, clocks, the content of a message.

use std::collections::VecDeque;

use crate::base::clock::Tick;
use crate::base::limits::REVIEW_HELD_PER_ROOM_MAX;
use crate::chat::review::{Rewrite, Verdict};

/// `fallbackResult`: the decision when a review brings no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// The message is delivered as it was sent.
    Allow,
    /// The message is denied.
    Deny,
}

/// Identifies a pending message to its reviewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

impl Ticket {
    /// No pending message has it.
    pub const NONE: Self = Self(u64::MAX);
}

/// The room holds as many messages as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// A denied message: its sender must be told, once.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Denied<T> {
    /// The message.
    pub message: T,
    /// The reason for its sender; empty if the handler gave none.
    pub reason: Box<str>,
}

/// The pending messages of one room, in the order of their arrival.
///
/// Verdicts may come in any order, late, twice or never. Each message leaves exactly once: denied,
/// at the verdict, or released, when all messages before it have left.
#[derive(Debug)]
pub struct Pending<T> {
    // Those that have not left, oldest first; at most `REVIEW_HELD_PER_ROOM_MAX`.
    entries: VecDeque<Entry<T>>,
    // The ticket of the first entry; the tickets after it follow by one. It never goes back, so
    // that a ticket below it is one of a message that has left.
    first: u64,
}

/// What is decided of a message that has not left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State<'a> {
    /// Nothing: its verdict is awaited, and without one this decides.
    Waiting(Fallback),
    /// It is allowed; with the handler's content, if it gave a verdict.
    Allowed(Option<&'a Rewrite>),
}

/// A message's state.
#[derive(Debug)]
enum Entry<T> {
    /// Its verdict is awaited until the deadline, when the fallback decides.
    Waiting {
        message: T,
        deadline: Tick,
        fallback: Fallback,
    },
    /// It leaves when those before it have; with the handler's content, if it gave a verdict.
    Allowed(T, Option<Rewrite>),
    /// It was denied and has left; its place keeps the tickets in step.
    Gone,
}

impl<T> Pending<T> {
    /// Makes an empty queue, the room's `number`th. Each has its own range of tickets: a verdict
    /// for a dropped queue must not decide a message of the next one.
    pub fn new(number: u32) -> Self {
        Self {
            entries: VecDeque::new(),
            first: u64::from(number) << 32,
        }
    }

    /// Number of messages that have not left; denied ones count until those before them have left.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no message is pending.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the ticket of the next message.
    pub fn next_ticket(&self) -> Result<Ticket, Full> {
        if self.len() >= REVIEW_HELD_PER_ROOM_MAX {
            return Err(Full);
        }
        Ok(Ticket(self.first + index_bits(self.len())))
    }

    /// Holds a message until its verdict, or until `deadline`, when `fallback` decides.
    pub fn hold(&mut self, message: T, deadline: Tick, fallback: Fallback) -> Result<Ticket, Full> {
        let ticket = self.next_ticket()?;
        self.entries.push_back(Entry::Waiting {
            message,
            deadline,
            fallback,
        });
        Ok(ticket)
    }

    /// Queues a message that needs no verdict after those that do: the room's handler was detached.
    pub fn follow(&mut self, message: T) -> Result<(), Full> {
        self.next_ticket()?;
        self.entries.push_back(Entry::Allowed(message, None));
        Ok(())
    }

    /// Queues a message that a verdict allowed in another process; with the handler's content, if it
    /// gave one.
    pub fn inherit_allowed(&mut self, message: T, rewrite: Option<Rewrite>) -> Result<(), Full> {
        self.next_ticket()?;
        self.entries.push_back(Entry::Allowed(message, rewrite));
        Ok(())
    }

    /// Returns the messages that have not left, oldest first, and what is decided of each.
    pub fn messages(&self) -> impl Iterator<Item = (&T, State<'_>)> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Waiting {
                message, fallback, ..
            } => Some((message, State::Waiting(*fallback))),
            Entry::Allowed(message, rewrite) => Some((message, State::Allowed(rewrite.as_ref()))),
            Entry::Gone => None,
        })
    }

    /// Takes a verdict; `None`: the review brought none, the fallback decides. A verdict for a
    /// message whose deadline has passed, or that is decided already, is ignored.
    pub fn decide(
        &mut self,
        ticket: Ticket,
        verdict: Option<Verdict>,
        now: Tick,
    ) -> Option<Denied<T>> {
        let index = ticket.0.checked_sub(self.first)?;
        let entry = self.entries.get_mut(usize::try_from(index).ok()?)?;
        entry.decide(verdict, now)
    }

    /// Lets the fallback decide messages whose deadline has passed; denied ones go to `denied`. A
    /// message after one with a later deadline may be left for a later call. Returns how many were
    /// decided.
    pub fn expire(&mut self, now: Tick, mut denied: impl FnMut(Denied<T>)) -> usize {
        let mut count = 0;
        for entry in &mut self.entries {
            match entry {
                Entry::Waiting { deadline, .. } if *deadline > now => break,
                Entry::Waiting { .. } => {
                    count += 1;
                    if let Some(refused) = entry.decide(None, now) {
                        denied(refused);
                    }
                }
                Entry::Allowed(..) | Entry::Gone => {}
            }
        }
        count
    }

    /// Takes the next allowed message, once all messages before it have left.
    pub fn release(&mut self) -> Option<(T, Option<Rewrite>)> {
        loop {
            if let Entry::Waiting { .. } = self.entries.front()? {
                return None;
            }
            self.first += 1;
            debug_assert!(self.len() <= REVIEW_HELD_PER_ROOM_MAX, "hold refuses more");
            if let Entry::Allowed(message, rewrite) = self.entries.pop_front()? {
                return Some((message, rewrite));
            }
        }
    }

    /// Returns when to call [`Pending::expire`]: the deadline of the first message without a
    /// verdict.
    pub fn next_deadline(&self) -> Option<Tick> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Waiting { deadline, .. } => Some(*deadline),
            Entry::Allowed(..) | Entry::Gone => None,
        })
    }
}

impl<T> Entry<T> {
    fn decide(&mut self, verdict: Option<Verdict>, now: Tick) -> Option<Denied<T>> {
        let (message, fallback, deadline) = match std::mem::replace(self, Self::Gone) {
            Self::Waiting {
                message,
                deadline,
                fallback,
            } => (message, fallback, deadline),
            decided @ (Self::Allowed(..) | Self::Gone) => {
                *self = decided;
                return None;
            }
        };
        let in_time = verdict.filter(|_| now < deadline);
        let reason = match (in_time, fallback) {
            (Some(Verdict::Allow(rewrite)), _) => {
                *self = Self::Allowed(message, Some(rewrite));
                return None;
            }
            (None, Fallback::Allow) => {
                *self = Self::Allowed(message, None);
                return None;
            }
            (Some(Verdict::Deny(reason)), _) => reason,
            (None, Fallback::Deny) => Box::default(),
        };
        Some(Denied { message, reason })
    }
}

fn index_bits(index: usize) -> u64 {
    u64::try_from(index).expect("a queue is shorter than 2^64")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Tick {
        Tick::from_nanos(millis * 1_000_000)
    }

    fn rewrite(content: &str) -> Rewrite {
        Rewrite {
            content: content.into(),
            attributes_json: None,
        }
    }

    /// Goal: verdicts out of order release messages in order; a denial is reported at once.
    #[test]
    fn an_early_verdict_waits_for_those_before_it() {
        let mut pending = Pending::new(0);
        let [a, b, c] = ["a", "b", "c"].map(|message| {
            pending
                .hold(message, at(200), Fallback::Allow)
                .expect("space")
        });
        assert_eq!(
            pending.decide(c, Some(Verdict::Allow(rewrite("C"))), at(1)),
            None,
            "allowed, but third"
        );
        assert_eq!(pending.release(), None);
        let denied = pending
            .decide(a, Some(Verdict::Deny("no".into())), at(1))
            .expect("denied");
        assert_eq!((denied.message, &*denied.reason), ("a", "no"));
        assert_eq!(pending.release(), None, "b is undecided");
        assert_eq!(pending.next_deadline(), Some(at(200)));
        assert_eq!(pending.decide(b, None, at(1)), None);
        assert_eq!(
            pending.decide(b, Some(Verdict::Deny("late".into())), at(1)),
            None
        );
        assert_eq!(pending.release(), Some(("b", None)));
        assert_eq!(pending.release(), Some(("c", Some(rewrite("C")))));
        assert_eq!(pending.release(), None);
        assert_eq!(
            pending.decide(b, Some(Verdict::Deny("gone".into())), at(1)),
            None,
            "left long ago"
        );
    }

    /// Goal: when a handler is detached and attached again, earlier verdicts are ignored.
    #[test]
    fn a_verdict_for_another_queue_is_ignored() {
        let hold = |pending: &mut Pending<&str>| {
            pending.hold("a", at(200), Fallback::Deny).expect("space")
        };
        let (mut before, mut after) = (Pending::new(0), Pending::new(1));
        let (old, new) = (hold(&mut before), hold(&mut after));
        let allow = || Some(Verdict::Allow(rewrite("other")));
        assert_eq!(after.decide(old, allow(), at(1)), None);
        assert_eq!(after.release(), None, "still undecided");
        assert_eq!(
            after.decide(new, None, at(1)).map(|denied| denied.message),
            Some("a")
        );
    }

    /// Goal: the bound holds, also for messages that need no verdict.
    #[test]
    fn a_full_room_refuses() {
        let mut pending = Pending::new(0);
        for message in 0..REVIEW_HELD_PER_ROOM_MAX {
            assert!(pending.hold(message, at(200), Fallback::Deny).is_ok());
        }
        assert_eq!(pending.hold(0, at(200), Fallback::Deny), Err(Full));
        assert_eq!(pending.follow(0), Err(Full));
        let mut denied = 0;
        assert_eq!(
            pending.expire(at(200), |_| denied += 1),
            REVIEW_HELD_PER_ROOM_MAX
        );
        assert_eq!(denied, REVIEW_HELD_PER_ROOM_MAX);
        assert_eq!(pending.release(), None);
        assert!(pending.is_empty());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Hold(bool),
        Follow,
        Decide(u64, u8),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            any::<bool>().prop_map(Step::Hold),
            Just(Step::Follow),
            (0..60_u64, 0..3_u8).prop_map(|(ticket, verdict)| Step::Decide(ticket, verdict)),
            (0..120_u64).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// Goal: whatever verdicts come and whenever, each message leaves once, released ones in
        /// order of arrival, as the first verdict (or the fallback at the deadline) decided.
        /// Method: a plain table of held messages and decisions is the oracle.
        #[test]
        fn every_message_leaves_once(steps in proptest::collection::vec(step(), 0..200)) {
            const TIMEOUT: u64 = 200;
            let mut pending = Pending::new(0);
            let first = pending.first;
            // The expected decision of each message by arrival, once it is known.
            let mut expected: Vec<(u64, Fallback, Option<bool>)> = Vec::new();
            let (mut released, mut denied) = (Vec::new(), Vec::new());
            let mut now = 0;
            let settle = |pending: &mut Pending<usize>, now, released: &mut Vec<usize>,
                          denied: &mut Vec<usize>, expected: &mut Vec<(u64, Fallback, Option<bool>)>| {
                pending.expire(at(now), |refused| denied.push(refused.message));
                for (deadline, fallback, verdict) in expected {
                    if *deadline <= now {
                        verdict.get_or_insert(*fallback == Fallback::Allow);
                    }
                }
                while let Some((message, _)) = pending.release() {
                    released.push(message);
                }
            };
            for step in steps {
                match step {
                    Step::Hold(allow) => {
                        let fallback = if allow { Fallback::Allow } else { Fallback::Deny };
                        let held = pending.hold(expected.len(), at(now + TIMEOUT), fallback);
                        prop_assert!(held.is_ok());
                        expected.push((now + TIMEOUT, fallback, None));
                    }
                    Step::Follow => {
                        prop_assert!(pending.follow(expected.len()).is_ok());
                        expected.push((u64::MAX, Fallback::Allow, Some(true)));
                    }
                    Step::Decide(ticket, verdict) => {
                        let given = match verdict {
                            0 => None,
                            1 => Some(Verdict::Allow(rewrite("x"))),
                            _ => Some(Verdict::Deny("no".into())),
                        };
                        let refused = pending.decide(Ticket(first + ticket), given, at(now));
                        denied.extend(refused.map(|refused| refused.message));
                        let entry = usize::try_from(ticket).ok().and_then(|at| expected.get_mut(at));
                        if let Some((_, fallback, outcome)) = entry {
                            outcome.get_or_insert(verdict == 1
                                || verdict == 0 && *fallback == Fallback::Allow);
                        }
                    }
                    Step::Pass(millis) => now += millis,
                }
                settle(&mut pending, now, &mut released, &mut denied, &mut expected);
            }
            now += TIMEOUT;
            settle(&mut pending, now, &mut released, &mut denied, &mut expected);
            prop_assert!(pending.is_empty());
            prop_assert_eq!(pending.next_deadline(), None);
            denied.sort_unstable();
            let of = |wanted| expected.iter().enumerate()
                .filter(|(_, (.., outcome))| *outcome == Some(wanted))
                .map(|(index, _)| index).collect::<Vec<_>>();
            prop_assert_eq!(released, of(true));
            prop_assert_eq!(denied, of(false));
        }
    }
}
