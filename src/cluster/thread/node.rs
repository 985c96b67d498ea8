//! The thread's state, and its loop of turns.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use async_nats::{Event as BrokerEvent, Message, Subscriber};
use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};

use super::deliver::Shards;
use super::halt::{Halt, LOOK};
use super::lines::Lines;
use super::namesake::Namesake;
use super::skew::Skew;
use crate::cluster::calls::{CallFault, Calls};
use crate::cluster::choice::Line;
use crate::cluster::handle::{Order, RegistryFacts};
use crate::cluster::hands::Hands;
use crate::cluster::state::State;
use crate::cluster::token_uses::{Answer, TokenUses};
use crate::net::event::Event;
use crate::supervisor::{Pulse, Stopped};
use uproar_proto::base::clock::{Now, Tick};
use uproar_proto::cluster::HashSlot;
use uproar_proto::cluster::engine::{Engine, FetchFrom, Fetched, Input, Ticket};
use uproar_proto::cluster::here::Facts;

/// While a shard's mailbox is full nothing rings when it has room again.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// What a task has found.
#[derive(Debug)]
pub(super) enum Found {
    Records(HashSlot, FetchFrom, Result<Fetched, CallFault>),
    TokenUse(Answer),
}

/// A pending append.
#[derive(Debug, Clone, Copy)]
pub(super) struct Appending {
    pub(super) attempt: u64,
    pub(super) sent: Instant,
}

/// The subscriptions.
pub(super) struct Incoming {
    /// Published records.
    pub(super) records: Subscriber,
    /// Messages to this process.
    pub(super) messages: Subscriber,
    /// Signs of life.
    pub(super) heres: Subscriber,
    /// Events for one user.
    pub(super) user_events: Subscriber,
    /// Viewers of rooms.
    pub(super) crowds: Subscriber,
    /// Answers.
    pub(super) answers: Subscriber,
}

/// The thread's state.
pub(super) struct Node<'a> {
    pub(super) hands: Hands,
    pub(super) event: Event,
    pub(super) pulse: &'a Pulse,
    pub(super) calls: Calls,
    pub(super) records_client: async_nats::Client,
    pub(super) incoming: Incoming,
    pub(super) engine: Engine,
    pub(super) shards: Shards,
    pub(super) token_uses: TokenUses,
    pub(super) appending: Vec<Option<Appending>>,
    pub(super) found: mpsc::UnboundedReceiver<Found>,
    pub(super) finder: mpsc::UnboundedSender<Found>,
    pub(super) events: mpsc::UnboundedReceiver<(Line, BrokerEvent)>,
    // Hash slots whose log was read to its end at least once.
    pub(super) read: Vec<bool>,
    pub(super) unread: usize,
    pub(super) skew: Skew,
    pub(super) lines: Lines,
    pub(super) namesake: Namesake,
    pub(super) state: State,
    // What is wrong with the broker of each connection.
    pub(super) unfit: [Option<String>; 2],
    // Calls of the API that wait for the account's budget.
    pub(super) charging: HashMap<Ticket, oneshot::Sender<bool>>,
    pub(super) charges: u64,
    // Viewers of other nodes, as the shards were told.
    pub(super) elsewhere: usize,
    pub(super) facts: Facts,
    pub(super) registry: RegistryFacts,
    pub(super) next_state: Instant,
    // When this node began with the brokers that it has.
    pub(super) with_brokers: Tick,
    // Since when its two connections are to different ones.
    pub(super) apart: Option<Tick>,
    // When records may have been lost while the subscription was made anew.
    pub(super) interrupted: VecDeque<Instant>,
    pub(super) halt: Halt,
    pub(super) stopping: bool,
}

/// What ended the thread's sleep.
enum Woken {
    Rung(io::Result<()>),
    Record(Option<Message>),
    Message(Option<Message>),
    Here(Option<Message>),
    UserEvent(Option<Message>),
    Crowd(Option<Message>),
    Answer(Option<Message>),
    Found(Found),
    Event((Line, BrokerEvent)),
    Order(Option<Order>),
    Due,
}

impl Node<'_> {
    pub(super) async fn serve(mut self) -> io::Result<Stopped> {
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
        if self.halt.is_halted() {
            self.shards.flush();
            return any;
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

    async fn sleep(&mut self) -> Woken {
        let until = self.wakes_at();
        let serves = !self.halt.is_halted();
        let has_room = serves && self.shards.have_room();
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
                message = incoming.messages.next(), if serves => Woken::Message(message),
                here = incoming.heres.next(), if serves => Woken::Here(here),
                event = incoming.user_events.next(), if serves => Woken::UserEvent(event),
                crowd = incoming.crowds.next(), if has_room => Woken::Crowd(crowd),
                answer = incoming.answers.next(), if serves => Woken::Answer(answer),
                Some(item) = found.recv(), if serves => Woken::Found(item),
                Some(change) = events.recv(), if serves => Woken::Event(change),
                order = hands.orders.recv() => Woken::Order(order),
                () = tokio::time::sleep_until(until.into()) => Woken::Due,
            }
        };
        hands.end.bell.sleep(|| shards.has_items(), woken).await
    }

    fn wake(&mut self, woken: Woken) -> io::Result<()> {
        let now = self.hands.clock.now();
        match woken {
            Woken::Rung(rung) => rung?,
            Woken::Record(Some(record)) => self.take_record(record, now),
            Woken::Message(Some(message)) => {
                self.engine.input(Input::Message(message.payload), now);
            }
            Woken::Here(Some(here)) => self.engine.input(Input::Here(here.payload), now),
            Woken::UserEvent(Some(event)) => self.take_user_event(event),
            Woken::Crowd(Some(crowd)) => self.take_crowd(crowd),
            Woken::Answer(Some(answer)) => self.take_answer(&answer, now),
            Woken::Found(found) => self.take_found(found, now),
            Woken::Event(change) => self.connection_changed(change),
            Woken::Order(order) => self.execute(order.unwrap_or(Order::Stop), now),
            Woken::Due => {}
            Woken::Record(None)
            | Woken::Message(None)
            | Woken::Here(None)
            | Woken::UserEvent(None)
            | Woken::Crowd(None)
            | Woken::Answer(None) => {
                return Err(io::Error::other(
                    "a connection to the brokers ended for good",
                ));
            }
        }
        Ok(())
    }

    /// When the thread wakes by itself.
    fn wakes_at(&self) -> Instant {
        let mut until = self.next_state;
        if self.halt.is_halted() {
            until = self.instant(self.hands.clock.now()) + LOOK;
        } else if let Some(due) = self.engine.due() {
            until = until.min(self.hands.clock.instant(due));
        }
        if let Some(due) = self.token_uses.due().filter(|_| !self.halt.is_halted()) {
            until = until.min(due);
        }
        if !self.shards.have_room() {
            until = until.min(self.hands.clock.instant(self.hands.clock.now().tick) + FULL_PAUSE);
        }
        until
    }

    pub(super) fn instant(&self, now: Now) -> Instant {
        self.hands.clock.instant(now.tick)
    }
}
