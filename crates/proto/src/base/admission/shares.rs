//! Limits of one address: open connections, and refusals that are answered.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::Holder;
use crate::base::clock::Tick;
use crate::base::limits::{ADDRESS_CONNECTIONS_SLACK, ADDRESSES_MAX};
use crate::base::rate::{Budget, Rate};

/// One open connection of an address; counts while it lives, on any thread.
#[derive(Debug, Clone)]
#[expect(dead_code, reason = "alive is all it is")]
pub struct Share(Arc<()>);

/// The state of one address.
#[derive(Default)]
struct Known {
    // One reference more than open connections.
    open: Arc<()>,
    refusals: Budget,
}

impl Known {
    fn open_count(&self) -> usize {
        Arc::strong_count(&self.open) - 1
    }
}

/// The shares of the addresses of one shard, or one listener. An address is tracked while it has
/// open connections, or was refused recently; at [`ADDRESSES_MAX`] a new one is not counted.
pub struct Shares {
    // Open connections of one address; `None`: not counted.
    connections_max: Option<usize>,
    // Refusals of one address that are answered; `None`: all are.
    refusals: Option<Rate>,
    // The tracked addresses; at most `ADDRESSES_MAX`.
    known: BTreeMap<Holder, Known>,
    // Where the next sweep continues.
    swept: Holder,
}

impl Shares {
    /// Bounds the open connections of one address, and its refusals per second; `None`: no bound,
    /// and no cost.
    pub fn new(connections_max: Option<usize>, refusals: Option<Rate>) -> Self {
        Self {
            connections_max,
            refusals,
            known: BTreeMap::new(),
            swept: Holder::FIRST,
        }
    }

    /// Changes both bounds. Connections that came while they were not counted stay so, and no budget of refusals is
    /// refilled.
    pub fn set_limits(&mut self, connections_max: Option<usize>, refusals: Option<Rate>) {
        self.connections_max = connections_max;
        self.refusals = refusals;
    }

    /// Tracked addresses.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether no address is tracked.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Counts an open connection of `holder`: `Err` if it has reached its bound, `Ok(None)` if
    /// connections are not counted.
    pub fn connect(&mut self, holder: Holder, now: Tick) -> Result<Option<Share>, OverShare> {
        let Some(connections_max) = self.connections_max else {
            return Ok(None);
        };
        let Some(known) = self.know(holder, now) else {
            return Ok(None);
        };
        if known.open_count() >= connections_max {
            return Err(OverShare);
        }
        Ok(Some(Share(Arc::clone(&known.open))))
    }

    /// Counts an open connection of `holder` that another process has admitted: also beyond the
    /// bound, which may have been higher there, or spread otherwise.
    pub fn readmit(&mut self, holder: Holder, now: Tick) -> Option<Share> {
        self.connections_max?;
        let known = self.know(holder, now)?;
        Some(Share(Arc::clone(&known.open)))
    }

    /// Counts a refusal of `holder`; returns whether to answer it.
    pub fn refuse(&mut self, holder: Holder, now: Tick) -> bool {
        let Some(rate) = self.refusals else {
            return true;
        };
        let known = self.know(holder, now);
        known.is_none_or(|known| known.refusals.take(rate, now))
    }

    fn know(&mut self, holder: Holder, now: Tick) -> Option<&mut Known> {
        if !self.known.contains_key(&holder) {
            self.sweep(now);
            if self.known.len() >= ADDRESSES_MAX {
                return None;
            }
        }
        Some(self.known.entry(holder).or_default())
    }

    /// Checks a few addresses and drops those without state. Each new address causes a sweep, so
    /// the table holds at most twice the addresses with state, and no sweep takes long.
    fn sweep(&mut self, now: Tick) {
        for _ in 0..SWEPT_AT_ONCE {
            let rest = (Bound::Excluded(self.swept), Bound::Unbounded);
            let Some((holder, known)) = self.known.range(rest).next() else {
                self.swept = Holder::FIRST;
                return;
            };
            let holder = *holder;
            if known.open_count() == 0 && known.refusals.is_fresh(now) {
                self.known.remove(&holder);
            }
            self.swept = holder;
        }
    }
}

/// The address has reached its bound of open connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverShare;

/// One shard's part of a limit for all `shards`: the quotient plus [`ADDRESS_CONNECTIONS_SLACK`],
/// at most the whole. Shards share nothing; the kernel spreads an address's connections by a hash
/// of their ports, never quite evenly.
pub fn part_of(limit: usize, shards: usize) -> usize {
    let part = limit.div_ceil(shards.max(1)) + ADDRESS_CONNECTIONS_SLACK;
    part.min(limit)
}

