//! Where the next delivery begins: its file, and the epoch that tells its objects from earlier
//! ones.

use super::segments::number;
use crate::random;

/// The next record to deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cursor {
    /// The record's number.
    pub(super) number: u64,
    /// Where its entry begins in the front segment, in bytes.
    pub(super) offset: u64,
    /// End of a started delivery, above `number`: its requests must be the same if it is repeated.
    pub(super) planned: Option<u64>,
    /// Part of the names of objects: another one for each boot of the machine and each loss of the
    /// cursor.
    pub(super) epoch: u32,
}

impl Cursor {
    pub(super) fn at(number: u64) -> Self {
        Self {
            number,
            ..Self::default()
        }
    }

    /// The file's content: number, end of the planned delivery, epoch, boot.
    pub(super) fn to_text(self, boot: &str) -> String {
        let Self { number, epoch, .. } = self;
        let planned = self.planned.unwrap_or(number);
        format!("{number} {planned} {epoch} {boot}\n")
    }

    /// In another epoch than `before`, drawn at random: the last draw may have been lost too.
    pub(super) fn in_new_epoch(mut self, before: u32) -> Self {
        self.epoch = before.wrapping_add(random::quick().u32(1..));
        self
    }
}

/// The cursor and its boot id; the boot id is empty if the first version wrote the file.
pub(super) fn parse_cursor(text: &str) -> Option<(Cursor, &str)> {
    let mut words = text.strip_suffix('\n')?.splitn(4, ' ');
    let (number, planned) = (number(words.next()?)?, number(words.next()?)?);
    let epoch = words.next().map_or(Ok(0), str::parse).ok()?;
    let cursor = Cursor {
        number,
        offset: 0,
        planned: (planned > number).then_some(planned),
        epoch,
    };
    Some((cursor, words.next().unwrap_or_default()))
}
