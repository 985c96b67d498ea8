use std::time::Duration;

use super::record::{RECORD_BYTES, parse};
use super::*;
use crate::durable::faults::{Plan, Scratch, plans, under};
use crate::shard::tokens::Mark;
use crate::shard::tokens::Redeemed;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::RoomId;
use uproar_proto::token::{TOKEN_ID_BYTES, TokenId};

pub(super) const START: Now = Now {
    tick: Tick::from_nanos(3_600_000_000_000),
    unix: UnixTime::from_secs(1_800_000_000),
};
const MINUTE: Duration = Duration::from_mins(1);

pub(super) fn after(minutes: u32) -> Now {
    Now {
        tick: START.tick.after(MINUTE * minutes),
        unix: START.unix.after(MINUTE * minutes),
    }
}

/// Makes token `number`, which expires `minutes` after the start.
pub(super) fn token_use(number: u64, minutes: u32) -> TokenUse {
    let mut bytes = [7; TOKEN_ID_BYTES];
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    TokenUse {
        token: TokenId::from_bytes(bytes),
        room: RoomId::from_random(u128::from(number) << 40),
        expires: START.unix.after(MINUTE * minutes),
    }
}

pub(super) fn open(directory: &Path, shard_count: usize, now: Now) -> Vec<(Journal, UsedTokens)> {
    open_all(directory, &ShardSettings::open(shard_count), now).expect("opens")
}

/// Opens the journal of one shard, with segments of four records.
pub(super) fn open_one(directory: &Path, now: Now) -> (Journal, UsedTokens) {
    let (mut journal, used) = open(directory, 1, now).remove(0);
    journal.segment_bytes_max = 4 * RECORD_BYTES as u64;
    (journal, used)
}

/// Uses a token as a shard does.
pub(super) fn redeem(
    journal: &mut Journal,
    used: &mut UsedTokens,
    token_use: TokenUse,
    now: Now,
) -> bool {
    let first = used.redeem(token_use.token, token_use.expires, now);
    if first != Redeemed::First {
        return false;
    }
    let recorded = journal.record(&[token_use]).is_ok();
    if !recorded {
        used.take_back(token_use.token, token_use.expires);
    }
    recorded
}

pub(super) fn look(journal: &mut Journal, used: &mut UsedTokens, now: Now) -> u64 {
    used.expire(now);
    journal.forgot(used.forgotten(), used.oldest())
}

/// Goal: the journal is as long as the uses still valid, whatever was used before.
#[test]
fn the_journal_is_bounded_by_its_valid_uses() {
    let scratch = Scratch::new();
    let (mut journal, mut used) = open_one(&scratch.0, START);
    journal.segment_bytes_max = 16 * RECORD_BYTES as u64;
    let mut number = 0;
    for minute in 0..200 {
        for _ in 0..20 {
            number += 1;
            let token_use = token_use(number, minute + 10);
            assert!(redeem(&mut journal, &mut used, token_use, after(minute)));
        }
        for _ in 0..3 {
            let bytes = look(&mut journal, &mut used, after(minute));
            let valid = used.len() * RECORD_BYTES;
            // Plus two segments with their marks.
            let most = valid * 5 / 4 + 2 * 16 * RECORD_BYTES;
            assert!(bytes <= most as u64, "{bytes} bytes for {valid}");
        }
    }
    let on_disk: u64 = (scratch.names().iter())
        .map(|name| fs::metadata(scratch.0.join(name)).expect("there").len())
        .sum();
    assert_eq!(on_disk, journal.bytes());
    let (_, again) = open_one(&scratch.0, after(199));
    assert_eq!(again.len(), used.len());
    assert!(again.len() < 300);
}

/// Goal: a used token stays used through a restart whatever the clock shows at the start and afterwards; an
/// unused token opens a connection, and so does one made after the clock was corrected.
#[test]
fn a_wrong_clock_at_a_start_makes_no_token_valid_again() {
    for wrong in [
        after(120),
        Now {
            unix: UnixTime::from_secs(5),
            ..START
        },
    ] {
        let scratch = Scratch::new();
        let (mut journal, mut used) = open_one(&scratch.0, START);
        for number in 0..10 {
            assert!(redeem(
                &mut journal,
                &mut used,
                token_use(number, 60),
                START
            ));
        }
        drop((journal, used));
        for now in [wrong, after(1)] {
            let (mut journal, mut used) = open_one(&scratch.0, now);
            look(&mut journal, &mut used, now);
            for number in 0..10 {
                assert!(!redeem(
                    &mut journal,
                    &mut used,
                    token_use(number, 60),
                    after(2)
                ));
            }
            // Another start, this time with a correct clock, after the removals of the wrong one.
        }
        let (mut journal, mut used) = open_one(&scratch.0, after(1));
        assert!(redeem(&mut journal, &mut used, token_use(11, 62), after(2)));
    }
}

