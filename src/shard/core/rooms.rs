//! The rooms of one shard: those at home here, and those with members here.
//!
//! Owns: rooms with their order, audience and log, the queues of those that have work, messages
//! under review, batches that wait for the archive. Never: connections, which it knows by their
//! keys.

pub(super) mod cluster;
mod estate;
mod extended;
mod figures;
pub(super) mod flush;
mod held;
mod logged;
mod memory;
mod publish;
mod recall;
mod review;
pub(super) mod tallies;
mod unsaid;
mod viewers;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::recall::recall;
use super::env::Env;
use crate::shard::archived::ArchivedSlots;
use crate::shard::command::Refused;
use crate::shard::command::{
    Answer, Command, Eviction, MemberCounts, PendingConnection, Said, UserEvent, WhenAll,
};
use crate::shard::durability::{DurabilityGate, LoggedFrames};
use crate::shard::mailbox::MailboxSender;
use crate::shard::pace::Pace;
use crate::shard::requests::Requests;
use crate::shard::review::{ReviewQueue, ReviewRequest};
use crate::shard::room_sizes::Census;
use crate::shard::settings::{ShardId, ShardSettings};
use crate::shard::shard_room::moderated::Moderated;
use crate::shard::shard_room::{HomeRoom, ShardRoom};
use crate::shard::watched::Watched;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::base::limits::SENDS_PER_TURN_MAX;
use uproar_proto::base::table::{Slot, Table};
use uproar_proto::room::RoomSettings;
use uproar_proto::room::audience::{MemberIndex, MemberKey};
use uproar_proto::room::log::Batch;
use uproar_proto::room::review::Pending;

/// The rooms of one shard. A queue may hold the slot of a room that is gone: it finds nothing and
/// is dropped.
pub(super) struct Rooms {
    table: Table<ShardRoom>,
    // The slot of each room. Invariant: it has every entry of `table`, under the entry's id; while
    // a room is being deleted, its entry is in `table` alone.
    by_id: HashMap<RoomId, Slot<ShardRoom>>,
    // An entry of `by_id`: the room that somebody joined last, for a herd comes to one room.
    latest: Option<(RoomId, Slot<ShardRoom>)>,
    // Rooms at home here with something to flush: those whose `unflushed` is set, once each.
    unflushed: Vec<Slot<ShardRoom>>,
    // Rooms whose members are being served, in turn: those whose `walking` is set, once each.
    walking: VecDeque<Slot<ShardRoom>>,
    // Rooms whose log must be aged: those whose `aging` is set, once each.
    aging: Vec<Slot<ShardRoom>>,
    // Rooms at home here with chat modes or a memory, once each, and some that had one a moment ago.
    moded: Vec<Slot<ShardRoom>>,
    // Rooms at home here with something to tell of tallies or reactions, or votes to hand on: those whose `is_listed` is set,
    // once each. Looked at when the first of it is due.
    tallied: Vec<Slot<ShardRoom>>,
    tallies_due: Tick,
    // Rooms at home here that tell their number of viewers, and those of which other nodes of a cluster are told.
    watched: Watched,
    // How many rooms there are of each size.
    census: Census,
    // How long a room collects messages, by the measured cost of sends.
    pace: Pace,
    // The shard freezes: rooms do not wait for the pace.
    hurries: bool,
    // Messages under review, of all rooms at home here.
    review_queue: ReviewQueue<Slot<ShardRoom>>,
    // Calls of the API whose messages are under review, by the message's id: no more than these.
    speakers: HashMap<FrameId, Answer<Said>>,
    // Batches of logged rooms at home here, until they are in the spool.
    gate: DurabilityGate<Delivery>,
    // Requests that a cluster orders, on a node of one.
    requests: Option<Box<Requests>>,
    // How far the cluster's logs are in the archive, on a node of one.
    archived: Option<Box<ArchivedSlots>>,
    // What senders here are told whose messages were taken back before they came to them.
    unsaid: Vec<UserEvent>,
}

