//! Rooms on their way to another process, and from one.

use std::collections::HashMap;
use std::time::Duration;

use bytes::BytesMut;

use super::{Env, Rooms};
use crate::shard::command::{MemberCounts, PublishRequest, SenderAddress};
use crate::shard::estate::rooms::{
    AccountUse, Decided, PendingMessage, RoomWriter, RoomsEstate, RoomsWriter,
};
use crate::shard::estate::{NotCarried, SenderTag};
use crate::shard::review::Held;
use crate::shard::settings::ShardId;
use crate::shard::shard_room::{HomeRoom, ShardRoom};
use uproar_proto::base::clock::{Tick, UnixTime};
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::base::limits::{CONTENT_CHARS_MAX, ESTATE_LOGS_BYTES_MAX, ROOM_RATE_DEFAULT};
use uproar_proto::base::rate::Budget;
use uproar_proto::base::table::Slot;
use uproar_proto::chat::Request;
use uproar_proto::extension::Speaker;
use uproar_proto::extension::recent::Recent;
use uproar_proto::extension::speech::Key;
use uproar_proto::room::audience::Audience;
use uproar_proto::room::review::State;
use uproar_proto::room::{ArchiveTargets, RoomSettings};

impl Rooms {
    /// Sets whether rooms are flushed without a pace.
    pub(in crate::shard::core) fn hurry(&mut self, hurries: bool) {
        self.hurries = hurries;
    }

    /// Keeps messages longer, by a pause that ends `now`: no viewer could get them.
    pub(in crate::shard::core) fn postpone(&mut self, pause: Duration, now: Tick) {
        for room_slot in &self.aging {
            if let Some(shard_room) = self.table.get_mut(*room_slot) {
                shard_room.audience.postpone(pause, now);
            }
        }
    }

    /// Whether no room has something to flush, and the archive holds no delivery back.
    pub(in crate::shard::core) fn is_flushed(&self) -> bool {
        self.unflushed.is_empty() && self.gate_is_idle()
    }

    /// Whether the archive holds no delivery back.
    pub(in crate::shard::core) fn gate_is_idle(&self) -> bool {
        self.gate.deadline().is_none()
    }

    /// Writes this shard's part of the rooms for another process; it has been freezing since `since`.
    pub(in crate::shard::core) fn estate<S>(&self, since: Tick, env: &Env<S>) -> Vec<u8> {
        let budgets = &env.budgets;
        let account = AccountUse {
            sends: budgets.sends.used_until(),
            deletions: budgets.deletions.used_until(),
            disconnects: budgets.disconnects.used_until(),
        };
        let mut writer = RoomsWriter::new(account, since);
        let mut bytes_left = ESTATE_LOGS_BYTES_MAX / env.settings.shard_count;
        for slot in self.by_id.values() {
            let Some(shard_room) = self.get(*slot) else {
                continue;
            };
            let (audience, home) = (&shard_room.audience, shard_room.home.as_deref());
            let is_behind = audience.slowest() < audience.log().head();
            if !is_behind && home.is_none_or(HomeRoom::is_fresh) {
                continue;
            }
            writer.room(shard_room.id, |room| {
                if let Some(home) = home {
                    write_home(room, home);
                }
                if is_behind {
                    bytes_left -= write_log(room, audience, bytes_left);
                }
            });
        }
        writer.into_bytes()
    }

    /// Takes over the rates of another process, of the account and of rooms at home here.
    pub(in crate::shard::core) fn inherit<S>(&mut self, estate: &RoomsEstate, env: &Env<S>) {
        let (account, budgets) = (estate.account(), &env.budgets);
        budgets.sends.inherit(account.sends);
        budgets.deletions.inherit(account.deletions);
        budgets.disconnects.inherit(account.disconnects);
        for (room, part) in estate.rooms() {
            if let (Some((used_until, last_sent)), Some((_, home))) =
                (part.home, self.home_mut(*room))
            {
                home.room.inherit(Budget::inherited(used_until), last_sent);
                let notes = part.notes.each_ref().map(|notes| notes.iter().copied());
                home.inherit_modes(notes, &env.metrics);
                part.viewers.inherit(&mut home.viewers, env.now.tick);
                home.inherit_memory(part, &env.settings.purge_event, &env.metrics);
                for (message, until, rule) in &part.waiting {
                    inherit_waiting(home, message, (*until, rule), env);
                }
            }
            self.inherit_tallies((*room, &part.tallies), estate.shift(), env);
        }
    }

