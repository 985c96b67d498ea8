//! Requests of one shard on their way through a cluster: its own until the cluster has told their end, and those that
//! it decides but whose rooms it does not know yet.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::cluster::{ticket, ticket_slot};
use tokio::sync::oneshot;

use super::command::{Answer, Said, SenderAddress, Voter};
use super::settings::ShardId;
use uproar_proto::base::clock::{Tick, UnixTime};
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::base::limits::{
    ADOPTED_BYTES_PER_TURN, CLUSTER_REQUESTS_MAX, UNKNOWN_ROOM_REQUESTS_MAX, UNKNOWN_ROOM_WAIT,
};
use uproar_proto::base::table::Table;
use uproar_proto::cluster::HashSlot;
use uproar_proto::cluster::engine::{RequestKey, Ticket};
use uproar_proto::cluster::message::Ask;
use uproar_proto::extension::held::HeldPage;
use uproar_proto::extension::tallies::{TallyAnswer, ToldTally};

/// Who made a request that the cluster decides.
#[derive(Debug)]
pub(super) enum Asker {
    /// A member, who gets a refusal.
    Member {
        /// Its connection.
        sender: SenderAddress,
        /// Its own id for the request.
        request_id: Box<str>,
        /// The id of the frame, or of the refusal.
        id: FrameId,
    },
    /// The API, which gets the frame's id and time.
    Api {
        /// Where it waits.
        answer: Answer<Said>,
        /// The id.
        id: FrameId,
    },
    /// The API, of a room's tallies.
    Tally(oneshot::Sender<TallyAnswer>),
    /// The API, of a room's held messages.
    Held(Answer<HeldPage>),
    /// Members who voted, in the order of their votes.
    Voters(Vec<Voter>),
    /// The server itself, which tells members of a tally.
    Told(RoomId, ToldTally),
    /// The server itself, which tells members of something else.
    Nobody,
}

/// A request that this shard decides, and its key.
pub(super) type Decidable = (RequestKey, Ask);

/// The requests.
#[derive(Debug, Default)]
pub(super) struct Requests {
    // Those of this shard that the cluster has not answered; at most `CLUSTER_REQUESTS_MAX`.
    asked: Table<Asker>,
    // Those for rooms that this node does not know yet, oldest first, each with its deadline; at most
    // `UNKNOWN_ROOM_REQUESTS_MAX`.
    early: VecDeque<(Tick, Decidable)>,
    /// `SendTime` of the newest frame that was dropped because its room was not known: a room that is
    /// made later does not begin before it.
    pub(super) dropped_sent: UnixTime,
    /// Frames and texts are cut from it.
    pub(super) buffer: BytesMut,
    // Bytes of frames that this turn has appended.
    adopted_bytes: usize,
}

impl Requests {
    /// Whether no more may wait.
    pub(super) fn is_full(&self) -> bool {
        self.asked.len() >= CLUSTER_REQUESTS_MAX
    }

    /// Lets a request of shard `here` wait for its end; returns its ticket.
    pub(super) fn wait(&mut self, here: ShardId, asker: Asker) -> Ticket {
        debug_assert!(!self.is_full(), "the caller asks before");
        ticket(here, self.asked.insert(asker))
    }

    /// Takes the request of a ticket; each has one end.
    pub(super) fn end(&mut self, ticket: Ticket) -> Option<Asker> {
        self.asked.remove(ticket_slot(ticket))
    }

    /// Number of those that wait.
    pub(super) fn waiting(&self) -> usize {
        self.asked.len()
    }

    /// Whether nobody waits for an end.
    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.early.is_empty()
    }

    /// Keeps a request for a room that is not known yet.
    ///
    /// # Errors
    ///
    /// Too many are kept already; the key of this one.
    pub(super) fn keep_early(&mut self, request: Decidable, now: Tick) -> Result<(), RequestKey> {
        if self.early.len() >= UNKNOWN_ROOM_REQUESTS_MAX {
            return Err(request.0);
        }
        self.early
            .push_back((now.after(UNKNOWN_ROOM_WAIT), request));
        Ok(())
    }

    /// Takes the requests for a room that is known now, in order.
    pub(super) fn take_early(&mut self, room: RoomId) -> Vec<Decidable> {
        if self.early.is_empty() {
            return Vec::new();
        }
        let (now_known, early) = std::mem::take(&mut self.early)
            .into_iter()
            .partition(|(_, (_, ask))| ask.room == room);
        self.early = early;
        let known: VecDeque<(Tick, Decidable)> = now_known;
        known.into_iter().map(|(_, request)| request).collect()
    }

    /// Takes a request whose room did not become known in time.
    pub(super) fn overdue(&mut self, now: Tick) -> Option<Decidable> {
        self.early
            .pop_front_if(|(deadline, _)| *deadline <= now)
            .map(|(_, request)| request)
    }

    /// When the first such request has waited for too long.
    pub(super) fn next_deadline(&self) -> Option<Tick> {
        self.early.front().map(|(deadline, _)| *deadline)
    }

    /// Drops the early requests of a hash slot: its new home gets them anew.
    pub(super) fn fence(&mut self, slot: HashSlot) {
        self.early.retain(|(_, (key, _))| key.slot != slot);
    }

    /// Notes bytes that this turn has appended.
    pub(super) fn adopted(&mut self, bytes: usize) {
        self.adopted_bytes += bytes;
    }

    /// Whether this turn has appended as much as it may.
    pub(super) fn has_enough(&self) -> bool {
        self.adopted_bytes >= ADOPTED_BYTES_PER_TURN
    }

    /// Ends a turn.
    pub(super) fn end_turn(&mut self) {
        self.adopted_bytes = 0;
    }

    /// Asserts the bounds above.
    ///
    /// # Panics
    ///
    /// If one does not hold.
    pub(super) fn check(&self) {
        assert!(
            self.waiting() <= CLUSTER_REQUESTS_MAX,
            "requests are bounded"
        );
        assert!(
            self.early.len() <= UNKNOWN_ROOM_REQUESTS_MAX,
            "early requests are bounded"
        );
        let deadlines = self.early.iter().map(|(deadline, _)| deadline);
        assert!(deadlines.is_sorted(), "the first deadline is the next");
    }
}
