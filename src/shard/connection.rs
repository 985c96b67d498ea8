//! One established connection as its shard keeps it.

use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::command::MemberCounts;
use super::settings::Reservation;
use super::shard_room::ShardRoom;
use crate::net::rings::FixedFile;
use crate::net::tls::Tls;
use uproar_proto::base::admission::Share;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::limits::{LANE_BYTES_MAX, PONGS_BYTES_MAX};
use uproar_proto::base::table::Slot;
use uproar_proto::extension::Traits;
use uproar_proto::room::audience::MemberIndex;
use uproar_proto::room::log::Cursor;
use uproar_proto::session::Session;
use uproar_proto::ws::{self, Deflater};

/// A connection: while idle it takes 160-200 bytes and the sender's JSON, nothing else.
///
/// | phase | receiving | sending | lane |
/// |---|---|---|---|
/// | `Open` | `Armed`, but while a completion is handled that ended the receive, and while the shard freezes | any but `Over` | no Close frame |
/// | `Released` | as above | as above | no Close frame |
/// | `HalfClosed` | as above | `Over` | none |
/// | `Closing` | as above | any | the Close frame until it is sent, then empty |
/// | `Dead` | any | any; with `Idle` and no receive the entry is removed at once | is not read any more |
///
/// `continues` is independent of `sending`: a walk may send to a connection whose turn to continue
/// has not come.
#[derive(Debug)]
pub(super) struct Connection<S> {
    /// Its fixed file in the shard's rings; closed when this entry is removed.
    pub file: S,
    /// Its reservation under the limit on connections.
    #[expect(dead_code, reason = "given back when dropped")]
    pub reservation: Reservation,
    /// The client's address; only review handlers and the log get it.
    pub ip: IpAddr,
    /// Its share of the limit on its address; given back with the entry.
    #[expect(dead_code, reason = "given back when dropped")]
    pub share: Option<Share>,
    /// Its room on this shard. Finds nothing once the room is gone from the shard; `member` is
    /// `None` by then.
    pub shard_room: Slot<ShardRoom>,
    /// Its index in the room's audience, which has this connection's key there; `None` once it has
    /// left. An open connection is a member.
    pub member: Option<MemberIndex>,
    /// Its protocol state.
    pub session: Session,
    /// Frames for this connection alone, while there are any: never an empty lane.
    pub lane: Option<Box<Lane>>,
    /// Its TLS state, if it uses TLS.
    pub tls: Option<Box<Tls>>,
    /// What its token tells the server of its user; most tell nothing.
    pub traits: Option<Box<Traits>>,
    /// Whether the kernel has a receive of this connection.
    pub receiving: Receiving,
    /// The state of its one send.
    pub sending: Sending,
    /// Whether it has an entry without bytes in the queue of continuations: at most one.
    pub continues: bool,
    /// The phase of its life.
    pub phase: Phase,
    /// When it was admitted, here or, if it was handed over, when that was done.
    pub began: Tick,
    /// When the kernel last took bytes, or the pending send began.
    pub progress: Tick,
    /// The one valid wheel entry; others are stale.
    pub next_check: Tick,
}

// The memory of an idle viewer is a published figure (README.md).
const _: () = assert!(size_of::<Connection<FixedFile>>() <= 184);

/// The phases of a connection's life. The first is `Open` and the last `Dead`; a closing handshake
/// comes between, or a drain, which may be cancelled while the connection is `Released`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is open.
    Open,
    /// Its turn in a drain has come: it goes on as if open until it has everything that was said.
    Released {
        /// It is cut at this instant at the latest.
        deadline: Tick,
    },
    /// Our FIN is sent: the client's requests are taken, and not answered, until its FIN.
    HalfClosed {
        /// It is closed at this instant at the latest.
        deadline: Tick,
    },
    /// Its Close frame is queued or sent.
    Closing {
        /// It is cut at this instant at the latest.
        deadline: Tick,
        /// Whether the client must still send its Close frame.
        peer: PeerClose,
    },
    /// It is shut down, and is removed when no operation is pending.
    Dead,
}

/// The client's part of a closing handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PeerClose {
    /// Its Close frame is awaited: FIN follows it.
    Awaited,
    /// It was received, or is not waited for after a violation: FIN follows our last byte.
    Done,
}

/// Whether the kernel has a receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receiving {
    /// It has one, which completes many times.
    Armed,
    /// The last completion ended it.
    Ended,
}

/// The state of a connection's one send. Only an `Idle` one may start another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// No send is pending.
    Idle,
    /// The kernel has it.
    InKernel,
    /// It was partial: the kernel reports when the socket is writable.
    WaitsWritable,
    /// The socket is writable: the rest waits in the queue of continuations for its turn.
    Queued,
    /// Our FIN is sent: there is none, and none will be.
    Over,
}

