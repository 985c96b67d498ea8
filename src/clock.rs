//! The process's clocks, read in one place and handed on as values.
#![expect(clippy::disallowed_methods, reason = "this module reads the clocks")]

use std::time::{Duration, Instant, SystemTime};

use uproar_proto::base::clock::{Now, Tick, UnixTime};

/// Reads the wall clock. A clock set before 1970 reads as 1970.
///
/// For work that measures no durations; everything else reads both clocks by [`Clock::now`].
pub fn unix_now() -> UnixTime {
    UnixTime::from_nanos(nanos(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()))
}

/// Reads the machine's monotonic clock, which other processes read too, in microseconds.
pub(crate) fn monotonic_micros() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Duration::try_from(now).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// Reads the monotonic and the wall clock. There is one for the whole process, so that ticks of different threads
/// compare.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    // The instant of the tick HEAD_START.
    start: Instant,
}

impl Clock {
    /// Starts the clock; ticks count from here.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Returns the instant from which ticks count, in nanoseconds of `CLOCK_MONOTONIC`, modulo 2^64: it may lie before the
    /// machine's start. Another process on this machine converts ticks by
    /// [`Shift::between`](uproar_proto::base::clock::Shift::between). The two clocks are read one after the other, so it is
    /// off by as much, a microsecond or so.
    pub fn epoch_nanos(&self) -> u64 {
        let reading = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let seconds = u64::try_from(reading.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(reading.tv_nsec).unwrap_or(0);
        let reading = seconds * 1_000_000_000 + nanos;
        reading.wrapping_sub(self.tick(Instant::now()).nanos())
    }

    /// Reads both clocks.
    pub fn now(&self) -> Now {
        Now {
            tick: self.tick(Instant::now()),
            unix: unix_now(),
        }
    }

    /// Returns the time since its start.
    pub fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    /// Converts a tick to an instant, for timers of the runtime.
    pub fn instant(&self, tick: Tick) -> Instant {
        self.start + Duration::from_nanos(tick.nanos()).saturating_sub(HEAD_START)
    }

    fn tick(&self, instant: Instant) -> Tick {
        Tick::from_nanos(nanos(instant.duration_since(self.start) + HEAD_START))
    }
}

/// The tick of the start, so that a tick some minutes before the start is not below zero.
const HEAD_START: Duration = Duration::from_hours(1);

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
