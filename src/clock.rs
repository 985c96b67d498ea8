//! The process's clocks, read in one place and handed on as values.
#![expect(clippy::disallowed_methods, reason = "this module reads the clocks")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use uproar_proto::base::clock::{Now, Tick, UnixTime};

/// Reads the wall clock. A clock set before 1970 reads as 1970.
///
/// For work that measures no durations; everything else reads both clocks by [`Clock::now`].
pub fn unix_now() -> UnixTime {
    UnixTime::from_nanos(machine_nanos().saturating_add(WALL_AHEAD.load(Ordering::Relaxed)))
}

fn machine_nanos() -> u64 {
    nanos(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
}

/// How far an emulator's clocks are ahead of the machine's, in nanoseconds; zero under `serve`. Ticks never go back, so
/// theirs stays when the wall clock is [set back](follow_machine).
static TICKS_AHEAD: AtomicU64 = AtomicU64::new(0);
static WALL_AHEAD: AtomicU64 = AtomicU64::new(0);

/// Moves both clocks of this process ahead, for an emulator. Whoever waits for an instant has to be woken, and no shard
/// may take a turn meanwhile: it would take the jump for silence of its clients.
///
/// Returns how far the wall clock is ahead now; `None`, and nothing has changed, if either clock would be further
/// ahead than `most`.
pub(crate) fn advance(by: Duration, most: Duration) -> Option<Duration> {
    let (by, most) = (nanos(by), nanos(most));
    let ticks = TICKS_AHEAD.load(Ordering::Relaxed).checked_add(by)?;
    let wall = WALL_AHEAD.load(Ordering::Relaxed).checked_add(by)?;
    if ticks > most || wall > most {
        return None;
    }
    TICKS_AHEAD.store(ticks, Ordering::Relaxed);
    WALL_AHEAD.store(wall, Ordering::Relaxed);
    Some(Duration::from_nanos(wall))
}

/// How far the wall clock is ahead of the machine's.
pub(crate) fn ahead() -> Duration {
    Duration::from_nanos(WALL_AHEAD.load(Ordering::Relaxed))
}

/// How far ticks are ahead of the machine's clock, in nanoseconds.
pub(crate) fn ticks_ahead() -> u64 {
    TICKS_AHEAD.load(Ordering::Relaxed)
}

/// Sets the wall clock back to the machine's.
pub(crate) fn follow_machine() {
    WALL_AHEAD.store(0, Ordering::Relaxed);
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

    /// Reads both clocks, the wall clock as the machine has it: callers of the API sign by that one, also when an emulator's
    /// is ahead.
    pub fn now_of_callers(&self) -> Now {
        Now {
            tick: self.tick(Instant::now()),
            unix: UnixTime::from_nanos(machine_nanos()),
        }
    }

    /// Returns the time since its start.
    pub fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    /// Converts a tick to an instant, for timers of the runtime.
    pub fn instant(&self, tick: Tick) -> Instant {
        let ahead = HEAD_START + Duration::from_nanos(TICKS_AHEAD.load(Ordering::Relaxed));
        self.start + Duration::from_nanos(tick.nanos()).saturating_sub(ahead)
    }

    fn tick(&self, instant: Instant) -> Tick {
        let since_start = nanos(instant.duration_since(self.start) + HEAD_START);
        Tick::from_nanos(since_start + TICKS_AHEAD.load(Ordering::Relaxed))
    }
}

/// The tick of the start, so that a tick some minutes before the start is not below zero.
const HEAD_START: Duration = Duration::from_hours(1);

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
