//! A session on its way to another process.

use super::context::SessionContext;
use super::state::{Grant, Session};
use crate::base::clock::{Shift, Tick};
use crate::base::limits::{FRAME_BYTES_MAX, PARSE_PADDING_BYTES};
use crate::base::rate::Budget;
use crate::tagged::{Fault, Fields, Tagged};
use crate::token::Capabilities;
use crate::ws::Decoder;

// The fields of a session. Instants are ticks of the process that writes them, in nanoseconds.
/// `Sender` as JSON.
const SENDER: u32 = 1;
/// Bits of the capabilities, as in a token.
const CAPABILITIES: u32 = 2;
/// When the session ends.
const ENDS: u32 = 3;
/// When the client was heard last.
const HEARD: u32 = 4;
/// Until when the budget of requests is used.
const REQUESTS: u32 = 5;
/// Until when the budget of other frames is used.
const OVERHEAD: u32 = 6;
/// The window of compressed messages, as a power of two; left out without compression.
const WINDOW_BITS: u32 = 7;
/// The bytes of an incomplete message, as [`Decoder::replay`] makes them; left out if there are none.
const INPUT: u32 = 8;

/// A message that is arriving is too large to be carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotReplayable;

impl Session {
    /// Writes the session for another process. Whether it is closing is its connection's to tell.
    ///
    /// # Errors
    ///
    /// As [`Decoder::replay`].
    pub fn carry(&self, fields: &mut Fields) -> Result<(), NotReplayable> {
        let input = self.decoder.replay().ok_or(NotReplayable)?;
        fields.bytes(SENDER, self.sender_json.as_bytes());
        fields.number(CAPABILITIES, self.capabilities.bits().into());
        fields.number(ENDS, self.ends.nanos());
        fields.number(HEARD, self.last_received.nanos());
        fields.number(REQUESTS, self.budgets.requests.used_until().nanos());
        fields.number(OVERHEAD, self.budgets.overhead.used_until().nanos());
        if let Some(bits) = self.window_bits() {
            fields.number(WINDOW_BITS, bits.into());
        }
        if !input.is_empty() {
            fields.bytes(INPUT, &input);
        }
        Ok(())
    }

    /// Reads a session that another process wrote; its ticks are `shift` away.
    ///
    /// # Errors
    ///
    /// What is missing, or has a value that no session has.
    pub fn inherit(
        fields: Tagged<'_>,
        shift: Shift,
        context: &mut SessionContext,
        now: Tick,
    ) -> Result<Self, Fault> {
        let sender_json = fields.need_text(SENDER)?;
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(sender_json).is_ok();
        let is_object = is_json && sender_json.starts_with('{');
        if sender_json.len() > FRAME_BYTES_MAX || !is_object {
            return Err(Fault::Value(SENDER));
        }
        let bits = u8::try_from(fields.need_number(CAPABILITIES)?).ok();
        let capabilities = bits.and_then(Capabilities::from_bits);
        let grant = Grant {
            sender_json: sender_json.into(),
            capabilities: capabilities.ok_or(Fault::Value(CAPABILITIES))?,
            ends: shift.tick(fields.need_number(ENDS)?),
        };
        let mut session = Self::new(grant, None, now);
        if let Some(bits) = fields.number(WINDOW_BITS)? {
            let bits = u8::try_from(bits)
                .ok()
                .filter(|bits| (9..=15).contains(bits));
            session.window_bits = bits.ok_or(Fault::Value(WINDOW_BITS))?;
        }
        // The clocks of two processes are read apart: no instant of the past is later than now.
        session.last_received = shift.tick(fields.need_number(HEARD)?).min(now);
        let budget = |number| Ok(Budget::inherited(shift.tick(fields.need_number(number)?)));
        session.budgets.requests = budget(REQUESTS)?;
        session.budgets.overhead = budget(OVERHEAD)?;
        if let Some(input) = fields.get(INPUT) {
            let deflate = session.window_bits > 0;
            session.decoder = replayed(input, deflate, context)?;
        }
        Ok(session)
    }
}

/// Brings a fresh decoder into the state that a replay tells.
fn replayed(input: &[u8], deflate: bool, context: &mut SessionContext) -> Result<Decoder, Fault> {
    let mut decoder = Decoder::default();
    let mut buffer = input.to_vec();
    buffer.resize(input.len() + PARSE_PADDING_BYTES, 0);
    let mut at = 0;
    while at < input.len() {
        let inflater = deflate.then_some(&mut context.inflater);
        let step = decoder.step(&mut buffer, at, input.len(), &context.bounds, inflater);
        match step {
            Ok(step) if step.item.is_none() => at += step.consumed,
            // A replay has no item and no violation.
            Ok(_) | Err(_) => return Err(Fault::Value(INPUT)),
        }
    }
    Ok(decoder)
}
