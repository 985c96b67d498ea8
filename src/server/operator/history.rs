//! How the server has done in the last minutes: a bounded ring of samples, so that a page that has just been opened
//! shows what was before.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::control::Control;
use crate::server::process_metrics::resident_bytes;
use crate::shard::metrics::{Figure, ShardMetrics, fanout};
use crate::shard::times::Observed;
use uproar_proto::base::limits::{HISTORY_INTERVAL, HISTORY_SAMPLES_MAX};

/// The columns of a sample. Rates are a second, loads thousandths of a core, times of fan-out null if nothing was said.
const COLUMNS: [&str; 15] = [
    "unix_ms",
    "viewers",
    "received",
    "delivered",
    "opened",
    "closed",
    "refused",
    "shed",
    "bytes_received",
    "bytes_sent",
    "fanout_p50_us",
    "fanout_p99_us",
    "load_mean",
    "load_max",
    "resident",
];

type Sample = [Option<u64>; COLUMNS.len()];

/// The ring.
#[derive(Default)]
pub(in crate::server) struct History {
    samples: RefCell<VecDeque<Sample>>,
    // How many were ever taken: the number of the newest one.
    taken: std::cell::Cell<u32>,
}

/// Totals at an instant.
struct Look {
    at: Instant,
    totals: [u64; 8],
    fanout: Observed,
    cpu_nanos: Vec<u64>,
}

impl History {
    /// Samples from now on, for as long as the runtime lives.
    pub(in crate::server) fn start(
        control: &Rc<Control>,
        shards: &[Arc<ShardMetrics>],
    ) -> Rc<Self> {
        let history = Rc::new(Self::default());
        let (own, control, shards) = (Rc::clone(&history), Rc::clone(control), shards.to_vec());
        tokio::task::spawn_local(async move { own.run(&control, &shards).await });
        history
    }

    async fn run(&self, control: &Control, shards: &[Arc<ShardMetrics>]) -> Infallible {
        let mut before = Look::take(shards);
        loop {
            sleep(HISTORY_INTERVAL).await;
            let now = Look::take(shards);
            self.keep(now.sample(&before, control.unix_ms(), open(shards)));
            before = now;
        }
    }

    fn keep(&self, sample: Sample) {
        let mut samples = self.samples.borrow_mut();
        if samples.len() >= HISTORY_SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(sample);
        self.taken.set(self.taken.get().wrapping_add(1));
    }

    /// Tells the samples behind the one of number `after`, all if that one is not of this process.
    pub(super) fn tell(&self, after: Option<u32>) -> Value {
        let (samples, taken) = (self.samples.borrow(), self.taken.get());
        let known = after.filter(|after| *after <= taken);
        let new = known.map_or(samples.len(), |after| {
            usize::try_from(taken - after).unwrap_or(usize::MAX)
        });
        let skipped = samples.len().saturating_sub(new);
        json!({
            "every_ms": u64::try_from(HISTORY_INTERVAL.as_millis()).unwrap_or(u64::MAX),
            "samples_max": HISTORY_SAMPLES_MAX,
            "last": taken,
            "is_whole": known.is_none(),
            "columns": COLUMNS,
            "samples": samples.iter().skip(skipped).collect::<Vec<_>>(),
        })
    }
}

fn sum(shards: &[Arc<ShardMetrics>], figure: fn(&ShardMetrics) -> &Figure) -> u64 {
    shards.iter().map(|shard| figure(shard).get()).sum()
}

fn open(shards: &[Arc<ShardMetrics>]) -> u64 {
    sum(shards, |shard| &shard.open)
}

impl Look {
    fn take(shards: &[Arc<ShardMetrics>]) -> Self {
        let totals = super::stats::totals(shards);
        Self {
            at: Instant::now(),
            totals: [
                totals.received,
                totals.delivered,
                totals.opened,
                totals.closed,
                totals.refused,
                totals.shed,
                totals.bytes_received,
                totals.bytes_sent,
            ],
            fanout: fanout(shards),
            cpu_nanos: shards.iter().map(|shard| shard.cpu_nanos.get()).collect(),
        }
    }

