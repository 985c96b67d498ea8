//! Rooms of a cluster: requests on their way to the home of their hash slot, its decisions, and committed
//! frames on their way to members.

use super::tallies::{self, CastOutcome};
use super::{Env, Rooms};
use crate::shard::cluster::ToCluster;
use crate::shard::command::{self, Answer, PublishRequest, Refused, Said, SenderAddress, Voter};
use crate::shard::core::member_commands::ban_kicked;
use crate::shard::requests::{Asker, Decidable};
use crate::shard::shard_room::ruled::KEPT;
use crate::shard::shard_room::{HomeRoom, OVER_RATE, RequestFault, ShardRoom};
use uproar_proto::base::clock::{Tick, UnixTime};
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::base::table::Slot;
use uproar_proto::chat::{Action, ErrorCode, texts};
use uproar_proto::cluster::HashSlot;
use uproar_proto::cluster::engine::{Outcome, RequestKey, Ticket};
use uproar_proto::cluster::message::{Ask, AskKind, AskTexts};
use uproar_proto::cluster::record::{Entry, Eviction};
use uproar_proto::extension::Speaker;
use uproar_proto::extension::held::HeldPage;
use uproar_proto::room::redaction::Redaction;
use uproar_proto::ws;

/// A member's request that the cluster refused, or lost from sight.
#[derive(Debug)]
pub(in crate::shard::core) struct RefusedMember {
    /// The member's connection.
    pub(in crate::shard::core) sender: SenderAddress,
    /// Its own id for the request.
    pub(in crate::shard::core) request_id: Box<str>,
    /// The id of the refusal.
    pub(in crate::shard::core) id: FrameId,
    /// Why.
    pub(in crate::shard::core) code: ErrorCode,
    /// The text.
    pub(in crate::shard::core) text: Box<str>,
}

/// What the end of a request leaves to be told.
#[derive(Debug)]
pub(in crate::shard::core) enum Told {
    /// Nothing.
    Nothing,
    /// A member's refusal.
    Refused(RefusedMember),
    /// What became of votes.
    Voted(Vec<(Voter, CastOutcome)>),
}

impl Rooms {
    /// Whether a cluster orders the rooms.
    pub(in crate::shard::core) fn is_clustered(&self) -> bool {
        self.requests.is_some()
    }

    /// Has the cluster decide a member's request to a room at home here.
    pub(super) fn ask<S>(
        &mut self,
        room: RoomId,
        publish_request: &PublishRequest,
        env: &mut Env<S>,
    ) -> Result<FrameId, RequestFault> {
        let Some(requests) = &mut self.requests else {
            debug_assert!(false, "the server is a node of a cluster");
            return Err((ErrorCode::Internal, texts::UNKNOWN_OUTCOME.into()));
        };
        if requests.is_full() {
            return Err(OVER_RATE);
        }
        let (request, sender_json) = publish_request.request();
        let [subject, detail, request_id] = request.texts();
        let all = [
            subject,
            detail,
            request_id,
            sender_json,
            publish_request.ip(),
        ];
        let id = env.ids.next_id();
        let ask = Ask {
            room,
            id,
            kind: kind(request.action()),
            is_from_api: false,
            speaker: publish_request.speaker,
            is_exempt: false,
            texts: AskTexts::new(&mut requests.buffer, all),
        };
        let asker = Asker::Member {
            sender: publish_request.sender,
            request_id: request_id.into(),
            id,
        };
        let ticket = requests.wait(env.id, asker);
        env.outbox.tell_cluster(ToCluster::Ask { ticket, ask });
        Ok(id)
    }

    /// Has the cluster decide a request of the API, which is answered at its end.
    pub(super) fn ask_for_api<S>(
        &mut self,
        room: RoomId,
        (kind, [subject, detail, request_id, sender_json], is_exempt): (AskKind, [&str; 4], bool),
        answer: Answer<Said>,
        env: &mut Env<S>,
    ) {
        let is_known = self.find(room).is_some();
        let requests = self.requests.as_mut();
        let Some(requests) = requests.filter(|requests| is_known && !requests.is_full()) else {
            let refused = if is_known {
                Refused::Busy
            } else {
                Refused::NoSuchRoom
            };
            let _caller_gone = answer.send(Err(refused));
            return;
        };
        let id = env.ids.next_id();
        let ask = Ask {
            room,
            id,
            kind,
            is_from_api: true,
            speaker: Speaker::BACK_END,
            is_exempt,
            texts: AskTexts::new(
                &mut requests.buffer,
                [subject, detail, request_id, sender_json, ""],
            ),
        };
        let ticket = requests.wait(env.id, Asker::Api { answer, id });
        env.outbox.tell_cluster(ToCluster::Ask { ticket, ask });
    }

