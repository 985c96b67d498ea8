//! A room that a cluster orders: decided here while this node is the home of its hash slot, appended everywhere.

use bytes::BytesMut;

use super::purge::Purge;
use super::ruled::{DENIED_AS_ASKED, KEPT, give_back};
use super::{HomeRoom, OVER_RATE, PublishContext, RequestFault, ShardRoom};
use crate::shard::cluster::entry;
use crate::shard::command::{self, PublishRequest, SenderAddress};
use crate::shard::review::Held;
use crate::shard::rules::Ruling;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::FrameId;
use uproar_proto::base::table::Slot;
use uproar_proto::chat::{self, ErrorCode, Request, encode};
use uproar_proto::cluster::engine::RequestKey;
use uproar_proto::cluster::message::{Ask, AskKind};
use uproar_proto::cluster::record::{Entry, Eviction};
use uproar_proto::extension::Speech;
use uproar_proto::extension::held::Decision;
use uproar_proto::extension::rules::Action;
use uproar_proto::room::order::{NewEvent, NewMessage};
use uproar_proto::room::review::Pending;
use uproar_proto::ws::Deflater;

impl HomeRoom {
    /// Decides a request: charges the rates, and encodes what is to be appended into `buffer`. The room's log is left
    /// alone: only what comes back from the cluster's log enters it. `None`: a review decides.
    pub(in crate::shard) fn author(
        &mut self,
        (key, ask): (RequestKey, &Ask),
        room_slot: Slot<ShardRoom>,
        buffer: &mut BytesMut,
        context: &mut PublishContext<'_>,
    ) -> Result<Option<Entry>, RequestFault> {
        let now = context.now.unix;
        let [subject, detail, _, sender_json, _] = ask.texts.get();
        let speech = Speech {
            content: subject,
            sender_json,
            speaker: ask.speaker,
        };
        let is_message = ask.kind == AskKind::SendMessage;
        if is_message && !ask.is_exempt && self.reviewed().is_some() {
            let held = held(buffer, key, ask, now);
            self.hold((ask.room, room_slot), held, &speech, context)?;
            return Ok(None);
        }
        if is_message {
            return self
                .author_said(key, ask, &speech, buffer, context)
                .map(Some);
        }
        if ask.kind == AskKind::Decide {
            return self.author_decided(key, ask, buffer, context).map(Some);
        }
        self.charge_ask(ask.kind, context)?;
        note_ask(ask, context);
        let purge_event = &context.settings.purge_event;
        let purge = match ask.kind {
            AskKind::Purge => Some(Purge::of_user(subject, detail, purge_event)),
            AskKind::Clear => Some(Purge::of_all(detail)),
            AskKind::Event => self.purge_by((subject, detail), purge_event),
            AskKind::SendMessage
            | AskKind::DeleteMessage
            | AskKind::DisconnectUser
            | AskKind::Tally
            | AskKind::Decide
            | AskKind::Held
            | AskKind::Probe => None,
        };
        let sent = match purge {
            Some(purge) => self.write_purge(buffer, &purge, ask.id, context),
            None => self.write(buffer, ask, now),
        };
        let evicts = ask.kind == AskKind::DisconnectUser;
        let eviction = evicts.then(|| Eviction {
            user_id: subject.into(),
            reason: detail.into(),
        });
        Ok(Some(Entry {
            // Of an event it says that it can wait for the pace.
            is_urgent: !ask.is_exempt || evicts,
            eviction,
            ..entry(key, ask.room, sent, buffer.split().freeze())
        }))
    }

    /// Decides a message: by the room's modes, rules and rates.
    fn author_said(
        &mut self,
        key: RequestKey,
        ask: &Ask,
        speech: &Speech<'_>,
        buffer: &mut BytesMut,
        context: &mut PublishContext<'_>,
    ) -> Result<Entry, RequestFault> {
        let now = context.now.unix;
        let ruling = self.admit(ask.room, speech, context)?;
        let ruling = if ask.speaker.is_shadowed {
            Some(Ruling::in_shadow(ruling))
        } else {
            ruling
        };
        let place = (ask.room, ask.id);
        let owned = || held(&mut BytesMut::new(), key, ask, now).publish_request;
        let Some(ruling) = ruling else {
            let sent = self.write(buffer, ask, now);
            if !ask.is_exempt {
                self.ask_afterwards(place, owned, context);
            }
            return Ok(entry(key, ask.room, sent, buffer.split().freeze()));
        };
        let asked = ruling.applied(owned());
        if ruling.action != Action::Mask {
            self.keep(place, asked, &ruling, context);
            return Err((ErrorCode::NotAcceptable, KEPT.into()));
        }
        let room = &mut self.room;
        let sent = room.author_message(buffer, ask.id, now, asked.message());
        self.ask_afterwards(place, || asked, context);
        Ok(entry(key, ask.room, sent, buffer.split().freeze()))
    }

    /// Decides a message that waits for a moderator.
    fn author_decided(
        &mut self,
        key: RequestKey,
        ask: &Ask,
        buffer: &mut BytesMut,
        context: &mut PublishContext<'_>,
    ) -> Result<Entry, RequestFault> {
        let [id, reason, verb, by, _] = ask.texts.get();
        let wrong = (ErrorCode::BadRequest, "".into());
        let decision = Decision {
            id: FrameId::parse(id).ok_or(wrong)?,
            allows: verb == "allow",
            reason: reason.into(),
        };
        let asked = self.take_waiting(ask.room, (&decision, by), context)?;
        if decision.allows && asked.speaker.is_shadowed {
            give_back((ask.room, decision.id), asked.message(), context);
            return Err((ErrorCode::NotAcceptable, KEPT.into()));
        }
        if !decision.allows {
            return Err((ErrorCode::NotAcceptable, DENIED_AS_ASKED.into()));
        }
        let now = context.now.unix;
        let sent = self
            .room
            .author_message(buffer, decision.id, now, asked.message());
        self.ask_afterwards((ask.room, decision.id), || asked, context);
        Ok(entry(key, ask.room, sent, buffer.split().freeze()))
    }

