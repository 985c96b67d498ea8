//! What one connection gets next: its private lane, its room's log, its Close frame, in that order at
//! frame boundaries; at most one send under way.

use std::io;

use bytes::BytesMut;

use super::Core;
use super::refused::Line;
use crate::base::limits::{SEALED_SEND_BYTES_MAX, SENDS_PER_TURN_MAX};
use crate::base::table::Slot;
use crate::net::wire::{Outgoing, Shutdown, Wire};
use crate::room::audience::SlowPolicy;
use crate::room::log::Next;
use crate::shard::command::Refusal;
use crate::shard::connection::{Connection, Phase};
use crate::shard::ended::Ended;
use crate::shard::local::Local;

impl<W: Wire> Core<W> {
    /// Sends what is due to a connection, unless a send is under way.
    pub(super) fn deliver(&mut self, slot: Slot<Connection<W::Seat>>) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.sending || connection.phase == Phase::Dead {
            return;
        }
        if let Some(queued) = connection.tls.as_mut().and_then(|tls| tls.take_queued()) {
            self.send(slot, Outgoing::owned(queued));
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
        let local_slot = connection.local;
        let Some(local) = self.locals.get_mut(local_slot) else {
            return;
        };
        let cursor = local.audience.cursor(member);
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
        match local.audience.next(member) {
            Next::UpToDate => {}
            Next::Behind { frames, resume } => {
                self.metrics.frames_skipped.add(frames);
                match self.settings.slow_policy {
                    SlowPolicy::Skip => {
                        local.audience.set_cursor(member, resume);
                        self.deliver(slot);
                    }
                    SlowPolicy::Disconnect => self.kill(slot, Ended::Slow),
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
                local.audience.set_cursor(member, after);
                local.audience.launch(member);
                connection.sending = true;
                connection.progress = self.now.tick;
                self.metrics.sends.inc();
                self.wire
                    .send(&connection.seat, slot.to_bits(), Outgoing::shared(run));
            }
        }
    }

    /// The Close frame of a connection that left its room already.
    fn deliver_finish(&mut self, slot: Slot<Connection<W::Seat>>) {
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

    /// Seals what the member's cursor covers, one run of records for one send.
    fn send_sealed_log(&mut self, slot: Slot<Connection<W::Seat>>) {
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let (Some(member), Some(local)) =
            (connection.member, self.locals.get_mut(connection.local))
        else {
            return;
        };
        let cursor = local.audience.cursor(member);
        let (after, saved) = local.audience.copy(member, SEALED_SEND_BYTES_MAX, |bytes| {
            plain.extend_from_slice(bytes);
        });
        local.audience.set_cursor(member, after);
        self.metrics
            .frames_delivered
            .add(after.frames_since(cursor));
        self.metrics.deflate_saved.add(saved as u64);
        self.seal_and_send(slot, &plain);
        self.plain = plain;
    }

    /// Sends frames of this connection alone.
    fn send_own(&mut self, slot: Slot<Connection<W::Seat>>, frames: &BytesMut) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.tls.is_some() {
            self.seal_and_send(slot, frames);
        } else {
            self.send(slot, Outgoing::owned(frames.to_vec()));
        }
    }

    fn seal_and_send(&mut self, slot: Slot<Connection<W::Seat>>, plain: &[u8]) {
        let Some(Connection { tls: Some(tls), .. }) = self.connections.get_mut(slot) else {
            return;
        };
        let mut sealed = self.sealed.pop().unwrap_or_default();
        sealed.clear();
        if tls.seal(plain, &mut sealed).is_err() {
            self.kill(slot, Ended::Protocol);
            return;
        }
        self.send(slot, Outgoing::owned(sealed));
    }

    fn send(&mut self, slot: Slot<Connection<W::Seat>>, outgoing: Outgoing) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        connection.sending = true;
        connection.progress = self.now.tick;
        if let (Some(member), Some(local)) =
            (connection.member, self.locals.get_mut(connection.local))
        {
            local.audience.launch(member);
        }
        self.metrics.sends.inc();
        self.wire.send(&connection.seat, slot.to_bits(), outgoing);
    }

