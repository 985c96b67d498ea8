use super::*;
use crate::durable::faults::{Plan, Scratch, plans, under};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::LOG_ENTRY_BYTES_MAX;

const NOW: Tick = Tick::from_nanos(3_600_000_000_000);

fn open(scratch: &Scratch, bytes_max: u64) -> Spool {
    Spool::open_in_boot(&scratch.0, bytes_max, NOW, "boot-1").expect("opens")
}

fn room() -> RoomId {
    RoomId::parse("TC6fLHr7ycLt").expect("an id")
}

/// Stages record `number`, recognisable, of about `len` bytes.
fn stage(spool: &mut Spool, number: u64, len: usize) {
    let staged = spool.stage(room(), |out| {
        out.extend_from_slice(format!("{number}:{}", "x".repeat(len)).as_bytes());
        Some(number)
    });
    assert_eq!(staged, Some(number));
}

fn numbers(batch: &RecordBatch) -> Vec<u64> {
    let number = |index| {
        let json = std::str::from_utf8(batch.json(index)).expect("text");
        json.split_once(':')
            .expect("a number")
            .0
            .parse()
            .expect("a number")
    };
    (0..batch.records.len()).map(number).collect()
}

/// Goal: a lower bound drops the oldest records at the next commit, a higher one keeps more.
#[test]
fn the_bound_can_change() {
    let scratch = Scratch::new();
    let mut spool = open(&scratch, u64::MAX);
    let mut number = 0;
    let mut write = |spool: &mut Spool, count: u64| {
        for _ in 0..count {
            stage(spool, number, 30_000);
            number += 1;
            spool.commit(NOW).expect("writes");
        }
        spool.bytes()
    };
    let most = write(&mut spool, 2_000);
    spool.set_bytes_max(most / 2);
    assert_eq!(spool.bytes(), most, "nothing is dropped before a commit");
    assert!(write(&mut spool, 1) <= most / 2);
    spool.set_bytes_max(u64::MAX);
    assert!(write(&mut spool, 2_000) > most);
}

#[derive(Debug, Clone)]
enum Step {
    /// Commit this many records of this length.
    Write(u64, usize),
    /// Read at most this many and deliver them.
    Deliver(u64),
    /// Read this many, save the plan, get killed; the next delivery must be the same.
    KilledInDelivery(u64),
    /// Killed within a write: this many bytes of an entry are on disk.
    KilledInWrite(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..20_u64, 0..2_000_usize).prop_map(|(count, len)| Step::Write(count, len)),
        1 => (1..700_u64).prop_map(|count| Step::Write(count, 30_000)),
        3 => (1..40_u64).prop_map(Step::Deliver),
        1 => Just(Step::Deliver(u64::MAX)),
        1 => (1..40_u64).prop_map(Step::KilledInDelivery),
        1 => (0..60_usize).prop_map(Step::KilledInWrite),
    ];
    proptest::collection::vec(step, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Goal: every committed record is delivered, in order, through kills at the worst moments; a
    /// repeated delivery is the same one. Oracle: counting.
    #[test]
    fn committed_records_are_delivered_through_kills(steps in steps()) {
        let scratch = Scratch::new();
        let mut spool = open(&scratch, u64::MAX);
        let (mut written, mut delivered) = (0, 0);
        for step in steps {
            match step {
                Step::Write(count, len) => {
                    for number in written..written + count {
                        stage(&mut spool, number, len);
                    }
                    let committed = spool.commit(NOW).expect("commits");
                    prop_assert_eq!(committed, Committed { written: count, dropped: 0 });
                    written += count;
                }
                Step::Deliver(count) | Step::KilledInDelivery(count) => {
                    let Some(location) = spool.next_batch(count) else {
                        prop_assert_eq!(delivered, written, "all is delivered");
                        continue;
                    };
                    let mut batch = read(&location).expect("reads");
                    spool.plan(&batch).expect("plans");
                    if matches!(step, Step::KilledInDelivery(_)) {
                        drop(spool);
                        spool = open(&scratch, u64::MAX);
                        let again = read(&spool.next_batch(u64::MAX).expect("a plan")).expect("reads");
                        prop_assert_eq!(numbers(&again), numbers(&batch));
                        batch = again;
                    }
                    let expected: Vec<u64> = (delivered..delivered + batch.records.len() as u64).collect();
                    prop_assert!(!expected.is_empty());
                    prop_assert_eq!(numbers(&batch), expected);
                    delivered = batch.end();
                    spool.advance(&batch).expect("advances");
                }
                Step::KilledInWrite(bytes) => {
                    let mut torn = Vec::new();
                    entry::append(&mut torn, room(), 0, |out| { out.extend_from_slice(&[b'x'; 32]); Some(1) });
                    torn.truncate(bytes.min(torn.len() - 1));
                    let written_to = spool.segments.back().map(|back| segment_path(&scratch.0, back.first));
                    drop(spool);
                    if let Some(path) = written_to {
                        let mut file = OpenOptions::new().append(true).open(path).expect("opens");
                        file.write_all(&torn).expect("writes");
                    }
                    spool = open(&scratch, u64::MAX);
                }
            }
            prop_assert_eq!(spool.backlog(), written - delivered);
            prop_assert_eq!(spool.position(), delivered);
            prop_assert_eq!(spool.take_lost(), 0);
            prop_assert_eq!(spool.backlog() == 0, spool.backlog_bytes() == 0);
        }
    }
}

