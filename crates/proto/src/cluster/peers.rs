//! Who is there, as this node hears it.
//!
//! A node is alive while its signs of life come: the one that it publishes twice a second, and each record that it
//! appends. It is held to be dead once it is silent, or once brokers say that nobody takes messages for it; its next
//! published sign of life refutes that. Opinions only decide who tries to take over: the log decides who does. Without
//! the records nodes that append and do not hear each other would take hash slots from one another without end.
//!
//! Silence is judged only by a node that hears itself: one that does not is cut off, or was stopped.

use std::time::Duration;

use super::Incarnation;
use super::assign::Candidate;
use super::here::Here;
use crate::base::clock::{Now, Tick, UnixTime};
use crate::base::limits::{CLUSTER_FORGET, CLUSTER_HERE, CLUSTER_READY_MIN, CLUSTER_SILENT};

/// A node that does not hear itself for this long is cut off: three signs of life.
const UNHEARD: Duration = Duration::from_millis(1_500);

/// A sign of life that is later than this is overdue: half an interval is for what delays it, a connection that is made anew
/// for example.
const OVERDUE: Duration = CLUSTER_HERE.saturating_add(Duration::from_millis(250));

/// A node.
#[derive(Debug)]
pub(super) struct Peer {
    /// Its newest sign of life.
    pub here: Here,
    /// When it came.
    pub heard: Tick,
    /// Its wall clock against ours then, in nanoseconds.
    pub skew_nanos: i64,
    // Since when brokers, or others, say that nobody takes its messages.
    suspected: Option<Tick>,
    // Since when it is ready without interruption.
    ready: Option<Tick>,
}

/// All nodes, this one included.
#[derive(Debug)]
pub(super) struct Peers {
    me: Incarnation,
    all: Vec<Peer>,
    // When each home's newest record was published to this node.
    spoke: Vec<(Incarnation, Tick)>,
    // Since when this node hears itself without interruption, and when it did last.
    heard: Option<(Tick, Tick)>,
}

impl Peers {
    /// Knows nobody.
    pub(super) fn new(me: Incarnation) -> Self {
        Self {
            me,
            all: Vec::new(),
            spoke: Vec::new(),
            heard: None,
        }
    }

    /// Returns all nodes.
    pub(super) fn all(&self) -> &[Peer] {
        &self.all
    }

    fn get(&self, incarnation: Incarnation) -> Option<&Peer> {
        (self.all.iter()).find(|peer| peer.here.incarnation == incarnation)
    }

    /// Takes a sign of life.
    pub(super) fn hear(&mut self, here: Here, now: Now) {
        if here.incarnation == self.me {
            let since = self.heard_since(now.tick).unwrap_or(now.tick);
            self.heard = Some((since, now.tick));
        }
        let (incarnation, is_ready) = (here.incarnation, here.facts.is_ready);
        let is_known = self.get(incarnation).is_some();
        if !is_known {
            // A node that was restarted: the run before is over, unless it speaks again.
            let same = (self.all.iter_mut()).filter(|peer| peer.here.about.name == here.about.name);
            for before in same {
                before.suspected.get_or_insert(now.tick);
            }
        }
        let ours = i128::from(now.unix.nanos());
        let skew = i128::from(here.unix.nanos()) - ours;
        let before = (self.all.iter()).position(|peer| peer.here.incarnation == incarnation);
        let before = before.map(|index| self.all.swap_remove(index));
        let ready = before.and_then(|peer| peer.ready);
        self.all.push(Peer {
            here,
            heard: now.tick,
            skew_nanos: i64::try_from(skew).unwrap_or(i64::MAX),
            suspected: None,
            ready: is_ready.then(|| ready.unwrap_or(now.tick)),
        });
        self.all.sort_unstable_by_key(|peer| peer.here.incarnation);
    }

    /// Takes a record of a home as a sign of life.
    pub(super) fn spoke(&mut self, home: Incarnation, now: Tick) {
        match self.spoke.iter_mut().find(|(known, _)| *known == home) {
            Some((_, last)) => *last = now,
            None => self.spoke.push((home, now)),
        }
    }

