//! Judges requests by the connection's rates and its token's capabilities.

use super::context::Rates;
use crate::base::clock::Tick;
use crate::base::rate::{Budget, Rate};
use crate::chat::{Action, ErrorCode, Refusal, Request, texts};
use crate::token::{Capabilities, Capability};

/// A connection's budgets. Each is charged for refused frames as for accepted ones, because both
/// cost the server the same.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    // For requests, at `Rates::requests`.
    pub(super) requests: Budget,
    // For frames that are no accepted request, at `Rates::overhead`.
    pub(super) overhead: Budget,
}

impl Budgets {
    /// Judges a request by rate first, then capability: a client over its rate learns nothing else.
    pub(super) fn judge<'a>(
        &mut self,
        request: &Request<'a>,
        capabilities: Capabilities,
        rates: Rates,
        now: Tick,
    ) -> Result<(), Refusal<'a>> {
        let (code, message) = if is_over(&mut self.requests, rates.requests, now) {
            (ErrorCode::TooManyRequests, texts::RATE)
        } else if capabilities.contains(needed(request.action())) {
            return Ok(());
        } else {
            (ErrorCode::Forbidden, texts::CAPABILITY)
        };
        Err(Refusal {
            code,
            message,
            request_id: request.request_id(),
        })
    }

    /// Charges a command, which the room's rate does not count.
    pub(super) fn charge_command<'a>(
        &mut self,
        request_id: &'a str,
        rates: Rates,
        now: Tick,
    ) -> Result<(), Refusal<'a>> {
        if !is_over(&mut self.requests, rates.requests, now) {
            return Ok(());
        }
        Err(Refusal {
            code: ErrorCode::TooManyRequests,
            message: texts::RATE,
            request_id,
        })
    }

    /// Charges a request that is refused for its form; over the rate, that is the reason instead.
    pub(super) fn charge_refused<'a>(
        &mut self,
        refusal: Refusal<'a>,
        rates: Rates,
        now: Tick,
    ) -> Refusal<'a> {
        if !is_over(&mut self.requests, rates.requests, now) {
            return refusal;
        }
        Refusal {
            code: ErrorCode::TooManyRequests,
            message: texts::RATE,
            request_id: refusal.request_id,
        }
    }

    /// Charges a frame that is no accepted request. `false`: the client sent more of them than it
    /// may.
    #[must_use]
    pub(super) fn charge_overhead(&mut self, rates: Rates, now: Tick) -> bool {
        !is_over(&mut self.overhead, rates.overhead, now)
    }
}

fn is_over(budget: &mut Budget, rate: Option<Rate>, now: Tick) -> bool {
    rate.is_some_and(|rate| !budget.take(rate, now))
}

/// The capability that an action needs.
const fn needed(action: Action) -> Capability {
    match action {
        Action::SendMessage => Capability::SendMessage,
        Action::DeleteMessage => Capability::DeleteMessage,
        Action::DisconnectUser => Capability::DisconnectUser,
    }
}
