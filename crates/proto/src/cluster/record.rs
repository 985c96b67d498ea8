//! What is in a hash slot's log.
//!
//! Each record names the record before it: its writer appended it on the condition that this one is the
//! newest. So a reader sees a hole without a broker's help.

use bytes::{BufMut, Bytes};

use super::wire::{Section, VERSION, put_bytes, put_section};
use super::{Epoch, Incarnation, Number, Sequence, WireFault};
use crate::base::clock::UnixTime;
use crate::base::id::RoomId;

/// A record of a hash slot's log, and the condition under which it was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The newest record before this one; 0: the log was empty.
    pub previous: Sequence,
    /// The newest `SendTime` of the log, this record's included: a new home, whose clock may be behind, never
    /// goes back.
    pub sent: UnixTime,
    /// What it says.
    pub content: Content,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// `home` is the home from here on; its epoch is this record's sequence.
    Takeover {
        /// The new home.
        home: Incarnation,
        /// Frames up to here are in the archives of homes before.
        archived: Sequence,
        /// The newest record that the new home had read: higher than `previous` if the log lost records that
        /// it had acknowledged, or was made anew, or forgot all of them by age.
        known: Sequence,
    },
    /// The home stops being it, in favour of `to`.
    Release {
        /// The home until here.
        home: Incarnation,
        /// Whom it asks to take over.
        to: Incarnation,
        /// Whether an operator moved it: it stays with `to` until the cluster is balanced, or `to` leaves.
        is_pinned: bool,
        /// Frames up to here are in the archives of homes so far.
        archived: Sequence,
    },
    /// Requests that are decided, in their order; none: the home shows that it lives.
    Batch(BatchRecord),
}

/// Requests that are decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRecord {
    /// The home.
    pub home: Incarnation,
    /// Its epoch.
    pub epoch: Epoch,
    /// The batch's number: unique within its home.
    pub batch: u64,
    /// Frames up to here are in the archives of homes so far.
    pub archived: Sequence,
    /// The frames, in their order.
    pub entries: Vec<Entry>,
}

/// One frame of a room, and the request that it resolves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who made the request.
    pub origin: Incarnation,
    /// Its number among those of `origin` to this hash slot in this epoch.
    pub number: Number,
    /// The room.
    pub room: RoomId,
    /// `SendTime` of the frame.
    pub sent: UnixTime,
    /// Whether members get it without waiting for the room's pace.
    pub is_urgent: bool,
    /// Whom to evict once the frame is flushed.
    pub eviction: Option<Eviction>,
    /// The frame as members get it, its WebSocket header included, without compression; empty for a
    /// probe, which no room gets.
    pub frame: Bytes,
}

/// A user to evict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    /// The user's id.
    pub user_id: Box<str>,
    /// The reason that the Close frame gives.
    pub reason: Box<str>,
}

/// Bytes of an entry without its frame and texts.
const ENTRY_BYTES: usize = 4 + 8 + 8 + 12 + 8 + 1 + 4;

const URGENT: u8 = 1;
const EVICTS: u8 = 2;

impl Entry {
    /// Returns how many bytes it takes in a record.
    pub(super) fn bytes(&self) -> usize {
        let texts = (self.eviction.as_ref()).map_or(0, |eviction| {
            8 + eviction.user_id.len() + eviction.reason.len()
        });
        ENTRY_BYTES + self.frame.len() + texts
    }

    fn write(&self, out: &mut Vec<u8>) {
        put_section(out, |out| {
            out.put_u64_le(self.origin.bits());
            out.put_u64_le(self.number.0);
            out.extend_from_slice(self.room.as_bytes());
            out.put_u64_le(self.sent.nanos());
            let urgent = if self.is_urgent { URGENT } else { 0 };
            let evicts = if self.eviction.is_some() { EVICTS } else { 0 };
            out.put_u8(urgent | evicts);
            if let Some(eviction) = &self.eviction {
                put_bytes(out, eviction.user_id.as_bytes());
                put_bytes(out, eviction.reason.as_bytes());
            }
            put_bytes(out, &self.frame);
        });
    }

    fn read(section: &mut Section<'_>) -> Result<Self, WireFault> {
        let mut section = section.section()?;
        let origin = Incarnation::new(section.u64()?);
        let number = Number(section.u64()?);
        let room = RoomId::from_bytes(&section.array()?).ok_or(WireFault::Value("a room id"))?;
        let sent = UnixTime::from_nanos(section.u64()?);
        let flags = section.u8()?;
        let eviction = if flags & EVICTS == 0 {
            None
        } else {
            Some(Eviction {
                user_id: section.text()?.into(),
                reason: section.text()?.into(),
            })
        };
        Ok(Self {
            origin,
            number,
            room,
            sent,
            is_urgent: flags & URGENT != 0,
            eviction,
            frame: section.bytes()?,
        })
    }
}

