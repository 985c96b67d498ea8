//! What must hold in every world: judged against the true log, at each commit, delivery and answer.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::AddAssign;
use std::time::Duration;

use uproar_proto::base::clock::{Tick, UnixTime};
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::cluster::HashSlot;
use uproar_proto::cluster::record::{BatchRecord, Content, Entry, Record};

use super::broker::{Broker, Stored};

/// Largest record that brokers take: `max_payload`.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// A request of a viewer, from its node's shard to its end.
#[derive(Debug)]
struct Request {
    life: u64,
    /// Where it is in the log: slot and sequence.
    committed: Option<(usize, u64)>,
    ended: Option<Ended>,
}

/// What a request's node was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Committed,
    Refused,
    Unknown,
}

/// What the records of a slot say, in the order of the true log.
#[derive(Debug, Default, Clone, Copy)]
struct Reign {
    home: u64,
    epoch: u64,
    /// The home has given the slot away.
    released: bool,
    takeovers: usize,
}

/// One process' place in the log of one slot.
#[derive(Debug, Clone, Copy)]
struct Place {
    sequence: u64,
    /// Records were skipped since, as the process says.
    skipped: bool,
}

/// Knows the truth.
#[derive(Default)]
pub(super) struct Oracle {
    requests: HashMap<FrameId, Request>,
    tickets: HashMap<(u64, u64), FrameId>,
    /// Those that have not ended, and when they were asked.
    open: BTreeMap<(u64, u64), Tick>,
    reigns: Vec<Reign>,
    places: BTreeMap<(u64, usize), Place>,
    /// Of processes that found a log empty when they began: its newest record that was gone by then.
    begun_behind: HashMap<(u64, usize), u64>,
    /// Who skipped records of which slot.
    pub(super) holes: HashSet<(u64, usize)>,
    /// The newest time in each room.
    sent: HashMap<RoomId, UnixTime>,
    /// What is in the archives of processes.
    pub(super) archived: HashSet<FrameId>,
    pub(super) counts: Seen,
}

/// What happened in a world.
#[derive(Debug, Default, Clone, Copy)]
pub struct Seen {
    /// Requests that a node was told are in the log.
    pub committed: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Requests of which nobody knows.
    pub unknown: u64,
    /// Those of them that are in the log.
    pub unknown_committed: u64,
    /// Processes that handed over.
    pub handed_over: u64,
    /// Slots that a process took.
    pub takeovers: u64,
    /// Slots that were given away.
    pub releases: u64,
    /// Records with entries, delivered at a process.
    pub delivered: u64,
    /// Times that a process skipped what the log did not have any more.
    pub skipped: u64,
    /// Requests in the log.
    pub entries: u64,
    /// Connections that opened, to the shards that ship.
    pub streams: u64,
    /// Frames of rooms that they got.
    pub seen: u64,
    /// Messages granted from the account's common budget.
    pub drawn: u64,
    /// Messages granted by nodes without the home of hash slot 0.
    pub alone: u64,
    /// Logs that had nothing any more, although something was said, when a process took them.
    pub anew: u64,
    /// Those of them whose new home did not know how late it was in them.
    pub forgotten: u64,
    /// Frames that processes archived.
    pub archived: u64,
    /// Verdicts of review handlers, of the shards that ship.
    pub verdicts: u64,
}

impl AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.committed += other.committed;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.unknown_committed += other.unknown_committed;
        self.handed_over += other.handed_over;
        self.takeovers += other.takeovers;
        self.releases += other.releases;
        self.delivered += other.delivered;
        self.skipped += other.skipped;
        self.entries += other.entries;
        self.streams += other.streams;
        self.seen += other.seen;
        self.drawn += other.drawn;
        self.alone += other.alone;
        self.anew += other.anew;
        self.forgotten += other.forgotten;
        self.archived += other.archived;
        self.verdicts += other.verdicts;
    }
}

