//! The cluster's thread: moves bytes between the shards, the engine and the brokers, turn by turn.
//!
//! In a turn it takes what has come from shards and brokers, tells the engine, and does what the engine wants. Nothing in
//! a turn waits. Reads that need several answers are tasks of their own, whose results come back as items.

mod begin;
mod deliver;
mod lines;
mod orders;
mod skew;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use async_nats::{Event as BrokerEvent, Message, Subscriber};
use futures_util::{FutureExt, StreamExt};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::Hands;
use super::calls::{About, CallFault, Calls, outcome};
use super::connect::Line;
use super::fetch::fetch;
use super::handle::{Order, Phase};
use super::names::slot_of;
use super::state::State;
use super::token_uses::{Answer, TokenUses};
use crate::logging::local;
use crate::net::event::Event;
use crate::shard::cluster::ToCluster;
use crate::supervisor::{Pulse, Stopped};
use deliver::Shards;
use lines::Lines;
use skew::Skew;
use uproar_proto::base::clock::Now;
use uproar_proto::base::limits::{
    CLUSTER_ANSWER_MAX, CLUSTER_STATE_INTERVAL, CLUSTER_TURN_MESSAGES_MAX,
};
use uproar_proto::cluster::HashSlot;
use uproar_proto::cluster::engine::{AppendOutcome, Engine, FetchFrom, Fetched, Input, Output};
use uproar_proto::cluster::here::Facts;

/// How long blocking work may continue when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// While a shard's mailbox is full nothing rings when it has room again.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// Runs until it is told to stop. What makes a beginning impossible is told to the handle, and no fault of the thread.
pub(super) fn run(runtime: Runtime, hands: Hands, pulse: &Pulse) -> std::io::Result<Stopped> {
    let tasks = LocalSet::new();
    let outcome = tasks.block_on(&runtime, async move {
        tokio::task::spawn_local(local::log_overdue());
        let event = Event::new(hands.end.bell.event())?;
        begin::begin(hands, event, pulse).await
    });
    drop(tasks);
    runtime.shutdown_timeout(STOP_TIMEOUT);
    outcome
}

/// What a task has found.
#[derive(Debug)]
pub(super) enum Found {
    Records(HashSlot, FetchFrom, Result<Fetched, CallFault>),
    TokenUse(Answer),
}

/// An append under way.
#[derive(Debug, Clone, Copy)]
struct Appending {
    attempt: u64,
    sent: Instant,
}

/// The subscriptions.
pub(super) struct Incoming {
    /// Published records.
    pub(super) records: Subscriber,
    /// Messages to this process.
    pub(super) messages: Subscriber,
    /// Signs of life.
    pub(super) heres: Subscriber,
    /// Answers.
    pub(super) answers: Subscriber,
}

/// The thread's state.
pub(super) struct Node<'a> {
    hands: Hands,
    event: Event,
    pulse: &'a Pulse,
    calls: Calls,
    records_client: async_nats::Client,
    incoming: Incoming,
    engine: Engine,
    shards: Shards,
    token_uses: TokenUses,
    appending: Vec<Option<Appending>>,
    found: mpsc::UnboundedReceiver<Found>,
    finder: mpsc::UnboundedSender<Found>,
    events: mpsc::UnboundedReceiver<(Line, BrokerEvent)>,
    // Hash slots whose log was read to its end at least once.
    read: Vec<bool>,
    unread: usize,
    skew: Skew,
    lines: Lines,
    state: State,
    facts: Facts,
    registry: super::handle::RegistryFacts,
    next_state: Instant,
    // When records may have been lost while the subscription was made anew.
    interrupted: VecDeque<Instant>,
    stopping: bool,
}

/// What ended the thread's sleep.
enum Woken {
    Rung(std::io::Result<()>),
    Record(Option<Message>),
    Message(Option<Message>),
    Here(Option<Message>),
    Answer(Option<Message>),
    Found(Found),
    Event((Line, BrokerEvent)),
    Order(Option<Order>),
    Due,
}

