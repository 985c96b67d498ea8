//! The thread's end of the mailboxes to the shards: what the engine has for rooms goes to the shard where they are at home.

use std::os::fd::OwnedFd;

use rtrb::Consumer;
use tokio::sync::oneshot;

use crate::shard::cluster::{FromCluster, ToCluster, TokenOutcome, ticket_shard};
use crate::shard::command::{Command, UserEvent};
use crate::shard::mailbox::MailboxSender;
use crate::shard::settings::ShardSettings;
use crate::shard::survey::Survey;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::HASH_SLOTS;
use uproar_proto::cluster::engine::{Outcome, RequestKey, Ticket};
use uproar_proto::cluster::message::Ask;
use uproar_proto::cluster::record::Entry;
use uproar_proto::cluster::{Epoch, HashSlot, Incarnation, Sequence};
use uproar_proto::extension::viewers::Count;
use uproar_proto::token::TokenId;

/// All shards of this node.
pub(super) struct Shards {
    settings: ShardSettings,
    receivers: Vec<Consumer<ToCluster>>,
    mailboxes: Vec<MailboxSender<Command<OwnedFd>>>,
    archives: Archives,
}

/// How far the logs are in this node's archive, in the newest epoch of each in which frames were handed to it.
struct Archives {
    epochs: [Option<Epoch>; HASH_SLOTS],
    // Of each shard and hash slot: how far frames that its archive takes were sent, and how far they are there.
    shards: Vec<[Archive; HASH_SLOTS]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Archive {
    sent: Sequence,
    done: Sequence,
}

impl Archives {
    fn new(shards: usize) -> Self {
        Self {
            epochs: [None; HASH_SLOTS],
            shards: vec![[Archive::default(); HASH_SLOTS]; shards],
        }
    }

    /// A record's frames go to a shard that hands them over.
    fn sent(&mut self, shard: usize, (slot, epoch): (HashSlot, Epoch), record: Sequence) {
        if self.epochs[slot.index()] != Some(epoch) {
            self.forget(slot);
            self.epochs[slot.index()] = Some(epoch);
        }
        self.shards[shard][slot.index()].sent = record;
    }

    fn forget(&mut self, slot: HashSlot) {
        self.epochs[slot.index()] = None;
        for slots in &mut self.shards {
            slots[slot.index()] = Archive::default();
        }
    }

