//! Single use of tokens, cluster-wide: each use is a message in a subject of its own, under the condition that it is the first.
//!
//! The first use finds the subject empty; brokers refuse every other one. A refusal alone is no verdict, since it may be
//! this very use whose answer was lost: what the subject has decides. Each attempt of a connection has a claim of its own,
//! which is what is written, so a claim that is found there is this use, and another one is somebody else's.
//!
//! Uses that come while an append is in progress are the next append, a batch that brokers take whole or not at all: the more
//! viewers come, the fewer appends one of them costs. A batch that was not taken says nothing of its uses: each is then
//! appended by itself.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::shard::cluster::TokenOutcome;
use uproar_proto::base::limits::{
    CLUSTER_ANSWER_MAX, CLUSTER_RETRY, CLUSTER_TOKEN_BATCH_MAX, CLUSTER_TOKEN_RETRY_MIN,
    CLUSTER_TOKEN_USES_MAX, JOIN_PARKED_MAX,
};
use uproar_proto::cluster::Incarnation;
use uproar_proto::cluster::engine::AppendOutcome;
use uproar_proto::token::TokenId;

/// All uses whose outcome is not known.
#[derive(Debug)]
pub(super) struct TokenUses {
    me: Incarnation,
    // Of the newest use; unique within this process.
    number: u64,
    // For the append in progress, and for those that are pending to end; each shard bounds its own.
    waiting: VecDeque<(u64, Use)>,
    pending: HashMap<u64, Use>,
    // The append in progress of uses that were not tried before.
    first_try: Option<FirstTry>,
    // Those that are tried again within `CLUSTER_RETRY`, and when: few, since most have their outcome by one answer.
    soon: BTreeSet<(Instant, u64)>,
}

/// Uses that were appended as one, in the order of their numbers.
#[derive(Debug)]
struct FirstTry {
    uses: Vec<u64>,
    // From then on the others do not wait for its answer.
    until: Instant,
}

/// A use by one connection.
#[derive(Debug)]
struct Use {
    shard: usize,
    claim: u64,
    token: TokenId,
    claimant: Bytes,
    given_up: Instant,
    // When it is tried again, unless its answer is there before.
    again: Instant,
    // How long to wait when nobody knows whose it is: another use of the token is about to be in the log, or was refused.
    pause: Duration,
}

/// Where uses are written.
pub(super) trait Appends {
    /// Writes the use of a token, if its subject has none. Returns whether it is on its way; the answer names `number`.
    fn append_use(&self, number: u64, token: TokenId, claimant: Bytes) -> bool;

    /// Writes all uses, if none of their subjects has any, or none of them. Returns whether that is on its way; the answer
    /// names the first number. One that is partly on its way comes to nothing.
    fn append_uses(&self, uses: &[(u64, TokenId, Bytes)]) -> bool;
}

/// What is known of a use: its shard, its claim there, and its outcome.
pub(super) type Done = (usize, u64, TokenOutcome);

/// A question to the stream: whose is the token's use that it has?
#[derive(Debug)]
pub(super) struct Question {
    number: u64,
    pub(super) token: TokenId,
    claimant: Bytes,
}

/// Its answer; `None`: nobody knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    number: u64,
    is_ours: Option<bool>,
}

impl TokenUses {
    pub(super) fn new(me: Incarnation) -> Self {
        Self {
            me,
            number: 0,
            waiting: VecDeque::new(),
            pending: HashMap::new(),
            first_try: None,
            soon: BTreeSet::new(),
        }
    }

    /// Takes a use, for [`TokenUses::append_waiting`].
    pub(super) fn begin(&mut self, (shard, claim): (usize, u64), token: TokenId, now: Instant) {
        self.number += 1;
        // Nobody else has these bytes: the process is random, and the number its own.
        let mut claimant = Vec::with_capacity(16);
        claimant.extend_from_slice(&self.me.bits().to_le_bytes());
        claimant.extend_from_slice(&self.number.to_le_bytes());
        let begun = Use {
            shard,
            claim,
            token,
            claimant: claimant.into(),
            // By then the shard has given it up.
            given_up: now + JOIN_PARKED_MAX,
            again: now,
            pause: CLUSTER_TOKEN_RETRY_MIN,
        };
        self.waiting.push_back((self.number, begun));
    }

    /// Appends what waits, as one, unless an append is in progress or too many uses are pending.
    pub(super) fn append_waiting(&mut self, to: &impl Appends, now: Instant) {
        if self
            .first_try
            .as_ref()
            .is_some_and(|first| now < first.until)
        {
            return;
        }
        self.first_try = None;
        let free = CLUSTER_TOKEN_USES_MAX.saturating_sub(self.pending.len());
        let count = self.waiting.len().min(free).min(CLUSTER_TOKEN_BATCH_MAX);
        if count == 0 {
            return;
        }
        let mut begun: Vec<(u64, Use)> = self.waiting.drain(..count).collect();
        let is_sent = match &mut *begun {
            [(number, alone)] => alone.append(to, *number, now),
            several => Use::append_all(to, several, now),
        };
        if is_sent {
            self.first_try = Some(FirstTry {
                uses: begun.iter().map(|(number, _)| *number).collect(),
                until: now + CLUSTER_ANSWER_MAX,
            });
        }
        self.pending.extend(begun);
    }

    /// How many uses are in the batch in progress whose first is `number`; 0 if there is none.
    pub(super) fn batch(&self, number: u64) -> usize {
        let first = self.first_try.as_ref();
        first
            .filter(|first| first.uses.first() == Some(&number))
            .map_or(0, |first| first.uses.len())
    }

