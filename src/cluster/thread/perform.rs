//! What time demands and what the engine wants.

use bytes::Bytes;

use super::node::{Appending, Found, Node};
use crate::cluster::calls::CallFault;
use crate::cluster::fetch::fetch;
use crate::cluster::token_uses::Done;
use uproar_proto::base::clock::Now;
use uproar_proto::base::limits::{CLUSTER_ANSWER_MAX, CLUSTER_STATE_INTERVAL};
use uproar_proto::cluster::engine::{AppendOutcome, Input, Output};
use uproar_proto::cluster::{HashSlot, Sequence};

impl Node<'_> {
    /// Does what time demands. Returns whether that was anything.
    pub(super) fn tick(&mut self, now: Now) -> bool {
        let at = self.instant(now);
        let mut any = false;
        while self.interrupted.front().is_some_and(|due| *due <= at) {
            self.interrupted.pop_front();
            any = true;
            self.engine.input(Input::Interrupted, now);
        }
        for slot in HashSlot::all() {
            let Some(appending) = self.appending[slot.index()] else {
                continue;
            };
            if at.duration_since(appending.sent) >= CLUSTER_ANSWER_MAX {
                any = true;
                let fault =
                    CallFault::Unanswered(format!("no answer within {CLUSTER_ANSWER_MAX:?}"));
                self.lines.append_failed(slot, &fault);
                self.appended(slot, appending.attempt, AppendOutcome::Unknown, now);
            }
        }
        if self.token_uses.due().is_some_and(|due| due <= at) {
            any = true;
            self.token_uses.retry(&self.calls, at);
        }
        self.token_uses.append_waiting(&self.calls, at);
        if self.next_state <= at {
            self.next_state = at + CLUSTER_STATE_INTERVAL;
            for done in self.token_uses.tick(&self.calls, at) {
                self.token_used(Some(done));
            }
            self.publish_state(now);
            self.leave_mute_brokers(now);
            self.keep_together(now);
        }
        if self.engine.due().is_some_and(|due| due <= now.tick) {
            any = true;
            self.engine.input(Input::Tick, now);
        }
        any
    }

    /// Does what the engine wants.
    pub(super) fn perform(&mut self, now: Now) -> bool {
        let mut any = false;
        while let Some(output) = self.engine.next_output() {
            any = true;
            self.perform_one(output, now);
        }
        any
    }

    fn perform_one(&mut self, output: Output, now: Now) {
        match output {
            Output::Append {
                slot,
                expected,
                attempt,
                payload,
                ..
            } => self.append((slot, expected, attempt), payload, now),
            Output::Fetch { slot, from } => {
                let (calls, finder) = (self.calls.clone(), self.finder.clone());
                tokio::task::spawn_local(async move {
                    let found = fetch(&calls, slot, from).await;
                    let _ended = finder.send(Found::Records(slot, from, found));
                });
            }
            // What does not go now is sent again.
            Output::Send { to, payload } => drop(self.calls.send(to, payload)),
            Output::Here(payload) => drop(self.calls.here(payload)),
            Output::Skipped {
                slot,
                after,
                upto,
                cause,
            } => {
                self.lines.skipped(slot, after, upto, cause);
            }
            Output::Fenced { slot, epoch } => {
                self.lines.fenced(slot, epoch);
                self.shards.fenced(slot);
            }
            Output::Author { key, ask } => self.shards.author(key, ask),
            Output::Deliver {
                slot,
                epoch,
                sequence,
                is_home_here,
                entries,
            } => {
                self.shards
                    .deliver(slot, epoch, sequence, is_home_here, entries);
            }
            Output::Unarchived {
                slot,
                epoch,
                sequence,
                entries,
            } => {
                self.shards.unarchived((slot, epoch), sequence, entries);
            }
            Output::Told {
                ticket,
                outcome,
                sent,
            } => self.shards.told(ticket, outcome, sent),
            Output::Charged { ticket, is_granted } => self.charged(ticket, is_granted),
        }
    }

    fn append(
        &mut self,
        (slot, expected, attempt): (HashSlot, Sequence, u64),
        payload: Bytes,
        now: Now,
    ) {
        let sent = self.instant(now);
        self.appending[slot.index()] = Some(Appending { attempt, sent });
        if !self.calls.append(slot, expected, attempt, payload) {
            self.appended(slot, attempt, AppendOutcome::Unknown, now);
        }
    }

    pub(super) fn token_used(&mut self, done: Option<Done>) {
        if let Some((shard, claim, outcome)) = done {
            self.state.figures.token_used(outcome);
            self.shards.token_used(shard, claim, outcome);
        }
    }
}
