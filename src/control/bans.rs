//! Bans: stored first, then in force, then told. What is acknowledged is on disk; what the disk refuses is not in force.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::fault::Fault;
use super::op::random_id;
use super::record::{BanRecord, Record, ResourceHeader};
use super::registry::Standing;
use super::state::Control;
use crate::exposition::{Exposition, Family};
use crate::logging::{Kind, local};
use crate::shard::command::{BanNotice, BanOrder, Refused};
use uproar_proto::base::id::{BanId, FrameId, RoomId};
use uproar_proto::base::limits::{
    BAN_ADDRESSES_MAX, BANS_MAX, BANS_PER_ROOM_MAX, BANS_REMOVED_PER_LOOK,
};
use uproar_proto::chat::encode::{self, attributes_json};
use uproar_proto::cluster::crowd::{About, decode_addresses};
use uproar_proto::extension::bans::{BAN, BanMode, Network};
use uproar_proto::extension::new_ban::{Cause, NewBan};

/// Who asks for a ban: the label `source` of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// A call of the API.
    Api,
    /// A moderator's command.
    Client,
    /// A kick in a room with `uproar:kick`.
    Kick,
    /// A rule that a message hit.
    Rule,
}

impl Source {
    /// That of a ban which came from a room.
    pub(super) fn of(cause: Cause) -> Self {
        match cause {
            Cause::Asked => Self::Client,
            Cause::Kick => Self::Kick,
            Cause::Rule => Self::Rule,
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Client => "client",
            Self::Kick => "kick",
            Self::Rule => "rule",
        }
    }
}

/// A ban as it is asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Where; `None`: in all rooms.
    pub(super) room: Option<RoomId>,
    /// The user, the mode, for how long and why.
    pub(super) ban: NewBan,
    /// Who asks.
    pub(super) by: String,
    /// How.
    pub(super) source: Source,
    /// Whether the addresses of the user's connections are barred, too.
    pub(super) addresses: bool,
}

/// The place of a ban on its way to the disk.
struct Place<'a> {
    coming: &'a RefCell<Vec<(Option<RoomId>, BanId)>>,
    id: BanId,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut coming = self.coming.borrow_mut();
        if let Some(at) = coming.iter().position(|(_, id)| *id == self.id) {
            coming.swap_remove(at);
        }
    }
}

impl Control {
    /// Bans a user. When it returns the ban is on disk and in force on this server; in a cluster on the others a moment later.
    /// `None`: it follows from a kick or a rule, and the one that is there stays, which is as strict and lasts as long.
    ///
    /// # Errors
    ///
    /// There are as many bans as may be, or the disk refuses.
    pub(super) async fn ban(&self, wanted: Wanted) -> Result<Option<BanRecord>, Fault> {
        let Wanted { room, ban, .. } = &wanted;
        let id = BanId::of(*room, &ban.user_id);
        let _place = self.take_place(*room, id)?;
        let networks = if wanted.addresses {
            self.networks(*room, &ban.user_id).await?
        } else {
            Vec::new()
        };
        let now_ms = self.clock.now().unix.millis();
        let until = |seconds: u32| now_ms + 1000 * u64::from(seconds);
        let mut record = BanRecord {
            header: ResourceHeader::new(id, now_ms),
            room: room.map(|room| room.to_string()),
            user_id: ban.user_id.to_string(),
            mode: ban.mode.name().to_owned(),
            until_ms: ban.seconds.map(until),
            reason: ban.reason.to_string(),
            by: wanted.by.clone(),
            networks,
        };
        if matches!(wanted.source, Source::Kick | Source::Rule) {
            let over = |there: &BanRecord| record.clone().over(there, now_ms);
            match self.registry.put_ban_over(&record, over).await? {
                Some(put) => record = put,
                None => return Ok(None),
            }
        } else {
            self.registry.put_ban(record.clone()).await?;
        }
        *self
            .bans_made
            .borrow_mut()
            .entry((ban.mode.name(), wanted.source.label()))
            .or_default() += 1;
        if !self.registry.is_shared() {
            self.enforce(&record, true, wanted.source != Source::Kick)
                .await;
        } else if ban.mode == BanMode::Ban && wanted.source != Source::Kick {
            self.announce(&record).await;
        }
        Ok(Some(record))
    }

    /// Stores a ban that is in force, with other texts or addresses. Nobody is told of it again.
    ///
    /// # Errors
    ///
    /// The disk refuses: the one before is in force.
    pub(super) async fn replace_ban(&self, mut ban: BanRecord) -> Result<(), Fault> {
        ban.note_change(self.clock.now().unix.millis());
        self.registry.put_ban(ban.clone()).await?;
        if !self.registry.is_shared() {
            let in_force = ban.in_force(self.clock.now());
            self.gateway.bans().put(ban.id(), in_force);
        }
        Ok(())
    }

