use std::collections::BTreeMap;

use super::super::record::encode;
use super::*;
use crate::durable::faults::{Plan, Scratch, plans, under};
use crate::shard::journal::tests::{START, after, look, open, open_one, redeem, token_use};
use crate::shard::journal::{Record, open_all};
use crate::shard::tokens::Redeemed;
use uproar_proto::base::clock::UnixTime;

/// Segments of so few records that a test makes many.
const SEGMENT_BYTES: u64 = 4 * wide(RECORD_BYTES);

/// Every file with its content.
fn files(scratch: &Scratch) -> BTreeMap<String, Vec<u8>> {
    let content = |name: String| (name.clone(), fs::read(scratch.0.join(name)).expect("there"));
    scratch.names().into_iter().map(content).collect()
}

fn beside(scratch: &Scratch, shards: usize, now: Now) -> (Beside, Vec<(Journal, UsedTokens)>) {
    open_beside(&scratch.0, &ShardSettings::open(shards), now).expect("reads")
}

/// The new server commits: each shard takes its part.
fn take(opened: &mut [(Journal, UsedTokens)], tails: Vec<Tail>, now: Now) {
    for ((journal, used), tail) in opened.iter_mut().zip(tails) {
        for mark in tail.marks {
            used.recover_mark(mark);
        }
        for TokenUse { token, expires, .. } in tail.uses {
            used.recover(token, expires, now);
        }
        journal.adopt(tail.segments);
        journal.segment_bytes_max = SEGMENT_BYTES;
    }
}

/// Uses the token on its home shard; whether it opens a connection.
fn opens(shards: &mut [(Journal, UsedTokens)], number: u64, minutes: u32, now: Now) -> bool {
    let token_use = token_use(number, minutes);
    let home = ShardSettings::open(shards.len()).home(token_use.room);
    let (journal, used) = &mut shards[home];
    redeem(journal, used, token_use, now)
}

/// Goal: whatever the old server does between the two reads, used tokens are refused by the new one
/// and unused ones are not, for every number of shards; reading changes no file, so the old one goes
/// on after any number of attempts. Method: random uses, time that passes, a disk that fails now and
/// then; two attempts that come to nothing, then one that does; and a start after it.
#[test]
fn the_new_server_knows_what_the_old_one_knew() {
    for seed in 0..120 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let scratch = Scratch::new();
        let [old_count, new_count] = std::array::from_fn(|_| rng.usize(1..4));
        let mut old = open(&scratch.0, old_count, START);
        for (journal, _) in &mut old {
            journal.segment_bytes_max = SEGMENT_BYTES;
        }
        let (mut number, mut minute) = (0, 0);
        let mut opened = Vec::new();
        let mut work = |rng: &mut fastrand::Rng, old: &mut Vec<(Journal, UsedTokens)>| {
            for _ in 0..rng.usize(..40) {
                number += 1;
                let (life, fails) = (minute + rng.u32(1..20), rng.u8(..10) == 0);
                let plan = Plan {
                    fails: if fails {
                        vec![rng.usize(..4), rng.usize(..4)]
                    } else {
                        Vec::new()
                    },
                    late: rng.bool(),
                    killed: None,
                };
                let (used, _) = under(plan, || opens(old, number, life, after(minute)));
                if used {
                    opened.push((number, life));
                }
                if rng.u8(..8) == 0 {
                    minute += 1;
                    for (journal, used) in old.iter_mut() {
                        look(journal, used, after(minute));
                    }
                }
            }
            minute
        };
        for _attempt in 0..2 {
            let now = work(&mut rng, &mut old);
            let before = files(&scratch);
            let (attempt, shards) = beside(&scratch, new_count, after(now));
            assert_eq!(files(&scratch), before);
            work(&mut rng, &mut old);
            let before = files(&scratch);
            drop((attempt.tail().expect("reads"), shards));
            assert_eq!(files(&scratch), before);
        }
        let now = work(&mut rng, &mut old);
        let (attempt, mut new) = beside(&scratch, new_count, after(now));
        let now = after(work(&mut rng, &mut old));
        let (tails, undealt) = attempt.tail().expect("reads");
        drop(old);
        take(&mut new, tails, now);
        assert_eq!(undealt.is_empty(), old_count == new_count, "{seed}");
        let rest = undealt.deal_out().expect("deals out");
        take(&mut new, rest, now);
        for restarted in [false, true] {
            for (number, life) in &opened {
                assert!(
                    !opens(&mut new, *number, *life, now),
                    "{seed}: {number} twice"
                );
            }
            // Made with the same key after all that were forgotten.
            let fresh = 1_000_000 + u64::from(restarted);
            assert!(opens(&mut new, fresh, 90, now), "{seed}: burnt");
            opened.push((fresh, 90));
            if !restarted {
                new = open(&scratch.0, new_count, now);
            }
        }
    }
}

/// Goal: after the hand-over the old segments go when their tokens have expired, also those that were
/// dealt out.
#[test]
fn adopted_segments_are_removed_in_time() {
    for new_count in [1, 2] {
        let scratch = Scratch::new();
        let mut old = vec![open_one(&scratch.0, START)];
        for number in 0..30 {
            assert!(opens(&mut old, number, 10, START));
        }
        let (attempt, mut new) = beside(&scratch, new_count, START);
        let (tails, undealt) = attempt.tail().expect("reads");
        take(&mut new, tails, START);
        take(&mut new, undealt.deal_out().expect("deals out"), START);
        let before = scratch.names().len();
        assert!(before >= 8, "{:?}", scratch.names());
        let late = after(12);
        for _ in 0..40 {
            for (journal, used) in &mut new {
                look(journal, used, late);
            }
        }
        // What is left has the marks.
        assert!(scratch.names().len() <= new_count, "{:?}", scratch.names());
        drop(new);
        let mut again = open(&scratch.0, new_count, after(1));
        assert!((0..30).all(|number| !opens(&mut again, number, 10, after(1))));
    }
}

