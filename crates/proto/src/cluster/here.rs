//! What a node tells all others twice a second: that it lives, and how it is.

use bytes::{BufMut, Bytes};

use super::wire::{Section, VERSION, put_bytes, put_section};
use super::{Incarnation, WireFault};
use crate::base::clock::UnixTime;
use crate::token::KeyId;

/// A node's sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// The process.
    pub incarnation: Incarnation,
    /// What does not change while it runs.
    pub about: About,
    /// Its wall clock when it wrote this.
    pub unix: UnixTime,
    /// Whether it leaves: it hands its hash slots over.
    pub is_draining: bool,
    /// Number of hash slots whose home it is.
    pub slots_home: u16,
    /// The newest `SendTime` that it has read in any log, for the next home of a log that has none any more.
    pub sent: UnixTime,
    /// What changes.
    pub facts: Facts,
}

/// What of a node does not change while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// The node's name: the same for each of its runs.
    pub name: Box<str>,
    /// Version of the program.
    pub version: Box<str>,
    /// Its process id.
    pub pid: u32,
    /// Number of its shards.
    pub shards: u16,
    /// Address of its messaging listener.
    pub messaging: Box<str>,
    /// Address of its control listener.
    pub control: Box<str>,
}

/// What of a node changes, as the program around the engine knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Whether it may be a home: it has all rooms, and its clock is near that of the brokers. This is less than
    /// `/readyz` says, whose probe needs a home.
    pub is_ready: bool,
    /// Number of its viewers.
    pub viewers: u64,
    /// Sealing keys that it opens tokens with.
    pub key_ids: Vec<KeyId>,
    /// Revision of the registry that it has read.
    pub registry_revision: u64,
}

impl Here {
    /// Encodes it; one allocation.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(256);
        out.put_u8(VERSION);
        put_section(&mut out, |out| {
            out.put_u64_le(self.incarnation.bits());
            out.put_u64_le(self.unix.nanos());
            out.put_u8(u8::from(self.facts.is_ready) | u8::from(self.is_draining) << 1);
            out.put_u16_le(self.slots_home);
            out.put_u64_le(self.sent.nanos());
            let about = &self.about;
            for text in [
                &about.name,
                &about.version,
                &about.messaging,
                &about.control,
            ] {
                put_bytes(out, text.as_bytes());
            }
            out.put_u32_le(about.pid);
            out.put_u16_le(about.shards);
            out.put_u64_le(self.facts.viewers);
            put_bytes(out, self.facts.key_ids.as_flattened());
            out.put_u64_le(self.facts.registry_revision);
        });
        out.into()
    }

    /// Reads one.
    ///
    /// # Errors
    ///
    /// [`WireFault`]: what is wrong with it.
    pub fn decode(payload: &Bytes) -> Result<Self, WireFault> {
        let mut section = Section::versioned(payload)?.section()?;
        let section = &mut section;
        let incarnation = Incarnation::new(section.u64()?);
        let unix = UnixTime::from_nanos(section.u64()?);
        let flags = section.u8()?;
        let slots_home = section.u16()?;
        let sent = UnixTime::from_nanos(section.u64()?);
        let [name, version, messaging, control] = [
            section.text()?,
            section.text()?,
            section.text()?,
            section.text()?,
        ]
        .map(Box::from);
        let about = About {
            name,
            version,
            messaging,
            control,
            pid: section.u32()?,
            shards: section.u16()?,
        };
        let facts = Facts {
            is_ready: flags & 1 != 0,
            viewers: section.u64()?,
            key_ids: section.bytes()?.as_chunks().0.to_vec(),
            registry_revision: section.u64()?,
        };
        Ok(Self {
            incarnation,
            about,
            unix,
            is_draining: flags & 2 != 0,
            slots_home,
            sent,
            facts,
        })
    }
}
