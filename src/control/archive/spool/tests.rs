use super::*;
use proptest::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of its own, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("uproar-spool-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _best_effort = fs::remove_dir_all(&self.0);
    }
}

fn room() -> RoomId {
    RoomId::parse("TC6fLHr7ycLt").expect("an id")
}

/// Record `number`, recognisable, of about `len` bytes.
fn stage(spool: &mut Spool, number: u64, len: usize) {
    let staged = spool.stage(room(), |out| {
        out.extend_from_slice(format!("{number}:{}", "x".repeat(len)).as_bytes());
        Some(number)
    });
    assert_eq!(staged, Some(number));
}

fn numbers(stretch: &Stretch) -> Vec<u64> {
    let number = |index| {
        let json = std::str::from_utf8(stretch.json(index)).expect("text");
        json.split_once(':')
            .expect("a number")
            .0
            .parse()
            .expect("a number")
    };
    (0..stretch.records.len()).map(number).collect()
}

#[derive(Debug, Clone)]
enum Step {
    /// Commit so many records of this length.
    Write(u64, usize),
    /// Read so many at most, deliver them.
    Deliver(u64),
    /// Read so many, note the plan, get killed; the next delivery must be the same.
    KilledInDelivery(u64),
    /// Killed within a write: so many bytes of an entry are on disk.
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
        let place = Place::new();
        let (mut spool, lost) = Spool::open(&place.0, u64::MAX).expect("opens");
        prop_assert_eq!(lost, 0);
        let (mut written, mut delivered) = (0, 0);
        for step in steps {
            match step {
                Step::Write(count, len) => {
                    for number in written..written + count {
                        stage(&mut spool, number, len);
                    }
                    let committed = spool.commit().expect("commits");
                    prop_assert_eq!(committed, Committed { written: count, given_up: 0 });
                    written += count;
                }
                Step::Deliver(count) | Step::KilledInDelivery(count) => {
                    let Some(ticket) = spool.ticket(count) else {
                        prop_assert_eq!(delivered, written, "all is delivered");
                        continue;
                    };
                    let mut stretch = read(&ticket).expect("reads");
                    spool.plan(&stretch).expect("plans");
                    if matches!(step, Step::KilledInDelivery(_)) {
                        drop(spool);
                        (spool, _) = Spool::open(&place.0, u64::MAX).expect("opens");
                        let again = read(&spool.ticket(u64::MAX).expect("a plan")).expect("reads");
                        prop_assert_eq!(numbers(&again), numbers(&stretch));
                        stretch = again;
                    }
                    let expected: Vec<u64> = (delivered..delivered + stretch.records.len() as u64).collect();
                    prop_assert!(!expected.is_empty());
                    prop_assert_eq!(numbers(&stretch), expected);
                    delivered = stretch.end();
                    spool.advance(&stretch).expect("advances");
                }
                Step::KilledInWrite(bytes) => {
                    let mut torn = Vec::new();
                    entry::append(&mut torn, room(), |out| { out.extend_from_slice(&[b'x'; 32]); Some(1) });
                    torn.truncate(bytes.min(torn.len() - 1));
                    let open = spool.segments.back().map(|back| segment_path(&place.0, back.first));
                    drop(spool);
                    if let Some(path) = open {
                        let mut file = OpenOptions::new().append(true).open(path).expect("opens");
                        file.write_all(&torn).expect("writes");
                    }
                    (spool, _) = Spool::open(&place.0, u64::MAX).expect("opens");
                }
            }
            prop_assert_eq!(spool.backlog(), written - delivered);
            prop_assert_eq!(spool.position(), delivered);
            prop_assert_eq!(spool.backlog() == 0, spool.backlog_bytes() == 0);
        }
    }
}

/// Goal: a full spool gives up its oldest records, counts exactly those, and stays within its bound.
#[test]
fn a_full_spool_gives_up_the_oldest() {
    let place = Place::new();
    let bytes_max = 2 * LOG_SEGMENT_BYTES;
    let (mut spool, _) = Spool::open(&place.0, bytes_max).expect("opens");
    let (mut written, mut given_up) = (0, 0);
    for _ in 0..100 {
        for number in written..written + 30 {
            stage(&mut spool, number, 30_000);
        }
        let committed = spool.commit().expect("commits");
        (written, given_up) = (written + 30, given_up + committed.given_up);
        assert!(spool.bytes() <= bytes_max);
    }
    assert!(given_up > 0);
    assert_eq!(spool.backlog() + given_up, written);
    let mut expected = given_up;
    while let Some(ticket) = spool.ticket(u64::MAX) {
        let stretch = read(&ticket).expect("reads");
        for number in numbers(&stretch) {
            assert_eq!(number, expected);
            expected += 1;
        }
        spool.advance(&stretch).expect("advances");
    }
    assert_eq!(expected, written);
}

/// Goal: a delivery under way when its segment is given up changes nothing afterwards.
#[test]
fn a_given_up_delivery_does_not_move_the_cursor() {
    let place = Place::new();
    let (mut spool, _) = Spool::open(&place.0, u64::MAX).expect("opens");
    for number in 0..10 {
        stage(&mut spool, number, 10);
    }
    spool.commit().expect("commits");
    let stretch = read(&spool.ticket(4).expect("records")).expect("reads");
    assert_eq!(spool.give_up_front(), 10);
    spool.advance(&stretch).expect("without effect");
    assert_eq!((spool.position(), spool.ticket(1).is_none()), (10, true));
    stage(&mut spool, 10, 10);
    spool.commit().expect("commits");
    let next = read(&spool.ticket(4).expect("a record")).expect("reads");
    assert_eq!(numbers(&next), [10]);
}

/// Goal: what cannot be written is counted, hides nothing later, and nothing of it is kept.
#[test]
fn a_failed_write_leaves_the_spool_whole() {
    let place = Place::new();
    let (mut spool, _) = Spool::open(&place.0, u64::MAX).expect("opens");
    stage(&mut spool, 0, 10);
    spool.commit().expect("commits");
    // A handle that cannot write stands for a full disk.
    let path = segment_path(&place.0, 0);
    spool.file = Some(File::open(&path).expect("opens"));
    stage(&mut spool, 1, 10);
    stage(&mut spool, 2, 10);
    assert_eq!(spool.commit().expect_err("read only").0, 2);
    stage(&mut spool, 3, 10);
    spool.commit().expect("a new file");
    let mut found = Vec::new();
    while let Some(ticket) = spool.ticket(u64::MAX) {
        let stretch = read(&ticket).expect("reads");
        found.extend(numbers(&stretch));
        spool.advance(&stretch).expect("advances");
    }
    assert_eq!(found, [0, 3]);
}

/// Goal: damage in the middle costs the rest of its segment, counted, and nothing else.
#[test]
fn damage_costs_the_rest_of_its_segment() {
    let place = Place::new();
    let (mut spool, _) = Spool::open(&place.0, u64::MAX).expect("opens");
    for number in 0..600 {
        stage(&mut spool, number, 30_000);
    }
    spool.commit().expect("commits");
    stage(&mut spool, 600, 10);
    spool.commit().expect("a second segment");
    let path = segment_path(&place.0, 0);
    let mut bytes = fs::read(&path).expect("reads");
    bytes[100] ^= 1;
    fs::write(&path, bytes).expect("writes");
    let stretch = read(&spool.ticket(u64::MAX).expect("records")).expect("reads");
    assert!(stretch.records.is_empty());
    assert_eq!(spool.give_up_front(), 600);
    let stretch = read(&spool.ticket(u64::MAX).expect("a record")).expect("reads");
    assert_eq!(numbers(&stretch), [600]);
}