    /// A send completed, perhaps short.
    pub fn sent(&mut self, key: u64, mut outgoing: Outgoing, result: &io::Result<usize>) {
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
            // Short: the rest goes first, so cursors stand at frame boundaries only.
            if sent > 0 {
                connection.progress = self.now.tick;
            }
            self.wire.await_room(&connection.seat, key, outgoing);
            return;
        }
        let whole = outgoing.remaining() == 0;
        connection.sending = false;
        let private = connection.lane.is_some() || connection.tls.is_some();
        let open = connection.phase == Phase::Open;
        let due = match (connection.member, self.locals.get_mut(connection.local)) {
            (Some(member), Some(local)) => local.audience.land(member),
            _ => true,
        };
        if let Some(buffer) = outgoing.into_owned()
            && self.sealed.len() < SEALED_SPARE
            && buffer.capacity() >= SEALED_BYTES_MIN
        {
            self.sealed.push(buffer);
        }
        if !whole {
            self.kill(slot, Ended::Client);
            self.bury(slot);
            return;
        }
        if due || private {
            self.go_on(slot);
        } else if !open {
            self.end_stream(slot);
            self.bury(slot);
        }
    }

    /// Behind the last byte of a closing handshake: FIN. The peer's FIN completes the receive.
    pub(super) fn end_stream(&mut self, slot: Slot<Connection<W::Seat>>) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if matches!(connection.phase, Phase::Closing(_))
            && connection.peer_done
            && !connection.sending
            && connection.lane.is_none()
        {
            self.wire.shutdown(&connection.seat, Shutdown::Write);
        }
    }

    /// A frame for one connection, from its room's home shard.
    pub(super) fn tell(&mut self, slot: Slot<Connection<W::Seat>>, refusal: &Refusal) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.phase != Phase::Open {
            return;
        }
        let line = Line::admit(&mut self.lines, self.now.tick, refusal);
        if let Some(line) = line
            && let Some(local) = self.locals.get(connection.local)
        {
            line.say(local.id, connection.session.sender_json(), connection.ip);
        }
        if !connection.session.charge_overhead(1, &self.desk, self.now) {
            self.kill(slot, Ended::Flood);
            return;
        }
        if connection
            .lane()
            .push(|out| out.extend_from_slice(&refusal.frame))
            .is_err()
        {
            self.kill(slot, Ended::Slow);
            return;
        }
        self.deliver(slot);
    }

    /// Serves members of rooms with something new: a slice of each room in turn, so that a huge room
    /// delays a small one by a slice only. No slice is begun that the turn has no sends left for: what it
    /// cut off would wait until all other rooms had theirs.
    pub(super) fn serve(&mut self) {
        self.resume(0);
        let mut sends_left = SENDS_PER_TURN_MAX;
        while let Some(local_slot) = self.walking.front().copied() {
            let members = self.locals.get(local_slot);
            let mut slice = slice_sends(members.map_or(0, |local| local.audience.len()));
            if slice > sends_left {
                return;
            }
            self.walking.pop_front();
            while slice > 0 {
                let Some(local) = self.locals.get_mut(local_slot) else {
                    break;
                };
                let Some((_, key)) = local.audience.walk() else {
                    break;
                };
                self.deliver(Slot::from_bits(key));
                slice -= 1;
                sends_left -= 1;
            }
            if let Some(local) = self.locals.get_mut(local_slot) {
                local.walking = local.audience.is_walking();
                if local.walking {
                    self.walking.push_back(local_slot);
                }
            }
        }
        self.resume(sends_left);
    }

    /// Notes that a room's members have something to get.
    pub(super) fn note_walking(&mut self, local_slot: Slot<Local>) {
        if let Some(local) = self.locals.get_mut(local_slot)
            && !local.walking
        {
            local.walking = true;
            self.walking.push_back(local_slot);
        }
    }
}

/// Sends of a room of this size before the next room's turn. One that fits into a turn is served in one
/// go: in two slices its last members waited for two rounds over all rooms.
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
