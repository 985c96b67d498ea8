//! Viewers on their way to another process, and from one.

use std::collections::HashMap;

use bytes::Bytes;

use super::{Connections, mark, schedule};
use crate::net::io::{Io, SendBuffer};
use crate::net::tls::Tls;
use crate::shard::command::{MemberCounts, SenderAddress, user_hash};
use crate::shard::connection::{Connection, Lane, LaneParts, PeerClose, Phase, Receiving, Sending};
use crate::shard::core::env::Env;
use crate::shard::core::outbound::ConnectionSlot;
use crate::shard::core::rooms::Rooms;
use crate::shard::estate::viewer::{BEHIND, Viewer};
use crate::shard::estate::{Inherited, NotCarried, RoomsEstate, SenderTag, Viewers, ViewersCursor};
use crate::shard::settings::Reservation;
use crate::shard::shard_room::ShardRoom;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{
    CLOSE_TIMEOUT, ESTATE_RECORD_BYTES_MAX, ESTATE_RESTS_BYTES_MAX, IDLE_MAX,
};
use uproar_proto::base::table::Slot;
use uproar_proto::chat::encode;
use uproar_proto::extension::speech::Key;
use uproar_proto::room::audience::MemberIndex;
use uproar_proto::room::log::Cursor;
use uproar_proto::room::redaction::{self, Redacted};
use uproar_proto::session::Session;
use uproar_proto::tagged::Fault;

/// A viewer that was taken over.
pub(in crate::shard::core) struct Arrived {
    /// Its room, unless it has left, and itself as one member of it.
    pub(in crate::shard::core) member: Option<(RoomId, MemberCounts)>,
    /// Its user.
    pub(in crate::shard::core) user: Key,
    /// Where it was.
    pub(in crate::shard::core) tag: SenderTag,
    /// Where it is.
    pub(in crate::shard::core) sender: SenderAddress,
}

/// The rests of partial sends, by the bits of their connections' slots.
type Rests<'a> = HashMap<u64, &'a SendBuffer>;

impl<W: Io> Connections<W> {
    /// Returns the next viewers, at most `most`, each with its record.
    pub(in crate::shard::core) fn viewers(
        &self,
        mut cursor: ViewersCursor,
        most: usize,
        rooms: &Rooms,
        env: &Env<W::Socket>,
    ) -> (Viewers<'_, W::FixedFile>, ViewersCursor) {
        let queued = self.outbound.continuations();
        let rests =
            queued.filter_map(|queued| Some((queued.slot.to_bits(), queued.rest.as_ref()?)));
        let rests: Rests<'_> = rests.collect();
        let mut viewers = Vec::new();
        for slot in self.table.slots_from(cursor.next) {
            if viewers.len() >= most {
                return (viewers, cursor);
            }
            cursor.next = slot.index() + 1;
            let connection = self.table.get(slot).expect("a living slot");
            if connection.phase == Phase::Dead || !connection.is_owed() {
                continue;
            }
            match record(slot, connection, &rests, &mut cursor, (rooms, env)) {
                Ok(record) => {
                    cursor.carried.viewers += 1;
                    viewers.push((&connection.file, record));
                }
                Err(reason) => cursor.carried.refuse(reason),
            }
        }
        cursor.is_end = true;
        (viewers, cursor)
    }

    /// Takes over a viewer of another process: nothing is received or sent before
    /// [`Connections::wake`].
    pub(in crate::shard::core) fn inherit(
        &mut self,
        inherited: Inherited<W::Socket>,
        estate: &RoomsEstate,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) -> Result<Arrived, NotCarried> {
        let Inherited {
            socket,
            record,
            share,
        } = inherited;
        let (viewer, session, tls) = self
            .read(&record, estate, env.now.tick)
            .map_err(|_| NotCarried::Record)?;
        let user = encode::sender_name(session.sender_json());
        let room_slot = match viewer.room {
            Some(room) => rooms.enter_inherited(room, estate, env)?,
            None => Slot::NOWHERE,
        };
        let Ok(file) = self.outbound.io.install(socket) else {
            rooms.forget_if_unused(room_slot);
            return Err(NotCarried::NoPlace);
        };
        // Its old process admitted it, perhaps under a higher limit.
        let reservation = Reservation::take(&env.budgets, usize::MAX).ok_or(NotCarried::NoPlace)?;
        let deflated = session.window_bits().is_some();
        let counts = MemberCounts::one(deflated, viewer.traits.as_deref());
        let slot = self.table.insert(Connection {
            file,
            reservation,
            ip: viewer.ip,
            share,
            shard_room: room_slot,
            member: None,
            session,
            lane: None,
            tls,
            traits: viewer.traits.clone(),
            receiving: Receiving::Ended,
            sending: Sending::Idle,
            continues: false,
            phase: phase(&viewer, env.now.tick),
            began: viewer.began.unwrap_or(env.now.tick).min(env.now.tick),
            progress: viewer.progress.min(env.now.tick),
            next_check: Tick::from_nanos(u64::MAX),
        });
        self.note_installed(slot, &viewer);
        self.join_inherited(slot, &viewer, (user_hash(&user), deflated), rooms, env);
        self.queue_output(slot, &viewer, rooms);
        Ok(Arrived {
            member: viewer.room.map(|room| (room, counts)),
            user: Key::of_user(&user),
            tag: viewer.tag,
            sender: SenderAddress {
                shard: env.id,
                connection: slot.to_bits(),
            },
        })
    }

