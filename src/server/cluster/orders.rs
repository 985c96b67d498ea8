//! The node's side: answers about its cluster, and moves of slots and streams.

use std::fmt::Debug;
use std::rc::Rc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use super::report::{ClusterReport, StreamReport, Wanted};
use super::streams;
use crate::clock::Clock;
use crate::cluster::{Cluster, ClusterSettings, Snapshot, Unready};
use crate::server::admin::{Refusal, RefusalCode, Reply};
use uproar_proto::cluster::HashSlot;

/// What orders about a cluster need; `None` for a server alone.
pub(in crate::server) type ClusterOrders = Option<Rc<Node>>;

/// This server as a node.
#[derive(Debug)]
pub(in crate::server) struct Node {
    pub(in crate::server) cluster: Cluster,
    pub(in crate::server) settings: ClusterSettings,
    pub(in crate::server) clock: Clock,
}

/// A slot that goes to another node.
#[derive(Debug, Serialize)]
pub(in crate::server) struct Moved {
    slot: u8,
    node: String,
}

/// Streams that got another leader.
#[derive(Debug, Serialize)]
pub(in crate::server) struct Balanced {
    moved: Vec<StreamMoved>,
}

#[derive(Debug, Serialize)]
struct StreamMoved {
    stream: String,
    leader: String,
}

/// Does an order of a node, beside whatever else is being done.
pub(in crate::server) fn beside<T: Serialize + Debug>(
    orders: &ClusterOrders,
    reply: Reply,
    work: impl AsyncFnOnce(Rc<Node>) -> Result<T, Refusal> + 'static,
) {
    let Some(node) = orders.clone() else {
        let alone = "this server is not a node of a cluster: its configuration has no [cluster]";
        return reply.refuse(Refusal::new(RefusalCode::Refused, alone));
    };
    tokio::task::spawn_local(async move { reply.answer(work(node).await) });
}

impl Node {
    async fn snapshot(&self) -> Result<Snapshot, Refusal> {
        let snapshot = self.cluster.status().await;
        snapshot.ok_or_else(|| {
            let cause = match self.cluster.ready() {
                Err(waiting @ Unready::Waiting(_)) => waiting.to_string(),
                Err(_) | Ok(()) => {
                    "the thread `cluster` does not answer: see /livez and the log".to_owned()
                }
            };
            Refusal::new(RefusalCode::Failed, cause)
        })
    }

    pub(in crate::server) async fn report(
        &self,
        room: Option<&str>,
    ) -> Result<ClusterReport, Refusal> {
        let (snapshot, streams) = tokio::join!(self.snapshot(), self.streams());
        let wanted = Wanted { room, streams };
        let now = self.clock.now().tick;
        let status = snapshot?.status;
        Ok(ClusterReport::new(
            &status,
            self.cluster.me(),
            &self.settings,
            now,
            wanted,
        ))
    }

    /// `None`: the brokers do not say.
    async fn streams(&self) -> Option<Vec<StreamReport>> {
        let subject = format!("up.{}.>", self.settings.name);
        let wanted = json!({ "offset": 0, "subject": subject }).to_string();
        let answer = self
            .cluster
            .request("$JS.API.STREAM.LIST", wanted.into())
            .await;
        streams::parse(&answer.ok()?)
    }

    pub(in crate::server) async fn move_slot(
        &self,
        slot: u8,
        to: String,
    ) -> Result<Moved, Refusal> {
        let status = self.snapshot().await?.status;
        let mut live = status.peers.iter().filter(|peer| peer.is_live);
        let Some(peer) = live.find(|peer| *peer.here.about.name == *to) else {
            let live = status.peers.iter().filter(|peer| peer.is_live);
            let mut names: Vec<_> = live.map(|peer| &*peer.here.about.name).collect();
            names.sort_unstable();
            let message = format!("no node {to} is heard; there are {}", names.join(", "));
            return Err(Refusal::new(RefusalCode::Refused, message));
        };
        if peer.here.is_draining || !peer.here.facts.is_ready {
            let message = format!("{to} takes no slots: it drains, or is not ready");
            return Err(Refusal::new(RefusalCode::Refused, message));
        }
        self.cluster
            .move_slot(HashSlot::new(slot), peer.here.incarnation);
        Ok(Moved { slot, node: to })
    }

    pub(in crate::server) async fn balance(&self) -> Result<Balanced, Refusal> {
        self.cluster.balance();
        let Some(streams) = self.streams().await else {
            let message =
                "slots go where they belong, but the brokers do not say who leads the streams";
            return Err(Refusal::new(RefusalCode::Failed, message));
        };
        let mut moved = Vec::new();
        for (stream, leader) in streams::spread(&streams) {
            let subject = format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}");
            let wanted = json!({ "placement": { "preferred": leader } }).to_string();
            let answer = self.cluster.request(&subject, Bytes::from(wanted)).await;
            if answer.is_ok_and(|answer| !answer.windows(7).any(|part| part == b"\"error\"")) {
                moved.push(StreamMoved {
                    stream: stream.to_owned(),
                    leader: leader.to_owned(),
                });
            }
        }
        Ok(Balanced { moved })
    }
}
