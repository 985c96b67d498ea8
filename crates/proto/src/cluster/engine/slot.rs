//! What the engine knows of one hash slot.

use std::ops::{Index, IndexMut};

use super::io::{FetchFrom, Ticket};
use crate::base::clock::{Tick, UnixTime};
use crate::cluster::append::PendingAppend;
use crate::cluster::author::{Author, Successor};
use crate::cluster::kept::KeptRequests;
use crate::cluster::message::Ask;
use crate::cluster::reader::Reader;
use crate::cluster::{Epoch, HashSlot, Incarnation, Number, Sequence};

/// A message with requests for an epoch that this node is about to read.
#[derive(Debug)]
pub(super) struct Early {
    pub from: Incarnation,
    pub epoch: Epoch,
    pub numbers: (Number, Number),
    pub requests: Vec<Option<Ask>>,
}

/// Frames of homes before that are to be read for the archive. Until they are there, it gets those of this home by the same
/// reads: it takes a log in order, so that one sequence says how far it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recovery {
    /// The newest record that is done.
    pub after: Sequence,
    /// The newest record of this home that members got and the archive gets by these reads; it is over behind it.
    pub end: Sequence,
    /// When the next read is wanted; `None` while one is pending.
    pub wanted: Option<Tick>,
}

impl Recovery {
    pub(super) fn from(&self) -> FetchFrom {
        FetchFrom::After(self.after)
    }
}

/// One hash slot.
#[derive(Debug)]
pub(super) struct Slot {
    pub reader: Reader,
    /// The home, and its epoch.
    pub home: Option<(Incarnation, Epoch)>,
    /// Since when there is no home, while there is none.
    pub vacant_since: Tick,
    /// Whom the home before asked to take over, while there is none.
    pub successor: Option<Successor>,
    /// Frames up to here are in the archives of homes.
    pub archived: Sequence,
    pub recovery: Option<Recovery>,
    /// The newest `SendTime` in the log.
    pub sent: UnixTime,
    pub append: Option<PendingAppend>,
    /// The home's part. It is there while this node is the home, unless it found that the log went back.
    pub author: Option<Box<Author>>,
    pub early: Vec<Early>,
    /// The requests of this node; a waiter without a ticket is the engine's own probe.
    pub kept: KeptRequests<Option<Ticket>>,
    /// Number of attempts to append.
    pub attempts: u64,
    /// Whether it is in the list of those with something to do.
    pub is_dirty: bool,
    /// Its entry in the timers.
    pub scheduled: Option<Tick>,
}

impl Slot {
    fn new(now: Tick) -> Self {
        Self {
            reader: Reader::new(now),
            home: None,
            vacant_since: now,
            successor: None,
            archived: Sequence::default(),
            recovery: None,
            sent: UnixTime::default(),
            append: None,
            author: None,
            early: Vec::new(),
            kept: KeptRequests::default(),
            attempts: 0,
            is_dirty: false,
            scheduled: None,
        }
    }
}

impl Slot {
    /// Learns whose epoch the log is in.
    pub(super) fn know_home(&mut self, home: Incarnation, epoch: Epoch, now: Tick) {
        self.home = Some((home, epoch));
        self.kept.begin(epoch, now);
    }
}

/// All hash slots.
#[derive(Debug)]
pub(super) struct Slots(Box<[Slot]>);

impl Slots {
    pub(super) fn new(now: Tick) -> Self {
        Self(HashSlot::all().map(|_| Slot::new(now)).collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.0.iter()
    }
}

impl Index<HashSlot> for Slots {
    type Output = Slot;

    fn index(&self, slot: HashSlot) -> &Slot {
        self.0
            .get(slot.index())
            .expect("there is one for each byte")
    }
}

impl IndexMut<HashSlot> for Slots {
    fn index_mut(&mut self, slot: HashSlot) -> &mut Slot {
        (self.0.get_mut(slot.index())).expect("there is one for each byte")
    }
}
