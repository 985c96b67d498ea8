//! How busy each shard is: CPU time of its thread by time, its longest turn and its deepest mailbox, looked at every few seconds.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::exposition::{Exposition, Family};
use crate::shard::metrics::{Peak, ShardMetrics};

/// Interval of the looks: short enough for an alert, long enough to be steady.
const INTERVAL: Duration = Duration::from_secs(5);
/// Looks that a peak is shown for: a minute, so that each scrape sees it however many there are and whoever makes them.
const LOOKS: usize = 12;

/// The shards' load.
pub(super) struct Loads {
    shards: Vec<Arc<ShardMetrics>>,
    // Of each shard: the share of the last interval in which it had a core.
    busy: RefCell<Vec<f64>>,
    // Of each shard: its longest turns in nanoseconds, and its mailboxes' greatest depths.
    turns: Peaks,
    depths: Peaks,
}

/// A peak of each shard within the last minute.
struct Peaks {
    of: fn(&ShardMetrics) -> &Peak,
    // Of each shard: those before each of the last looks, in no order.
    before: RefCell<Vec<[u64; LOOKS]>>,
}

impl Peaks {
    fn new(shards: usize, of: fn(&ShardMetrics) -> &Peak) -> Self {
        let before = RefCell::new(vec![[0; LOOKS]; shards]);
        Self { of, before }
    }

    /// Notes the peaks since the last look in place of those of a minute ago.
    fn look(&self, look: usize, shards: &[Arc<ShardMetrics>]) {
        for (shard, before) in shards.iter().zip(self.before.borrow_mut().iter_mut()) {
            before[look] = (self.of)(shard).take();
        }
    }

    /// Those of the last minute.
    fn shown(&self, shards: &[Arc<ShardMetrics>]) -> Vec<u64> {
        let before = self.before.borrow();
        let shards = shards.iter().zip(before.iter());
        let shown = shards.map(|(shard, before)| {
            let since = (self.of)(shard).get();
            before.iter().fold(since, |peak, one| peak.max(*one))
        });
        shown.collect()
    }
}

impl Loads {
    /// Looks from now on, for as long as the runtime lives.
    pub(super) fn start(shards: &[Arc<ShardMetrics>]) -> Rc<Self> {
        let loads = Rc::new(Self {
            shards: shards.to_vec(),
            busy: RefCell::new(vec![0.0; shards.len()]),
            turns: Peaks::new(shards.len(), |shard| &shard.longest_turn),
            depths: Peaks::new(shards.len(), |shard| &shard.mailbox_depth),
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
            self.turns.look(look, &self.shards);
            self.depths.look(look, &self.shards);
            look = (look + 1) % LOOKS;
        }
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
        for (shard, longest) in self.turns.shown(&self.shards).into_iter().enumerate() {
            let seconds = Duration::from_nanos(longest).as_secs_f64();
            turns.add(&[("shard", &shard.to_string())], seconds);
        }
        let mut depths = page.family(&DEPTH);
        for (shard, depth) in self.depths.shown(&self.shards).into_iter().enumerate() {
            depths.add(&[("shard", &shard.to_string())], depth);
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
const DEPTH: Family = Family::gauge(
    "uproar_mailbox_depth_max",
    "Most items that waited in a shard's mailboxes when one of its turns began, within the last minute.",
);
const BUSY: Family = Family::gauge(
    "uproar_core_busy_ratio",
    "Share of the last five seconds in which a shard's thread had a core.",
);

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a peak is shown at once, for a minute, however often somebody looks. Method: turns of two shards, and looks without
    /// waiting.
    #[test]
    fn a_peak_is_shown_for_a_minute() {
        let shards = [Arc::default(), Arc::<ShardMetrics>::default()];
        let peaks = Peaks::new(2, |shard| &shard.longest_turn);
        let shown = || peaks.shown(&shards);
        assert_eq!(shown(), [0, 0]);
        shards[0].longest_turn.raise(70);
        shards[0].longest_turn.raise(60);
        for look in 0..LOOKS {
            assert_eq!((shown(), shown()), (vec![70, 0], vec![70, 0]), "{look}");
            peaks.look(look, &shards);
        }
        shards[1].longest_turn.raise(5);
        assert_eq!(shown(), [70, 5]);
        peaks.look(0, &shards);
        assert_eq!(shown(), [0, 5]);
    }
}