/// Goal: another number of shards, and the files of the first version, change nothing.
#[test]
fn uses_follow_their_rooms_to_other_shards() {
    let scratch = Scratch::new();
    let legacy: Vec<u8> = (0..50)
        .map(|number| token_use(number, 60))
        .flat_map(|token_use| {
            encode(
                &token_use.token,
                token_use.room.as_bytes(),
                token_use.expires,
            )
        })
        .collect();
    fs::write(scratch.0.join("1790000000000000000-0.journal"), legacy).expect("writes");
    for shard_count in [3, 3, 1, 4] {
        let mut shards = open(&scratch.0, shard_count, START);
        let settings = ShardSettings::open(shard_count);
        for number in 0..50 {
            let token_use = token_use(number, 60);
            let (journal, used) = &mut shards[settings.home(token_use.room)];
            assert!(
                !redeem(journal, used, token_use, START),
                "{number} of {shard_count}"
            );
        }
        let remembered: usize = shards.iter().map(|(_, used)| used.len()).sum();
        assert_eq!(remembered, 50);
    }
    assert!(scratch.names().iter().all(|name| name.contains("of4-")));
}

/// Goal: whatever fails, alone or in pairs, or wherever the process is killed: a token that opened a
/// connection opens no other, before or after a restart; one whose use failed opens one once the disk works.
#[test]
fn a_failing_disk_makes_no_token_valid_twice_and_loses_none() {
    let run = |directory: &Path| {
        let (mut journal, mut used) = open_one(directory, START);
        let mut opened = Vec::new();
        for number in 0..14_u32 {
            let token_use = token_use(number.into(), 3 + number);
            if redeem(&mut journal, &mut used, token_use, after(number)) {
                opened.push(token_use);
            }
            look(&mut journal, &mut used, after(number));
        }
        (journal, used, opened)
    };
    let scratch = Scratch::new();
    let (_, operations) = under(Plan::default(), || run(&scratch.0));
    let removed = operations.iter().filter(|operation| *operation == "remove");
    assert!(removed.count() > 0, "{operations:?}");
    let (mut failed, back) = (0, after(2));
    for plan in plans(operations.len()) {
        let scratch = Scratch::new();
        let ((mut journal, mut used, mut opened), _) = under(plan.clone(), || run(&scratch.0));
        failed += usize::from(opened.len() < 14);
        if plan.killed.is_none() {
            for number in 0..14 {
                let token_use = token_use(number, 60);
                if opened.iter().all(|other| other.token != token_use.token) {
                    assert!(
                        redeem(&mut journal, &mut used, token_use, back),
                        "{plan:?}: burnt"
                    );
                    opened.push(token_use);
                }
            }
        }
        drop((journal, used));
        for now in [after(14), back] {
            let (mut journal, mut used) = open_one(&scratch.0, now);
            look(&mut journal, &mut used, now);
            for token_use in &opened {
                assert!(
                    !redeem(&mut journal, &mut used, *token_use, back),
                    "{plan:?}: twice"
                );
            }
        }
    }
    assert!(failed > 20, "only {failed}");
}

/// Goal: any bytes are read without a panic, and written records come back.
#[test]
fn records_come_back_and_noise_is_none() {
    let token_use = token_use(5, 60);
    let record = encode(
        &token_use.token,
        token_use.room.as_bytes(),
        token_use.expires,
    );
    assert!(matches!(parse(&record), Some(Entry::Use(read)) if read == token_use));
    for key in [Some([1, 2, 3, 4]), None] {
        let until = START.unix;
        let mark = Mark { key, until };
        assert!(matches!(parse(&encode_mark(mark)), Some(Entry::Mark(read)) if read == mark));
    }
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..1000 {
        let noise = std::array::from_fn(|_| rng.u8(..));
        let _any = parse(&noise);
    }
}

/// Goal: a file with the last possible generation stops no start, and its records hold.
#[test]
fn a_generation_without_successor_is_read_and_replaced() {
    let scratch = Scratch::new();
    let (mut journal, mut used) = open_one(&scratch.0, START);
    assert!(redeem(&mut journal, &mut used, token_use(1, 60), START));
    drop(journal);
    let files = fs::read_dir(&scratch.0).expect("the directory is there");
    for file in files.map(|file| file.expect("an entry").path()) {
        let last = format!("{}-0of1-0.journal", u64::MAX);
        fs::rename(file, scratch.0.join(last)).expect("renamed");
    }
    for _ in 0..2 {
        let (mut journal, mut used) = open_one(&scratch.0, START);
        assert!(!redeem(&mut journal, &mut used, token_use(1, 60), START));
    }
}