/// Goal: a full spool drops its oldest records, counts exactly those, and stays within its bound.
#[test]
fn a_full_spool_drops_the_oldest() {
    let scratch = Scratch::new();
    let bytes_max = 2 * LOG_SEGMENT_BYTES;
    let mut spool = open(&scratch, bytes_max);
    let (mut written, mut dropped) = (0, 0);
    for _ in 0..100 {
        for number in written..written + 30 {
            stage(&mut spool, number, 30_000);
        }
        let committed = spool.commit(NOW).expect("commits");
        (written, dropped) = (written + 30, dropped + committed.dropped);
        assert!(spool.bytes() <= bytes_max);
    }
    assert!(dropped > 0);
    assert_eq!(spool.backlog() + dropped, written);
    let mut expected = dropped;
    while let Some(location) = spool.next_batch(u64::MAX) {
        let batch = read(&location).expect("reads");
        for number in numbers(&batch) {
            assert_eq!(number, expected);
            expected += 1;
        }
        spool.advance(&batch).expect("advances");
    }
    assert_eq!(expected, written);
}

/// Goal: a delivery in progress when its segment is dropped changes nothing afterwards.
#[test]
fn a_delivery_of_a_dropped_segment_does_not_move_the_cursor() {
    let scratch = Scratch::new();
    let mut spool = open(&scratch, u64::MAX);
    for number in 0..10 {
        stage(&mut spool, number, 10);
    }
    spool.commit(NOW).expect("commits");
    let batch = read(&spool.next_batch(4).expect("records")).expect("reads");
    assert_eq!(spool.drop_front(), 10);
    spool.advance(&batch).expect("without effect");
    assert_eq!(
        (spool.position(), spool.next_batch(1).is_none()),
        (10, true)
    );
    stage(&mut spool, 10, 10);
    spool.commit(NOW).expect("commits");
    let next = read(&spool.next_batch(4).expect("a record")).expect("reads");
    assert_eq!(numbers(&next), [10]);
}

/// Delivers the rest.
fn drain(spool: &mut Spool) -> Vec<u64> {
    let mut found = Vec::new();
    while let Some(location) = spool.next_batch(u64::MAX) {
        let batch = read(&location).expect("reads");
        if batch.records.is_empty() {
            spool.lost += spool.drop_damaged(&batch);
            continue;
        }
        found.extend(numbers(&batch));
        spool.advance(&batch).expect("advances");
    }
    found
}