/// Addresses per sweep; two would keep up with new addresses.
const SWEPT_AT_ONCE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const START: Tick = Tick::from_nanos(5_000_000_000);

    fn holder(number: u32) -> Holder {
        Holder::V4(number.to_be_bytes())
    }

    /// Goal: the share is exact, an ended connection releases its part on any thread, and other
    /// addresses are unaffected.
    #[test]
    fn open_connections_are_counted_while_they_live() {
        let mut shares = Shares::new(Some(3), None);
        let mut open: Vec<_> = (0..3)
            .map(|_| shares.connect(holder(1), START).expect("within its share"))
            .collect();
        assert_eq!(shares.connect(holder(1), START).err(), Some(OverShare));
        assert!(shares.connect(holder(2), START).is_ok());
        let elsewhere = open.pop().expect("three");
        std::thread::spawn(move || drop(elsewhere))
            .join()
            .expect("dropped");
        assert!(shares.connect(holder(1), START).is_ok());
    }

    /// Goal: connections that another process admitted count, and none is refused.
    #[test]
    fn readmitted_connections_count() {
        let mut shares = Shares::new(Some(2), None);
        let readmitted: Vec<_> = (0..3)
            .map(|_| shares.readmit(holder(1), START).expect("counted"))
            .collect();
        assert_eq!(shares.connect(holder(1), START).err(), Some(OverShare));
        drop(readmitted);
        assert!(matches!(shares.connect(holder(1), START), Ok(Some(_))));
        assert!(Shares::new(None, None).readmit(holder(1), START).is_none());
    }

    /// Goal: without limits nothing is counted or kept.
    #[test]
    fn without_limits_nothing_is_known() {
        let mut shares = Shares::new(None, None);
        for number in 0..1000 {
            assert!(matches!(shares.connect(holder(number), START), Ok(None)));
            assert!(shares.refuse(holder(number), START));
        }
        assert!(shares.is_empty());
    }

    /// Goal: refusals beyond the rate are not answered; those of other addresses are.
    #[test]
    fn refusals_have_a_rate_for_each_address() {
        let mut shares = Shares::new(None, Some(Rate::per_second(10)));
        let answered =
            |shares: &mut Shares, now| (0..100).filter(|_| shares.refuse(holder(1), now)).count();
        assert_eq!(answered(&mut shares, START), 10);
        assert!(shares.refuse(holder(2), START));
        assert_eq!(
            answered(&mut shares, START.after(Duration::from_secs(1))),
            10
        );
    }

    /// Goal: other bounds count at once for whoever was counted, refill nothing, and close nothing.
    #[test]
    fn bounds_can_change() {
        let mut shares = Shares::new(None, Some(Rate::per_second(10)));
        let uncounted = shares.connect(holder(1), START).expect("no bound");
        assert!(uncounted.is_none());
        let answered =
            |shares: &mut Shares| (0..100).filter(|_| shares.refuse(holder(1), START)).count();
        assert_eq!(answered(&mut shares), 10);
        shares.set_limits(Some(2), Some(Rate::per_second(20)));
        assert_eq!(answered(&mut shares), 0, "nothing is refilled");
        let _open = [0; 2].map(|_| shares.connect(holder(1), START).expect("within its share"));
        assert!(shares.connect(holder(1), START).is_err());
        shares.set_limits(Some(3), None);
        assert!(shares.connect(holder(1), START).is_ok());
        assert_eq!(answered(&mut shares), 100);
        shares.set_limits(Some(1), None);
        assert!(shares.connect(holder(1), START).is_err());
    }

    /// Goal: addresses without state are dropped, however many there are; those with a connection
    /// stay. Method: a million addresses are refused once each, a thousand a second, while one
    /// keeps a connection.
    #[test]
    fn addresses_are_forgotten() {
        let mut shares = Shares::new(Some(1), Some(Rate::per_second(100)));
        let kept = shares.connect(holder(7), START);
        let mut most = 0;
        for number in 0..1_000_000 {
            let now = START.after(Duration::from_millis(number.into()));
            assert!(shares.refuse(holder(number), now));
            most = most.max(shares.len());
        }
        assert!(most < 5_000, "{most}");
        let later = START.after(Duration::from_secs(1_000));
        assert_eq!(shares.connect(holder(7), later).err(), Some(OverShare));
        drop(kept);
        assert!(shares.connect(holder(7), later).is_ok());
    }

    /// Goal: more addresses than the table holds are not counted, and none is refused for it.
    #[test]
    fn beyond_the_bound_addresses_are_not_counted() {
        let mut shares = Shares::new(Some(1), None);
        let all = u32::try_from(ADDRESSES_MAX).expect("far below 2^32");
        let open: Vec<_> = (0..all + 10)
            .map(|number| shares.connect(holder(number), START))
            .collect();
        assert_eq!(shares.len(), ADDRESSES_MAX);
        assert!(
            open[..ADDRESSES_MAX]
                .iter()
                .all(|share| matches!(share, Ok(Some(_))))
        );
        assert!(
            open[ADDRESSES_MAX..]
                .iter()
                .all(|share| matches!(share, Ok(None)))
        );
    }

    /// Goal: no part exceeds the whole, small limits are not cut into useless parts, and all parts
    /// together are at least the whole.
    #[test]
    fn parts_add_up() {
        for limit in 1..2_000 {
            for shards in 1..70 {
                let part = part_of(limit, shards);
                assert!(part <= limit && part * shards >= limit);
                assert!(part >= limit.min(ADDRESS_CONNECTIONS_SLACK));
            }
        }
    }
}
