//! A process takes over from the one that was this node: each log is read on from where members were given it.
//!
//! The process before has stopped between two inputs. What it had appended or asked since then is in the log or is not:
//! whoever reads on finds out, as any node would. So nothing is handed over but positions.

use super::Engine;
use super::io::EngineSettings;
use super::slot::Slot;
use crate::base::clock::{Now, UnixTime};
use crate::base::limits::HASH_SLOTS;
use crate::cluster::author::Successor;
use crate::cluster::{Epoch, HashSlot, Incarnation, Sequence};
use crate::tagged::{Fault, Fields, Tagged};

// The fields of an estate.
/// The process that hands over.
const PROCESS: u32 = 1;
/// A log; repeated.
const LOG: u32 = 2;

// The fields of a log. Those of a home are there if it has one, those of a successor if one was asked to take over.
const SLOT: u32 = 1;
const READ: u32 = 2;
const HOME: u32 = 3;
const EPOCH: u32 = 4;
const SUCCESSOR: u32 = 5;
const IS_PINNED: u32 = 6;
const ARCHIVED: u32 = 7;
/// The newest `SendTime`, in nanoseconds since 1970.
const SENT: u32 = 8;

/// What the engine of one process hands over to that of the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogsEstate {
    /// The process.
    process: Incarnation,
    /// Each log once.
    logs: Vec<Log>,
}

/// How far one log was read, and what a reader who begins there must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Log {
    slot: HashSlot,
    // Members were given everything up to here, and nothing behind it.
    read: Sequence,
    home: Option<(Incarnation, Epoch)>,
    successor: Option<Successor>,
    archived: Sequence,
    sent: UnixTime,
}

impl LogsEstate {
    /// Returns the process that hands over.
    pub fn process(&self) -> Incarnation {
        self.process
    }

    /// Returns up to where members were given a log.
    pub fn read(&self, slot: HashSlot) -> Option<Sequence> {
        let log = self.logs.iter().find(|log| log.slot == slot);
        log.map(|log| log.read)
    }

    /// Returns it as fields that another version of the server reads.
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = Fields::default();
        fields.number(PROCESS, self.process.bits());
        for log in &self.logs {
            fields.nested(LOG, |fields| log.write(fields));
        }
        fields.into_bytes()
    }

    /// Reads what another process has encoded.
    ///
    /// # Errors
    ///
    /// The bytes are no fields, a needed one is missing, or a log is there twice or not at all: members would miss what
    /// is in it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let fields = Tagged::parse(bytes)?;
        let process = Incarnation::new(fields.need_number(PROCESS)?);
        let logs: Result<Vec<Log>, Fault> = fields
            .all(LOG)
            .take(HASH_SLOTS + 1)
            .map(Log::read)
            .collect();
        let mut logs = logs?;
        logs.sort_unstable_by_key(|log| log.slot);
        if !logs.iter().map(|log| log.slot).eq(HashSlot::all()) {
            return Err(Fault::Value(LOG));
        }
        Ok(Self { process, logs })
    }
}

impl Log {
    fn write(&self, fields: &mut Fields) {
        fields.number(SLOT, self.slot.number().into());
        fields.number(READ, self.read.0);
        if let Some((home, epoch)) = self.home {
            fields.number(HOME, home.bits());
            fields.number(EPOCH, epoch.0);
        }
        if let Some(Successor { to, is_pinned }) = self.successor {
            fields.number(SUCCESSOR, to.bits());
            fields.number(IS_PINNED, is_pinned.into());
        }
        fields.number(ARCHIVED, self.archived.0);
        fields.number(SENT, self.sent.nanos());
    }

    fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let fields = Tagged::parse(bytes)?;
        let slot = u8::try_from(fields.need_number(SLOT)?);
        let home = match fields.number(HOME)? {
            Some(home) => Some((Incarnation::new(home), Epoch(fields.need_number(EPOCH)?))),
            None => None,
        };
        let is_pinned = fields.number(IS_PINNED)?.unwrap_or(0) > 0;
        let successor = fields.number(SUCCESSOR)?.map(|to| Successor {
            to: Incarnation::new(to),
            is_pinned,
        });
        Ok(Self {
            slot: HashSlot::new(slot.map_err(|_| Fault::Value(SLOT))?),
            read: Sequence(fields.need_number(READ)?),
            home,
            successor,
            archived: Sequence(fields.number(ARCHIVED)?.unwrap_or(0)),
            sent: UnixTime::from_nanos(fields.number(SENT)?.unwrap_or(0)),
        })
    }
}

impl Engine {
    /// Returns what this engine hands over to that of the process which takes over; `None`: the end of some log was not
    /// found yet. Take the outputs before, and give no input behind it, unless nobody takes over.
    pub fn estate(&self) -> Option<LogsEstate> {
        let logs = HashSlot::all().map(|slot| {
            let state = &self.slots[slot];
            let pinned = (state.author.as_ref()).filter(|author| author.is_pinned);
            // A home that was to hand over has not done so: its successor in this process is itself.
            let own = pinned.map(|_| Successor {
                to: self.me,
                is_pinned: true,
            });
            state.reader.is_started().then(|| Log {
                slot,
                read: state.reader.read(),
                home: state.home,
                successor: state.successor.or(own),
                archived: state.archived,
                sent: state.sent,
            })
        });
        let logs = logs.collect::<Option<Vec<Log>>>()?;
        Some(LogsEstate {
            process: self.me,
            logs,
        })
    }

    /// Makes an engine that reads on where another process stopped. `seen` is the newest record of each log that was
    /// published meanwhile. What had its home there is vacant, and this node is asked to take it over.
    pub fn inherit(
        settings: EngineSettings,
        estate: &LogsEstate,
        seen: &[Sequence],
        now: Now,
    ) -> Self {
        let mut engine = Self::new(settings, now);
        for (log, seen) in estate.logs.iter().zip(seen) {
            let state = &mut engine.slots[log.slot];
            state.inherit(log, (estate.process, engine.me), now);
            state.reader.expect(*seen, now.tick);
        }
        engine
    }
}

impl Slot {
    fn inherit(&mut self, log: &Log, (before, me): (Incarnation, Incarnation), now: Now) {
        self.reader.advance(log.read, now.tick);
        // Its end is known well enough: what follows is published, and what is lost on the way shows itself.
        self.reader.rest();
        self.archived = log.archived;
        self.sent = log.sent;
        let asked = log.successor.filter(|successor| successor.to == before);
        let is_pinned = asked.is_some_and(|successor| successor.is_pinned);
        let own = Successor { to: me, is_pinned };
        match log.home {
            Some((home, _)) if home == before => self.successor = Some(own),
            Some((home, epoch)) => self.know_home(home, epoch, now.tick),
            None => self.successor = asked.map(|_| own).or(log.successor),
        }
    }
}
