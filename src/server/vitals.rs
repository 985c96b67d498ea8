//! Signs of life, as long as the server serves: for the service manager, and for the next start.

use std::convert::Infallible;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::drain::{DrainState, Progress};
use super::heartbeat::Heartbeat;
use super::notify::Notifier;
use crate::config::Settings;
use crate::control::Control;
use crate::net::program;
use crate::shard::metrics::ShardMetrics;
use crate::supervisor::{Supervisor, blocking};

/// Interval of the status line. It is for people, who look rarely; an unchanged one is not repeated.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// A start that waits for its cluster's brokers asks the service manager for more time this often, and for this much: several
/// times what is lost if one request is.
const START_LOOK: Duration = Duration::from_secs(10);
const START_EXTENSION: Duration = Duration::from_mins(1);

/// From ready to the end of what a start does once: first calls and viewers.
const START_OVER: Duration = Duration::from_secs(1);

/// Viewers can connect.
pub(super) struct Opened {
    /// The process before has handed its viewers over.
    pub(super) is_handed_over: bool,
}

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

    /// Gives the signs as long as the server runs. Once it is `opened` viewers can connect: those that the last server here
    /// held get their tokens, unless it has handed them over, and the manager is told.
    pub(super) async fn run(
        &mut self,
        control: &Control,
        opened: oneshot::Receiver<Opened>,
    ) -> Infallible {
        let heartbeat = &mut self.heartbeat;
        let notifier = &self.notifier;
        let beating = async {
            let Ok(Opened { is_handed_over }) = starting(notifier, opened).await else {
                return pending().await;
            };
            if !is_handed_over {
                heartbeat.credit(control);
            }
            notifier.ready();
            tokio::select! {
                never = heartbeat.run(control) => never,
                never = unmap_later() => never,
            }
        };
        tokio::select! {
            never = beating => never,
            never = say_status(notifier, control, &self.progress) => never,
            never = feed_watchdog(notifier, &self.supervisor) => never,
        }
    }

    /// The server ends: whoever was cut by a drain has credit, and whoever is still connected is cut after this, so
    /// that the next start knows how many will come.
    pub(super) async fn ending(&mut self, control: &Control) {
        self.heartbeat.last(control).await;
    }
}

/// Gives back what only the start needed of the program: before anybody is told that it is over, and again when what the
/// first seconds do once is done, too.
pub(super) async fn unmap_program() {
    match blocking(program::unmap_clean).await {
        Ok(bytes) => tracing::debug!(bytes, "the program is unmapped until it is used"),
        Err(error) => tracing::debug!(%error, "the program stays mapped"),
    }
}

async fn unmap_later() -> Infallible {
    sleep(START_OVER).await;
    unmap_program().await;
    pending().await
}

/// Waits until the server is open; meanwhile the manager hears that the start takes longer.
async fn starting(
    notifier: &Notifier,
    mut opened: oneshot::Receiver<Opened>,
) -> Result<Opened, oneshot::error::RecvError> {
    loop {
        tokio::select! {
            biased;
            opened = &mut opened => return opened,
            () = sleep(START_LOOK) => notifier.extend_timeout(START_EXTENSION),
        }
    }
}

async fn say_status(notifier: &Notifier, control: &Control, progress: &Progress) -> Infallible {
    if !notifier.is_there() {
        return pending().await;
    }
    let mut said = String::new();
    loop {
        let waits = control.waits_for();
        let line = match waits.filter(|_| progress.state() == DrainState::Serving) {
            Some(reason) => format!("not ready: {reason}"),
            None => progress.line(),
        };
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
