//! Nodes that are the engines that ship, on a log that is a model: appends and messages take their time, and never fail.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use uproar_proto::base::clock::{Now, Tick, UnixTime};
use uproar_proto::base::id::{FrameId, FrameIds, RoomId};
use uproar_proto::base::limits::HASH_SLOTS;
use uproar_proto::cluster::engine::{
    AppendOutcome, Engine, EngineSettings, FetchFrom, Fetched, Input, Output, RequestKey, Ticket,
};
use uproar_proto::cluster::here::{About, Facts};
use uproar_proto::cluster::message::{Ask, AskKind, AskTexts};
use uproar_proto::cluster::record::Entry;
use uproar_proto::cluster::{HashSlot, Incarnation, Sequence};
use uproar_proto::extension::Speaker;

/// From a process to the brokers, or from them to a process: a tenth of a millisecond within a data centre, and theirs.
const HOP: Duration = Duration::from_micros(200);
/// From an append's arrival to its quorum, with `sync_interval: always` on an idle stream: docs/results/2026-11.md, "A
/// cluster".
const COMMIT: Duration = Duration::from_micros(1_800);
/// What of both is by chance, in addition.
const JITTER: Duration = Duration::from_micros(400);
/// Until brokers say that nobody takes a message: measured 2 to 4 ms after a SIGKILL.
const NO_RESPONDERS: Duration = Duration::from_millis(3);
/// Collecting, as `cluster.linger_ms`.
const LINGER: Duration = Duration::from_millis(1);
/// Longest time until each hash slot has the home that it shall have.
const SETTLE_MAX: Duration = Duration::from_mins(2);

/// What happens at a moment.
enum Event {
    Input(usize, Box<Input>),
    Due(usize),
    Append {
        node: usize,
        slot: HashSlot,
        attempt: u64,
        expected: Sequence,
        payload: Bytes,
    },
    Fetch {
        node: usize,
        slot: HashSlot,
        from: FetchFrom,
    },
    Say,
}

/// A message that was said.
struct Said {
    at: Tick,
    node: usize,
    room: usize,
    /// How often each node heard it, and when first.
    heard: Vec<(u32, Tick)>,
}

/// One node.
struct Node {
    /// `None`: it was killed.
    engine: Option<Engine>,
    me: Incarnation,
    due: Option<Tick>,
}

/// A world.
pub(super) struct World {
    now: Now,
    nodes: Vec<Node>,
    rooms: Vec<RoomId>,
    logs: Vec<Vec<(Sequence, Bytes)>>,
    events: BTreeMap<(Tick, u64), Event>,
    scheduled: u64,
    chance: fastrand::Rng,
    ids: FrameIds,
    /// Between two messages; `None`: nobody speaks.
    pause: Option<Duration>,
    said: Vec<Said>,
    by_id: HashMap<FrameId, usize>,
    texts: BytesMut,
}

impl World {
    /// Makes nodes that have just started.
    pub(super) fn new(seed: u64, nodes: usize, rooms: usize) -> Self {
        let mut chance = fastrand::Rng::with_seed(seed);
        let now = Now {
            tick: Tick::from_nanos(1_000_000_000),
            unix: UnixTime::from_secs(1_800_000_000),
        };
        let rooms = (0..rooms).map(|_| RoomId::from_random(chance.u128(..)));
        let mut world = Self {
            now,
            rooms: rooms.collect(),
            nodes: Vec::new(),
            logs: vec![Vec::new(); HASH_SLOTS],
            events: BTreeMap::new(),
            scheduled: 0,
            ids: FrameIds::seeded(seed),
            pause: None,
            said: Vec::new(),
            by_id: HashMap::new(),
            texts: BytesMut::new(),
            chance,
        };
        for node in 0..nodes {
            world.start(node);
        }
        world
    }

    fn start(&mut self, node: usize) {
        let me = Incarnation::new(self.chance.u64(..));
        let settings = EngineSettings {
            me,
            about: About {
                name: format!("node-{node}").into(),
                ..About::default()
            },
            linger: LINGER,
        };
        self.nodes.push(Node {
            engine: Some(Engine::new(settings, self.now)),
            me,
            due: None,
        });
        let facts = Facts {
            is_ready: true,
            ..Facts::default()
        };
        self.feed(node, Input::Facts(facts));
    }

    pub(super) fn now(&self) -> Tick {
        self.now.tick
    }

