//! Handles received bytes: TLS, frames, requests and their effects.

use std::io;

use bytes::BytesMut;

use super::Core;
use super::refused::Line;
use crate::logging::Limiter;
use crate::net::io::Io;
use crate::net::tls::Progress;
use crate::shard::close_reason::CloseReason;
use crate::shard::command::{self, PublishRequest, SenderAddress};
use crate::shard::connection::{Connection, Lane, PeerClose, Phase, Receiving};
use crate::shard::mailbox::MailboxSender;
use crate::shard::metrics::ShardMetrics;
use crate::shard::review::PublishContext;
use crate::shard::shard_room::{Published, RequestFault, ShardRoom};
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::FrameId;
use uproar_proto::base::limits::PARSE_PADDING_BYTES;
use uproar_proto::base::table::Slot;
use uproar_proto::chat::{Action, ErrorCode, Refusal, Request, encode, texts};
use uproar_proto::session::{Effect, Ending, Input};
use uproar_proto::ws::{self, Deflater};

/// `ENOBUFS`: no receive buffer was free; the receive is armed again.
const ENOBUFS: i32 = 105;

/// What one client's input asks of its connection once the session is no longer borrowed.
#[derive(Default)]
struct Aftermath {
    /// The lane has something to send.
    deliver: bool,
    /// Number of refused requests, which are still to be charged.
    refusals: u32,
    /// The refusals' log lines, those that may be written.
    lines: Vec<Line>,
    /// The Close frame to send.
    ending: Option<Ending<'static>>,
    /// Why the connection is cut.
    cut: Option<CloseReason>,
    /// The client's side of the closing handshake is done.
    peer_closed: bool,
    /// The room has something to flush.
    posted: bool,
}

/// Carries one client's requests to its room.
struct Publisher<'a, S> {
    shard_room: &'a mut ShardRoom,
    room_slot: Slot<ShardRoom>,
    context: PublishContext<'a>,
    /// Mailboxes to the home shards, in order.
    requests: &'a mut [MailboxSender<command::Request<S>>],
    request_buffer: &'a mut BytesMut,
    sender: SenderAddress,
    /// The sender's address, for a review handler; empty if there is none.
    ip: String,
}

impl<S> Publisher<'_, S> {
    /// Publishes on the home shard, or sends the request there; returns what the home did at once.
    fn publish(
        &mut self,
        request: &Request<'_>,
        sender_json: &str,
    ) -> Result<Option<Published>, RequestFault> {
        let Self {
            shard_room,
            context,
            request_buffer,
            sender,
            ip,
            ..
        } = self;
        count_request(context.metrics, request.action());
        let room = shard_room.id;
        let mut owned = || PublishRequest::new(request_buffer, request, sender_json, ip, *sender);
        if let Some(home) = &mut shard_room.home {
            let place = (room, self.room_slot);
            let done = home.publish(place, (request, sender_json), context, owned);
            return done.map(Some);
        }
        let command = command::Request::Publish(room, owned());
        let mailbox = self.requests.get_mut(context.settings.home(room));
        if mailbox.is_some_and(|mailbox| mailbox.offer(command).is_ok()) {
            return Ok(None);
        }
        context.metrics.mailbox_full.inc();
        Err((ErrorCode::TooManyRequests, texts::RATE))
    }
}

/// Answers one client, by frames for its connection alone.
struct Answers<'a> {
    lane: &'a mut Option<Box<Lane>>,
    /// The window for compressing to the client, as a power of two.
    window_bits: Option<u8>,
    lines: &'a mut Limiter,
    metrics: &'a ShardMetrics,
    now: Tick,
    after: Aftermath,
}

impl Answers<'_> {
    fn refuse(&mut self, id: FrameId, refusal: Refusal<'_>) {
        let Refusal {
            code,
            message,
            request_id,
        } = refusal;
        count_refusal(self.metrics, code);
        let after = &mut self.after;
        after.refusals += 1;
        let line = Line::of(self.lines, self.now, code, id, message);
        after.lines.extend(line);
        let lane = self.lane.get_or_insert_default();
        let pushed = lane.push(|out| encode::error(out, id, request_id, code, message));
        if pushed.is_err() {
            after.cut = Some(CloseReason::Slow);
        }
        after.deliver = true;
    }

    fn pong(&mut self, payload: &[u8]) {
        let lane = self.lane.get_or_insert_default();
        lane.pong(|out| ws::pong(out, payload));
        self.after.deliver = true;
    }

    fn echo(&mut self, text: bool, payload: &[u8], deflater: &mut Deflater) {
        let lane = self.lane.get_or_insert_default();
        lane.push_echo(text, payload, deflater, self.window_bits);
        self.after.deliver = true;
    }
}