    /// Charges a request that came by the cluster, as those of members and of the API are charged where there is none.
    fn charge_ask(
        &mut self,
        kind: AskKind,
        context: &PublishContext<'_>,
    ) -> Result<(), RequestFault> {
        let action = match kind {
            AskKind::DeleteMessage | AskKind::Purge | AskKind::Clear => chat::Action::DeleteMessage,
            AskKind::DisconnectUser => chat::Action::DisconnectUser,
            AskKind::Event if self.room.is_full() => return Err(OVER_RATE),
            // The control plane has charged it; a probe is nobody's.
            AskKind::Event
            | AskKind::Tally
            | AskKind::SendMessage
            | AskKind::Decide
            | AskKind::Held
            | AskKind::Probe => return Ok(()),
        };
        self.charge(action, context.now.tick, context.settings, context.budgets)
    }

    /// Encodes what a request asks for; returns its `SendTime`.
    fn write(&mut self, buffer: &mut BytesMut, ask: &Ask, now: UnixTime) -> UnixTime {
        let [subject, detail, request_id, sender_json, _] = ask.texts.get();
        let (name, attributes_json) = match ask.kind {
            AskKind::SendMessage => {
                let message = NewMessage {
                    content: subject,
                    attributes_json: detail,
                    request_id,
                    sender_json,
                };
                return self.room.author_message(buffer, ask.id, now, message);
            }
            AskKind::DeleteMessage => {
                self.forget_waiting_message(subject);
                let attributes_json = encode::deleted_attributes(subject, detail);
                (encode::DELETED, attributes_json)
            }
            AskKind::DisconnectUser => {
                let attributes_json = encode::disconnected_attributes(subject, detail);
                (encode::DISCONNECTED, attributes_json)
            }
            AskKind::Event => (subject, detail.to_owned()),
            // No room gets them; or they are written apart.
            AskKind::Tally
            | AskKind::Decide
            | AskKind::Held
            | AskKind::Probe
            | AskKind::Purge
            | AskKind::Clear => return now,
        };
        let event = NewEvent {
            name,
            attributes_json: &attributes_json,
            request_id,
        };
        self.room.author_event(buffer, ask.id, now, event)
    }

    /// Encodes the events of a purge, in order: they are one entry of the log.
    fn write_purge(
        &mut self,
        buffer: &mut BytesMut,
        purge: &Purge,
        last: FrameId,
        context: &mut PublishContext<'_>,
    ) -> UnixTime {
        let mut sent = context.now.unix;
        for (name, attributes_json) in self.take_back(purge, context.metrics) {
            let event = NewEvent {
                name,
                attributes_json: &attributes_json,
                request_id: "",
            };
            let id = context.ids.next_id();
            sent = self.room.author_event(buffer, id, sent, event);
        }
        let event = NewEvent {
            name: &purge.name,
            attributes_json: &purge.attributes_json,
            request_id: "",
        };
        self.room.author_event(buffer, last, sent, event)
    }

    /// Drops the messages under review; later verdicts find none of them.
    pub(in crate::shard) fn drop_reviewed(&mut self) -> Option<Pending<Held>> {
        let dropped = self.detour.as_mut()?.reviewed.take();
        self.set_settings(self.room.settings().clone());
        dropped
    }

    /// Whether a cluster orders it.
    pub(in crate::shard) fn is_clustered(&self) -> bool {
        self.detour
            .as_ref()
            .is_some_and(|detour| detour.is_clustered)
    }

    /// Appends a committed frame, and notes whom to evict once it is flushed.
    pub(in crate::shard) fn adopt(&mut self, entry: Entry, deflater: &mut Deflater) {
        self.room
            .adopt(deflater, &entry.frame, entry.sent, entry.is_urgent);
        let eviction = entry.eviction;
        self.evictions.extend(
            eviction.map(|Eviction { user_id, reason }| command::Eviction { user_id, reason }),
        );
    }
}

/// Notes what a moderator has asked for; what the API has, its node notes.
fn note_ask(ask: &Ask, context: &PublishContext<'_>) {
    let [subject, detail, _, sender_json, _] = ask.texts.get();
    let action = match ask.kind {
        AskKind::DeleteMessage => "DELETE_MESSAGE",
        AskKind::DisconnectUser => "DISCONNECT_USER",
        AskKind::SendMessage
        | AskKind::Event
        | AskKind::Tally
        | AskKind::Probe
        | AskKind::Purge
        | AskKind::Clear
        | AskKind::Held
        | AskKind::Decide => return,
    };
    context.note_act(ask.room, (action, subject, detail), sender_json);
}

/// Makes what is held of a message until its verdict.
fn held(buffer: &mut BytesMut, key: RequestKey, ask: &Ask, sent: UnixTime) -> Held {
    let [content, attributes_json, request_id, sender_json, ip] = ask.texts.get();
    let request = Request::SendMessage {
        content,
        attributes_json,
        request_id,
    };
    let publish_request =
        PublishRequest::new(buffer, &request, sender_json, ip, SenderAddress::NOWHERE);
    Held {
        publish_request: publish_request.with_speaker(ask.speaker),
        id: ask.id,
        sent,
        key: Some(key),
    }
}
