//! Fills a table of used tokens at a start, with millions at once.
//!
//! Inserted one by one in a journal's order, each token costs a miss of every cache and of the TLB: 0.25 µs, over a
//! second for five million. So the tokens are first partitioned by their place in the table, and then inserted
//! part by part, each of which fits into a core's cache.

use std::hash::BuildHasher;

use super::{Expiring, Mark, Minute, UsedTokens};
use uproar_proto::base::clock::{Now, UnixTime};
use uproar_proto::base::limits::USED_TOKENS_MAX;
use uproar_proto::token::TokenId;

/// Parts of the table, filled in order. The 256 parts of a full table are 600 KB each.
const PARTS_LOG2: u32 = 8;
/// Tokens from which partitioning pays: below, the whole table fits into a core's cache.
const DEALT_MIN: usize = 1 << 15;

/// Collects the records of a start until the table is made.
#[derive(Debug)]
pub struct Recovery {
    table: UsedTokens,
    now: Now,
    // Tokens in the table's lists; a token that was read twice counts twice.
    taken: usize,
    // The minute of the last token, whose list is taken out of the table meanwhile.
    minute: Minute,
    expiring: Expiring,
}

impl Recovery {
    /// Starts without records.
    pub fn new(now: Now) -> Self {
        Self {
            table: UsedTokens::default(),
            now,
            taken: 0,
            minute: Minute::default(),
            expiring: Expiring::default(),
        }
    }

    /// Notes a use of `token`. If it has expired, or has no place, only the mark of its key is kept.
    pub fn take(&mut self, token: TokenId, expires: UnixTime) {
        let minute = Minute::of(expires);
        if self.table.forgotten.covers(token.key_id(), expires) {
            return;
        }
        if minute < Minute::of(self.now.unix) || self.taken >= USED_TOKENS_MAX {
            self.table.forgotten.note(token.key_id(), expires);
            return;
        }
        if minute != self.minute {
            self.put_by();
            self.minute = minute;
            self.expiring = self.table.by_minute.remove(&minute).unwrap_or_default();
        }
        self.expiring.push(token, expires, self.now);
        self.taken += 1;
    }

    /// Notes a mark.
    pub fn mark(&mut self, mark: Mark) {
        self.table.recover_mark(mark);
    }

    /// Makes the table of all records.
    pub fn finish(mut self) -> UsedTokens {
        self.put_by();
        self.table.used.reserve(self.taken);
        if self.taken < DEALT_MIN {
            let tokens = self.table.by_minute.values().flat_map(|list| &list.tokens);
            self.table.used.extend(tokens);
            return self.table;
        }
        // A token's place is the low bits of its hash; the highest of these select its part.
        let places = (self.table.used.capacity() * 8 / 7).next_power_of_two();
        let shift = places.ilog2().saturating_sub(PARTS_LOG2);
        let most = self.taken >> PARTS_LOG2;
        let part = || Vec::with_capacity(most + most / 8);
        let mut parts: Vec<Vec<TokenId>> =
            std::iter::repeat_with(part).take(1 << PARTS_LOG2).collect();
        for token in self.table.by_minute.values().flat_map(|list| &list.tokens) {
            let place = self.table.used.hasher().hash_one(token) >> shift;
            // The low eight bits.
            let [part, ..] = place.to_le_bytes();
            parts[usize::from(part)].push(*token);
        }
        for part in parts {
            self.table.used.extend(part);
        }
        self.table
    }

    /// Puts the list of the last minute back.
    fn put_by(&mut self) {
        let expiring = std::mem::take(&mut self.expiring);
        if !expiring.tokens.is_empty() {
            self.table.by_minute.insert(self.minute, expiring);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use uproar_proto::base::clock::Tick;

    const START: Now = Now {
        tick: Tick::from_nanos(3_600_000_000_000),
        unix: UnixTime::from_secs(1_800_000_000),
    };

    /// Goal: a table made at once equals one whose tokens were inserted one by one: with expired tokens, some read
    /// twice, several keys and marks; few and many.
    #[test]
    fn a_table_made_at_once_is_as_if_made_one_by_one() {
        for count in [0, 1, 500, 3 * DEALT_MIN] {
            let mut rng = fastrand::Rng::with_seed(7);
            let (mut recovery, mut single) = (Recovery::new(START), UsedTokens::default());
            let mut last = (TokenId::from_bytes([0; 16]), START.unix);
            for _ in 0..count {
                let mut bytes: [u8; 16] = std::array::from_fn(|_| rng.u8(..));
                bytes[..4].copy_from_slice(&[rng.u8(..3), 0, 0, 0]);
                let expires = UnixTime::from_secs(START.unix.secs() - 90 + rng.u64(..1000));
                if rng.u8(..) >= 20 {
                    last = (TokenId::from_bytes(bytes), expires);
                }
                let (token, expires) = last;
                if rng.u32(..).is_multiple_of(5000) {
                    let until = UnixTime::from_secs(START.unix.secs() + 60);
                    let mark = Mark {
                        key: Some(token.key_id()),
                        until,
                    };
                    recovery.mark(mark);
                    single.recover_mark(mark);
                }
                recovery.take(token, expires);
                single.recover(token, expires, START);
            }
            let mut made = recovery.finish();
            assert_eq!(made.used, single.used);
            assert_eq!(made.forgotten, single.forgotten);
            assert_eq!(made.oldest(), single.oldest());
            for (minute, list) in &single.by_minute {
                let found = &made.by_minute[minute];
                let tokens = |list: &Expiring| -> BTreeSet<[u8; 16]> {
                    list.tokens.iter().map(|token| *token.as_bytes()).collect()
                };
                assert_eq!(tokens(found), tokens(list));
                assert_eq!(found.passed, list.passed);
            }
            let over = Duration::from_hours(1);
            let late = Now {
                tick: START.tick.after(over),
                unix: START.unix.after(over),
            };
            for _ in 0..10 {
                made.expire(late);
            }
            assert!(made.is_empty() && made.by_minute.is_empty());
        }
    }
}