    /// Takes the brokers' answer to a batch. One that was not taken is appended use by use.
    pub(super) fn batch_answered(
        &mut self,
        to: &impl Appends,
        number: u64,
        outcome: AppendOutcome,
        now: Instant,
    ) -> Vec<Done> {
        // A late answer is none: its uses are tried again by themselves.
        let Some(batch) = self
            .first_try
            .take_if(|first| first.uses.first() == Some(&number))
        else {
            return Vec::new();
        };
        let mut done = Vec::new();
        for number in batch.uses {
            match outcome {
                AppendOutcome::Ok(_) => done.extend(self.end(number, TokenOutcome::First)),
                AppendOutcome::Unknown => self.try_again(number, now),
                AppendOutcome::WrongLast => {
                    if let Some(tried) = self.pending.get_mut(&number) {
                        tried.append(to, number, now);
                    }
                }
            }
        }
        done
    }

    /// Takes the brokers' answer to an append of one use. A refused condition raises a question.
    pub(super) fn answered(
        &mut self,
        number: u64,
        outcome: AppendOutcome,
        now: Instant,
    ) -> (Option<Done>, Option<Question>) {
        self.first_try.take_if(|first| *first.uses == [number]);
        match outcome {
            AppendOutcome::Ok(_) => (self.end(number, TokenOutcome::First), None),
            AppendOutcome::Unknown => {
                self.try_again(number, now);
                (None, None)
            }
            AppendOutcome::WrongLast => {
                let question = self.pending.get_mut(&number).map(|tried| {
                    tried.again = now + CLUSTER_ANSWER_MAX + CLUSTER_RETRY;
                    Question {
                        number,
                        token: tried.token,
                        claimant: tried.claimant.clone(),
                    }
                });
                (None, question)
            }
        }
    }

    /// Takes the answer to a question.
    pub(super) fn was_read(&mut self, answer: Answer, now: Instant) -> Option<Done> {
        match answer.is_ours {
            Some(true) => self.end(answer.number, TokenOutcome::First),
            Some(false) => self.end(answer.number, TokenOutcome::Again),
            None => {
                self.try_soon(answer.number, now);
                None
            }
        }
    }

    /// When [`TokenUses::retry`] has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.soon.first().map(|(due, _)| *due)
    }

    /// Tries again what is not to wait for the next [`TokenUses::tick`].
    pub(super) fn retry(&mut self, to: &impl Appends, now: Instant) {
        while let Some((due, number)) = self.soon.first().copied() {
            if due > now {
                break;
            }
            self.soon.pop_first();
            let tried = self.pending.get_mut(&number);
            if let Some(tried) = tried.filter(|tried| tried.again == due) {
                tried.append(to, number, now);
            }
        }
    }

    /// Tries again what is due, and gives up what is too old.
    pub(super) fn tick(&mut self, to: &impl Appends, now: Instant) -> Vec<Done> {
        let mut late = Vec::new();
        self.waiting.retain(|(_, begun)| {
            let is_late = begun.given_up <= now;
            if is_late {
                late.push((begun.shard, begun.claim, TokenOutcome::Unknown));
            }
            !is_late
        });
        self.pending.retain(|number, tried| {
            if tried.given_up <= now {
                late.push((tried.shard, tried.claim, TokenOutcome::Unknown));
                return false;
            }
            if tried.again <= now {
                tried.append(to, *number, now);
            }
            true
        });
        self.append_waiting(to, now);
        late
    }

    /// Uses without an outcome.
    pub(super) fn count(&self) -> usize {
        self.waiting.len() + self.pending.len()
    }

    /// The subject is empty, or its leader is silent. The use in front of this one is decided within some milliseconds.
    fn try_soon(&mut self, number: u64, now: Instant) {
        if let Some(tried) = self.pending.get_mut(&number) {
            tried.again = now + tried.pause;
            tried.pause = (tried.pause * 2).min(CLUSTER_RETRY);
            self.soon.insert((tried.again, number));
        }
    }

    fn try_again(&mut self, number: u64, now: Instant) {
        if let Some(tried) = self.pending.get_mut(&number) {
            tried.again = now + CLUSTER_RETRY;
        }
    }

    fn end(&mut self, number: u64, outcome: TokenOutcome) -> Option<Done> {
        let ended = self.pending.remove(&number)?;
        Some((ended.shard, ended.claim, outcome))
    }
}

impl Use {
    fn append(&mut self, to: &impl Appends, number: u64, now: Instant) -> bool {
        let is_sent = to.append_use(number, self.token, self.claimant.clone());
        self.wait(is_sent, now);
        is_sent
    }

    fn append_all(to: &impl Appends, all: &mut [(u64, Self)], now: Instant) -> bool {
        let uses: Vec<_> = all
            .iter()
            .map(|(number, begun)| (*number, begun.token, begun.claimant.clone()))
            .collect();
        let is_sent = to.append_uses(&uses);
        for (_, begun) in all {
            begun.wait(is_sent, now);
        }
        is_sent
    }

    fn wait(&mut self, is_sent: bool, now: Instant) {
        let pause = if is_sent {
            CLUSTER_ANSWER_MAX
        } else {
            CLUSTER_RETRY
        };
        self.again = now + pause;
    }
}

impl Question {
    /// Answers it by what the stream's leader has; `None`: it did not answer. A subject that is empty after all leaves it
    /// open too: brokers refuse what somebody else has asked for at the same time, though that may come to nothing.
    pub(super) fn answer(&self, stored: Option<&[u8]>) -> Answer {
        Answer {
            number: self.number,
            is_ours: stored.map(|claimant| claimant == &*self.claimant),
        }
    }
}

#[cfg(test)]
mod tests;
