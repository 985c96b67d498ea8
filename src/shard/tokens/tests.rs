use std::time::Duration;

use proptest::prelude::*;

use super::*;

const START: Now = Now {
    tick: Tick::from_nanos(3_600_000_000_000),
    unix: UnixTime::from_secs(1_800_000_000),
};
const HOUR: Duration = Duration::from_hours(1);

fn token(key: u8, number: u64) -> TokenId {
    let mut bytes = [0; 16];
    bytes[0] = key;
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    TokenId::from_bytes(bytes)
}

/// Moves both clocks on by `by`, and steps the wall clock by `step_secs`.
fn later(now: Now, by: Duration, step_secs: i64) -> Now {
    let secs = now.unix.after(by).secs().saturating_add_signed(step_secs);
    Now {
        tick: now.tick.after(by),
        unix: UnixTime::from_secs(secs),
    }
}

/// Goal: a clock that is two hours ahead for four seconds makes no used token valid again, and no unused token
/// invalid.
#[test]
fn a_clock_that_was_ahead_for_a_while_forgets_nothing() {
    let mut table = UsedTokens::default();
    let expires = START.unix.after(HOUR);
    assert_eq!(table.redeem(token(1, 1), expires, START), Redeemed::First);
    let ahead = later(START, Duration::from_secs(4), 7200);
    table.expire(ahead);
    let right = later(ahead, Duration::from_secs(4), -7200);
    table.expire(right);
    assert_eq!(table.redeem(token(1, 1), expires, right), Redeemed::Again);
    assert_eq!(table.redeem(token(1, 2), expires, right), Redeemed::First);
}

/// Goal: a forgotten token stays refused when the clock steps back later; tokens of a new key, and those that
/// expire later, are not affected.
#[test]
fn a_clock_that_steps_back_after_the_expiry_makes_no_token_valid_again() {
    let mut table = UsedTokens::default();
    let expires = START.unix.after(HOUR);
    assert_eq!(table.redeem(token(1, 1), expires, START), Redeemed::First);
    let over = later(START, HOUR + Duration::from_mins(2), 0);
    table.expire(over);
    assert!(table.is_empty());
    let back = later(over, Duration::from_secs(1), -3600);
    assert_eq!(table.redeem(token(1, 1), expires, back), Redeemed::Again);
    assert_eq!(table.redeem(token(2, 1), expires, back), Redeemed::First);
    let fresh = back.unix.after(HOUR + Duration::from_mins(1));
    assert_eq!(table.redeem(token(1, 2), fresh, back), Redeemed::First);
}

/// Goal: a token taken back after a failed record can be used again, once, and leaves no trace.
#[test]
fn a_use_taken_back_did_not_happen() {
    let mut table = UsedTokens::default();
    let expires = START.unix.after(HOUR);
    for _ in 0..3 {
        assert_eq!(table.redeem(token(1, 1), expires, START), Redeemed::First);
        table.take_back(token(1, 1), expires);
    }
    assert!(table.is_empty());
    table.expire(later(START, HOUR * 2, 0));
    assert!(table.by_minute.is_empty());
}

/// Goal: the tokens of a crowd are forgotten over several calls, all of them.
#[test]
fn many_tokens_are_forgotten_in_several_calls() {
    let mut table = UsedTokens::default();
    let expires = START.unix.after(HOUR);
    let many = 2 * TOKENS_FORGOTTEN_PER_LOOK_MAX as u64 + 1;
    for number in 0..many {
        assert_eq!(
            table.redeem(token(1, number), expires, START),
            Redeemed::First
        );
    }
    let over = later(START, HOUR * 2, 0);
    table.expire(over);
    assert_eq!(table.len(), TOKENS_FORGOTTEN_PER_LOOK_MAX + 1);
    let back = later(over, Duration::ZERO, -5400);
    for number in 0..many {
        assert_eq!(
            table.redeem(token(1, number), expires, back),
            Redeemed::Again
        );
    }
    table.expire(over);
    table.expire(over);
    assert!(table.is_empty());
}

/// Goal: with more keys than places, every token is still used once at most.
#[test]
fn forgotten_keys_are_bounded_and_none_is_let_go() {
    let mut forgotten = Forgotten::default();
    let key = |number: u8| [number; 4];
    for number in 0..3 * u8::try_from(FORGOTTEN_KEYS_MAX).expect("a few") {
        forgotten.note(key(number), UnixTime::from_secs(1000 + u64::from(number)));
        assert!(forgotten.keys.len() <= FORGOTTEN_KEYS_MAX);
        for known in 0..=number {
            assert!(forgotten.covers(key(known), UnixTime::from_secs(1000 + u64::from(known))));
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Both clocks move on; the wall clock is stepped by some seconds.
    Pass(u64, i64),
    /// A token of this key is made now with this life in seconds, and used.
    Use(u8, u64),
    /// The table forgets expired tokens.
    Expire,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..2_000_u64, prop_oneof![4 => Just(0), 1 => -20_000..20_000_i64])
            .prop_map(|(secs, step)| Step::Pass(secs, step)),
        4 => (0..3_u8, 60..10_000_u64).prop_map(|(key, life)| Step::Use(key, life)),
        2 => Just(Step::Expire),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    /// Goal: no token is accepted twice, whatever the wall clock does. While the clock is correct, no unused token
    /// is refused, and all are forgotten in the end.
    #[test]
    fn no_clock_makes_a_token_valid_twice(steps in steps()) {
        let mut table = UsedTokens::default();
        let (mut now, mut stepped, mut taken) = (START, false, Vec::new());
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Pass(secs, step) => {
                    now = later(now, Duration::from_secs(secs), step);
                    stepped |= step != 0;
                }
                Step::Expire => table.expire(now),
                Step::Use(key, life) => {
                    let (token, expires) = (token(key, number as u64), now.unix.after(Duration::from_secs(life)));
                    match table.redeem(token, expires, now) {
                        Redeemed::First => taken.push((token, expires)),
                        refused => prop_assert!(stepped, "{refused:?} with a right clock"),
                    }
                }
            }
            for (token, expires) in &taken {
                prop_assert_eq!(table.redeem(*token, *expires, now), Redeemed::Again);
            }
        }
        if !stepped {
            table.expire(later(now, HOUR * 4, 0));
            prop_assert!(table.is_empty());
        }
    }
}