    /// Finds the room of a member that was taken over; the first one makes it, with the batches that some member
    /// needs. Its settings are the home's to tell.
    pub(in crate::shard::core) fn enter_inherited<S>(
        &mut self,
        room: RoomId,
        estate: &RoomsEstate,
        env: &Env<S>,
    ) -> Result<Slot<ShardRoom>, NotCarried> {
        let is_home = env.settings.home(room) == env.id;
        if is_home && self.home_mut(room).is_none() {
            return Err(NotCarried::Room);
        }
        let unknown = RoomSettings {
            content_chars_max: u16::try_from(CONTENT_CHARS_MAX).unwrap_or(u16::MAX),
            messages_per_second: ROOM_RATE_DEFAULT,
            review: None,
            archive: ArchiveTargets::default(),
            extension: None,
        };
        let room_slot = self.enter(room, unknown);
        let batches = estate.room(room).map(|part| &part.batches[..]);
        if let Some(shard_room) = self.table.get_mut(room_slot) {
            shard_room.heard = estate.room(room).map_or(0, |part| part.frames);
        }
        if let (Some(batches), Some(shard_room)) = (batches, self.table.get_mut(room_slot)) {
            let batches = batches.iter().map(|(batch, appended)| (batch, *appended));
            shard_room.audience.inherit(batches);
            self.note_aging(room_slot);
        } else if let Some(shard_room) = self.table.get_mut(room_slot) {
            shard_room.audience.inherit([]);
        }
        Ok(room_slot)
    }

    /// Notes that a member which was taken over has not got the newest batches.
    pub(in crate::shard::core) fn note_behind(&mut self, room_slot: Slot<ShardRoom>) {
        self.note_walking(room_slot);
    }

    /// Counts members that came to `shard`, and notes these users; returns the room's settings, or nothing if it is not at
    /// home here.
    pub(in crate::shard::core) fn members_arrived<S>(
        &mut self,
        room: RoomId,
        shard: ShardId,
        (arrived, users): (MemberCounts, &[Key]),
        env: &Env<S>,
    ) -> Option<RoomSettings> {
        let (room_slot, home) = self.home_mut(room)?;
        home.arrives(shard, arrived);
        home.viewers_inherited(arrived, env.now);
        if let Some(remembering) = &mut home.remembering {
            remembering.stay(users, &env.metrics);
        }
        let settings = home.room.settings().clone();
        self.note_peopled(room_slot);
        Some(settings)
    }

    /// Notes that no more viewers of another process come: where those stood who did not is known.
    pub(in crate::shard::core) fn settle_places(&mut self, estate: &RoomsEstate, now: Tick) {
        for (room, _) in estate.rooms().filter(|(_, part)| part.remembers()) {
            if let Some((_, home)) = self.home_mut(*room)
                && let Some(remembering) = &mut home.remembering
            {
                remembering.settle(now);
            }
        }
    }

    /// Holds messages under review of another process's rooms that are at home here, and asks for their review
    /// again. `senders`: where those are that are here; others hear no refusal.
    pub(in crate::shard::core) fn resume_reviews<S>(
        &mut self,
        estate: &RoomsEstate,
        senders: &HashMap<SenderTag, SenderAddress>,
        env: &mut Env<S>,
    ) {
        let mut buffer = BytesMut::new();
        for (room, part) in estate.rooms() {
            let Some(room_slot) = self.find(*room) else {
                continue;
            };
            let Some(shard_room) = self.table.get_mut(room_slot) else {
                continue;
            };
            let Some(home) = shard_room.home.as_deref_mut() else {
                continue;
            };
            for message in &part.pending {
                let Ok(message) = PendingMessage::read(message) else {
                    continue;
                };
                let sender = senders.get(&message.tag).copied();
                let nowhere = SenderAddress {
                    shard: env.id,
                    ..SenderAddress::NOWHERE
                };
                let sender = sender.unwrap_or(nowhere);
                let held = held(&mut buffer, &message, sender);
                let mut context = env.publish_context(&mut self.review_queue);
                home.inherit_held((*room, room_slot), held, message.decided, &mut context);
            }
        }
    }
}