    /// Ends a request of this shard: answers the API; returns what members get.
    pub(in crate::shard::core) fn told(
        &mut self,
        ticket: Ticket,
        (outcome, sent): (Outcome, Option<UnixTime>),
        now: Tick,
    ) -> Told {
        let requests = self.requests.as_mut();
        let asker = requests.and_then(|requests| requests.end(ticket));
        debug_assert!(asker.is_some(), "each request has one end");
        let Some(asker) = asker else {
            return Told::Nothing;
        };
        match asker {
            Asker::Api { answer, id } => {
                let answered = match outcome {
                    Outcome::Committed => {
                        let sent = sent.unwrap_or_default();
                        Ok(Said { id, sent })
                    }
                    Outcome::Refused(code, text) => Err(Refused::of(code, &text)),
                    Outcome::Unknown => Err(Refused::Late),
                };
                let _caller_gone = answer.send(answered);
                Told::Nothing
            }
            Asker::Member {
                sender,
                request_id,
                id,
            } => match refusal(outcome) {
                Some((code, text)) => Told::Refused(RefusedMember {
                    sender,
                    request_id,
                    id,
                    code,
                    text,
                }),
                None => Told::Nothing,
            },
            Asker::Tally(answer) => {
                let _caller_gone = answer.send(tallies::answer(outcome));
                Told::Nothing
            }
            Asker::Held(answer) => {
                let _caller_gone = answer.send(held_page(outcome));
                Told::Nothing
            }
            Asker::Voters(voters) => Told::Voted(tallies::outcomes(voters, outcome)),
            Asker::Told(room, tally) => {
                let is_told = matches!(outcome, Outcome::Committed);
                self.tally_told(room, Some(&tally), is_told, now);
                Told::Nothing
            }
            Asker::Nobody => Told::Nothing,
        }
    }

    /// Decides a request: this node is the home of its room's hash slot. A reviewed message is decided
    /// by its verdict, a request for a room that is not known yet when it is.
    pub(in crate::shard::core) fn author<S>(&mut self, (key, ask): Decidable, env: &mut Env<S>) {
        let Some(requests) = &mut self.requests else {
            return;
        };
        let Some(room_slot) = self.by_id.get(&ask.room).copied() else {
            if let Err(key) = requests.keep_early((key, ask), env.now.tick) {
                refuse_request(key, (ErrorCode::TooManyRequests, texts::RATE), env);
            }
            return;
        };
        if ask.kind == AskKind::Held {
            let answer = self.author_held(room_slot, &ask, env);
            return refuse_request(key, (ErrorCode::NotAcceptable, &answer), env);
        }
        if ask.kind == AskKind::Tally {
            let answer = self.author_tally(room_slot, &ask, env);
            return refuse_request(key, (ErrorCode::NotAcceptable, &answer), env);
        }
        let shard_room = self.table.get_mut(room_slot);
        let Some(home) = shard_room.and_then(|shard_room| shard_room.home.as_deref_mut()) else {
            return refuse_request(key, (ErrorCode::NotFound, texts::NO_ROOM), env);
        };
        // The home before may have had a clock ahead of ours.
        home.room.saw(key.not_before);
        let mut context = env.publish_context(&mut self.review_queue);
        match home.author((key, &ask), room_slot, &mut requests.buffer, &mut context) {
            Ok(Some(entry)) => {
                env.metrics.cluster_authored.inc();
                let extension = home.room.settings().extension.as_deref();
                if let Some(seconds) = extension.and_then(|extension| extension.settings.kick)
                    && !ask.is_exempt
                    && let Some(Eviction { user_id, reason }) = entry.eviction.clone()
                {
                    let eviction = command::Eviction { user_id, reason };
                    ban_kicked(entry.room, &eviction, seconds, env);
                }
                let epoch = key.epoch;
                env.outbox
                    .tell_cluster(ToCluster::Authored { epoch, entry });
            }
            // Its verdict decides.
            Ok(None) => {}
            Err((code, text)) => refuse_request(key, (code, &text), env),
        }
    }

    /// Decides the requests that came before their room; call it when the room is known.
    pub(super) fn author_early<S>(&mut self, room: RoomId, env: &mut Env<S>) {
        let Some(requests) = &mut self.requests else {
            return;
        };
        for request in requests.take_early(room) {
            self.author(request, env);
        }
    }

    /// Refuses requests whose rooms did not become known, and ends the turn for the cluster; returns when to
    /// call it again.
    pub(in crate::shard::core) fn end_cluster_turn<S>(&mut self, env: &mut Env<S>) -> Option<Tick> {
        let requests = self.requests.as_mut()?;
        requests.end_turn();
        while let Some((key, _)) = requests.overdue(env.now.tick) {
            refuse_request(key, (ErrorCode::NotFound, texts::NO_ROOM), env);
        }
        env.metrics.cluster_waiting.set_len(requests.waiting());
        requests.next_deadline()
    }

    /// Forgets a home whose room is deleted: what is under review there is dropped, and the cluster is told.
    pub(super) fn end_home<S>(&mut self, home: &HomeRoom, env: &mut Env<S>) {
        if home.tallies().is_some() {
            self.recount_tallies();
        }
        let Some(reviewed) = home.reviewed() else {
            return;
        };
        self.review_queue.left(reviewed.len());
        for (held, _) in reviewed.messages() {
            if let Some(key) = held.key {
                refuse_request(key, (ErrorCode::NotFound, texts::NO_ROOM), env);
            } else if let Some(answer) = self.speakers.remove(&held.id) {
                let _caller_gone = answer.send(Err(Refused::NoSuchRoom));
            }
        }
    }

