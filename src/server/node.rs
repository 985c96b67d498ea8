//! This server as a node of a cluster: from its start to the moment when viewers may come.

use std::rc::Rc;
use std::sync::Arc;

use tokio::time::timeout;

use super::StartError;
use super::cluster::{ClusterOrders, Node};
use crate::clock::Clock;
use crate::cluster::bucket::BucketEnd;
use crate::cluster::{self, Cluster, ClusterThread, NodeSettings};
use crate::config::Settings;
use crate::control::Control;
use crate::control::registry::Standing;
use crate::shard::mesh::Shards;
use crate::supervisor::Supervisor;
use uproar_proto::base::limits::CLUSTER_STANDBY_MAX;
use uproar_proto::cluster::here::About;

/// Starts the cluster's thread, if there is a cluster. It `stands_by` while another process serves as this node.
pub(super) fn start(
    settings: &Settings,
    (shards, bucket, stands_by): (&mut Shards, Option<BucketEnd>, bool),
    clock: Clock,
    supervisor: &Supervisor,
) -> Result<Option<ClusterThread>, StartError> {
    let Some((of_cluster, bucket)) = settings.cluster.as_ref().zip(bucket) else {
        return Ok(None);
    };
    let about = About {
        name: of_cluster.node.as_str().into(),
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        shards: u16::try_from(settings.shard.shard_count).unwrap_or(u16::MAX),
        messaging: shards.address.to_string().into(),
        control: settings.control_listen.to_string().into(),
    };
    let node = NodeSettings {
        cluster: of_cluster.clone(),
        shard: settings.shard.clone(),
        about,
        stands_by,
    };
    let end = shards.cluster.take().expect("requested, and taken once");
    let thread = cluster::start(
        node,
        (end, bucket),
        (shards.metrics.clone(), Arc::clone(&shards.budgets)),
        clock,
        supervisor,
    );
    thread
        .map(Some)
        .map_err(|fault| StartError::Cluster(fault.into()))
}

/// What orders about the cluster need, if there is one.
pub(super) fn of(cluster: Option<&Cluster>, settings: &Settings, clock: Clock) -> ClusterOrders {
    let (cluster, settings) = cluster.zip(settings.cluster.as_ref())?;
    Some(Rc::new(Node {
        cluster: cluster.clone(),
        settings: settings.clone(),
        clock,
    }))
}

/// Waits until the node follows every log, and has every room and key of the cluster: as long as its brokers take.
///
/// # Errors
///
/// Something that waiting does not mend.
pub(super) async fn begun(cluster: &Cluster, control: &Rc<Control>) -> Result<(), StartError> {
    cluster.begun().await.map_err(StartError::Cluster)?;
    control.registry_current().await;
    control.recall().await;
    Ok(())
}

/// The same while another process serves as this node until this one takes over: it is not waited for long.
///
/// # Errors
///
/// As [`begun`], or it took too long.
pub(super) async fn begun_in_time(cluster: &Cluster, control: &Control) -> Result<(), StartError> {
    cluster.begun().await.map_err(StartError::Cluster)?;
    let current = control.registry_current();
    if timeout(CLUSTER_STANDBY_MAX, current).await.is_err() {
        let cause = match control.registry_standing().0 {
            Standing::Stale(cause) => cause,
            Standing::Current => "it came too late".into(),
        };
        return Err(StartError::TakeOver(format!(
            "this node has not the cluster's registry within {CLUSTER_STANDBY_MAX:?}: {cause}"
        )));
    }
    Ok(())
}
