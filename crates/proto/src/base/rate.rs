//! Rate budgets: GCRA (the token bucket kept as one instant), eight bytes per budget.

use super::clock::Tick;

/// Requests per second, with a burst of one second's worth. `None` in a setting means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    // At least one.
    per_second: u32,
    // Time that one request takes from a budget: a second divided by `per_second`.
    interval_nanos: u64,
    // How far a budget may be ahead of the clock: the burst but one, each an interval.
    burst_nanos: u64,
}

impl Rate {
    /// `per_second` requests each second; a fresh budget allows that many at once.
    ///
    /// # Panics
    ///
    /// If `per_second` is zero: settings are validated before.
    #[expect(clippy::as_conversions, reason = "u64::from is not const")]
    pub const fn per_second(per_second: u32) -> Self {
        assert!(per_second > 0, "a rate is at least one per second");
        let interval_nanos = 1_000_000_000 / per_second as u64;
        Self {
            per_second,
            interval_nanos,
            burst_nanos: interval_nanos * (per_second as u64 - 1),
        }
    }

    /// `per_second` each second; a fresh budget allows `burst` at once.
    ///
    /// # Panics
    ///
    /// If either is zero.
    #[expect(clippy::as_conversions, reason = "u64::from is not const")]
    pub(crate) const fn with_burst(per_second: u32, burst: u32) -> Self {
        assert!(burst > 0, "a burst is at least one");
        let Self { interval_nanos, .. } = Self::per_second(per_second);
        Self {
            per_second,
            interval_nanos,
            burst_nanos: interval_nanos * (burst as u64 - 1),
        }
    }

    /// The part of one of `nodes` that grant this rate together: as much of the burst, but one request at least.
    ///
    /// # Panics
    ///
    /// If `nodes` is zero.
    #[expect(clippy::as_conversions, reason = "u64::from is not const")]
    #[must_use]
    pub const fn share(self, nodes: u32) -> Self {
        assert!(nodes > 0, "at least this one");
        let interval_nanos = self.interval_nanos.saturating_mul(nodes as u64);
        // The whole burst lasts as long as before: each node's requests are further apart.
        let burst_nanos = (self.burst_nanos + self.interval_nanos).saturating_sub(interval_nanos);
        Self {
            per_second: self.per_second,
            interval_nanos,
            burst_nanos,
        }
    }

    /// Requests each second, of all nodes that share it.
    pub const fn limit(self) -> u32 {
        self.per_second
    }
}

/// The rest of a [`Rate`]: the theoretical arrival time of the next request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget(u64);

impl Budget {
    /// Takes one request from the budget. `false`: over the rate, and nothing was taken.
    #[must_use]
    pub fn take(&mut self, rate: Rate, now: Tick) -> bool {
        let arrival = self.0.max(now.nanos());
        if arrival - now.nanos() > rate.burst_nanos {
            return false;
        }
        self.0 = arrival + rate.interval_nanos;
        true
    }
}

impl Budget {
    /// A budget of which nothing is left at this time: the rate's burst comes back within a second.
    pub(crate) fn used_up(rate: Rate, now: Tick) -> Self {
        Self(now.nanos() + rate.burst_nanos + rate.interval_nanos)
    }

    /// Takes as many of `count` requests as there are; returns how many.
    pub(crate) fn take_up_to(&mut self, rate: Rate, count: u32, now: Tick) -> u32 {
        let arrival = self.0.max(now.nanos());
        let Some(free) = rate.burst_nanos.checked_sub(arrival - now.nanos()) else {
            return 0;
        };
        let taken = (free / rate.interval_nanos + 1).min(u64::from(count));
        self.0 = arrival + rate.interval_nanos * taken;
        u32::try_from(taken).expect("not above the count")
    }

    /// Takes requests that happened elsewhere, whether there are as many or not; a debt lasts a second at most.
    pub(crate) fn owe(&mut self, rate: Rate, count: u32, now: Tick) {
        let debt = rate.interval_nanos.saturating_mul(u64::from(count));
        let arrival = self.0.max(now.nanos()).saturating_add(debt);
        let deepest = Self::used_up(rate, now).0 + 1_000_000_000;
        // Never less than before: the rate may have changed.
        self.0 = arrival.min(deepest.max(self.0));
    }

    /// A budget that another process has used: its [`Budget::used_until`], as a tick of this one.
    pub const fn inherited(until: Tick) -> Self {
        Self(until.nanos())
    }

    /// The instant at which the whole budget is available again.
    pub const fn used_until(self) -> Tick {
        Tick::from_nanos(self.0)
    }

    /// Whether the whole budget is available.
    pub(crate) fn is_fresh(self, now: Tick) -> bool {
        self.0 <= now.nanos()
    }
}

/// A budget that several threads charge (the account-wide rates). Lock-free; used only where the
/// rate is low enough (thousands a second) that the cache line is not contended.
#[derive(Debug, Default)]
pub struct SharedBudget(std::sync::atomic::AtomicU64);