    fn sample(&self, before: &Self, unix_ms: u64, viewers: u64) -> Sample {
        let passed = self
            .at
            .saturating_duration_since(before.at)
            .max(Duration::from_millis(1));
        let per = |grown: u64, unit: Duration| -> u64 {
            let nanos = u128::from(grown) * unit.as_nanos() / passed.as_nanos();
            u64::try_from(nanos).unwrap_or(u64::MAX)
        };
        let mut sample: Sample = [None; COLUMNS.len()];
        sample[0] = Some(unix_ms);
        sample[1] = Some(viewers);
        for (place, (now, before)) in self.totals.iter().zip(&before.totals).enumerate() {
            sample[2 + place] = Some(per(now.saturating_sub(*before), Duration::from_secs(1)));
        }
        let grown = self.fanout.since(&before.fanout);
        for (place, thousandths) in [(10, 500), (11, 990)] {
            let time = grown.quantile(thousandths);
            sample[place] = time.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        }
        // Nanoseconds of work in a nanosecond, in thousandths.
        let loads = self.cpu_nanos.iter().zip(&before.cpu_nanos);
        let loads = loads.map(|(now, before)| {
            per(now.saturating_sub(*before), Duration::from_micros(1)).min(1000)
        });
        let loads: Vec<u64> = loads.collect();
        let count = u64::try_from(loads.len()).unwrap_or(1).max(1);
        sample[12] = Some(loads.iter().sum::<u64>() / count);
        sample[13] = loads.iter().max().copied();
        sample[14] = Some(resident_bytes());
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: Instant, delivered: u64, cpu_ms: u64) -> Look {
        Look {
            at,
            totals: [0, delivered, 0, 0, 0, 0, 0, 0],
            fanout: Observed::default(),
            cpu_nanos: vec![cpu_ms * 1_000_000, 0],
        }
    }

    /// Goal: rates are by the time that has passed, whenever the task had its turn; loads are shares of a core.
    #[test]
    fn samples_are_rates() {
        let start = Instant::now();
        let before = look(start, 100, 0);
        let sample = look(start + Duration::from_secs(10), 1100, 5000).sample(&before, 7, 3);
        assert_eq!(
            (sample[0], sample[1], sample[3]),
            (Some(7), Some(3), Some(100))
        );
        assert_eq!((sample[12], sample[13]), (Some(250), Some(500)));
        assert_eq!((sample[10], sample[11]), (None, None), "nothing was said");
        // Two looks in one instant.
        assert_eq!(look(start, 100, 0).sample(&before, 7, 3)[3], Some(0));
    }

    /// Goal: the ring is bounded, who knows some samples gets the others, and who knows one of another process gets
    /// all; the largest answer fits a message of the admin socket.
    #[test]
    fn a_reader_gets_what_is_new() {
        let history = History::default();
        let samples = |after| {
            let told = history.tell(after);
            (
                told["samples"].as_array().expect("a list").len(),
                told["last"].as_u64().expect("a number"),
                told["is_whole"] == true,
            )
        };
        assert_eq!(samples(None), (0, 0, true));
        for _ in 0..HISTORY_SAMPLES_MAX + 20 {
            history.keep([Some(u64::MAX); COLUMNS.len()]);
        }
        assert_eq!(samples(None), (180, 200, true));
        assert_eq!(samples(Some(200)), (0, 200, false));
        assert_eq!(samples(Some(198)), (2, 200, false));
        assert_eq!(samples(Some(3)), (180, 200, false));
        assert_eq!(samples(Some(201)), (180, 200, true), "of another process");
        let bytes = history.tell(None).to_string().len();
        assert!(
            bytes < uproar_proto::base::limits::ADMIN_MESSAGE_BYTES_MAX,
            "{bytes}"
        );
    }
}