    /// When a process last gave a sign of life of any kind; 0: never.
    fn lived(&self, incarnation: Incarnation) -> Tick {
        let heard = self.get(incarnation).map(|peer| peer.heard);
        let spoke = (self.spoke.iter()).find(|(known, _)| *known == incarnation);
        let spoke = spoke.map(|(_, last)| *last);
        heard.max(spoke).unwrap_or_default()
    }

    /// The newest `SendTime` that any node has told.
    pub(super) fn sent(&self) -> UnixTime {
        let told = self.all.iter().map(|peer| peer.here.sent);
        told.max().unwrap_or_default()
    }

    /// Since when this node hears itself; `None`: it does not.
    pub(super) fn heard_since(&self, now: Tick) -> Option<Tick> {
        let (since, last) = self.heard?;
        (now.since(last) < UNHEARD).then_some(since)
    }

    /// Learns that nobody takes messages for a process. Returns whether that is news.
    pub(super) fn suspect(&mut self, incarnation: Incarnation, now: Tick) -> bool {
        let mut all = self.all.iter_mut();
        let peer = all.find(|peer| peer.here.incarnation == incarnation);
        let suspected = peer.filter(|peer| peer.suspected.is_none());
        suspected.is_some_and(|peer| {
            peer.suspected = Some(now);
            true
        })
    }

    /// Whether nobody takes messages for a process, as far as this node was told.
    pub(super) fn is_suspected(&self, incarnation: Incarnation) -> bool {
        let peer = self.get(incarnation);
        peer.is_some_and(|peer| peer.suspected.is_some())
    }

    /// Since when a process is held to be dead; at a time to come: when it will be, if it stays silent. `None`: this
    /// node cannot judge.
    pub(super) fn dead_since(&self, incarnation: Incarnation, now: Tick) -> Option<Tick> {
        let judging = self.heard_since(now)?;
        let silent = self.lived(incarnation).max(judging).after(CLUSTER_SILENT);
        let suspected = self.get(incarnation).and_then(|peer| peer.suspected);
        Some(suspected.map_or(silent, |since| since.min(silent)))
    }

    /// When a suspicion can first be acted on: its next sign of life would be overdue.
    pub(super) fn overdue(&self, incarnation: Incarnation) -> Tick {
        self.lived(incarnation).after(OVERDUE)
    }

    /// Whether a process is held to be alive.
    pub(super) fn is_live(&self, incarnation: Incarnation, now: Tick) -> bool {
        let is_dead = || {
            let since = self.dead_since(incarnation, now);
            since.is_some_and(|since| since <= now)
        };
        self.get(incarnation).is_some() && !is_dead()
    }

    /// Number of processes that are held to be alive, this one included.
    pub(super) fn live(&self, now: Tick) -> u32 {
        let others = self.all.iter().map(|peer| peer.here.incarnation);
        let live = others.filter(|peer| *peer != self.me && self.is_live(*peer, now));
        u32::try_from(live.count() + 1).unwrap_or(u32::MAX)
    }

    /// The nodes that may take over now: alive, ready, and not leaving.
    pub(super) fn candidates(&self, now: Tick) -> Vec<Candidate> {
        self.ready_for(Duration::ZERO, now)
    }

    /// Of those, the ones that have been ready for long enough to get a healthy home's hash slots.
    pub(super) fn settled(&self, now: Tick) -> Vec<Candidate> {
        self.ready_for(CLUSTER_READY_MIN, now)
    }

    fn ready_for(&self, least: Duration, now: Tick) -> Vec<Candidate> {
        let ready = self.all.iter().filter(|peer| {
            !peer.here.is_draining
                && peer.ready.is_some_and(|since| now.since(since) >= least)
                && self.is_live(peer.here.incarnation, now)
        });
        ready
            .map(|peer| Candidate::new(peer.here.incarnation, &peer.here.about.name))
            .collect()
    }

    /// Forgets who was silent for long.
    pub(super) fn forget(&mut self, now: Tick) {
        let me = self.me;
        self.all
            .retain(|peer| peer.here.incarnation == me || now.since(peer.heard) < CLUSTER_FORGET);
        self.spoke
            .retain(|(_, last)| now.since(*last) < CLUSTER_SILENT);
    }
}