/// A batch of a logged room, to be delivered once it is in the spool.
#[derive(Debug)]
pub(super) struct Delivery {
    room_slot: Slot<ShardRoom>,
    batch: Batch,
    // When the first of its messages came.
    accepted: Tick,
    // Frames for the archive; zero once the room is not logged any more.
    logged: u64,
    // With the last batch of a flush: when the first deletion or disconnect in it was accepted.
    moderated: Option<Tick>,
    // With the last batch of a flush: users to evict and API calls to answer after it.
    evictions: Vec<Eviction>,
    answers: Vec<(Answer<Said>, Said)>,
}

/// What a flush of a room leaves to be done.
#[must_use]
#[derive(Debug)]
pub(super) enum Flushed {
    /// The batches went to all members: evict these users now.
    Sent(Vec<Eviction>),
    /// The room is logged: deliver these batches now, in order. The others are held for the
    /// archive.
    Logged(Vec<Delivery>),
}

/// A walk that has ended: what came since this instant was offered to this many members.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spread {
    pub(super) since: Tick,
    pub(super) members: usize,
}

/// What has ended with a slice of a walk.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) walk: Option<Spread>,
    /// Every member was offered the deletions and disconnects of which the first was accepted then.
    pub(super) moderated: Option<Tick>,
}

/// A room that is being deleted here: its members leave, then [`Rooms::end_deletion`] forgets it.
#[must_use]
pub(super) struct Deletion {
    /// Its slot, which finds it until the end.
    pub(super) room_slot: Slot<ShardRoom>,
    /// Its members' connections.
    pub(super) members: Vec<MemberKey>,
}

impl Rooms {
    /// Makes a shard without rooms. `reviews` leads to the control thread, `archive` to the archive
    /// if there is one. `is_clustered`: the server is a node of a cluster.
    pub(super) fn new(
        settings: &ShardSettings,
        reviews: MailboxSender<ReviewRequest>,
        archive: Option<MailboxSender<LoggedFrames>>,
        is_clustered: bool,
    ) -> Self {
        Self {
            table: Table::default(),
            by_id: HashMap::new(),
            latest: None,
            unflushed: Vec::new(),
            walking: VecDeque::new(),
            aging: Vec::new(),
            census: Census::default(),
            moded: Vec::new(),
            tallied: Vec::new(),
            tallies_due: Tick::default(),
            watched: Watched::default(),
            pace: Pace::new(settings.pace_ceiling),
            hurries: false,
            review_queue: ReviewQueue::new(reviews),
            speakers: HashMap::new(),
            gate: DurabilityGate::new(archive),
            requests: is_clustered.then(Box::default),
            archived: is_clustered.then(Box::default),
            unsaid: Vec::new(),
        }
    }

    /// Changes how long a room collects messages at most.
    pub(super) fn set_pace_ceiling(&mut self, ceiling: Duration) {
        self.pace.set_ceiling(ceiling);
    }

    /// Makes place for this many rooms.
    pub(super) fn reserve(&mut self, count: usize) {
        self.by_id.reserve(count);
    }

    /// The room in this slot, unless it is gone.
    pub(super) fn get(&self, room_slot: Slot<ShardRoom>) -> Option<&ShardRoom> {
        self.table.get(room_slot)
    }

    /// The room in this slot, unless it is gone.
    pub(super) fn get_mut(&mut self, room_slot: Slot<ShardRoom>) -> Option<&mut ShardRoom> {
        self.table.get_mut(room_slot)
    }

    /// The slot of a room, if the shard knows it.
    pub(super) fn find(&self, room: RoomId) -> Option<Slot<ShardRoom>> {
        match self.latest {
            Some((latest, slot)) if latest == room => Some(slot),
            Some(_) | None => self.by_id.get(&room).copied(),
        }
    }

    /// Takes a room out of those that are found; returns its slot.
    fn lose(&mut self, room: RoomId) -> Option<Slot<ShardRoom>> {
        self.latest.take_if(|(latest, _)| *latest == room);
        self.by_id.remove(&room)
    }

    /// The home of a room, if it is at home here.
    fn home_mut(&mut self, room: RoomId) -> Option<(Slot<ShardRoom>, &mut HomeRoom)> {
        let room_slot = self.find(room)?;
        Some((room_slot, self.home_in(room_slot)?))
    }

    /// The home of the room in this slot, if it is at home here.
    fn home_in(&mut self, room_slot: Slot<ShardRoom>) -> Option<&mut HomeRoom> {
        self.table.get_mut(room_slot)?.home.as_deref_mut()
    }

