//! A room as one shard holds it: its audience here and, on the home shard, the authority.

use super::command::{Action, Answer, Departures, Texts};
use super::review::Held;
use super::settings::{AccountBudgets, ShardId, ShardSettings};
use crate::base::clock::Tick;
use crate::base::id::{FrameId, RoomId};
use crate::protocol::chat::{ErrorCode, encode, texts};
use crate::room::RoomSettings;
use crate::room::audience::Audience;
use crate::room::order::{Press, Room, Said};
use crate::room::review::Pending;

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
    // Those of them who take compressed messages.
    deflated: u32,
    /// Users to evict once their event was flushed: user id, reason.
    pub evictions: Vec<(Box<str>, Box<str>)>,
    /// Messages under review; there while the room is reviewed, and until the last one has left.
    pub pending: Option<Box<Pending<Held>>>,
    /// Callers of the API to answer once a logged room's event is in the spool.
    pub answers: Vec<(Answer<FrameId>, FrameId)>,
    /// Batches that wait for the archive before they are delivered.
    pub held: u32,
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
            deflated: 0,
            evictions: Vec::new(),
            answers: Vec::new(),
            held: 0,
            pending: settings.review.map(|_| Box::default()),
        }
    }

    /// Changes what the control plane set; for messages from now on.
    pub fn set_settings(&mut self, settings: RoomSettings) {
        self.room.set_settings(settings);
        if settings.review.is_some() {
            self.pending.get_or_insert_default();
        } else {
            self.pending.take_if(|pending| pending.is_empty());
        }
    }

    /// Counts a member who is on the way to `shard`.
    pub fn arrives(&mut self, shard: ShardId, deflated: bool) {
        if let Some(members) = self.members.get_mut(shard) {
            *members += 1;
        }
        self.deflated += u32::from(deflated);
        self.room.set_deflated(self.deflated > 0);
    }

    /// Counts members who left `shard`.
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

    /// Does what a member or the API asks, in the room's order. Messages of a room that has
    /// [`Home::pending`] ones must go through [`Home::hold`].
    pub fn act(
        &mut self,
        press: &mut Press<'_>,
        action: Action,
        texts: Texts<'_>,
        settings: &ShardSettings,
        budgets: &AccountBudgets,
    ) -> Result<FrameId, RequestFault> {
        let [what, companion, request_id, sender_json] = texts;
        self.charge(action, press.now.tick, settings, budgets)?;
        match action {
            Action::Send => {
                let said = Said {
                    content: what,
                    attributes_json: companion,
                    request_id,
                    sender_json,
                };
                Ok(self.room.say(press, said))
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

    /// Charges the rates of the account and the room: they hold across shards. A room that cannot be
    /// flushed, because a shard with members does not keep up, takes no more than it may hold back.
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
