//! How long turns take, by the readings of the clock that they begin with.

use super::figure::Peak;
use crate::clock;
use uproar_proto::base::clock::Tick;

/// Times a shard's turns: each one lasts until the next one, or until the shard has nothing to do and waits. Handshakes that run
/// in between belong to it: what has arrived waits for them as well.
#[derive(Debug, Default)]
pub(super) struct TurnTimer {
    // When the turn began, and how far an emulator's clock was ahead then.
    began: Option<(Tick, u64)>,
}

impl TurnTimer {
    /// A turn begins at `now`, so the one before is over.
    pub(super) fn begin(&mut self, now: Tick, longest: &Peak) {
        self.end(now, longest);
        self.began = Some((now, clock::ticks_ahead()));
    }

    /// The shard waits from `now` on.
    pub(super) fn end(&mut self, now: Tick, longest: &Peak) {
        // A clock that was turned meanwhile tells no time.
        if let Some((began, ahead)) = self.began.take()
            && ahead == clock::ticks_ahead()
        {
            longest.raise(now.nanos().saturating_sub(began.nanos()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: turns are timed, and nothing else. Method: two turns, a wait, a turn; the longest of each of the reader's times.
    #[test]
    fn turns_are_timed_and_waits_are_not() {
        let (mut timer, longest) = (TurnTimer::default(), Peak::default());
        let at = Tick::from_nanos;
        timer.end(at(5), &longest);
        assert_eq!(longest.take(), 0);
        timer.begin(at(10), &longest);
        timer.begin(at(17), &longest);
        timer.end(at(20), &longest);
        assert_eq!((longest.get(), longest.take(), longest.take()), (7, 7, 0));
        timer.begin(at(900), &longest);
        assert_eq!(longest.get(), 0);
        timer.end(at(904), &longest);
        timer.end(at(999), &longest);
        assert_eq!(longest.take(), 4);
    }
}
