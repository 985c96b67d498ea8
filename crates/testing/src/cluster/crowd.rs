//! Viewers of the shards that ship: they connect to any node, chat, are disconnected, and come again.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use uproar::shard::cluster::{FromCluster, ToCluster, TokenOutcome, ticket_shard};
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::RoomId;
use uproar_proto::chat::encode;
use uproar_proto::cluster::HashSlot;
use uproar_proto::cluster::engine::{Input, Outcome, Ticket};
use uproar_proto::session::Grant;
use uproar_proto::token::{Capabilities, Capability};

use super::cores::SHARDS;
use super::fault::Fault;
use super::flight::{Using, Viewer};
use super::planted::Planted;
use super::world::{Event, World};
use crate::client;
use crate::parts::pending;
use crate::simulation::net::{Peer, Socket};

/// Users; several viewers may be one.
const USERS: usize = 6;
/// Most viewers of a process at a time.
const VIEWERS_MAX: usize = 8;
/// A use of a token is tried again after this, and given up after that.
const USE_AGAIN: Duration = Duration::from_millis(250);
const USE_MAX: Duration = Duration::from_secs(5);

impl World {
    /// Something comes from viewers of the shards that ship.
    pub(super) fn stir(&mut self) {
        if !self.talks {
            return;
        }
        let pause = self.below(2_000_000 / self.rate.min(40));
        self.later(pause, Event::Stir);
        let viewers = 0..self.viewers.len();
        let open: Vec<usize> = viewers.filter(|viewer| self.is_reached(*viewer)).collect();
        let wants = self.nodes.len() * VIEWERS_MAX;
        if open.is_empty() || (open.len() < wants && self.chaos.dice.once_in(4)) {
            self.connect();
        } else if let Some(viewer) = self.chaos.dice.pick(&open) {
            self.chat(viewer);
        }
    }

    /// Whether a viewer's connection is open and its node runs.
    fn is_reached(&self, viewer: usize) -> bool {
        let viewer = &self.viewers[viewer];
        let node = &self.nodes[viewer.node];
        node.is(viewer.life) && node.paused.is_none() && viewer.is_greeted() && viewer.is_open()
    }

    /// A viewer connects to one node, or to all at once with one token, or with an old one.
    fn connect(&mut self) {
        let room = self.chaos.dice.pick(&self.rooms).expect("a room");
        self.tokens += 1;
        let token = match self.chaos.dice.below(6) {
            0 => {
                1 + self
                    .chaos
                    .dice
                    .below(usize::try_from(self.tokens).expect("few")) as u64
            }
            _ => self.tokens,
        };
        let all = self.chaos.dice.once_in(6);
        let one = self.chaos.dice.below(self.nodes.len());
        for node in 0..self.nodes.len() {
            let runs = self.nodes[node].life.is_some() && self.nodes[node].paused.is_none();
            if runs && (all || node == one) {
                self.present(node, room, token);
            }
        }
    }

    fn present(&mut self, node: usize, room: RoomId, token: u64) {
        let now = self.nodes[node].read(self.now);
        let shard = self.chaos.dice.below(SHARDS);
        let user = format!("user-{}", self.chaos.dice.below(USERS));
        let life = self.nodes[node].life();
        let id = life.id;
        let cores = life.cores.as_mut().expect("shards that ship");
        let net = Rc::clone(&cores.net);
        let peer = net.borrow().len();
        net.borrow_mut().push(Peer::default());
        let mut capabilities = Capabilities::default();
        capabilities.insert(Capability::SendMessage);
        capabilities.insert(Capability::DeleteMessage);
        capabilities.insert(Capability::DisconnectUser);
        let mut pending = pending(Socket::new(peer, &net), room, token, now);
        pending.grant = Grant {
            sender_json: encode::sender_json(&user, std::iter::empty()).into_boxed_str(),
            capabilities,
            ends: now.tick.after(Duration::from_hours(3)),
        };
        pending.user_hash = uproar::shard::command::user_hash(&user);
        cores.enter(shard, pending);
        self.viewers.push(Viewer {
            node,
            life: id,
            net,
            peer,
            room,
            user,
            token,
            requested: HashSet::new(),
        });
        self.wake_cores(node);
    }

