//! What goes wrong from time to time, and how it ends.

use std::time::Duration;

use uproar_proto::base::limits::CLUSTER_LOG_AGE;
use uproar_proto::cluster::Incarnation;
use uproar_proto::cluster::engine::Input;

use super::broker::{Outage, STREAMS};
use super::fault::Fault;
use super::link::Cut;
use super::world::{CHAOS, Event, World};
use crate::parts::start;

/// How often something may begin.
const STEP: Duration = Duration::from_millis(100);
/// A drained process ends after this.
const DRAIN: Duration = Duration::from_secs(3);

impl World {
    /// Something begins or ends, or not.
    pub(super) fn trouble(&mut self) {
        self.later(STEP, Event::Harm);
        self.broker.age_out(CLUSTER_LOG_AGE, self.now.tick);
        self.brokers_fail();
        self.logs_go();
        let node = self.chaos.dice.below(self.nodes.len());
        self.check_bounds(node);
        self.wake();
        self.links_fail(node);
        self.processes_end(node);
        self.all_go();
        self.pauses(node);
        self.clock_steps(node);
        self.slots_move(node);
    }

    fn seconds(&mut self, least: u64, most: u64) -> Duration {
        let micros = usize::try_from((most - least) * 1_000_000).expect("seconds");
        Duration::from_secs(least) + self.below(micros)
    }

    fn brokers_fail(&mut self) {
        for (fault, outage) in [
            (Fault::NoLeader, Outage::NoLeader),
            (Fault::NoQuorum, Outage::NoQuorum),
        ] {
            if self.chaos.strikes(fault) {
                let until = self.now.tick.after(self.seconds(0, 9));
                let stream = self.chaos.dice.below(STREAMS);
                let all = self.chaos.dice.once_in(4);
                let streams = if all { 0..STREAMS } else { stream..stream + 1 };
                for stream in streams {
                    self.broker
                        .fail(stream, outage, until, &mut self.chaos.dice);
                }
            }
        }
    }

    fn logs_go(&mut self) {
        let stream = self.chaos.dice.below(STREAMS);
        if self.chaos.strikes(Fault::RecordsGone) {
            let share = 1 + self.chaos.dice.below(8) as u64;
            self.broker.forget_oldest(stream, share);
        }
        if self.chaos.strikes(Fault::StreamEmptied) {
            self.broker.empty(stream);
        }
    }

    fn links_fail(&mut self, node: usize) {
        if self.chaos.strikes(Fault::Deaf) {
            let until = self.now.tick.after(self.seconds(3, 10));
            let all = self.chaos.dice.below(2) == 0;
            let deaf = if all {
                0..self.nodes.len()
            } else {
                node..node + 1
            };
            for node in &mut self.nodes[deaf] {
                node.deaf = until;
            }
        }
        for (fault, cut) in [
            (Fault::Partition, Cut::Lost),
            (Fault::Blackout, Cut::Held),
            (Fault::HalfPartition, Cut::Mute),
        ] {
            if self.nodes[node].link.is_whole(self.now.tick) && self.chaos.strikes(fault) {
                let until = self.now.tick.after(self.seconds(0, 8));
                self.nodes[node].link.cut(cut, self.now.tick, until);
                let is_new = cut == Cut::Lost && self.chaos.dice.below(2) == 0;
                if let Some(life) = self.nodes[node].life.as_ref().filter(|_| is_new) {
                    // It has new connections then, and knows it.
                    let life = life.id;
                    self.at(until, Event::Input(node, life, Input::Interrupted));
                    self.at(until, Event::Input(node, life, Input::Reconnected));
                }
            }
        }
    }

    fn processes_end(&mut self, node: usize) {
        if self.nodes[node].life.is_none() {
            return;
        }
        if self.chaos.strikes(Fault::Killed) {
            let pause = self.seconds(0, 10);
            self.kill(node, pause);
        } else if self.chaos.strikes(Fault::KilledShortly) {
            let pause = self.below(200_000);
            self.kill(node, pause);
        } else if self.nodes[node].life().drains || self.nodes[node].paused.is_some() {
            // It is leaving already, or does nothing.
        } else if self.chaos.strikes(Fault::Upgraded) {
            self.begin_upgrade(node);
        } else if self.chaos.strikes(Fault::Drained) {
            let life = self.nodes[node].life();
            life.drains = true;
            let id = life.id;
            self.feed(node, Input::Drain(true));
            let ends = self.chaos.dice.below(3) > 0;
            self.later(DRAIN, Event::Drained(node, id, ends));
        }
    }

    /// All nodes go for longer than logs keep anything, once in a world. What goes wrong besides goes on behind that.
    fn all_go(&mut self) {
        if self.harmed > start().tick.after(CHAOS) {
            return;
        }
        let long = CLUSTER_LOG_AGE + self.seconds(1, 6);
        let until = self.now.tick.after(long);
        if self.chaos.strikes(Fault::AllAway) {
            self.away = until;
            for node in 0..self.nodes.len() {
                self.kill(node, long);
            }
        } else if self.chaos.strikes(Fault::AllCut) {
            for node in 0..self.nodes.len() {
                self.nodes[node].link.cut(Cut::Lost, self.now.tick, until);
            }
        } else {
            return;
        }
        self.harmed = self.harmed.after(long);
    }

