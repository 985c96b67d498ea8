//! A spool as a start finds it: whatever its cursor says, nothing is delivered twice in one life, nothing under another
//! number than it had, and what is said afterwards is delivered. With a cursor that is whole, what follows it is
//! delivered, all of it; with one that cannot be read everything is, under another epoch.
//!
//! Input: flags, number of the first record, how far the cursor has come and how far a delivery was planned, where
//! the last file is cut off, where a byte is damaged and how, the cursor's text up to a line feed, then the JSON of
//! records, each behind its length; lengths from 0xF0 on begin another file.

#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use uproar::control::archive::spool::entry::append;
use uproar::control::archive::spool::{Spool, read};
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::RoomId;

/// The cursor's file is what the text says.
const OTHER_CURSOR: u8 = 1;
/// It is of another boot.
const OTHER_BOOT: u8 = 2;
/// The last file is cut.
const CUT: u8 = 4;
/// A byte of the first file is damaged.
const DAMAGED: u8 = 8;
const EPOCH: u32 = 77;
const BYTES_MAX: u64 = 1 << 30;
/// As in the spool.
const NUMBER_MAX: u64 = u64::MAX / 2;

/// In memory where that is possible.
static PLACE: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let above = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    above.join(format!("uproar-fuzz-spool-{}", std::process::id()))
});
static BOOT: LazyLock<String> = LazyLock::new(|| {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    boot.unwrap_or_default().trim().to_owned()
});

type Record = (u64, Vec<u8>);

struct Found {
    files: Vec<(u64, Vec<u8>)>,
    records: Vec<Record>,
    // By record: where it ends in its file, and which file that is.
    ends: Vec<(usize, usize)>,
}

fuzz_target!(|data: &[u8]| {
    let Some(([flags, low, high, come, planned, cut @ ..], rest)) = data.split_first_chunk::<10>()
    else {
        return;
    };
    let [cut_low, cut_high, at_low, at_high, with] = *cut;
    let place = |low, high| usize::from(u16::from_le_bytes([low, high]));
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (text, rest) = rest.split_at(end);
    let first = place(*low, *high) as u64;
    let mut found = files(first, rest.get(1..).unwrap_or_default());
    let last = found.files.len() - 1;
    if flags & CUT != 0 {
        let bytes = &mut found.files[last].1;
        let cut = place(cut_low, cut_high) % (bytes.len() + 1);
        bytes.truncate(cut);
        forget(&mut found, |(file, end)| file < last || end <= cut);
    } else if flags & DAMAGED != 0
        && let Some(at) = place(at_low, at_high).checked_rem(found.files[0].1.len())
    {
        found.files[0].1[at] ^= with.max(1);
        let mut start = 0;
        forget(&mut found, |(file, end)| {
            let is_touched = file == 0 && (start..end).contains(&at);
            start = end;
            !is_touched
        });
    }

    let number = first + u64::from(*come);
    let cursor = if flags & OTHER_CURSOR != 0 {
        [text, b"\n"].concat()
    } else {
        let boot = if flags & OTHER_BOOT != 0 { "x" } else { &BOOT };
        let planned = number + u64::from(*planned);
        format!("{number} {planned} {EPOCH} {boot}\n").into_bytes()
    };
    lay(&found, &cursor);
    let mut spool = Spool::open(&PLACE, BYTES_MAX, Tick::default()).expect("memory");
    let position = spool.position();
    let delivered = drain(&mut spool);
    let numbers: Vec<u64> = delivered.iter().map(|((number, _), _)| *number).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    let from = if flags & OTHER_CURSOR == 0 {
        number
    } else {
        position
    };
    let expected = found.records.iter().filter(|(number, _)| *number >= from);
    assert!(expected.eq(delivered.iter().map(|(record, _)| record)));
    if flags & (OTHER_CURSOR | OTHER_BOOT) == OTHER_BOOT {
        assert!(delivered.iter().all(|(_, epoch)| *epoch != EPOCH));
    }
    goes_on(spool, numbers.last().copied());
});