impl Node<'_> {
    async fn serve(mut self) -> std::io::Result<Stopped> {
        while !self.stopping {
            self.pulse.beat();
            if self.turn() {
                // The connections' tasks run on this thread too.
                tokio::task::yield_now().await;
                continue;
            }
            let woken = self.sleep().await;
            self.wake(woken)?;
        }
        Ok(Stopped)
    }

    /// One turn. Returns whether there was anything to do.
    fn turn(&mut self) -> bool {
        let now = self.hands.clock.now();
        let mut any = self.take_from_shards(now);
        while let Ok(order) = self.hands.orders.try_recv() {
            any = true;
            self.execute(order, now);
        }
        while let Ok(event) = self.events.try_recv() {
            any = true;
            self.connection_changed(event);
        }
        while let Ok(found) = self.found.try_recv() {
            any = true;
            self.take_found(found, now);
        }
        any |= self.take_messages(now);
        any |= self.tick(now);
        any |= self.perform(now);
        self.shards.flush();
        any
    }

    fn take_messages(&mut self, now: Now) -> bool {
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

    fn take_from_shards(&mut self, now: Now) -> bool {
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
            ToCluster::Archived { slot, sequence } => {
                let Some(sequence) = self.shards.archived(shard, slot, sequence) else {
                    return;
                };
                Input::Archived { slot, sequence }
            }
            ToCluster::UseToken { claim, token, .. } => {
                let at = self.instant(now);
                self.token_uses
                    .begin(&self.calls, (shard, claim), token, at);
                return;
            }
        };
        self.engine.input(input, now);
    }

    fn take_record(&mut self, record: Message, now: Now) {
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
        let sequence = uproar_proto::cluster::Sequence(sequence);
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

    fn take_answer(&mut self, answer: &Message, now: Now) {
        match self.calls.about(&answer.subject) {
            Some(About::Append(slot, attempt)) => {
                let (outcome, fault) = outcome(answer);
                if let Some(fault) = fault {
                    self.lines.append_failed(slot, &fault);
                }
                self.appended(slot, attempt, outcome, now);
            }
            Some(About::Token(number)) => {
                let (outcome, fault) = outcome(answer);
                if let Some(fault) = fault {
                    self.lines.token_use_failed(&fault);
                }
                let at = self.instant(now);
                let (done, question) = self.token_uses.answered(number, outcome, at);
                self.token_used(done);
                if let Some(question) = question {
                    let (calls, finder) = (self.calls.clone(), self.finder.clone());
                    tokio::task::spawn_local(async move {
                        let _ended = finder.send(Found::TokenUse(question.ask(&calls).await));
                    });
                }
            }
            // An answer of anybody else than the brokers means nothing.
            Some(About::Message(process)) if answer.status.is_some() => {
                self.engine.input(Input::NoResponders(process), now);
            }
            Some(About::Message(_)) | None => {}
        }
    }

    fn appended(&mut self, slot: HashSlot, attempt: u64, outcome: AppendOutcome, now: Now) {
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

    fn take_found(&mut self, found: Found, now: Now) {
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

    /// Does what time demands. Returns whether that was anything.
    fn tick(&mut self, now: Now) -> bool {
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
                let fault = CallFault::Unanswered("no answer within 2 s".to_owned());
                self.lines.append_failed(slot, &fault);
                self.appended(slot, appending.attempt, AppendOutcome::Unknown, now);
            }
        }
        if self.next_state <= at {
            self.next_state = at + CLUSTER_STATE_INTERVAL;
            for done in self.token_uses.tick(&self.calls, at) {
                self.token_used(Some(done));
            }
            self.publish_state(now);
        }
        if self.engine.due().is_some_and(|due| due <= now.tick) {
            any = true;
            self.engine.input(Input::Tick, now);
        }
        any
    }

    /// Does what the engine wants.
    fn perform(&mut self, now: Now) -> bool {
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
            } => {
                let sent = self.instant(now);
                self.appending[slot.index()] = Some(Appending { attempt, sent });
                if !self.calls.append(slot, expected, attempt, payload) {
                    self.appended(slot, attempt, AppendOutcome::Unknown, now);
                }
            }
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
                sequence,
                entries,
            } => {
                self.shards.unarchived(slot, sequence, entries);
            }
            Output::Told { ticket, outcome } => self.shards.told(ticket, outcome),
        }
    }

    fn token_used(&mut self, done: Option<super::token_uses::Done>) {
        if let Some((shard, claim, outcome)) = done {
            self.state.figures.token_used(outcome);
            self.shards.token_used(shard, claim, outcome);
        }
    }

    async fn sleep(&mut self) -> Woken {
        let until = self.wakes_at();
        let has_room = self.shards.have_room();
        let Self {
            event,
            incoming,
            found,
            events,
            hands,
            shards,
            ..
        } = self;
        let woken = async {
            tokio::select! {
                rung = event.wait() => Woken::Rung(rung),
                record = incoming.records.next(), if has_room => Woken::Record(record),
                message = incoming.messages.next() => Woken::Message(message),
                here = incoming.heres.next() => Woken::Here(here),
                answer = incoming.answers.next() => Woken::Answer(answer),
                Some(item) = found.recv() => Woken::Found(item),
                Some(change) = events.recv() => Woken::Event(change),
                order = hands.orders.recv() => Woken::Order(order),
                () = tokio::time::sleep_until(until.into()) => Woken::Due,
            }
        };
        hands.end.bell.sleep(|| shards.has_items(), woken).await
    }

    fn wake(&mut self, woken: Woken) -> std::io::Result<()> {
        let now = self.hands.clock.now();
        match woken {
            Woken::Rung(rung) => rung?,
            Woken::Record(Some(record)) => self.take_record(record, now),
            Woken::Message(Some(message)) => {
                self.engine.input(Input::Message(message.payload), now);
            }
            Woken::Here(Some(here)) => self.engine.input(Input::Here(here.payload), now),
            Woken::Answer(Some(answer)) => self.take_answer(&answer, now),
            Woken::Found(found) => self.take_found(found, now),
            Woken::Event(change) => self.connection_changed(change),
            Woken::Order(order) => self.execute(order.unwrap_or(Order::Stop), now),
            Woken::Due => {}
            Woken::Record(None)
            | Woken::Message(None)
            | Woken::Here(None)
            | Woken::Answer(None) => {
                return Err(std::io::Error::other(
                    "a connection to the brokers ended for good",
                ));
            }
        }
        Ok(())
    }

    /// When the thread wakes by itself.
    fn wakes_at(&self) -> Instant {
        let mut until = self.next_state;
        if let Some(due) = self.engine.due() {
            until = until.min(self.hands.clock.instant(due));
        }
        if !self.shards.have_room() {
            until = until.min(self.hands.clock.instant(self.hands.clock.now().tick) + FULL_PAUSE);
        }
        until
    }

    fn instant(&self, now: Now) -> Instant {
        self.hands.clock.instant(now.tick)
    }
}

/// The next message of a subscription, if it is there.
fn at_once(subscriber: &mut Subscriber) -> Option<Message> {
    tokio::task::unconstrained(subscriber.next())
        .now_or_never()
        .flatten()
}