impl SharedBudget {
    /// As [`Budget::used_until`].
    pub fn used_until(&self) -> Tick {
        Tick::from_nanos(self.0.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// Takes over what another process has used, as [`Budget::inherited`]; repeating it changes
    /// nothing.
    pub fn inherit(&self, until: Tick) {
        use std::sync::atomic::Ordering::Relaxed;
        self.0.fetch_max(until.nanos(), Relaxed);
    }

    /// Takes `amount` units at once of `per_second`; a fresh budget allows a second's worth, and the last units of it may
    /// be more than are left. `false`: over the rate, and nothing was taken.
    #[must_use]
    pub fn take_units(&self, amount: u64, per_second: u64, now: Tick) -> bool {
        use std::sync::atomic::Ordering::Relaxed;
        const SECOND: u64 = 1_000_000_000;
        if amount == 0 || per_second == 0 {
            return amount == 0;
        }
        let nanos = u128::from(amount) * u128::from(SECOND) / u128::from(per_second);
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        let take = |arrival: u64| {
            let arrival = arrival.max(now.nanos());
            (arrival - now.nanos() < SECOND).then(|| arrival.saturating_add(nanos))
        };
        self.0.try_update(Relaxed, Relaxed, take).is_ok()
    }

    /// Like [`Budget::take`].
    #[must_use]
    pub fn take(&self, rate: Rate, now: Tick) -> bool {
        use std::sync::atomic::Ordering::Relaxed;
        self.0
            .try_update(Relaxed, Relaxed, |arrival| {
                let mut budget = Budget(arrival);
                budget.take(rate, now).then_some(budget.0)
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Goal: a burst is allowed at once, then the rate. Method: count the requests granted in one
    /// instant, and in the second after it.
    #[test]
    fn a_burst_is_separate_from_the_rate() {
        let rate = Rate::with_burst(10, 25);
        let mut budget = Budget::default();
        let start = Tick::from_nanos(5_000_000_000);
        let mut granted = |now| {
            std::iter::repeat_with(|| budget.take(rate, now))
                .take_while(|ok| *ok)
                .count()
        };
        assert_eq!(granted(start), 25);
        assert_eq!(granted(start.after(Duration::from_secs(1))), 10);
    }

    /// Goal: a second's worth at once, then the rate, whatever the amounts.
    #[test]
    fn units_are_taken_at_the_rate() {
        let budget = SharedBudget::default();
        let start = Tick::from_nanos(5_000_000_000);
        let granted = |amount, now| {
            let takes = std::iter::repeat_with(|| budget.take_units(amount, 1_000, now));
            takes.take_while(|ok| *ok).count()
        };
        assert_eq!(granted(100, start), 10);
        assert_eq!(granted(50, start.after(Duration::from_millis(500))), 10);
        assert_eq!(
            granted(5_000, start.after(Duration::from_secs(2))),
            1,
            "one larger than the burst"
        );
        assert_eq!(granted(1, start.after(Duration::from_secs(3))), 0);
    }

    /// Goal: ten at once, the eleventh refused, and one more after a tenth of a second.
    #[test]
    fn a_fresh_budget_allows_one_second_at_once() {
        let rate = Rate::per_second(10);
        let mut budget = Budget::default();
        let start = Tick::from_nanos(5_000_000_000);
        for _ in 0..10 {
            assert!(budget.take(rate, start));
        }
        assert!(!budget.take(rate, start));
        let later = start.after(Duration::from_millis(100));
        assert!(budget.take(rate, later));
        assert!(!budget.take(rate, later));
    }

    /// Goal: nodes that share a rate grant it together, whatever they share it by: over ten seconds no more than the
    /// rate and a burst each of one call, and no less than the rate.
    #[test]
    fn nodes_share_a_rate() {
        for nodes in [2_u32, 3, 7] {
            let start = Tick::from_nanos(7_000_000_000);
            let granted = |_| {
                let (rate, mut budget) = (Rate::per_second(5).share(nodes), Budget::default());
                let ticks = (0..1_000).map(|step| start.after(Duration::from_millis(10 * step)));
                ticks.filter(|now| budget.take(rate, *now)).count()
            };
            let all: usize = (0..nodes).map(granted).sum();
            let spare = usize::try_from(nodes).expect("few");
            assert!(
                (45..=55 + spare).contains(&all),
                "{nodes} nodes granted {all}"
            );
        }
    }

    /// Goal: a whole number of requests is taken at once as one by one; a debt is paid before anything else is granted,
    /// and is never more than a second.
    #[test]
    fn requests_are_taken_together_and_owed() {
        let (rate, start) = (Rate::per_second(10), Tick::from_nanos(5_000_000_000));
        let mut budget = Budget::default();
        assert_eq!(budget.take_up_to(rate, 4, start), 4);
        assert_eq!(budget.take_up_to(rate, 100, start), 6);
        assert_eq!(budget.take_up_to(rate, 100, start), 0);
        let later = start.after(Duration::from_millis(350));
        assert_eq!(budget.take_up_to(rate, 100, later), 3);
        budget.owe(rate, 2, later);
        let later = later.after(Duration::from_millis(450));
        assert_eq!(budget.take_up_to(rate, 100, later), 3);
        budget.owe(rate, u32::MAX, later);
        let later = later.after(Duration::from_secs(1));
        assert_eq!(budget.take_up_to(rate, 100, later), 0);
        let later = later.after(Duration::from_millis(200));
        assert_eq!(budget.take_up_to(rate, 100, later), 2);
        let mut empty = Budget::used_up(rate, start);
        assert_eq!(empty.take_up_to(rate, 100, start), 0);
        let later = start.after(Duration::from_secs(1));
        assert_eq!(empty.take_up_to(rate, 100, later), 10);
    }
}
