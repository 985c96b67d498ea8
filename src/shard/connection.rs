//! One established connection as its shard keeps it.

use std::net::IpAddr;

use bytes::BytesMut;

use super::local::Local;
use super::settings::Reservation;
use crate::base::admission::Share;
use crate::base::clock::Tick;
use crate::base::limits::{LANE_BYTES_MAX, PONGS_BYTES_MAX};
use crate::base::table::Slot;
use crate::net::tls::Tls;
use crate::protocol::ws::{self, Deflater};
use crate::room::audience::MemberIndex;
use crate::room::log::Cursor;
use crate::session::Session;

/// A connection: 180-200 bytes and the sender's JSON, nothing else while it is idle.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub struct Connection<S> {
    /// Its place in the shard's rings; closed when this entry is removed.
    pub seat: S,
    /// Its share of the limit on connections.
    pub reservation: Reservation,
    /// The other end's address: told to review handlers alone.
    pub ip: IpAddr,
    /// Its part of what its address may have; given back with the entry.
    pub share: Option<Share>,
    /// Its room on this shard.
    pub local: Slot<Local>,
    /// Its place in the room's audience; `None` once it left.
    pub member: Option<MemberIndex>,
    /// Its protocol state.
    pub session: Session,
    /// Frames for it alone, while there are any.
    pub lane: Option<Box<Lane>>,
    /// Its TLS state, if it uses TLS.
    pub tls: Option<Box<Tls>>,
    /// A receive is under way.
    pub receiving: bool,
    /// A send is under way, or its rest waits.
    pub sending: bool,
    /// It stands in line for what a completed send left to do, or for the rest of one: the client has done
    /// its part.
    pub resumed: bool,
    /// How far its end has come.
    pub phase: Phase,
    /// The peer sent its Close frame, or deserves no answer.
    pub peer_done: bool,
    /// When the kernel last took bytes, or the send under way began.
    pub progress: Tick,
    /// The one wheel entry that counts; others are stale.
    pub next_check: Tick,
}

/// How far a connection's end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It lives.
    Open,
    /// Its Close frame was handed to the kernel; gone at the deadline at the latest.
    Closing(Tick),
    /// Shut down; removed when no operation is under way.
    Dead,
}

/// Frames for one connection alone. They go out at the next frame boundary, before the room log.
#[derive(Debug, Default)]
pub struct Lane {
    frames: BytesMut,
    // Only the newest ping must be answered (RFC 6455 §5.5.3): what a flood of them is reduced to.
    pong: BytesMut,
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
pub struct LaneFull;

impl Lane {
    /// Appends a frame.
    pub fn push(&mut self, write: impl FnOnce(&mut BytesMut)) -> Result<(), LaneFull> {
        if self.frames.len() >= LANE_BYTES_MAX {
            return Err(LaneFull);
        }
        write(&mut self.frames);
        Ok(())
    }

    /// Appends a pong; while much waits already, only the newest ping is answered.
    pub fn pong(&mut self, write: impl FnOnce(&mut BytesMut)) {
        if self.frames.len() < PONGS_BYTES_MAX {
            write(&mut self.frames);
        } else {
            self.pong.clear();
            write(&mut self.pong);
        }
    }

    /// Sets the Close frame; a second one is ignored.
    pub fn finish(&mut self, after: Cursor, write: impl FnOnce(&mut BytesMut)) {
        if self.finish.is_none() {
            let mut frame = BytesMut::new();
            write(&mut frame);
            self.finish = Some(Finish { after, frame });
        }
    }

    /// The frames that wait, if any.
    pub fn take_frames(&mut self) -> Option<BytesMut> {
        if !self.pong.is_empty() {
            let pong = self.pong.split();
            self.frames.extend_from_slice(&pong);
        }
        (!self.frames.is_empty()).then(|| std::mem::take(&mut self.frames))
    }

    /// The Close frame, once `cursor` has come far enough.
    pub fn take_finish(&mut self, cursor: Cursor) -> Option<BytesMut> {
        let due = self
            .finish
            .as_ref()
            .is_some_and(|finish| cursor >= finish.after);
        due.then(|| self.finish.take())
            .flatten()
            .map(|finish| finish.frame)
    }

    /// The Close frame, whatever the cursor.
    pub fn take_finish_now(&mut self) -> Option<BytesMut> {
        self.finish.take().map(|finish| finish.frame)
    }

    /// Conformance mode: a whole message back, whatever its size; compressed if that was agreed on.
    pub fn push_echo(
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

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.pong.is_empty() && self.finish.is_none()
    }
}

impl<S> Connection<S> {
    /// The lane, made if there is none.
    pub fn lane(&mut self) -> &mut Lane {
        self.lane.get_or_insert_with(Box::default)
    }

    /// Takes the lane's frames and gives up an empty lane.
    pub fn take_lane_frames(&mut self) -> Option<BytesMut> {
        let lane = self.lane.as_mut()?;
        let frames = lane.take_frames();
        if lane.is_empty() {
            self.lane = None;
        }
        frames
    }
}