/// What is said now is delivered, once, in this life and the next.
fn goes_on(mut spool: Spool, last: Option<u64>) {
    let say = |spool: &mut Spool| {
        let staged = spool.stage(RoomId::from_random(1), |out| {
            out.extend_from_slice(b"{\"new\":1}");
            Some(5)
        });
        assert_eq!(staged, Some(5));
        assert_eq!(spool.commit(Tick::default()).expect("memory").written, 1);
        spool.position()
    };
    let number = say(&mut spool);
    assert!(last.is_none_or(|last| number > last));
    let delivered = drain(&mut spool);
    assert_eq!(delivered.len(), 1);
    assert_eq!(delivered[0].0, (number, b"{\"new\":1}".to_vec()));
    if say(&mut spool) > NUMBER_MAX {
        // To the next life such a cursor is damaged: everything is delivered again, under another epoch.
        return;
    }
    drop(spool);
    let mut spool = Spool::open(&PLACE, BYTES_MAX, Tick::default()).expect("memory");
    assert_eq!(drain(&mut spool).len(), 1);
    assert_eq!((spool.backlog(), spool.take_lost()), (0, 0));
}

/// All that there is, and in which epoch.
fn drain(spool: &mut Spool) -> Vec<(Record, u32)> {
    let mut delivered = Vec::new();
    while let Some(location) = spool.next_batch(u64::MAX) {
        let (backlog, batch) = (spool.backlog(), read(&location).expect("memory"));
        if batch.records.is_empty() {
            spool.drop_damaged(&batch);
        } else {
            let records = batch.records.iter().enumerate();
            let (epoch, _) = batch.origin();
            let all = records.map(|(index, record)| {
                let json = batch.json(index).to_vec();
                ((record.number, json), epoch)
            });
            delivered.extend(all);
            spool.plan(&batch).expect("memory");
            spool.advance(&batch).expect("memory");
        }
        assert!(spool.backlog() < backlog, "it comes to an end");
    }
    delivered
}

/// Files of records.
fn files(first: u64, mut rest: &[u8]) -> Found {
    let room = RoomId::parse("TC6fLHr7ycLt").expect("twelve letters and digits");
    let (mut files, mut records, mut ends) = (vec![(first, Vec::new())], Vec::new(), Vec::new());
    while let Some((length, more)) = rest.split_first() {
        let number = first + records.len() as u64;
        // A file is made for the record that it begins with.
        if *length >= 0xF0 && files.len() < 4 && !records.is_empty() {
            files.push((number, Vec::new()));
        }
        let (json, more) = more.split_at(usize::from(*length & 0x0F).min(more.len()));
        rest = more;
        // JSON has no control characters, without which no entry can stand within another.
        let json: Vec<u8> = json.iter().map(|byte| (*byte).max(b' ')).collect();
        let file = files.len() - 1;
        let bytes: &mut Vec<u8> = &mut files[file].1;
        append(bytes, room, number, |out| {
            out.extend_from_slice(&json);
            Some(number)
        });
        ends.push((file, bytes.len()));
        records.push((number, json));
    }
    Found {
        files,
        records,
        ends,
    }
}

/// Records that are not to be expected any more.
fn forget(found: &mut Found, mut stays: impl FnMut((usize, usize)) -> bool) {
    let kept: Vec<bool> = found.ends.iter().map(|end| stays(*end)).collect();
    let mut each = kept.into_iter();
    found
        .records
        .retain(|_| each.next().is_some_and(|kept| kept));
}

fn lay(found: &Found, cursor: &[u8]) {
    let _none_yet = fs::remove_dir_all(&*PLACE);
    fs::create_dir(&*PLACE).expect("a directory");
    for (first, bytes) in &found.files {
        fs::write(PLACE.join(format!("{first:020}.spool")), bytes).expect("memory");
    }
    fs::write(PLACE.join("cursor"), cursor).expect("memory");
}
