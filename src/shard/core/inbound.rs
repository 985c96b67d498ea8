//! What comes in: one connection's frames out of received bytes, and their effects on its room and
//! its lane.
//!
//! Owns: what sessions share while they read, reused buffers. Never: the table of connections, the
//! rings; it works on the one connection that it is lent.

use std::net::IpAddr;

use bytes::BytesMut;

use super::env::Env;
use super::held::{Held, held, held_command};
use super::log_lines::Line;
use super::member_commands::{self, Commander};
use super::refusal::refusal;
use super::rooms::Rooms;
use crate::net::io::Key;
use crate::shard::close_reason::CloseReason;
use crate::shard::command::{PublishRequest, SenderAddress};
use crate::shard::connection::{Connection, Lane};
use crate::shard::frames;
use crate::shard::metrics::ShardMetrics;
use crate::shard::settings::ShardSettings;
use uproar_proto::base::id::RoomId;
use uproar_proto::chat::{Action, ErrorCode, Refusal, encode};
use uproar_proto::extension::{Command, Commands, Speaker, command};
use uproar_proto::room::RoomSettings;
use uproar_proto::session::{Effect, Ending, Input, Session, SessionContext};
use uproar_proto::ws;

/// What sessions share while they read.
pub(super) struct Inbound {
    // The parsers' buffers, and the bounds of all sessions.
    session_context: SessionContext,
    // Requests that outlive their bytes are cut from it.
    request_buffer: BytesMut,
    /// Opened bytes of a connection with TLS; empty between calls, kept for its capacity.
    pub(super) plain: Vec<u8>,
}

/// What one client's bytes ask of its connection, once the session is no longer borrowed.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The Close frame to send.
    pub(super) ending: Option<Ending<'static>>,
    /// Why the connection is cut, after the Close frame is queued.
    pub(super) cut: Option<CloseReason>,
    /// The lane has something to send.
    pub(super) deliver: bool,
    /// The client's side of the closing handshake is done.
    pub(super) peer_closed: bool,
}

impl Inbound {
    /// Makes what the sessions of one shard share.
    pub(super) fn new(settings: &ShardSettings) -> Self {
        Self {
            session_context: if settings.echo {
                SessionContext::echo()
            } else {
                SessionContext::chat(settings.connection_rate)
            },
            request_buffer: BytesMut::new(),
            plain: Vec::new(),
        }
    }

    /// Lends what sessions share, to make one of another process.
    pub(super) fn session_context(&mut self) -> &mut SessionContext {
        &mut self.session_context
    }

    /// Charges a refusal to the client that gets it; `false`: it has had more than it may.
    #[must_use]
    pub(super) fn charge_refusal<F, S>(
        &self,
        connection: &mut Connection<F>,
        env: &Env<S>,
    ) -> bool {
        let session = &mut connection.session;
        session.charge_overhead(1, &self.session_context, env.now.tick)
    }

    /// Reads the received bytes `buffer[..len]` of the connection with this key; padding follows
    /// them.
    ///
    /// The connection's room may be gone from this shard: deleted, or left by its last member. Then
    /// a Close frame of ours is queued, and only the client's Close frame matters.
    pub(super) fn read<F, S>(
        &mut self,
        key: Key,
        connection: &mut Connection<F>,
        (buffer, len): (&mut [u8], usize),
        rooms: &mut Rooms,
        env: &mut Env<S>,
    ) -> Outcome {
        let room_slot = connection.shard_room;
        let found = rooms.get(room_slot);
        let settings = found.map(|room| &room.settings);
        let ip = address_for_review(settings, connection.ip);
        let content_chars_max = settings.map_or(0, |settings| settings.content_chars_max);
        let extension = settings.and_then(|settings| settings.extension.as_deref());
        let commands = Commands::of(extension.map(|extension| &extension.settings));
        let room = found.map(|room| room.id);
        if room.is_none() {
            connection.session.begin_close();
        }
        let sender = SenderAddress {
            shard: env.id,
            connection: key,
        };
        let Self {
            session_context,
            request_buffer,
            ..
        } = self;
        let Connection {
            session,
            lane,
            traits,
            ..
        } = connection;
        let window_bits = session.window_bits();
        let (capabilities, traits) = (session.capabilities(), traits.as_deref());
        let is_held = traits.is_some_and(|traits| traits.is_held);
        let input = Input::new(buffer, len, content_chars_max.into());
        let mut input = input.with_commands(commands);
        let mut outcome = Outcome::default();
        let mut refusals = Refusals::default();
        while let Some(effect) = session.next(&mut input, session_context, env.now.tick) {
            match effect {
                Effect::Publish {
                    request,
                    sender_json,
                } => {
                    count_request(&env.metrics, request.action());
                    if let Some(id) = room {
                        frames::note_request(id, &request, sender_json);
                    }
                    let mut is_shadowed = false;
                    if is_held && let Some(room) = room {
                        match held(room, &request, sender_json, env) {
                            Some(Held::Refused(code, text)) => {
                                let (lane, id) =
                                    (lane.get_or_insert_default(), request.request_id());
                                refusals.refuse((code, &text), id, lane, env);
                                continue;
                            }
                            Some(Held::Shadowed) => is_shadowed = true,
                            None => {}
                        }
                    }
                    let speaker = || Speaker::of(capabilities, traits).shadowed(is_shadowed);
                    let owned =
                        || PublishRequest::new(request_buffer, &request, sender_json, &ip, sender);
                    let asked = (&request, sender_json);
                    let done = rooms.publish(room_slot, asked, (speaker, owned), env);
                    if let Err((code, message)) = done {
                        let (lane, id) = (lane.get_or_insert_default(), request.request_id());
                        refusals.refuse((code, &message), id, lane, env);
                    }
                }
                Effect::Command {
                    command,
                    request_id,
                    sender_json,
                } => {
                    let by = room.map(|room| Commander {
                        room,
                        sender,
                        request_id,
                        sender_json,
                    });
                    let command = match by {
                        Some(by) if is_held => held_command(&by, env).and(command),
                        _ => command,
                    };
                    outcome.deliver |= refusals.command((command, by), lane, rooms, env);
                }
                Effect::Refuse(refusal) => {
                    refusals.add(refusal, lane.get_or_insert_default(), env);
                }
                Effect::Pong(payload) => {
                    let lane = lane.get_or_insert_default();
                    lane.pong(|out| ws::pong(out, payload));
                    outcome.deliver = true;
                }
                Effect::Echo { text, payload } => {
                    let lane = lane.get_or_insert_default();
                    lane.push_echo(text, payload, &mut env.deflater, window_bits);
                    outcome.deliver = true;
                }
                Effect::AnswerClose { code } => outcome.ending = Some(Ending::Answer { code }),
                Effect::Violation(violation) => {
                    outcome.ending = Some(Ending::Violation(violation));
                }
                Effect::PeerClosed => outcome.peer_closed = true,
                Effect::Flood => outcome.cut = Some(CloseReason::Flood),
            }
        }
        if let Some(room) = room {
            refusals.log(room, session, connection.ip);
        }
        outcome.deliver |= refusals.count > 0;
        if !session.charge_overhead(refusals.count, session_context, env.now.tick) {
            outcome.cut = Some(CloseReason::Flood);
        } else if refusals.overflow {
            outcome.cut.get_or_insert(CloseReason::Slow);
        }
        outcome
    }
}

