//! Copies of the database: what was written is read back, and a copy that was changed is refused, or says the same.
//!
//! Input: edits (place, byte) behind their number, then rows as lines, table, id and JSON behind one another; or,
//! behind a zero, the whole copy.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use uproar::control::store::backup::fuzzing::{read, write};

fuzz_target!(|data: &[u8]| {
    let Some((count, rest)) = data.split_first() else {
        return;
    };
    if *count == 0 {
        if let Ok(rows) = read(rest) {
            assert_eq!(read(&write(&rows)).as_ref(), Ok(&rows));
        }
        return;
    }
    let (edits, rest) = rest.split_at((3 * usize::from(count % 8)).min(rest.len()));
    let text = String::from_utf8_lossy(rest);
    let mut rows = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, '\t').map(str::to_owned);
        if let (Some(table), Some(id), Some(json)) = (parts.next(), parts.next(), parts.next()) {
            let value = serde_json::from_str(&json).unwrap_or(Value::String(json));
            rows.push((table, id, value));
        }
    }
    let mut copy = write(&rows);
    assert_eq!(read(&copy).as_ref(), Ok(&rows));
    for edit in edits.as_chunks::<3>().0 {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % copy.len();
        copy[at] = edit[2];
    }
    if let Ok(found) = read(&copy) {
        assert_eq!(found, rows);
    }
});