/// Writes the home's part of a room.
fn write_home(room: &mut RoomWriter, home: &HomeRoom) {
    debug_assert!(
        home.room.is_flushed() && home.evictions.is_empty() && home.answers.is_empty(),
        "a frozen shard has flushed its rooms"
    );
    room.home(home.room.budget().used_until(), home.room.last_sent());
    if let Some(viewers) = &home.viewers {
        room.viewers(viewers);
    }
    room.remembering(home.frames, home.remembering.as_deref());
    if let Some(modes) = home.modes() {
        room.notes(modes.notes().map(Recent::notes));
    }
    if let Some(tallies) = home.tallies() {
        debug_assert!(tallies.waiting.is_empty(), "votes were handed on");
        room.tallies(&tallies.counted.carry());
    }
    for (id, until, held) in home.ruled().iter().flat_map(|ruled| ruled.waiting.all()) {
        let message = pending(&held.publish_request, id, home.room.last_sent());
        room.waiting(&message, until, &held.rule);
    }
    for (held, state) in home
        .reviewed()
        .iter()
        .flat_map(|pending| pending.messages())
    {
        let decided = match state {
            State::Waiting(fallback) => Decided::Waits(fallback),
            State::Allowed(rewrite) => Decided::Allowed(rewrite.cloned()),
        };
        room.pending(&PendingMessage {
            decided,
            ..pending(&held.publish_request, held.id, held.sent)
        });
    }
}

/// A message that is not said yet, as it is carried.
fn pending(asked: &PublishRequest, id: FrameId, sent: UnixTime) -> PendingMessage<'_> {
    let message = asked.message();
    let SenderAddress { shard, connection } = asked.sender;
    PendingMessage {
        content: message.content,
        attributes_json: message.attributes_json,
        request_id: message.request_id,
        sender_json: message.sender_json,
        ip: asked.ip(),
        id,
        sent,
        tag: SenderTag {
            shard: u64::try_from(shard).expect("a few shards"),
            key: connection,
        },
        decided: Decided::Allowed(None),
        is_shadowed: asked.speaker.is_shadowed,
    }
}

/// Holds a message for moderators that another process held. Its sender is told by name, wherever that is now.
fn inherit_waiting<S>(
    home: &mut HomeRoom,
    message: &[u8],
    (until, rule): (Tick, &str),
    env: &Env<S>,
) {
    if let Ok(message) = PendingMessage::read(message) {
        let nowhere = SenderAddress {
            shard: env.id,
            ..SenderAddress::NOWHERE
        };
        let Held {
            publish_request,
            id,
            ..
        } = held(&mut BytesMut::new(), &message, nowhere);
        home.wait(id, until, (publish_request, rule.into()), &env.metrics);
    }
}

/// Writes the batches that some member needs, the newest of them if they are more than
/// `bytes_max`; returns their bytes. Members that need others count as left behind by the window.
fn write_log(room: &mut RoomWriter, audience: &Audience, bytes_max: usize) -> usize {
    let needed = || audience.log().kept_from(audience.slowest());
    let mut bytes: usize = needed().map(|(batch, _)| batch.bytes()).sum();
    let mut dropped = 0;
    for (batch, _) in needed() {
        if bytes <= bytes_max {
            break;
        }
        bytes -= batch.bytes();
        dropped += 1;
    }
    room.log(|| needed().skip(dropped));
    bytes
}

/// Makes the request of a message under review anew.
fn held(buffer: &mut BytesMut, message: &PendingMessage<'_>, sender: SenderAddress) -> Held {
    let request = Request::SendMessage {
        content: message.content,
        attributes_json: message.attributes_json,
        request_id: message.request_id,
    };
    let (sender_json, ip) = (message.sender_json, message.ip);
    let speaker = Speaker::default().shadowed(message.is_shadowed);
    let publish_request = PublishRequest::new(buffer, &request, sender_json, ip, sender);
    Held {
        publish_request: publish_request.with_speaker(speaker),
        id: message.id,
        sent: message.sent,
        key: None,
    }
}