    /// Notes the token of a viewer that is installed, and whether the session goes on.
    fn note_installed(&mut self, slot: ConnectionSlot<W>, viewer: &Viewer<'_>) {
        self.note_token(viewer.traits.as_ref().and_then(|traits| traits.token), slot);
        self.open += usize::from(self.table.get(slot).is_some_and(Connection::is_open));
    }

    /// Reads a record, its session, and what its records are sealed with.
    fn read<'a>(
        &mut self,
        record: &'a [u8],
        estate: &RoomsEstate,
        now: Tick,
    ) -> Result<(Viewer<'a>, Session, Option<Box<Tls>>), Fault> {
        let (viewer, fields) = Viewer::read(record, estate.shift())?;
        let context = self.inbound.session_context();
        let mut session = Session::inherit(fields, estate.shift(), context, now)?;
        if viewer.closing.is_some() {
            session.begin_close();
        }
        let tls = match viewer.tls {
            [] => None,
            tls => Some(Box::new(Tls::inherit(tls)?)),
        };
        let is_placed = |room| estate.is_boundary(room, viewer.behind);
        if viewer.room.is_none_or(is_placed) {
            Ok((viewer, session, tls))
        } else {
            Err(Fault::Value(BEHIND))
        }
    }

    /// Makes the viewer a member of its room, where it was.
    fn join_inherited(
        &mut self,
        slot: ConnectionSlot<W>,
        viewer: &Viewer<'_>,
        (user_hash, deflated): (u32, bool),
        rooms: &mut Rooms,
        env: &Env<W::Socket>,
    ) {
        let now = env.now.tick;
        let connection = self.table.get_mut(slot).expect("just inserted");
        // No check is further off than a silent client's end.
        let next_check = viewer.next_check.min(now.after(IDLE_MAX));
        schedule(&mut self.wheel, slot, connection, next_check);
        let Some(shard_room) = rooms.get_mut(connection.shard_room) else {
            return;
        };
        let member = (slot.to_bits(), user_hash);
        let joined = shard_room
            .audience
            .join_behind(member, deflated, viewer.behind);
        connection.member = Some(joined);
        mark(connection, shard_room, env);
        if viewer.behind > 0 {
            rooms.note_behind(connection.shard_room);
        }
    }

    /// Queues what the viewer has not been sent, in the order in which it would have been.
    fn queue_output(&mut self, slot: ConnectionSlot<W>, viewer: &Viewer<'_>, rooms: &mut Rooms) {
        let connection = self.table.get_mut(slot).expect("just inserted");
        let shard_room = rooms.get_mut(connection.shard_room);
        let head = shard_room.map_or_else(Cursor::default, |shard_room| {
            if let (Some(member), false) = (connection.member, viewer.rest.is_empty()) {
                shard_room.audience.send_started(member);
            }
            if let (Some(member), false) = (connection.member, viewer.replay.is_empty()) {
                shard_room.audience.replay_waits(member);
            }
            shard_room.audience.log().head()
        });
        let close = viewer.close.map(|(frame, behind)| {
            let after = head.before(behind).unwrap_or_default();
            (frame, after)
        });
        connection.lane = Lane::inherited((viewer.lane, viewer.replay), viewer.pong, close);
        if !viewer.rest.is_empty() {
            connection.sending = Sending::WaitsWritable;
            let frames = viewer
                .begun_left
                .and_then(|left| redaction::inherited(viewer.rest, left));
            let rest = match frames {
                Some((frames, done)) => SendBuffer::frames(frames, done),
                None => SendBuffer::owned(viewer.rest.to_vec()),
            };
            self.outbound.queue_rest(slot, Some(connection), rest);
        }
    }
}

