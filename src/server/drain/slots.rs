//! A node's slots, which go to the other nodes when it drains.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use uproar_proto::base::limits::SLOTS_LEAVE_MAX;

/// How often the slots are looked at: a hand-over takes two appends.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until this node is home of no slot and its requests are in their logs, at most [`SLOTS_LEAVE_MAX`]: what is left
/// then is taken over as from a dead node. Returns at once if no other node takes slots.
pub(super) async fn handed_over(cluster: &Cluster) {
    let began = Instant::now();
    while began.elapsed() < SLOTS_LEAVE_MAX {
        let Some(snapshot) = cluster.status().await else {
            return;
        };
        let (status, me) = (&snapshot.status, cluster.me());
        let others = status
            .peers
            .iter()
            .filter(|peer| peer.here.incarnation != me);
        let mut takers = others.filter(|peer| peer.is_live && !peer.here.is_draining);
        if takers.next().is_none() {
            return;
        }
        let homes = status
            .slots
            .iter()
            .filter(|slot| slot.home == Some(me))
            .count();
        let waiting: usize = status.slots.iter().map(|slot| slot.kept).sum();
        if homes == 0 && waiting == 0 {
            let milliseconds = began.elapsed().as_millis();
            tracing::info!(milliseconds, "draining: the other nodes have all slots");
            return;
        }
        sleep(LOOK).await;
    }
}
