//! Rate limits: calls of each operation per second; further ones are throttled.

use std::cell::{Cell, RefCell};

use super::fault::Fault;
use super::operation::Operation;
use crate::exposition::{Exposition, Family};
use uproar_proto::base::clock::Tick;
use uproar_proto::base::limits::TOKEN_CREDIT_LIFE;
use uproar_proto::base::rate::{Budget, Rate};

const COUNT: usize = Operation::ALL.len();

/// Calls per second of each operation; zero: not limited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rates([u32; COUNT]);

impl Rates {
    /// The managed service's rates.
    pub fn aws() -> Self {
        let mut rates = Self::open();
        for operation in Operation::ALL {
            rates.set(*operation, operation.aws_rate());
        }
        rates
    }

    /// No limits.
    pub fn open() -> Self {
        Self([0; COUNT])
    }

    /// Sets one rate; zero lifts it.
    pub fn set(&mut self, operation: Operation, per_second: u32) {
        self.0[operation.index()] = per_second;
    }

    /// Calls per second; zero: not limited.
    pub fn of(&self, operation: Operation) -> u32 {
        self.0[operation.index()]
    }
}

/// The remaining budgets, for all callers together.
#[derive(Debug)]
pub struct Throttle {
    rates: RefCell<Rates>,
    budgets: [Cell<Budget>; COUNT],
    credits: [Cell<Credit>; COUNT],
    // All credit ever given, for `/metrics`.
    credited: Cell<u64>,
}

/// Calls beyond the rate that were granted once.
#[derive(Debug, Clone, Copy, Default)]
struct Credit {
    left: u64,
    // Void from here on.
    until: Tick,
}

impl Throttle {
    /// Starts with one second's calls of each operation.
    pub fn new(rates: Rates) -> Self {
        Self {
            rates: RefCell::new(rates),
            budgets: std::array::from_fn(|_| Cell::default()),
            credits: std::array::from_fn(|_| Cell::default()),
            credited: Cell::new(0),
        }
    }

    /// Changes the rates. What was taken from a budget stays taken: none is refilled.
    pub fn set_rates(&self, rates: Rates) {
        self.rates.replace(rates);
    }

    /// Refills every budget, as at the start; credits are void.
    pub(super) fn refill(&self) {
        for (budget, credit) in self.budgets.iter().zip(&self.credits) {
            budget.set(Budget::default());
            credit.set(Credit::default());
        }
    }

    /// Calls per second of an operation; zero: not limited.
    pub fn rate(&self, operation: Operation) -> u32 {
        self.rates.borrow().of(operation)
    }

    /// Grants `calls` of the operation once, beyond its rate: whoever was cut by us comes back and asks at once.
    /// They are taken first, so that the rate holds again as soon as all are back; what is not used within
    /// [`TOKEN_CREDIT_LIFE`] is void.
    pub fn credit(&self, operation: Operation, calls: u64, now: Tick) {
        if calls == 0 || self.rates.borrow().of(operation) == 0 {
            return;
        }
        self.credits[operation.index()].set(Credit {
            left: self.credit_left(operation, now).saturating_add(calls),
            until: now.after(TOKEN_CREDIT_LIFE),
        });
        self.credited.set(self.credited.get().saturating_add(calls));
    }

    /// What is left of all credit of the operation.
    pub fn credit_left(&self, operation: Operation, now: Tick) -> u64 {
        let credit = self.credits[operation.index()].get();
        if now < credit.until { credit.left } else { 0 }
    }

    /// Adds the credit to `/metrics`.
    pub(super) fn render(&self, page: &mut Exposition, now: Tick) {
        page.single(&CREDITED, self.credited.get());
        let left = self.credit_left(Operation::CreateChatToken, now);
        page.single(&CREDIT_LEFT, left);
    }

    /// Takes one call from the operation's credit, else from its budget.
    ///
    /// # Errors
    ///
    /// `ThrottlingException` if it is empty.
    pub fn take(&self, operation: Operation, now: Tick) -> Result<(), Fault> {
        let Some(rate) = self.uncredited(operation, now) else {
            return Ok(());
        };
        let kept = &self.budgets[operation.index()];
        let mut budget = kept.get();
        let taken = budget.take(rate, now);
        kept.set(budget);
        let limit = rate.limit();
        if taken {
            Ok(())
        } else {
            Err(Fault::Throttled { limit })
        }
    }

