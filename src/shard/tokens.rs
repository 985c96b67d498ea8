//! Used tokens of the rooms at home here: single use is decided by this table and nowhere else.

use std::collections::{BTreeMap, HashSet};

use crate::base::clock::UnixTime;
use crate::base::limits::USED_TOKENS_MAX;
use crate::protocol::token::TokenId;

/// Remembers each token until it can no longer be used.
#[derive(Debug, Default)]
pub struct UsedTokens {
    used: HashSet<TokenId>,
    by_minute: BTreeMap<u64, Vec<TokenId>>,
}

/// What the table says of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Redeemed {
    /// Used now, for the first time.
    First,
    /// Used before.
    Again,
    /// The table is full.
    Full,
}

impl UsedTokens {
    /// Uses `token`, which expires at `expires`.
    pub fn redeem(&mut self, token: TokenId, expires: UnixTime) -> Redeemed {
        if self.used.contains(&token) {
            return Redeemed::Again;
        }
        if self.used.len() >= USED_TOKENS_MAX {
            return Redeemed::Full;
        }
        self.used.insert(token);
        self.by_minute
            .entry(minute(expires))
            .or_default()
            .push(token);
        Redeemed::First
    }

    /// Forgets what expired a whole minute ago: the token's own expiry refuses it now.
    pub fn expire(&mut self, now: UnixTime) {
        while let Some(entry) = self.by_minute.first_entry()
            && *entry.key() < minute(now)
        {
            for token in entry.remove() {
                self.used.remove(&token);
            }
        }
    }

    /// Tokens remembered.
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }
}

fn minute(time: UnixTime) -> u64 {
    time.secs() / 60 + 1
}