impl Oracle {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            reigns: vec![Reign::default(); slots],
            ..Self::default()
        }
    }

    /// Whether a request is in the log.
    pub(super) fn is_committed(&self, id: FrameId) -> bool {
        let request = self.requests.get(&id);
        request.is_some_and(|request| request.committed.is_some())
    }

    /// A viewer of process `life` asks.
    pub(super) fn asked(&mut self, life: u64, ticket: u64, id: FrameId, now: Tick) {
        let request = Request {
            life,
            committed: None,
            ended: None,
        };
        assert!(
            self.requests.insert(id, request).is_none(),
            "ids are unique"
        );
        self.tickets.insert((life, ticket), id);
        self.open.insert((life, ticket), now);
    }

    /// A record is committed.
    pub(super) fn committed(&mut self, slot: usize, stored: &Stored) {
        let bytes = stored.payload.len();
        assert!(bytes <= RECORD_BYTES_MAX, "{bytes} B in a record");
        let record =
            Record::decode(&stored.payload).expect("a home writes records that can be read");
        assert_eq!(
            record.previous.0, stored.condition,
            "slot {slot}: it names another as the one before"
        );
        if stored.condition == 0 {
            self.begin_anew(slot, record.sent);
        }
        let reign = &mut self.reigns[slot];
        match record.content {
            Content::Takeover { home, .. } => {
                *reign = Reign {
                    home: home.bits(),
                    epoch: stored.sequence,
                    released: false,
                    takeovers: reign.takeovers + 1,
                };
                self.counts.takeovers += 1;
            }
            Content::Release { home, .. } => {
                assert_eq!(
                    home.bits(),
                    reign.home,
                    "slot {slot} was given away by another"
                );
                assert!(
                    stored.condition > 0,
                    "slot {slot}: nobody can read whose it was"
                );
                reign.released = true;
                self.counts.releases += 1;
            }
            Content::Batch(batch) => {
                let of = (batch.home.bits(), batch.epoch.0);
                assert_eq!(
                    of,
                    (reign.home, reign.epoch),
                    "slot {slot}: a home that was replaced appends"
                );
                assert!(
                    !reign.released,
                    "slot {slot}: a home appends behind its release"
                );
                assert!(
                    stored.condition > 0,
                    "slot {slot}: a batch in an empty log, without a takeover"
                );
                for entry in &batch.entries {
                    self.entry(slot, stored.sequence, entry);
                }
            }
        }
    }

    /// A log that has nothing any more has a home again, which has heard of this time. More cannot be asked: whoever
    /// knew a later one may be gone, or not be heard.
    fn begin_anew(&mut self, slot: usize, heard: UnixTime) {
        let times = self.sent.iter_mut();
        let own = times.filter(|(room, _)| HashSlot::of(**room).index() == slot);
        let (mut was_said, mut is_forgotten) = (false, false);
        for (_, sent) in own {
            was_said = true;
            is_forgotten |= heard < *sent;
            *sent = heard.min(*sent);
        }
        self.counts.anew += u64::from(was_said);
        self.counts.forgotten += u64::from(is_forgotten);
    }

    fn entry(&mut self, slot: usize, sequence: u64, entry: &Entry) {
        if entry.frame.is_empty() {
            // A probe, which no room gets.
            return;
        }
        let id = id_of(entry);
        let request = self.requests.get_mut(&id).expect("somebody asked for it");
        assert_eq!(
            entry.origin.bits(),
            request.life,
            "{id} came from another process"
        );
        let before = request.committed.replace((slot, sequence));
        assert_eq!(before, None, "{id} is in the log twice");
        assert_ne!(
            request.ended,
            Some(Ended::Refused),
            "{id} was refused, and is in the log"
        );
        let sent = self.sent.entry(entry.room).or_default();
        assert!(
            entry.sent >= *sent,
            "{id}: time goes back in {}",
            entry.room
        );
        *sent = entry.sent;
        self.counts.entries += 1;
        if request.ended == Some(Ended::Unknown) {
            self.counts.unknown_committed += 1;
        }
    }

    /// Process `life` delivers a record of a slot.
    pub(super) fn delivered(
        &mut self,
        life: u64,
        (slot, sequence): (usize, u64),
        (home_here, entries): (bool, &[Entry]),
        broker: &Broker,
    ) {
        let history = broker.history(slot);
        let at = history.binary_search_by_key(&sequence, |record| record.sequence);
        let Ok(at) = at else {
            panic!("slot {slot}: {sequence} is delivered, and not in the log");
        };
        let Some(mut batch) = batch_of(&history[at]) else {
            assert!(entries.is_empty(), "slot {slot}: {sequence} has no entries");
            return;
        };
        batch.entries.retain(|entry| !entry.frame.is_empty());
        assert_eq!(
            batch.entries, entries,
            "slot {slot}: {sequence} reads otherwise in the log"
        );
        assert!(
            !home_here || batch.home.bits() == life,
            "slot {slot}: {sequence} came from another home"
        );
        let place = Place {
            sequence,
            skipped: false,
        };
        let before = self.places.insert((life, slot), place);
        if let Some(before) = before {
            assert!(
                before.sequence < sequence,
                "slot {slot}: {sequence} is delivered behind {}",
                before.sequence
            );
            let gone = self.begun_behind.get(&(life, slot)).copied();
            let owed = before.sequence.max(gone.unwrap_or(0));
            let start = history.partition_point(|record| record.sequence <= owed);
            let missed = history[start..at].iter().filter(|record| speaks(record));
            for record in missed {
                let gone = before.skipped && !broker.is_stored(slot, record.sequence);
                assert!(
                    gone,
                    "slot {slot}: {} is missing before {sequence}",
                    record.sequence
                );
            }
        }
        self.counts.delivered += 1;
    }

    /// Process `life` looks where a log ends, and finds nothing of it any more: up to `gone` it owes its viewers nothing.
    pub(super) fn begins_behind(&mut self, life: u64, slot: usize, gone: u64) {
        self.begun_behind.insert((life, slot), gone);
    }

    /// Process `after` has what process `before` has delivered of a slot, which read it up to `sequence`; 0 also if it began
    /// when everything in that log was gone.
    pub(super) fn inherits(&mut self, (before, after): (u64, u64), slot: usize, sequence: u64) {
        let known = self.places.get(&(before, slot)).copied();
        assert!(
            known.is_none_or(|place| place.sequence <= sequence),
            "slot {slot}: {known:?} is delivered, and {sequence} handed over"
        );
        if let Some(gone) = self.begun_behind.get(&(before, slot)).copied() {
            self.begun_behind.insert((after, slot), gone);
        }
        let place = Place {
            sequence,
            skipped: known.is_some_and(|place| place.skipped),
        };
        self.places.insert((after, slot), place);
        if self.holes.contains(&(before, slot)) {
            self.holes.insert((after, slot));
        }
    }

    /// Process `life` says that it skips records of a slot.
    pub(super) fn skipped(&mut self, life: u64, slot: usize) {
        self.holes.insert((life, slot));
        if let Some(place) = self.places.get_mut(&(life, slot)) {
            place.skipped = true;
        }
        self.counts.skipped += 1;
    }

    /// Process `life` tells the end of a request, `awake` of its time after it was asked.
    pub(super) fn told(&mut self, life: u64, ticket: u64, ended: Ended) {
        let id = self
            .tickets
            .get(&(life, ticket))
            .expect("a request of this process");
        let request = self.requests.get_mut(id).expect("asked");
        self.open.remove(&(life, ticket));
        let before = request.ended.replace(ended);
        assert_eq!(before, None, "{id} ends twice");
        match (ended, request.committed) {
            (Ended::Committed, None) => panic!("{id} is not in the log"),
            (Ended::Committed, Some((slot, sequence))) => {
                let place = self.places.get(&(life, slot));
                let has_it = place.is_some_and(|place| place.sequence >= sequence);
                assert!(has_it, "{id} is told before it is delivered");
                self.counts.committed += 1;
            }
            (Ended::Refused, Some(_)) => panic!("{id} is refused, and in the log"),
            (Ended::Refused, None) => self.counts.refused += 1,
            (Ended::Unknown, committed) => {
                self.counts.unknown += 1;
                self.counts.unknown_committed += u64::from(committed.is_some());
            }
        }
    }

    /// Checks that archives have every frame of a logged room whose record is still there, of logs that nobody skipped any of.
    pub(super) fn check_archives(&self, broker: &Broker) {
        let whole = |slot: &usize| self.holes.iter().all(|(_, hole)| hole != slot);
        for slot in (0..self.reigns.len()).filter(whole) {
            let history = broker.history(slot).iter();
            let stored = history.filter(|record| broker.is_stored(slot, record.sequence));
            let entries = stored.filter_map(batch_of).flat_map(|batch| batch.entries);
            let logged = entries.filter(|entry| !entry.frame.is_empty() && is_logged(entry.room));
            for id in logged.map(|entry| id_of(&entry)) {
                assert!(
                    self.archived.contains(&id),
                    "slot {slot}: {id} is in no archive"
                );
            }
        }
    }

    /// How long ago the oldest request of process `life` was asked that has not ended.
    pub(super) fn oldest_open(&self, life: u64, now: Tick) -> Option<Duration> {
        let open = self.open.range((life, 0)..(life + 1, 0));
        open.map(|(_, asked)| now.since(*asked)).max()
    }

    /// Who has a slot, by the true log.
    pub(super) fn home(&self, slot: usize) -> Option<u64> {
        let reign = self.reigns[slot];
        (reign.epoch > 0 && !reign.released).then_some(reign.home)
    }

    /// Checks that process `life` has delivered everything that the log has, of every slot of which it has anything.
    pub(super) fn check_current(&self, life: u64, broker: &Broker) {
        for slot in 0..self.reigns.len() {
            let newest = broker
                .history(slot)
                .iter()
                .rev()
                .find(|record| speaks(record));
            let (Some(newest), Some(place)) = (newest, self.places.get(&(life, slot))) else {
                continue;
            };
            assert_eq!(
                place.sequence, newest.sequence,
                "slot {slot}: the newest is not delivered"
            );
        }
    }
}

/// Whether a room is logged: about half of them are.
pub(super) fn is_logged(room: RoomId) -> bool {
    room.as_bytes()[1].is_multiple_of(2)
}

/// Returns a record's batch, if it is one.
pub(super) fn batch_of(record: &Stored) -> Option<BatchRecord> {
    match Record::decode(&record.payload).ok()?.content {
        Content::Batch(batch) => Some(batch),
        Content::Takeover { .. } | Content::Release { .. } => None,
    }
}

/// Whether a record has frames for rooms.
fn speaks(record: &Stored) -> bool {
    let batch = batch_of(record);
    batch.is_some_and(|batch| batch.entries.iter().any(|entry| !entry.frame.is_empty()))
}

/// Returns the id in an entry's frame: a trivial author's begins with it, a shard's has it as JSON.
pub(super) fn id_of(entry: &Entry) -> FrameId {
    const NAME: &[u8] = br#""Id":""#;
    let frame = &entry.frame;
    let named = frame.windows(NAME.len()).position(|part| part == NAME);
    let start = named.map_or(0, |at| at + NAME.len());
    let id = frame[start..].first_chunk().and_then(FrameId::from_bytes);
    id.expect("a frame has an id")
}
