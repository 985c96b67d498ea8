//! What shards and the cluster's thread tell each other: the shard's side of a cluster.
//!
//! A request goes from its room's home shard to the cluster, which has it authored by the same shard
//! of the hash slot's home node, and comes back to all nodes as an entry of the log. The thread
//! hands each shard what concerns rooms at home there, in the order of the log.

use bytes::Bytes;

use super::mailbox::{MailboxSender, MustArrive};
use super::settings::ShardId;
use super::user_event::UserEvent;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::table::Slot;
use uproar_proto::chat::ErrorCode;
use uproar_proto::cluster::engine::{Outcome, RequestKey, Ticket};
use uproar_proto::cluster::message::Ask;
use uproar_proto::cluster::record::Entry;
use uproar_proto::cluster::{Epoch, HashSlot, Incarnation, Sequence};
use uproar_proto::extension::viewers::Count;
use uproar_proto::token::TokenId;

/// From a shard to the cluster's thread.
#[derive(Debug)]
pub enum ToCluster {
    /// A request of a member or of the API: the home of its room's hash slot decides. Answered once,
    /// by [`FromCluster::Told`].
    Ask {
        /// Identifies it in the answer.
        ticket: Ticket,
        /// What is asked for.
        ask: Ask,
    },
    /// A request is decided: this is to be appended. Answers [`FromCluster::Author`].
    Authored {
        /// Its epoch.
        epoch: Epoch,
        /// What is to be appended; it names the request's origin and number.
        entry: Entry,
    },
    /// A request is refused. Answers [`FromCluster::Author`].
    Refused {
        /// Which one.
        key: RequestKey,
        /// Why.
        code: ErrorCode,
        /// The text for the client.
        text: Box<str>,
    },
    /// Of the entries up to here that this shard was to hand to the archive, all are in its spools. Newest
    /// word on a hash slot; it follows every [`FromCluster::Deliver`] with `is_home_here` and
    /// [`FromCluster::Unarchived`], within a second or two.
    Archived {
        /// The hash slot.
        slot: HashSlot,
        /// The epoch of this node in which they were handed over.
        epoch: Epoch,
        /// The newest record of which that is true.
        sequence: Sequence,
    },
    /// A token is about to open a connection. Answered by [`FromCluster::TokenUsed`]; without an
    /// answer for [`JOIN_PARKED_MAX`](uproar_proto::base::limits::JOIN_PARKED_MAX) the connection is refused.
    UseToken {
        /// Identifies the attempt on this shard.
        claim: u64,
        /// The token.
        token: TokenId,
        /// When it expires.
        expires: UnixTime,
    },
    /// What one user's connections on other nodes get, too.
    TellUser(UserEvent),
    /// This token has opened a connection here again: another node's of it is to be closed.
    Replace(TokenId),
    /// What this shard counts of rooms at home here: other nodes are told.
    Viewers(Vec<(RoomId, Count)>),
    /// This shard freezes for a hand-over and asks nothing any more. When all shards have said so of the same freeze, the
    /// thread stops between two records and answers with [`FromCluster::Halted`].
    Quiet(u32),
    /// The freeze of this number is over without a hand-over: the thread goes on.
    Thawed(u32),
    /// Connections wait for rooms that this shard does not know: answered by [`Command::Searched`](super::command::Command)
    /// once it knows all rooms that exist now. One question of a shard at a time.
    Search(Search),
}

/// Number of a shard's question whether rooms exist that it does not know; newer ones are greater.
pub type Search = u64;

/// What waits is bounded: requests and connections by the shard's tables of them, answers by the requests that
/// the engine has taken.
impl MustArrive for ToCluster {}

/// Makes the entry of the message that a request becomes.
pub(super) fn entry(key: RequestKey, room: RoomId, sent: UnixTime, frame: Bytes) -> Entry {
    Entry {
        origin: key.origin,
        number: key.number,
        room,
        sent,
        is_urgent: false,
        eviction: None,
        frame,
    }
}