const TAKEOVER: u8 = 1;
const RELEASE: u8 = 2;
const BATCH: u8 = 3;

impl Record {
    /// Makes the record behind `previous`, up to which the newest `SendTime` is `sent`.
    pub(super) fn following(previous: Sequence, sent: UnixTime, content: Content) -> Self {
        let mut record = Self {
            previous,
            sent,
            content,
        };
        let own = record.entries().iter().map(|entry| entry.sent).max();
        record.sent = own.map_or(sent, |own| own.max(sent));
        record
    }

    /// Up to where frames are in the archives of homes, as it notes; 0: nobody knows. A log does not archive what it does not
    /// have: such a note is of one that was lost.
    pub(super) fn archived(&self) -> Sequence {
        let noted = match &self.content {
            Content::Batch(batch) => batch.archived,
            Content::Takeover { archived, .. } | Content::Release { archived, .. } => *archived,
        };
        if noted <= self.previous {
            noted
        } else {
            Sequence::default()
        }
    }

    /// Returns the home that wrote it.
    pub(super) fn home(&self) -> Incarnation {
        match &self.content {
            Content::Takeover { home, .. } | Content::Release { home, .. } => *home,
            Content::Batch(batch) => batch.home,
        }
    }

    /// Returns its entries; none, unless it is a batch.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Batch(batch) => &batch.entries,
            Content::Takeover { .. } | Content::Release { .. } => &[],
        }
    }

    /// Encodes it; one allocation.
    pub fn encode(&self) -> Bytes {
        let entries = self.entries();
        let bytes: usize = entries.iter().map(Entry::bytes).sum();
        let mut out = Vec::with_capacity(64 + bytes);
        out.put_u8(VERSION);
        out.put_u8(match self.content {
            Content::Takeover { .. } => TAKEOVER,
            Content::Release { .. } => RELEASE,
            Content::Batch(_) => BATCH,
        });
        put_section(&mut out, |out| {
            out.put_u64_le(self.previous.0);
            out.put_u64_le(self.sent.nanos());
            self.content.write_head(out);
        });
        for entry in entries {
            entry.write(&mut out);
        }
        out.into()
    }

    /// Reads one; frames are slices of `payload`.
    ///
    /// # Errors
    ///
    /// [`WireFault`]: what is wrong with it. It says nothing about records before and behind it.
    pub fn decode(payload: &Bytes) -> Result<Self, WireFault> {
        let mut section = Section::versioned(payload)?;
        let kind = section.u8()?;
        let mut head = section.section()?;
        let previous = Sequence(head.u64()?);
        let sent = UnixTime::from_nanos(head.u64()?);
        let home = Incarnation::new(head.u64()?);
        let archived = Sequence(head.u64()?);
        let content = match kind {
            TAKEOVER => Content::Takeover {
                home,
                archived,
                known: Sequence(head.u64()?),
            },
            RELEASE => Content::Release {
                home,
                archived,
                to: Incarnation::new(head.u64()?),
                is_pinned: head.u8()? != 0,
            },
            BATCH => Content::Batch(BatchRecord {
                home,
                archived,
                epoch: Epoch(head.u64()?),
                batch: head.u64()?,
                entries: {
                    let mut entries = Vec::new();
                    while !section.is_empty() {
                        entries.push(Entry::read(&mut section)?);
                    }
                    entries
                },
            }),
            other => return Err(WireFault::Kind(other)),
        };
        Ok(Self {
            previous,
            sent,
            content,
        })
    }
}

impl Content {
    fn write_head(&self, out: &mut Vec<u8>) {
        let (home, archived) = match self {
            Self::Takeover { home, archived, .. } | Self::Release { home, archived, .. } => {
                (home, archived)
            }
            Self::Batch(batch) => (&batch.home, &batch.archived),
        };
        out.put_u64_le(home.bits());
        out.put_u64_le(archived.0);
        match self {
            Self::Takeover { known, .. } => out.put_u64_le(known.0),
            Self::Release { to, is_pinned, .. } => {
                out.put_u64_le(to.bits());
                out.put_u8((*is_pinned).into());
            }
            Self::Batch(batch) => {
                out.put_u64_le(batch.epoch.0);
                out.put_u64_le(batch.batch);
            }
        }
    }
}
