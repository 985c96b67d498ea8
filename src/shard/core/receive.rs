//! Handles received bytes: TLS, frames, requests and their effects.

use std::io;

use super::Core;
use super::refused::Line;
use crate::net::io::Io;
use crate::net::tls::Progress;
use crate::shard::close_reason::CloseReason;
use crate::shard::command::{self, PublishRequest, SenderAddress};
use crate::shard::connection::{Connection, PeerClose, Phase, Receiving};
use crate::shard::metrics::ShardMetrics;
use crate::shard::review::PublishContext;
use crate::shard::shard_room::Published;
use uproar_proto::base::limits::PARSE_PADDING_BYTES;
use uproar_proto::base::table::Slot;
use uproar_proto::chat::{Action, ErrorCode, encode, texts};
use uproar_proto::session::{Effect, Ending};
use uproar_proto::ws;

/// `ENOBUFS`: no receive buffer was free; the receive is armed again.
const ENOBUFS: i32 = 105;

/// Effects of a session that are applied once the session is no longer borrowed.
#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent notes, not a state"
)]
struct Aftermath {
    deliver: bool,
    refusals: u32,
    lines: Vec<Line>,
    flood: bool,
    overflow: bool,
    closed: bool,
    posted: bool,
    ending: Option<OwnedEnding>,
}

/// An ending that outlives the received bytes.
enum OwnedEnding {
    Answer(Option<u16>),
    Violation(ws::Violation),
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
        let mut after = Aftermath::default();
        let content_chars_max = usize::from(shard_room.settings.content_chars_max);
        let Connection {
            session, lane, ip, ..
        } = connection;
        let address = *ip;
        // Only a review handler learns the sender's address.
        let ip = match shard_room.settings.review {
            Some(_) => ip.to_string(),
            None => String::new(),
        };
        let review_queue = &mut self.review_queue;
        let (settings, budgets, metrics) = (&self.settings, &*self.budgets, &*self.metrics);
        let (ids, requests, request_buffer) =
            (&mut self.ids, &mut self.requests, &mut self.request_buffer);
        let (here, now, deflater) = (self.id, self.now, &mut self.deflater);
        let lines = &mut self.lines;
        let window_bits = session.window_bits();
        let mut refuse = |after: &mut Aftermath,
                          lane: &mut Option<Box<_>>,
                          id,
                          code,
                          message: &str,
                          request_id: &str| {
            count_refusal(metrics, code);
            after.refusals += 1;
            let line = Line::of(lines, now.tick, code, id, message);
            after.lines.extend(line);
            let lane: &mut Box<crate::shard::connection::Lane> =
                lane.get_or_insert_with(Box::default);
            let pushed = lane.push(|out| encode::error(out, id, request_id, code, message));
            after.overflow |= pushed.is_err();
            after.deliver = true;
        };
        session.receive(
            buffer,
            len,
            &mut self.session_context,
            content_chars_max,
            now,
            &mut |effect| match effect {
                Effect::Publish {
                    request,
                    sender_json,
                } => {
                    count_request(metrics, request.action());
                    let sender = SenderAddress {
                        shard: here,
                        connection: slot.to_bits(),
                    };
                    let mut owned =
                        || PublishRequest::new(request_buffer, &request, sender_json, &ip, sender);
                    let fault = if let Some(home) = &mut shard_room.home {
                        let mut context = PublishContext {
                            ids: &mut *ids,
                            deflater: &mut *deflater,
                            review_queue: &mut *review_queue,
                            settings,
                            budgets,
                            metrics,
                            now,
                        };
                        let place = (shard_room.id, room_slot);
                        let done =
                            home.publish(place, (&request, sender_json), &mut context, owned);
                        after.posted |= matches!(done, Ok(Published::Appended(_)));
                        done.err()
                    } else {
                        let command = command::Request::Publish(shard_room.id, owned());
                        let mailbox = requests.get_mut(settings.home(shard_room.id));
                        let sent = mailbox.is_some_and(|mailbox| mailbox.offer(command).is_ok());
                        metrics.mailbox_full.add((!sent).into());
                        (!sent).then_some((ErrorCode::TooManyRequests, texts::RATE))
                    };
                    if let Some((code, message)) = fault {
                        let request_id = request.request_id();
                        refuse(&mut after, lane, ids.next_id(), code, message, request_id);
                    }
                }
                Effect::Refuse {
                    code,
                    message,
                    request_id,
                } => {
                    refuse(&mut after, lane, ids.next_id(), code, message, request_id);
                }
                Effect::Pong(payload) => {
                    lane.get_or_insert_with(Box::default)
                        .pong(|out| ws::pong(out, payload));
                    after.deliver = true;
                }
                Effect::Echo { text, payload } => {
                    lane.get_or_insert_with(Box::default).push_echo(
                        text,
                        payload,
                        deflater,
                        window_bits,
                    );
                    after.deliver = true;
                }
                Effect::Close(Ending::Answer { code }) => {
                    after.ending = Some(OwnedEnding::Answer(code));
                }
                Effect::Close(Ending::Violation(violation)) => {
                    after.ending = Some(OwnedEnding::Violation(violation));
                }
                Effect::Close(
                    Ending::Disconnected { .. } | Ending::SessionOver | Ending::RoomDeleted,
                ) => {}
                Effect::PeerClosed => after.closed = true,
                Effect::Flood => after.flood = true,
            },
        );
        for line in after.lines.drain(..) {
            line.write(shard_room.id, session.sender_json(), address);
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
        connection.session.begin_close();
        let (mut after, now) = (Aftermath::default(), self.now);
        let mut note = |effect: Effect<'_>| {
            after.closed |= matches!(effect, Effect::PeerClosed);
            after.flood |= matches!(effect, Effect::Flood);
        };
        connection
            .session
            .receive(buffer, len, &mut self.session_context, 0, now, &mut note);
        self.follow_up(slot, after);
    }

    fn follow_up(&mut self, slot: Slot<Connection<W::FixedFile>>, after: Aftermath) {
        match after.ending {
            Some(OwnedEnding::Answer(code)) => {
                self.finish(slot, &Ending::Answer { code });
            }
            Some(OwnedEnding::Violation(violation)) => {
                let ending = Ending::Violation(violation);
                self.finish(slot, &ending);
            }
            None => {}
        }
        if after.flood || !self.charge_refusals(slot, after.refusals) {
            self.kill(slot, CloseReason::Flood);
            return;
        }
        if after.overflow {
            self.kill(slot, CloseReason::Slow);
            return;
        }
        if after.deliver {
            self.deliver(slot);
        }
        if after.closed {
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
            session.charge_overhead(refusals, &self.session_context, self.now)
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
