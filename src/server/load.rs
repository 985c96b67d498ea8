//! How busy each shard's core is: CPU time of its thread by time, looked at every few seconds.

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

/// The shards' load.
pub(super) struct Loads {
    shards: Vec<Arc<ShardMetrics>>,
    // Of each shard: the share of the last interval in which it had a core.
    busy: RefCell<Vec<f64>>,
}

impl Loads {
    /// Looks from now on, for as long as the runtime lives.
    pub(super) fn start(shards: &[Arc<ShardMetrics>]) -> Rc<Self> {
        let loads = Rc::new(Self {
            shards: shards.to_vec(),
            busy: RefCell::new(vec![0.0; shards.len()]),
        });
        let looking = Rc::clone(&loads);
        tokio::task::spawn_local(async move { looking.run().await });
        loads
    }

    /// Looks, for as long as the server runs.
    async fn run(&self) -> Infallible {
        let mut before: Vec<u64> = self.spent();
        let mut looked = Instant::now();
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
    }
}

const SPENT: Family = Family::counter(
    "uproar_shard_cpu_seconds_total",
    "CPU time of a shard's thread, in seconds.",
);
const BUSY: Family = Family::gauge(
    "uproar_core_busy_ratio",
    "Share of the last five seconds in which a shard's thread had a core.",
);
