//! A node's slots, which go to the other nodes when it drains.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use uproar_proto::base::limits::{SLOTS_LEAVE_MAX, SLOTS_RELEASE_MAX};

/// How often the slots are looked at: a hand-over takes two appends.
const LOOK: Duration = Duration::from_millis(20);

/// What is to be gone from a node that leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Leaving {
    /// Its slots: it hands its viewers and their requests to a new process.
    Slots,
    /// And its requests, which are to be in their logs.
    SlotsAndRequests,
}

impl Leaving {
    /// How long it may take: what is left then is taken over as from a dead node.
    fn most(self) -> Duration {
        match self {
            Self::Slots => SLOTS_RELEASE_MAX,
            Self::SlotsAndRequests => SLOTS_LEAVE_MAX,
        }
    }
}

/// Waits until this node is home of no slot. Returns at once if no other node takes slots.
pub(in crate::server) async fn handed_over(cluster: &Cluster, leaving: Leaving) {
    let began = Instant::now();
    while began.elapsed() < leaving.most() {
        let Some(snapshot) = cluster.status().await else {
            return;
        };
        let (status, me) = (&snapshot.status, cluster.me());
        let others = status
            .peers
            .iter()
            .filter(|peer| peer.here.incarnation != me);
        let mut takers = others
            .filter(|peer| peer.is_live && !peer.here.is_draining && peer.here.facts.is_ready);
        if takers.next().is_none() {
            return;
        }
        let homes = status
            .slots
            .iter()
            .filter(|slot| slot.home == Some(me))
            .count();
        let waiting: usize = status.slots.iter().map(|slot| slot.kept).sum();
        if homes == 0 && (waiting == 0 || leaving == Leaving::Slots) {
            let milliseconds = began.elapsed().as_millis();
            tracing::info!(milliseconds, "the other nodes have all slots of this one");
            return;
        }
        sleep(LOOK).await;
    }
}
