//! This server as a node of a cluster: from its start to the moment when viewers may come.

use std::rc::Rc;

use super::StartError;
use super::cluster::{ClusterOrders, Node};
use super::process::Signals;
use crate::clock::Clock;
use crate::cluster::bucket::BucketEnd;
use crate::cluster::{self, Cluster, ClusterThread, NodeSettings};
use crate::config::Settings;
use crate::control::Control;
use crate::shard::mesh::Shards;
use crate::supervisor::Supervisor;
use uproar_proto::cluster::here::About;

/// Starts the cluster's thread, if there is a cluster.
pub(super) fn start(
    settings: &Settings,
    (shards, bucket): (&mut Shards, Option<BucketEnd>),
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
    };
    let end = shards.cluster.take().expect("requested, and taken once");
    let thread = cluster::start(
        node,
        (end, bucket),
        shards.metrics.clone(),
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

/// Waits until the node follows every log, and has every room and key of the cluster. Returns whether it does: a signal to
/// stop ends the wait.
///
/// # Errors
///
/// Something that waiting does not mend.
pub(super) async fn begun(
    cluster: Option<&Cluster>,
    control: &Control,
    signals: &mut Signals,
) -> Result<bool, StartError> {
    let Some(cluster) = cluster else {
        return Ok(!signals.is_stop_requested().await);
    };
    let begun = async {
        cluster.begun().await.map_err(StartError::Cluster)?;
        control.registry_current().await;
        Ok(true)
    };
    tokio::select! {
        begun = begun => begun,
        () = signals.stop_requested() => Ok(false),
    }
}

/// Refuses to take over from the server that serves: the two would be one node.
///
/// # Errors
///
/// This server is a node of a cluster.
pub(super) fn refuse_take_over(settings: &Settings) -> Result<(), StartError> {
    match (&settings.take_over, &settings.cluster) {
        (Some(_), Some(_)) => Err(StartError::TakeOver(
            "a node of a cluster is not upgraded in place yet: drain it and start the new program; its viewers move to \
             the other nodes"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}
