//! This server as one node of several, by brokers that keep a replicated log: NATS JetStream.
//!
//! What a node does is decided by the pure engine (`uproar_proto::cluster`); this module moves its bytes. The brokers'
//! client is used here and nowhere else. Two connections: one for published records alone, which a broker may cut when
//! this node is slow, and one for everything else.

#![cfg_attr(
    not(feature = "cluster"),
    expect(dead_code, reason = "the thread that reads it is not built")
)]

#[cfg(not(feature = "cluster"))]
mod absent;
pub mod bucket;
#[cfg(feature = "cluster")]
mod calls;
#[cfg(feature = "cluster")]
mod choice;
#[cfg(feature = "cluster")]
mod connect;
mod fault;
#[cfg(feature = "cluster")]
mod fetch;
mod handle;
mod hands;
#[cfg(feature = "cluster")]
mod kv;
#[cfg(feature = "cluster")]
mod names;
#[cfg(feature = "cluster")]
mod presence;
mod settings;
#[cfg(feature = "cluster")]
mod setup;
mod state;
pub mod survey;
#[cfg(feature = "cluster")]
mod thread;
#[cfg(feature = "cluster")]
mod token_uses;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

#[cfg(not(feature = "cluster"))]
pub use absent::{await_key, open, setup};
#[cfg(feature = "cluster")]
pub use connect::connect_once as connect;
pub use fault::ClusterFault;
pub use handle::{Cluster, RegistryFacts, Snapshot};
pub use hands::NodeSettings;
#[cfg(feature = "cluster")]
pub use kv::open;
#[cfg(feature = "cluster")]
pub use presence::await_key;
pub use settings::ClusterSettings;
#[cfg(feature = "cluster")]
pub use setup::setup;
pub use state::{State, Unready};

use bucket::BucketEnd;
use handle::Phase;
use hands::Hands;

use crate::clock::Clock;
use crate::random;
use crate::shard::mesh::ClusterEnd;
use crate::shard::metrics::ShardMetrics;
use crate::shard::settings::SharedBudgets;
use crate::supervisor::{Supervisor, Thread};
use uproar_proto::cluster::Incarnation;

/// The running thread.
#[derive(Debug)]
pub struct ClusterThread {
    cluster: Cluster,
    thread: Thread,
}

/// Starts the thread, which looks for the brokers: [`Cluster::begun`] tells when it has them.
///
/// # Errors
///
/// No thread, descriptor or random bytes are available, or the program was built without the feature.
pub fn start(
    settings: NodeSettings,
    (end, bucket): (ClusterEnd, BucketEnd),
    (shards, budgets): (Vec<Arc<ShardMetrics>>, SharedBudgets),
    clock: Clock,
    supervisor: &Supervisor,
) -> Result<ClusterThread, ClusterFault> {
    let me = Incarnation::new(u64::from_le_bytes(random::bytes()?));
    let (sender, orders) = mpsc::unbounded_channel();
    let (phase_sender, phase) = watch::channel(Phase::Beginning);
    let (search_sender, searches) = watch::channel(vec![0; shards.len()]);
    let servers = settings.cluster.servers.join(", ");
    let state = Arc::new(ArcSwap::from_pointee(State {
        waits: Some(format!("{servers} have not answered yet")),
        ..State::default()
    }));
    let cluster = Cluster {
        orders: sender,
        state: Arc::clone(&state),
        phase,
        searches,
        clock,
        me,
        token_life: settings.cluster.token_life,
        isolated_cut: settings.cluster.isolated_cut,
    };
    let bell = Arc::clone(&end.bell);
    let hands = Hands {
        settings,
        me,
        end,
        bucket: Some(bucket),
        shards,
        budgets,
        clock,
        orders,
        state,
        phase: phase_sender,
        searches: search_sender,
    };
    let thread = spawn(hands, move || bell.press(), supervisor)?;
    Ok(ClusterThread { cluster, thread })
}

#[cfg(feature = "cluster")]
fn spawn(
    hands: Hands,
    wake: impl Fn() + Send + Sync + 'static,
    supervisor: &Supervisor,
) -> Result<Thread, ClusterFault> {
    let runtime = crate::supervisor::runtime()?;
    let work = move |pulse: &crate::supervisor::Pulse| thread::run(runtime, hands, pulse);
    Ok(supervisor.thread("cluster", wake, work)?)
}

#[cfg(not(feature = "cluster"))]
fn spawn(
    _hands: Hands,
    _wake: impl Fn() + Send + Sync + 'static,
    _supervisor: &Supervisor,
) -> Result<Thread, ClusterFault> {
    Err(ClusterFault::NotBuilt)
}

impl ClusterThread {
    /// A handle for the control plane.
    pub fn cluster(&self) -> Cluster {
        self.cluster.clone()
    }

    /// Ends the thread. Call when the shards have ended.
    pub fn stop(self) {
        self.cluster.stop();
        self.thread.join();
    }
}