/// Goal: with any failure, alone or in pairs, or a kill anywhere, acknowledged records are
/// delivered once and in order, refused ones are not, and nothing counts as damaged.
#[test]
fn a_failing_disk_loses_nothing_that_was_acknowledged() {
    let run = |scratch: &Scratch| {
        let mut written = Vec::new();
        let Ok(mut spool) = Spool::open_in_boot(&scratch.0, u64::MAX, NOW, "boot-1") else {
            return (None, written);
        };
        for round in 0..4 {
            for number in 0..2 {
                stage(&mut spool, 2 * round + number, 10);
            }
            if spool.commit(NOW).is_ok() {
                written.extend([2 * round, 2 * round + 1]);
            }
            if round == 1
                && let Some(batch) = spool
                    .next_batch(1)
                    .and_then(|location| read(&location).ok())
            {
                // Saving the cursor may fail; then the delivery is repeated.
                let _repeated = spool.plan(&batch);
                let _repeated = spool.advance(&batch);
            }
        }
        (Some(spool), written)
    };
    let scratch = Scratch::new();
    let (_, operations) = under(Plan::default(), || run(&scratch));
    let mut refused = 0;
    for plan in plans(operations.len() + 2) {
        let scratch = Scratch::new();
        let ((spool, written), _) = under(plan.clone(), || run(&scratch));
        refused += usize::from(written.len() < 8);
        let mut found = match spool {
            Some(mut spool) if plan.killed.is_none() => {
                stage(&mut spool, 99, 10);
                spool.commit(NOW).expect("the disk is good again");
                let found = drain(&mut spool);
                assert_eq!(found.last(), Some(&99), "{plan:?}");
                found[..found.len() - 1].to_vec()
            }
            _ => Vec::new(),
        };
        if found.is_empty() {
            // Killed, or everything was delivered.
            let mut spool = open(&scratch, u64::MAX);
            found = drain(&mut spool);
            assert_eq!(spool.take_lost(), 0, "{plan:?}");
        }
        // The first may have been delivered before.
        let first = usize::from(written.first() != found.first()).min(written.len());
        assert!(
            written.is_empty()
                || written[first..]
                    .iter()
                    .eq(found.iter().take(written.len() - first)),
            "{plan:?}: {found:?} of {written:?}"
        );
        // The write during which the process was killed may be there too.
        let more = found.len() + first - written.len();
        assert!(
            more == 0 || plan.killed.is_some() && more <= 2,
            "{plan:?}: {found:?} of {written:?}"
        );
    }
    assert!(refused > 20, "only {refused}");
}

/// Goal: damage anywhere costs the records it touches, counted, and nothing else: in the last
/// segment, too, before and after a restart.
#[test]
fn damage_costs_what_it_touches_and_is_counted() {
    for (damaged, restarted) in [(0, false), (0, true), (3, false), (3, true), (9, true)] {
        let scratch = Scratch::new();
        let mut spool = open(&scratch, u64::MAX);
        for number in 0..10 {
            stage(&mut spool, number, 100);
        }
        spool.commit(NOW).expect("commits");
        let path = segment_path(&scratch.0, 0);
        let mut bytes = fs::read(&path).expect("reads");
        let len = bytes.len() / 10;
        // The end of one and the beginning of the next.
        let touched = damaged * len + len - 20..(damaged * len + len + 20).min(bytes.len());
        bytes[touched].fill(0);
        fs::write(&path, bytes).expect("writes");
        if restarted {
            drop(spool);
            spool = open(&scratch, u64::MAX);
        }
        stage(&mut spool, 10, 100);
        spool.commit(NOW).expect("commits");
        let found = drain(&mut spool);
        let expected =
            (0..=10).filter(|number| *number != damaged as u64 && *number != damaged as u64 + 1);
        let expected: Vec<u64> = expected.collect();
        if damaged == 9 {
            // No later record proves that the last one existed: as after a kill in the middle of a
            // write.
            assert_eq!(found, [0, 1, 2, 3, 4, 5, 6, 7, 8, 10]);
        } else {
            assert_eq!(found, expected, "{damaged}, {restarted}");
            assert_eq!(spool.take_lost(), 2, "{damaged}, {restarted}");
        }
    }
}