    /// Number of members here and, on the home shard, its count of them on each shard.
    pub(super) fn census(&self, room: RoomId) -> (usize, Option<&[u32]>) {
        let shard_room = self.find(room).and_then(|slot| self.table.get(slot));
        shard_room.map_or((0, None), |shard_room| {
            let counted = shard_room.home.as_ref().map(|home| &home.members[..]);
            (shard_room.audience.len(), counted)
        })
    }

    /// Adds a room at home here, or changes its settings on all shards. A room whose sinks change
    /// is flushed first: its messages until now go to the old ones.
    pub(super) fn put<S>(
        &mut self,
        room: RoomId,
        settings: RoomSettings,
        done: &Arc<WhenAll>,
        env: &mut Env<S>,
    ) -> Option<(Slot<ShardRoom>, Flushed)> {
        let Some(room_slot) = self.find(room) else {
            self.load(room, settings, env);
            return None;
        };
        let archive = self.get(room_slot)?.settings.archive;
        let flushed = (archive != settings.archive).then(|| self.flush(room_slot, env));
        env.outbox
            .send_to_others(|| Command::SettingsChanged(room, settings.clone(), Arc::clone(done)));
        if let Some(shard_room) = self.table.get_mut(room_slot) {
            if let Some(home) = &mut shard_room.home {
                if !settings.has_rules() {
                    let mut context = env.publish_context(&mut self.review_queue);
                    home.end_waiting(room, Tick::from_nanos(u64::MAX), &mut context);
                }
                home.set_settings(settings.clone());
            }
            let before = std::mem::replace(&mut shard_room.settings, settings);
            if !self.moded.contains(&room_slot) {
                self.note_moded(room_slot);
            }
            self.watch(room_slot);
            self.tell_state(room_slot, before.extension.as_deref(), env);
        }
        flushed.map(|flushed| (room_slot, flushed))
    }

    /// Adds a room at home here; `false` if it is there already.
    pub(super) fn load<S>(
        &mut self,
        room: RoomId,
        settings: RoomSettings,
        env: &mut Env<S>,
    ) -> bool {
        if self.find(room).is_some() {
            return false;
        }
        let shards = env.settings.shard_count;
        let mut home = Box::new(HomeRoom::new(settings.clone(), shards, self.is_clustered()));
        if let Some(requests) = &self.requests {
            home.room.saw(requests.dropped_sent);
        }
        let slot = self
            .table
            .insert(ShardRoom::new(room, settings, Some(home)));
        self.by_id.insert(room, slot);
        self.note_moded(slot);
        self.watch(slot);
        env.metrics.rooms.add(1);
        self.author_early(room, env);
        true
    }

    /// Takes a room's changed settings from its home shard.
    pub(super) fn change_settings(&mut self, room: RoomId, settings: RoomSettings) {
        if let Some(room_slot) = self.find(room)
            && let Some(shard_room) = self.table.get_mut(room_slot)
        {
            shard_room.settings = settings;
        }
    }

    /// Tells the other shards that a room at home here is deleted.
    pub(super) fn announce_deletion<S>(
        &self,
        room: RoomId,
        env: &mut Env<S>,
    ) -> Result<(), Refused> {
        self.find(room).ok_or(Refused::NoSuchRoom)?;
        env.outbox.send_to_others(|| Command::RoomDeleted(room));
        let rooms = &env.metrics.rooms;
        rooms.set(rooms.get().saturating_sub(1));
        Ok(())
    }

    /// Begins to delete a room here: no request finds it any more.
    pub(super) fn begin_deletion<S>(&mut self, room: RoomId, env: &mut Env<S>) -> Option<Deletion> {
        let room_slot = self.lose(room)?;
        let shard_room = self.table.get_mut(room_slot)?;
        // With a home in place, departures are not reported to another shard.
        let no_home = Some(Box::new(HomeRoom::new(
            shard_room.settings.clone(),
            0,
            false,
        )));
        let before = std::mem::replace(&mut shard_room.home, no_home);
        let members = shard_room.audience.keys().collect();
        if let Some(home) = before {
            self.end_home(&home, env);
        }
        Some(Deletion { room_slot, members })
    }

