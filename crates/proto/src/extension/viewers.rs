//! How many are in a room: counted on its home shard, summed over the nodes of a cluster, and told now and then.
//!
//! Owns: the counts of one room. Never: members, sockets, clocks.

use std::time::Duration;

use crate::base::clock::{Tick, UnixTime};
use crate::base::limits::{
    VIEWERS_FORGOTTEN, VIEWERS_HEAD_START_MAX, VIEWERS_LARGE, VIEWERS_LARGE_PAUSE,
    VIEWERS_REPORT_PAUSE, VIEWERS_VAST, VIEWERS_VAST_PAUSE,
};

/// `EventName` of the number of viewers.
pub const VIEWERS: &str = "uproar:viewers";

/// What one server counts of a room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Connections that are not hidden.
    pub viewers: u32,
    /// All connections.
    pub connections: u32,
    /// Viewers that have come, whether or not they have left again.
    pub joined: u64,
    /// The most viewers at once, of all servers.
    pub peak: u32,
    /// When that was first so.
    pub peak_at: UnixTime,
}

/// The viewers of a room on all servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Audience {
    /// Connections that are not hidden.
    pub viewers: u64,
    /// All connections.
    pub connections: u64,
    /// The most viewers at once, as far as the servers know.
    pub peak: u64,
    /// When that was first so.
    pub peak_at: UnixTime,
}

/// What members are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Viewers now.
    pub count: u64,
    /// The most at once.
    pub peak: u64,
    /// Those that came since members were told last.
    pub joined: u64,
    /// Those that left since then.
    pub left: u64,
}

/// How members would get the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By a send of its own to each of them.
    Alone,
    /// With frames that go to all of them now: it costs its bytes only.
    Along,
}

impl Way {
    /// How much sooner than asked the number goes, so that a room in which somebody speaks needs no send for it.
    fn head_start(self, seconds: u32) -> Duration {
        match self {
            Self::Alone => Duration::ZERO,
            Self::Along => (Duration::from_secs(seconds.into()) / 10).min(VIEWERS_HEAD_START_MAX),
        }
    }
}

/// The viewers of one room, on its home shard.
#[derive(Debug, Default)]
pub struct Viewers {
    here: Count,
    // What other nodes said last, at most one entry each; those that were not heard of late do not count.
    elsewhere: Vec<Elsewhere>,
    // Viewers that have come there.
    joined_elsewhere: u64,
    // What members here were told last, and when.
    told: Option<(Tick, Told)>,
    // Viewers that had come by then.
    told_joined: u64,
    // Somebody came who is not counted, and knows no number.
    is_asked: bool,
    // What other nodes were told last, and when.
    reported: Option<(Tick, Count)>,
}

#[derive(Debug)]
struct Elsewhere {
    // Its process, by a number.
    node: u64,
    count: Count,
    heard: Tick,
}

impl Viewers {
    /// Counts connections that have come, and those of them that are hidden.
    pub fn arrive(&mut self, connections: u32, hidden: u32, now: (Tick, UnixTime)) {
        let viewers = self.take(connections, hidden);
        self.here.joined += u64::from(viewers);
        self.note_peak(now);
    }

    /// Counts connections that another process hands over: they have come before.
    pub fn inherit(&mut self, connections: u32, hidden: u32, now: (Tick, UnixTime)) {
        self.take(connections, hidden);
        self.note_peak(now);
    }

    fn take(&mut self, connections: u32, hidden: u32) -> u32 {
        let viewers = connections.saturating_sub(hidden);
        self.here.connections += connections;
        self.here.viewers += viewers;
        self.is_asked |= hidden > 0;
        viewers
    }

    /// Counts connections that have left.
    pub fn depart(&mut self, connections: u32, hidden: u32) {
        let here = &mut self.here;
        here.connections = here.connections.saturating_sub(connections);
        let viewers = connections.saturating_sub(hidden);
        here.viewers = here.viewers.saturating_sub(viewers);
    }

