//! How far a shard has come in becoming frozen, and what waits until it serves again.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::shard::command::Command;
use crate::shard::settings::ShardId;
use uproar_proto::base::clock::Tick;

/// The stages of a freeze, in this order; a thaw leads from any of them back to the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It serves.
    Serving,
    /// Receives are cancelled and reaped; what they bring is handled as ever.
    Quieting,
    /// It makes no request any more; rooms are flushed without a pace.
    Flushing,
    /// It sends no command any more but departures; members are served.
    Delivering {
        /// Until when, once no command can come any more.
        until: Option<Tick>,
    },
    /// It begins no send any more; pending ones complete.
    Parking,
    /// Nothing is pending in the kernel or between shards.
    Frozen,
}

/// What a marker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Requests of a shard.
    Requests,
    /// Its commands.
    Commands,
}

/// The freeze of one shard, its present one or the last.
pub(super) struct Freeze<S> {
    /// How far it has come.
    pub(super) stage: Stage,
    /// When the freeze began, be it in the process that this one takes over.
    pub(super) since: Tick,
    // How many there were. All shards are told together, so it is the same on all; a marker of an
    // earlier freeze, which was given up, counts for nothing.
    number: u32,
    // For each shard the newest freeze in which its requests and its commands have ended.
    ended: Vec<(u32, u32)>,
    // For each shard whether it has got the marker behind the requests.
    told: Vec<bool>,
    // The newest freezes of which the cluster's thread was told, and in which it has stopped.
    cluster: (u32, u32),
    /// Told once the shard is frozen.
    pub(super) answer: Option<oneshot::Sender<()>>,
    /// Commands that wait for the thaw, and when they came. The API is paused, so these are few: verdicts, as many
    /// as reviews are open.
    pub(super) waiting: VecDeque<(Command<S>, Tick)>,
}

impl<S> Freeze<S> {
    /// A shard that serves.
    pub(super) fn none(shard_count: usize) -> Self {
        Self {
            stage: Stage::Serving,
            since: Tick::default(),
            number: 0,
            ended: vec![(0, 0); shard_count],
            told: vec![false; shard_count],
            cluster: (0, 0),
            answer: None,
            waiting: VecDeque::new(),
        }
    }

    /// Begins a freeze.
    pub(super) fn begin(&mut self, answer: oneshot::Sender<()>, now: Tick) {
        (self.stage, self.since) = (Stage::Quieting, now);
        self.number += 1;
        self.told.fill(false);
        self.answer = Some(answer);
    }

    /// Begins as the shard of a process that takes over another one, which has been freezing since `since`.
    pub(super) fn begin_frozen(&mut self, since: Tick) {
        (self.stage, self.since) = (Stage::Frozen, since);
    }

    /// Ends the freeze; returns how long it was.
    pub(super) fn end(&mut self, now: Tick) -> Duration {
        self.stage = Stage::Serving;
        self.answer = None;
        now.since(self.since)
    }

    /// The number of the freeze.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Whether the cluster's thread is to be told now that this shard is quiet; once in each freeze.
    pub(super) fn tell_cluster(&mut self) -> bool {
        std::mem::replace(&mut self.cluster.0, self.number) != self.number
    }

    /// Notes that the cluster's thread has stopped.
    pub(super) fn cluster_halted(&mut self, number: u32) {
        self.cluster.1 = number.max(self.cluster.1);
    }

    /// Whether the cluster's thread has stopped in this freeze.
    pub(super) fn is_cluster_halted(&self) -> bool {
        self.cluster.1 == self.number
    }

    /// Notes a marker, which may come before this shard was told to freeze.
    pub(super) fn note(&mut self, from: ShardId, what: Ended, number: u32) {
        if let Some((requests, commands)) = self.ended.get_mut(from) {
            let newest = match what {
                Ended::Requests => requests,
                Ended::Commands => commands,
            };
            *newest = number.max(*newest);
        }
    }

    /// Whether no other shard sends any more of these in this freeze.
    pub(super) fn all_ended(&self, here: ShardId, what: Ended) -> bool {
        let mut others = self
            .ended
            .iter()
            .enumerate()
            .filter(|(shard, _)| *shard != here);
        others.all(|(_, (requests, commands))| {
            let newest = match what {
                Ended::Requests => requests,
                Ended::Commands => commands,
            };
            *newest >= self.number
        })
    }

    /// Tells the other shards, by `tell`, that the requests of shard `here` have ended; those whose mailbox
    /// is full are told in a later turn. Returns whether all know.
    pub(super) fn tell_others(
        &mut self,
        here: ShardId,
        mut tell: impl FnMut(ShardId) -> bool,
    ) -> bool {
        for (shard, told) in self.told.iter_mut().enumerate() {
            *told = *told || shard == here || tell(shard);
        }
        self.told.iter().all(|told| *told)
    }
}

/// Whether a command waits until the shard thaws, once it sends no command any more.
///
/// What commands of other shards do is carried: these come until the last marker. Those of the control
/// thread would change what is carried, or need an answer to other shards. The API is paused before, so
/// they are rare: verdicts, because the reviews are asked again by the other process, and an order to stop, which
/// follows the hand-over or its end.
pub(super) fn waits_for_thaw<S>(command: &Command<S>) -> bool {
    match command {
        Command::PutRoom(..)
        | Command::DeleteRoom(..)
        | Command::SendEvent { .. }
        | Command::SendMessage(..)
        | Command::SendUserEvent(..)
        | Command::Recalled(..)
        | Command::Tally(..)
        | Command::Ban(..)
        | Command::Decide { .. }
        | Command::ListHeld { .. }
        | Command::DeleteMessage { .. }
        | Command::Purge { .. }
        | Command::DisconnectUser { .. }
        | Command::Verdict(..)
        | Command::Cluster(_)
        | Command::Searched(_)
        | Command::Drain(_)
        | Command::Undrain
        | Command::Stop => true,
        Command::Install(..)
        | Command::Batch(..)
        | Command::Redact(..)
        | Command::Moderated(..)
        | Command::Replace(..)
        | Command::Departed(..)
        | Command::RefuseRequest(..)
        | Command::AnswerMember(..)
        | Command::Evict(..)
        | Command::MembersLeft(..)
        | Command::SettingsChanged(..)
        | Command::RoomDeleted(..)
        | Command::Spooled(..)
        | Command::Doors(..)
        | Command::Adopt(..)
        | Command::Freeze(..)
        | Command::Marker(..)
        | Command::Thaw
        | Command::ExportRooms(..)
        | Command::Export(..)
        | Command::InheritRooms(..)
        | Command::Inherit(..)
        | Command::MembersArrived(..)
        | Command::MembersCounted(..)
        | Command::SenderMoved(..)
        | Command::TakeJournal(..)
        | Command::Resume
        | Command::Reseed(_)
        | Command::Survey(_)
        | Command::Enter(_) => false,
    }
}