    /// Forgets a room whose members have left.
    pub(super) fn end_deletion(&mut self, room_slot: Slot<ShardRoom>) {
        let gone = self.table.remove(room_slot);
        debug_assert!(
            gone.is_none_or(|shard_room| shard_room.audience.is_empty()),
            "every member has left"
        );
    }

    /// Chooses the shard of one more member, counts it there, and gives it what the room remembers for it. `None`: the room
    /// is not at home here.
    pub(super) fn place<S>(
        &mut self,
        pending: &mut PendingConnection<S>,
        env: &Env<S>,
    ) -> Option<(ShardId, RoomSettings)> {
        let room_slot = self.find(pending.room)?;
        self.latest = Some((pending.room, room_slot));
        let arrives = pending.counts();
        let shard_room = self.table.get_mut(room_slot)?;
        let home = shard_room.home.as_mut()?;
        // A shard that does not keep up gets no more members.
        let wanted = home.place(env.id, env.settings.stripe_members_min);
        let shard = if env.outbox.has_room(wanted) {
            wanted
        } else {
            env.id
        };
        home.arrives(shard, arrives);
        home.viewers_arrive(arrives, env.now);
        let settings = home.settings_to_join(shard_room.settings.clone());
        pending.arrival.heard = home.frames;
        if let Some(remembering) = &mut home.remembering {
            recall(remembering, pending, env);
        }
        self.note_peopled(room_slot);
        Some((shard, settings))
    }

    /// Finds the room of a member to be installed here; the first one makes it.
    pub(super) fn enter(&mut self, room: RoomId, settings: RoomSettings) -> Slot<ShardRoom> {
        if let Some((latest, slot)) = self.latest
            && latest == room
        {
            return slot;
        }
        let table = &mut self.table;
        *self
            .by_id
            .entry(room)
            .or_insert_with(|| table.insert(ShardRoom::new(room, settings, None)))
    }

    /// Takes a member out of its room's audience and reports it to the home. A room with neither
    /// home nor members here is forgotten. The member with the returned key has the freed index
    /// now: its connection must be told.
    #[must_use]
    pub(super) fn leave<S>(
        &mut self,
        room_slot: Slot<ShardRoom>,
        member: MemberIndex,
        departures: MemberCounts,
        env: &mut Env<S>,
    ) -> Option<MemberKey> {
        let shard_room = self.table.get_mut(room_slot)?;
        let moved = shard_room.audience.leave(member);
        if let Some(home) = &mut shard_room.home {
            home.departs(env.id, departures);
            return moved;
        }
        let (room, is_empty) = (shard_room.id, shard_room.audience.is_empty());
        let home = env.settings.home(room);
        env.outbox.report_departures(home, room, departures);
        if is_empty {
            self.table.remove(room_slot);
            self.lose(room);
        }
        moved
    }

    /// Forgets a room with neither home nor members here.
    pub(super) fn forget_if_unused(&mut self, room_slot: Slot<ShardRoom>) {
        if let Some(shard_room) = self.table.get(room_slot)
            && shard_room.home.is_none()
            && shard_room.audience.is_empty()
        {
            let room = shard_room.id;
            self.lose(room);
            self.table.remove(room_slot);
        }
    }

    /// Takes back the count of a member that could not be installed here.
    pub(super) fn absent<S>(&mut self, room: RoomId, departures: MemberCounts, env: &mut Env<S>) {
        let home = env.settings.home(room);
        if home == env.id {
            self.members_left(room, home, departures);
        } else {
            env.outbox.report_departures(home, room, departures);
        }
    }

    /// Counts members that left `shard`; their room is at home here.
    pub(super) fn members_left(&mut self, room: RoomId, shard: ShardId, departures: MemberCounts) {
        if let Some((_, home)) = self.home_mut(room) {
            home.departs(shard, departures);
        }
    }

    /// Takes the next room whose members must be served, and how many of them; `None` if that is
    /// more than `sends_left`, or none must be. [`Rooms::end_slice`] follows.
    ///
    /// A huge room is served in slices, so that it delays a small one by a slice only. A slice
    /// starts only if the turn's send budget covers it: otherwise the members it cut off would wait
    /// for a full round over all rooms.
    pub(super) fn next_slice(&mut self, sends_left: usize) -> Option<(Slot<ShardRoom>, usize)> {
        let room_slot = self.walking.front().copied()?;
        let members = self.get(room_slot);
        let slice = slice_sends(members.map_or(0, |shard_room| shard_room.audience.len()));
        if slice > sends_left {
            return None;
        }
        self.walking.pop_front();
        Some((room_slot, slice))
    }

