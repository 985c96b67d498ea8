//! What viewers ask, what they are told, and what must be true once nothing goes wrong any more.

use std::time::Duration;

use bytes::BytesMut;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{CLUSTER_KEPT_BYTES_MAX, CLUSTER_KEPT_MAX, HASH_SLOTS};
use uproar_proto::cluster::engine::{Input, Outcome, Ticket};
use uproar_proto::cluster::message::{Ask, AskKind, AskTexts};
use uproar_proto::extension::Speaker;

use super::oracle::Ended;
use super::planted::Planted;
use super::world::{Event, World};

/// A request ends within this much more than its bound.
const LATE: Duration = Duration::from_secs(1);
/// Bytes that an engine's own probes take.
const PROBES: usize = 1_000;
/// A healthy cluster ends all requests within this time.
const PROMPT: Duration = Duration::from_secs(3);

impl World {
    /// A viewer asks, or an application does.
    pub(super) fn say(&mut self) {
        if !self.talks || self.is_real {
            return;
        }
        let pause = self.below(2_000_000 / self.rate);
        self.later(pause, Event::Say);
        let node = self.chaos.dice.below(self.nodes.len());
        let machine = &self.nodes[node];
        if machine.life.is_none() || machine.paused.is_some() {
            return;
        }
        let room = self.chaos.dice.pick(&self.rooms).expect("a room");
        // Now and then many at once, and long ones.
        let (count, chars) = match self.chaos.dice.below(300) {
            0 => (1 + self.chaos.dice.below(60), 20_000),
            1 => (1 + self.chaos.dice.below(300), 10),
            _ => (1, 40),
        };
        for _ in 0..count {
            self.ask(node, room, chars);
        }
    }

    /// A viewer on a node asks something about a room.
    pub(super) fn ask(&mut self, node: usize, room: RoomId, chars: usize) {
        let kinds = [
            AskKind::SendMessage,
            AskKind::SendMessage,
            AskKind::SendMessage,
            AskKind::Event,
            AskKind::DeleteMessage,
            AskKind::DisconnectUser,
        ];
        let kind = self.chaos.dice.pick(&kinds).expect("a kind");
        let id = self.ids.next_id();
        let chars = 1 + self.chaos.dice.below(chars);
        let content = "x".repeat(chars);
        let ask = Ask {
            room,
            id,
            kind,
            is_from_api: kind == AskKind::Event,
            speaker: Speaker::default(),
            is_exempt: false,
            texts: AskTexts::new(&mut BytesMut::new(), [&content, "", "", "{}", ""]),
        };
        let now = self.now.tick;
        let life = self.nodes[node].life();
        life.tickets += 1;
        let (life, ticket) = (life.id, life.tickets);
        self.oracle.asked(life, ticket, id, now);
        let ticket = Ticket(ticket);
        if self.plants(Planted::ToldEarly) {
            self.told(node, ticket, &Outcome::Committed);
        }
        self.feed(node, Input::Ask { ticket, ask });
    }

    /// A process tells how a request ended.
    pub(super) fn told(&mut self, node: usize, Ticket(ticket): Ticket, outcome: &Outcome) {
        let life = self.nodes[node].life().id;
        let ended = match outcome {
            Outcome::Committed if self.plants(Planted::ToldRefused) => Ended::Refused,
            Outcome::Committed => Ended::Committed,
            Outcome::Refused(..) => Ended::Refused,
            Outcome::Unknown => Ended::Unknown,
        };
        if self.plants(Planted::NotTold) {
            return;
        }
        let twice = self.plants(Planted::ToldTwice);
        for _ in 0..=usize::from(twice) {
            self.oracle.told(life, ticket, ended);
        }
    }

    /// Checks the bounds of a process.
    pub(super) fn check_bounds(&self, node: usize) {
        let machine = &self.nodes[node];
        let Some(life) = &machine.life else { return };
        if machine.paused.is_some() {
            return;
        }
        let status = life.engine.status();
        let kept = status.kept_bytes;
        assert!(
            kept <= CLUSTER_KEPT_BYTES_MAX,
            "{kept} B of requests are kept"
        );
        let now = self.now.tick;
        let oldest = self.oracle.oldest_open(life.id, now);
        let bound = CLUSTER_KEPT_MAX + LATE;
        let awake = now.since(machine.woke);
        assert!(
            awake < LATE || oldest.is_none_or(|age| age <= bound),
            "a request has waited for {oldest:?}"
        );
    }

    /// Checks that all processes agree where each slot is at home, as the log does, and that all requests have ended.
    pub(super) fn check_settled(&mut self) {
        self.talks = false;
        self.pass(CLUSTER_KEPT_MAX + LATE);
        let before = self.oracle.counts.takeovers;
        self.pass(PROMPT);
        assert_eq!(
            self.oracle.counts.takeovers, before,
            "slots move without cause"
        );
        for node in &self.nodes {
            let life = node.life.as_ref().expect("all run");
            let open = self.oracle.oldest_open(life.id, self.now.tick);
            assert_eq!(open, None, "a request of {} never ends", node.name);
            let status = life.engine.status();
            let kept = (status.kept_bytes, status.authored_bytes);
            let is_empty = kept.0 < PROBES && kept.1 < PROBES;
            assert!(is_empty, "{kept:?} B are kept at {}", node.name);
            for slot in 0..HASH_SLOTS {
                let known = status.slots[slot]
                    .home
                    .map(uproar_proto::cluster::Incarnation::bits);
                let home = self.oracle.home(slot);
                let lives = self
                    .nodes
                    .iter()
                    .any(|node| home.is_some_and(|home| node.is(home)));
                assert!(lives, "slot {slot} has no home that lives: {home:?}");
                assert_eq!(
                    known, home,
                    "{} knows another home of slot {slot}",
                    node.name
                );
            }
        }
    }

    /// Checks that requests of each node in each room are in the log soon, and delivered everywhere.
    pub(super) fn check_service(&mut self) {
        let before = self.oracle.counts.committed;
        let mut asked = 0;
        for _ in 0..3 {
            for node in 0..self.nodes.len() {
                for room in self.rooms.clone() {
                    self.ask(node, room, 40);
                    asked += 1;
                }
            }
            self.pass(Duration::from_millis(300));
        }
        self.pass(PROMPT);
        let committed = self.oracle.counts.committed - before;
        assert_eq!(committed, asked, "a healthy cluster takes all requests");
        for node in &self.nodes {
            let life = node.life.as_ref().expect("all run");
            self.oracle.check_current(life.id, &self.broker);
        }
    }
}
