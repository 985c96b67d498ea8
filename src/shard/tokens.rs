//! Used tokens of the rooms at home here: single use is decided by this table and nowhere else.
//!
//! A token is remembered until it can no longer be used: until its remaining life at the time of use has
//! passed by the monotonic clock, and it has expired by the wall clock. So a wall clock that is ahead for a
//! while makes the table forget no token; one that is behind makes it keep tokens longer.
//!
//! For each sealing key the latest expiry of its forgotten tokens is kept. Tokens of that key which expire no
//! later are refused whatever the clock shows, so forgetting is safe even if the clock steps back afterwards.
//! By a correct clock such tokens have expired anyway.

mod recovery;

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use uproar_proto::base::clock::{Now, Tick, UnixTime};
use uproar_proto::base::limits::{
    FORGOTTEN_KEYS_MAX, TOKENS_FORGOTTEN_PER_LOOK_MAX, USED_TOKENS_MAX,
};
use uproar_proto::token::{KeyId, TokenId};

pub use recovery::Recovery;

/// Remembers each token until it can no longer be used.
#[derive(Debug, Default)]
pub struct UsedTokens {
    used: HashSet<TokenId, BuildHasherDefault<NonceHasher>>,
    by_minute: BTreeMap<Minute, Expiring>,
    forgotten: Forgotten,
}

/// The result of using a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Redeemed {
    /// It was used now, for the first time.
    First,
    /// It was used before, or is so old that this is not known any more.
    Again,
    /// The table is full.
    Full,
}

impl UsedTokens {
    /// Uses `token`, which expires at `expires`.
    pub fn redeem(&mut self, token: TokenId, expires: UnixTime, now: Now) -> Redeemed {
        let minute = Minute::of(expires);
        if self.forgotten.covers(token.key_id(), expires) || self.used.contains(&token) {
            return Redeemed::Again;
        }
        if self.used.len() >= USED_TOKENS_MAX {
            return Redeemed::Full;
        }
        self.used.insert(token);
        let expiring = self.by_minute.entry(minute).or_default();
        expiring.push(token, expires, now);
        Redeemed::First
    }

    /// Whether a token was used, and is not so old that this is not known any more.
    pub fn remembers(&self, token: &TokenId) -> bool {
        self.used.contains(token)
    }

    /// Notes a use of `token` read from a journal. If it has expired, or has no place, only the mark of its key is
    /// kept.
    pub fn recover(&mut self, token: TokenId, expires: UnixTime, now: Now) {
        let minute = Minute::of(expires);
        if minute < Minute::of(now.unix) || self.redeem(token, expires, now) == Redeemed::Full {
            self.forgotten.note(token.key_id(), expires);
        }
    }

    /// Notes a mark read from a journal.
    pub fn recover_mark(&mut self, Mark { key, until }: Mark) {
        match key {
            Some(key) => self.forgotten.note(key, until),
            None => self.forgotten.others = self.forgotten.others.max(until),
        }
    }

    /// Makes room for a number of further tokens.
    pub fn reserve(&mut self, more: usize) {
        self.used.reserve(more);
    }

    /// Returns the marks of forgotten tokens, for the journal.
    pub fn forgotten(&self) -> &Forgotten {
        &self.forgotten
    }

    /// Returns when the first remembered token expires.
    pub fn oldest(&self) -> Option<Minute> {
        self.by_minute.first_key_value().map(|(minute, _)| *minute)
    }

    /// Undoes the [`UsedTokens::redeem`] of `token` that returned [`Redeemed::First`]. A token that was forgotten
    /// since stays refused.
    pub fn take_back(&mut self, token: TokenId, expires: UnixTime) {
        self.used.remove(&token);
        if let Some(expiring) = self.by_minute.get_mut(&Minute::of(expires))
            && let Some(index) = expiring.tokens.iter().rposition(|other| *other == token)
        {
            expiring.tokens.swap_remove(index);
        }
    }