    pub(super) fn since(&self, earlier: Tick) -> Duration {
        self.now.tick.since(earlier)
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

    /// Lets time pass until each node is home of about its share.
    ///
    /// # Panics
    ///
    /// If the engines never come to it, which their own simulation rules out.
    pub(super) fn settle(&mut self) {
        let (begun, share) = (self.now.tick, HASH_SLOTS / self.nodes.len() / 3);
        loop {
            self.pass(Duration::from_secs(1));
            let homes = self.homes();
            let count = |node: &Node| homes.iter().filter(|home| **home == Some(node.me)).count();
            if homes.iter().all(Option::is_some)
                && self.nodes.iter().all(|node| count(node) >= share)
            {
                return;
            }
            assert!(
                self.since(begun) < SETTLE_MAX,
                "the engines do not share the slots"
            );
        }
    }

    /// The homes that the first living node knows.
    fn homes(&self) -> Vec<Option<Incarnation>> {
        let engine = self.nodes.iter().find_map(|node| node.engine.as_ref());
        let engine = engine.expect("one node lives");
        let slots = engine.status().slots;
        slots.iter().map(|slot| slot.home).collect()
    }

    /// From now on this many messages a second are said, at any node in any room.
    pub(super) fn speak(&mut self, rate: f64) {
        self.pause = Some(Duration::from_secs_f64(1.0 / rate));
        self.later(Duration::ZERO, Event::Say);
    }

    pub(super) fn be_silent(&mut self) {
        self.pause = None;
    }

    /// Kills that node; returns it, and the number of its hash slots.
    pub(super) fn kill_home_of_first_room(&mut self) -> (usize, usize) {
        let homes = self.homes();
        let home = homes[HashSlot::of(self.rooms[0]).index()];
        let victim = self.nodes.iter().position(|node| Some(node.me) == home);
        let victim = victim.expect("each slot has a home");
        self.nodes[victim].engine = None;
        (victim, homes.iter().filter(|other| **other == home).count())
    }

    /// Whether a hash slot still has this node as its home.
    pub(super) fn has_homeless(&self, victim: usize) -> bool {
        let dead = Some(self.nodes[victim].me);
        self.homes()
            .iter()
            .any(|home| home.is_none() || *home == dead)
    }

    /// The longest wait for a message said after `from`, of each room at each node but one, ascending.
    pub(super) fn silences(&self, victim: usize, from: Tick) -> Vec<Duration> {
        let mut longest: BTreeMap<(usize, usize), Duration> = BTreeMap::new();
        for said in self.said.iter().filter(|said| said.at >= from) {
            for (node, (count, at)) in said.heard.iter().enumerate() {
                if node != victim && *count > 0 {
                    let longest = longest.entry((said.room, node)).or_default();
                    *longest = (*longest).max(at.since(said.at));
                }
            }
        }
        let mut all: Vec<_> = longest.into_values().collect();
        all.sort_unstable();
        all
    }

    /// Messages said at living nodes; those that did not come to each of them; those that came again.
    pub(super) fn losses(&self, victim: usize) -> (usize, usize, usize) {
        let said = self.said.iter().filter(|said| said.node != victim);
        let (mut all, mut lost, mut repeated) = (0, 0, 0);
        for said in said {
            let living = said
                .heard
                .iter()
                .enumerate()
                .filter(|(node, _)| *node != victim);
            let counts: Vec<u32> = living.map(|(_, (count, _))| *count).collect();
            all += 1;
            lost += usize::from(counts.contains(&0));
            repeated += usize::from(counts.iter().any(|count| *count > 1));
        }
        (all, lost, repeated)
    }

    fn at(&mut self, at: Tick, event: Event) {
        self.scheduled += 1;
        self.events.insert((at, self.scheduled), event);
    }

    fn later(&mut self, delay: Duration, event: Event) {
        self.at(self.now.tick.after(delay), event);
    }

    /// A delay with its part of chance.
    fn about(&mut self, delay: Duration) -> Duration {
        delay + JITTER.mul_f64(self.chance.f64())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Input(node, input) => self.feed(node, *input),
            Event::Due(node) => {
                if self.nodes[node].due.is_some_and(|due| due <= self.now.tick) {
                    self.nodes[node].due = None;
                    self.feed(node, Input::Tick);
                }
            }
            Event::Append {
                node,
                slot,
                attempt,
                expected,
                payload,
            } => self.append(node, (slot, attempt), expected, payload),
            Event::Fetch { node, slot, from } => self.fetch(node, slot, from),
            Event::Say => self.say(),
        }
    }