    /// Takes what another node says, a process by its number.
    pub fn hear(&mut self, node: u64, count: Count, now: (Tick, UnixTime)) {
        let known = self.elsewhere.iter_mut().find(|one| one.node == node);
        if let Some(known) = known.filter(|one| is_fresh(one, now.0)) {
            self.joined_elsewhere += count.joined.saturating_sub(known.count.joined);
            (known.count, known.heard) = (count, now.0);
        } else {
            // Whoever is there has come, as far as this node knows; so have those who left when their node fell silent.
            self.joined_elsewhere += u64::from(count.viewers);
            self.elsewhere.retain(|one| is_fresh(one, now.0));
            self.elsewhere.push(Elsewhere {
                node,
                count,
                heard: now.0,
            });
        }
        self.inherit_peak(count.peak, count.peak_at);
        self.note_peak(now);
    }

    /// Takes over the peak that another process knows.
    pub fn inherit_peak(&mut self, peak: u32, at: UnixTime) {
        if peak > self.here.peak {
            (self.here.peak, self.here.peak_at) = (peak, at);
        }
    }

    /// The number that members were told last, and how many have come since; `None`: they were told none.
    pub fn told_and_joined(&self) -> Option<(u64, u64)> {
        let (_, told) = self.told?;
        Some((told.count, self.all_joined() - self.told_joined))
    }

    /// Viewers that have come, here and elsewhere.
    fn all_joined(&self) -> u64 {
        self.here.joined + self.joined_elsewhere
    }

    /// Takes over what another process knows of that: the sums of the next event go on from there.
    pub fn inherit_told(&mut self, (count, joined): (u64, u64), now: Tick) {
        let told = Told {
            count,
            peak: self.here.peak.into(),
            joined: 0,
            left: 0,
        };
        self.told = Some((now, told));
        self.here.joined += joined;
    }

    fn note_peak(&mut self, (tick, unix): (Tick, UnixTime)) {
        let viewers = if self.elsewhere.is_empty() {
            self.here.viewers
        } else {
            u32::try_from(self.audience(tick).viewers).unwrap_or(u32::MAX)
        };
        if viewers > self.here.peak {
            (self.here.peak, self.here.peak_at) = (viewers, unix);
        }
    }

    /// What this server counts.
    pub fn here(&self) -> Count {
        self.here
    }

    /// The viewers of all servers, as far as they were heard of late.
    pub fn audience(&self, now: Tick) -> Audience {
        let here = self.here;
        let mut sum = Audience {
            viewers: here.viewers.into(),
            connections: here.connections.into(),
            peak: here.peak.into(),
            peak_at: here.peak_at,
        };
        for one in self.elsewhere.iter().filter(|one| is_fresh(one, now)) {
            sum.viewers += u64::from(one.count.viewers);
            sum.connections += u64::from(one.count.connections);
        }
        sum
    }

    /// What members here are to be told now, every `seconds` or so, or less often; `None`: nothing, since it is not due,
    /// nothing has changed, or nobody is here. Call it once a second or so, and whenever other frames go to all of them.
    pub fn tell(&mut self, seconds: u32, way: Way, now: Tick) -> Option<Told> {
        if self.here.connections == 0 {
            return None;
        }
        let audience = self.audience(now);
        let pause = pause(seconds, audience.connections).saturating_sub(way.head_start(seconds));
        let before = self.told;
        if before.is_some_and(|(at, _)| now.since(at) < pause) {
            return None;
        }
        let all_joined = self.all_joined();
        let joined = all_joined - self.told_joined;
        let count_before = before.map_or(0, |(_, told)| told.count);
        let told = Told {
            count: audience.viewers,
            peak: audience.peak,
            joined,
            left: (count_before + joined).saturating_sub(audience.viewers),
        };
        let same = |(_, last): (Tick, Told)| (last.count, last.peak) == (told.count, told.peak);
        let is_known = joined == 0 && before.is_some_and(same);
        if is_known && !self.is_asked {
            return None;
        }
        self.is_asked = false;
        self.told = Some((now, told));
        self.told_joined = all_joined;
        Some(told)
    }

