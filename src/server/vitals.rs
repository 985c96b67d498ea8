//! Signs of life, as long as the server serves: for the service manager, and for the next start.

use std::convert::Infallible;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::drain::Progress;
use super::heartbeat::Heartbeat;
use super::notify::Notifier;
use crate::config::Settings;
use crate::control::Control;
use crate::shard::metrics::ShardMetrics;
use crate::supervisor::Supervisor;

/// Interval of the status line. It is for people, who look rarely; an unchanged one is not repeated.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// What tells others that the server lives.
pub(super) struct Vitals {
    notifier: Notifier,
    supervisor: Supervisor,
    progress: Rc<Progress>,
    heartbeat: Heartbeat,
}

impl Vitals {
    pub(super) fn new(
        notifier: Notifier,
        supervisor: &Supervisor,
        (shards, progress): (&[Arc<ShardMetrics>], Rc<Progress>),
        settings: &Settings,
    ) -> Self {
        Self {
            notifier,
            supervisor: supervisor.clone(),
            progress,
            heartbeat: Heartbeat::new(settings, shards),
        }
    }

    /// Viewers can connect: those that the last server here held get their tokens, unless it has handed them over,
    /// and the manager is told.
    pub(super) fn ready(&self, control: &Control, handed_over: bool) {
        if !handed_over {
            self.heartbeat.credit(control);
        }
        self.notifier.ready();
    }

    /// Gives the signs as long as the server runs.
    pub(super) async fn run(&mut self, control: &Control) -> Infallible {
        tokio::select! {
            never = say_status(&self.notifier, &self.progress) => never,
            never = feed_watchdog(&self.notifier, &self.supervisor) => never,
            never = self.heartbeat.run(control) => never,
        }
    }

    /// The server ends: whoever was cut by a drain has credit, and whoever is still connected is cut after this, so
    /// that the next start knows how many will come.
    pub(super) async fn ending(&mut self, control: &Control) {
        self.heartbeat.last(control).await;
    }
}

async fn say_status(notifier: &Notifier, progress: &Progress) -> Infallible {
    if !notifier.is_there() {
        return pending().await;
    }
    let mut said = String::new();
    loop {
        let line = progress.line();
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
