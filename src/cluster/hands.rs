//! What the thread is given at its start.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use super::bucket::BucketEnd;
use super::handle::{Order, Phase};
use super::settings::ClusterSettings;
use super::state::State;
use crate::clock::Clock;
use crate::shard::cluster::Search;
use crate::shard::mesh::ClusterEnd;
use crate::shard::metrics::ShardMetrics;
use crate::shard::settings::{ShardSettings, SharedBudgets};
use uproar_proto::cluster::Incarnation;
use uproar_proto::cluster::here::About;

/// Settings of the thread.
#[derive(Debug)]
pub struct NodeSettings {
    /// `[cluster]`.
    pub cluster: ClusterSettings,
    /// Of all shards: where rooms are at home.
    pub shard: ShardSettings,
    /// What this node says of itself.
    pub about: About,
    /// Whether another process serves as this node still: the thread connects, and waits for [`Cluster::begin`] unseen.
    ///
    /// [`Cluster::begin`]: super::Cluster::begin
    pub stands_by: bool,
}

/// What the thread has in hand.
pub(super) struct Hands {
    pub(super) settings: NodeSettings,
    pub(super) me: Incarnation,
    pub(super) end: ClusterEnd,
    // Taken when the brokers are there.
    pub(super) bucket: Option<BucketEnd>,
    pub(super) shards: Vec<Arc<ShardMetrics>>,
    pub(super) budgets: SharedBudgets,
    pub(super) clock: Clock,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) state: Arc<ArcSwap<State>>,
    pub(super) phase: watch::Sender<Phase>,
    /// The newest search of each shard.
    pub(super) searches: watch::Sender<Vec<Search>>,
}
