//! The rate of log lines, as pure state: time is an argument.

use super::Kind;
use super::metrics::SUPPRESSED;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::limits::LOG_LINE_INTERVAL;

/// Admits one line of each [`Kind`] in each [`LOG_LINE_INTERVAL`], and counts the others. Each thread has its own.
#[derive(Debug)]
pub(crate) struct Limiter {
    kinds: [State; Kind::COUNT],
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    // Nothing is logged before this instant.
    next: Tick,
    // Suppressed since the last line.
    suppressed: u64,
}

/// Suppressed lines that no later line of their kind has reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overdue {
    /// Their kind.
    pub kind: Kind,
    /// Their number.
    pub suppressed: u64,
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            kinds: [State::default(); Kind::COUNT],
        }
    }
}

impl Limiter {
    /// Whether a line of this kind may be written at `now`. `Some(n)`: yes, and it must report that `n` were
    /// suppressed since the last one. `None`: no, and it was counted.
    pub(crate) fn admit(&mut self, kind: Kind, now: Tick) -> Option<u64> {
        let state = &mut self.kinds[kind.index()];
        if now < state.next {
            state.suppressed += 1;
            SUPPRESSED.inc(kind);
            return None;
        }
        state.next = now.after(LOG_LINE_INTERVAL);
        Some(std::mem::take(&mut state.suppressed))
    }

    /// Suppressed lines that no line has reported for a whole interval. Call it about once in each interval, and log
    /// them.
    ///
    /// It does not use the kind's next line: that stays free for the next event, which has an address or name to
    /// report. If it used it, a steady flood whose events come a little later than these calls would never be logged
    /// with a name.
    pub(crate) fn overdue(&mut self, now: Tick) -> impl Iterator<Item = Overdue> {
        let kinds = Kind::ALL.iter().zip(&mut self.kinds);
        kinds.filter_map(move |(kind, state)| {
            if state.suppressed == 0 || now < state.next.after(LOG_LINE_INTERVAL) {
                return None;
            }
            Some(Overdue {
                kind: *kind,
                suppressed: std::mem::take(&mut state.suppressed),
            })
        })
    }
}

impl Overdue {
    /// Logs the number of suppressed lines.
    pub(crate) fn log(self) {
        let Self { kind, suppressed } = self;
        tracing::warn!(
            kind = kind.label(),
            suppressed,
            "more log lines of this kind were left out"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Tick {
        Tick::from_nanos(millis * 1_000_000)
    }

    /// Goal: a flood causes a handful of lines, and every event is counted in one of them. Method: 5,000 events of
    /// one kind in ten seconds; add up the counts of the lines.
    #[test]
    fn a_flood_is_a_line_a_second_and_nothing_is_forgotten() {
        let mut limiter = Limiter::default();
        let (mut lines, mut counted) = (0, 0);
        for event in 0..5_000 {
            if let Some(suppressed) = limiter.admit(Kind::HandshakeUsedToken, at(1_000 + event * 2))
            {
                lines += 1;
                counted += suppressed + 1;
            }
        }
        for overdue in limiter.overdue(at(20_000)) {
            assert_eq!(overdue.kind, Kind::HandshakeUsedToken);
            lines += 1;
            counted += overdue.suppressed;
        }
        assert_eq!((lines, counted), (11, 5_000));
        assert_eq!(limiter.overdue(at(60_000)).count(), 0);
    }

    /// Goal: a flood of one kind hides no other.
    #[test]
    fn kinds_do_not_share_their_rate() {
        let mut limiter = Limiter::default();
        for _ in 0..100 {
            let _first = limiter.admit(Kind::HandshakeMalformed, at(5_000));
        }
        for kind in Kind::ALL {
            let first = *kind != Kind::HandshakeMalformed;
            assert_eq!(limiter.admit(*kind, at(5_000)).is_some(), first, "{kind:?}");
        }
    }

    proptest! {
        /// Goal: for any events, no two lines with a name are closer than the interval, a line without one comes a
        /// whole interval after it at the earliest, and all counts add up to the events.
        #[test]
        fn lines_keep_their_distance(steps in proptest::collection::vec((0_usize..3, 0_u64..700, any::<bool>()), 0..200)) {
            let mut limiter = Limiter::default();
            let (mut now, mut events, mut reported) = (1_000, [0_u64; 3], [0_u64; 3]);
            let mut last = [None::<u64>; 3];
            for (index, wait, flush) in steps {
                now += wait;
                let since = |last: Option<u64>| last.map(|last| Duration::from_millis(now - last));
                if flush {
                    for overdue in limiter.overdue(at(now)) {
                        let index = overdue.kind as usize;
                        prop_assert!(since(last[index]) >= Some(2 * LOG_LINE_INTERVAL));
                        reported[index] += overdue.suppressed;
                    }
                }
                events[index] += 1;
                let due = since(last[index]).is_none_or(|since| since >= LOG_LINE_INTERVAL);
                let admitted = limiter.admit(Kind::ALL[index], at(now));
                prop_assert_eq!(admitted.is_some(), due, "an event may log as soon as the interval is over");
                if let Some(suppressed) = admitted {
                    last[index] = Some(now);
                    reported[index] += suppressed + 1;
                }
            }
            for overdue in limiter.overdue(at(now + 10_000)) {
                reported[overdue.kind as usize] += overdue.suppressed;
            }
            prop_assert_eq!(events, reported);
        }
    }
}