    fn feed(&mut self, node: usize, input: Input) {
        let now = self.now;
        let Some(engine) = &mut self.nodes[node].engine else {
            return;
        };
        engine.input(input, now);
        while let Some(output) = self.nodes[node]
            .engine
            .as_mut()
            .and_then(Engine::next_output)
        {
            self.output(node, output);
        }
        let own = &mut self.nodes[node];
        let Some(due) = own.engine.as_ref().and_then(Engine::due) else {
            return;
        };
        let due = due.max(now.tick.after(Duration::from_micros(1)));
        if own.due.is_none_or(|known| known > due) {
            own.due = Some(due);
            self.at(due, Event::Due(node));
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
            } => {
                let event = Event::Append {
                    node,
                    slot,
                    attempt,
                    expected,
                    payload,
                };
                let delay = self.about(HOP);
                self.later(delay, event);
            }
            Output::Fetch { slot, from } => {
                let delay = self.about(HOP);
                self.later(delay, Event::Fetch { node, slot, from });
            }
            Output::Send { to, payload } => self.send(node, to, payload),
            Output::Here(payload) => {
                for other in 0..self.nodes.len() {
                    let delay = self.about(2 * HOP);
                    self.input(other, delay, Input::Here(payload.clone()));
                }
            }
            Output::Author { key, ask } => self.author(node, key, &ask),
            Output::Deliver { entries, .. } => self.deliver(node, &entries),
            // No room is logged, senders here do not wait, and nobody calls the API.
            Output::Unarchived { .. }
            | Output::Told { .. }
            | Output::Charged { .. }
            | Output::Fenced { .. }
            | Output::Skipped { .. } => {}
        }
    }

    fn input(&mut self, node: usize, delay: Duration, input: Input) {
        self.later(delay, Event::Input(node, Box::new(input)));
    }

    fn send(&mut self, from: usize, to: Incarnation, payload: Bytes) {
        let to_node = self
            .nodes
            .iter()
            .position(|node| node.me == to && node.engine.is_some());
        match to_node {
            Some(node) => {
                let delay = self.about(2 * HOP);
                self.input(node, delay, Input::Message(payload));
            }
            None => self.input(from, NO_RESPONDERS, Input::NoResponders(to)),
        }
    }

    fn author(&mut self, node: usize, key: RequestKey, ask: &Ask) {
        let number = self.by_id.get(&ask.id).copied();
        let frame = number.map_or_else(Bytes::new, |number| {
            Bytes::copy_from_slice(&number.to_le_bytes())
        });
        let entry = Entry {
            origin: key.origin,
            number: key.number,
            room: ask.room,
            sent: self.now.unix.max(key.not_before),
            is_urgent: false,
            eviction: None,
            frame,
        };
        let (slot, epoch) = (key.slot, key.epoch);
        let authored = Input::Authored { slot, epoch, entry };
        self.input(node, Duration::from_micros(20), authored);
    }

    fn deliver(&mut self, node: usize, entries: &[Entry]) {
        for entry in entries {
            let Ok(number) = <[u8; size_of::<usize>()]>::try_from(&entry.frame[..]) else {
                continue;
            };
            let (count, at) = &mut self.said[usize::from_le_bytes(number)].heard[node];
            if *count == 0 {
                *at = self.now.tick;
            }
            *count += 1;
        }
    }

    /// The log takes a record if its condition holds, and publishes it.
    fn append(
        &mut self,
        node: usize,
        (slot, attempt): (HashSlot, u64),
        expected: Sequence,
        payload: Bytes,
    ) {
        let log = &mut self.logs[slot.index()];
        let last = log.last().map_or(Sequence(0), |(sequence, _)| *sequence);
        let outcome = if last == expected {
            let sequence = Sequence(last.0 + 1);
            log.push((sequence, payload.clone()));
            for other in 0..self.nodes.len() {
                let delay = self.about(COMMIT + HOP);
                let payload = payload.clone();
                let record = Input::Record {
                    slot,
                    sequence,
                    payload,
                };
                self.input(other, delay, record);
            }
            AppendOutcome::Ok(sequence)
        } else {
            AppendOutcome::WrongLast
        };
        let appended = Input::Appended {
            slot,
            attempt,
            outcome,
        };
        let delay = self.about(COMMIT + HOP);
        self.input(node, delay, appended);
    }

    fn fetch(&mut self, node: usize, slot: HashSlot, from: FetchFrom) {
        let log = &self.logs[slot.index()];
        let start = match from {
            FetchFrom::Last => log.len().saturating_sub(1),
            FetchFrom::After(after) => log.partition_point(|(sequence, _)| *sequence <= after),
        };
        let found = Some(Fetched {
            records: log[start..].to_vec(),
            is_complete: true,
            last: log.last().map_or(Sequence(0), |(sequence, _)| *sequence),
        });
        let delay = self.about(HOP);
        self.input(node, delay, Input::Fetched { slot, from, found });
    }

    fn say(&mut self) {
        let Some(pause) = self.pause else { return };
        self.later(pause, Event::Say);
        let living = (0..self.nodes.len()).filter(|node| self.nodes[*node].engine.is_some());
        let living: Vec<usize> = living.collect();
        let node = living[self.chance.usize(..living.len())];
        let room = self.chance.usize(..self.rooms.len());
        let id = self.ids.next_id();
        let number = self.said.len();
        self.by_id.insert(id, number);
        self.said.push(Said {
            at: self.now.tick,
            node,
            room,
            heard: vec![(0, Tick::default()); self.nodes.len()],
        });
        let ask = Ask {
            room: self.rooms[room],
            id,
            kind: AskKind::SendMessage,
            is_from_api: false,
            speaker: Speaker::default(),
            is_exempt: false,
            texts: AskTexts::new(&mut self.texts, ["gooo", "", "", "{}", ""]),
        };
        let ticket = Ticket(number as u64);
        self.feed(node, Input::Ask { ticket, ask });
    }
}