    /// Lifts a ban; `false` if there is none.
    ///
    /// # Errors
    ///
    /// The disk refuses: the ban stays.
    pub(super) async fn unban(&self, room: Option<RoomId>, user_id: &str) -> Result<bool, Fault> {
        let id = BanId::of(room, user_id);
        let removed = self.registry.remove_ban(id).await?;
        if removed && !self.registry.is_shared() {
            self.gateway.bans().remove(id);
        }
        Ok(removed)
    }

    /// Does what a change of the cluster's registry asks of this node.
    pub(super) async fn follow_ban(&self, id: BanId, ban: Option<&BanRecord>) {
        if !self.registry.has_extensions() {
            return;
        }
        let Some(ban) = ban else {
            self.gateway.bans().remove(id);
            return;
        };
        // What was there when this node came is old news.
        let is_news = self.registry.standing() == Standing::Current && ban.is_new();
        self.enforce(ban, is_news, false).await;
    }

    /// Puts a stored ban in force, and tells whoever is to know.
    async fn enforce(&self, ban: &BanRecord, is_news: bool, announces: bool) {
        let now = self.clock.now();
        self.gateway.bans().put(ban.id(), ban.in_force(now));
        if announces && ban.mode() == BanMode::Ban {
            // The event and the Close frame of a kick, in the room's order. Whoever comes in between is found below.
            self.announce(ban).await;
        }
        let notice = if is_news {
            self.notice(ban).await
        } else {
            None
        };
        let order = BanOrder {
            room: ban.room(),
            user_id: ban.user_id.as_str().into(),
            evicts: (ban.mode() == BanMode::Ban).then(|| ban.reason.as_str().into()),
            notice,
        };
        if let Err(refused) = self.gateway.follow_ban(&order).await
            && let Some(suppressed) = local::admit(Kind::ApiFailed)
        {
            tracing::error!(ban = %ban.id(), %refused, suppressed, "a ban did not reach every shard in time");
        }
    }

    /// What tells moderators of a ban, in its room or where the user is.
    async fn notice(&self, ban: &BanRecord) -> Option<BanNotice> {
        let frame = self.event(ban)?;
        let rooms = self.rooms_of_ban(ban).await;
        Some(BanNotice { rooms, frame })
    }

    /// Kicks the user, as DisconnectUser does, but that this kick bans nobody. Over a rate nobody is told: the ban closes the connections all the same.
    async fn announce(&self, ban: &BanRecord) {
        for room in self.rooms_of_ban(ban).await {
            let kicked = self
                .gateway
                .disconnect_user(room, (&ban.user_id, &ban.reason), true);
            let _untold: Result<FrameId, Refused> = kicked.await;
        }
    }

    async fn rooms_of_ban(&self, ban: &BanRecord) -> Vec<RoomId> {
        match ban.room() {
            Some(room) => vec![room],
            None => self.rooms_of(&ban.user_id).await,
        }
    }

    /// The rooms where the user is on this server.
    async fn rooms_of(&self, user_id: &str) -> Vec<RoomId> {
        let found = self.gateway.find_user(user_id).await.unwrap_or_default();
        found.iter().map(|presence| presence.room).collect()
    }

    /// The event that tells of a ban; `None`: there are no random bytes, and it was logged.
    fn event(&self, ban: &BanRecord) -> Option<Bytes> {
        let now = self.clock.now().unix;
        let seconds = ban.until_ms.map_or_else(String::new, |until_ms| {
            until_ms
                .saturating_sub(now.millis())
                .div_ceil(1000)
                .to_string()
        });
        let attributes = attributes_json([
            ("UserId", &*ban.user_id),
            ("Mode", ban.mode().name()),
            ("Seconds", &*seconds),
            ("Reason", &*ban.reason),
            ("By", &*ban.by),
        ]);
        let event = encode::Event {
            id: FrameId::from_random(random_id().ok()?),
            request_id: "",
            name: BAN,
            attributes_json: &attributes,
            sent: now,
        };
        let mut frame = BytesMut::with_capacity(event.bytes_max());
        encode::event(&mut frame, &event);
        Some(frame.freeze())
    }

    /// Counts and logs a ban that nobody waits for, and that is refused: whoever was kicked comes back at once.
    pub(super) fn note_unbanned(&self, (room, ban): (RoomId, &NewBan), fault: &Fault) {
        if ban.cause == Cause::Asked {
            return;
        }
        let source = Source::of(ban.cause).label();
        let mut refused = self.bans_refused.borrow_mut();
        *refused.entry(source).or_default() += 1;
        if let Some(suppressed) = local::admit(Kind::Bans) {
            let user_id = &*ban.user_id;
            tracing::warn!(%room, user_id, source, ?fault, suppressed, "a ban was not made");
        }
    }

