//! A ban comes into force on a shard: for connections that are there, and for those who are to know.

use super::Core;
use crate::net::io::Io;
use crate::shard::command::{BanNotice, BanOrder, Eviction, user_hash};
use uproar_proto::base::id::RoomId;

impl<W: Io> Core<W> {
    /// Does what a ban asks of this shard. The table that all shards share has the ban already.
    pub(super) fn follow_ban(&mut self, order: &BanOrder) {
        if let Some(notice) = &order.notice {
            self.tell_of_ban(notice);
        }
        let rooms = match order.room {
            Some(room) => vec![room],
            None => self.rooms.with_user(user_hash(&order.user_id)),
        };
        for room in rooms {
            let (rooms, env) = (&mut self.rooms, &mut self.env);
            match &order.evicts {
                Some(reason) => {
                    let eviction = Eviction {
                        user_id: order.user_id.clone(),
                        reason: reason.clone(),
                    };
                    self.connections.evict(room, &eviction, rooms, env);
                }
                None => self.connections.hold_user(room, &order.user_id, rooms),
            }
        }
    }

    /// Tells those who moderate, or all members, as each room's settings say.
    fn tell_of_ban(&mut self, notice: &BanNotice) {
        for room in &notice.rooms {
            let (rooms, env) = (&mut self.rooms, &mut self.env);
            if !rooms.tell_all_of_ban(*room, &notice.frame, env) {
                self.connections.tell_crew(*room, &notice.frame, rooms, env);
            }
        }
    }

    /// Whether a user may not come to a room: asked last in the turn that would install the connection.
    pub(super) fn is_banned(&self, room: RoomId, sender_json: &str, ip: std::net::IpAddr) -> bool {
        super::admission::is_banned(room, sender_json, ip, &self.env)
    }
}
