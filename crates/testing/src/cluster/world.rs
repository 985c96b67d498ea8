//! Nodes, brokers and time, driven by a seed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::AddAssign;
use std::time::Duration;

use uproar_proto::base::clock::{Now, Tick};
use uproar_proto::base::id::{FrameIds, RoomId};
use uproar_proto::base::limits::HASH_SLOTS;
use uproar_proto::cluster::Incarnation;
use uproar_proto::cluster::engine::{
    AppendOutcome, Engine, EngineSettings, Fetched, Input, Output, SkipCause,
};
use uproar_proto::cluster::here::{About, Facts};

use uproar_proto::token::TokenId;

use super::account::Account;
use super::broker::Broker;
use super::cores::Cores;
use super::fault::{Chaos, Fault, Tally};
use super::flight::{Appending, Asking, Using, Viewer};
use super::freeze::Freeze;
use super::node::{Authoring, Life, Node, Shard};
use super::oracle::{Oracle, Seen};
use super::planted::Planted;
use crate::parts::start;
use crate::simulation::dice::Dice;

/// Machines.
const NODES: usize = 3;
/// Time in which things go wrong.
const LINGER: Duration = Duration::from_millis(5);
pub(super) const CHAOS: Duration = Duration::from_secs(25);
/// Time in which everything must be well again: the longest wait of an engine, and a takeover.
const CALM: Duration = Duration::from_secs(20);
/// A planted fault begins after this.
const PLANTED_AFTER: Duration = Duration::from_secs(6);
/// Takeovers of one hash slot, on average of all: more, and nodes take them from one another at no pace.
const TAKEOVERS_MAX: u64 = 30;
/// Outputs for one input: more, and an engine never rests.
const OUTPUTS_MAX: usize = 20_000;

/// What happens at a moment.
pub(super) enum Event {
    /// Something comes to a process.
    Input(usize, u64, Input),
    /// An engine's time has come.
    Due(usize, u64),
    /// An append comes to its leader.
    Arrive(Appending),
    /// A proposal has a quorum, or not yet.
    Commit(Appending, u64),
    /// A process hears of its append.
    Outcome(Appending, AppendOutcome),
    /// A read comes to its leader.
    Read(Asking),
    /// A process hears of its read.
    Fetched(Asking, Option<Fetched>),
    /// A shard of a process runs.
    Shard(usize, u64, usize),
    /// A process begins.
    Start(usize),
    /// A drain is over: the process ends, or goes on.
    Drained(usize, u64, bool),
    /// The shards that ship are told to freeze.
    Freeze(usize, u64),
    /// The shards that ship run, of a process.
    Turn(usize, u64),
    /// A process makes sure that a token is used for the first time.
    Use(Using),
    /// Something comes from viewers of the shards that ship.
    Stir,
    /// A viewer asks.
    Say,
    /// The next frames of a process are in its archive.
    Archived(usize, u64),
    /// Faults may begin.
    Harm,
}

/// A world.
pub struct World {
    pub(super) now: Now,
    pub(super) chaos: Chaos,
    pub(super) broker: Broker,
    pub(super) oracle: Oracle,
    pub(super) nodes: Vec<Node>,
    pub(super) rooms: Vec<RoomId>,
    pub(super) ids: FrameIds,
    pub(super) planted: Option<Planted>,
    /// Its processes have the shards that ship, with viewers.
    pub(super) is_real: bool,
    pub(super) viewers: Vec<Viewer>,
    /// Tokens and requests of viewers.
    pub(super) tokens: u64,
    pub(super) requests: u64,
    /// Who used each token first: process, shard, claim.
    pub(super) uses: HashMap<TokenId, (u64, usize, u64)>,
    /// What was granted of the account's rate.
    pub(super) account: Account,
    /// Viewers ask.
    pub(super) talks: bool,
    /// Requests a second.
    pub(super) rate: usize,
    /// Until when things go wrong.
    pub(super) harmed: Tick,
    /// Until when no process begins.
    pub(super) away: Tick,
    events: BTreeMap<(Tick, u64), Event>,
    scheduled: u64,
    pub(super) lives: u64,
    pub(super) reads: u64,
}

/// What a world saw.
#[derive(Debug, Default, Clone)]
pub struct Counts {
    /// Faults.
    pub faults: Tally,
    /// Requests, records, takeovers.
    pub seen: Seen,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.faults += other.faults;
        self.seen += other.seen;
    }
}

impl World {
    /// Makes the world of a seed.
    pub fn of_seed(seed: u64) -> Self {
        Self::planted(seed, None)
    }