    /// Takes a place for a ban that may be new, until it is in force or has failed: of many calls at once none is one too many.
    fn take_place(&self, room: Option<RoomId>, id: BanId) -> Result<Place<'_>, Fault> {
        let coming = &self.bans_coming;
        let full = self.gateway.bans().look(|bans| {
            let coming = coming.borrow();
            let is_new = |of: BanId| !bans.contains(of);
            if !is_new(id) || coming.iter().any(|(_, of)| *of == id) {
                return None;
            }
            let new = coming.iter().filter(|(_, of)| is_new(*of));
            let new_in_room = new.clone().filter(|(of, _)| *of == room).count();
            let of_room = bans.count(room) + new_in_room >= BANS_PER_ROOM_MAX;
            let of_all = bans.len() + new.count() >= BANS_MAX;
            (of_room.then_some(BANS_PER_ROOM_MAX)).or(of_all.then_some(BANS_MAX))
        });
        if let Some(limit) = full {
            return Err(Fault::Quota { limit, of: "bans" });
        }
        coming.borrow_mut().push((room, id));
        Ok(Place { coming, id })
    }

    /// What the addresses of a user's connections are barred by.
    async fn networks(&self, room: Option<RoomId>, user_id: &str) -> Result<Vec<String>, Fault> {
        let rooms = match room {
            Some(room) => vec![room],
            None => self.rooms_of(user_id).await,
        };
        let mut found: Vec<IpAddr> = Vec::new();
        for room in rooms {
            let here = self.gateway.addresses_of(room, user_id).await;
            found.extend(here.map_err(|_late| Fault::Late)?);
            if let Some(cluster) = &self.settings.cluster {
                let answers = cluster
                    .ask_crowd(room, About::Addresses(user_id.into()))
                    .await;
                let answers = answers
                    .iter()
                    .filter_map(|answer| decode_addresses(answer).ok());
                found.extend(answers.flatten());
            }
        }
        let mut networks: Vec<Network> = found.into_iter().map(Network::of).collect();
        networks.sort_unstable();
        networks.dedup();
        networks.truncate(BAN_ADDRESSES_MAX);
        Ok(networks.iter().map(Network::to_string).collect())
    }

    /// Removes bans that are over, and those of rooms that are gone. In a cluster each node looks; the first one does it.
    pub(super) async fn remove_old_bans(self: &Rc<Self>) {
        let _open = Rc::clone(&self.open_calls);
        if self.phase.is_ending() || self.registry.bans.count() == 0 {
            return;
        }
        let now = self.clock.now().tick;
        let bans = self.gateway.bans();
        let mut old = bans.look(|bans| bans.over(now, BANS_REMOVED_PER_LOOK));
        let rooms = &self.registry.rooms;
        let is_orphan = |ban: &BanRecord| ban.room().is_some_and(|room| !rooms.contains(room));
        let orphans = self
            .registry
            .bans
            .each(|ban| is_orphan(ban).then(|| ban.id()));
        old.extend(orphans.into_iter().flatten().take(BANS_REMOVED_PER_LOOK));
        for id in old {
            if self.phase.is_ending() {
                return;
            }
            // While the disk refuses, the next look does it.
            if let Ok(true) = self.registry.remove_ban(id).await
                && !self.registry.is_shared()
            {
                self.gateway.bans().remove(id);
            }
        }
    }

    /// Adds the figures of bans to `/metrics`.
    pub(super) fn render_bans(&self, page: &mut Exposition) {
        let now = self.clock.now().tick;
        let by_mode = self.gateway.bans().look(|bans| bans.by_mode(now));
        let mut gauge = page.family(&BANS);
        for (mode, count) in by_mode {
            gauge.add(&[("mode", mode.name())], count);
        }
        let mut counted = page.family(&BANS_TOTAL);
        for ((mode, source), count) in self.bans_made.borrow().iter() {
            counted.add(&[("mode", mode), ("source", source)], count);
        }
        let mut refused = page.family(&BANS_REFUSED);
        for source in [Source::Kick, Source::Rule].map(Source::label) {
            let count = self.bans_refused.borrow().get(source).copied();
            refused.add(&[("source", source)], count.unwrap_or_default());
        }
    }
}

const BANS: Family = Family::gauge("uproar_bans", "Bans in force, by mode.");
const BANS_REFUSED: Family = Family::counter(
    "uproar_bans_refused_total",
    "Bans because of a kick or a rule that were not made: there are as many as may be, or the disk refused.",
);
const BANS_TOTAL: Family = Family::counter(
    "uproar_bans_total",
    "Bans that were made on this server, by mode and by who asked.",
);
