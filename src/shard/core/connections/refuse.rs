//! Refusals that the home shard decides: ERROR frames for one connection, here or on another shard.

use bytes::BytesMut;

use super::Connections;
use crate::net::io::Io;
use crate::shard::close_reason::CloseReason;
use crate::shard::command::{Command, PublishRequest, Refusal, SenderAddress};
use crate::shard::core::env::Env;
use crate::shard::core::log_lines::Line;
use crate::shard::core::outbound::ConnectionSlot;
use crate::shard::core::refusal::refusal;
use crate::shard::core::rooms::Rooms;
use crate::shard::core::rooms::cluster::{RefusedMember, refuse_request};
use crate::shard::frames;
use crate::shard::review::Held;
use uproar_proto::base::id::FrameId;
use uproar_proto::base::table::Slot;
use uproar_proto::chat::{ErrorCode, encode, texts};
use uproar_proto::room::review::Denied;

impl<W: Io> Connections<W> {
    /// Tells the sender of a request that it failed.
    pub(in crate::shard::core) fn refuse_sender(
        &mut self,
        publish_request: &PublishRequest,
        id: FrameId,
        fault: (ErrorCode, &str),
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        let (request, _) = publish_request.request();
        let request_id = (request.request_id(), id);
        self.refuse_at(publish_request.sender, request_id, fault, rooms, env);
    }

    /// Tells the sender of a request that the cluster refused it.
    pub(in crate::shard::core) fn refuse_asker(
        &mut self,
        refused: &RefusedMember,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        let request_id = (&*refused.request_id, refused.id);
        let fault = (refused.code, &*refused.text);
        self.refuse_at(refused.sender, request_id, fault, rooms, env);
    }

    pub(super) fn refuse_at(
        &mut self,
        SenderAddress { shard, connection }: SenderAddress,
        (request_id, id): (&str, FrameId),
        (code, message): (ErrorCode, &str),
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        let mut frame = BytesMut::new();
        let fault = (code, message);
        encode::error(&mut frame, &refusal(&env.metrics, id, request_id, fault));
        let refusal = Refusal {
            frame: frame.freeze(),
            id,
            code,
            reason: message.into(),
        };
        if shard == env.id {
            self.refuse(Slot::from_bits(connection), &refusal, rooms, env);
        } else {
            let refuse = Command::RefuseRequest(connection, Box::new(refusal));
            env.outbox.send(shard, refuse);
        }
    }

    /// Tells the sender of a message that its review denied it.
    pub(in crate::shard::core) fn refuse_denied(
        &mut self,
        denied: &Denied<Held>,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        env.metrics.review_denied.inc();
        let Held {
            publish_request,
            id,
            key,
            ..
        } = &denied.message;
        let reason = match &*denied.reason {
            "" => texts::DENIED,
            reason => reason,
        };
        let fault = (ErrorCode::NotAcceptable, reason);
        match key {
            // The sender's node tells it.
            Some(key) => refuse_request(*key, fault, env),
            None if rooms.deny_speaker(*id, reason) => {}
            None => self.refuse_sender(publish_request, *id, fault, rooms, env),
        }
    }

    /// Sends a connection a refusal from its room's home shard.
    pub(in crate::shard::core) fn refuse(
        &mut self,
        slot: ConnectionSlot<W>,
        refusal: &Refusal,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        if !connection.is_open() {
            return;
        }
        let line = Line::admit(&mut env.lines, env.now.tick, refusal);
        if let Some(line) = line
            && let Some(shard_room) = rooms.get(connection.shard_room)
        {
            let sender_json = connection.session.sender_json();
            line.write(shard_room.id, sender_json, connection.ip);
        }
        if let Some(shard_room) = rooms.get(connection.shard_room) {
            let sent = |out: &mut BytesMut| out.extend_from_slice(&refusal.frame);
            frames::note_own(shard_room.id, connection.session.sender_json(), sent);
        }
        if !self.inbound.charge_refusal(connection, env) {
            return self.cut(slot, CloseReason::Flood, rooms, env);
        }
        let pushed = connection
            .lane()
            .push(|out| out.extend_from_slice(&refusal.frame));
        if pushed.is_err() {
            return self.cut(slot, CloseReason::Slow, rooms, env);
        }
        self.deliver_own(slot, rooms, env);
    }
}
