//! What a shard is told once, at start.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::base::id::RoomId;
use crate::base::limits::{
    ACCOUNT_MODERATIONS_PER_SECOND, ACCOUNT_SENDS_PER_SECOND, CONNECTION_REQUESTS_PER_SECOND,
    CONNECTIONS_MAX_AWS, PACE_CEILING, REVIEW_TIMEOUT, STRIPE_MEMBERS_MIN, WINDOW_AGE_MAX,
    WINDOW_BYTES_MAX,
};
use crate::base::rate::{Rate, SharedBudget};
use crate::room::audience::SlowPolicy;
use crate::room::log::Window;

/// A shard's number, 0 to the shard count less one.
pub type ShardId = usize;

/// Settings shared by all shards.
#[derive(Debug, Clone)]
pub struct ShardSettings {
    /// How many shards there are.
    pub shard_count: usize,
    /// Requests of one connection; `None`: not limited.
    pub connection_rate: Option<Rate>,
    /// Whether rooms enforce their `maximumMessageRatePerSecond`.
    pub room_rates: bool,
    /// `SEND_MESSAGE` of all rooms together.
    pub account_sends: Option<Rate>,
    /// `DELETE_MESSAGE` of all rooms together, and the same for `DISCONNECT_USER`.
    pub account_moderations: Option<Rate>,
    /// Connections of all shards together.
    pub connections_max: usize,
    /// What a room log keeps.
    pub window: Window,
    /// Ceiling of the pace; zero switches pacing off.
    pub pace_ceiling: Duration,
    /// What becomes of slow clients.
    pub slow_policy: SlowPolicy,
    /// Members on the home shard above which a room is spread over all shards.
    pub stripe_members_min: usize,
    /// From a message's arrival to its verdict; then the room's fallback decides.
    pub review_timeout: Duration,
    /// Conformance mode: no token, every message is sent back.
    pub echo: bool,
}

impl ShardSettings {
    /// Amazon's rates for one account.
    pub fn aws(shard_count: usize) -> Self {
        Self {
            connection_rate: Some(Rate::per_second(CONNECTION_REQUESTS_PER_SECOND)),
            room_rates: true,
            account_sends: Some(Rate::per_second(ACCOUNT_SENDS_PER_SECOND)),
            account_moderations: Some(Rate::per_second(ACCOUNT_MODERATIONS_PER_SECOND)),
            ..Self::open(shard_count)
        }
    }

    /// No rates; every other limit as it is.
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
            echo: false,
        }
    }

    /// The shard that orders `room`: a stable hash (FNV-1a) of its id.
    pub fn home(&self, room: RoomId) -> ShardId {
        let hash = room
            .as_bytes()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
        let count = u64::try_from(self.shard_count).expect("a few shards");
        usize::try_from((hash >> 32) % count).expect("below the shard count")
    }
}

/// What all shards charge together: rates, and the limit on connections.
#[derive(Debug, Default)]
pub struct AccountBudgets {
    /// `SEND_MESSAGE`.
    pub sends: SharedBudget,
    /// `DELETE_MESSAGE`, WebSocket and HTTP.
    pub deletions: SharedBudget,
    /// `DISCONNECT_USER`, WebSocket and HTTP.
    pub disconnects: SharedBudget,
    connections: AtomicUsize,
}

/// One connection's share of [`ShardSettings::connections_max`]; given back when dropped.
#[derive(Debug)]
pub struct Reservation(SharedBudgets);

impl Reservation {
    /// A place for one more connection; `None` if there are `connections_max` already, those on their way
    /// from one shard to another counted.
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

/// Shared by reference between the shards.
pub type SharedBudgets = Arc<AccountBudgets>;
