//! The account's rate, which all nodes grant together: nobody gets more of it than of one server.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::FrameId;
use uproar_proto::base::rate::Rate;
use uproar_proto::cluster::engine::{Input, MessageRates};
use uproar_proto::cluster::message::{AskKind, Message, MessageContent};

use super::node::Authoring;
use super::oracle::Oracle;
use super::planted::Planted;
use super::world::World;

/// Messages a second, of worlds that have a rate; most ask for more.
const PER_SECOND: u32 = 30;
const SECOND: Duration = Duration::from_secs(1);

/// What was granted in a world.
#[derive(Debug, Default)]
pub(super) struct Account {
    is_limited: bool,
    /// When each request was granted last, and by which process, if that did it without the home of hash slot 0.
    granted: HashMap<FrameId, (Tick, Option<u64>)>,
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

impl World {
    /// A home grants a request.
    pub(super) fn granted(&mut self, node: usize, authoring: &Authoring) {
        if !self.account.is_limited || authoring.ask.kind != AskKind::SendMessage {
            return;
        }
        let now = self.now.tick;
        let life = self.nodes[node].life();
        let alone = life.engine.purse_counts().alone;
        let is_alone = alone > life.alone;
        life.alone += u64::from(is_alone);
        let by = is_alone.then_some(life.id);
        self.account.granted.insert(authoring.ask.id, (now, by));
    }

    /// The rate is lifted, everywhere.
    pub(super) fn lift_rates(&mut self) {
        self.account.is_limited = false;
        for node in 0..self.nodes.len() {
            self.feed(node, Input::Rates(MessageRates::default()));
        }
    }

    /// A grant is more than was charged, if that is planted.
    pub(super) fn inflated(&mut self, payload: Bytes) -> Bytes {
        let Ok(mut message) = Message::decode(&payload) else {
            return payload;
        };
        let MessageContent::Grant { grants, .. } = &mut message.content else {
            return payload;
        };
        for (_, count) in grants {
            *count = 4 * *count + 4;
        }
        message.encode()
    }
}
