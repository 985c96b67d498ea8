//! Rate limits: calls of each operation per second; further ones are throttled.

use std::cell::{Cell, RefCell};

use super::fault::Fault;
use super::operation::Operation;
use uproar_proto::base::clock::Tick;
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
}

impl Throttle {
    /// Starts with one second's calls of each operation.
    pub fn new(rates: Rates) -> Self {
        Self {
            rates: RefCell::new(rates),
            budgets: Default::default(),
        }
    }

    /// Changes the rates. What was taken from a budget stays taken: none is refilled.
    pub fn set_rates(&self, rates: Rates) {
        self.rates.replace(rates);
    }

    /// Takes one call from the operation's budget.
    ///
    /// # Errors
    ///
    /// `ThrottlingException` if it is empty.
    pub fn take(&self, operation: Operation, now: Tick) -> Result<(), Fault> {
        let limit = self.rates.borrow().of(operation);
        if limit == 0 {
            return Ok(());
        }
        let kept = &self.budgets[operation.index()];
        let mut budget = kept.get();
        let taken = budget.take(Rate::per_second(limit), now);
        kept.set(budget);
        if taken {
            Ok(())
        } else {
            Err(Fault::Throttled { limit })
        }
    }
}

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