/// Goal: damage where a delivery begins, or is to be repeated, costs only the records it touches.
/// Method: damage some of the first records, also more than one read for an age covers; look for
/// the next one alone, as a delivery does, then with all others.
#[test]
fn damage_in_front_costs_no_more_than_it_touches() {
    for (damaged, len) in [(1, 10), (3, 10), (5, LOG_ENTRY_BYTES_MAX - 100)] {
        let scratch = Scratch::new();
        let mut spool = open(&scratch, u64::MAX);
        for number in 0..8 {
            stage(&mut spool, number, len);
        }
        spool.commit(NOW).expect("commits");
        let first = read(&spool.next_batch(damaged).expect("records")).expect("reads");
        spool.plan(&first).expect("plans");
        drop(spool);
        let path = segment_path(&scratch.0, 0);
        let mut bytes = fs::read(&path).expect("reads");
        for end in &first.ends {
            bytes[end - 1] ^= 1;
        }
        fs::write(&path, bytes).expect("writes");
        let (mut spool, mut lost, mut delivered) = (open(&scratch, u64::MAX), 0, Vec::new());
        while let Some(location) = spool.next_batch(1) {
            let one = read(&location).expect("reads");
            if one.records.is_empty() {
                lost += spool.drop_damaged(&one);
                continue;
            }
            let location = spool.next_batch(u64::MAX).expect("more");
            let batch = read(&location).expect("reads");
            delivered.extend(numbers(&batch));
            spool.advance(&batch).expect("advances");
        }
        assert_eq!(delivered, (damaged..8).collect::<Vec<_>>());
        assert_eq!((lost, spool.take_lost()), (damaged, 0));
    }
}

/// Goal: a lost cursor repeats deliveries, under other names, and loses none.
#[test]
fn a_lost_cursor_repeats_under_other_names() {
    // The last two: a number that no spool reaches, and the highest number, after which there is
    // none.
    let far = format!("{} {} 7 boot-1\n", u64::MAX / 2 + 1, u64::MAX / 2 + 1);
    let farthest = format!("{} {} 7 boot-1\n", u64::MAX, u64::MAX);
    for cursor in ["", "\0\0\0\0", "7 9 x boot-1\n", "3 4\n", &far, &farthest] {
        let scratch = Scratch::new();
        let mut spool = open(&scratch, u64::MAX);
        for number in 0..6 {
            stage(&mut spool, number, 10);
        }
        spool.commit(NOW).expect("commits");
        let first = read(&spool.next_batch(4).expect("records")).expect("reads");
        spool.plan(&first).expect("plans");
        drop(spool);
        fs::write(scratch.0.join("cursor"), cursor).expect("writes");
        let mut spool = open(&scratch, u64::MAX);
        assert!(!spool.is_planned());
        let again = read(&spool.next_batch(u64::MAX).expect("records")).expect("reads");
        stage(&mut spool, 6, 10);
        assert_eq!(
            spool.commit(NOW).expect("commits").written,
            1,
            "it continues"
        );
        let from = if cursor == "3 4\n" { 3 } else { 0 };
        assert_eq!(numbers(&again), (from..6).collect::<Vec<_>>());
        assert_ne!(again.origin(), first.origin());
    }
}

/// Goal: age is the time since a record arrived, to a minute, whatever its own time is; a backlog
/// of months keeps few arrival times.
#[test]
fn age_is_elapsed_time() {
    let scratch = Scratch::new();
    let mut spool = open(&scratch, u64::MAX);
    let hours = |count| NOW.after(Duration::from_hours(count));
    for number in 0..3 {
        // Its time is near 1970.
        stage(&mut spool, number, 10);
        spool.commit(hours(number)).expect("commits");
    }
    assert_eq!(spool.age(0, hours(72)), Duration::from_hours(72));
    assert_eq!(spool.age(2, hours(72)), Duration::from_hours(70));
    let batch = read(&spool.next_batch(2).expect("records")).expect("reads");
    spool.advance(&batch).expect("advances");
    assert_eq!(spool.age(2, hours(72)), Duration::from_hours(70));
    drop(spool);
    let spool = Spool::open_in_boot(&scratch.0, u64::MAX, hours(80), "boot-1").expect("opens");
    assert_eq!(spool.age(2, hours(90)), Duration::from_hours(10));
}