    /// A drain is over.
    pub(super) fn drained(&mut self, node: usize, life: u64, ends: bool) {
        if !self.nodes[node].is(life) || !self.nodes[node].life().drains {
            return;
        }
        if ends {
            let pause = self.seconds(0, 4);
            self.kill(node, pause);
        } else {
            self.nodes[node].life().drains = false;
            self.feed(node, Input::Drain(false));
        }
    }

    /// Ends a process; the next one begins after `pause`.
    pub(super) fn kill(&mut self, node: usize, pause: Duration) {
        let machine = &mut self.nodes[node];
        machine.life = None;
        machine.paused = None;
        machine.backlog.clear();
        self.later(pause, Event::Start(node));
    }

    fn pauses(&mut self, node: usize) {
        if self.nodes[node].life.is_none() || self.nodes[node].paused.is_some() {
            return;
        }
        let now = self.now.tick;
        if self.chaos.strikes(Fault::Paused) {
            let until = now.after(self.seconds(0, 6));
            self.nodes[node].paused = Some(until);
        } else if self.chaos.strikes(Fault::PausedLong) {
            let until = now.after(self.seconds(8, 20));
            self.nodes[node].paused = Some(until);
            self.nodes[node].is_dropped = true;
        }
    }

    /// Nodes whose pause is over run again: what came meanwhile comes now.
    fn wake(&mut self) {
        for node in 0..self.nodes.len() {
            if self.nodes[node]
                .paused
                .is_some_and(|until| until <= self.now.tick)
            {
                self.wake_up(node);
            }
        }
    }

    /// A node runs again.
    pub(super) fn wake_up(&mut self, node: usize) {
        let now = self.now.tick;
        let machine = &mut self.nodes[node];
        machine.paused = None;
        machine.woke = now;
        let backlog = std::mem::take(&mut machine.backlog);
        let is_dropped = std::mem::take(&mut machine.is_dropped);
        let life = machine.life();
        life.due = None;
        let id = life.id;
        life.turn = None;
        for shard in 0..life.shards.len() {
            self.at(now, Event::Shard(node, id, shard));
        }
        if self.is_real {
            self.wake_cores(node);
        }
        // Its timers are due, and so is what waits in its sockets.
        if self.chaos.dice.below(2) == 0 {
            self.feed(node, Input::Tick);
        }
        for input in backlog {
            let comes = match input {
                // Brokers have cut it, and it has a new connection; timers are its own.
                Input::Record { .. }
                | Input::Message(_)
                | Input::Here(_)
                | Input::NoResponders(_) => !is_dropped,
                _ => true,
            };
            if comes {
                self.feed(node, input);
            }
        }
        if is_dropped {
            self.feed(node, Input::Interrupted);
            self.feed(node, Input::Reconnected);
        }
        self.drain(node);
    }

    fn clock_steps(&mut self, node: usize) {
        if self.chaos.strikes(Fault::ClockStepped) {
            self.nodes[node].skew = self.skew();
        }
    }

    /// Draws the error of a clock, up to two seconds or up to two hours, in nanoseconds.
    pub(super) fn skew(&mut self) -> i64 {
        let seconds = [2, 7_200][self.chaos.dice.below(2)];
        let draw = self.chaos.dice.below(2 * seconds * 1_000_000);
        let micros = i64::try_from(draw).expect("hours")
            - i64::try_from(seconds * 1_000_000).expect("hours");
        micros * 1_000
    }

    fn slots_move(&mut self, node: usize) {
        if self.nodes[node].life.is_none() || !self.chaos.strikes(Fault::Moved) {
            return;
        }
        let to = self.chaos.dice.below(self.nodes.len());
        let Some(to) = self.nodes[to].life.as_ref().map(|life| life.id) else {
            return;
        };
        let room = self.chaos.dice.below(self.rooms.len());
        let slot = uproar_proto::cluster::HashSlot::of(self.rooms[room]);
        let input = if self.chaos.dice.once_in(6) {
            Input::Balance
        } else {
            let to = Incarnation::new(to);
            Input::Move { slot, to }
        };
        self.feed(node, input);
    }

    /// Everything is well from now on; what is on its way arrives.
    pub(super) fn calm(&mut self) {
        let now = self.now.tick;
        self.chaos.calm();
        self.broker.heal(now);
        for node in 0..self.nodes.len() {
            self.nodes[node].link.heal(now);
            self.nodes[node].deaf = now;
            if self.nodes[node].paused.is_some() {
                self.wake_up(node);
            }
            match self.nodes[node].life.as_ref().map(|life| life.id) {
                Some(life) => self.drained(node, life, false),
                None => self.later(Duration::ZERO, Event::Start(node)),
            }
        }
    }
}
