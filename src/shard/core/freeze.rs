//! A shard becomes frozen, so that its connections can be handed over to another process, and
//! serves again if they are not.
//!
//! Shards talk to each other, so none is quiet by itself. A mailbox delivers in order; a marker at
//! the end of what a shard sends tells the receiver that there is no more (Chandy and Lamport,
//! 1985). Requests and commands have mailboxes of their own, and so have their markers:
//!
//! 1. Receives are cancelled. When their last completions are handled, no client makes this shard
//!    send a request: the request marker goes to all.
//! 2. With all request markers, what clients asked of the rooms at home here has been done, and
//!    connections were admitted. Rooms are flushed without waiting for their pace, logged ones by
//!    way of the archive. On a node of a cluster every answer of the cluster is awaited, then its thread stops, which
//!    its own last word to this shard tells. When nothing is held back any more, the command marker goes to all.
//! 3. With all command markers, every batch has arrived. Members are served until nothing waits, at
//!    most for [`FREEZE_SERVE_MAX`]; then waits for writable sockets are cancelled, and no send begins.
//! 4. When no send is pending, the shard is frozen.
//!
//! After its command marker a shard sends departures alone. They may arrive late: members are counted
//! anew where they arrive, and after a thaw they arrive. Deadlines hold until step 3, those of reviews
//! until the command marker.

use std::mem;

use super::settle::AGING_INTERVAL;
use super::stage::{Ended, Stage};
use super::{Core, Plan};
use crate::net::io::Io;
use crate::shard::cluster::ToCluster;
use crate::shard::command::{Command, Request};
use tokio::sync::oneshot;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::limits::FREEZE_SERVE_MAX;

impl<W: Io> Core<W> {
    /// Begins to freeze; `answer` is told when it is done. Connections with TLS are cut: they
    /// cannot be handed over.
    pub fn freeze(&mut self, answer: oneshot::Sender<()>) {
        match self.freeze.stage {
            Stage::Serving => {
                self.freeze.begin(answer, self.env.now.tick);
                self.connections.quieten(&mut self.rooms, &mut self.env);
            }
            Stage::Frozen => {
                let _asker_gone = answer.send(());
            }
            Stage::Quieting | Stage::Flushing | Stage::Delivering { .. } | Stage::Parking => {
                self.freeze.answer = Some(answer);
            }
        }
    }

    /// Whether nothing is pending in the kernel or between shards, and nothing begins.
    pub fn is_frozen(&self) -> bool {
        self.freeze.stage == Stage::Frozen
    }

    /// Whether it neither freezes nor is frozen.
    pub fn is_serving(&self) -> bool {
        self.freeze.stage == Stage::Serving
    }

    /// Serves again, as if there had been a pause and nothing more: it counts for no deadline of a client, who could
    /// not be heard, and not for the age of messages, which nobody could get. A session's end stands.
    pub fn thaw(&mut self) {
        if self.freeze.stage == Stage::Serving {
            return;
        }
        let now = self.env.now.tick;
        let pause = self.freeze.end(now);
        if self.rooms.is_clustered() {
            let thawed = ToCluster::Thawed(self.freeze.number());
            self.env.outbox.tell_cluster(thawed);
        }
        self.rooms.hurry(false);
        self.rooms.postpone(pause, now);
        self.connections.wake(pause, now);
        for (command, came) in mem::take(&mut self.freeze.waiting) {
            if let Command::Verdict(room, ticket, verdict) = command {
                // It counts when it came, not when it is looked at.
                let denied = self.rooms.take_verdict(room, ticket, verdict, came);
                if let Some(denied) = denied {
                    let (rooms, env) = (&mut self.rooms, &mut self.env);
                    self.connections.refuse_denied(&denied, rooms, env);
                }
            } else {
                self.command(command);
            }
        }
    }

    /// Whether the shard sends no command any more, departures aside.
    pub(super) fn is_silent(&self) -> bool {
        self.freeze.stage >= Stage::Delivering { until: None }
    }

    /// Ends a turn of a shard that freezes, or is frozen.
    pub(super) fn settle_freezing(&mut self) -> Plan {
        match self.freeze.stage {
            Stage::Serving => self.settle_serving(),
            Stage::Quieting | Stage::Flushing => {
                let plan = self.settle_serving();
                let before = self.freeze.stage;
                self.end_requests();
                self.end_commands();
                if self.freeze.stage == before {
                    plan
                } else {
                    Plan::Now
                }
            }
            Stage::Delivering { until } => self.deliver_last(until),
            Stage::Parking | Stage::Frozen => {
                if self.freeze.stage == Stage::Parking && self.connections.is_parked() {
                    self.freeze.stage = Stage::Frozen;
                    if let Some(answer) = self.freeze.answer.take() {
                        let _asker_gone = answer.send(());
                    }
                }
                Plan::Wait(self.env.now.tick.after(AGING_INTERVAL))
            }
        }
    }

    /// Step 1: ends with the request markers.
    fn end_requests(&mut self) {
        if self.freeze.stage != Stage::Quieting || !self.connections.is_quiet() {
            return;
        }
        let (here, number) = (self.env.id, self.freeze.number());
        let outbox = &mut self.env.outbox;
        let tell = |shard| outbox.request(shard, Request::Marker(here, number)).is_ok();
        if self.freeze.tell_others(here, tell) {
            self.freeze.stage = Stage::Flushing;
            self.rooms.hurry(true);
        }
    }

    /// Step 2: ends with the command markers.
    fn end_commands(&mut self) {
        let here = self.env.id;
        let ready = self.freeze.stage == Stage::Flushing
            && self.freeze.all_ended(here, Ended::Requests)
            && self.cluster_has_ended()
            && self.rooms.is_flushed()
            && !self.env.outbox.has_departures();
        if ready {
            let number = self.freeze.number();
            let marker = || Command::Marker(here, number);
            self.env.outbox.send_to_others(marker);
            self.freeze.stage = Stage::Delivering { until: None };
        }
    }

    /// Whether the cluster owes this shard nothing any more, nor this shard the cluster, and its thread has stopped.
    fn cluster_has_ended(&mut self) -> bool {
        if !self.rooms.is_clustered() {
            return true;
        }
        if !self.rooms.cluster_is_idle() || self.admission.parked() > 0 {
            return false;
        }
        if self.freeze.tell_cluster() {
            let quiet = ToCluster::Quiet(self.freeze.number());
            self.env.outbox.tell_cluster(quiet);
        }
        self.freeze.is_cluster_halted()
    }

    /// Step 3: members are served, then waits are cancelled.
    fn deliver_last(&mut self, until: Option<Tick>) -> Plan {
        let now = self.env.now.tick;
        let (rooms, env) = (&mut self.rooms, &mut self.env);
        self.connections.check_deadlines(rooms, env);
        let waits = self.connections.serve(rooms, env);
        if !self.freeze.all_ended(self.env.id, Ended::Commands) {
            let wake = self.connections.next_deadline();
            return if waits { Plan::Now } else { Plan::Wait(wake) };
        }
        let until = until.unwrap_or_else(|| now.after(FREEZE_SERVE_MAX));
        if now < until && waits {
            self.freeze.stage = Stage::Delivering { until: Some(until) };
            return Plan::Now;
        }
        if now < until && self.connections.has_sends_in_kernel() {
            self.freeze.stage = Stage::Delivering { until: Some(until) };
            return Plan::Wait(until);
        }
        self.connections.park();
        self.freeze.stage = Stage::Parking;
        Plan::Now
    }
}