/// The phase of an inherited connection.
fn phase(viewer: &Viewer<'_>, now: Tick) -> Phase {
    match viewer.closing {
        None => Phase::Open,
        Some((deadline, awaited)) => Phase::Closing {
            deadline: deadline.min(now.after(CLOSE_TIMEOUT)),
            peer: if awaited {
                PeerClose::Awaited
            } else {
                PeerClose::Done
            },
        },
    }
}

/// Writes the record of one connection.
fn record<F, S>(
    slot: Slot<Connection<F>>,
    connection: &Connection<F>,
    rests: &Rests<'_>,
    cursor: &mut ViewersCursor,
    (rooms, env): (&Rooms, &Env<S>),
) -> Result<Vec<u8>, NotCarried> {
    let rest = rests.get(&slot.to_bits());
    let shard_room = rooms.get(connection.shard_room);
    let rest = rest.map(|rest| unsent(rest, connection.member, shard_room));
    let (rest, begun_left) = rest.unwrap_or_default();
    if cursor.rest_bytes + rest.len() > ESTATE_RESTS_BYTES_MAX / env.settings.shard_count {
        return Err(NotCarried::Backlog);
    }
    let head = shard_room.map(|shard_room| shard_room.audience.log().head());
    let behind = |place: Cursor| head.unwrap_or(place).frames_since(place);
    let membership = connection.member.zip(shard_room);
    let place = membership.map(|(member, shard_room)| shard_room.audience.cursor(member));
    let tls = connection.tls.as_ref().and_then(|tls| tls.carry());
    let lane = connection
        .lane
        .as_deref()
        .map(Lane::parts)
        .unwrap_or_default();
    let redacted = shard_room.and_then(|shard_room| shard_room.audience.log().redacted());
    let replay = remembered(&lane, redacted);
    let viewer = Viewer {
        room: membership.map(|(_, shard_room)| shard_room.id),
        ip: connection.ip,
        began: Some(connection.began),
        progress: connection.progress,
        next_check: connection.next_check,
        behind: place.map_or(0, behind),
        tag: SenderTag {
            shard: u64::try_from(env.id).expect("a few shards"),
            key: slot.to_bits(),
        },
        closing: match connection.phase {
            Phase::Closing { deadline, peer } => Some((deadline, peer == PeerClose::Awaited)),
            Phase::Open | Phase::Released { .. } | Phase::HalfClosed { .. } | Phase::Dead => None,
        },
        rest: &rest,
        begun_left,
        lane: lane.frames,
        replay: &replay,
        pong: lane.pong,
        close: lane.close.map(|(frame, after)| (frame, behind(after))),
        tls: tls.as_deref().map_or(&[], Vec::as_slice),
        traits: connection.traits.clone(),
    };
    let record = viewer
        .write(&connection.session)
        .map_err(|_| NotCarried::Oversized)?;
    if record.len() > ESTATE_RECORD_BYTES_MAX + rest.len() {
        return Err(NotCarried::Backlog);
    }
    cursor.rest_bytes += rest.len();
    Ok(record)
}

/// What is left of a send, without what was taken back since it began, and how many of its bytes end the frame that has begun.
fn unsent(
    rest: &SendBuffer,
    member: Option<MemberIndex>,
    shard_room: Option<&ShardRoom>,
) -> (Vec<u8>, Option<usize>) {
    let audience = shard_room.map(|shard_room| &shard_room.audience);
    let carrier =
        audience.filter(|audience| member.is_none_or(|member| audience.may_carry(member)));
    let redacted = carrier.and_then(|audience| audience.log().redacted());
    let cut = redacted.and_then(|redacted| rest.rest_without(redacted));
    let rest = cut.as_ref().unwrap_or(rest);
    (rest.copy(usize::MAX), rest.begun_left())
}

/// The remembered frames that wait for a connection, without what was taken back since.
fn remembered(lane: &LaneParts<'_>, redacted: Option<&Redacted>) -> Bytes {
    let replay = Bytes::copy_from_slice(lane.replay);
    let cut = redacted.and_then(|redacted| {
        let piece = redaction::alone(replay.clone());
        redacted.rest(piece.number(), piece.bytes(), 0)
    });
    cut.map_or(replay, |(cut, _)| cut)
}
