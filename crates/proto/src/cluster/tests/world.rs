//! A tiny cluster in memory: logs with conditions, a bus that loses, delays and repeats, nodes that stop and die.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::base::clock::{Now, Tick, UnixTime};
use crate::base::id::{FrameId, RoomId};
use crate::chat::ErrorCode;
use crate::cluster::engine::{
    AppendOutcome, Engine, EngineSettings, FetchFrom, Fetched, Input, MessageRates, Outcome,
    Output, Ticket,
};
use crate::cluster::here::{About, Facts};
use crate::cluster::message::{Ask, AskKind, AskTexts};
use crate::cluster::record::{Content, Entry, Record};
use crate::cluster::{Epoch, HashSlot, Incarnation, Sequence};
use crate::extension::Speaker;

/// What goes wrong, in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    /// Of republished records and of messages: lost, and sent twice.
    pub lost: u32,
    /// Of appends and reads: no answer, whether it happened or not.
    pub unanswered: u32,
    /// Of conditions: refused although they hold.
    pub refused: u32,
    /// Of appends: they arrive long after they were given up.
    pub late: u32,
}

enum Event {
    To(usize, Incarnation, Input),
    Append {
        node: usize,
        from: Incarnation,
        slot: HashSlot,
        expected: Sequence,
        attempt: u64,
        payload: Bytes,
        answered: bool,
    },
    Fetch(usize, Incarnation, HashSlot, FetchFrom),
}

pub(super) struct Node {
    pub engine: Engine,
    /// Frames by hash slot, with their record.
    pub delivered: HashMap<HashSlot, Vec<(Sequence, FrameId)>>,
    pub fenced: Vec<(HashSlot, Epoch)>,
    pub unarchived: Vec<(HashSlot, Sequence)>,
    pub skipped: u32,
    is_alive: bool,
    stopped_until: Tick,
    // Stopped for these inputs' sake.
    waiting: Vec<Input>,
    isolated: bool,
}

pub(super) struct World {
    pub random: fastrand::Rng,
    pub now: Now,
    pub nodes: Vec<Node>,
    pub logs: BTreeMap<HashSlot, Vec<(Sequence, Bytes)>>,
    pub faults: Faults,
    /// Whether brokers have a quorum.
    pub quorum: bool,
    pub told: HashMap<Ticket, Outcome>,
    pub asked: HashMap<Ticket, (usize, Incarnation, HashSlot, FrameId, Tick)>,
    pub refuse: u32,
    /// When requests went to shards.
    pub authored: Vec<Tick>,
    /// Calls of the API, and whether they are within their rate.
    pub charged: Vec<(Ticket, bool)>,
    /// Of the account.
    pub rates: MessageRates,
    last: u64,
    events: BinaryHeap<Reverse<(Tick, u64, usize)>>,
    payloads: HashMap<usize, Event>,
    count: u64,
    // The bus keeps the order of one sender to one receiver, and of records to one node.
    arrivals: HashMap<(usize, usize), Tick>,
    pub incarnations: u64,
    buffer: BytesMut,
}

const MS: u64 = 1_000_000;

impl World {
    pub(super) fn new(seed: u64, nodes: usize) -> Self {
        let now = Now {
            tick: Tick::from_nanos(MS),
            unix: UnixTime::from_secs(1_000_000),
        };
        let mut world = Self {
            random: fastrand::Rng::with_seed(seed),
            now,
            nodes: Vec::new(),
            logs: BTreeMap::new(),
            faults: Faults::default(),
            quorum: true,
            told: HashMap::new(),
            asked: HashMap::new(),
            refuse: 0,
            authored: Vec::new(),
            charged: Vec::new(),
            rates: MessageRates::default(),
            last: 0,
            events: BinaryHeap::new(),
            payloads: HashMap::new(),
            count: 0,
            arrivals: HashMap::new(),
            incarnations: 0,
            buffer: BytesMut::new(),
        };
        for node in 0..nodes {
            let started = world.start(node);
            world.nodes.push(started);
        }
        world
    }

    fn start(&mut self, node: usize) -> Node {
        self.incarnations += 1;
        let settings = EngineSettings {
            me: Incarnation::new(self.incarnations << 8),
            about: About {
                name: format!("chat-{node}").into(),
                ..About::default()
            },
            linger: Duration::from_millis(5),
        };
        let mut engine = Engine::new(settings, self.now);
        let facts = Facts {
            is_ready: true,
            ..Facts::default()
        };
        engine.input(Input::Facts(facts), self.now);
        engine.input(Input::Rates(self.rates), self.now);
        Node {
            engine,
            delivered: HashMap::new(),
            fenced: Vec::new(),
            unarchived: Vec::new(),
            skipped: 0,
            is_alive: true,
            stopped_until: Tick::default(),
            waiting: Vec::new(),
            isolated: false,
        }
    }