    /// Forgets tokens that expired a whole minute ago, up to a bound for each call.
    pub fn expire(&mut self, now: Now) {
        let mut left = TOKENS_FORGOTTEN_PER_LOOK_MAX;
        while left > 0
            && let Some(mut entry) = self.by_minute.first_entry()
            && *entry.key() < Minute::of(now.unix)
            && entry.get().passed <= now.tick
        {
            let latest = entry.key().end();
            let tokens = &mut entry.get_mut().tokens;
            let kept = tokens.len().saturating_sub(left);
            left -= tokens.len() - kept;
            for token in tokens.drain(kept..) {
                self.forgotten.note(token.key_id(), latest);
                self.used.remove(&token);
            }
            if kept == 0 {
                entry.remove();
            }
        }
    }

    /// Number of remembered tokens.
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// Whether no token is remembered.
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }
}

/// A minute of the wall clock, counted from 1 in 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Minute(u64);

impl Minute {
    /// Returns the minute that contains `time`.
    pub fn of(time: UnixTime) -> Self {
        Self(time.secs() / 60 + 1)
    }

    /// Returns its last second.
    fn end(self) -> UnixTime {
        UnixTime::from_secs((60 * self.0).saturating_sub(1))
    }
}

/// Tokens that expire within the same minute.
#[derive(Debug, Default)]
struct Expiring {
    tokens: Vec<TokenId>,
    // When the remaining life of the last of them has passed.
    passed: Tick,
}

impl Expiring {
    fn push(&mut self, token: TokenId, expires: UnixTime, now: Now) {
        self.tokens.push(token);
        let passed = now.tick.after(expires.since(now.unix));
        self.passed = self.passed.max(passed);
    }
}

/// Tokens of one key, or of all keys, that expire no later may have been used and forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The key; `None`: all keys.
    pub key: Option<KeyId>,
    /// The latest expiry it covers.
    pub until: UnixTime,
}

/// For each sealing key, the expiry up to which used tokens may have been forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Forgotten {
    keys: Vec<(KeyId, UnixTime)>,
    // The mark of all keys: the latest of those that had no place.
    others: UnixTime,
}

impl Forgotten {
    /// Returns the marks for the journal; none if no token was forgotten.
    pub fn marks(&self) -> impl Iterator<Item = Mark> {
        let of_key = |(key, until): &(KeyId, UnixTime)| Mark {
            key: Some(*key),
            until: *until,
        };
        let of_all = (self.others > UnixTime::default()).then_some(Mark {
            key: None,
            until: self.others,
        });
        self.keys.iter().map(of_key).chain(of_all)
    }

    /// Whether a token of this key, expiring then, may have been used and forgotten.
    fn covers(&self, key: KeyId, expires: UnixTime) -> bool {
        let of_key = self.keys.iter().find(|(known, _)| *known == key);
        expires <= self.others || of_key.is_some_and(|(_, until)| expires <= *until)
    }

    /// Notes that a token was forgotten.
    fn note(&mut self, key: KeyId, expires: UnixTime) {
        if let Some((_, until)) = self.keys.iter_mut().find(|(known, _)| *known == key) {
            *until = expires.max(*until);
            return;
        }
        self.keys.push((key, expires));
        if self.keys.len() > FORGOTTEN_KEYS_MAX {
            // The key with the oldest tokens was replaced long ago and opens no token any more.
            let oldest = (0..self.keys.len()).min_by_key(|index| self.keys[*index].1);
            let (_, until) = self
                .keys
                .swap_remove(oldest.expect("one more than the most"));
            self.others = self.others.max(until);
        }
    }
}

/// Hashes token ids. They carry our random nonce under a seal, so no outsider can make two of them collide.
#[derive(Debug, Default)]
pub struct NonceHasher(u64);

impl Hasher for NonceHasher {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks_exact(8) {
            let word = part.try_into().map_or(0, u64::from_le_bytes);
            self.0 = (self.0.rotate_left(31) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests;
