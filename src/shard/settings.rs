//! Settings that a shard gets once, at start.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::bans::SharedBans;
use super::rules::SharedRules;
use crate::audit::AuditLog;
use uproar_proto::base::hash::fnv1a_64;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{
    ACCOUNT_MODERATIONS_PER_SECOND, ACCOUNT_SENDS_PER_SECOND, CONNECTION_REQUESTS_PER_SECOND,
    CONNECTIONS_MAX_AWS, HISTORY_BYTES_PER_SECOND, PACE_CEILING, REVIEW_TIMEOUT,
    STRIPE_MEMBERS_MIN, WINDOW_AGE_MAX, WINDOW_BYTES_MAX,
};
use uproar_proto::base::rate::{Rate, SharedBudget};
use uproar_proto::chat::encode;
use uproar_proto::cluster::engine::MessageRates;
use uproar_proto::room::audience::SlowPolicy;
use uproar_proto::room::log::Window;

/// A shard's number, from 0 to the shard count minus one.
pub type ShardId = usize;

/// Settings shared by all shards.
#[derive(Debug, Clone)]
pub struct ShardSettings {
    /// Number of shards.
    pub shard_count: usize,
    /// Rate of requests of one connection; `None`: not limited.
    pub connection_rate: Option<Rate>,
    /// Whether rooms enforce their `maximumMessageRatePerSecond`.
    pub room_rates: bool,
    /// Rate of `SEND_MESSAGE` of all rooms together; `None`: not limited.
    pub account_sends: Option<Rate>,
    /// Rate of `DELETE_MESSAGE` of all rooms together, and the same again for `DISCONNECT_USER`.
    pub account_moderations: Option<Rate>,
    /// Most connections of all shards together.
    pub connections_max: usize,
    /// Bytes and age of the kept part of a room log.
    pub window: Window,
    /// Ceiling of the pace; zero switches pacing off.
    pub pace_ceiling: Duration,
    /// How slow clients are handled.
    pub slow_policy: SlowPolicy,
    /// Members on the home shard above which a room is spread over all shards.
    pub stripe_members_min: usize,
    /// Most time from a message's arrival to its verdict; after that the room's fallback decides.
    pub review_timeout: Duration,
    /// Bytes of remembered messages for joining viewers each second, of all shards together.
    pub history_bytes_per_second: u64,
    /// Name of the event that takes back all messages of a user.
    pub purge_event: Arc<str>,
    /// Whether a token opens a connection again until it expires, and then closes the one that it opened before.
    pub tokens_reopen: bool,
    /// Conformance mode: no token is needed, and every message is echoed.
    pub echo: bool,
}

impl ShardSettings {
    /// Settings with Amazon's rates for one account.
    pub fn aws(shard_count: usize) -> Self {
        Self {
            connection_rate: Some(Rate::per_second(CONNECTION_REQUESTS_PER_SECOND)),
            room_rates: true,
            account_sends: Some(Rate::per_second(ACCOUNT_SENDS_PER_SECOND)),
            account_moderations: Some(Rate::per_second(ACCOUNT_MODERATIONS_PER_SECOND)),
            ..Self::open(shard_count)
        }
    }

    /// Settings without rates; every other limit stays.
    pub fn open(shard_count: usize) -> Self {
        Self {
            shard_count,
            connection_rate: None,
            room_rates: false,
            account_sends: None,
            account_moderations: None,
            connections_max: CONNECTIONS_MAX_AWS,
            window: Window {
                bytes_max: WINDOW_BYTES_MAX,
                age_max: WINDOW_AGE_MAX,
            },
            pace_ceiling: PACE_CEILING,
            slow_policy: SlowPolicy::Skip,
            stripe_members_min: STRIPE_MEMBERS_MIN,
            review_timeout: REVIEW_TIMEOUT,
            history_bytes_per_second: HISTORY_BYTES_PER_SECOND,
            purge_event: encode::PURGED.into(),
            tokens_reopen: false,
            echo: false,
        }
    }

    /// The account's rates of messages.
    pub fn message_rates(&self) -> MessageRates {
        MessageRates {
            sends: self.account_sends,
            moderations: self.account_moderations,
        }
    }

    /// Changes them.
    pub fn set_message_rates(&mut self, rates: MessageRates) {
        (self.account_sends, self.account_moderations) = (rates.sends, rates.moderations);
    }

    /// What shards get of them, of a server alone or of a node.
    #[must_use]
    pub fn of_shards(&self, is_node: bool) -> Self {
        let settings = self.clone();
        if is_node {
            settings.without_account_rates()
        } else {
            settings
        }
    }

    /// The same for a node of a cluster, where the home of a room charges the account's rates before its shard is asked.
    #[must_use]
    pub fn without_account_rates(mut self) -> Self {
        self.set_message_rates(MessageRates::default());
        self
    }

    /// Returns the shard that orders `room`, by a stable hash (FNV-1a) of its id.
    pub fn home(&self, room: RoomId) -> ShardId {
        let hash = fnv1a_64(room.as_bytes());
        let count = u64::try_from(self.shard_count).expect("a few shards");
        usize::try_from((hash >> 32) % count).expect("below the shard count")
    }
}

/// What all shards share: rates, the limit on connections, bans.
#[derive(Debug, Default)]
pub struct AccountBudgets {
    /// Budget of `SEND_MESSAGE`.
    pub sends: SharedBudget,
    /// Budget of `DELETE_MESSAGE`, by WebSocket and HTTP.
    pub deletions: SharedBudget,
    /// Budget of `DISCONNECT_USER`, by WebSocket and HTTP.
    pub disconnects: SharedBudget,
    /// Who may not write or be there: no budget, and of the account all the same.
    pub bans: SharedBans,
    /// Where moderation is noted.
    pub audit: AuditLog,
    /// What operators' rules make of messages; as little a budget.
    pub rules: SharedRules,
    /// Budget of remembered messages for joining viewers, in bytes.
    pub history: SharedBudget,
    connections: AtomicUsize,
}

impl AccountBudgets {
    /// Counts connections of other nodes against the limit too: what was told `before` is replaced.
    pub fn count_elsewhere(&self, before: usize, now: usize) {
        // Added first: one that comes in between must not see less than there is.
        self.connections.fetch_add(now, Ordering::Relaxed);
        self.connections.fetch_sub(before, Ordering::Relaxed);
    }
}

/// One connection's share of [`ShardSettings::connections_max`]; given back when dropped.
#[derive(Debug)]
pub struct Reservation(SharedBudgets);

impl Reservation {
    /// Reserves one more connection; `None` if `connections_max` are reserved already, including those not
    /// installed yet.
    pub fn take(budgets: &SharedBudgets, connections_max: usize) -> Option<Self> {
        let one_more = |count: usize| (count < connections_max).then_some(count + 1);
        let taken = budgets
            .connections
            .try_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.ok().map(|_| Self(Arc::clone(budgets)))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The budgets, shared by reference between the shards.
pub type SharedBudgets = Arc<AccountBudgets>;