    /// Begins a new run of a node, after the old one was killed.
    pub(super) fn restart(&mut self, node: usize) {
        self.nodes[node] = self.start(node);
    }

    pub(super) fn kill(&mut self, node: usize) {
        self.nodes[node].is_alive = false;
    }

    pub(super) fn is_alive(&self, node: usize) -> bool {
        self.nodes[node].is_alive
    }

    /// Stops a process for a while: inputs wait for it.
    pub(super) fn stop(&mut self, node: usize, for_millis: u64) {
        self.nodes[node].stopped_until = self.now.tick.after(Duration::from_millis(for_millis));
    }

    /// Cuts a node off from the brokers, or lets it back.
    pub(super) fn isolate(&mut self, node: usize, isolated: bool) {
        let before = std::mem::replace(&mut self.nodes[node].isolated, isolated);
        if before && !isolated {
            self.input(node, Input::Interrupted);
        }
    }

    pub(super) fn room(number: u8) -> RoomId {
        RoomId::from_random(u128::from(number) + 1)
    }

    pub(super) fn ask(&mut self, node: usize, room: u8) -> Option<Ticket> {
        if !self.nodes[node].is_alive || self.nodes[node].stopped_until > self.now.tick {
            return None;
        }
        let ticket = Ticket(u64::try_from(self.asked.len()).expect("few"));
        let (room, id) = (Self::room(room), FrameId::from_random(self.random.u128(..)));
        let ask = Ask {
            room,
            id,
            kind: AskKind::SendMessage,
            is_from_api: false,
            speaker: Speaker::default(),
            is_exempt: false,
            texts: AskTexts::new(&mut self.buffer, ["hello", "null", "", "{}", ""]),
        };
        let me = self.nodes[node].engine.me();
        let asked = (node, me, HashSlot::of(room), id, self.now.tick);
        self.asked.insert(ticket, asked);
        self.input(node, Input::Ask { ticket, ask });
        Some(ticket)
    }

    fn chance(&mut self, thousandths: u32) -> bool {
        self.random.u32(0..1000) < thousandths
    }

    fn at(&mut self, at: Tick, event: Event) {
        self.count += 1;
        let key = usize::try_from(self.count).expect("64 bits");
        self.payloads.insert(key, event);
        self.events.push(Reverse((at, self.count, key)));
    }

    fn after(&mut self, millis: std::ops::Range<u64>) -> Tick {
        let nanos = self.random.u64(millis.start * MS..millis.end * MS);
        self.now.tick.after(Duration::from_nanos(nanos))
    }

    /// In the order of one sender to one receiver.
    fn in_order(&mut self, from: usize, to: usize, millis: std::ops::Range<u64>) -> Tick {
        let at = self.after(millis);
        let last = self.arrivals.entry((from, to)).or_default();
        *last = at.max(*last);
        *last
    }

    /// Hands an input to a node, and acts on what it wants.
    pub(super) fn input(&mut self, node: usize, input: Input) {
        let now = self.now;
        let state = &mut self.nodes[node];
        if !state.is_alive {
            return;
        }
        if state.stopped_until > now.tick {
            state.waiting.push(input);
            return;
        }
        state.engine.input(input, now);
        while let Some(output) = self.nodes[node].engine.next_output() {
            self.act(node, output);
        }
    }

