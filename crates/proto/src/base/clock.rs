//! Time as a value. Pure code receives a [`Now`]; only `shard`, `server` and `control` read clocks.

use std::time::Duration;

/// Monotonic nanoseconds since an arbitrary start. Durations and deadlines are measured with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(u64);

impl Tick {
    /// From nanoseconds since the arbitrary start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the arbitrary start.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// This instant moved later by `by`, saturating.
    #[must_use]
    pub const fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos_of(by)))
    }

    /// Time from `earlier` until this instant; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// What is added to ticks of another process to get ticks of this one: both count the same clock,
/// from different starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shift(i64);

impl Shift {
    /// The shift from ticks that count from `theirs` to ticks that count from `ours`, both in
    /// nanoseconds of one clock, modulo 2^64.
    pub const fn between(theirs: u64, ours: u64) -> Self {
        Self(theirs.wrapping_sub(ours).cast_signed())
    }

    /// The tick of this process that is `nanos` of the other one, saturating. "Never" stays so.
    pub const fn tick(self, nanos: u64) -> Tick {
        if nanos == u64::MAX {
            Tick(nanos)
        } else {
            Tick(nanos.saturating_add_signed(self.0))
        }
    }
}

/// Wall-clock nanoseconds since the Unix epoch, UTC. Only for values that leave the server or are
/// sealed: `SendTime`, token expiry, session end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixTime(u64);

impl UnixTime {
    /// From nanoseconds since the epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// From whole seconds since the epoch, saturating.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// From whole milliseconds since the epoch, saturating.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the epoch, rounded down.
    pub const fn millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// This time moved later by `by`, saturating.
    #[must_use]
    pub const fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos_of(by)))
    }

    /// This time in the calendar, UTC. Every value has one: the last is in the year 2554.
    pub fn timestamp(self) -> jiff::Timestamp {
        let found = jiff::Timestamp::from_nanosecond(i128::from(self.0));
        found.expect("jiff's calendar ends in the year 9999")
    }

    /// RFC 3339 to the second, rounded down, as in `2025-08-14T05:48:40Z`.
    pub fn rfc3339(self) -> String {
        Self::from_secs(self.secs()).timestamp().to_string()
    }

    /// Time from `earlier` until this time; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// One reading of both clocks. Read once per loop turn and handed down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic.
    pub tick: Tick,
    /// Wall clock.
    pub unix: UnixTime,
}

#[expect(clippy::as_conversions, reason = "u64::from is not const")]
const fn nanos_of(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(duration.subsec_nanos() as u64)
}
