//! What has come: from shards, from brokers, from tasks.

use async_nats::{Message, Subscriber};
use futures_util::{FutureExt, StreamExt};

use super::node::{Found, Node};
use crate::cluster::calls::{About, outcome};
use crate::cluster::handle::Phase;
use crate::cluster::names::slot_of;
use crate::shard::cluster::ToCluster;
use uproar_proto::base::clock::Now;
use uproar_proto::base::limits::CLUSTER_TURN_MESSAGES_MAX;
use uproar_proto::cluster::engine::{AppendOutcome, Input};
use uproar_proto::cluster::{HashSlot, Sequence};

impl Node<'_> {
    pub(super) fn take_messages(&mut self, now: Now) -> bool {
        let mut any = false;
        for _ in 0..CLUSTER_TURN_MESSAGES_MAX {
            let Some(answer) = at_once(&mut self.incoming.answers) else {
                break;
            };
            any = true;
            self.take_answer(&answer, now);
        }
        for _ in 0..CLUSTER_TURN_MESSAGES_MAX {
            let Some(message) = at_once(&mut self.incoming.messages) else {
                break;
            };
            any = true;
            self.engine.input(Input::Message(message.payload), now);
        }
        while let Some(here) = at_once(&mut self.incoming.heres) {
            any = true;
            self.engine.input(Input::Here(here.payload), now);
            self.count_elsewhere();
        }
        for _ in 0..CLUSTER_TURN_MESSAGES_MAX {
            let Some(event) = at_once(&mut self.incoming.user_events) else {
                break;
            };
            any = true;
            self.take_user_event(event);
        }
        for _ in 0..CLUSTER_TURN_MESSAGES_MAX {
            if !self.shards.have_room() {
                break;
            }
            let Some(crowd) = at_once(&mut self.incoming.crowds) else {
                break;
            };
            any = true;
            self.take_crowd(crowd);
        }
        // A shard that does not keep up holds back the log, which the brokers keep.
        for _ in 0..CLUSTER_TURN_MESSAGES_MAX {
            if !self.shards.have_room() {
                break;
            }
            let Some(record) = at_once(&mut self.incoming.records) else {
                break;
            };
            any = true;
            self.take_record(record, now);
        }
        any
    }

    pub(super) fn take_from_shards(&mut self, now: Now) -> bool {
        let mut any = false;
        for shard in 0..self.shards.count() {
            for _ in 0..CLUSTER_TURN_MESSAGES_MAX {
                let Some(item) = self.shards.pop(shard) else {
                    break;
                };
                any = true;
                self.take_from_shard(shard, item, now);
            }
        }
        any
    }

    fn take_from_shard(&mut self, shard: usize, item: ToCluster, now: Now) {
        let input = match item {
            ToCluster::Ask { ticket, ask } => Input::Ask { ticket, ask },
            ToCluster::Authored { epoch, entry } => Input::Authored {
                slot: HashSlot::of(entry.room),
                epoch,
                entry,
            },
            ToCluster::Refused { key, code, text } => Input::RefusedByShard { key, code, text },
            ToCluster::Archived {
                slot,
                epoch,
                sequence,
            } => {
                let Some(sequence) = self.shards.archived(shard, (slot, epoch), sequence) else {
                    return;
                };
                Input::Archived {
                    slot,
                    epoch,
                    sequence,
                }
            }
            ToCluster::TellUser(event) => return self.echo_to_user(event),
            ToCluster::Replace(token) => return self.tell_replaced(token),
            ToCluster::Viewers(counts) => return self.tell_counts(counts),
            ToCluster::Quiet(freeze) => return self.shard_is_quiet(shard, freeze),
            ToCluster::Thawed(freeze) => return self.thawed(freeze),
            ToCluster::Search(search) => {
                self.hands
                    .searches
                    .send_modify(|searches| searches[shard] = search);
                return;
            }
            ToCluster::UseToken { claim, token, .. } => {
                let at = self.instant(now);
                self.token_uses.begin((shard, claim), token, at);
                return;
            }
        };
        self.engine.input(input, now);
    }

    pub(super) fn take_record(&mut self, record: Message, now: Now) {
        let header = |name| {
            record
                .headers
                .as_ref()
                .and_then(|headers| headers.get(name))
        };
        let sequence = header("Nats-Sequence").and_then(|text| text.as_str().parse().ok());
        let slot = slot_of(&record.subject);
        let Some((slot, sequence)) = slot.zip(sequence) else {
            self.lines.foreign(&record.subject);
            return;
        };
        if let Some(stamp) = header("Nats-Time-Stamp") {
            self.skew.observe(slot, stamp.as_str(), now);
        }
        let sequence = Sequence(sequence);
        let payload = record.payload;
        self.engine.input(
            Input::Record {
                slot,
                sequence,
                payload,
            },
            now,
        );
    }

    pub(super) fn take_answer(&mut self, answer: &Message, now: Now) {
        match self.calls.about(&answer.subject) {
            Some(About::Append(slot, attempt)) => {
                let (outcome, fault) = outcome(answer, 1);
                if let Some(fault) = fault {
                    self.lines.append_failed(slot, &fault);
                }
                self.appended(slot, attempt, outcome, now);
            }
            Some(About::Token(number)) => {
                let (outcome, fault) = outcome(answer, 1);
                if let Some(fault) = fault {
                    self.lines.token_use_failed(&fault);
                }
                let at = self.instant(now);
                let (done, question) = self.token_uses.answered(number, outcome, at);
                self.token_used(done);
                if let Some(question) = question {
                    let (calls, finder) = (self.calls.clone(), self.finder.clone());
                    tokio::task::spawn_local(async move {
                        let _ended = finder.send(Found::TokenUse(calls.whose(question).await));
                    });
                }
            }
            Some(About::Tokens(first)) => {
                let (outcome, fault) = outcome(answer, self.token_uses.batch(first));
                if let Some(fault) = fault {
                    self.lines.token_use_failed(&fault);
                }
                let at = self.instant(now);
                for done in self
                    .token_uses
                    .batch_answered(&self.calls, first, outcome, at)
                {
                    self.token_used(Some(done));
                }
            }
            // An answer of anybody else than the brokers means nothing.
            Some(About::Message(process)) if answer.status.is_some() => {
                self.engine.input(Input::NoResponders(process), now);
            }
            Some(About::Message(_)) | None => {}
        }
    }

    pub(super) fn appended(
        &mut self,
        slot: HashSlot,
        attempt: u64,
        outcome: AppendOutcome,
        now: Now,
    ) {
        let place = &mut self.appending[slot.index()];
        // A late answer to an attempt that was given up is none.
        let Some(appending) = place.take_if(|appending| appending.attempt == attempt) else {
            return;
        };
        if let AppendOutcome::Ok(_) = outcome {
            let took = self
                .hands
                .clock
                .instant(now.tick)
                .duration_since(appending.sent);
            let figures = &mut self.state.figures;
            figures.append_nanos += u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            figures.appends_answered += 1;
        }
        self.engine.input(
            Input::Appended {
                slot,
                attempt,
                outcome,
            },
            now,
        );
    }

    pub(super) fn take_found(&mut self, found: Found, now: Now) {
        match found {
            Found::Records(slot, from, records) => {
                if let Err(fault) = &records {
                    self.lines.read_failed(slot, fault);
                }
                let found = records.ok();
                if found.is_some() && !std::mem::replace(&mut self.read[slot.index()], true) {
                    self.unread -= 1;
                    if self.unread == 0 {
                        self.hands.phase.send_replace(Phase::Begun);
                    }
                }
                self.engine.input(Input::Fetched { slot, from, found }, now);
            }
            Found::TokenUse(answer) => {
                let at = self.instant(now);
                let done = self.token_uses.was_read(answer, at);
                self.token_used(done);
            }
        }
    }
}

/// The next message of a subscription, if it is there.
fn at_once(subscriber: &mut Subscriber) -> Option<Message> {
    tokio::task::unconstrained(subscriber.next())
        .now_or_never()
        .flatten()
}