/// From the cluster's thread to a shard, always about rooms at home there.
#[derive(Debug)]
pub enum FromCluster {
    /// This node is the home of the room's hash slot: decide this request. Answered by
    /// [`ToCluster::Authored`] or [`ToCluster::Refused`], for reviewed rooms later, unless
    /// [`FromCluster::Fenced`] comes before.
    Author {
        /// Which one.
        key: RequestKey,
        /// What is asked for.
        ask: Ask,
    },
    /// Entries of one record are committed: append their frames.
    Deliver {
        /// The rooms' hash slot.
        slot: HashSlot,
        /// The epoch.
        epoch: Epoch,
        /// The record.
        sequence: Sequence,
        /// Whether this node is the record's home: it hands frames of logged rooms to its archive.
        is_home_here: bool,
        /// Those of the record's entries whose rooms are at home on this shard, in order.
        entries: Vec<Entry>,
    },
    /// Frames that homes before this node may not have put into their archives: this node's archive takes those of
    /// logged rooms. Members have them.
    Unarchived {
        /// The rooms' hash slot.
        slot: HashSlot,
        /// The epoch of this node.
        epoch: Epoch,
        /// The record.
        sequence: Sequence,
        /// Those of the record's entries whose rooms are at home on this shard, in order.
        entries: Vec<Entry>,
    },
    /// The end of a request of this shard.
    Told {
        /// The request.
        ticket: Ticket,
        /// What became of it.
        outcome: Outcome,
        /// `SendTime` of its frame, if that is in the log.
        sent: Option<UnixTime>,
    },
    /// Another node's counts of rooms at home here.
    Viewers(Incarnation, Vec<(RoomId, Count)>),
    /// This node is not the home of this hash slot any more: what is under review in its rooms is
    /// dropped, and nobody is told, because the new home gets the requests anew.
    Fenced(HashSlot),
    /// What is known of a token's use.
    TokenUsed {
        /// The attempt.
        claim: u64,
        /// What is known.
        outcome: TokenOutcome,
    },
    /// The thread has stopped for the freeze of this number: nothing comes behind this until a thaw. Of each log members
    /// get what came before, and a process that takes over reads on behind it.
    Halted(u32),
}

/// What the cluster knows of a token's use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenOutcome {
    /// It is the first one, and in the log.
    First,
    /// The token was used before.
    Again,
    /// Nothing: the log did not answer in time. The use may be in it.
    Unknown,
}

/// What makes a shard one of a cluster's node.
#[derive(Debug)]
pub struct ClusterLink {
    /// To the cluster's thread.
    pub mailbox: MailboxSender<ToCluster>,
    /// Most connections that wait for a word on their token, at most
    /// [`JOINS_PARKED_MAX`](uproar_proto::base::limits::JOINS_PARKED_MAX).
    pub joins_parked_max: usize,
}

/// Makes the ticket of a request that waits in `waiting` on `shard`: [`ticket_shard`] reads the shard.
///
/// # Panics
///
/// With more than 65,536 shards, or waiting requests.
pub(super) fn ticket<T>(shard: ShardId, waiting: Slot<T>) -> Ticket {
    let shard = u16::try_from(shard).expect("shards are far fewer");
    let index = u16::try_from(waiting.index()).expect("the table of requests is bounded");
    let generation = waiting.generation();
    Ticket(u64::from(generation) << 32 | u64::from(index) << 16 | u64::from(shard))
}

/// The shard that made a ticket: [`FromCluster::Told`] goes there.
pub fn ticket_shard(ticket: Ticket) -> ShardId {
    usize::from(low_16(ticket.0))
}

/// Where on its shard the request of a ticket waits.
pub(super) fn ticket_slot<T>(ticket: Ticket) -> Slot<T> {
    let generation = ticket.0 >> 32 << 32;
    Slot::from_bits(generation | u64::from(low_16(ticket.0 >> 16)))
}

fn low_16(bits: u64) -> u16 {
    let [a, b, ..] = bits.to_le_bytes();
    u16::from_le_bytes([a, b])
}

#[cfg(test)]
mod tests {
    use super::*;
    use uproar_proto::base::limits::CLUSTER_REQUESTS_MAX;
    use uproar_proto::base::table::Table;

    /// Goal: a ticket names its shard and finds its request, and one of an earlier request at the
    /// same place finds nothing.
    #[test]
    fn tickets_lead_back() {
        let mut table = Table::default();
        let slots: Vec<Slot<usize>> = (0..CLUSTER_REQUESTS_MAX).map(|n| table.insert(n)).collect();
        for (number, slot) in slots.iter().enumerate().step_by(977) {
            let ticket = ticket(number % 300, *slot);
            assert_eq!(ticket_shard(ticket), number % 300);
            assert_eq!(table.get(ticket_slot(ticket)), Some(&number));
        }
        let stale = ticket(1, slots[5]);
        table.remove(slots[5]);
        let new = table.insert(7);
        assert_eq!(new.index(), slots[5].index());
        assert_eq!(table.get(ticket_slot(stale)), None);
    }
}
