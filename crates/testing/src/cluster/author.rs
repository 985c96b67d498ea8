//! The shards of a process: they decide what a home asks, and deliver what is in the log.

use std::time::Duration;

use uproar::shard::cluster::FromCluster;
use uproar_proto::base::id::RoomId;
use uproar_proto::chat::ErrorCode;
use uproar_proto::cluster::engine::Input;
use uproar_proto::cluster::record::Entry;
use uproar_proto::cluster::{Epoch, HashSlot, Incarnation, Number, Sequence};

use super::append::hash_slot;
use super::cores::SHARDS;
use super::fault::Fault;
use super::node::{Authoring, ToShard};
use super::planted::Planted;
use super::world::{Event, World};

/// The shard of a process that a room is on.
fn shard_of(room: RoomId) -> usize {
    usize::from(room.as_bytes()[0]) % SHARDS
}

impl World {
    /// A command for a shard, behind all others.
    fn command(&mut self, node: usize, shard: usize, command: ToShard) {
        let life = self.nodes[node].life();
        let id = life.id;
        let own = &mut life.shards[shard];
        own.inbox.push_back(command);
        if !own.woken {
            own.woken = true;
            let delay = self.below(1_500);
            self.later(delay, Event::Shard(node, id, shard));
        }
    }

    /// An engine asks a shard to decide.
    pub(super) fn ask_shard(&mut self, node: usize, authoring: Authoring) {
        if let Some(cores) = &mut self.nodes[node].life().cores {
            let Authoring { key, ask } = authoring;
            cores.tell_home(ask.room, FromCluster::Author { key, ask });
            return self.wake_cores(node);
        }
        let shard = shard_of(authoring.ask.room);
        self.command(node, shard, ToShard::Author(authoring));
    }

    /// An engine delivers a record.
    pub(super) fn deliver(
        &mut self,
        node: usize,
        (slot, sequence): (usize, u64),
        (epoch, home_here): (Epoch, bool),
        entries: &[Entry],
    ) {
        let life = self.nodes[node].life().id;
        if !entries.is_empty() && self.plants(Planted::NotDelivered) {
            return;
        }
        let twice = self.plants(Planted::DeliveredTwice);
        for _ in 0..=usize::from(twice) {
            let what = (home_here, entries);
            self.oracle
                .delivered(life, (slot, sequence), what, &self.broker);
        }
        if self.plants(Planted::TimesNotAdopted) {
            return;
        }
        if self.is_real {
            let shown = if self.plants(Planted::NotShown) {
                0
            } else {
                1 + usize::from(self.plants(Planted::ShownTwice))
            };
            for _ in 0..shown {
                self.show(node, (slot, sequence), (epoch, home_here), entries);
            }
            return self.wake_cores(node);
        }
        for shard in 0..SHARDS {
            let own = entries.iter().filter(|entry| shard_of(entry.room) == shard);
            let times: Vec<_> = own.map(|entry| (entry.room, entry.sent)).collect();
            if !times.is_empty() {
                self.command(node, shard, ToShard::Adopt(times));
            }
        }
    }

    /// The shards that ship get a record's frames.
    fn show(
        &mut self,
        node: usize,
        (slot, sequence): (usize, u64),
        (epoch, is_home_here): (Epoch, bool),
        entries: &[Entry],
    ) {
        let cores = self.nodes[node].life().cores.as_mut();
        let cores = cores.expect("shards that ship");
        for (shard, entries) in cores.split(entries).into_iter().enumerate() {
            if !entries.is_empty() {
                let deliver = FromCluster::Deliver {
                    slot: hash_slot(slot),
                    epoch,
                    sequence: Sequence(sequence),
                    is_home_here,
                    entries,
                };
                cores.tell(shard, deliver);
            }
        }
    }

    /// An engine is not the home of a slot any more.
    pub(super) fn fenced(&mut self, node: usize, slot: HashSlot, epoch: Epoch) {
        for shard in 0..SHARDS {
            if let Some(cores) = &mut self.nodes[node].life().cores {
                cores.tell(shard, FromCluster::Fenced(slot));
                self.wake_cores(node);
                continue;
            }
            self.command(node, shard, ToShard::Fenced(slot, epoch));
        }
    }

    /// A shard does what it was told, and what time has come for.
    pub(super) fn run_shard(&mut self, node: usize, shard: usize) {
        if self.nodes[node].paused.is_some() {
            return;
        }
        let now = self.now.tick;
        let own = &mut self.nodes[node].life().shards[shard];
        own.woken = false;
        let commands: Vec<_> = own.inbox.drain(..).collect();
        let (ready, waits): (Vec<_>, Vec<_>) =
            own.reviewed.drain(..).partition(|(at, _)| *at <= now);
        own.reviewed = waits;
        for (_, authoring) in ready {
            self.authored(node, shard, authoring);
        }
        for command in commands {
            self.obey(node, shard, command);
        }
    }

    fn obey(&mut self, node: usize, shard: usize, command: ToShard) {
        let now = self.now.tick;
        let own = &mut self.nodes[node].life().shards[shard];
        match command {
            ToShard::Adopt(times) => own.adopt(times),
            ToShard::Fenced(slot, epoch) => own
                .reviewed
                .retain(|(_, one)| (one.key.slot, one.key.epoch) != (slot, epoch)),
            ToShard::Author(authoring) => {
                if self.chaos.strikes(Fault::AuthorRefuses) {
                    self.answer_author(
                        node,
                        Input::RefusedByShard {
                            key: authoring.key,
                            code: ErrorCode::TooManyRequests,
                            text: "too many".into(),
                        },
                    );
                } else if self.chaos.strikes(Fault::AuthoredLate) {
                    let at = now.after(Duration::from_millis(20) + self.below(2_000_000));
                    let life = self.nodes[node].life();
                    life.shards[shard].reviewed.push((at, authoring));
                    let id = life.id;
                    self.at(at, Event::Shard(node, id, shard));
                } else {
                    self.authored(node, shard, authoring);
                }
            }
        }
    }

    /// A shard has decided: the request becomes an entry.
    fn authored(&mut self, node: usize, shard: usize, authoring: Authoring) {
        let clock = self.nodes[node].read(self.now).unix;
        let own = &mut self.nodes[node].life().shards[shard];
        let mut entry = own.author(&authoring, clock);
        if self.plants(Planted::TimesNotAdopted) {
            entry.sent = clock;
        }
        if self.plants(Planted::AuthoredForAnother) {
            entry.origin = Incarnation::new(entry.origin.bits() ^ 1);
        }
        let answer = |number| Input::Authored {
            slot: authoring.key.slot,
            epoch: authoring.key.epoch,
            entry: Entry {
                number,
                ..entry.clone()
            },
        };
        let Number(number) = authoring.key.number;
        if self.plants(Planted::AuthoredTwice) {
            self.answer_author(node, answer(Number(number + 1)));
        }
        self.answer_author(node, answer(Number(number)));
    }

    /// A shard's answer comes to the engine, in order.
    fn answer_author(&mut self, node: usize, input: Input) {
        let id = self.nodes[node].life().id;
        let at = self.now.tick.after(self.below(400));
        let life = self.nodes[node].life();
        life.answers = at.max(life.answers);
        let at = life.answers;
        self.at(at, Event::Input(node, id, input));
    }
}