    /// The rate that a call is to be charged to; `None`: its operation is not limited, or the call was taken from its
    /// credit.
    pub(super) fn uncredited(&self, operation: Operation, now: Tick) -> Option<Rate> {
        let limit = self.rates.borrow().of(operation);
        if limit == 0 {
            return None;
        }
        let credit = &self.credits[operation.index()];
        let left = self.credit_left(operation, now);
        if left > 0 {
            let until = credit.get().until;
            let left = left - 1;
            credit.set(Credit { left, until });
            return None;
        }
        Some(Rate::per_second(limit))
    }
}

const CREDITED: Family = Family::counter(
    "uproar_token_credit_total",
    "Chat tokens granted beyond the rate: one for each viewer that a stop, crash or drain cut.",
);
const CREDIT_LEFT: Family = Family::gauge(
    "uproar_token_credit_left",
    "Those of them that nobody has asked for yet.",
);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Goal: rates that change, also to none and back, refill no budget; what is left of one keeps its part of the
    /// rate.
    #[test]
    fn changed_rates_refill_nothing() {
        let (slow, fast) = (Rates::aws(), {
            let mut rates = Rates::aws();
            rates.set(Operation::CreateRoom, 50);
            rates
        });
        let throttle = Throttle::new(slow.clone());
        let start = Tick::from_nanos(7_000_000_000);
        let granted = |now| {
            let calls = std::iter::repeat_with(|| throttle.take(Operation::CreateRoom, now));
            calls.take(1_000).take_while(Result::is_ok).count()
        };
        assert_eq!(granted(start), 5);
        for rates in [Rates::open(), fast, slow.clone()] {
            throttle.set_rates(rates);
            if granted(start) != 1_000 {
                assert_eq!(granted(start), 0);
            }
        }
        // Two of five come back in 400 ms: two fifths of the higher rate, too.
        let later = start.after(Duration::from_millis(400));
        let mut fast = slow;
        fast.set(Operation::CreateRoom, 50);
        throttle.set_rates(fast);
        assert_eq!(granted(later), 20);
    }

    /// Goal: a credit is granted once and in full, beside a whole budget, and then the rate holds as ever; what is
    /// not used in time is void. Method: ask until refused, now and a second later.
    #[test]
    fn a_credit_is_granted_once() {
        let operation = Operation::CreateChatToken;
        let (throttle, limit) = (Throttle::new(Rates::aws()), 200);
        let start = Tick::from_nanos(7_000_000_000);
        let granted = |now| {
            std::iter::repeat_with(|| throttle.take(operation, now))
                .take_while(Result::is_ok)
                .count()
        };
        throttle.credit(operation, 3_000, start);
        throttle.credit(operation, 2_000, start);
        assert_eq!(granted(start), 5_000 + limit);
        let next = start.after(Duration::from_secs(1));
        assert_eq!(granted(next), limit);
        throttle.credit(operation, 10, next);
        let late = next.after(TOKEN_CREDIT_LIFE);
        assert_eq!(throttle.credit_left(operation, next), 10);
        assert_eq!(granted(late), limit);
        throttle.credit(operation, u64::MAX, late);
        throttle.credit(operation, u64::MAX, late);
        assert_eq!(throttle.credit_left(operation, late), u64::MAX);
        let unlimited = Throttle::new(Rates::open());
        unlimited.credit(operation, 10, start);
        assert_eq!(unlimited.credit_left(operation, start), 0);
    }

    /// Goal: each operation has its own rate, a burst of one second's calls, and the numbers of the
    /// service.
    #[test]
    fn operations_are_limited_one_by_one() {
        let mut rates = Rates::aws();
        rates.set(Operation::GetRoom, 0);
        let throttle = Throttle::new(rates);
        let start = Tick::from_nanos(7_000_000_000);
        for operation in Operation::ALL {
            let limit = operation.aws_rate();
            for _ in 0..limit {
                assert_eq!(throttle.take(*operation, start), Ok(()));
            }
            let refused = throttle.take(*operation, start);
            if *operation == Operation::GetRoom {
                assert_eq!(refused, Ok(()));
            } else {
                assert_eq!(refused, Err(Fault::Throttled { limit }), "{operation:?}");
                let later = start.after(Duration::from_secs(1) / limit);
                assert_eq!(throttle.take(*operation, later), Ok(()));
                assert!(throttle.take(*operation, later).is_err());
            }
        }
    }
}
