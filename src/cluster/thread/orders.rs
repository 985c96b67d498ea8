//! Orders of the control plane, changes of the connections, and what is told about both.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Event as BrokerEvent;

use super::node::Node;
use crate::cluster::choice::Line;
use crate::cluster::connect;
use crate::cluster::handle::{Order, REQUEST_MAX, Snapshot};
use crate::cluster::state::is_majority_near;
use crate::logging::with_causes;
use crate::shard::cluster::TokenOutcome;
use uproar_proto::base::clock::Now;
use uproar_proto::base::limits::{CLUSTER_APART_MAX, CLUSTER_MUTE_MAX};
use uproar_proto::cluster::HashSlot;
use uproar_proto::cluster::engine::{AppendOutcome, Input, LogsEstate, Status, Ticket};
use uproar_proto::cluster::here::Facts;

/// From a subscription made anew to the read of what it may have missed: as long as brokers need to tell each other of it.
/// What is missed all the same the home's next pulse shows.
const RESUBSCRIBED: Duration = Duration::from_millis(100);

impl Node<'_> {
    pub(super) fn execute(&mut self, order: Order, now: Now) {
        match order {
            Order::Facts(facts) => {
                self.registry = facts;
                self.tell_facts(now);
            }
            Order::Rates(rates) => self.engine.input(Input::Rates(rates), now),
            Order::Charge(quota, rate, answer) => {
                self.charges += 1;
                let ticket = Ticket(self.charges);
                self.charging.insert(ticket, answer);
                self.engine.input(
                    Input::Charge {
                        ticket,
                        quota,
                        rate,
                    },
                    now,
                );
            }
            Order::Drain(begins) => {
                self.state.is_draining = begins;
                self.engine.input(Input::Drain(begins), now);
            }
            Order::Move(slot, to) => self.engine.input(Input::Move { slot, to }, now),
            Order::Balance => self.engine.input(Input::Balance, now),
            Order::TellUser(event, answer) => self.tell_user(&event, answer),
            Order::AskCrowd(question, answer) => self.ask_crowd(&question, answer),
            Order::Status(answer) => {
                let snapshot = Snapshot {
                    status: self.engine.status(),
                    state: self.hands.state.load_full(),
                    servers: self.hands.settings.cluster.servers.clone(),
                };
                // The asker may have given up.
                let _gone = answer.send(snapshot);
            }
            Order::Request(subject, payload, answer) => {
                let client = self.calls.client().clone();
                tokio::task::spawn_local(async move {
                    let request = async_nats::Request::new().payload(payload);
                    let answered = client.send_request(subject, request.timeout(Some(REQUEST_MAX)));
                    let answered = answered.await.map(|answer| answer.payload);
                    let answered =
                        answered.map_err(|error| std::io::Error::other(with_causes(&error)));
                    let _gone = answer.send(answered);
                });
            }
            Order::Release(begins) => self.engine.input(Input::Drain(begins), now),
            // The asker may have given up.
            Order::Estate(answer) => drop(answer.send(self.estate())),
            // It serves already.
            Order::Begin(_) => {}
            Order::Stop => self.stopping = true,
        }
    }

    /// Stops when all shards are quiet: what the engine wants so far is done, and members get what it has delivered.
    pub(super) fn shard_is_quiet(&mut self, shard: usize, freeze: u32) {
        if !self.halt.quiet(shard, freeze) {
            return;
        }
        self.perform(self.hands.clock.now());
        self.halt.halted = Some(freeze);
        self.shards.halted(freeze);
        tracing::debug!("cluster: stopped between two records, for a hand-over");
    }

    /// Goes on: records may have been dropped meanwhile.
    pub(super) fn thawed(&mut self, freeze: u32) {
        if self.halt.thawed(freeze) {
            let now = self.hands.clock.now();
            self.interrupted.push_front(self.instant(now));
        }
    }

    /// What this process hands over.
    pub(super) fn estate(&self) -> Option<LogsEstate> {
        self.halt
            .is_halted()
            .then(|| self.engine.estate())
            .flatten()
    }

    /// Takes what a client tells about its connection.
    pub(super) fn connection_changed(&mut self, (line, event): (Line, BrokerEvent)) {
        let connection = line.name();
        match event {
            BrokerEvent::Connected => self.connected(line),
            BrokerEvent::Disconnected => {
                let broker = self.client(line).server_info().server_name;
                tracing::warn!(
                    connection,
                    broker,
                    "cluster: the broker is gone; another one is tried"
                );
                if line == Line::Calls {
                    self.fail_appends();
                }
            }
            BrokerEvent::LameDuckMode => {
                let broker = self.client(line).server_info().server_name;
                tracing::info!(
                    connection,
                    broker,
                    "cluster: the broker is being stopped; another one is taken"
                );
                self.leave(line);
            }
            BrokerEvent::SlowConsumer(_) => {
                self.state.figures.slow += 1;
                if self.state.figures.slow % 1000 == 1 {
                    tracing::warn!(
                        connection,
                        "cluster: this node does not keep up: published records are dropped, and read from the log"
                    );
                }
                let now = self.hands.clock.now();
                if self.interrupted.is_empty() {
                    self.interrupted.push_back(self.instant(now) + RESUBSCRIBED);
                }
            }
            BrokerEvent::ServerError(error) => {
                let now = self.hands.clock.now();
                let at = self.instant(now);
                self.lines.complaint(connection, &error.to_string(), at);
            }
            BrokerEvent::ClientError(error) => {
                let now = self.hands.clock.now();
                let at = self.instant(now);
                self.lines.unconnected(connection, &error.to_string(), at);
            }
            BrokerEvent::Draining | BrokerEvent::Closed => {}
        }
    }

    /// Goes to other brokers when nothing comes back through these, though they answer: cut off from the others, they
    /// have no majority, and those may.
    pub(super) fn leave_mute_brokers(&mut self, now: Now) {
        let heard = self.state.probe.map_or(self.with_brokers, |(_, back)| back);
        let silence = now.tick.since(heard.max(self.with_brokers));
        if silence <= CLUSTER_MUTE_MAX || self.state.connected == 0 || self.halt.is_halted() {
            return;
        }
        self.with_brokers = now.tick;
        let broker = &self.state.broker;
        let seconds = silence.as_secs();
        tracing::warn!(
            broker,
            seconds,
            "cluster: nothing goes through this broker, which may have no majority; others are tried"
        );
        self.leave(Line::Records);
        self.leave(Line::Calls);
    }

    /// Brings the published records to the broker of everything else, if they came to be of two: see `Choice`.
    pub(super) fn keep_together(&mut self, now: Now) {
        let [records, calls] = [&self.records_client, self.calls.client()];
        let are_apart = self.state.connected == 2
            && records.server_info().server_name != calls.server_info().server_name;
        let since = *self.apart.get_or_insert(now.tick);
        if !are_apart || self.halt.is_halted() {
            self.apart = None;
        } else if now.tick.since(since) >= CLUSTER_APART_MAX {
            self.apart = None;
            self.leave(Line::Records);
        }
    }

    /// Connects to another broker.
    fn leave(&self, line: Line) {
        let client = self.client(line).clone();
        tokio::task::spawn_local(async move {
            // If the connection's task has ended, the thread ends as well.
            let _ended = client.force_reconnect().await;
        });
    }

    fn connected(&mut self, line: Line) {
        let connection = line.name();
        let broker = self.client(line).server_info();
        let (name, version) = (broker.server_name.clone(), broker.version.clone());
        tracing::info!(connection, broker = name, version, "cluster: connected");
        self.state.figures.reconnects += 1;
        let unfit = connect::check(&broker).err().map(|fault| fault.to_string());
        if let Some(cause) = &unfit {
            tracing::error!(connection, cause, "cluster: this node is not ready");
        }
        let now = self.hands.clock.now();
        match line {
            Line::Records => {
                self.unfit[0] = unfit;
                self.expect_losses(now);
            }
            Line::Calls => {
                self.unfit[1] = unfit;
                self.state.broker = format!("{name} {version}");
                self.engine.input(Input::Reconnected, now);
            }
        }
        self.state.unfit = self.unfit.iter().flatten().next().cloned();
    }

    /// Records may have been lost on the way: what brokers still tell each other comes first, then the logs are asked.
    pub(super) fn expect_losses(&mut self, now: Now) {
        self.interrupted.push_back(self.instant(now) + RESUBSCRIBED);
    }

    /// Gives up the appends whose answers the lost connection would have brought.
    fn fail_appends(&mut self) {
        let now = self.hands.clock.now();
        for slot in HashSlot::all() {
            if let Some(appending) = self.appending[slot.index()] {
                self.appended(slot, appending.attempt, AppendOutcome::Unknown, now);
            }
        }
    }

    fn client(&self, line: Line) -> &async_nats::Client {
        match line {
            Line::Records => &self.records_client,
            Line::Calls => self.calls.client(),
        }
    }

    /// Shows what this node knows, and says what others are to know of it.
    pub(super) fn publish_state(&mut self, now: Now) {
        let status = self.engine.status();
        self.lines
            .tell(status.counts, status.is_heard, self.instant(now));
        let connected = |client: &async_nats::Client| {
            usize::from(client.connection_state() == async_nats::connection::State::Connected)
        };
        self.state.connected = connected(self.calls.client()) + connected(&self.records_client);
        self.state.skew_nanos = self.skew.nanos(now.tick);
        let me = self.engine.me();
        let live = status
            .peers
            .iter()
            .filter(|peer| peer.is_live && peer.here.incarnation != me);
        self.state.agrees_with_nodes = is_majority_near(live.map(|peer| peer.skew_nanos));
        self.state.probe = status.probe;
        let other = self.other_of_this_name(&status);
        self.state.namesake = self.namesake.judge(other, status.is_heard, now.tick);
        self.take_figures(&status, now);
        self.count_elsewhere();
        self.hands.state.store(Arc::new(self.state.clone()));
        self.tell_facts(now);
    }

    /// A call of the API has its answer.
    pub(super) fn charged(&mut self, ticket: Ticket, is_granted: bool) {
        if let Some(answer) = self.charging.remove(&ticket) {
            // Its caller may have left.
            let _gone = answer.send(is_granted);
        }
    }

    /// Viewers of the other nodes count against the limit on connections.
    pub(super) fn count_elsewhere(&mut self) {
        let now = usize::try_from(self.engine.viewers_elsewhere()).unwrap_or(usize::MAX / 2);
        let before = std::mem::replace(&mut self.elsewhere, now);
        if before != now {
            self.hands.budgets.count_elsewhere(before, now);
        }
    }

    fn take_figures(&mut self, status: &Status, now: Now) {
        let me = Some(self.engine.me());
        let figures = &mut self.state.figures;
        figures.nodes = status.peers.iter().filter(|peer| peer.is_live).count();
        figures.slots_home = status.slots.iter().filter(|slot| slot.home == me).count();
        figures.counts = status.counts;
        figures.purse = status.purse;
        figures.kept_bytes = status.kept_bytes;
        figures.authored_bytes = status.authored_bytes;
        figures.apply_lag = self.skew.lag(now.tick);
        figures.token_uses_waiting = self.token_uses.count();
        figures.registry_revision = self.registry.revision;
    }

    /// The process id of another living node with this node's name.
    fn other_of_this_name(&self, status: &Status) -> Option<u32> {
        let (me, name) = (self.engine.me(), &*self.hands.settings.about.name);
        let mut peers = status.peers.iter();
        let same = peers.find(|peer| {
            peer.is_live && peer.here.incarnation != me && *peer.here.about.name == *name
        });
        same.map(|peer| peer.here.about.pid)
    }

    fn tell_facts(&mut self, now: Now) {
        let viewers = self
            .hands
            .shards
            .iter()
            .map(|shard| shard.connections.get());
        let may_be_home = self.registry.is_current && self.unread == 0;
        let facts = Facts {
            is_ready: may_be_home
                && self.state.is_clock_near()
                && self.state.unfit.is_none()
                && self.state.namesake.is_none(),
            viewers: viewers.sum(),
            key_ids: self.registry.key_ids.clone(),
            registry_revision: self.registry.revision,
        };
        if facts != self.facts {
            self.facts = facts.clone();
            self.engine.input(Input::Facts(facts), now);
        }
    }
}

impl crate::cluster::state::Figures {
    pub(super) fn token_used(&mut self, outcome: TokenOutcome) {
        let [first, again, unknown] = &mut self.token_uses;
        *match outcome {
            TokenOutcome::First => first,
            TokenOutcome::Again => again,
            TokenOutcome::Unknown => unknown,
        } += 1;
    }
}
