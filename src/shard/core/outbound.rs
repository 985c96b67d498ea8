//! What goes out: the next send of one connection, and the queue of sends that continue in their
//! turn.
//!
//! Owns: the kernel's rings, that queue, the buffers of sealed sends. Never: the table of
//! connections, rooms; it works on the one connection and the one audience that it is lent.
//!
//! A connection gets TLS handshake bytes, its lane, its room's log and its Close frame, in that
//! order at frame boundaries. At most one send is pending.
//!
//! Continuations have a bounded share of a turn, as walks have: many slow readers do not delay the
//! other members. If the kernel waited for writable sockets by itself, it would continue thousands
//! of long sends before it looks at what was received meanwhile.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;

use super::env::Env;
use super::sealing::Sealing;
use crate::net::io::{Io, SendBuffer};
use crate::net::tls::TlsError;
use crate::shard::close_reason::CloseReason;
use crate::shard::connection::{Connection, Phase, Sending};
use uproar_proto::base::limits::{RESUMES_PER_TURN_MAX, SEALED_SEND_BYTES_MAX};
use uproar_proto::base::table::Slot;
use uproar_proto::room::audience::{Audience, MemberIndex, SlowPolicy};
use uproar_proto::room::log::Cursor;
use uproar_proto::room::log::Next;
use uproar_proto::room::redaction::Redacted;

/// The slot of a connection whose rings are `W`.
pub(super) type ConnectionSlot<W> = Slot<Connection<<W as Io>::FixedFile>>;

/// A connection's place in its room: its index in the audience, and the audience.
pub(super) type Membership<'a> = Option<(MemberIndex, &'a mut Audience)>;

/// Everything that is sent.
pub(super) struct Outbound<W: Io> {
    /// The kernel's rings, or their stand-in.
    pub(super) io: W,
    // Connections whose sends continue when their turn comes, in order of arrival: each with at
    // most one entry without bytes, as its `continues` says, and at most one with the rest of its
    // send, while that is `Queued`.
    continuations: VecDeque<Continuation<W>>,
    // How many more continuations this turn serves; at most `RESUMES_PER_TURN_MAX`, zero between
    // turns.
    continuations_left: usize,
    // Bytes that this turn still seals.
    sealing: Sealing,
    /// No send begins: the shard is frozen, or about to be. What is due becomes a continuation.
    pub(super) is_parked: bool,
    // Plaintext that is being sealed; empty between calls, kept for its capacity.
    plain: Vec<u8>,
    // Buffers for sealed sends; at most `SEALED_SPARE`.
    sealed: Vec<Vec<u8>>,
}

/// A connection whose sends continue in its turn.
pub(super) struct Continuation<W: Io> {
    /// The connection.
    pub(super) slot: ConnectionSlot<W>,
    /// The rest of a partial send; `None`: the connection may have more to deliver.
    pub(super) rest: Option<SendBuffer>,
}

/// What a delivery leaves to be done by who has the table of connections.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivered {
    /// Nothing: a send is pending, or nothing is due.
    Done,
    /// The Close frame was sent at its place in the log: take the connection out of its room.
    Finished,
    /// Cut the connection.
    Cut(CloseReason),
}

/// What a completed send leaves to be done.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Completed {
    /// It was partial: the rest waits for a writable socket.
    Partial,
    /// It failed: the client is gone.
    Failed,
    /// More may be due.
    Continue,
    /// Nothing is due.
    UpToDate,
}

impl<W: Io> Outbound<W> {
    /// Makes an outbound side without pending sends.
    pub(super) fn new(io: W) -> Self {
        Self {
            io,
            continuations: VecDeque::new(),
            continuations_left: RESUMES_PER_TURN_MAX,
            sealing: Sealing::default(),
            is_parked: false,
            plain: Vec::new(),
            sealed: Vec::new(),
        }
    }

    /// Begins a turn: it has a whole budget of continuations.
    pub(super) fn begin(&mut self) {
        self.sealing = Sealing::default();
        self.continuations_left = if self.is_parked {
            0
        } else {
            RESUMES_PER_TURN_MAX
        };
    }

