//! The account's rate, which all nodes grant together: nobody gets more of it than of one server.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::FrameId;
use uproar_proto::base::rate::Rate;
use uproar_proto::cluster::engine::MessageRates;

use super::oracle::Oracle;
use super::planted::Planted;

/// Messages a second, of worlds that have a rate; most ask for more.
const PER_SECOND: u32 = 30;
const SECOND: Duration = Duration::from_secs(1);

/// What was granted in a world.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) is_limited: bool,
    /// When each request was granted last, and by which process, if that did it without the home of hash slot 0.
    pub(super) granted: HashMap<FrameId, (Tick, Option<u64>)>,
}

impl Account {
    /// Of a world with this seed: every third one has a rate, and each with a planted fault.
    pub(super) fn new(seed: u64, planted: Option<Planted>) -> Self {
        Self {
            is_limited: planted.is_some() || seed.is_multiple_of(3),
            ..Self::default()
        }
    }

    /// The rates that a process begins with.
    pub(super) fn rates(&self) -> MessageRates {
        MessageRates {
            sends: self.is_limited.then_some(Rate::per_second(PER_SECOND)),
            moderations: None,
        }
    }

    /// Judges what was granted and is in the log: in any second what one server grants at most, a burst and a second's worth,
    /// and 5 %; a process on its own, no more than the whole. (What a home grants that was replaced and does not know it
    /// yet, never gets there.) Returns how many were drawn, and how many granted alone.
    pub(super) fn check(&self, oracle: &Oracle) -> (u64, u64) {
        let most = usize::try_from(2 * PER_SECOND).expect("few");
        let mut by: BTreeMap<Option<u64>, Vec<Tick>> = BTreeMap::new();
        for (id, (at, alone)) in &self.granted {
            if oracle.is_committed(*id) {
                by.entry(*alone).or_default().push(*at);
            }
        }
        let (mut drawn, mut all) = (0, 0);
        for (life, mut moments) in by {
            moments.sort_unstable();
            all += moments.len();
            let densest = densest(&moments);
            if life.is_none() {
                drawn = moments.len();
            }
            let allowed = most * 105 / 100;
            assert!(
                densest <= allowed,
                "{densest} granted in a second, alone: {life:?}"
            );
        }
        let count = |list: usize| u64::try_from(list).expect("few");
        (count(drawn), count(all - drawn))
    }
}

/// The most in any second.
fn densest(granted: &[Tick]) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, at) in granted.iter().enumerate() {
        while at.since(granted[first]) >= SECOND {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}