/// Frames for one connection alone. They go out at the next frame boundary, before the room log.
#[derive(Debug, Default)]
pub(super) struct Lane {
    frames: BytesMut,
    // Only the newest ping must be answered (RFC 6455 §5.5.3); this pong replaces those of a flood.
    pong: BytesMut,
    // Remembered frames of the room, behind the first frames and before the room log.
    replay: Bytes,
    finish: Option<Finish>,
}

/// The Close frame, and the point of the room log it must not overtake.
#[derive(Debug)]
struct Finish {
    after: Cursor,
    frame: BytesMut,
}

/// The lane is full: the client does not read what it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneFull;

/// What a lane holds, for another process.
#[derive(Debug, Default)]
pub(super) struct LaneParts<'a> {
    /// Frames, in order.
    pub frames: &'a [u8],
    /// Remembered frames of the room that follow them.
    pub replay: &'a [u8],
    /// The answer to the newest ping.
    pub pong: &'a [u8],
    /// The Close frame, and the point that it must not overtake.
    pub close: Option<(&'a [u8], Cursor)>,
}

impl Lane {
    /// Returns what it holds.
    pub(super) fn parts(&self) -> LaneParts<'_> {
        let finish = self.finish.as_ref();
        LaneParts {
            frames: &self.frames,
            replay: &self.replay,
            pong: &self.pong,
            close: finish.map(|finish| (&finish.frame[..], finish.after)),
        }
    }

    /// Makes a lane with what another process has in it; `None` if that is nothing.
    pub(super) fn inherited(
        (frames, replay): (&[u8], &[u8]),
        pong: &[u8],
        close: Option<(&[u8], Cursor)>,
    ) -> Option<Box<Self>> {
        let lane = Self {
            frames: frames.into(),
            pong: pong.into(),
            replay: Bytes::copy_from_slice(replay),
            finish: close.map(|(frame, after)| Finish {
                after,
                frame: frame.into(),
            }),
        };
        (!lane.is_empty()).then(|| Box::new(lane))
    }

    /// Appends a frame.
    pub(super) fn push(&mut self, write: impl FnOnce(&mut BytesMut)) -> Result<(), LaneFull> {
        if self.frames.len() >= LANE_BYTES_MAX {
            return Err(LaneFull);
        }
        write(&mut self.frames);
        Ok(())
    }

    /// Sets the remembered frames that follow the greeting.
    pub(super) fn set_replay(&mut self, replay: Bytes) {
        self.replay = replay;
    }

    /// Whether remembered frames wait.
    pub(super) fn has_replay(&self) -> bool {
        !self.replay.is_empty()
    }

    /// Appends a pong; while much waits already, only the newest ping is answered.
    pub(super) fn pong(&mut self, write: impl FnOnce(&mut BytesMut)) {
        if self.frames.len() < PONGS_BYTES_MAX {
            write(&mut self.frames);
        } else {
            self.pong.clear();
            write(&mut self.pong);
        }
    }

    /// Sets the Close frame; a second one is ignored.
    pub(super) fn finish(&mut self, after: Cursor, write: impl FnOnce(&mut BytesMut)) {
        if self.finish.is_none() {
            let mut frame = BytesMut::new();
            write(&mut frame);
            self.finish = Some(Finish { after, frame });
        }
    }

    /// Takes the waiting frames, if any.
    pub(super) fn take_frames(&mut self) -> Option<BytesMut> {
        if !self.pong.is_empty() {
            let pong = self.pong.split();
            self.frames.extend_from_slice(&pong);
        }
        (!self.frames.is_empty()).then(|| std::mem::take(&mut self.frames))
    }

    /// Takes the Close frame once `cursor` has reached its point, or at once without a cursor.
    pub(super) fn take_finish(&mut self, cursor: Option<Cursor>) -> Option<BytesMut> {
        let is_due = |finish: &mut Finish| cursor.is_none_or(|cursor| cursor >= finish.after);
        self.finish.take_if(is_due).map(|finish| finish.frame)
    }

    /// Appends an echo in conformance mode: a whole message of any size, compressed if that was
    /// agreed on.
    pub(super) fn push_echo(
        &mut self,
        text: bool,
        payload: &[u8],
        deflater: &mut Deflater,
        window_bits: Option<u8>,
    ) {
        match window_bits {
            Some(bits) => deflater.message_always(&mut self.frames, bits, text, payload),
            None => ws::message(&mut self.frames, text, payload),
        }
    }

    /// Whether no frame waits.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
            && self.pong.is_empty()
            && self.replay.is_empty()
            && self.finish.is_none()
    }
}

