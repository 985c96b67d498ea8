//! Chooses the next send of one connection: its lane, its room's log, its Close frame, in that order at
//! frame boundaries; at most one send is pending.

use std::io;

use bytes::BytesMut;

use super::Core;
use super::refused::Line;
use crate::net::io::{Io, SendBuffer, Shutdown};
use crate::shard::close_reason::CloseReason;
use crate::shard::command::Refusal;
use crate::shard::connection::{Connection, Phase, Sending};
use crate::shard::shard_room::ShardRoom;
use uproar_proto::base::limits::{SEALED_SEND_BYTES_MAX, SENDS_PER_TURN_MAX};
use uproar_proto::base::table::Slot;
use uproar_proto::room::audience::SlowPolicy;
use uproar_proto::room::log::Next;

impl<W: Io> Core<W> {
    /// Sends what is due to a connection, unless a send is pending.
    pub(super) fn deliver(&mut self, slot: Slot<Connection<W::FixedFile>>) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.is_sending() || connection.phase == Phase::Dead {
            return;
        }
        if let Some(queued) = connection.tls.as_mut().and_then(|tls| tls.take_queued()) {
            self.send(slot, SendBuffer::owned(queued));
            return;
        }
        if let Some(frames) = connection.take_lane_frames() {
            self.send_own(slot, &frames);
            return;
        }
        let Some(member) = connection.member else {
            self.deliver_finish(slot);
            return;
        };
        let room_slot = connection.shard_room;
        let Some(shard_room) = self.shard_rooms.get_mut(room_slot) else {
            return;
        };
        let cursor = shard_room.audience.cursor(member);
        let finish = connection
            .lane
            .as_mut()
            .and_then(|lane| lane.take_finish(cursor));
        if let Some(frame) = finish {
            connection.lane = None;
            self.leave(slot);
            self.send_own(slot, &frame);
            return;
        }
        match shard_room.audience.next(member) {
            Next::UpToDate => {}
            Next::Behind { frames, resume } => {
                self.metrics.frames_skipped.add(frames);
                match self.settings.slow_policy {
                    SlowPolicy::Skip => {
                        shard_room.audience.set_cursor(member, resume);
                        self.deliver(slot);
                    }
                    SlowPolicy::Disconnect => self.kill(slot, CloseReason::Slow),
                }
            }
            Next::Run { run, after, saved } => {
                if connection.tls.is_some() {
                    self.send_sealed_log(slot);
                    return;
                }
                self.metrics
                    .frames_delivered
                    .add(after.frames_since(cursor));
                self.metrics.deflate_saved.add(saved as u64);
                shard_room.audience.set_cursor(member, after);
                shard_room.audience.send_started(member);
                connection.sending = Sending::InKernel;
                connection.progress = self.now.tick;
                self.metrics.sends.inc();
                self.io
                    .send(&connection.file, slot.to_bits(), SendBuffer::shared(run));
            }
        }
    }

    /// Sends the Close frame of a connection that has left its room.
    fn deliver_finish(&mut self, slot: Slot<Connection<W::FixedFile>>) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let finish = connection
            .lane
            .as_mut()
            .and_then(|lane| lane.take_finish_now());
        if let Some(frame) = finish {
            connection.lane = None;
            self.send_own(slot, &frame);
        }
    }

    /// Seals the frames after the member's cursor, one run of records for one send.
    fn send_sealed_log(&mut self, slot: Slot<Connection<W::FixedFile>>) {
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let (Some(member), Some(shard_room)) = (
            connection.member,
            self.shard_rooms.get_mut(connection.shard_room),
        ) else {
            return;
        };
        let cursor = shard_room.audience.cursor(member);
        let (after, saved) = shard_room
            .audience
            .copy(member, SEALED_SEND_BYTES_MAX, |bytes| {
                plain.extend_from_slice(bytes);
            });
        shard_room.audience.set_cursor(member, after);
        self.metrics
            .frames_delivered
            .add(after.frames_since(cursor));
        self.metrics.deflate_saved.add(saved as u64);
        self.seal_and_send(slot, &plain);
        self.plain = plain;
    }

    /// Sends frames for this connection alone.
    fn send_own(&mut self, slot: Slot<Connection<W::FixedFile>>, frames: &BytesMut) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.tls.is_some() {
            self.seal_and_send(slot, frames);
        } else {
            self.send(slot, SendBuffer::owned(frames.to_vec()));
        }
    }

    fn seal_and_send(&mut self, slot: Slot<Connection<W::FixedFile>>, plain: &[u8]) {
        let Some(Connection { tls: Some(tls), .. }) = self.connections.get_mut(slot) else {
            return;
        };
        let mut sealed = self.sealed.pop().unwrap_or_default();
        sealed.clear();
        if tls.seal(plain, &mut sealed).is_err() {
            self.kill(slot, CloseReason::Protocol);
            return;
        }
        self.send(slot, SendBuffer::owned(sealed));
    }

    fn send(&mut self, slot: Slot<Connection<W::FixedFile>>, outgoing: SendBuffer) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        connection.sending = Sending::InKernel;
        connection.progress = self.now.tick;
        if let (Some(member), Some(shard_room)) = (
            connection.member,
            self.shard_rooms.get_mut(connection.shard_room),
        ) {
            shard_room.audience.send_started(member);
        }
        self.metrics.sends.inc();
        self.io.send(&connection.file, slot.to_bits(), outgoing);
    }

    /// Handles a completed send, perhaps a short one.
    pub fn sent(&mut self, key: u64, mut outgoing: SendBuffer, result: &io::Result<usize>) {
        let slot = Slot::from_bits(key);
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let sent = result.as_ref().copied().unwrap_or(0);
        self.metrics.bytes_sent.add(sent as u64);
        outgoing.advance(sent);
        let is_full =
            sent > 0 || matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        if is_full && outgoing.remaining() > 0 && connection.phase != Phase::Dead {
            // A short send: the rest goes first, so that cursors stay at frame boundaries.
            if sent > 0 {
                connection.progress = self.now.tick;
            }
            connection.sending = Sending::WaitsWritable;
            self.io.await_writable(&connection.file, key, outgoing);
            return;
        }
        let whole = outgoing.remaining() == 0;
        connection.sending = Sending::Idle;
        let private = connection.lane.is_some() || connection.tls.is_some();
        let open = connection.phase == Phase::Open;
        let due = match (
            connection.member,
            self.shard_rooms.get_mut(connection.shard_room),
        ) {
            (Some(member), Some(shard_room)) => shard_room.audience.send_completed(member),
            _ => true,
        };
        if let Some(buffer) = outgoing.into_owned()
            && self.sealed.len() < SEALED_SPARE
            && buffer.capacity() >= SEALED_BYTES_MIN
        {
            self.sealed.push(buffer);
        }
        if !whole {
            self.kill(slot, CloseReason::Client);
            self.reap(slot);
            return;
        }
        if due || private {
            self.continue_sends(slot);
        } else if !open {
            self.end_stream(slot);
            self.reap(slot);
        }
    }

    /// Sends FIN after the last byte of a closing handshake. The peer's FIN completes the receive.
    pub(super) fn end_stream(&mut self, slot: Slot<Connection<W::FixedFile>>) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.is_finished() {
            self.io.shutdown(&connection.file, Shutdown::Write);
        }
    }

    /// Sends one connection a refusal from its room's home shard.
    pub(super) fn tell(&mut self, slot: Slot<Connection<W::FixedFile>>, refusal: &Refusal) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.phase != Phase::Open {
            return;
        }
        let line = Line::admit(&mut self.lines, self.now.tick, refusal);
        if let Some(line) = line
            && let Some(shard_room) = self.shard_rooms.get(connection.shard_room)
        {
            line.write(
                shard_room.id,
                connection.session.sender_json(),
                connection.ip,
            );
        }
        if !connection
            .session
            .charge_overhead(1, &self.session_context, self.now.tick)
        {
            self.kill(slot, CloseReason::Flood);
            return;
        }
        if connection
            .lane()
            .push(|out| out.extend_from_slice(&refusal.frame))
            .is_err()
        {
            self.kill(slot, CloseReason::Slow);
            return;
        }
        self.deliver(slot);
    }

    /// Serves members of rooms with new batches: a slice of each room in turn, so that a huge room delays a
    /// small one by a slice only. A slice starts only if the turn's send budget covers it: otherwise the members
    /// it cut off would wait for a full round over all rooms.
    pub(super) fn serve(&mut self) {
        self.resume(0);
        let mut sends_left = SENDS_PER_TURN_MAX;
        while let Some(room_slot) = self.walking.front().copied() {
            let members = self.shard_rooms.get(room_slot);
            let mut slice = slice_sends(members.map_or(0, |shard_room| shard_room.audience.len()));
            if slice > sends_left {
                return;
            }
            self.walking.pop_front();
            while slice > 0 {
                let Some(shard_room) = self.shard_rooms.get_mut(room_slot) else {
                    break;
                };
                let Some((_, key)) = shard_room.audience.walk() else {
                    break;
                };
                self.deliver(Slot::from_bits(key));
                slice -= 1;
                sends_left -= 1;
            }
            if let Some(shard_room) = self.shard_rooms.get_mut(room_slot) {
                shard_room.walking = shard_room.audience.is_walking();
                if shard_room.walking {
                    self.walking.push_back(room_slot);
                }
            }
        }
        self.resume(sends_left);
    }

    /// Notes that a room's members must be served.
    pub(super) fn note_walking(&mut self, room_slot: Slot<ShardRoom>) {
        if let Some(shard_room) = self.shard_rooms.get_mut(room_slot)
            && !shard_room.walking
        {
            shard_room.walking = true;
            self.walking.push_back(room_slot);
        }
    }
}

/// Sends to a room of this size before the next room's turn. A room that fits into a turn is served whole:
/// splitting it would delay its last members by a full round over all rooms.
fn slice_sends(members: usize) -> usize {
    if members <= SENDS_PER_TURN_MAX {
        members.max(1)
    } else {
        SENDS_PER_TURN_MAX / 2
    }
}

/// TLS send buffers kept for reuse, and the size from which keeping one is worth it.
const SEALED_SPARE: usize = 256;
const SEALED_BYTES_MIN: usize = 1024;