/// Carries out an effect of a session whose room is here.
fn carry_out<S>(effect: Effect<'_>, publisher: &mut Publisher<'_, S>, answers: &mut Answers<'_>) {
    match effect {
        Effect::Publish {
            request,
            sender_json,
        } => match publisher.publish(&request, sender_json) {
            Ok(Some(Published::Appended(_))) => answers.after.posted = true,
            Ok(Some(Published::Held(_)) | None) => {}
            Err((code, message)) => {
                let refusal = Refusal {
                    code,
                    message,
                    request_id: request.request_id(),
                };
                answers.refuse(publisher.context.ids.next_id(), refusal);
            }
        },
        Effect::Refuse(refusal) => answers.refuse(publisher.context.ids.next_id(), refusal),
        Effect::Pong(payload) => answers.pong(payload),
        Effect::Echo { text, payload } => answers.echo(text, payload, publisher.context.deflater),
        Effect::AnswerClose { code } => {
            answers.after.ending = Some(Ending::Answer { code });
        }
        Effect::PeerClosed => answers.after.peer_closed = true,
        Effect::Violation(violation) => {
            answers.after.ending = Some(Ending::Violation(violation));
        }
        Effect::Flood => answers.after.cut = Some(CloseReason::Flood),
    }
}

impl<W: Io> Core<W> {
    /// Handles a completed receive: `bytes` holds `len` received bytes and the padding after them.
    pub fn received(
        &mut self,
        key: u64,
        bytes: Option<(&mut [u8], usize)>,
        result: &io::Result<usize>,
        more: bool,
    ) {
        let slot = Slot::from_bits(key);
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if !more {
            connection.receiving = Receiving::Ended;
        }
        match (bytes, result) {
            (Some((buffer, len)), Ok(1..)) => {
                self.metrics.bytes_received.add(len as u64);
                if connection.phase != Phase::Dead {
                    if connection.tls.is_some() {
                        self.take_sealed(slot, buffer, len);
                    } else {
                        self.take_plain(slot, buffer, len);
                    }
                }
            }
            (_, Err(error)) if error.raw_os_error() == Some(ENOBUFS) => {}
            _ => {
                // The end of the stream, or an error: either way the client is gone.
                self.kill(slot, CloseReason::Client);
                self.reap(slot);
                return;
            }
        }
        self.rearm(slot);
        self.reap(slot);
    }

