//! A room on one shard: its audience here and, on the home shard, its order.

mod audited;
mod clustered;
mod hold;
mod memory;
mod moded;
pub(super) mod moderated;
pub(super) mod purge;
pub(super) mod remembering;
pub(super) mod ruled;
mod tallied;

use std::borrow::Cow;

use self::moderated::Moderated;
use self::remembering::Remembering;
use super::aside::Aside;
use super::command::{
    Answer, ApiMessage, Eviction, MemberCounts, PublishRequest, Said, SenderAddress,
};
use super::detour::Detour;
use super::metrics::ShardMetrics;
use super::review::{Held, ReviewQueue};
use super::rules::Ruling;
use super::settings::{AccountBudgets, ShardId, ShardSettings};
use bytes::BytesMut;
use uproar_proto::base::clock::{Now, Tick, UnixTime};
use uproar_proto::base::id::{FrameId, FrameIds, RoomId};
use uproar_proto::base::rate::Budget;
use uproar_proto::base::table::Slot;
use uproar_proto::chat::{Action, ErrorCode, Request, encode, texts};
use uproar_proto::extension::viewers::Viewers;
use uproar_proto::extension::{Modes, Speaker, Speech};
use uproar_proto::room::RoomSettings;
use uproar_proto::room::audience::Audience;
use uproar_proto::room::order::{EncodeContext, NewMessage, Room};
use uproar_proto::room::review::Pending;
use uproar_proto::ws::Deflater;

/// A room on this shard.
#[derive(Debug)]
pub(super) struct ShardRoom {
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
    /// At home: when the first of the messages that wait to be flushed came.
    pub accepted: Option<Tick>,
    /// When the first of the messages came that members here are being served with.
    pub spreading: Option<Tick>,
    /// The deletions and disconnects that members here are being served with.
    pub moderated: Option<Moderated>,
    /// Away from home: number of the log's head among the room's frames, as the home counts them.
    pub heard: u64,
}

/// The home shard's part.
#[derive(Debug)]
pub(super) struct HomeRoom {
    /// Order, rate, ids, encoding.
    pub room: Room,
    /// Members on each shard, including those not installed yet.
    pub members: Vec<u32>,
    // Those of them that take compressed messages.
    deflated: u32,
    /// Users to evict once their event is flushed.
    pub evictions: Vec<Eviction>,
    /// Where requests wait that do not enter the log at once; `None`: all do.
    pub detour: Option<Box<Detour>>,
    // Number of the newest queue of messages under review: each has a range of tickets of its own.
    queues: u32,
    /// The pinned message, once it is deleted, until the control thread is told.
    pub unpinned: Option<FrameId>,
    /// API calls to answer once a logged room's event is in the spool.
    pub answers: Vec<(Answer<Said>, Said)>,
    /// Number of batches that wait for the archive before they are delivered.
    pub held: u32,
    /// Requests over a rate, or while the room could take no more.
    pub refused: u64,
    /// Its viewers, once somebody came.
    pub viewers: Option<Box<Viewers>>,
    /// Other nodes of a cluster are told of its viewers.
    pub is_peopled: bool,
    /// Number of frames that were handed to the shards: the number of the next one.
    pub frames: u64,
    /// When the first of the deletions and disconnects was accepted that wait to be flushed.
    pub moderated: Option<Tick>,
    /// What it remembers, if it has tags of ours.
    pub remembering: Option<Box<Remembering>>,
}

/// The outcome of a member's request.
#[derive(Debug)]
pub(super) enum Published {
    /// It is in the room's order; the room must be flushed.
    Appended(FrameId),
    /// The same; it is a disconnect that tells of a ban.
    Banned(FrameId),
    /// Its review handler decides, or a moderator; or its sender alone has it.
    Held(FrameId),
    /// The home of the room's hash slot decides: it is to be asked.
    ForCluster(Box<PublishRequest>),
}

/// The parts of a shard that a request needs.
#[derive(Debug)]
pub(super) struct PublishContext<'a> {
    /// Source of frame ids.
    pub ids: &'a mut FrameIds,
    /// Compresses for the members that take compressed messages.
    pub deflater: &'a mut Deflater,
    /// The shard's messages under review.
    pub review_queue: &'a mut ReviewQueue<Slot<ShardRoom>>,
    /// The shard's settings.
    pub settings: &'a ShardSettings,
    /// Rates of the account.
    pub budgets: &'a AccountBudgets,
    /// The shard's counters.
    pub metrics: &'a ShardMetrics,
    /// What is to be said beside the room's log, at the end of the turn.
    pub asides: &'a mut Vec<Aside>,
    /// The time of this turn.
    pub now: Now,
}

