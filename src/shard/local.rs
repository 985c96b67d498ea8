//! A room as one shard holds it: its audience here and, on the home shard, the authority.

use super::command::{Action, Answer, Texts};
use super::settings::{AccountBudgets, ShardId, ShardSettings};
use crate::base::id::{FrameId, RoomId};
use crate::protocol::chat::{ErrorCode, encode, texts};
use crate::room::RoomSettings;
use crate::room::audience::Audience;
use crate::room::order::{Press, Room, Said};

/// A room on this shard.
#[derive(Debug)]
pub struct Local {
    /// The room.
    pub id: RoomId,
    /// What members here are held to.
    pub settings: RoomSettings,
    /// Members here, and the log as far as they need it.
    pub audience: Audience,
    /// On the home shard: the authority.
    pub home: Option<Box<Home>>,
    /// It is in the list of rooms with something to flush.
    pub speaking: bool,
    /// It is in the queue of rooms whose members are being served.
    pub walking: bool,
    /// It is in the list of rooms whose log must be aged.
    pub logged: bool,
}

/// The home shard's part.
#[derive(Debug)]
pub struct Home {
    /// Order, rate, ids, encoding.
    pub room: Room,
    /// Members on each shard, those on their way included.
    pub members: Vec<u32>,
    /// Users to evict once their event was flushed: user id, reason.
    pub evictions: Vec<(Box<str>, Box<str>)>,
    /// Callers of the API to answer once a logged room's event is in the spool.
    pub answers: Vec<(Answer<FrameId>, FrameId)>,
}

/// Why the home shard refuses a request.
pub type RequestFault = (ErrorCode, &'static str);

impl Local {
    /// A room without members.
    pub fn new(id: RoomId, settings: RoomSettings, home: Option<Box<Home>>) -> Self {
        let audience = Audience::default();
        Self {
            id,
            settings,
            audience,
            home,
            speaking: false,
            walking: false,
            logged: false,
        }
    }
}

impl Home {
    /// A room nobody is in.
    pub fn new(settings: RoomSettings, shard_count: usize) -> Self {
        let room = Room::new(settings);
        Self {
            room,
            members: vec![0; shard_count],
            evictions: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Members on all shards.
    pub fn member_count(&self) -> usize {
        self.members
            .iter()
            .map(|count| usize::try_from(*count).expect("32 bits fit"))
            .sum()
    }

    /// The shard for one more member: here while the room is small, then the emptiest.
    pub fn place(&self, here: ShardId, stripe_members_min: usize) -> ShardId {
        if self.member_count() < stripe_members_min {
            return here;
        }
        let emptiest = self
            .members
            .iter()
            .enumerate()
            .min_by_key(|(_, count)| **count);
        emptiest.map_or(here, |(shard, _)| shard)
    }

    /// Does what a member or the API asks, in the room's order. Rates of the room and the account
    /// are charged here: they hold across shards.
    pub fn act(
        &mut self,
        press: &mut Press<'_>,
        action: Action,
        texts: Texts<'_>,
        settings: &ShardSettings,
        budgets: &AccountBudgets,
    ) -> Result<FrameId, RequestFault> {
        let [what, companion, request_id, sender_json] = texts;
        let now = press.now.tick;
        let (rate, budget) = match action {
            Action::Send => (settings.account_sends, &budgets.sends),
            Action::Delete => (settings.account_moderations, &budgets.deletions),
            Action::Disconnect => (settings.account_moderations, &budgets.disconnects),
        };
        if rate.is_some_and(|rate| !budget.take(rate, now)) {
            return Err((ErrorCode::TooManyRequests, texts::RATE));
        }
        match action {
            Action::Send => {
                let said = Said {
                    content: what,
                    attributes_json: companion,
                    request_id,
                    sender_json,
                };
                self.room
                    .say(press, said, settings.room_rates)
                    .map_err(|_over| (ErrorCode::TooManyRequests, texts::RATE))
            }
            Action::Delete => {
                let attributes = encode::deleted_attributes(what, companion);
                Ok(self
                    .room
                    .announce(press, encode::DELETED, &attributes, request_id))
            }
            Action::Disconnect => {
                let attributes = encode::disconnected_attributes(what, companion);
                self.evictions.push((what.into(), companion.into()));
                Ok(self
                    .room
                    .announce(press, encode::DISCONNECTED, &attributes, request_id))
            }
        }
    }
}
