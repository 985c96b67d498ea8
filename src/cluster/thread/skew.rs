//! How far this machine's clock is from the brokers', by the time stamps that they put on records.
//!
//! A record is read here some time after it was stamped, so each one says at most how far our clock is ahead; of many the
//! least is near the truth. Each stream is stamped by its leader, and leaders are spread over the brokers: the median of the
//! streams is right though one broker's clock is wrong.

use crate::cluster::names::{PARTS, part_of};
use uproar_proto::base::clock::{Now, Tick};
use uproar_proto::base::limits::CLUSTER_SKEW_WINDOW;
use uproar_proto::cluster::HashSlot;

const _: () = assert!(PARTS == 8);

/// The least lag of each stream, in this window and the one before it.
#[derive(Debug, Clone, Default)]
pub(super) struct Skew {
    streams: [Stream; 8],
    newest: i64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Stream {
    begun: Tick,
    least: Option<i64>,
    before: Option<i64>,
}

impl Skew {
    /// Takes the time stamp of a record that is read now, as RFC 3339 has it.
    pub(super) fn observe(&mut self, slot: HashSlot, stamp: &str, now: Now) {
        let Ok(stamp) = stamp.parse::<jiff::Timestamp>() else {
            return;
        };
        let lag = i128::from(now.unix.nanos()) - stamp.as_nanosecond();
        let lag = i64::try_from(lag).unwrap_or(if lag < 0 { i64::MIN } else { i64::MAX });
        self.newest = lag;
        self.streams[usize::from(part_of(slot))].observe(lag, now.tick);
    }

    /// Our clock minus theirs, in nanoseconds; 0 while nothing is known.
    pub(super) fn nanos(&self, now: Tick) -> i64 {
        let known = self.streams.iter().filter_map(|stream| stream.least(now));
        let mut known: Vec<i64> = known.collect();
        known.sort_unstable();
        known.get(known.len() / 2).copied().unwrap_or(0)
    }

    /// How much later than it was stamped the newest record was read, the clocks' difference left out.
    pub(super) fn lag(&self, now: Tick) -> std::time::Duration {
        let lag = self.newest.saturating_sub(self.nanos(now));
        std::time::Duration::from_nanos(lag.max(0).unsigned_abs())
    }
}

impl Stream {
    fn observe(&mut self, lag: i64, now: Tick) {
        if now.since(self.begun) >= CLUSTER_SKEW_WINDOW {
            *self = Self {
                begun: now,
                before: self.least,
                least: None,
            };
        }
        self.least = Some(self.least.map_or(lag, |least| least.min(lag)));
    }

    fn least(&self, now: Tick) -> Option<i64> {
        // What is older than two windows says nothing.
        if now.since(self.begun) >= CLUSTER_SKEW_WINDOW * 2 {
            return None;
        }
        self.least.into_iter().chain(self.before).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use uproar_proto::base::clock::UnixTime;

    fn now(at_ms: u64, ahead_ms: u64) -> Now {
        Now {
            tick: Tick::default().after(Duration::from_millis(1_000_000 + at_ms)),
            unix: UnixTime::from_millis(1_000_000_000_000 + at_ms + ahead_ms),
        }
    }

    fn stamp(at_ms: i64) -> String {
        let stamp = jiff::Timestamp::from_millisecond(1_000_000_000_000 + at_ms);
        stamp.expect("a time").to_string()
    }

    /// Goal: lag is not taken for skew, one broker's wrong clock not for ours, and old observations are forgotten.
    #[test]
    fn skew_is_the_median_of_the_least_lags() {
        let mut skew = Skew::default();
        assert_eq!(skew.nanos(now(0, 0).tick), 0);
        // Each stream's records are late by 3 ms to 12 s; those of two streams are stamped an hour ahead.
        for slot in HashSlot::all() {
            for late in [12_000, 3, 700] {
                let wrong = if part_of(slot) < 2 { 3_600_000 } else { 0 };
                skew.observe(slot, &stamp(20_000 - late + wrong), now(20_000, 5_000));
            }
        }
        assert_eq!(skew.nanos(now(20_000, 0).tick), 5_003_000_000);
        assert_eq!(
            skew.nanos(now(60_000, 0).tick),
            0,
            "too old to say anything"
        );
        skew.observe(HashSlot::new(7), "not a time", now(61_000, 0));
        assert_eq!(skew.nanos(now(61_000, 0).tick), 0);
    }
}