    fn act(&mut self, node: usize, output: Output) {
        let from = self.nodes[node].engine.me();
        let isolated = self.nodes[node].isolated;
        match output {
            Output::Append {
                slot,
                expected,
                attempt,
                payload,
                entries: _,
            } => self.send_append(node, (slot, expected, attempt, payload)),
            Output::Fetch { slot, from: what } => {
                if isolated || self.chance(self.faults.unanswered) || !self.quorum {
                    let found = None;
                    let from_what = what;
                    let at = self.after(200..1000);
                    let input = Input::Fetched {
                        slot,
                        from: from_what,
                        found,
                    };
                    self.at(at, Event::To(node, from, input));
                } else {
                    let at = self.after(1..4);
                    self.at(at, Event::Fetch(node, from, slot, what));
                }
            }
            Output::Send { to, payload } => self.send_message(node, to, &payload),
            Output::Here(payload) => {
                for other in 0..self.nodes.len() {
                    let lost =
                        isolated || self.nodes[other].isolated || self.chance(self.faults.lost);
                    if !lost {
                        let at = self.in_order(100 + node, other, 1..3);
                        let me = self.nodes[other].engine.me();
                        self.at(at, Event::To(other, me, Input::Here(payload.clone())));
                    }
                }
            }
            Output::Author { key, ask } => {
                self.authored.push(self.now.tick);
                let at = self.after(0..2);
                let input = if self.chance(self.refuse) {
                    let (code, text) = (ErrorCode::TooManyRequests, "rate".into());
                    Input::RefusedByShard { key, code, text }
                } else {
                    let entry = Entry {
                        origin: key.origin,
                        number: key.number,
                        room: ask.room,
                        sent: self.now.unix,
                        is_urgent: false,
                        eviction: None,
                        frame: Bytes::copy_from_slice(ask.id.as_bytes()),
                    };
                    let (slot, epoch) = (key.slot, key.epoch);
                    Input::Authored { slot, epoch, entry }
                };
                self.at(at, Event::To(node, from, input));
            }
            Output::Deliver {
                slot,
                epoch,
                sequence,
                entries,
                is_home_here,
            } => {
                let delivered = self.nodes[node].delivered.entry(slot).or_default();
                delivered.extend(entries.iter().map(|entry| (sequence, frame_id(entry))));
                if is_home_here {
                    let input = Input::Archived {
                        slot,
                        epoch,
                        sequence,
                    };
                    self.at(self.now.tick, Event::To(node, from, input));
                }
            }
            Output::Unarchived { slot, sequence, .. } => {
                self.nodes[node].unarchived.push((slot, sequence));
            }
            Output::Told {
                ticket, outcome, ..
            } => {
                let before = self.told.insert(ticket, outcome);
                assert_eq!(before, None, "{ticket:?} was told twice");
            }
            Output::Charged { ticket, is_granted } => self.charged.push((ticket, is_granted)),
            Output::Fenced { slot, epoch } => self.nodes[node].fenced.push((slot, epoch)),
            Output::Skipped { .. } => self.nodes[node].skipped += 1,
        }
    }

    fn send_append(
        &mut self,
        node: usize,
        (slot, expected, attempt, payload): (HashSlot, Sequence, u64, Bytes),
    ) {
        let from = self.nodes[node].engine.me();
        let late = self.nodes[node].isolated || self.chance(self.faults.late);
        let lost = !self.quorum || self.chance(self.faults.unanswered);
        let refused = self.chance(self.faults.refused) || (!self.quorum && self.random.bool());
        let at = if refused {
            let outcome = AppendOutcome::WrongLast;
            let at = self.after(1..4);
            let input = Input::Appended {
                slot,
                attempt,
                outcome,
            };
            return self.at(at, Event::To(node, from, input));
        } else if late {
            self.after(2_000..9_000)
        } else {
            self.after(1..4)
        };
        let answered = !late && !lost;
        if !answered {
            let outcome = AppendOutcome::Unknown;
            let at = self.after(200..1_500);
            let input = Input::Appended {
                slot,
                attempt,
                outcome,
            };
            self.at(at, Event::To(node, from, input));
        }
        // What was sent before a cut is sent behind it.
        if self.quorum && (!lost || self.random.bool()) {
            self.at(
                at,
                Event::Append {
                    node,
                    from,
                    slot,
                    expected,
                    attempt,
                    payload,
                    answered,
                },
            );
        }
    }

    fn send_message(&mut self, node: usize, to: Incarnation, payload: &Bytes) {
        let target = self.nodes.iter().position(|other| other.engine.me() == to);
        let from = self.nodes[node].engine.me();
        if self.nodes[node].isolated || self.chance(self.faults.lost) {
            return;
        }
        match target.filter(|target| self.nodes[*target].is_alive) {
            Some(target) if self.nodes[target].isolated => {}
            Some(target) => {
                let copies = 1 + usize::from(self.chance(self.faults.lost));
                for _ in 0..copies {
                    let at = self.in_order(node, target, 1..3);
                    self.at(at, Event::To(target, to, Input::Message(payload.clone())));
                }
            }
            None => {
                let at = self.after(2..4);
                self.at(at, Event::To(node, from, Input::NoResponders(to)));
            }
        }
    }

    fn end(&self, slot: HashSlot) -> Sequence {
        let last = self.logs.get(&slot).and_then(|log| log.last());
        last.map_or(Sequence::default(), |(sequence, _)| *sequence)
    }