    /// Makes the world of a seed in which a part is broken: the oracle must see it.
    pub fn planted(seed: u64, planted: Option<Planted>) -> Self {
        let mut chaos = Chaos::new(Dice::seed(seed));
        let count = [1, 6, 24][chaos.dice.below(3)];
        let rooms = (0..count).map(|room| RoomId::from_random(u128::from(seed) << 40 | room));
        let mut world = Self {
            now: start(),
            broker: Broker::new(HASH_SLOTS),
            oracle: Oracle::new(HASH_SLOTS),
            nodes: (0..NODES).map(Node::new).collect(),
            rooms: rooms.collect(),
            ids: FrameIds::seeded(seed),
            planted,
            is_real: false,
            viewers: Vec::new(),
            tokens: 0,
            requests: 0,
            uses: HashMap::new(),
            account: Account::new(seed, planted),
            talks: true,
            rate: [5, 40, 200][chaos.dice.below(3)],
            harmed: start().tick.after(CHAOS),
            away: start().tick,
            events: BTreeMap::new(),
            scheduled: 0,
            lives: 0,
            reads: 0,
            chaos,
        };
        for node in 0..NODES {
            if world.chaos.strikes(Fault::ClockSkewed) {
                world.nodes[node].skew = world.skew();
            }
            let pause = world.below(2_000);
            world.later(pause, Event::Start(node));
        }
        world.later(Duration::from_millis(50), Event::Say);
        world.later(Duration::from_millis(100), Event::Harm);
        world
    }

    /// Makes the world of a seed whose processes have the shards that ship, two each, and viewers.
    pub fn with_cores(seed: u64, planted: Option<Planted>) -> Self {
        let mut world = Self::planted(seed, planted);
        world.is_real = true;
        world.later(Duration::from_millis(60), Event::Stir);
        world
    }

    /// Lives it from beginning to end, and returns what it saw.
    ///
    /// # Panics
    ///
    /// If a promise is broken.
    pub fn run(mut self) -> Counts {
        while self.now.tick < self.harmed {
            self.pass(self.harmed.since(self.now.tick));
        }
        self.calm();
        self.pass(CALM);
        let (drawn, alone) = self.account.check(&self.oracle);
        self.oracle.counts.drawn += drawn;
        self.oracle.counts.alone += alone;
        self.lift_rates();
        self.check_settled();
        if self.is_real {
            self.check_streams();
        } else {
            self.check_service();
            self.oracle.check_archives(&self.broker);
        }
        let takeovers = self.oracle.counts.takeovers;
        assert!(
            takeovers <= TAKEOVERS_MAX * HASH_SLOTS as u64,
            "{takeovers} takeovers"
        );
        Counts {
            faults: self.chaos.tally(),
            seen: self.oracle.counts,
        }
    }

    /// Whether a part is broken, and by now.
    pub(super) fn plants(&mut self, planted: Planted) -> bool {
        let is_time = self.now.tick.since(start().tick) > PLANTED_AFTER;
        self.planted == Some(planted)
            && is_time
            && (planted.is_constant() || self.chaos.dice.once_in(10))
    }

    /// Draws a time below this many microseconds.
    pub(super) fn below(&mut self, micros: usize) -> Duration {
        Duration::from_micros(self.chaos.dice.below(micros) as u64)
    }

    pub(super) fn at(&mut self, at: Tick, event: Event) {
        self.scheduled += 1;
        self.events.insert((at, self.scheduled), event);
    }

    pub(super) fn later(&mut self, pause: Duration, event: Event) {
        self.at(self.now.tick.after(pause), event);
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now.tick.after(time);
        while let Some(next) = self.events.first_entry() {
            let at = next.key().0;
            if at > end {
                break;
            }
            let event = next.remove();
            self.advance(at);
            self.happen(event);
        }
        self.advance(end);
    }

