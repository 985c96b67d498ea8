//! A process hands its node to another one: its slots leave, its shards freeze, and the next process reads each log on
//! from where members were given it; or everything is taken back.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use uproar::shard::cluster::FromCluster;
use uproar_proto::base::clock::Tick;
use uproar_proto::cluster::engine::{Engine, Input, LogsEstate};
use uproar_proto::cluster::here::Facts;
use uproar_proto::cluster::{HashSlot, Sequence};

use super::cores::{Cores, SHARDS};
use super::freeze::Freeze;
use super::node::{Life, Shard};
use super::world::{Event, World};

/// A hand-over is given up after this.
const PATIENCE: Duration = Duration::from_secs(10);

impl World {
    /// Begins to hand a node over: its slots leave first. Without shards that ship, a process whose requests have all ended
    /// hands over at once.
    pub(super) fn begin_upgrade(&mut self, node: usize) {
        let id = self.nodes[node].life().id;
        if self.is_real {
            self.nodes[node].life().drains = true;
            self.feed(node, Input::Drain(true));
            let pause = self.below(1_000_000);
            return self.later(pause, Event::Freeze(node, id));
        }
        if self.oracle.oldest_open(id, self.now.tick).is_some() {
            // A step later, perhaps.
            let pause = self.below(50_000);
            return self.later(pause, Event::Freeze(node, id));
        }
        if let Some(estate) = self.nodes[node].life().engine.estate() {
            self.succeed(node, &estate, None);
        }
    }

    /// The shards that ship are told to freeze. Without them it is tried again.
    pub(super) fn freeze(&mut self, node: usize) {
        if !self.is_real {
            let is_idle = self.nodes[node].paused.is_none();
            if is_idle && !self.chaos.dice.once_in(100) {
                self.begin_upgrade(node);
            }
            return;
        }
        let since = self.now.tick;
        let life = self.nodes[node].life();
        if life.freeze.frozen.is_empty() {
            let cores = life.cores.as_mut().expect("shards that ship");
            life.freeze.frozen = cores.freeze();
            life.freeze.since = since;
            self.wake_cores(node);
        }
    }

    /// A shard is quiet: when all are, the process stops between two inputs.
    pub(super) fn shard_is_quiet(&mut self, node: usize, shard: usize, freeze: u32) {
        let life = self.nodes[node].life();
        life.freeze.quiet[shard] = freeze;
        if life.freeze.quiet != [freeze; SHARDS] {
            return;
        }
        assert_eq!(
            self.oracle
                .oldest_open(self.nodes[node].life().id, self.now.tick),
            None,
            "a quiet node awaits no answer"
        );
        let life = self.nodes[node].life();
        life.freeze.halted = Some(freeze);
        let cores = life.cores.as_mut().expect("shards that ship");
        for shard in 0..SHARDS {
            cores.tell(shard, FromCluster::Halted(freeze));
        }
        self.wake_cores(node);
    }

    /// The freeze is over: the process goes on, and may have lost what was published meanwhile.
    pub(super) fn thawed(&mut self, node: usize, freeze: u32) {
        let dropped = self.chaos.dice.below(2) == 0;
        let freezing = &mut self.nodes[node].life().freeze;
        if freezing.halted != Some(freeze) {
            return;
        }
        freezing.halted = None;
        for input in std::mem::take(&mut freezing.held) {
            let is_lost = matches!(
                input,
                Input::Record { .. } | Input::Message(_) | Input::Here(_)
            );
            if !(dropped && is_lost) {
                self.feed(node, input);
            }
        }
        self.feed(node, Input::Interrupted);
        self.feed(node, Input::Tick);
    }

    /// Goes on with a hand-over once the shards are frozen; gives it up if they do not freeze, or for nothing.
    pub(super) fn look_at_upgrade(&mut self, node: usize) {
        let now = self.now.tick;
        let life = self.nodes[node].life();
        let freezing = &mut life.freeze;
        if freezing.frozen.is_empty() {
            return;
        }
        let mut is_frozen = true;
        for answer in &mut freezing.frozen {
            is_frozen &= answer.try_recv().is_ok() || answer.is_terminated();
        }
        let is_late = now.since(freezing.since) >= PATIENCE;
        if !is_frozen && !is_late {
            return;
        }
        let estate = life.engine.estate().filter(|_| is_frozen);
        let give_up = self.chaos.dice.once_in(3);
        let Some(estate) = estate.filter(|_| !give_up) else {
            let life = self.nodes[node].life();
            life.freeze.frozen.clear();
            life.drains = false;
            life.cores.as_mut().expect("shards that ship").thaw();
            self.feed(node, Input::Drain(false));
            return self.wake_cores(node);
        };
        let cores = self.nodes[node].life().cores.take();
        self.succeed(node, &estate, cores);
    }

    /// What a new process has heard of each log's end: of what was published while it stood by, or nothing.
    fn seen_while_it_stood_by(
        &mut self,
        (before, id): (u64, u64),
        estate: &LogsEstate,
    ) -> Vec<Sequence> {
        let slots = HashSlot::all().map(|slot| {
            let read = estate.read(slot).expect("of each log");
            self.oracle.inherits((before, id), slot.index(), read.0);
            let newest = self.broker.history(slot.index()).last();
            let newest = newest.map_or(0, |record| record.sequence);
            Sequence(if self.chaos.dice.below(2) == 0 {
                newest
            } else {
                0
            })
        });
        slots.collect()
    }

    /// Another process is the node from now on.
    fn succeed(&mut self, node: usize, estate: &LogsEstate, old: Option<Cores>) {
        self.oracle.counts.handed_over += 1;
        let now = self.nodes[node].read(self.now);
        let before = self.nodes[node].life().id;
        let (id, settings) = self.incarnation(node);
        let estate = LogsEstate::decode(&estate.encode()).expect("our own");
        let seen = self.seen_while_it_stood_by((before, id), &estate);
        let cores = old.map(|old| {
            let (cores, told) =
                old.succeeded_by(&self.rooms, id, now, &estate, &mut self.chaos.dice);
            assert!(told.is_empty(), "it asks nothing yet: {told:?}");
            cores
        });
        self.nodes[node].life = Some(Life {
            id,
            engine: Engine::inherit(settings, &estate, &seen, now),
            due: None,
            shards: [Shard::default(), Shard::default()],
            cores,
            turn: None,
            appends: BTreeSet::new(),
            reads: BTreeSet::new(),
            tickets: 0,
            archives: Tick::default(),
            archiving: VecDeque::new(),
            answers: Tick::default(),
            drains: false,
            freeze: Freeze::default(),
            alone: 0,
        });
        self.feed(node, Input::Rates(self.account.rates()));
        for viewer in &mut self.viewers {
            if viewer.node == node && viewer.life == before {
                viewer.life = id;
            }
        }
        let ready = Facts {
            is_ready: true,
            ..Facts::default()
        };
        self.feed(node, Input::Facts(ready));
        self.at(
            self.now.tick.after(Duration::from_millis(100)),
            Event::Input(node, id, Input::Interrupted),
        );
        if self.is_real {
            self.wake_cores(node);
        }
    }
}