    /// What other nodes are to be told now: what has changed, and from time to time what has not. `None` also if nobody was
    /// here.
    pub fn report(&mut self, now: Tick) -> Option<Count> {
        let is_known = match self.reported {
            None => self.here.connections == 0,
            Some((at, before)) => {
                let is_old = now.since(at) >= VIEWERS_REPORT_PAUSE;
                before == self.here && (!is_old || self.here.connections == 0)
            }
        };
        if is_known {
            return None;
        }
        self.reported = Some((now, self.here));
        Some(self.here)
    }
}

fn is_fresh(one: &Elsewhere, now: Tick) -> bool {
    now.since(one.heard) < VIEWERS_FORGOTTEN
}

/// Time between two events in a room of this size.
fn pause(seconds: u32, connections: u64) -> Duration {
    let least = if connections > VIEWERS_VAST {
        VIEWERS_VAST_PAUSE
    } else if connections > VIEWERS_LARGE {
        VIEWERS_LARGE_PAUSE
    } else {
        Duration::ZERO
    };
    Duration::from_secs(seconds.into()).max(least)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> (Tick, UnixTime) {
        (
            Tick::from_nanos(seconds * 1_000_000_000),
            UnixTime::from_secs(1_000 + seconds),
        )
    }

    fn told(viewers: &mut Viewers, second: u64) -> Option<(u64, u64, u64, u64)> {
        let told = viewers.tell(5, Way::Alone, at(second).0)?;
        Some((told.count, told.peak, told.joined, told.left))
    }

    /// Goal: who comes is told at once, then each interval what has changed, and nothing while nothing does.
    #[test]
    fn changes_are_told() {
        let mut viewers = Viewers::default();
        assert_eq!(told(&mut viewers, 0), None, "nobody is here");
        viewers.arrive(1, 0, at(0));
        assert_eq!(told(&mut viewers, 0), Some((1, 1, 1, 0)));
        viewers.arrive(3, 1, at(1));
        assert_eq!(told(&mut viewers, 4), None, "not yet");
        assert_eq!(told(&mut viewers, 5), Some((3, 3, 2, 0)));
        assert_eq!(told(&mut viewers, 20), None, "nothing has changed");
        viewers.depart(2, 0);
        assert_eq!(told(&mut viewers, 21), Some((1, 3, 0, 2)));
        viewers.arrive(1, 0, at(22));
        viewers.depart(1, 0);
        assert_eq!(
            told(&mut viewers, 27),
            Some((1, 3, 1, 1)),
            "one came and went"
        );
        viewers.arrive(1, 1, at(28));
        assert_eq!(
            told(&mut viewers, 33),
            Some((1, 3, 0, 0)),
            "a hidden one is told, too"
        );
        assert_eq!(told(&mut viewers, 40), None);
        assert_eq!(viewers.audience(at(40).0).peak_at, at(1).1);
    }

    /// Goal: who came and went in the process before is in the sums of the next event, once.
    #[test]
    fn sums_go_on_in_another_process() {
        let mut before = Viewers::default();
        before.arrive(5, 0, at(0));
        assert_eq!(told(&mut before, 0), Some((5, 5, 5, 0)));
        before.arrive(3, 0, at(1));
        before.depart(2, 0);
        let (here, carried) = (before.here(), before.told_and_joined());
        assert_eq!(carried, Some((5, 3)));
        let mut after = Viewers::default();
        after.inherit_peak(here.peak, here.peak_at);
        after.inherit_told(carried.expect("told"), at(2).0);
        after.inherit(here.connections, 0, at(2));
        assert_eq!(told(&mut after, 3), None, "not yet");
        assert_eq!(told(&mut after, 7), Some((6, 8, 3, 2)));
        assert_eq!(Viewers::default().told_and_joined(), None);
    }

    /// Goal: the interval grows with the room.
    #[test]
    fn large_rooms_are_told_less_often() {
        let seconds = |connections| pause(1, connections).as_secs();
        let sizes = [10, 10_000, 10_001, 100_000, 100_001];
        assert_eq!(sizes.map(seconds), [1, 1, 5, 5, 15]);
        assert_eq!(pause(60, 100_001).as_secs(), 60, "a longer one stays");
    }

    /// Goal: with other frames the number goes a little sooner, and so nothing is left to be told alone.
    #[test]
    fn it_goes_along_before_it_goes_alone() {
        for (seconds, head_start) in [(1, 100), (5, 500), (300, 500)] {
            let mut viewers = Viewers::default();
            viewers.arrive(1, 0, at(0));
            let due = u64::from(seconds) * 1_000;
            let after = |millis: u64| Tick::from_nanos(millis * 1_000_000);
            assert!(
                viewers.tell(seconds, Way::Along, after(0)).is_some(),
                "the first at once"
            );
            viewers.arrive(1, 0, at(0));
            assert_eq!(
                viewers.tell(seconds, Way::Along, after(due - head_start - 1)),
                None
            );
            assert_eq!(viewers.tell(seconds, Way::Alone, after(due - 1)), None);
            assert!(
                viewers
                    .tell(seconds, Way::Along, after(due - head_start))
                    .is_some()
            );
            assert_eq!(viewers.tell(seconds, Way::Alone, after(due)), None);
        }
    }

    /// Goal: the sum has each node once, forgets those that fall silent, and their viewers left; back again they came.
    #[test]
    fn nodes_are_summed() {
        let (a, b) = (1, 2);
        let count = |viewers: u32, joined| Count {
            viewers,
            connections: viewers + 1,
            joined,
            ..Count::default()
        };
        let mut viewers = Viewers::default();
        viewers.arrive(1, 0, at(0));
        viewers.hear(a, count(10, 500), at(0));
        viewers.hear(b, count(5, 5), at(0));
        assert_eq!(told(&mut viewers, 0), Some((16, 16, 16, 0)));
        viewers.hear(a, count(12, 504), at(3));
        let audience = viewers.audience(at(3).0);
        assert_eq!((audience.viewers, audience.connections), (18, 20));
        assert_eq!(
            told(&mut viewers, 6),
            Some((13, 18, 4, 7)),
            "b was not heard for 5 s"
        );
        viewers.hear(b, count(5, 5), at(7));
        viewers.hear(a, count(12, 504), at(7));
        assert_eq!(told(&mut viewers, 11), Some((18, 18, 5, 0)));
    }

    /// Goal: nodes are told what has changed at once and the rest before they forget it; an empty room once.
    #[test]
    fn reports_keep_the_others_informed() {
        let mut viewers = Viewers::default();
        assert_eq!(viewers.report(at(0).0), None);
        viewers.arrive(2, 0, at(0));
        assert!(viewers.report(at(0).0).is_some());
        assert_eq!(viewers.report(at(1).0), None);
        assert!(viewers.report(at(2).0).is_some());
        viewers.depart(2, 0);
        assert!(viewers.report(at(3).0).is_some());
        assert_eq!(viewers.report(at(9).0), None);
        assert!(VIEWERS_REPORT_PAUSE * 2 < VIEWERS_FORGOTTEN);
    }

    proptest! {
        /// Goal: the balance of what is told is the number of viewers, whatever happens on however many nodes.
        #[test]
        fn the_balance_holds(steps in proptest::collection::vec((0..4_u8, 0..5_u32, 0..3_u64), 1..60)) {
            let mut viewers = Viewers::default();
            let (mut second, mut sum) = (0, 0_u64);
            for (kind, number, wait) in steps {
                second += wait;
                match kind {
                    0 => viewers.arrive(number, number / 2, at(second)),
                    1 if viewers.here().connections > viewers.here().viewers => viewers.depart(1, 1),
                    1 => viewers.depart(viewers.here().viewers.min(number), 0),
                    _ => {
                        let count = Count { viewers: number, connections: number, joined: second, ..Count::default() };
                        viewers.hear(kind.into(), count, at(second));
                    }
                }
                if let Some(told) = viewers.tell(1, Way::Alone, at(second).0) {
                    prop_assert!(told.left == 0 || sum + told.joined - told.left == told.count);
                    prop_assert_eq!(told.count, viewers.audience(at(second).0).viewers);
                    prop_assert!(told.peak >= told.count);
                    sum = told.count;
                }
            }
        }
    }
}
