//! The connections between one node and the brokers.

use std::time::Duration;

use uproar_proto::base::clock::Tick;

/// How a node and its brokers do not reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// What is sent is lost, both ways.
    Lost,
    /// What is sent arrives when it is over, both ways.
    Held,
    /// What the node sends is lost.
    Mute,
}

/// What comes from the brokers in order: a connection each.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lane {
    /// Republished records.
    Records,
    /// Acks, answers to reads, messages, heartbeats.
    Rest,
}

/// A node's connections. What is sent on one of them arrives in its order.
#[derive(Debug, Default)]
pub(super) struct Link {
    cut: Option<(Cut, Tick, Tick)>,
    up: Tick,
    down: [Tick; 2],
}

/// Brokers notice within this time that a connection is gone, and have no subscriber any more.
const NOTICED: Duration = Duration::from_secs(2);

impl Link {
    /// Cuts the connections from now until then.
    pub(super) fn cut(&mut self, cut: Cut, now: Tick, until: Tick) {
        self.cut = Some((cut, now, until));
    }

    /// Ends a cut.
    pub(super) fn heal(&mut self, now: Tick) {
        self.cut = self
            .cut
            .map(|(cut, from, until)| (cut, from, until.min(now)));
    }

    fn current(&self, now: Tick) -> Option<(Cut, Tick, Tick)> {
        self.cut.filter(|(_, _, until)| now < *until)
    }

    /// Whether nothing is cut.
    pub(super) fn is_whole(&self, now: Tick) -> bool {
        self.current(now).is_none()
    }

    /// Whether brokers have no subscriber for the node any more.
    pub(super) fn is_noticed(&self, now: Tick) -> bool {
        let cut = self.current(now);
        cut.is_some_and(|(cut, from, _)| cut != Cut::Held && now.since(from) > NOTICED)
    }

    /// When brokers get what the node sends now. `None`: never.
    pub(super) fn up(&mut self, now: Tick, delay: Duration) -> Option<Tick> {
        let cut = self.current(now);
        arrival(&mut self.up, cut, now.after(delay), |cut| cut != Cut::Held)
    }

    /// When the node gets what brokers send it now. `None`: never.
    pub(super) fn down(&mut self, lane: Lane, now: Tick, delay: Duration) -> Option<Tick> {
        let cut = self.current(now).filter(|(cut, ..)| *cut != Cut::Mute);
        arrival(
            &mut self.down[lane as usize],
            cut,
            now.after(delay),
            |cut| cut == Cut::Lost,
        )
    }
}

fn arrival(
    last: &mut Tick,
    cut: Option<(Cut, Tick, Tick)>,
    at: Tick,
    is_lost: impl Fn(Cut) -> bool,
) -> Option<Tick> {
    let at = match cut {
        Some((cut, ..)) if is_lost(cut) => return None,
        Some((_, _, until)) => at.max(until),
        None => at,
    };
    *last = at.max(*last);
    Some(*last)
}