    /// Sends what is due to a connection, unless a send is pending.
    pub(super) fn deliver(
        &mut self,
        slot: ConnectionSlot<W>,
        connection: &mut Connection<W::FixedFile>,
        membership: Membership<'_>,
        env: &Env<W::Socket>,
    ) -> Delivered {
        if connection.is_sending() || connection.phase == Phase::Dead {
            return Delivered::Done;
        }
        if let Some(queued) = connection.tls.as_mut().and_then(|tls| tls.take_queued()) {
            self.start(slot, connection, membership, SendBuffer::owned(queued), env);
            return Delivered::Done;
        }
        if connection.lane.is_some() {
            if let Some(frames) = connection.take_lane_frames() {
                return self.send_own(slot, connection, membership, &frames, env);
            }
            if let Some(replay) = connection.take_replay() {
                return self.send_replay(slot, connection, membership, replay, env);
            }
        }
        let Some((member, audience)) = membership else {
            // It has left its room, so that only the Close frame can be due.
            return match connection.take_finish(None) {
                Some(frame) => self.send_own(slot, connection, None, &frame, env),
                None => Delivered::Done,
            };
        };
        loop {
            let cursor = audience.cursor(member);
            if let Some(frame) = connection.take_finish(Some(cursor)) {
                let membership = Some((member, audience));
                return match self.send_own(slot, connection, membership, &frame, env) {
                    Delivered::Done => Delivered::Finished,
                    failed @ (Delivered::Finished | Delivered::Cut(_)) => failed,
                };
            }
            match audience.next(member) {
                Next::UpToDate => return Delivered::Done,
                Next::Behind { frames, resume } => {
                    if !skip((member, audience), (frames, resume), env) {
                        return Delivered::Cut(CloseReason::Slow);
                    }
                }
                Next::Run { run, after, saved } => {
                    if connection.tls.is_some() {
                        return self.send_sealed_log(slot, connection, (member, audience), env);
                    }
                    let metrics = &env.metrics;
                    metrics.frames_delivered.add(after.frames_since(cursor));
                    metrics.deflate_saved.add_len(saved);
                    audience.set_cursor(member, after);
                    let run = SendBuffer::shared(run);
                    self.start(slot, connection, Some((member, audience)), run, env);
                    return Delivered::Done;
                }
            }
        }
    }

    /// Seals the frames after the member's cursor where they are sent from, one run of records for one send.
    fn send_sealed_log(
        &mut self,
        slot: ConnectionSlot<W>,
        connection: &mut Connection<W::FixedFile>,
        (member, audience): (MemberIndex, &mut Audience),
        env: &Env<W::Socket>,
    ) -> Delivered {
        let cursor = audience.cursor(member);
        let copy =
            |write: &mut dyn FnMut(&[u8])| audience.copy(member, SEALED_SEND_BYTES_MAX, write);
        let Ok((sealed, (after, saved))) = self.seal(connection, copy) else {
            return Delivered::Cut(CloseReason::Protocol);
        };
        audience.set_cursor(member, after);
        let metrics = &env.metrics;
        metrics.frames_delivered.add(after.frames_since(cursor));
        metrics.deflate_saved.add_len(saved);
        self.start(slot, connection, Some((member, audience)), sealed, env);
        Delivered::Done
    }

    /// Sends remembered frames, which all share who join now, without what was taken back since.
    fn send_replay(
        &mut self,
        slot: ConnectionSlot<W>,
        connection: &mut Connection<W::FixedFile>,
        mut membership: Membership<'_>,
        replay: Bytes,
        env: &Env<W::Socket>,
    ) -> Delivered {
        let replay = SendBuffer::frames(replay, 0);
        let redacted = membership
            .as_mut()
            .and_then(|(member, audience)| audience.replay_goes(*member));
        let replay = match redacted {
            Some(redacted) => replay.without(redacted),
            None => replay,
        };
        if connection.tls.is_some() {
            return self.send_own(slot, connection, membership, replay.bytes(), env);
        }
        self.start(slot, connection, membership, replay, env);
        Delivered::Done
    }

