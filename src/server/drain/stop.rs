//! The end of a drain, and all of it where nobody else takes the viewers: they are cut at once, and wait for the next
//! process at the listening sockets.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::progress::Progress;
use crate::shard::command::Command;
use crate::shard::gateway::Gateway;
use uproar_proto::base::limits::{CUT_WAIT_MAX, STOP_LINGER, STOP_STALL_MAX};

/// How long handshakes in progress may take to end; a client whose handshake is aborted tries again.
const HANDSHAKES_MAX: Duration = Duration::from_millis(50);
/// Longest wait for shards that do not answer at all.
const SHARDS_MAX: Duration = Duration::from_millis(500);
/// How often the shards' figures are looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Cuts all viewers that are left: stops accepting first, so that nobody is accepted to be cut. Each gets what was
/// said; viewers that do not read delay nothing.
pub(super) async fn cut_all(gateway: &Gateway, progress: &Progress) {
    tracing::info!(
        "stopping: connections are cut without a Close frame, so that clients reconnect"
    );
    // A shard that hangs is told again by the stop that follows.
    let _late = timeout(SHARDS_MAX, gateway.turn_doors(false, HANDSHAKES_MAX)).await;
    gateway.tell_each(|| Command::Drain(Duration::ZERO));
    until_cut(progress).await;
    let since = Instant::now();
    while progress.connections() > 0 && since.elapsed() < STOP_LINGER {
        sleep(LOOK).await;
    }
}

/// Waits until every viewer that reads has what was said, at most [`CUT_WAIT_MAX`].
async fn until_cut(progress: &Progress) {
    let figures = || (progress.left(), progress.sent());
    let (began, mut moved, mut last) = (Instant::now(), Instant::now(), figures());
    while progress.left() > 0 && began.elapsed() < CUT_WAIT_MAX {
        sleep(LOOK).await;
        let now = figures();
        if now != last {
            (moved, last) = (Instant::now(), now);
        } else if moved.elapsed() >= STOP_STALL_MAX {
            return;
        }
    }
}
