//! Bans and held messages: what moderators and back ends decide, on its way to the shards.

use std::net::IpAddr;

use super::Gateway;
use crate::shard::bans::SharedBans;
use crate::shard::command::{BanOrder, Command, Refused, Said};
use crate::shard::survey::Survey;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::SHARD_ANSWER_MAX;
use uproar_proto::extension::held::{Decision, HeldPage, HeldPlace};

impl Gateway {
    /// Decides a held message, at its room's home; the answer is its id and time.
    ///
    /// # Errors
    ///
    /// `NoSuchRoom`: it is not held. `Denied` with [`DENIED_AS_ASKED`](super::DENIED_AS_ASKED): on a node of a cluster, it is denied.
    pub async fn decide(
        &self,
        room: RoomId,
        decision: Decision,
        by: &str,
    ) -> Result<Said, Refused> {
        let by = by.into();
        let decide = |answer| Command::Decide {
            room,
            decision,
            by,
            answer,
        };
        self.ask(room, self.said_max, decide).await
    }

    /// Some of the messages of a room that wait for a moderator, behind a place, from its home.
    ///
    /// # Errors
    ///
    /// `NoSuchRoom`, `Busy`, `Late`.
    pub async fn list_held(
        &self,
        room: RoomId,
        place: Option<HeldPlace>,
        most: u32,
    ) -> Result<HeldPage, Refused> {
        let list = |answer| Command::ListHeld {
            room,
            place,
            most,
            answer,
        };
        self.ask(room, self.said_max, list).await
    }

    /// The bans that all shards look at.
    pub fn bans(&self) -> &SharedBans {
        &self.shared.bans
    }

    /// Has every shard do what a ban asks of it.
    ///
    /// # Errors
    ///
    /// As [`Gateway::ask_each`].
    pub async fn follow_ban(&self, order: &BanOrder) -> Result<(), Refused> {
        let follow = |answer| Command::Ban(Box::new(order.clone()), answer);
        self.ask_each(follow, SHARD_ANSWER_MAX).await.map(drop)
    }

    /// The addresses of a user's connections in a room on this server.
    ///
    /// # Errors
    ///
    /// As [`Gateway::ask_each`].
    pub async fn addresses_of(&self, room: RoomId, user_id: &str) -> Result<Vec<IpAddr>, Refused> {
        let addresses = |answer| {
            let user_id = user_id.into();
            Command::Survey(Survey::Addresses {
                room,
                user_id,
                answer,
            })
        };
        Ok(self.ask_each(addresses, SHARD_ANSWER_MAX).await?.concat())
    }
}