    /// Sends frames, sealed if the connection uses TLS.
    fn send_own(
        &mut self,
        slot: ConnectionSlot<W>,
        connection: &mut Connection<W::FixedFile>,
        membership: Membership<'_>,
        frames: &[u8],
        env: &Env<W::Socket>,
    ) -> Delivered {
        let outgoing = if connection.tls.is_none() {
            SendBuffer::owned(frames.to_vec())
        } else {
            match self.seal(connection, |write| write(frames)) {
                Ok((sealed, ())) => sealed,
                Err(_) => return Delivered::Cut(CloseReason::Protocol),
            }
        };
        self.start(slot, connection, membership, outgoing, env);
        Delivered::Done
    }

    /// Seals what `fill` writes, in a buffer that was sent from before if there is one.
    fn seal<T>(
        &mut self,
        connection: &mut Connection<W::FixedFile>,
        fill: impl FnOnce(&mut dyn FnMut(&[u8])) -> T,
    ) -> Result<(SendBuffer, T), TlsError> {
        let Some(tls) = &mut connection.tls else {
            return Err(TlsError::Encrypt("the connection does not use TLS"));
        };
        let mut sealed = self.sealed.pop().unwrap_or_default();
        sealed.clear();
        let filled = tls.seal_from(&mut self.plain, &mut sealed, fill)?;
        self.sealing.sealed(sealed.len());
        Ok((SendBuffer::owned(sealed), filled))
    }

    /// Starts a connection's one send.
    #[inline]
    fn start(
        &mut self,
        slot: ConnectionSlot<W>,
        connection: &mut Connection<W::FixedFile>,
        membership: Membership<'_>,
        outgoing: SendBuffer,
        env: &Env<W::Socket>,
    ) {
        debug_assert!(!connection.is_sending(), "one send at a time");
        if let Some((member, audience)) = membership {
            audience.send_started(member);
        }
        connection.sending = Sending::InKernel;
        connection.progress = env.now.tick;
        env.metrics.sends.inc();
        self.io.send(&connection.file, slot.to_bits(), outgoing);
    }

    /// Handles a completed send, perhaps a partial one.
    #[inline]
    pub(super) fn completed(
        &mut self,
        slot: ConnectionSlot<W>,
        connection: &mut Connection<W::FixedFile>,
        membership: Membership<'_>,
        mut outgoing: SendBuffer,
        result: &io::Result<usize>,
        env: &Env<W::Socket>,
    ) -> Completed {
        debug_assert_eq!(connection.sending, Sending::InKernel, "its send completes");
        let sent = result.as_ref().copied().unwrap_or(0);
        env.metrics.bytes_sent.add_len(sent);
        outgoing.advance(sent);
        let is_full =
            sent > 0 || matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        if is_full && outgoing.remaining() > 0 && connection.phase != Phase::Dead {
            // A partial send: the rest goes first, so that cursors stay at frame boundaries.
            if sent > 0 {
                connection.progress = env.now.tick;
            }
            connection.sending = Sending::WaitsWritable;
            if self.is_parked {
                self.queue_rest(slot, Some(connection), outgoing);
                return Completed::Partial;
            }
            self.io
                .await_writable(&connection.file, slot.to_bits(), outgoing);
            return Completed::Partial;
        }
        let is_whole = outgoing.remaining() == 0;
        connection.sending = Sending::Idle;
        let is_due = match membership {
            Some((member, audience)) => audience.send_completed(member),
            None => true,
        };
        if let Some(buffer) = outgoing.into_owned()
            && self.sealed.len() < SEALED_SPARE
            && buffer.capacity() >= SEALED_BYTES_MIN
        {
            self.sealed.push(buffer);
        }
        if !is_whole {
            Completed::Failed
        } else if is_due || connection.lane.is_some() || connection.tls.is_some() {
            Completed::Continue
        } else {
            Completed::UpToDate
        }
    }

