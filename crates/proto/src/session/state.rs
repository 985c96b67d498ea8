//! The state of a session, and its deadlines.

use std::time::Duration;

use super::context::SessionContext;
use super::policy::Budgets;
use crate::base::clock::Tick;
use crate::base::limits::{IDLE_MAX, PING_INTERVAL};
use crate::token::Capabilities;
use crate::ws::Decoder;
use crate::ws::extension::Agreement;

/// The rights that a token granted.
#[derive(Debug, Clone)]
pub struct Grant {
    /// `Sender` as it appears in every message.
    pub sender_json: Box<str>,
    /// The actions that the client may take.
    pub capabilities: Capabilities,
    /// When the session ends, by the monotonic clock, so that a correction of the wall clock
    /// changes no session.
    pub ends: Tick,
}

/// The protocol state of one connection: 64 bytes and the sender's JSON.
#[derive(Debug)]
pub struct Session {
    // The bytes of a frame or message that is not complete yet.
    pub(super) decoder: Decoder,
    // `Sender` as it appears in this user's messages: a JSON object.
    pub(super) sender_json: Box<str>,
    pub(super) budgets: Budgets,
    // The instant of the last input; it never goes back.
    pub(super) last_received: Tick,
    // When the token's session duration is over.
    pub(super) ends: Tick,
    pub(super) capabilities: Capabilities,
    // The window of compressed messages to the client, as a power of two, 9 to 15; 0: compression
    // was not agreed on.
    pub(super) window_bits: u8,
    phase: Phase,
}

const _: () = assert!(
    size_of::<Session>() <= 64,
    "an idle connection costs its session"
);

/// Which frames of the client a session still accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Everything.
    Open,
    /// A Close frame was sent or received, or the connection is cut: only the client's Close frame
    /// counts.
    Closing,
}

/// The next action that a session's deadlines require.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Due {
    /// Nothing is due before this instant.
    Later(Tick),
    /// Send a ping: no bytes arrived for a ping interval. Check again at the given instant.
    Ping(Tick),
    /// Drop the connection: the peer was silent for too long.
    Idle,
    /// End the session, whose time is over: ERROR 401, then Close.
    SessionEnd,
}

impl Session {
    /// Makes a session that starts `now`; `agreement` is on compression.
    pub fn new(grant: Grant, agreement: Option<Agreement>, now: Tick) -> Self {
        Self {
            decoder: Decoder::default(),
            sender_json: grant.sender_json,
            budgets: Budgets::default(),
            last_received: now,
            ends: grant.ends,
            capabilities: grant.capabilities,
            window_bits: agreement.map_or(0, |agreement| agreement.window_bits),
            phase: Phase::Open,
        }
    }

    /// Returns `Sender` as it appears in this user's messages.
    pub fn sender_json(&self) -> &str {
        &self.sender_json
    }

    /// Returns what the token permits.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Returns the window for compressing messages to the client, as a power of two; `None`: no
    /// compression.
    pub fn window_bits(&self) -> Option<u8> {
        (self.window_bits > 0).then_some(self.window_bits)
    }

    /// Whether the closing handshake has begun, or the connection is to be cut.
    pub(super) fn is_closing(&self) -> bool {
        self.phase == Phase::Closing
    }

    /// Makes the session ignore the client's frames from now on, its Close frame excepted.
    pub fn begin_close(&mut self) {
        self.phase = Phase::Closing;
    }

    /// Charges `frames` that are no accepted request. `false`: the client sent more of them than it
    /// may, and its frames are ignored from now on.
    #[must_use]
    pub fn charge_overhead(&mut self, frames: u32, context: &SessionContext, now: Tick) -> bool {
        let is_within = (0..frames).all(|_| self.budgets.charge_overhead(context.rates, now));
        if !is_within {
            self.begin_close();
        }
        is_within
    }

    /// Notes that bytes arrived.
    pub(super) fn note_received(&mut self, now: Tick) {
        debug_assert!(now >= self.last_received, "monotonic time");
        self.last_received = now;
    }

    /// When the token's session duration is over.
    pub fn ends(&self) -> Tick {
        self.ends
    }

    /// Postpones pings and the end of a silent peer by a pause that ends `now`, in which nobody listened to it.
    pub fn postpone(&mut self, pause: Duration, now: Tick) {
        self.last_received = self.last_received.after(pause).min(now);
    }

    /// Returns the action that is due now, or the instant at which to ask again.
    pub fn due(&self, now: Tick) -> Due {
        if now >= self.ends {
            return Due::SessionEnd;
        }
        let silent = now.since(self.last_received);
        if silent >= IDLE_MAX {
            return Due::Idle;
        }
        let next = |wait: Duration| self.last_received.after(wait).min(self.ends);
        if silent < PING_INTERVAL {
            return Due::Later(next(PING_INTERVAL));
        }
        if silent < PING_INTERVAL * 2 {
            return Due::Ping(next(PING_INTERVAL * 2));
        }
        Due::Ping(next(IDLE_MAX))
    }
}
