//! The hand-over of a frozen shard's rooms and viewers, and the shard that takes them over.
//!
//! The old shard is frozen; exporting does not change it, so a hand-over that fails is followed by
//! a thaw. The new shard has its rooms and no viewers; it is frozen from
//! [`Core::inherit_rooms`] to [`Core::resume`], so that a room has one authority at any instant.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Core;
use super::taken_over::TakenOver;
use crate::net::io::Io;
use crate::shard::command::{Command, MemberCounts, SenderAddress};
use crate::shard::estate::rooms::RoomEstate;
use crate::shard::estate::{Carried, Inherited, RoomsEstate, SenderTag, Viewers, ViewersCursor};
use uproar_proto::base::id::RoomId;
use uproar_proto::extension::speech::Key;
use uproar_proto::room::RoomSettings;

impl<W: Io> Core<W> {
    /// Returns this shard's part of the rooms, for
    /// [`merge_rooms`](crate::shard::estate::merge_rooms). It costs a pass over all rooms and members, and a copy of
    /// the batches that some of them need.
    pub fn rooms_estate(&self) -> Vec<u8> {
        debug_assert!(self.is_frozen(), "only a frozen shard is handed over");
        self.rooms.estate(self.freeze.since, &self.env)
    }

    /// Returns the next viewers, at most `most`: the connection, which stays as it is, and its
    /// record, at most [`ESTATE_RECORD_BYTES_MAX`](uproar_proto::base::limits::ESTATE_RECORD_BYTES_MAX) bytes and
    /// those of one unfinished send. Connections that are over are left out, and those that only wait
    /// for the client's end.
    pub fn viewers(
        &self,
        cursor: ViewersCursor,
        most: usize,
    ) -> (Viewers<'_, W::FixedFile>, ViewersCursor) {
        debug_assert!(self.is_frozen(), "only a frozen shard is handed over");
        self.connections
            .viewers(cursor, most, &self.rooms, &self.env)
    }

    /// Takes over rates, messages under review and unsent batches of another process's rooms. The
    /// shard is frozen from now on.
    pub fn inherit_rooms(&mut self, estate: &Arc<RoomsEstate>) {
        if !self.connections.is_empty() || self.taken_over.is_some() {
            debug_assert!(false, "a shard takes over once, before it has viewers");
            return;
        }
        let now = self.env.now.tick;
        let since = estate.freezing().unwrap_or(now);
        self.freeze.begin_frozen(since.min(now));
        self.connections.begin_frozen();
        self.rooms.inherit(estate, &self.env);
        self.taken_over = Some(TakenOver::new(Arc::clone(estate)));
    }

    /// Takes over viewers of another process, and tells the homes of their rooms. Returns how many are taken over,
    /// and why others are not.
    pub fn inherit(&mut self, viewers: Vec<Inherited<W::Socket>>) -> Carried {
        let mut carried = Carried::default();
        let mut arrived: HashMap<RoomId, (MemberCounts, Vec<Key>)> = HashMap::new();
        let Some(taken_over) = &self.taken_over else {
            debug_assert!(false, "rooms are taken over first");
            return carried;
        };
        let estate = Arc::clone(&taken_over.estate);
        for viewer in viewers {
            let (rooms, env) = (&mut self.rooms, &mut self.env);
            match self.connections.inherit(viewer, &estate, rooms, env) {
                Ok(viewer) => {
                    carried.viewers += 1;
                    let Some((room, counts)) = viewer.member else {
                        continue;
                    };
                    let (all, users) = arrived.entry(room).or_default();
                    *all += counts;
                    if estate.room(room).is_some_and(RoomEstate::remembers) {
                        users.push(viewer.user);
                    }
                    if estate.is_sender(viewer.tag) {
                        self.tell_sender(room, viewer.tag, viewer.sender);
                    }
                }
                Err(reason) => carried.refuse(reason),
            }
        }
        for (room, (counts, users)) in arrived {
            self.tell_arrived(room, counts, users);
        }
        carried
    }

    /// Answers with what [`Core::inherit`] returned, once the homes of all rooms have counted their
    /// members.
    pub fn answer_inherited(&mut self, answer: oneshot::Sender<Carried>, carried: Carried) {
        if let Some(taken_over) = &mut self.taken_over {
            taken_over.answer(answer, carried);
        }
    }

    /// Serves: the other process is gone. Receives are armed, sends continue, and reviews are asked for again, with
    /// their whole time: the pause was the server's.
    pub fn resume(&mut self) {
        if let Some(TakenOver {
            estate, senders, ..
        }) = self.taken_over.take()
        {
            self.rooms.settle_places(&estate, self.env.now.tick);
            self.rooms.resume_reviews(&estate, &senders, &mut self.env);
        }
        self.thaw();
    }

    /// Notes that a home has counted members that arrived here.
    pub(super) fn members_counted(&mut self, room: RoomId, settings: Option<RoomSettings>) {
        if let Some(settings) = settings {
            self.rooms.change_settings(room, settings);
        } else {
            let (rooms, env) = (&mut self.rooms, &mut self.env);
            self.connections.delete_room(room, rooms, env);
        }
        if let Some(taken_over) = &mut self.taken_over {
            taken_over.counted();
        }
    }

    /// Notes where the sender of a message under review is now.
    pub(super) fn sender_moved(&mut self, tag: SenderTag, sender: SenderAddress) {
        if let Some(taken_over) = &mut self.taken_over {
            taken_over.senders.insert(tag, sender);
        }
    }

    fn tell_sender(&mut self, room: RoomId, tag: SenderTag, sender: SenderAddress) {
        let home = self.env.settings.home(room);
        if home == self.env.id {
            self.sender_moved(tag, sender);
        } else {
            self.env
                .outbox
                .send(home, Command::SenderMoved(tag, sender));
        }
    }

    fn tell_arrived(&mut self, room: RoomId, counts: MemberCounts, users: Vec<Key>) {
        let (home, here) = (self.env.settings.home(room), self.env.id);
        if home == here {
            let arrived = (counts, &users[..]);
            let known = self.rooms.members_arrived(room, here, arrived, &self.env);
            debug_assert!(known.is_some(), "its members were taken over");
            return;
        }
        let arrived = Command::MembersArrived(room, here, counts, users.into());
        self.env.outbox.send(home, arrived);
        if let Some(taken_over) = &mut self.taken_over {
            taken_over.told();
        }
    }
}