    /// Drops what is under review in rooms of a hash slot whose home is another node now, and ends their tallies.
    pub(in crate::shard::core) fn fence<S>(&mut self, slot: HashSlot, env: &Env<S>) {
        self.end_tallies_of(slot, env);
        self.forget_held_of(slot, &env.metrics);
        if let Some(archived) = &mut self.archived {
            archived.fenced(slot);
        }
        let Some(requests) = &mut self.requests else {
            return;
        };
        requests.fence(slot);
        let holders: Vec<Slot<ShardRoom>> = self.review_queue.holders().collect();
        for room_slot in holders {
            let shard_room = self.table.get_mut(room_slot);
            if let Some(shard_room) = shard_room.filter(|room| HashSlot::of(room.id) == slot)
                && let Some(home) = shard_room.home.as_deref_mut()
            {
                self.review_queue
                    .left(home.drop_reviewed().map_or(0, |dropped| dropped.len()));
            }
        }
    }

    /// Appends a committed frame to its room, at the end of what waits to be flushed.
    pub(in crate::shard::core) fn adopt<S>(&mut self, entry: Entry, env: &mut Env<S>) {
        let Some(requests) = &mut self.requests else {
            return;
        };
        if entry.frame.is_empty() {
            // A probe: nothing was said.
            return;
        }
        let room_slot = self.by_id.get(&entry.room).copied();
        let Some(room_slot) = room_slot.filter(|_| ws::is_whole(&entry.frame)) else {
            // It has no members here; or these are no frames, and members could not read on behind them.
            requests.dropped_sent = requests.dropped_sent.max(entry.sent);
            env.metrics.cluster_dropped.inc();
            return;
        };
        requests.adopted(entry.frame.len());
        if let Some(home) = self.home_in(room_slot) {
            if home.room.settings().extension.is_some() {
                home.note_tally(&entry.frame, env.now);
            }
            let purge_event = &env.settings.purge_event;
            let takes_back = |payload| Redaction::read(payload, purge_event).is_some();
            let is_moderated = entry.is_urgent && ws::payloads(&entry.frame).any(takes_back);
            if entry.eviction.is_some() || is_moderated {
                home.moderated.get_or_insert(env.now.tick);
            }
            home.adopt(entry, &mut env.deflater);
            env.metrics.cluster_adopted.inc();
            self.note_unflushed(room_slot, env.now.tick);
            self.note_tallied(room_slot);
        }
    }

    /// Whether more committed frames may be appended in this turn.
    pub(in crate::shard::core) fn may_adopt(&self) -> bool {
        let requests = self.requests.as_ref();
        requests.is_none_or(|requests| !requests.has_enough())
    }

    /// Whether the cluster owes no answer to a request of this shard, nor this shard one to the cluster.
    pub(in crate::shard::core) fn cluster_is_idle(&self) -> bool {
        let requests = self.requests.as_ref();
        requests.is_none_or(|requests| {
            requests.is_idle() && self.review_queue.held() == 0 && self.has_no_casts()
        })
    }
}

/// Tells the cluster that a request is refused.
pub(in crate::shard::core) fn refuse_request<S>(
    key: RequestKey,
    (code, text): (ErrorCode, &str),
    env: &mut Env<S>,
) {
    let text = text.into();
    env.outbox
        .tell_cluster(ToCluster::Refused { key, code, text });
}

/// The kind of a member's request.
pub(super) fn kind(action: Action) -> AskKind {
    match action {
        Action::SendMessage => AskKind::SendMessage,
        Action::DeleteMessage => AskKind::DeleteMessage,
        Action::DisconnectUser => AskKind::DisconnectUser,
    }
}

/// What a back end is told of the home's answer about held messages.
fn held_page(outcome: Outcome) -> Result<HeldPage, Refused> {
    match outcome {
        Outcome::Refused(ErrorCode::NotAcceptable, text) => {
            serde_json::from_str(&text).map_err(|_no_page| Refused::Late)
        }
        Outcome::Refused(ErrorCode::NotFound, _) => Err(Refused::NoSuchRoom),
        Outcome::Refused(..) | Outcome::Committed | Outcome::Unknown => Err(Refused::Late),
    }
}

/// What a member is refused with; `None`: the echo of the message is on its way, or the home has told its user.
fn refusal(outcome: Outcome) -> Option<(ErrorCode, Box<str>)> {
    match outcome {
        Outcome::Committed => None,
        Outcome::Refused(ErrorCode::NotAcceptable, text) if *text == *KEPT => None,
        Outcome::Refused(code, text) => Some((code, text)),
        Outcome::Unknown => Some((ErrorCode::Internal, texts::UNKNOWN_OUTCOME.into())),
    }
}
