//! Reads records again, newest first.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

use super::files::{list, path};
use uproar_proto::base::limits::AUDIT_SCAN_BYTES;
use uproar_proto::base::number::wide;

/// Where a page ended: a file, and the bytes of it that were not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The file's number.
    pub file: u64,
    /// Bytes before the last record that was told.
    pub bytes: u64,
}

/// Some records.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Newest first.
    pub records: Vec<Value>,
    /// Where older ones are.
    pub next: Option<Place>,
}

/// At most `count_max` records older than `before`, of the room with this ARN if one is named. One that looks through much
/// has fewer of them, none perhaps, and tells where it stopped all the same.
///
/// # Errors
///
/// Those of the file system. A directory that does not exist yet has no records.
pub fn page(
    directory: &Path,
    room: Option<&str>,
    before: Option<Place>,
    count_max: usize,
) -> io::Result<Page> {
    let mut files = match list(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Page::default()),
        listed => listed?,
    };
    let mut page = Page::default();
    let mut scanned = 0;
    while let Some((number, _)) = files.pop() {
        if before.is_some_and(|before| number > before.file) {
            continue;
        }
        // One that was removed meanwhile was the oldest.
        let content = fs::read(path(directory, number)).unwrap_or_default();
        let of_file = before.filter(|before| before.file == number);
        let end = of_file.map_or(usize::MAX, |before| {
            usize::try_from(before.bytes).unwrap_or(usize::MAX)
        });
        let mut rest = content.get(..end.min(content.len())).unwrap_or_default();
        while let Some((older, line)) = last_line(rest) {
            if page.records.len() >= count_max || scanned >= AUDIT_SCAN_BYTES {
                page.next = Some(Place {
                    file: number,
                    bytes: wide(rest.len()),
                });
                return Ok(page);
            }
            scanned += line.len();
            rest = older;
            // What a kill has cut off is no record.
            let record: Option<Value> = serde_json::from_slice(line).ok();
            let is_wanted =
                |record: &Value| room.is_none_or(|room| record["room"].as_str() == Some(room));
            page.records.extend(record.filter(is_wanted));
        }
    }
    Ok(page)
}

/// The bytes before the last line, and the line.
fn last_line(content: &[u8]) -> Option<(&[u8], &[u8])> {
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    if content.is_empty() {
        return None;
    }
    let begin = content.iter().rposition(|byte| *byte == b'\n');
    Some(content.split_at(begin.map_or(0, |at| at + 1)))
}