    /// Takes one shard's word that its archive has the frames up to `record`. Returns up to where all shards' do, if that is
    /// known now.
    fn done(
        &mut self,
        shard: usize,
        (slot, epoch): (HashSlot, Epoch),
        record: Sequence,
    ) -> Option<Sequence> {
        if self.epochs[slot.index()] != Some(epoch) {
            return None;
        }
        let place = &mut self.shards[shard][slot.index()];
        place.done = place.done.max(record);
        let places = self.shards.iter().map(|slots| slots[slot.index()]);
        let behind = places.clone().filter(|place| place.done < place.sent);
        let newest = places.map(|place| place.sent).max();
        behind.map(|place| place.done).min().or(newest)
    }
}

impl Shards {
    pub(super) fn new(
        settings: ShardSettings,
        receivers: Vec<Consumer<ToCluster>>,
        mailboxes: Vec<MailboxSender<Command<OwnedFd>>>,
    ) -> Self {
        let archives = Archives::new(receivers.len());
        Self {
            settings,
            receivers,
            mailboxes,
            archives,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.receivers.len()
    }

    pub(super) fn pop(&mut self, shard: usize) -> Option<ToCluster> {
        self.receivers[shard].pop().ok()
    }

    pub(super) fn has_items(&self) -> bool {
        self.receivers.iter().any(|receiver| !receiver.is_empty())
    }

    /// Whether no mailbox is full.
    pub(super) fn have_room(&self) -> bool {
        self.mailboxes.iter().all(MailboxSender::has_room)
    }

    pub(super) fn flush(&mut self) {
        for mailbox in &mut self.mailboxes {
            mailbox.flush();
        }
    }

    pub(super) fn author(&mut self, key: RequestKey, ask: Ask) {
        let home = self.settings.home(ask.room);
        self.send(home, FromCluster::Author { key, ask });
    }

    pub(super) fn deliver(
        &mut self,
        slot: HashSlot,
        epoch: Epoch,
        sequence: Sequence,
        is_home_here: bool,
        entries: Vec<Entry>,
    ) {
        for (shard, entries) in self.by_home(entries) {
            if is_home_here {
                self.archives.sent(shard, (slot, epoch), sequence);
            }
            let deliver = FromCluster::Deliver {
                slot,
                epoch,
                sequence,
                is_home_here,
                entries,
            };
            self.send(shard, deliver);
        }
    }

    pub(super) fn unarchived(
        &mut self,
        (slot, epoch): (HashSlot, Epoch),
        sequence: Sequence,
        entries: Vec<Entry>,
    ) {
        for (shard, entries) in self.by_home(entries) {
            self.archives.sent(shard, (slot, epoch), sequence);
            let unarchived = FromCluster::Unarchived {
                slot,
                epoch,
                sequence,
                entries,
            };
            self.send(shard, unarchived);
        }
    }

    pub(super) fn told(&mut self, ticket: Ticket, outcome: Outcome, sent: Option<UnixTime>) {
        let told = FromCluster::Told {
            ticket,
            outcome,
            sent,
        };
        self.send(ticket_shard(ticket), told);
    }

    pub(super) fn fenced(&mut self, slot: HashSlot) {
        self.archives.forget(slot);
        for shard in 0..self.count() {
            self.send(shard, FromCluster::Fenced(slot));
        }
    }

    /// The last word to every shard, for the freeze of this number.
    pub(super) fn halted(&mut self, freeze: u32) {
        for shard in 0..self.count() {
            self.send(shard, FromCluster::Halted(freeze));
        }
    }

    pub(super) fn token_used(&mut self, shard: usize, claim: u64, outcome: TokenOutcome) {
        self.send(shard, FromCluster::TokenUsed { claim, outcome });
    }

    /// Has every shard send an event through its user's connections; each answers with how many they are.
    pub(super) fn tell_user(&mut self, event: &UserEvent) -> Vec<oneshot::Receiver<u64>> {
        let mut answers = Vec::with_capacity(self.count());
        for mailbox in &mut self.mailboxes {
            let (answer, answered) = oneshot::channel();
            mailbox.deliver(Command::SendUserEvent(Box::new(event.clone()), answer));
            answers.push(answered);
        }
        answers
    }

    /// Has every shard close the connection that a token has opened, if it is there.
    pub(super) fn replace(&mut self, token: TokenId) {
        for mailbox in &mut self.mailboxes {
            mailbox.deliver(Command::Replace(token));
        }
    }

    /// Tells shards another node's counts of rooms.
    pub(super) fn viewers(&mut self, node: Incarnation, counts: Vec<(RoomId, Count)>) {
        let mut homes = vec![Vec::new(); self.count()];
        for (room, count) in counts {
            homes[self.settings.home(room)].push((room, count));
        }
        for (shard, counts) in homes.into_iter().enumerate() {
            if !counts.is_empty() {
                self.send(shard, FromCluster::Viewers(node, counts));
            }
        }
    }

    /// Asks every shard about a room.
    pub(super) fn survey<T>(
        &mut self,
        survey: impl Fn(oneshot::Sender<T>) -> Survey,
    ) -> Vec<oneshot::Receiver<T>> {
        let mut answers = Vec::with_capacity(self.count());
        for mailbox in &mut self.mailboxes {
            let (answer, answered) = oneshot::channel();
            mailbox.deliver(Command::Survey(survey(answer)));
            answers.push(answered);
        }
        answers
    }

    /// Takes one shard's word that its archive has the slot's frames up to `sequence`. Returns up to where all shards' do,
    /// if that is known now.
    pub(super) fn archived(
        &mut self,
        shard: usize,
        epoch: (HashSlot, Epoch),
        sequence: Sequence,
    ) -> Option<Sequence> {
        self.archives.done(shard, epoch, sequence)
    }

    /// The entries of each shard that has any, in order.
    fn by_home(&self, entries: Vec<Entry>) -> Vec<(usize, Vec<Entry>)> {
        let mut homes: Vec<(usize, Vec<Entry>)> = Vec::new();
        for entry in entries {
            let home = self.settings.home(entry.room);
            match homes.iter_mut().find(|(shard, _)| *shard == home) {
                Some((_, entries)) => entries.push(entry),
                None => homes.push((home, vec![entry])),
            }
        }
        homes
    }

    fn send(&mut self, shard: usize, item: FromCluster) {
        self.mailboxes[shard].deliver(Command::Cluster(Box::new(item)));
    }
}
