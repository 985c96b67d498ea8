//! Single use of tokens, cluster-wide: each use is one conditional append to a subject of its own.
//!
//! The first use finds the subject empty; brokers refuse every other one. A refusal alone is no verdict, since it may be
//! this very use whose answer was lost: what the subject has decides. Each attempt of a connection has a claim of its own,
//! which is what is written, so a claim that is found there is this use, and another one is somebody else's.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::shard::cluster::TokenOutcome;
use uproar_proto::base::limits::{
    CLUSTER_ANSWER_MAX, CLUSTER_RETRY, CLUSTER_TOKEN_RETRY_MIN, CLUSTER_TOKEN_USES_MAX,
    JOIN_PARKED_MAX,
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
    // Beyond those that are pending; each shard bounds its own.
    waiting: VecDeque<(u64, Use)>,
    pending: HashMap<u64, Use>,
    // Those that are tried again within `CLUSTER_RETRY`, and when: few, since most have their outcome by one answer.
    soon: BTreeSet<(Instant, u64)>,
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
            soon: BTreeSet::new(),
        }
    }

    /// Takes a use, and appends it now or when others have their outcome.
    pub(super) fn begin(
        &mut self,
        to: &impl Appends,
        (shard, claim): (usize, u64),
        token: TokenId,
        now: Instant,
    ) {
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
        self.append_waiting(to, now);
    }

    fn append_waiting(&mut self, to: &impl Appends, now: Instant) {
        while self.pending.len() < CLUSTER_TOKEN_USES_MAX {
            let Some((number, mut begun)) = self.waiting.pop_front() else {
                return;
            };
            begun.append(to, number, now);
            self.pending.insert(number, begun);
        }
    }

    /// Takes the brokers' answer to an append. A refused condition raises a question.
    pub(super) fn answered(
        &mut self,
        number: u64,
        outcome: AppendOutcome,
        now: Instant,
    ) -> (Option<Done>, Option<Question>) {
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
    fn append(&mut self, to: &impl Appends, number: u64, now: Instant) {
        let is_sent = to.append_use(number, self.token, self.claimant.clone());
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