    fn commit(&mut self, slot: HashSlot, payload: Bytes) -> Sequence {
        self.last += 1;
        let sequence = Sequence(self.last);
        self.logs
            .entry(slot)
            .or_default()
            .push((sequence, payload.clone()));
        for node in 0..self.nodes.len() {
            if self.nodes[node].isolated || self.chance(self.faults.lost) {
                continue;
            }
            let copies = 1 + usize::from(self.chance(self.faults.lost));
            for _ in 0..copies {
                let at = self.in_order(200, node, 1..3);
                let me = self.nodes[node].engine.me();
                let payload = payload.clone();
                let input = Input::Record {
                    slot,
                    sequence,
                    payload,
                };
                self.at(at, Event::To(node, me, input));
            }
        }
        sequence
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::To(node, incarnation, input) => {
                // What was for a run that has ended reaches nobody.
                if self.nodes[node].engine.me() == incarnation {
                    self.input(node, input);
                }
            }
            Event::Append {
                node,
                from,
                slot,
                expected,
                attempt,
                payload,
                answered,
            } => {
                let outcome = if self.end(slot) == expected {
                    AppendOutcome::Ok(self.commit(slot, payload))
                } else {
                    AppendOutcome::WrongLast
                };
                if answered {
                    let at = self.after(1..4);
                    let input = Input::Appended {
                        slot,
                        attempt,
                        outcome,
                    };
                    self.at(at, Event::To(node, from, input));
                }
            }
            Event::Fetch(node, incarnation, slot, from) => {
                let log = self.logs.get(&slot).cloned().unwrap_or_default();
                let mut records: Vec<_> = match from {
                    FetchFrom::Last => log.last().cloned().into_iter().collect(),
                    FetchFrom::After(after) => log
                        .into_iter()
                        .filter(|(sequence, _)| *sequence > after)
                        .collect(),
                };
                let is_complete = records.len() <= 20;
                records.truncate(20);
                let found = Fetched {
                    records,
                    is_complete,
                    last: self.end(slot),
                };
                let found = Some(found);
                let at = self.after(1..3);
                let input = Input::Fetched { slot, from, found };
                self.at(at, Event::To(node, incarnation, input));
            }
        }
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, millis: u64) {
        let end = self.now.tick.after(Duration::from_millis(millis));
        loop {
            let event = self.events.peek().map(|Reverse((at, ..))| *at);
            let mut next = event.unwrap_or(end);
            for node in &self.nodes {
                if node.is_alive {
                    let due = node.engine.due().map(|due| due.max(node.stopped_until));
                    next = next.min(due.unwrap_or(end));
                    if !node.waiting.is_empty() {
                        next = next.min(node.stopped_until);
                    }
                }
            }
            if next >= end {
                break;
            }
            self.to(next.max(self.now.tick));
            while let Some(Reverse((at, _, key))) = self.events.peek().copied() {
                if at > self.now.tick {
                    break;
                }
                self.events.pop();
                let event = self.payloads.remove(&key).expect("each happens once");
                self.happen(event);
            }
            for node in 0..self.nodes.len() {
                let state = &mut self.nodes[node];
                if state.stopped_until > self.now.tick || !state.is_alive {
                    continue;
                }
                for input in std::mem::take(&mut state.waiting) {
                    self.input(node, input);
                }
                if self.nodes[node]
                    .engine
                    .due()
                    .is_some_and(|due| due <= self.now.tick)
                {
                    self.input(node, Input::Tick);
                }
            }
        }
        self.to(end);
    }

    fn to(&mut self, tick: Tick) {
        self.now.unix = self.now.unix.after(tick.since(self.now.tick));
        self.now.tick = tick;
    }

    /// Lets a log forget all its records but the newest ones.
    pub(super) fn forget(&mut self, slot: HashSlot, keep: usize) {
        if let Some(log) = self.logs.get_mut(&slot) {
            log.drain(..log.len().saturating_sub(keep));
        }
    }

    /// The home of a hash slot, as its log says.
    pub(super) fn home(&self, slot: HashSlot) -> Option<Incarnation> {
        let log = self.logs.get(&slot)?;
        let record = Record::decode(&log.last()?.1).expect("ours");
        match record.content {
            Content::Takeover { home, .. } => Some(home),
            Content::Batch(batch) => Some(batch.home),
            Content::Release { .. } => None,
        }
    }

    /// Index of the node that is the home.
    pub(super) fn home_node(&self, slot: HashSlot) -> Option<usize> {
        let home = self.home(slot)?;
        self.nodes.iter().position(|node| node.engine.me() == home)
    }

    /// The frames of a log, in order.
    pub(super) fn frames(&self, slot: HashSlot) -> Vec<(Sequence, FrameId)> {
        let mut frames = Vec::new();
        for (sequence, payload) in self.logs.get(&slot).into_iter().flatten() {
            if let Content::Batch(batch) = Record::decode(payload).expect("ours").content {
                let real = batch.entries.iter().filter(|entry| !entry.frame.is_empty());
                frames.extend(real.map(|entry| (*sequence, frame_id(entry))));
            }
        }
        frames
    }
}

fn frame_id(entry: &Entry) -> FrameId {
    let bytes = (&*entry.frame).try_into().expect("an id");
    FrameId::from_bytes(bytes).expect("an id")
}
