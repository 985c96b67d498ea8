//! How nodes write values: little-endian numbers, and sections with their length.
//!
//! The first byte is the version of the layout. A newer server of the same version adds values at the end of
//! a section, and an older one skips what it does not know there. What an older one would misread gets a new
//! version, which it refuses.

use bytes::{BufMut, Bytes};

/// Version of the layout of records and messages.
pub(super) const VERSION: u8 = 1;

/// Why bytes of another node are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireFault {
    /// They end within a value, or a length exceeds what is there.
    #[error("the bytes end early")]
    Cut,
    /// They have a layout that this server does not know.
    #[error("version {0} of the layout, this server reads {VERSION}")]
    Version(u8),
    /// Their kind is unknown to this server.
    #[error("kind {0} is unknown")]
    Kind(u8),
    /// A value is none of those that it may be.
    #[error("{0} has no valid value")]
    Value(&'static str),
}

/// Reads values of a section, in order.
#[derive(Debug)]
pub(super) struct Section<'a> {
    whole: &'a Bytes,
    at: usize,
    end: usize,
}

impl<'a> Section<'a> {
    /// Takes bytes with a version that this server knows.
    pub(super) fn versioned(whole: &'a Bytes) -> Result<Self, WireFault> {
        let mut section = Self {
            whole,
            at: 0,
            end: whole.len(),
        };
        match section.u8()? {
            VERSION => Ok(section),
            other => Err(WireFault::Version(other)),
        }
    }

    /// Whether all of it was read.
    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.end
    }

    fn take(&mut self, len: usize) -> Result<std::ops::Range<usize>, WireFault> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.end);
        let range = self.at..end.ok_or(WireFault::Cut)?;
        self.at = range.end;
        Ok(range)
    }

    /// Reads an array of bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireFault> {
        let range = self.take(N)?;
        let found = self
            .whole
            .get(range)
            .and_then(|found| found.try_into().ok());
        found.ok_or(WireFault::Cut)
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireFault> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, WireFault> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireFault> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, WireFault> {
        self.array().map(u64::from_le_bytes)
    }

    fn len(&mut self) -> Result<usize, WireFault> {
        usize::try_from(self.u32()?).map_err(|_| WireFault::Cut)
    }

    /// Reads bytes behind their length: a slice of the whole, not a copy.
    pub(super) fn bytes(&mut self) -> Result<Bytes, WireFault> {
        let len = self.len()?;
        let range = self.take(len)?;
        Ok(self.whole.slice(range))
    }

    /// Reads a text behind its length.
    pub(super) fn text(&mut self) -> Result<&'a str, WireFault> {
        let len = self.len()?;
        let range = self.take(len)?;
        let found = self.whole.get(range).ok_or(WireFault::Cut)?;
        std::str::from_utf8(found).map_err(|_| WireFault::Value("a text"))
    }

    /// Reads a section behind its length.
    pub(super) fn section(&mut self) -> Result<Self, WireFault> {
        let len = self.len()?;
        let range = self.take(len)?;
        Ok(Self {
            whole: self.whole,
            at: range.start,
            end: range.end,
        })
    }
}

/// Appends a length and bytes.
///
/// # Panics
///
/// If there are 4 GiB or more: limits are far below.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32_le(u32::try_from(bytes.len()).expect("limits are far below 4 GiB"));
    out.extend_from_slice(bytes);
}

/// Appends a section: what `write` appends, behind its length.
///
/// # Panics
///
/// As [`put_bytes`].
pub(super) fn put_section(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u32_le(0);
    let first = out.len();
    write(out);
    let len = u32::try_from(out.len() - first).expect("limits are far below 4 GiB");
    if let Some(place) = out.get_mut(start..first) {
        place.copy_from_slice(&len.to_le_bytes());
    }
}