    fn advance(&mut self, to: Tick) {
        let passed = to.since(self.now.tick);
        self.now = Now {
            tick: to.max(self.now.tick),
            unix: self.now.unix.after(passed),
        };
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Input(node, life, input) if self.nodes[node].is(life) => self.feed(node, input),
            Event::Due(node, life) if self.nodes[node].is(life) => self.tick(node),
            Event::Shard(node, life, shard) if self.nodes[node].is(life) => {
                self.run_shard(node, shard);
            }
            Event::Turn(node, life) if self.nodes[node].is(life) => self.turn(node),
            Event::Freeze(node, life) if self.nodes[node].is(life) => self.freeze(node),
            // The process has ended.
            Event::Input(..)
            | Event::Due(..)
            | Event::Shard(..)
            | Event::Turn(..)
            | Event::Freeze(..) => {}
            Event::Arrive(append) => self.arrive(append),
            Event::Commit(append, proposal) => self.commit(append, proposal),
            Event::Outcome(append, outcome) => self.outcome(append, outcome),
            Event::Read(asking) => self.read(asking),
            Event::Fetched(asking, found) => self.fetched(asking, found),
            Event::Start(node) => self.start(node),
            Event::Drained(node, life, ends) => self.drained(node, life, ends),
            Event::Use(using) => self.use_token(using),
            Event::Archived(node, life) => self.archived(node, life),
            Event::Stir => self.stir(),
            Event::Say => self.say(),
            Event::Harm => self.trouble(),
        }
    }

    /// Draws the incarnation of a node's next process.
    pub(super) fn incarnation(&mut self, node: usize) -> (u64, EngineSettings) {
        self.lives += 1;
        let id = self.lives << 32 | node as u64;
        let settings = EngineSettings {
            me: Incarnation::new(id),
            about: About {
                name: self.nodes[node].name.as_str().into(),
                ..About::default()
            },
            linger: LINGER,
        };
        (id, settings)
    }

    /// A process begins on a node.
    fn start(&mut self, node: usize) {
        if self.nodes[node].life.is_some() {
            return;
        }
        if self.now.tick < self.away {
            return self.at(self.away, Event::Start(node));
        }
        let (id, settings) = self.incarnation(node);
        let now = self.nodes[node].read(self.now);
        let cores = self.is_real.then(|| Cores::new(&self.rooms, id, now));
        self.nodes[node].life = Some(Life {
            id,
            engine: Engine::new(settings, now),
            due: None,
            shards: [Shard::default(), Shard::default()],
            cores,
            turn: None,
            appends: BTreeSet::new(),
            reads: BTreeSet::new(),
            tickets: 0,
            answers: Tick::default(),
            archives: Tick::default(),
            archiving: VecDeque::new(),
            drains: false,
            freeze: Freeze::default(),
            alone: 0,
        });
        self.feed(node, Input::Rates(self.account.rates()));
        self.drain(node);
        if self.is_real {
            self.wake_cores(node);
        }
        let pause = self.below(3_000_000);
        let ready = Facts {
            is_ready: true,
            ..Facts::default()
        };
        self.later(pause, Event::Input(node, id, Input::Facts(ready)));
    }

    /// Gives an engine its time.
    fn tick(&mut self, node: usize) {
        let now = self.now.tick;
        if self.nodes[node].paused.is_some() {
            return;
        }
        let life = self.nodes[node].life();
        if life.due.is_some_and(|due| due <= now) {
            life.due = None;
            self.feed(node, Input::Tick);
        }
    }

    /// Gives an engine an input, now or when it runs again.
    pub(super) fn feed(&mut self, node: usize, input: Input) {
        let now = self.nodes[node].read(self.now);
        let machine = &mut self.nodes[node];
        if machine.paused.is_some() {
            machine.backlog.push(input);
            return;
        }
        let life = machine.life();
        if life.freeze.is_halted() {
            return life.freeze.hold(input);
        }
        life.engine.input(input, now);
        self.drain(node);
    }

    /// Does what an engine wants.
    pub(super) fn drain(&mut self, node: usize) {
        let mut count = 0;
        while let Some(output) = self.nodes[node].life().engine.next_output() {
            self.output(node, output);
            count += 1;
            assert!(count < OUTPUTS_MAX, "the engine never rests");
        }
        let now = self.now.tick;
        let life = self.nodes[node].life();
        let id = life.id;
        let Some(due) = life.engine.due() else { return };
        let due = due.max(now);
        if life.due.is_none_or(|known| known > due) {
            life.due = Some(due);
            self.at(due, Event::Due(node, id));
        }
    }

    fn output(&mut self, node: usize, output: Output) {
        match output {
            Output::Append {
                slot,
                expected,
                attempt,
                payload,
                entries: _,
            } => self.append(node, (slot.index(), attempt), expected.0, payload),
            Output::Fetch { slot, from } => self.fetch(node, slot.index(), from),
            Output::Send { to, payload } => self.send(node, to, payload),
            Output::Here(payload) => self.here(node, &payload),
            Output::Author { key, ask } => {
                let authoring = Authoring { key, ask };
                self.granted(node, &authoring);
                self.ask_shard(node, authoring);
            }
            Output::Deliver {
                slot,
                sequence,
                is_home_here,
                entries,
                epoch,
            } => {
                let how = (epoch, is_home_here);
                if is_home_here && !self.is_real {
                    self.archive(node, (slot, epoch, sequence), &entries);
                }
                self.deliver(node, (slot.index(), sequence.0), how, &entries);
            }
            Output::Unarchived {
                slot,
                epoch,
                sequence,
                entries,
            } => self.archive(node, (slot, epoch, sequence), &entries),
            Output::Told {
                ticket,
                outcome,
                sent,
            } => {
                self.told(node, ticket, &outcome);
                if self.is_real {
                    self.tell_asker(node, ticket, (outcome, sent));
                }
            }
            // No control plane is here.
            Output::Charged { .. } => {}
            Output::Fenced { slot, epoch } => self.fenced(node, slot, epoch),
            Output::Skipped { slot, cause, .. } => {
                assert_ne!(cause, SkipCause::Unreadable, "all records can be read");
                let life = self.nodes[node].life().id;
                self.oracle.skipped(life, slot.index());
            }
        }
    }
}