impl<S> Connection<S> {
    /// Has its requests looked at: a ban may refuse them.
    pub(super) fn hold(&mut self) {
        self.traits.get_or_insert_default().is_held = true;
    }

    /// Counts it as a member.
    pub(super) fn counts(&self) -> MemberCounts {
        let deflated = self.session.window_bits().is_some();
        MemberCounts::one(deflated, self.traits.as_deref())
    }

    /// Takes the Close frame once `cursor` has reached its point, or at once without a cursor, and
    /// frees the lane. Frames of the lane go first.
    pub(super) fn take_finish(&mut self, cursor: Option<Cursor>) -> Option<BytesMut> {
        let frame = self.lane.as_mut()?.take_finish(cursor)?;
        // What it would have got of the room's memory goes with it.
        self.lane = None;
        Some(frame)
    }

    /// Asserts what the table above says of a connection between two calls; `is_quiet`: no receive is armed.
    ///
    /// # Panics
    ///
    /// If it does not hold.
    pub(super) fn check(&self, is_quiet: bool) {
        assert!(!self.is_over(), "a connection that is over is removed");
        assert!(
            !self.is_open() || self.member.is_some(),
            "an open connection is a member"
        );
        let is_receiving = self.receiving == Receiving::Armed;
        assert!(
            is_receiving || is_quiet || self.phase == Phase::Dead,
            "it hears its client"
        );
        assert!(
            self.lane.as_ref().is_none_or(|lane| !lane.is_empty()),
            "an empty lane is freed"
        );
        let closes = self.lane.as_ref().is_some_and(|lane| lane.finish.is_some());
        assert!(!closes || !self.is_open(), "a Close frame closes");
        let is_half_closed = matches!(self.phase, Phase::HalfClosed { .. });
        assert!(
            !is_half_closed || (self.sending == Sending::Over && self.lane.is_none()),
            "nothing follows our FIN"
        );
    }

    /// Moves its deadlines by a pause of the server's that ends `now`, the session's end aside. Its check must be
    /// scheduled anew.
    pub(super) fn postpone(&mut self, pause: Duration, now: Tick) {
        self.session.postpone(pause, now);
        self.progress = self.progress.after(pause).min(now);
        match &mut self.phase {
            Phase::Open | Phase::Dead => {}
            Phase::Released { deadline }
            | Phase::HalfClosed { deadline }
            | Phase::Closing { deadline, .. } => *deadline = deadline.after(pause),
        }
    }

    /// Whether its session goes on: no closing handshake has begun, and it was not cut.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Released { .. })
    }

    /// Whether no send may start: one is pending, in the kernel or here, or our FIN is sent.
    pub(super) fn is_sending(&self) -> bool {
        self.sending != Sending::Idle
    }

    /// Whether a send is pending, in the kernel or here.
    pub(super) fn has_send(&self) -> bool {
        !matches!(self.sending, Sending::Idle | Sending::Over)
    }

    /// Whether it waits for its turn to continue: then a delay is the server's, not the client's.
    pub(super) fn is_queued(&self) -> bool {
        self.continues || self.sending == Sending::Queued
    }

    /// Whether the kernel has no operation of it and gets none any more: it can be removed.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Dead && self.receiving == Receiving::Ended && !self.has_send()
    }

    /// Whether another process that takes it over has something to do: all but a closing handshake whose Close frame
    /// the kernel has.
    pub(super) fn is_owed(&self) -> bool {
        self.is_open() || self.lane.is_some() || self.has_send()
    }

    /// Whether our FIN is due: the closing handshake is complete and its last byte is sent.
    pub(super) fn is_finished(&self) -> bool {
        let is_done = matches!(
            self.phase,
            Phase::Closing {
                peer: PeerClose::Done,
                ..
            }
        );
        is_done && !self.is_sending() && self.lane.is_none()
    }

    /// Returns the lane; makes it if there is none.
    pub(super) fn lane(&mut self) -> &mut Lane {
        self.lane.get_or_insert_with(Box::default)
    }

    /// Takes the remembered frames and frees an empty lane.
    pub(super) fn take_replay(&mut self) -> Option<Bytes> {
        let lane = self.lane.as_mut()?;
        let replay = std::mem::take(&mut lane.replay);
        if lane.is_empty() {
            self.lane = None;
        }
        (!replay.is_empty()).then_some(replay)
    }

    /// Takes the lane's frames and frees an empty lane.
    pub(super) fn take_lane_frames(&mut self) -> Option<BytesMut> {
        let lane = self.lane.as_mut()?;
        let frames = lane.take_frames();
        if lane.is_empty() {
            self.lane = None;
        }
        frames
    }
}
