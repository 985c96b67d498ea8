//! Bytes from a client: TLS, frames, requests, and what becomes of them.

use std::io;

use super::Core;
use super::refused::Line;
use crate::base::limits::PARSE_PADDING_BYTES;
use crate::base::table::Slot;
use crate::net::tls::Progress;
use crate::net::wire::{Shutdown, Wire};
use crate::protocol::chat::{ErrorCode, Request, encode, texts};
use crate::protocol::ws;
use crate::room::order::Press;
use crate::session::{Effect, Ending};
use crate::shard::command::{self, Action, Posted, Texts};
use crate::shard::connection::{Connection, Phase};
use crate::shard::ended::Ended;
use crate::shard::metrics::ShardMetrics;
use crate::shard::review::Intake;

/// `ENOBUFS`: no receive buffer was free; the receive is armed again.
const ENOBUFS: i32 = 105;

/// What a session's effects leave to do once the session is free again.
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
    spoke: bool,
    ending: Option<OwnedEnding>,
}

/// An ending that outlives the received bytes.
enum OwnedEnding {
    Answer(Option<u16>),
    Violation(ws::Violation),
}

impl<W: Wire> Core<W> {
    /// A receive completed: `bytes` holds `len` received bytes and padding behind them.
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
            connection.receiving = false;
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
                self.kill(slot, Ended::Client);
                self.bury(slot);
                return;
            }
        }
        self.rearm(slot);
        self.bury(slot);
    }

    fn rearm(&mut self, slot: Slot<Connection<W::Seat>>) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if !connection.receiving && connection.phase != Phase::Dead {
            connection.receiving = true;
            self.metrics.receive_rearmed.inc();
            self.wire.receive(&connection.seat, slot.to_bits());
        }
    }

    fn take_sealed(&mut self, slot: Slot<Connection<W::Seat>>, buffer: &mut [u8], len: usize) {
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
            Ok(Progress::Closed) => self.kill(slot, Ended::Client),
            Err(_) => self.kill(slot, Ended::Protocol),
        }
    }

    /// Frames and requests out of plaintext, and their effects.
    pub(super) fn take_plain(
        &mut self,
        slot: Slot<Connection<W::Seat>>,
        buffer: &mut [u8],
        len: usize,
    ) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let local_slot = connection.local;
        let Some(local) = self.locals.get_mut(local_slot) else {
            self.take_farewell(slot, buffer, len);
            return;
        };
        let mut after = Aftermath::default();
        let content_chars_max = usize::from(local.settings.content_chars_max);
        let Connection {
            session, lane, ip, ..
        } = connection;
        let address = *ip;
        // Only a review handler learns the sender's address.
        let ip = match local.settings.review {
            Some(_) => ip.to_string(),
            None => String::new(),
        };
        let docket = &mut self.docket;
        let (settings, budgets, metrics) = (&self.settings, &*self.budgets, &*self.metrics);
        let (ids, requests, posting) = (&mut self.ids, &mut self.requests, &mut self.posting);
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
            &mut self.desk,
            content_chars_max,
            now,
            &mut |effect| match effect {
                Effect::Publish {
                    request,
                    sender_json,
                } => {
                    let (action, texts) = split(&request, sender_json);
                    count_request(metrics, action);
                    let from = (here, slot.to_bits());
                    let fault = if let Some(home) = &mut local.home
                        && action == Action::Send
                        && home.pending.is_some()
                    {
                        let mut intake = Intake {
                            ids: &mut *ids,
                            docket: &mut *docket,
                            settings,
                            budgets,
                            metrics,
                            now,
                        };
                        let posted = Posted::new(posting, action, texts, &ip, from);
                        home.hold((local.id, local_slot), &posted, &mut intake)
                            .err()
                    } else if let Some(home) = &mut local.home {
                        let mut press = Press {
                            ids: &mut *ids,
                            now,
                            deflater: &mut *deflater,
                        };
                        let done = home.act(&mut press, action, texts, settings, budgets);
                        after.spoke |= done.is_ok();
                        done.err()
                    } else {
                        let posted = Posted::new(posting, action, texts, &ip, from);
                        let request = command::Request::Post(local.id, posted);
                        let post = requests.get_mut(settings.home(local.id));
                        let sent = post.is_some_and(|post| post.offer(request).is_ok());
                        metrics.mailbox_full.add((!sent).into());
                        (!sent).then_some((ErrorCode::TooManyRequests, texts::RATE))
                    };
                    if let Some((code, message)) = fault {
                        refuse(&mut after, lane, ids.next_id(), code, message, texts[2]);
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
            line.say(local.id, session.sender_json(), address);
        }
        if after.spoke {
            self.note_speaking(local_slot);
        }
        self.follow_up(slot, after);
    }

    /// Bytes of a connection whose room is gone here: deleted, or left by its last member on this shard.
    /// Its Close frame is on its way, so that of the client's words only its own Close frame counts.
    fn take_farewell(&mut self, slot: Slot<Connection<W::Seat>>, buffer: &mut [u8], len: usize) {
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
            .receive(buffer, len, &mut self.desk, 0, now, &mut note);
        self.follow_up(slot, after);
    }

    fn follow_up(&mut self, slot: Slot<Connection<W::Seat>>, after: Aftermath) {
        match after.ending {
            Some(OwnedEnding::Answer(code)) => {
                self.finish(slot, &Ending::Answer { code }, Ended::Client);
            }
            Some(OwnedEnding::Violation(violation)) => {
                let ending = Ending::Violation(violation);
                self.finish(slot, &ending, Ended::Protocol);
            }
            None => {}
        }
        if after.flood || !self.charge_refusals(slot, after.refusals) {
            self.kill(slot, Ended::Flood);
            return;
        }
        if after.overflow {
            self.kill(slot, Ended::Slow);
            return;
        }
        if after.deliver {
            self.deliver(slot);
        }
        if after.closed {
            self.peer_closed(slot);
        }
    }

    /// Whether the client may be told of so many more refusals.
    pub(super) fn charge_refusals(
        &mut self,
        slot: Slot<Connection<W::Seat>>,
        refusals: u32,
    ) -> bool {
        let connection = self.connections.get_mut(slot);
        connection.is_none_or(|connection| {
            let session = &mut connection.session;
            session.charge_overhead(refusals, &self.desk, self.now)
        })
    }

    /// The client answered our Close, or we answered its: end the stream behind what is under way.
    fn peer_closed(&mut self, slot: Slot<Connection<W::Seat>>) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        connection.peer_done = true;
        if matches!(connection.phase, Phase::Closing(_))
            && !connection.sending
            && connection.lane.is_none()
        {
            self.wire.shutdown(&connection.seat, Shutdown::Write);
        }
    }
}

fn split<'a>(request: &Request<'a>, sender_json: &'a str) -> (Action, Texts<'a>) {
    match *request {
        Request::SendMessage {
            content,
            attributes_json,
            request_id,
        } => (
            Action::Send,
            [content, attributes_json, request_id, sender_json],
        ),
        Request::DeleteMessage {
            id,
            reason,
            request_id,
        } => (Action::Delete, [id, reason, request_id, sender_json]),
        Request::DisconnectUser {
            user_id,
            reason,
            request_id,
        } => (
            Action::Disconnect,
            [user_id, reason, request_id, sender_json],
        ),
    }
}

fn count_request(metrics: &ShardMetrics, action: Action) {
    match action {
        Action::Send => metrics.received_send.inc(),
        Action::Delete => metrics.received_delete.inc(),
        Action::Disconnect => metrics.received_disconnect.inc(),
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
