//! Messages and heartbeats between nodes: at most once, in order from each sender at best.

use std::time::Duration;

use bytes::Bytes;
use uproar_proto::cluster::Incarnation;
use uproar_proto::cluster::engine::Input;

use super::fault::Fault;
use super::granted::inflated;
use super::link::Lane;
use super::planted::Planted;
use super::world::{Event, World};

impl World {
    /// A process sends a message to another one.
    pub(super) fn send(&mut self, from: usize, to: Incarnation, payload: Bytes) {
        let now = self.now.tick;
        if self.plants(Planted::NoMessages) || self.chaos.strikes(Fault::MessageLost) {
            return;
        }
        let payload = if self.plants(Planted::GrantsInflated) {
            inflated(payload)
        } else {
            payload
        };
        let delay = Duration::from_micros(50) + self.below(300);
        let Some(at_broker) = self.nodes[from].link.up(now, delay) else {
            return;
        };
        let mut nodes = self.nodes.iter();
        let Some(node) = nodes.position(|node| node.is(to.bits())) else {
            self.no_responders(from, to, at_broker.since(now));
            return;
        };
        let noticed = self.nodes[node].link.is_noticed(now);
        if noticed || self.chaos.strikes(Fault::NoResponders) {
            self.no_responders(from, to, at_broker.since(now));
            return;
        }
        let mut delay = at_broker.since(now) + Duration::from_micros(50) + self.below(300);
        if self.chaos.strikes(Fault::MessageLate) {
            delay += self.below(1_500_000);
        }
        let Some(mut at) = self.nodes[node].link.down(Lane::Rest, now, delay) else {
            return;
        };
        if self.chaos.strikes(Fault::MessageReordered) {
            at = at.after(self.below(300_000));
        }
        self.at(at, Event::Input(node, to.bits(), Input::Message(payload)));
    }

    /// Brokers tell a sender that nobody takes messages for a process.
    fn no_responders(&mut self, from: usize, to: Incarnation, after: Duration) {
        let delay = after + Duration::from_micros(50) + self.below(3_000);
        let now = self.now.tick;
        let life = self.nodes[from].life().id;
        if let Some(at) = self.nodes[from].link.down(Lane::Rest, now, delay) {
            self.at(at, Event::Input(from, life, Input::NoResponders(to)));
        }
    }

    /// A process tells everybody, itself included, that it lives.
    pub(super) fn here(&mut self, from: usize, payload: &Bytes) {
        let now = self.now.tick;
        let delay = Duration::from_micros(50) + self.below(300);
        let Some(at_broker) = self.nodes[from].link.up(now, delay) else {
            return;
        };
        for node in 0..self.nodes.len() {
            let Some(life) = self.nodes[node].life.as_ref().map(|life| life.id) else {
                continue;
            };
            let is_deaf = node != from && now < self.nodes[node].deaf;
            if is_deaf || self.chaos.strikes(Fault::HereLost) {
                continue;
            }
            let delay = at_broker.since(now) + Duration::from_micros(50) + self.below(300);
            if let Some(at) = self.nodes[node].link.down(Lane::Rest, now, delay) {
                self.at(at, Event::Input(node, life, Input::Here(payload.clone())));
            }
        }
    }
}