#[derive(Debug, Clone)]
enum Outage {
    Write(u64),
    Sync,
    /// Deliver at most this many; if the flag is set, killed after the delivery and before the
    /// cursor moves.
    Deliver(u64, bool),
    /// Power failure: all unsynced bytes are lost, or only the records; the cursor is an earlier
    /// one.
    PowerLoss(bool),
}

fn outages() -> impl Strategy<Value = Vec<Outage>> {
    let step = prop_oneof![
        4 => (1..8_u64).prop_map(Outage::Write),
        2 => Just(Outage::Sync),
        4 => (1..6_u64, any::<bool>()).prop_map(|(count, killed)| Outage::Deliver(count, killed)),
        1 => any::<bool>().prop_map(Outage::PowerLoss),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Goal: kills and power failures overwrite no object with other records, and every record that
    /// was synced is in one.
    #[test]
    fn no_object_is_overwritten_with_other_records(steps in outages()) {
        let scratch = Scratch::new();
        let (mut boot, mut spool) = (1, open(&scratch, u64::MAX));
        let mut objects: BTreeMap<(u32, u64), Vec<u64>> = BTreeMap::new();
        let (mut written, mut synced, mut unsynced) = (0, Vec::new(), Vec::new());
        // What a power failure restores: segment bytes and the cursor.
        let mut image = (BTreeMap::new(), None);
        let picture = |scratch: &Scratch| -> BTreeMap<PathBuf, Vec<u8>> {
            let names = scratch.names().into_iter().filter(|name| name.contains(".spool"));
            names
                .map(|name| scratch.0.join(name))
                .map(|path| (path.clone(), fs::read(path).expect("reads")))
                .collect()
        };
        for step in steps {
            match step {
                Outage::Write(count) => {
                    for _ in 0..count {
                        // Every record ever written is distinct.
                        stage(&mut spool, written, 10);
                        unsynced.push(written);
                        written += 1;
                    }
                    spool.commit(NOW).expect("commits");
                }
                Outage::Sync => {
                    synced.append(&mut unsynced);
                    image = (picture(&scratch), fs::read(scratch.0.join("cursor")).ok());
                }
                Outage::Deliver(count, killed) => {
                    let Some(location) = spool.next_batch(count) else { continue };
                    let planned = spool.is_planned();
                    let location = if planned { spool.next_batch(u64::MAX).expect("a plan") } else { location };
                    let batch = read(&location).expect("reads");
                    prop_assert!(!batch.records.is_empty());
                    spool.plan(&batch).expect("plans");
                    let lines = numbers(&batch);
                    let before = objects.insert(batch.origin(), lines.clone());
                    prop_assert!(before.is_none_or(|before| before == lines), "overwritten");
                    if killed {
                        drop(spool);
                        spool = Spool::open_in_boot(&scratch.0, u64::MAX, NOW, &format!("boot-{boot}")).expect("opens");
                    } else {
                        spool.advance(&batch).expect("advances");
                    }
                }
                Outage::PowerLoss(cursor_too) => {
                    drop(spool);
                    for path in picture(&scratch).into_keys() {
                        fs::remove_file(path).expect("removes");
                    }
                    for (path, bytes) in &image.0 {
                        fs::write(path, bytes).expect("writes");
                    }
                    if cursor_too && let Some(cursor) = &image.1 {
                        fs::write(scratch.0.join("cursor"), cursor).expect("writes");
                    }
                    unsynced.clear();
                    boot += 1;
                    spool = Spool::open_in_boot(&scratch.0, u64::MAX, NOW, &format!("boot-{boot}")).expect("opens");
                }
            }
        }
        while let Some(location) = spool.next_batch(u64::MAX) {
            let batch = read(&location).expect("reads");
            let lines = numbers(&batch);
            let before = objects.insert(batch.origin(), lines.clone());
            prop_assert!(before.is_none_or(|before| before == lines), "overwritten");
            spool.advance(&batch).expect("advances");
        }
        let delivered: Vec<u64> = objects.into_values().flatten().collect();
        for number in synced.iter().chain(&unsynced) {
            prop_assert!(delivered.contains(number), "{number} was synced and is missing");
        }
    }
}
