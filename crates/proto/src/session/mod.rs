//! One connection's protocol state: frames in, effects out (IVS Chat messaging, RFC 6455).
//!
//! Owns: the frame decoder, the token's grant, the connection's rate budget, its deadlines.
//! Never: sockets, rooms, clocks. Time and bytes are arguments, effects go to a closure.

mod close;
mod context;
#[cfg(test)]
mod overhead_tests;

use std::time::Duration;

pub use close::{Ending, closing_reason_json};
pub use context::SessionContext;

use crate::base::clock::{Now, Tick};
use crate::base::limits::{IDLE_MAX, PING_INTERVAL};
use crate::base::rate::{Budget, Rate};
use crate::chat::{ErrorCode, Refusal, Request, request_id_scan, texts};
use crate::token::{Capabilities, Capability};
use crate::ws::extension::Agreement;
use crate::ws::{Decoder, Item, Violation};

/// An effect that a session orders from its connection.
#[derive(Debug)]
pub enum Effect<'a> {
    /// Carry a valid request, which the token allows, to the room.
    Publish {
        /// The request.
        request: Request<'a>,
        /// `Sender` as it appears in a message.
        sender_json: &'a str,
    },
    /// Tell the client that its request failed.
    Refuse {
        /// The class of the failure.
        code: ErrorCode,
        /// The text for people.
        message: &'a str,
        /// The failed request's id; empty if it had none.
        request_id: &'a str,
    },
    /// Answer a ping.
    Pong(&'a [u8]),
    /// Send a Close frame, then end the connection.
    Close(Ending<'a>),
    /// Note that the client's side of the closing handshake is done.
    PeerClosed,
    /// Cut the connection: the client sent more frames beside its requests than it may.
    Flood,
    /// Send the message back (conformance mode only).
    Echo {
        /// Whether it is text, not binary.
        text: bool,
        /// The message's content.
        payload: &'a [u8],
    },
}

/// The next action that a session's deadlines require.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// The protocol state of one connection: about 60 bytes and the sender's JSON.
#[derive(Debug)]
pub struct Session {
    decoder: Decoder,
    sender_json: Box<str>,
    budget: Budget,
    // The budget for frames that are no accepted request.
    overhead: Budget,
    // Coarse times keep idle connections small.
    last_received: Tick,
    ends: Tick,
    capabilities: Capabilities,
    // The window of compressed messages to the client, as a power of two; 0: compression was not agreed on.
    window_bits: u8,
    // A Close frame was sent or received: later frames of the client are ignored.
    closing: bool,
}

/// The rights that a token granted.
#[derive(Debug, Clone)]
pub struct Grant {
    /// `Sender` as it appears in every message.
    pub sender_json: Box<str>,
    /// The actions that the client may take.
    pub capabilities: Capabilities,
    /// When the session ends, by the monotonic clock, so that a correction of the wall clock changes no session.
    pub ends: Tick,
}

impl Session {
    /// Makes a session that starts `now`; `agreement` is on compression.
    pub fn new(grant: Grant, agreement: Option<Agreement>, now: Tick) -> Self {
        Self {
            decoder: Decoder::default(),
            sender_json: grant.sender_json,
            budget: Budget::default(),
            overhead: Budget::default(),
            last_received: now,
            ends: grant.ends,
            capabilities: grant.capabilities,
            window_bits: agreement.map_or(0, |agreement| agreement.window_bits),
            closing: false,
        }
    }

    /// Returns `Sender` as it appears in this user's messages.
    pub fn sender_json(&self) -> &str {
        &self.sender_json
    }

    /// Returns the window for compressing messages to the client, as a power of two; `None`: no compression.
    pub fn window_bits(&self) -> Option<u8> {
        (self.window_bits > 0).then_some(self.window_bits)
    }

    /// Whether the closing handshake has begun.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Makes the session ignore the client's frames from now on.
    pub fn begin_close(&mut self) {
        self.closing = true;
    }

    /// Charges `frames` that are no accepted request. `false`: the client sent more of them than it may, and its
    /// frames are ignored from now on.
    #[must_use]
    pub fn charge_overhead(&mut self, frames: u32, context: &SessionContext, now: Now) -> bool {
        let is_over = (0..frames).any(|_| over(&mut self.overhead, context.overhead_rate, now));
        self.closing |= is_over;
        !is_over
    }

    /// Takes the received bytes `buffer[..len]`; at least `PARSE_PADDING_BYTES` more may be read.
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        len: usize,
        context: &mut SessionContext,
        content_chars_max: usize,
        now: Now,
        effect: &mut dyn FnMut(Effect<'_>),
    ) {
        self.last_received = now.tick;
        let (rate, overhead_rate) = (context.connection_rate, context.overhead_rate);
        let mut start = 0;
        while start < len {
            let fragments = self.decoder.fragments();
            let inflater = (self.window_bits > 0).then_some(&mut context.inflater);
            let step = match self
                .decoder
                .step(buffer, start, len, &context.bounds, inflater)
            {
                Ok(step) => step,
                Err(violation) => {
                    if !self.closing {
                        self.closing = true;
                        context.violations += 1;
                        refuse_violation(violation, effect);
                    }
                    self.decoder = Decoder::default();
                    return;
                }
            };
            start += step.consumed;
            let Some(item) = step.item else {
                let is_fragment = self.decoder.fragments() > fragments;
                if is_fragment && over(&mut self.overhead, overhead_rate, now) {
                    self.closing = true;
                    return effect(Effect::Flood);
                }
                continue;
            };
            if self.closing && !matches!(item, Item::Close { .. }) {
                continue;
            }
            if let Item::Ping(_) | Item::Pong(_) = item
                && over(&mut self.overhead, overhead_rate, now)
            {
                self.closing = true;
                return effect(Effect::Flood);
            }
            match item {
                Item::Text(payload) if context.echo => {
                    effect(Effect::Echo {
                        text: true,
                        payload: payload.bytes(),
                    });
                }
                Item::Binary(payload) if context.echo => {
                    effect(Effect::Echo {
                        text: false,
                        payload: payload.bytes(),
                    });
                }
                Item::Text(payload) => {
                    let (padded, len) = payload.into_padded();
                    match context.parser.parse(padded, len, content_chars_max) {
                        Ok(request) => {
                            let sender_json = &*self.sender_json;
                            match judge(&mut self.budget, self.capabilities, rate, &request, now) {
                                Ok(()) => effect(Effect::Publish {
                                    request,
                                    sender_json,
                                }),
                                Err((code, message, request_id)) => {
                                    effect(Effect::Refuse {
                                        code,
                                        message,
                                        request_id,
                                    });
                                }
                            }
                        }
                        Err(refusal) => {
                            charge_refusal(&mut self.budget, rate, now, refusal, effect);
                        }
                    }
                }
                Item::Binary(payload) => {
                    let mut scan = request_id_scan();
                    scan.feed(payload.bytes());
                    let refusal = Refusal {
                        code: ErrorCode::BadRequest,
                        message: texts::BINARY,
                        request_id: scan.value().unwrap_or_default(),
                    };
                    charge_refusal(&mut self.budget, rate, now, refusal, effect);
                }
                Item::Oversized(scan) => {
                    let refusal = Refusal {
                        code: ErrorCode::PayloadTooLarge,
                        message: texts::FRAME_TOO_BIG,
                        request_id: scan.value().unwrap_or_default(),
                    };
                    charge_refusal(&mut self.budget, rate, now, refusal, effect);
                }
                Item::Ping(payload) => effect(Effect::Pong(payload)),
                Item::Pong(_) => {}
                Item::Close { code, .. } => {
                    if !self.closing {
                        self.closing = true;
                        effect(Effect::Close(Ending::Answer { code }));
                    }
                    effect(Effect::PeerClosed);
                    return;
                }
            }
        }
        self.decoder.release();
    }

    /// Returns what is due now, or when to ask again.
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

/// Judges a request by rate first, then capability: a client over its rate learns nothing else.
fn judge<'a>(
    budget: &mut Budget,
    capabilities: Capabilities,
    rate: Option<Rate>,
    request: &Request<'a>,
    now: Now,
) -> Result<(), (ErrorCode, &'static str, &'a str)> {
    let (needed, request_id) = match *request {
        Request::SendMessage { request_id, .. } => (Capability::SendMessage, request_id),
        Request::DeleteMessage { request_id, .. } => (Capability::DeleteMessage, request_id),
        Request::DisconnectUser { request_id, .. } => (Capability::DisconnectUser, request_id),
    };
    if over(budget, rate, now) {
        return Err((ErrorCode::TooManyRequests, texts::RATE, request_id));
    }
    if !capabilities.contains(needed) {
        return Err((ErrorCode::Forbidden, texts::CAPABILITY, request_id));
    }
    Ok(())
}

fn over(budget: &mut Budget, rate: Option<Rate>, now: Now) -> bool {
    rate.is_some_and(|rate| !budget.take(rate, now.tick))
}

/// Charges a refused request as an accepted one is charged.
fn charge_refusal(
    budget: &mut Budget,
    rate: Option<Rate>,
    now: Now,
    refusal: Refusal<'_>,
    effect: &mut dyn FnMut(Effect<'_>),
) {
    let (code, message) = if over(budget, rate, now) {
        (ErrorCode::TooManyRequests, texts::RATE)
    } else {
        (refusal.code, refusal.message)
    };
    effect(Effect::Refuse {
        code,
        message,
        request_id: refusal.request_id,
    });
}

fn refuse_violation(violation: Violation, effect: &mut dyn FnMut(Effect<'_>)) {
    if violation.close_code() == close::TOO_BIG {
        let message = texts::FRAME_TOO_BIG;
        effect(Effect::Refuse {
            code: ErrorCode::PayloadTooLarge,
            message,
            request_id: "",
        });
    }
    effect(Effect::Close(Ending::Violation(violation)));
}
