//! A room on one shard: its audience here and, on the home shard, its order.

use super::command::{Action, Answer, Departures, Texts};
use super::review::Held;
use super::settings::{AccountBudgets, ShardId, ShardSettings};
use crate::base::clock::Tick;
use crate::base::id::{FrameId, RoomId};
use crate::protocol::chat::{ErrorCode, encode, texts};
use crate::room::RoomSettings;
use crate::room::audience::Audience;
use crate::room::order::{EncodeContext, NewMessage, Room};
use crate::room::review::Pending;

/// A room on this shard.
#[derive(Debug)]
pub struct ShardRoom {
    /// Its id.
    pub id: RoomId,
    /// The settings that apply to members here.
    pub settings: RoomSettings,
    /// The members here, and the part of the log that they need.
    pub audience: Audience,
    /// The home's part, on the home shard only.
    pub home: Option<Box<HomeRoom>>,
    /// Whether it is in the list of rooms with something to flush.
    pub unflushed: bool,
    /// Whether it is in the queue of rooms whose members are being served.
    pub walking: bool,
    /// Whether it is in the list of rooms whose log must be aged.
    pub aging: bool,
}

/// The home shard's part.
#[derive(Debug)]
pub struct HomeRoom {
    /// Order, rate, ids, encoding.
    pub room: Room,
    /// Members on each shard, including those not installed yet.
    pub members: Vec<u32>,
    // Those of them that take compressed messages.
    deflated: u32,
    /// Users to evict once their event is flushed: user id, reason.
    pub evictions: Vec<(Box<str>, Box<str>)>,
    /// Messages under review; present while the room is reviewed, and until the last message has left.
    pub pending: Option<Box<Pending<Held>>>,
    /// API calls to answer once a logged room's event is in the spool.
    pub answers: Vec<(Answer<FrameId>, FrameId)>,
    /// Number of batches that wait for the archive before they are delivered.
    pub held: u32,
}

/// Why the home shard refuses a request.
pub type RequestFault = (ErrorCode, &'static str);

impl ShardRoom {
    /// Makes a room without members.
    pub fn new(id: RoomId, settings: RoomSettings, home: Option<Box<HomeRoom>>) -> Self {
        let audience = Audience::default();
        Self {
            id,
            settings,
            audience,
            home,
            unflushed: false,
            walking: false,
            aging: false,
        }
    }
}

impl HomeRoom {
    /// Makes a home without members.
    pub fn new(settings: RoomSettings, shard_count: usize) -> Self {
        let room = Room::new(settings);
        Self {
            room,
            members: vec![0; shard_count],
            deflated: 0,
            evictions: Vec::new(),
            answers: Vec::new(),
            held: 0,
            pending: settings.review.map(|_| Box::default()),
        }
    }

    /// Changes the settings, for messages from now on.
    pub fn set_settings(&mut self, settings: RoomSettings) {
        self.room.set_settings(settings);
        if settings.review.is_some() {
            self.pending.get_or_insert_default();
        } else {
            self.pending.take_if(|pending| pending.is_empty());
        }
    }

    /// Counts a member that will be installed on `shard`.
    pub fn arrives(&mut self, shard: ShardId, deflated: bool) {
        if let Some(members) = self.members.get_mut(shard) {
            *members += 1;
        }
        self.deflated += u32::from(deflated);
        self.room.set_deflated(self.deflated > 0);
    }

    /// Counts members that left `shard`.
    pub fn departs(&mut self, shard: ShardId, departures: Departures) {
        if let Some(members) = self.members.get_mut(shard) {
            debug_assert!(
                *members >= departures.members,
                "a shard reports no more departures than arrivals"
            );
            *members = members.saturating_sub(departures.members);
        }
        self.deflated = self.deflated.saturating_sub(departures.deflated);
        self.room.set_deflated(self.deflated > 0);
    }

    /// Number of members on all shards.
    pub fn member_count(&self) -> usize {
        self.members
            .iter()
            .map(|count| usize::try_from(*count).expect("32 bits fit"))
            .sum()
    }

    /// Chooses the shard for one more member: this one while the room is small, then the one with fewest members.
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

    /// Executes a request of a member or the API, in the room's order. Messages of a room with
    /// [`HomeRoom::pending`] ones must go through [`HomeRoom::hold`].
    pub fn act(
        &mut self,
        encode_context: &mut EncodeContext<'_>,
        action: Action,
        texts: Texts<'_>,
        settings: &ShardSettings,
        budgets: &AccountBudgets,
    ) -> Result<FrameId, RequestFault> {
        let [subject, detail, request_id, sender_json] = texts;
        self.charge(action, encode_context.now.tick, settings, budgets)?;
        match action {
            Action::Send => {
                let message = NewMessage {
                    content: subject,
                    attributes_json: detail,
                    request_id,
                    sender_json,
                };
                Ok(self.room.post(encode_context, message))
            }
            Action::Delete => {
                let attributes = encode::deleted_attributes(subject, detail);
                Ok(self
                    .room
                    .announce(encode_context, encode::DELETED, &attributes, request_id))
            }
            Action::Disconnect => {
                let attributes = encode::disconnected_attributes(subject, detail);
                self.evictions.push((subject.into(), detail.into()));
                Ok(self.room.announce(
                    encode_context,
                    encode::DISCONNECTED,
                    &attributes,
                    request_id,
                ))
            }
        }
    }

    /// Charges the rates of the account and the room, which hold across shards. A room that cannot be flushed,
    /// because a shard with members does not keep up, takes messages up to its bound only.
    pub(super) fn charge(
        &mut self,
        action: Action,
        now: Tick,
        settings: &ShardSettings,
        budgets: &AccountBudgets,
    ) -> Result<(), RequestFault> {
        let (rate, budget) = match action {
            Action::Send => (settings.account_sends, &budgets.sends),
            Action::Delete => (settings.account_moderations, &budgets.deletions),
            Action::Disconnect => (settings.account_moderations, &budgets.disconnects),
        };
        let over = (ErrorCode::TooManyRequests, texts::RATE);
        if self.room.is_full() || rate.is_some_and(|rate| !budget.take(rate, now)) {
            return Err(over);
        }
        if action == Action::Send && settings.room_rates {
            self.room.charge(now).map_err(|_over| over)?;
        }
        Ok(())
    }
}