/// Goal: a record of which a half is written is no damage and no use; when it is whole it is one.
/// So is one that takes the place of another.
#[test]
fn a_record_that_is_being_written_is_read_when_it_is_whole() {
    let scratch = Scratch::new();
    let mut old = vec![open_one(&scratch.0, START)];
    for number in 0..2 {
        assert!(opens(&mut old, number, 60, START));
    }
    let path = scratch.0.join(&scratch.names()[0]);
    let whole = fs::read(&path).expect("there");
    let TokenUse {
        token,
        room,
        expires,
    } = token_use(9, 60);
    let failed = encode(&token, room.as_bytes(), expires);
    // At the first read the second record is there by half, not at all, or another one is in its
    // place, whose write fails and which is cut off.
    let half = &whole[RECORD_BYTES..RECORD_BYTES * 3 / 2];
    for second in [half, &[], &failed] {
        fs::write(&path, [&whole[..RECORD_BYTES], second].concat()).expect("written");
        let (attempt, mut new) = beside(&scratch, 1, START);
        fs::write(&path, &whole).expect("written");
        let (tails, _nothing) = attempt.tail().expect("reads");
        assert_eq!(tails[0].uses, [token_use(1, 60)]);
        take(&mut new, tails, START);
        let used = &mut new[0].1;
        let again = |number| used.redeem(token_use(number, 60).token, START.unix, START);
        assert_eq!([0, 1].map(again), [Redeemed::Again; 2]);
    }
}

/// Goal: a wall clock that steps between the two reads, or between the processes, makes no token
/// valid again.
#[test]
fn a_clock_that_steps_makes_no_token_valid_again() {
    let behind = Now {
        unix: UnixTime::from_secs(5),
        ..START
    };
    for [first, second] in [[START, after(120)], [after(120), START], [behind, after(1)]] {
        let scratch = Scratch::new();
        let mut old = vec![open_one(&scratch.0, START)];
        for number in 0..10 {
            assert!(opens(&mut old, number, 60, START));
        }
        let (attempt, mut new) = beside(&scratch, 1, first);
        for number in 10..20 {
            assert!(opens(&mut old, number, 60, START));
        }
        let (tails, _nothing) = attempt.tail().expect("reads");
        take(&mut new, tails, second);
        for now in [second, after(1)] {
            let (journal, used) = &mut new[0];
            look(journal, used, now);
            assert!((0..20).all(|number| !opens(&mut new, number, 60, after(1))));
        }
        assert!(
            opens(&mut new, 21, 61, after(1)),
            "made after the correction"
        );
    }
}

/// Goal: a disk that fails while segments are dealt out, or a kill, loses no use.
#[test]
fn dealing_out_loses_no_use() {
    let setup = |scratch: &Scratch| {
        let mut old = vec![open_one(&scratch.0, START)];
        for number in 0..12 {
            assert!(opens(&mut old, number, 60, START));
        }
        let (attempt, mut new) = beside(scratch, 2, START);
        let (tails, undealt) = attempt.tail().expect("reads");
        take(&mut new, tails, START);
        (new, undealt)
    };
    let scratch = Scratch::new();
    let (_, undealt) = setup(&scratch);
    let (_, operations) = under(Plan::default(), || undealt.deal_out());
    let mut failed = 0;
    for plan in plans(operations.len()) {
        let scratch = Scratch::new();
        let (mut new, undealt) = setup(&scratch);
        let (dealt, _) = under(plan.clone(), || undealt.deal_out());
        failed += usize::from(dealt.is_err());
        assert!(
            (0..12).all(|number| !opens(&mut new, number, 60, START)),
            "{plan:?}"
        );
        drop(new);
        for shards in [2, 1] {
            let mut again = open(&scratch.0, shards, START);
            let refused = (0..12).all(|number| !opens(&mut again, number, 60, START));
            assert!(refused, "{plan:?}");
        }
    }
    assert!(failed > operations.len(), "only {failed}");
}

/// Goal: the tail is what was added, however many tokens are known.
#[test]
fn the_tail_is_what_was_added() {
    for known in [100, 10_000] {
        let scratch = Scratch::new();
        let settings = ShardSettings::open(1);
        let mut old = open_all(&scratch.0, &settings, START).expect("opens");
        let mut record = |number| {
            let recorded = old[0].0.record(&[token_use(number, 60)]);
            recorded.expect("written");
        };
        (0..known).for_each(&mut record);
        let (attempt, mut new) = beside(&scratch, 1, START);
        assert_eq!(wide(new[0].1.len()), known);
        (known..known + 1_000).for_each(&mut record);
        let (tails, _nothing) = attempt.tail().expect("reads");
        assert_eq!(tails[0].uses.len(), 1_000);
        take(&mut new, tails, START);
        let token_use = token_use(known + 999, 60);
        let again = new[0].1.redeem(token_use.token, token_use.expires, START);
        assert_eq!(again, Redeemed::Again);
    }
}