    /// A viewer sends a request.
    pub(super) fn chat(&mut self, viewer: usize) {
        self.requests += 1;
        let id = format!("{viewer}:{}", self.requests);
        let victim = format!("user-{}", self.chaos.dice.below(USERS));
        let text = match self.chaos.dice.below(40) {
            0 => format!(
                r#"{{"Action":"DISCONNECT_USER","UserId":"{victim}","Reason":"x","RequestId":"{id}"}}"#
            ),
            1 | 2 => {
                format!(r#"{{"Action":"DELETE_MESSAGE","Id":"abcdefghijkl","RequestId":"{id}"}}"#)
            }
            _ => {
                let padding = "x".repeat(self.chaos.dice.below(200));
                format!(r#"{{"Action":"SEND_MESSAGE","Content":"{padding}.","RequestId":"{id}"}}"#)
            }
        };
        let viewer = &mut self.viewers[viewer];
        let frame = client::text(text.as_bytes());
        viewer.net.borrow_mut()[viewer.peer].to_server.extend(frame);
        viewer.requested.insert(id);
        let node = viewer.node;
        self.wake_cores(node);
    }

    /// The shards of a process run soon.
    pub(super) fn wake_cores(&mut self, node: usize) {
        let soon = Duration::from_micros(200) + self.below(2_000);
        self.turn_at(node, soon);
    }

    fn turn_at(&mut self, node: usize, pause: Duration) {
        let at = self.now.tick.after(pause);
        let life = self.nodes[node].life();
        let id = life.id;
        if life.turn.is_none_or(|known| known > at) {
            life.turn = Some(at);
            self.at(at, Event::Turn(node, id));
        }
    }

    /// The shards of a process run.
    pub(super) fn turn(&mut self, node: usize) {
        let now = self.nodes[node].read(self.now);
        if self.nodes[node].paused.is_some() {
            return;
        }
        let life = self.nodes[node].life();
        if life.turn.is_none_or(|turn| turn > now.tick) {
            return;
        }
        life.turn = None;
        let cores = life.cores.as_mut().expect("shards that ship");
        let told = cores.turn(&mut self.chaos.dice, now);
        let is_busy = cores.is_busy();
        self.oracle.counts.verdicts += std::mem::take(&mut cores.verdicts);
        for (shard, told) in told {
            self.hear_shard(node, shard, told);
        }
        self.look_at_upgrade(node);
        let pause = if is_busy {
            self.below(3_000)
        } else {
            Duration::from_millis(40)
        };
        self.turn_at(node, pause);
    }

    fn hear_shard(&mut self, node: usize, shard: usize, told: ToCluster) {
        let id = self.nodes[node].life().id;
        match told {
            ToCluster::Ask { ticket, ask } => {
                self.oracle.asked(id, ticket.0, ask.id, self.now.tick);
                self.feed(node, Input::Ask { ticket, ask });
            }
            ToCluster::Authored { epoch, entry } => {
                let slot = HashSlot::of(entry.room);
                self.feed(node, Input::Authored { slot, epoch, entry });
            }
            ToCluster::Refused { key, code, text } => {
                self.feed(node, Input::RefusedByShard { key, code, text });
            }
            ToCluster::Archived {
                slot,
                epoch,
                sequence,
            } => {
                let told = Input::Archived {
                    slot,
                    epoch,
                    sequence,
                };
                self.feed(node, told);
            }
            ToCluster::Quiet(freeze) => self.shard_is_quiet(node, shard, freeze),
            ToCluster::Thawed(freeze) => self.thawed(node, freeze),
            // All rooms are known from the start; the others are said at most once, in no log, and nobody waits for them.
            ToCluster::Search(_)
            | ToCluster::Viewers(_)
            | ToCluster::TellUser(_)
            | ToCluster::Replace(_) => {}
            ToCluster::UseToken { claim, token, .. } => {
                let using = Using {
                    node,
                    life: id,
                    shard,
                    claim,
                    token,
                    tried: Duration::ZERO,
                };
                self.later(Duration::from_micros(500), Event::Use(using));
            }
        }
    }

    /// A use of a token comes to its leader, or is tried again: the first claimant has it.
    pub(super) fn use_token(&mut self, using: Using) {
        let Using {
            node,
            life,
            shard,
            claim,
            token,
            tried,
        } = using;
        if !self.nodes[node].is(life) {
            return;
        }
        let now = self.now.tick;
        let reaches = self.nodes[node].link.is_whole(now) && !self.chaos.strikes(Fault::AppendLost);
        let claimant = (life, shard, claim);
        let first = reaches.then(|| *self.uses.entry(token).or_insert(claimant));
        let outcome = match first {
            Some(_) if self.chaos.strikes(Fault::AckLost) => None,
            Some(first) if first == claimant => Some(TokenOutcome::First),
            Some(_) if self.plants(Planted::TokenTwice) => Some(TokenOutcome::First),
            Some(_) => Some(TokenOutcome::Again),
            None => None,
        };
        let outcome = outcome.or((tried >= USE_MAX).then_some(TokenOutcome::Unknown));
        if let Some(outcome) = outcome {
            self.tell_shard(node, shard, FromCluster::TokenUsed { claim, outcome });
        } else {
            let tried = tried + USE_AGAIN;
            self.later(USE_AGAIN, Event::Use(Using { tried, ..using }));
        }
    }

    fn tell_shard(&mut self, node: usize, shard: usize, told: FromCluster) {
        let life = self.nodes[node].life();
        let cores = life.cores.as_mut().expect("shards that ship");
        cores.tell(shard, told);
        self.wake_cores(node);
    }

    /// An engine tells the shards that ship how a request ended.
    pub(super) fn tell_asker(
        &mut self,
        node: usize,
        ticket: Ticket,
        (outcome, sent): (Outcome, Option<UnixTime>),
    ) {
        let told = FromCluster::Told {
            ticket,
            outcome,
            sent,
        };
        self.tell_shard(node, ticket_shard(ticket), told);
    }
}