    /// Queues the rest of a partial send, whose socket has become writable.
    pub(super) fn queue_rest(
        &mut self,
        slot: ConnectionSlot<W>,
        connection: Option<&mut Connection<W::FixedFile>>,
        rest: SendBuffer,
    ) {
        debug_assert!(connection.is_some(), "a connection outlives its operations");
        if let Some(connection) = connection {
            debug_assert_eq!(connection.sending, Sending::WaitsWritable);
            connection.sending = Sending::Queued;
        }
        let rest = Some(rest);
        self.continuations.push_back(Continuation { slot, rest });
    }

    /// Queues a connection that has more to deliver.
    pub(super) fn queue_more(
        &mut self,
        slot: ConnectionSlot<W>,
        connection: &mut Connection<W::FixedFile>,
    ) {
        if !connection.continues {
            connection.continues = true;
            self.continuations
                .push_back(Continuation { slot, rest: None });
        }
    }

    /// Whether a connection that may have more to deliver does so now. If this turn's budget is
    /// used up, it is queued instead.
    pub(super) fn continues_now(
        &mut self,
        slot: ConnectionSlot<W>,
        connection: &mut Connection<W::FixedFile>,
    ) -> bool {
        if (connection.tls.is_none() || !self.is_sealed_up())
            && let Some(left) = self.continuations_left.checked_sub(1)
        {
            self.continuations_left = left;
            return true;
        }
        self.queue_more(slot, connection);
        false
    }

    /// Whether this turn has sealed what it may.
    pub(super) fn is_sealed_up(&self) -> bool {
        self.sealing.is_over()
    }

    /// Keeps half of the bytes that a turn seals for the walks, whatever continuations took.
    pub(super) fn keep_for_walks(&mut self) {
        self.sealing.keep_for_walks();
    }

    /// Takes the rest of this turn's budget of continuations.
    pub(super) fn take_budget(&mut self) -> usize {
        std::mem::take(&mut self.continuations_left)
    }

    /// Takes the next continuation.
    pub(super) fn next_continuation(&mut self) -> Option<Continuation<W>> {
        self.continuations.pop_front()
    }

    /// Whether continuations wait.
    pub(super) fn has_continuations(&self) -> bool {
        !self.continuations.is_empty()
    }

    /// Sends the rest of a partial send, without what was taken back since it began. The stall timer starts anew: the client
    /// must read again.
    pub(super) fn send_rest(
        &mut self,
        slot: ConnectionSlot<W>,
        connection: &mut Connection<W::FixedFile>,
        (rest, redacted): (SendBuffer, Option<&Redacted>),
        env: &Env<W::Socket>,
    ) {
        let rest = match redacted {
            Some(redacted) => {
                // Every frame is looked at, compressed ones with more work than sealing them would be.
                self.sealing.sealed(rest.remaining());
                rest.without(redacted)
            }
            None => rest,
        };
        debug_assert_eq!(connection.sending, Sending::Queued);
        connection.sending = Sending::InKernel;
        connection.progress = env.now.tick;
        self.io.send(&connection.file, slot.to_bits(), rest);
    }

    /// The queued continuations.
    pub(super) fn continuations(&self) -> impl Iterator<Item = &Continuation<W>> {
        self.continuations.iter()
    }
}

/// TLS send buffers kept for reuse, and the size from which keeping one is worth it.
const SEALED_SPARE: usize = 256;
const SEALED_BYTES_MIN: usize = 1024;

/// Lets a member that fell out of the window begin again at `resume`, as far as the policy allows it.
fn skip<S>(
    (member, audience): (MemberIndex, &mut Audience),
    (frames, resume): (u64, Cursor),
    env: &Env<S>,
) -> bool {
    env.metrics.frames_skipped.add(frames);
    audience.note_shed(frames);
    let skips = env.settings.slow_policy == SlowPolicy::Skip;
    if skips {
        audience.set_cursor(member, resume);
    }
    skips
}
