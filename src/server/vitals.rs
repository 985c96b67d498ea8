//! Signs of life for the service manager, as long as the server serves.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::notify::Notifier;
use crate::shard::metrics::{Figure, ShardMetrics};
use crate::supervisor::Supervisor;

/// Interval of the status line. It is for people, who look rarely; an unchanged one is not repeated.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// Tells the manager how many viewers there are, and that every thread turns. Without a manager it does nothing.
pub(super) async fn report(
    notifier: &Notifier,
    supervisor: &Supervisor,
    shards: &[Arc<ShardMetrics>],
) -> Infallible {
    if !notifier.is_there() {
        return pending().await;
    }
    tokio::select! {
        never = say_status(notifier, shards) => never,
        never = feed_watchdog(notifier, supervisor) => never,
    }
}

async fn say_status(notifier: &Notifier, shards: &[Arc<ShardMetrics>]) -> Infallible {
    let sum = |figure: fn(&ShardMetrics) -> &Figure| -> u64 {
        shards.iter().map(|shard| figure(shard).get()).sum()
    };
    let mut said = String::new();
    loop {
        let (viewers, rooms) = (sum(|shard| &shard.connections), sum(|shard| &shard.rooms));
        let line = format!("{viewers} viewers, {rooms} rooms");
        if line != said {
            notifier.status(&line);
            said = line;
        }
        sleep(STATUS_INTERVAL).await;
    }
}

/// A thread that hangs, or a disk that does, ends these signs: then the manager kills the server.
async fn feed_watchdog(notifier: &Notifier, supervisor: &Supervisor) -> Infallible {
    let Some(interval) = notifier.watchdog_interval() else {
        return pending().await;
    };
    loop {
        let silent = supervisor.silent().await;
        if silent.is_empty() {
            notifier.watchdog();
        } else {
            let threads = silent.join(", ");
            tracing::error!(
                threads,
                "no turn: the service manager's watchdog is not fed"
            );
        }
        sleep(interval).await;
    }
}