    /// Puts a room at the end of the queue again if members of it are still to be served; returns what has ended.
    pub(super) fn end_slice(&mut self, room_slot: Slot<ShardRoom>) -> Ended {
        let Some(shard_room) = self.table.get_mut(room_slot) else {
            return Ended::default();
        };
        let audience = &shard_room.audience;
        // Messages behind a deletion may keep the walk going.
        let is_over = |moderated: &mut Moderated| audience.has_offered(moderated.until);
        let moderated = shard_room.moderated.take_if(is_over);
        let mut ended = Ended {
            walk: None,
            moderated: moderated.map(|moderated| moderated.since),
        };
        shard_room.walking = audience.is_walking();
        if shard_room.walking {
            self.walking.push_back(room_slot);
        } else {
            ended.walk = shard_room.spreading.take().map(|since| Spread {
                since,
                members: audience.len(),
            });
        }
        ended
    }

    /// Whether members of some room must be served.
    pub(super) fn is_walking(&self) -> bool {
        !self.walking.is_empty()
    }

    /// Notes that a room's members must be served.
    fn note_walking(&mut self, room_slot: Slot<ShardRoom>) {
        if let Some(shard_room) = self.table.get_mut(room_slot)
            && !shard_room.walking
        {
            shard_room.walking = true;
            self.walking.push_back(room_slot);
        }
    }

    /// Wakes the archive and the control thread for new items; returns whether some still wait.
    pub(super) fn flush_mailboxes(&mut self) -> bool {
        let waits = self.gate.flush();
        self.review_queue.flush() || waits
    }

    /// Asserts the invariants above, and each room's own. It costs a pass over all rooms.
    ///
    /// # Panics
    ///
    /// If one does not hold.
    pub(super) fn check(&self, here: ShardId) {
        assert_eq!(self.table.len(), self.by_id.len(), "each room has one id");
        let (mut unflushed, mut walking, mut aging) = (0, 0, 0);
        if let Some((id, slot)) = &self.latest {
            assert_eq!(self.by_id.get(id), Some(slot), "the latest one is an entry");
        }
        for (id, slot) in &self.by_id {
            let shard_room = self.table.get(*slot).expect("each id has a room");
            assert_eq!(shard_room.id, *id);
            shard_room.check(here);
            unflushed += usize::from(shard_room.unflushed);
            walking += usize::from(shard_room.walking);
            aging += usize::from(shard_room.aging);
        }
        let living = |slots: &mut dyn Iterator<Item = &Slot<ShardRoom>>| {
            slots
                .filter(|slot| self.table.get(**slot).is_some())
                .count()
        };
        assert_eq!(
            living(&mut self.unflushed.iter()),
            unflushed,
            "unflushed rooms are listed once"
        );
        assert_eq!(
            living(&mut self.walking.iter()),
            walking,
            "walking rooms are queued once"
        );
        assert_eq!(
            living(&mut self.aging.iter()),
            aging,
            "aging rooms are listed once"
        );
        self.check_modes();
        let homes = self
            .by_id
            .values()
            .filter_map(|slot| self.get(*slot)?.home.as_ref());
        let pending: usize = homes
            .filter_map(|home| home.reviewed())
            .map(Pending::len)
            .sum();
        assert_eq!(
            self.review_queue.held(),
            pending,
            "messages under review are counted once"
        );
        self.gate.check();
        if let Some(requests) = &self.requests {
            requests.check();
        }
        if let Some(archived) = &self.archived {
            archived.check();
        }
    }
}

/// Sends to a room of this size before the next room's turn. A room that fits into a turn is served
/// whole: splitting it would delay its last members by a full round over all rooms.
fn slice_sends(members: usize) -> usize {
    if members <= SENDS_PER_TURN_MAX {
        members.max(1)
    } else {
        SENDS_PER_TURN_MAX / 2
    }
}