/// The refused requests of one client's bytes.
#[derive(Default)]
struct Refusals {
    // How many; they are charged when the bytes are read.
    count: u32,
    // A refusal did not fit the lane: the client does not read.
    overflow: bool,
    // The log lines of those that may be written.
    lines: Vec<Line>,
    // Their frames, if frames are kept.
    kept: BytesMut,
}

impl Refusals {
    /// Carries a command out; returns whether its answer is in the lane.
    fn command<S>(
        &mut self,
        (command, by): (Command, Option<Commander<'_>>),
        lane: &mut Option<Box<Lane>>,
        rooms: &mut Rooms,
        env: &mut Env<S>,
    ) -> bool {
        let Some(by) = by else {
            return false;
        };
        let done = command.and_then(|verb| {
            let name = verb.name();
            member_commands::carry_out(verb, by, rooms, env)
                .map(|done| done.map(|text| (name, text)))
        });
        match done {
            Ok(Some((verb, text))) => {
                let answer = encode::Message {
                    id: env.ids.next_id(),
                    request_id: by.request_id,
                    attributes_json: &command::answer_attributes(verb),
                    content: &text,
                    sent: env.now.unix,
                    sender_json: by.sender_json,
                };
                let lane = lane.get_or_insert_default();
                let pushed = lane.push(|out| encode::message(out, &answer));
                self.overflow |= pushed.is_err();
                true
            }
            Ok(None) => false,
            Err((code, message)) => {
                let lane = lane.get_or_insert_default();
                self.refuse((code, &message), by.request_id, lane, env);
                true
            }
        }
    }

    fn add<S>(&mut self, refusal: Refusal<'_>, lane: &mut Lane, env: &mut Env<S>) {
        let fault = (refusal.code, refusal.message);
        self.refuse(fault, refusal.request_id, lane, env);
    }

    fn refuse<S>(
        &mut self,
        (code, message): (ErrorCode, &str),
        request_id: &str,
        lane: &mut Lane,
        env: &mut Env<S>,
    ) {
        let id = env.ids.next_id();
        let error = refusal(&env.metrics, id, request_id, (code, message));
        self.count += 1;
        let line = Line::of(&mut env.lines, env.now.tick, code, id, message);
        self.lines.extend(line);
        if frames::are_kept() {
            encode::error(&mut self.kept, &error);
        }
        let pushed = lane.push(|out| encode::error(out, &error));
        self.overflow |= pushed.is_err();
    }

    /// Writes the log lines, and keeps the frames.
    fn log(&self, room: RoomId, session: &Session, ip: IpAddr) {
        for line in &self.lines {
            line.write(room, session.sender_json(), ip);
        }
        if !self.kept.is_empty() {
            let kept = |out: &mut BytesMut| out.extend_from_slice(&self.kept);
            frames::note_own(room, session.sender_json(), kept);
        }
    }
}

/// The address that goes with a request: only a review handler learns it.
fn address_for_review(settings: Option<&RoomSettings>, ip: IpAddr) -> String {
    let is_reviewed = settings.is_some_and(|settings| {
        let extension = settings.extension.as_deref();
        let asked = extension.map(|extension| &extension.settings);
        settings.review.is_some() || asked.is_some_and(|asked| asked.after_review.is_some())
    });
    if is_reviewed {
        ip.to_string()
    } else {
        String::new()
    }
}

fn count_request(metrics: &ShardMetrics, action: Action) {
    match action {
        Action::SendMessage => metrics.received_send.inc(),
        Action::DeleteMessage => metrics.received_delete.inc(),
        Action::DisconnectUser => metrics.received_disconnect.inc(),
    }
}