    fn rearm(&mut self, slot: Slot<Connection<W::FixedFile>>) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.receiving == Receiving::Ended && connection.phase != Phase::Dead {
            connection.receiving = Receiving::Armed;
            self.metrics.receive_rearmed.inc();
            self.io.receive(&connection.file, slot.to_bits());
        }
    }

    fn take_sealed(&mut self, slot: Slot<Connection<W::FixedFile>>, buffer: &mut [u8], len: usize) {
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let mut answer = Vec::new();
        let Some(Connection { tls: Some(tls), .. }) = self.connections.get_mut(slot) else {
            return;
        };
        let outcome = tls.receive(&mut buffer[..len], &mut plain, &mut answer);
        if !answer.is_empty() {
            tls.queue(&answer);
            self.deliver(slot);
        }
        let plain_len = plain.len();
        if plain_len > 0 {
            plain.resize(plain_len + PARSE_PADDING_BYTES, 0);
            self.take_plain(slot, &mut plain, plain_len);
        }
        self.plain = plain;
        match outcome {
            Ok(Progress::Established | Progress::Handshaking) => {}
            Ok(Progress::Closed) => self.kill(slot, CloseReason::Client),
            Err(_) => self.kill(slot, CloseReason::Protocol),
        }
    }

    /// Parses frames and requests from plaintext and applies their effects.
    pub(super) fn take_plain(
        &mut self,
        slot: Slot<Connection<W::FixedFile>>,
        buffer: &mut [u8],
        len: usize,
    ) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let room_slot = connection.shard_room;
        let Some(shard_room) = self.shard_rooms.get_mut(room_slot) else {
            self.take_closing(slot, buffer, len);
            return;
        };
        let content_chars_max = shard_room.settings.content_chars_max.into();
        let Connection {
            session, lane, ip, ..
        } = connection;
        let mut publisher = Publisher {
            // Only a review handler learns the sender's address.
            ip: match shard_room.settings.review {
                Some(_) => ip.to_string(),
                None => String::new(),
            },
            shard_room,
            room_slot,
            context: PublishContext {
                ids: &mut self.ids,
                deflater: &mut self.deflater,
                review_queue: &mut self.review_queue,
                settings: &self.settings,
                budgets: &self.budgets,
                metrics: &self.metrics,
                now: self.now,
            },
            requests: &mut self.requests,
            request_buffer: &mut self.request_buffer,
            sender: SenderAddress {
                shard: self.id,
                connection: slot.to_bits(),
            },
        };
        let mut answers = Answers {
            lane,
            window_bits: session.window_bits(),
            lines: &mut self.lines,
            metrics: &self.metrics,
            now: self.now.tick,
            after: Aftermath::default(),
        };
        let mut input = Input::new(buffer, len, content_chars_max);
        let (context, now) = (&mut self.session_context, self.now.tick);
        while let Some(effect) = session.next(&mut input, context, now) {
            carry_out(effect, &mut publisher, &mut answers);
        }
        let after = answers.after;
        for line in &after.lines {
            line.write(publisher.shard_room.id, session.sender_json(), *ip);
        }
        if after.posted {
            self.note_unflushed(room_slot);
        }
        self.follow_up(slot, after);
    }

    /// Handles bytes of a connection whose room is gone here: deleted, or left by its last member on this shard.
    /// Our Close frame is already queued, so only the client's Close frame matters.
    fn take_closing(
        &mut self,
        slot: Slot<Connection<W::FixedFile>>,
        buffer: &mut [u8],
        len: usize,
    ) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let session = &mut connection.session;
        session.begin_close();
        let (mut after, mut input) = (Aftermath::default(), Input::new(buffer, len, 0));
        let (context, now) = (&mut self.session_context, self.now.tick);
        while let Some(effect) = session.next(&mut input, context, now) {
            match effect {
                Effect::PeerClosed => after.peer_closed = true,
                Effect::Flood => after.cut = Some(CloseReason::Flood),
                Effect::Publish { .. }
                | Effect::Refuse(_)
                | Effect::Pong(_)
                | Effect::Echo { .. }
                | Effect::AnswerClose { .. }
                | Effect::Violation(_) => debug_assert!(false, "a closing session has {effect:?}"),
            }
        }
        self.follow_up(slot, after);
    }

    fn follow_up(&mut self, slot: Slot<Connection<W::FixedFile>>, after: Aftermath) {
        if let Some(ending) = after.ending {
            self.finish(slot, &ending);
        }
        let is_flood = !self.charge_refusals(slot, after.refusals);
        if let Some(reason) = is_flood.then_some(CloseReason::Flood).or(after.cut) {
            self.kill(slot, reason);
            return;
        }
        if after.deliver {
            self.deliver(slot);
        }
        if after.peer_closed {
            self.peer_closed(slot);
        }
    }

    /// Charges `refusals` to the client; whether it may get that many more.
    pub(super) fn charge_refusals(
        &mut self,
        slot: Slot<Connection<W::FixedFile>>,
        refusals: u32,
    ) -> bool {
        let connection = self.connections.get_mut(slot);
        connection.is_none_or(|connection| {
            let session = &mut connection.session;
            session.charge_overhead(refusals, &self.session_context, self.now.tick)
        })
    }

    /// Ends the stream after the pending send: the closing handshake is complete on the client's side.
    fn peer_closed(&mut self, slot: Slot<Connection<W::FixedFile>>) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if let Phase::Closing { peer, .. } = &mut connection.phase {
            *peer = PeerClose::Done;
        }
        self.end_stream(slot);
    }
}

fn count_request(metrics: &ShardMetrics, action: Action) {
    match action {
        Action::SendMessage => metrics.received_send.inc(),
        Action::DeleteMessage => metrics.received_delete.inc(),
        Action::DisconnectUser => metrics.received_disconnect.inc(),
    }
}

pub(super) fn count_refusal(metrics: &ShardMetrics, code: ErrorCode) {
    match code {
        ErrorCode::BadRequest => metrics.rejected_400.inc(),
        ErrorCode::Forbidden => metrics.rejected_403.inc(),
        ErrorCode::NotFound => metrics.rejected_404.inc(),
        ErrorCode::NotAcceptable => metrics.rejected_406.inc(),
        ErrorCode::PayloadTooLarge => metrics.rejected_413.inc(),
        ErrorCode::TooManyRequests => metrics.rejected_429.inc(),
        ErrorCode::Unauthorized | ErrorCode::Internal => metrics.rejected_other.inc(),
    }
}
