//! How busy each shard's core is: CPU time of its thread by time, and its longest turn, looked at every few seconds.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::exposition::{Exposition, Family};
use crate::shard::metrics::ShardMetrics;

/// Interval of the looks: short enough for an alert, long enough to be steady.
const INTERVAL: Duration = Duration::from_secs(5);
/// Looks that a longest turn is shown for: a minute, so that each scrape sees it however many there are and whoever makes them.
const LOOKS: usize = 12;

/// The shards' load.
pub(super) struct Loads {
    shards: Vec<Arc<ShardMetrics>>,
    // Of each shard: the share of the last interval in which it had a core.
    busy: RefCell<Vec<f64>>,
    // Of each shard: the longest turns before each of the last looks, in nanoseconds, in no order.
    longest: RefCell<Vec<[u64; LOOKS]>>,
}

impl Loads {
    /// Looks from now on, for as long as the runtime lives.
    pub(super) fn start(shards: &[Arc<ShardMetrics>]) -> Rc<Self> {
        let loads = Rc::new(Self {
            shards: shards.to_vec(),
            busy: RefCell::new(vec![0.0; shards.len()]),
            longest: RefCell::new(vec![[0; LOOKS]; shards.len()]),
        });
        let looking = Rc::clone(&loads);
        tokio::task::spawn_local(async move { looking.run().await });
        loads
    }

    /// Looks, for as long as the server runs.
    async fn run(&self) -> Infallible {
        let mut before: Vec<u64> = self.spent();
        let mut looked = Instant::now();
        let mut look = 0;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let (spent, now) = (self.spent(), Instant::now());
            let passed = (now - looked).as_secs_f64();
            let busy = spent.iter().zip(&before).map(|(now, before)| {
                let worked = Duration::from_nanos(now.saturating_sub(*before));
                (worked.as_secs_f64() / passed).min(1.0)
            });
            self.busy.replace(busy.collect());
            (before, looked) = (spent, now);
            self.note_longest(look);
            look = (look + 1) % LOOKS;
        }
    }

    /// Notes the longest turns since the last look in place of those of a minute ago.
    fn note_longest(&self, look: usize) {
        for (shard, longest) in self.shards.iter().zip(self.longest.borrow_mut().iter_mut()) {
            longest[look] = shard.longest_turn.take();
        }
    }

    /// The longest turn of each shard within the last minute.
    fn longest(&self) -> Vec<Duration> {
        let before = self.longest.borrow();
        let shards = self.shards.iter().zip(before.iter());
        let longest = shards.map(|(shard, before)| {
            let since = shard.longest_turn.get();
            before.iter().fold(since, |longest, one| longest.max(*one))
        });
        longest.map(Duration::from_nanos).collect()
    }

    fn spent(&self) -> Vec<u64> {
        let nanos = |shard: &Arc<ShardMetrics>| shard.cpu_nanos.get();
        self.shards.iter().map(nanos).collect()
    }

    /// Adds it to `/metrics`.
    pub(super) fn render(&self, page: &mut Exposition) {
        let mut spent = page.family(&SPENT);
        for (shard, nanos) in self.spent().into_iter().enumerate() {
            let seconds = Duration::from_nanos(nanos).as_secs_f64();
            spent.add(&[("shard", &shard.to_string())], seconds);
        }
        let mut busy = page.family(&BUSY);
        for (shard, ratio) in self.busy.borrow().iter().enumerate() {
            busy.add(&[("shard", &shard.to_string())], ratio);
        }
        let mut turns = page.family(&LONGEST_TURN);
        for (shard, longest) in self.longest().into_iter().enumerate() {
            turns.add(&[("shard", &shard.to_string())], longest.as_secs_f64());
        }
    }
}

const SPENT: Family = Family::counter(
    "uproar_shard_cpu_seconds_total",
    "CPU time of a shard's thread, in seconds.",
);
const LONGEST_TURN: Family = Family::gauge(
    "uproar_shard_turn_seconds_max",
    "Longest turn of a shard's loop within the last minute, in seconds.",
);
const BUSY: Family = Family::gauge(
    "uproar_core_busy_ratio",
    "Share of the last five seconds in which a shard's thread had a core.",
);

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a longest turn is shown at once, for a minute, however often somebody looks. Method: turns of two shards, and looks
    /// without waiting.
    #[test]
    fn a_longest_turn_is_shown_for_a_minute() {
        let shards = [Arc::default(), Arc::<ShardMetrics>::default()];
        let loads = Loads {
            shards: shards.to_vec(),
            busy: RefCell::default(),
            longest: RefCell::new(vec![[0; LOOKS]; 2]),
        };
        let shown = || {
            loads
                .longest()
                .iter()
                .map(Duration::as_nanos)
                .collect::<Vec<_>>()
        };
        assert_eq!(shown(), [0, 0]);
        shards[0].longest_turn.raise(70);
        shards[0].longest_turn.raise(60);
        for look in 0..LOOKS {
            assert_eq!((shown(), shown()), (vec![70, 0], vec![70, 0]), "{look}");
            loads.note_longest(look);
        }
        shards[1].longest_turn.raise(5);
        assert_eq!(shown(), [70, 5]);
        loads.note_longest(0);
        assert_eq!(shown(), [0, 5]);
    }
}
