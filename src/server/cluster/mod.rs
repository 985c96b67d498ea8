//! What operators ask of a cluster: its status, and orders about slots and streams.

mod advice;
mod orders;
mod report;
mod streams;

use std::path::Path;

pub(super) use orders::{ClusterOrders, Node, beside};
pub(crate) use report::ClusterReport;

use super::admin::{AskError, Order, ask_within};
use crate::cluster::survey;
use uproar_proto::base::limits::CLUSTER_STATUS_MAX;

/// Asks the node of `data_dir` how its cluster does, and the brokers how they do.
///
/// # Errors
///
/// The node does not answer, or is in no cluster.
pub(crate) fn ask_cluster(data_dir: &Path, room: Option<&str>) -> Result<ClusterReport, AskError> {
    let order = Order::ClusterStatus {
        room: room.map(ToOwned::to_owned),
    };
    let answer = ask_within(CLUSTER_STATUS_MAX, data_dir, &order, |_| {})?;
    let report: ClusterReport =
        serde_json::from_value(answer).map_err(|error| AskError::Foreign(error.to_string()))?;
    let brokers = survey::brokers(&report.servers, survey::Depth::Greeting);
    let mut report = report.with_brokers(brokers);
    report.advice = advice::advice(&report);
    Ok(report)
}