impl PublishContext<'_> {
    /// Lends what encoding takes.
    fn encoding(&mut self) -> EncodeContext<'_> {
        EncodeContext {
            ids: self.ids,
            now: self.now,
            deflater: self.deflater,
        }
    }
}

/// Why the home shard refuses a request.
pub(super) type RequestFault = (ErrorCode, Cow<'static, str>);

impl ShardRoom {
    /// Makes a room without members.
    pub(super) fn new(id: RoomId, settings: RoomSettings, home: Option<Box<HomeRoom>>) -> Self {
        let audience = Audience::default();
        Self {
            id,
            settings,
            audience,
            home,
            unflushed: false,
            walking: false,
            aging: false,
            accepted: None,
            spreading: None,
            heard: 0,
            moderated: None,
        }
    }
}

impl ShardRoom {
    /// Asserts the invariants of a room of shard `here` between two calls.
    ///
    /// # Panics
    ///
    /// If one does not hold.
    pub(super) fn check(&self, here: ShardId) {
        let is_walking = self.audience.is_walking();
        assert!(
            self.walking || !is_walking,
            "members with new batches are served"
        );
        let Some(home) = &self.home else {
            assert!(
                !self.audience.is_empty(),
                "a room is here for its home or its members"
            );
            assert!(!self.unflushed, "only the home flushes");
            return;
        };
        let counted = home.members.get(here).copied().unwrap_or_default();
        let members = u32::try_from(self.audience.len());
        assert_eq!(Ok(counted), members, "the home counts its own members");
        assert!(
            usize::try_from(home.deflated).is_ok_and(|count| count <= home.member_count()),
            "some members take compressed messages"
        );
    }
}

impl HomeRoom {
    /// Makes a home without members; `is_clustered`: a cluster orders it.
    pub(super) fn new(settings: RoomSettings, shard_count: usize, is_clustered: bool) -> Self {
        let mut home = Self {
            room: Room::new(settings.clone()),
            members: vec![0; shard_count],
            deflated: 0,
            evictions: Vec::new(),
            unpinned: None,
            answers: Vec::new(),
            held: 0,
            refused: 0,
            viewers: None,
            is_peopled: false,
            detour: is_clustered.then(|| Box::new(Detour::of_cluster())),
            queues: 0,
            frames: FIRST_FRAME,
            moderated: None,
            remembering: None,
        };
        home.set_settings(settings);
        home
    }

    /// Changes the settings, for messages from now on.
    pub(super) fn set_settings(&mut self, settings: RoomSettings) {
        let is_reviewed = settings.review.is_some();
        self.room.set_settings(settings);
        self.follow_modes();
        self.follow_rules();
        self.renew_greeting();
        self.follow_memory();
        if is_reviewed {
            self.pending_queue();
        } else {
            self.end_reviews();
        }
    }

    /// Messages under review, if the room is or was reviewed.
    pub(super) fn reviewed(&self) -> Option<&Pending<Held>> {
        self.detour.as_deref()?.reviewed.as_ref()
    }

    /// Messages under review, if the room is or was reviewed.
    pub(super) fn reviewed_mut(&mut self) -> Option<&mut Pending<Held>> {
        self.detour.as_deref_mut()?.reviewed.as_mut()
    }

    /// Returns the queue of messages under review; makes it if there is none.
    fn pending_queue(&mut self) -> &mut Pending<Held> {
        let detour = self.detour.get_or_insert_default();
        detour.reviewed.get_or_insert_with(|| {
            self.queues += 1;
            Pending::new(self.queues)
        })
    }

    /// Gives up the queue of messages under review if it is empty: the room is not reviewed any
    /// more.
    pub(super) fn end_reviews(&mut self) {
        if let Some(detour) = &mut self.detour {
            detour.reviewed.take_if(|pending| pending.is_empty());
        }
        self.detour.take_if(|detour| !detour.is_needed());
    }

    /// Counts members that are, or will be, installed on `shard`.
    pub(super) fn arrives(&mut self, shard: ShardId, arrived: MemberCounts) {
        if let Some(members) = self.members.get_mut(shard) {
            *members += arrived.members;
        }
        self.deflated += arrived.deflated;
        self.room.set_deflated(self.deflated > 0);
    }

    /// Counts members that left `shard`.
    pub(super) fn departs(&mut self, shard: ShardId, departures: MemberCounts) {
        if let Some(members) = self.members.get_mut(shard) {
            debug_assert!(
                *members >= departures.members,
                "a shard reports no more departures than arrivals"
            );
            *members = members.saturating_sub(departures.members);
        }
        self.deflated = self.deflated.saturating_sub(departures.deflated);
        if let Some(viewers) = &mut self.viewers {
            viewers.depart(departures.members, departures.hidden);
        }
        self.room.set_deflated(self.deflated > 0);
    }

    /// Counts viewers that come; [`HomeRoom::arrives`] has counted them as members.
    pub(super) fn viewers_arrive(&mut self, arrived: MemberCounts, now: Now) {
        let viewers = self.viewers.get_or_insert_default();
        viewers.arrive(arrived.members, arrived.hidden, (now.tick, now.unix));
    }

    /// As [`HomeRoom::viewers_arrive`], of viewers that another process hands over.
    pub(super) fn viewers_inherited(&mut self, arrived: MemberCounts, now: Now) {
        let viewers = self.viewers.get_or_insert_default();
        viewers.inherit(arrived.members, arrived.hidden, (now.tick, now.unix));
    }

    /// Number of members on all shards.
    pub(super) fn member_count(&self) -> usize {
        self.members
            .iter()
            .map(|count| usize::try_from(*count).expect("32 bits fit"))
            .sum()
    }

    /// Chooses the shard for one more member: this one while the room is small, then the one with
    /// fewest members.
    pub(super) fn place(&self, here: ShardId, stripe_members_min: usize) -> ShardId {
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

    /// Executes a request of a member: at once, or, if it is a message of a room whose review
    /// handler has yet to decide of this or earlier ones, when that is decided. In a cluster it is left to
    /// the home of the hash slot. `owned` makes the request outlive its bytes, `speaker` tells more of its sender.
    pub(super) fn publish(
        &mut self,
        place: (RoomId, Slot<ShardRoom>),
        (request, sender_json): (&Request<'_>, &str),
        context: &mut PublishContext<'_>,
        (speaker, owned): (impl FnOnce() -> Speaker, impl FnOnce() -> PublishRequest),
    ) -> Result<Published, RequestFault> {
        if let Some(detour) = &self.detour
            && detour.is_clustered
        {
            return Ok(Published::ForCluster(Box::new(owned())));
        }
        if let Request::SendMessage { content, .. } = *request {
            let speaker = speaker();
            let detour = self.detour.as_deref();
            if detour.is_some() || speaker.is_shadowed {
                let is_reviewed = detour.is_some_and(|detour| detour.reviewed.is_some());
                let speech = Speech {
                    content,
                    sender_json,
                    speaker,
                };
                if !is_reviewed {
                    let ruling = self.admit(place.0, &speech, context)?;
                    let ruling = if speaker.is_shadowed {
                        Some(Ruling::in_shadow(ruling))
                    } else {
                        ruling
                    };
                    let said = (request, sender_json);
                    return Ok(self.say_ruled(place.0, said, ruling, context, owned));
                }
                let held = Held {
                    publish_request: owned(),
                    id: context.ids.next_id(),
                    sent: context.now.unix,
                    key: None,
                };
                let held = self.hold(place, held, &speech, context);
                return held.map(Published::Held);
            }
        }
        let id = self.act(request, sender_json, context)?;
        let [target, reason, _] = request.texts();
        match request.action() {
            Action::SendMessage => {}
            Action::DeleteMessage => {
                context.note_act(place.0, ("DELETE_MESSAGE", target, reason), sender_json);
            }
            Action::DisconnectUser => {
                context.note_act(place.0, ("DISCONNECT_USER", target, reason), sender_json);
            }
        }
        Ok(Published::Appended(id))
    }

    /// Answers a call of the API: at once, or once what it said is in the spool if the room is logged.
    pub(super) fn answer(&mut self, answer: Answer<Said>, said: Said, has_archive: bool) {
        if has_archive && !self.room.settings().archive.is_empty() {
            self.answers.push((answer, said));
        } else {
            let _caller_gone = answer.send(Ok(said));
        }
    }

    /// Whether a review decides of a message of the API.
    pub(super) fn reviews(&self, message: &ApiMessage) -> bool {
        !message.is_exempt && self.reviewed().is_some()
    }

    /// Says a message of the API: at once, or when its review has allowed it. Modes do not hold it back.
    pub(super) fn say(
        &mut self,
        place: (RoomId, Slot<ShardRoom>),
        message: &ApiMessage,
        context: &mut PublishContext<'_>,
    ) -> Result<Published, RequestFault> {
        let request = Request::SendMessage {
            content: &message.content,
            attributes_json: &message.attributes_json,
            request_id: "",
        };
        let sender_json = &*message.sender_json;
        let owned = || {
            let nowhere = SenderAddress::NOWHERE;
            PublishRequest::new(&mut BytesMut::new(), &request, sender_json, "", nowhere)
        };
        if !self.reviews(message) {
            let id = self.act(&request, sender_json, context)?;
            if !message.is_exempt {
                self.ask_afterwards((place.0, id), owned, context);
            }
            return Ok(Published::Appended(id));
        }
        let held = Held {
            publish_request: owned(),
            id: context.ids.next_id(),
            sent: context.now.unix,
            key: None,
        };
        let speech = Speech {
            content: &message.content,
            sender_json,
            speaker: Speaker::BACK_END,
        };
        let held = self.hold(place, held, &speech, context);
        held.map(Published::Held)
    }

    /// Whether a home of another process has nothing to add to it: no message was posted, nobody came.
    pub(super) fn is_fresh(&self) -> bool {
        self.room.last_sent() == UnixTime::default()
            && self.room.budget() == Budget::default()
            && self.reviewed().is_none_or(Pending::is_empty)
            && self.modes().is_none_or(Modes::is_empty)
            && self.ruled().is_none_or(|ruled| ruled.waiting.is_empty())
            && self.tallies().is_none()
            && self.viewers.is_none()
            && self.remembering.as_ref().is_none_or(|kept| kept.is_empty())
    }

    /// Executes a request of the API, or of a member by [`HomeRoom::publish`], in the room's order.
    pub(super) fn act(
        &mut self,
        request: &Request<'_>,
        sender_json: &str,
        context: &mut PublishContext<'_>,
    ) -> Result<FrameId, RequestFault> {
        let PublishContext {
            settings, budgets, ..
        } = *context;
        self.charge(request.action(), context.now.tick, settings, budgets)?;
        if request.action() != Action::SendMessage {
            self.moderated.get_or_insert(context.now.tick);
        }
        Ok(self.append(request, sender_json, &mut context.encoding()))
    }

    /// Appends what a request asks for to the room's log; returns its id.
    fn append(
        &mut self,
        request: &Request<'_>,
        sender_json: &str,
        encode_context: &mut EncodeContext<'_>,
    ) -> FrameId {
        match *request {
            Request::SendMessage {
                content,
                attributes_json,
                request_id,
            } => {
                let message = NewMessage {
                    content,
                    attributes_json,
                    request_id,
                    sender_json,
                };
                self.room.post(encode_context, message)
            }
            Request::DeleteMessage {
                id,
                reason,
                request_id,
            } => {
                self.forget_waiting_message(id);
                let attributes = encode::deleted_attributes(id, reason);
                self.room
                    .announce(encode_context, encode::DELETED, &attributes, request_id)
            }
            Request::DisconnectUser {
                user_id,
                reason,
                request_id,
            } => {
                let attributes = encode::disconnected_attributes(user_id, reason);
                self.evictions.push(Eviction {
                    user_id: user_id.into(),
                    reason: reason.into(),
                });
                self.room.announce(
                    encode_context,
                    encode::DISCONNECTED,
                    &attributes,
                    request_id,
                )
            }
        }
    }

    /// Charges the rates of the account and the room, which hold across shards. A room that cannot
    /// be flushed, because a shard with members does not keep up, takes messages up to its bound
    /// only.
    pub(super) fn charge(
        &mut self,
        action: Action,
        now: Tick,
        settings: &ShardSettings,
        budgets: &AccountBudgets,
    ) -> Result<(), RequestFault> {
        let (rate, budget) = match action {
            Action::SendMessage => (settings.account_sends, &budgets.sends),
            Action::DeleteMessage => (settings.account_moderations, &budgets.deletions),
            Action::DisconnectUser => (settings.account_moderations, &budgets.disconnects),
        };
        let is_over = self.room.is_full()
            || rate.is_some_and(|rate| !budget.take(rate, now))
            || (action == Action::SendMessage
                && settings.room_rates
                && self.room.charge(now).is_err());
        if is_over {
            self.refused += 1;
            return Err(OVER_RATE);
        }
        Ok(())
    }
}

/// The number of a room's first frame: what other nodes remember of before has smaller ones, each its own.
const FIRST_FRAME: u64 = 1 << 20;

/// A rate is used up, or a queue is full.
pub(super) const OVER_RATE: RequestFault = (ErrorCode::TooManyRequests, Cow::Borrowed(texts::RATE));
