//! The sending ends of a shard's mailboxes to the other shards.

use std::collections::HashMap;

use crate::shard::cluster::ToCluster;
use crate::shard::command::{Command, MemberCounts, Request};
use crate::shard::departed::Departed;
use crate::shard::frames;
use crate::shard::mailbox::{Full, MailboxSender};
use crate::shard::settings::ShardId;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::RoomId;
use uproar_proto::room::log::Batch;

/// The sending ends of one shard's mailboxes; its receiving ends are its `Inbox`.
pub(super) struct Outbox<S> {
    // This shard: nothing is sent to it.
    here: ShardId,
    // To each shard, in order.
    commands: Vec<MailboxSender<Command<S>>>,
    // To each shard, in order.
    requests: Vec<MailboxSender<Request<S>>>,
    // To the cluster's thread, on a node of a cluster.
    cluster: Option<MailboxSender<ToCluster>>,
    // Members that left while the mailbox to their room's home was full, by home and room. Rooms
    // with members here bound it.
    departed: HashMap<(ShardId, RoomId), MemberCounts>,
    // Where some of them stood.
    places: Vec<(ShardId, RoomId, Departed)>,
}

/// What [`Outbox::flush`] could not send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unsent {
    /// Commands that wait for a place in a full mailbox.
    pub(super) commands: usize,
    /// Whether departures wait.
    pub(super) departures: bool,
}

impl<S> Outbox<S> {
    /// Makes the outbox of shard `here`, with a mailbox of each kind to every shard, in order, and one
    /// to the cluster if there is one.
    pub(super) fn new(
        here: ShardId,
        commands: Vec<MailboxSender<Command<S>>>,
        requests: Vec<MailboxSender<Request<S>>>,
        cluster: Option<MailboxSender<ToCluster>>,
    ) -> Self {
        debug_assert_eq!(commands.len(), requests.len(), "one of each to every shard");
        Self {
            here,
            commands,
            requests,
            cluster,
            departed: HashMap::new(),
            places: Vec::new(),
        }
    }

    /// Whether the mailbox to `shard` has room for commands.
    pub(super) fn has_room(&self, shard: ShardId) -> bool {
        self.commands.get(shard).is_none_or(MailboxSender::has_room)
    }

    /// Whether the mailboxes to all shards have room for commands.
    pub(super) fn has_room_everywhere(&self) -> bool {
        self.commands.iter().all(MailboxSender::has_room)
    }

    /// Whether the mailbox has room to every shard that a flush of a room concerns: those with
    /// members, or all of them if it evicts users.
    pub(super) fn has_room_for(&self, members: &[u32], evicts: bool) -> bool {
        let mut shards = members.iter().zip(&self.commands).enumerate();
        shards.all(|(shard, (members, mailbox))| {
            shard == self.here || (*members == 0 && !evicts) || mailbox.has_room()
        })
    }

    /// Sends a command to another shard. Each caller is bounded, or has checked for room first.
    pub(super) fn send(&mut self, shard: ShardId, command: Command<S>) {
        debug_assert_ne!(shard, self.here, "a shard sends itself nothing");
        if let Some(mailbox) = self.commands.get_mut(shard) {
            mailbox.deliver(command);
        }
    }

    /// Sends a command to every other shard.
    pub(super) fn send_to_others(&mut self, command: impl Fn() -> Command<S>) {
        for shard in (0..self.commands.len()).filter(|shard| *shard != self.here) {
            self.commands[shard].deliver(command());
        }
    }

    /// Sends a room's batch to each other shard that has members, by the home's count of them.
    pub(super) fn send_batch(
        &mut self,
        room: RoomId,
        members: &[u32],
        batch: &Batch,
        accepted: Tick,
    ) {
        frames::note_batch(room, batch);
        let elsewhere = members
            .iter()
            .zip(self.commands.iter_mut())
            .enumerate()
            .filter(|(shard, (count, _))| *shard != self.here && **count > 0);
        for (_, (_, mailbox)) in elsewhere {
            mailbox.deliver(Command::Batch(room, batch.clone(), accepted));
        }
    }

    /// Sends a request to another shard.
    ///
    /// # Errors
    ///
    /// Returns the request if the mailbox is full.
    pub(super) fn request(
        &mut self,
        shard: ShardId,
        request: Request<S>,
    ) -> Result<(), Full<Request<S>>> {
        match self.requests.get_mut(shard) {
            Some(mailbox) => mailbox.offer(request),
            None => Err(Full(request)),
        }
    }

    /// Sends to the cluster's thread. What waits there is bounded by the shard's tables of requests and
    /// connections.
    pub(super) fn tell_cluster(&mut self, item: ToCluster) {
        debug_assert!(self.cluster.is_some(), "the server is a node of a cluster");
        if let Some(mailbox) = &mut self.cluster {
            mailbox.deliver(item);
        }
    }

    /// Reports members that left to their room's home: at once, or together with later ones when
    /// the mailbox has room.
    pub(super) fn report_departures(
        &mut self,
        home: ShardId,
        room: RoomId,
        departures: MemberCounts,
    ) {
        if self.has_room(home) {
            self.send(home, Command::MembersLeft(room, self.here, departures));
        } else {
            *self.departed.entry((home, room)).or_default() += departures;
        }
    }

    /// Reports where a member stands that leaves to its room's home, at once or when the mailbox has room. Members bound
    /// what waits.
    pub(super) fn report_place(&mut self, home: ShardId, room: RoomId, departed: Departed) {
        if self.has_room(home) {
            self.send(home, Command::Departed(room, departed));
        } else {
            self.places.push((home, room, departed));
        }
    }

    /// Whether departures wait for room in a mailbox.
    pub(super) fn has_departures(&self) -> bool {
        !self.departed.is_empty() || !self.places.is_empty()
    }

    /// Moves kept items on and wakes the shards that got any.
    pub(super) fn flush(&mut self) -> Unsent {
        self.flush_departed();
        let others = |shard: &usize| *shard != self.here;
        for shard in (0..self.requests.len()).filter(others) {
            self.requests[shard].flush();
        }
        let mut kept = 0;
        for shard in (0..self.commands.len()).filter(others) {
            self.commands[shard].flush();
            kept += self.commands[shard].kept();
        }
        if let Some(mailbox) = &mut self.cluster {
            mailbox.flush();
            kept += mailbox.kept();
        }
        Unsent {
            commands: kept,
            departures: self.has_departures(),
        }
    }

    fn flush_departed(&mut self) {
        for (home, room, departed) in std::mem::take(&mut self.places) {
            self.report_place(home, room, departed);
        }
        if self.departed.is_empty() {
            return;
        }
        let (here, commands) = (self.here, &mut self.commands);
        self.departed.retain(|(home, room), departures| {
            let Some(mailbox) = commands.get_mut(*home) else {
                return false;
            };
            mailbox.flush();
            if mailbox.has_room() {
                mailbox.deliver(Command::MembersLeft(*room, here, *departures));
                return false;
            }
            true
        });
        if self.departed.is_empty() {
            // A rush of departures may have made the table large.
            self.departed = HashMap::new();
        }
    }
}
