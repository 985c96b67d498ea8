//! Completed receives: TLS, then frames.

use std::io;

use super::Connections;
use crate::net::io::{Io, Key};
use crate::net::tls::Progress;
use crate::shard::close_reason::CloseReason;
use crate::shard::connection::{Connection, Phase, Receiving};
use crate::shard::core::env::Env;
use crate::shard::core::outbound::ConnectionSlot;
use crate::shard::core::rooms::Rooms;
use uproar_proto::base::limits::PARSE_PADDING_BYTES;
use uproar_proto::base::table::Slot;

/// A completed receive.
pub(in crate::shard::core) struct Received<'a> {
    /// A buffer with this many received bytes at its start, and padding after them.
    pub(in crate::shard::core) bytes: Option<(&'a mut [u8], usize)>,
    /// The kernel's result: the number of bytes, or its error.
    pub(in crate::shard::core) result: &'a io::Result<usize>,
    /// Whether the receive goes on; else it must be armed again.
    pub(in crate::shard::core) more: bool,
}

impl<W: Io> Connections<W> {
    /// Handles a completed receive.
    pub(in crate::shard::core) fn received(
        &mut self,
        key: Key,
        received: Received<'_>,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        let slot = Slot::from_bits(key);
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        if !received.more {
            connection.receiving = Receiving::Ended;
            self.receives_left = self.receives_left.saturating_sub(1);
        }
        match (received.bytes, received.result) {
            (Some((buffer, len)), Ok(1..)) => {
                env.metrics.bytes_received.add_len(len);
                if connection.phase != Phase::Dead {
                    if connection.tls.is_some() {
                        self.take_sealed(slot, &mut buffer[..len], rooms, env);
                    } else {
                        self.take_plain(slot, buffer, len, rooms, env);
                    }
                }
            }
            // No buffer was free, or the shard freezes. A cancel may also meet the receive that was armed
            // after a thaw.
            (_, Err(error)) if has_ended(error) => {}
            _ => {
                // The end of the stream, or an error: either way the client is gone.
                self.cut(slot, CloseReason::Client, rooms, env);
            }
        }
        self.rearm_or_remove(slot, env);
    }

    fn rearm_or_remove(&mut self, slot: ConnectionSlot<W>, env: &Env<W::Socket>) {
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        if connection.phase == Phase::Dead {
            self.remove_if_over(slot);
        } else if connection.receiving == Receiving::Ended && !self.is_quiet {
            connection.receiving = Receiving::Armed;
            env.metrics.receive_rearmed.inc();
            let io = &mut self.outbound.io;
            io.receive(&connection.file, slot.to_bits());
        }
    }

    fn take_sealed(
        &mut self,
        slot: ConnectionSlot<W>,
        sealed: &mut [u8],
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        let Some(Connection { tls: Some(tls), .. }) = self.table.get_mut(slot) else {
            return;
        };
        let mut plain = std::mem::take(&mut self.inbound.plain);
        let mut answer = Vec::new();
        let outcome = tls.receive(sealed, &mut plain, &mut answer);
        if !answer.is_empty() {
            tls.queue(&answer);
            self.deliver_own(slot, rooms, env);
        }
        let len = plain.len();
        if len > 0 {
            plain.resize(len + PARSE_PADDING_BYTES, 0);
            self.take_plain(slot, &mut plain, len, rooms, env);
        }
        plain.clear();
        self.inbound.plain = plain;
        match outcome {
            Ok(Progress::Established | Progress::Handshaking) => {}
            Ok(Progress::Closed) => self.cut(slot, CloseReason::Client, rooms, env),
            Err(_) => self.cut(slot, CloseReason::Protocol, rooms, env),
        }
    }

    /// Takes the plaintext `buffer[..len]`; padding follows it.
    pub(super) fn take_plain(
        &mut self,
        slot: ConnectionSlot<W>,
        buffer: &mut [u8],
        len: usize,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        let key = slot.to_bits();
        let outcome = self
            .inbound
            .read(key, connection, (buffer, len), rooms, env);
        if matches!(connection.phase, Phase::HalfClosed { .. }) {
            // Our FIN is sent: requests were taken, answers cannot follow.
            connection.lane = None;
            if outcome.ending.is_some() || outcome.cut.is_some() {
                self.cut(slot, CloseReason::Drain, rooms, env);
            }
            return;
        }
        if let Some(ending) = &outcome.ending {
            self.finish(slot, ending, rooms, env);
        }
        if let Some(reason) = outcome.cut {
            self.cut(slot, reason, rooms, env);
            return;
        }
        if outcome.deliver {
            self.deliver_own(slot, rooms, env);
        }
        if outcome.peer_closed {
            self.peer_closed(slot, rooms, env);
        }
    }
}

/// Whether an error ends a receive, not the connection.
fn has_ended(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ECANCELED))
}
