//! What a process before this one has handed over, if one has: this one takes its place, or tells it why it cannot.

use std::convert::Infallible;
use std::future::pending;
use std::path::PathBuf;
use std::rc::Rc;

use super::notify::Notifier;
use super::opening::Doors;
use super::preflight::Directory;
use super::process::Signals;
use super::upgrade::{self, Files, Follower, Handed};
use super::{Ready, StartError, node};
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::control::Control;
use crate::shard::gateway::Gateway;

/// What the process before this one has handed over, if one has, and what changes when this one serves.
pub(super) struct Succession {
    pub(super) files: Files,
    pub(super) handed: Option<Box<Handed>>,
    pub(super) directory: Rc<Directory>,
    pub(super) notifier: Notifier,
    pub(super) removed_at_end: Option<PathBuf>,
}

impl Succession {
    /// Whether another process serves until this one takes over.
    pub(super) fn is_one(&self) -> bool {
        self.handed.is_some()
    }

    /// Opens the doors once the brokers have come, which may take hours: meanwhile this node answers who asks how it is, and
    /// obeys.
    pub(super) async fn open_late(
        self,
        doors: Doors,
        cluster: Cluster,
        on_ready: impl FnOnce(&Ready),
    ) -> Result<Infallible, StartError> {
        node::begun(&cluster, &doors.control).await?;
        self.files.load();
        doors.open(None, Some(on_ready)).await?;
        pending().await
    }

    /// Opens the doors, of a process that takes over too. Returns whether it did: a signal to stop ends the wait.
    pub(super) async fn open(
        self,
        doors: Doors,
        (cluster, clock, figures): (Option<&Cluster>, Clock, &Rc<upgrade::Figures>),
        signals: &mut Signals,
        on_ready: impl FnOnce(&Ready),
    ) -> Result<bool, StartError> {
        if !self.begun(cluster, &doors.control, signals).await? {
            return Ok(false);
        }
        let threads = (&doors.gateway, cluster);
        let taken_over = self.take_over(threads, clock, figures).await;
        // What `on_ready` tells people has not changed.
        let on_ready = taken_over.is_none().then_some(on_ready);
        doors.open(taken_over, on_ready).await?;
        Ok(true)
    }

    /// Waits until this process could serve; a process that serves until then is told why it cannot. Returns whether it
    /// could: a signal to stop ends the wait.
    ///
    /// # Errors
    ///
    /// See [`node::begun_in_time`].
    async fn begun(
        &self,
        cluster: Option<&Cluster>,
        control: &Control,
        signals: &mut Signals,
    ) -> Result<bool, StartError> {
        let Some(cluster) = cluster else {
            return Ok(!signals.is_stop_requested().await);
        };
        let begun = tokio::select! {
            begun = node::begun_in_time(cluster, control) => begun.map(|()| true),
            () = signals.stop_requested() => Ok(false),
        };
        begun.inspect_err(|error| {
            if let Some(handed) = &self.handed {
                handed.give_up(error);
            }
        })
    }

    /// Takes over; `None` if nobody has handed anything over. Ends this process if that fails.
    async fn take_over(
        self,
        (gateway, cluster): (&Gateway, Option<&Cluster>),
        clock: Clock,
        figures: &Rc<upgrade::Figures>,
    ) -> Option<Follower> {
        let Some(handed) = self.handed else {
            self.files.load();
            return None;
        };
        let threads = (gateway, cluster);
        let follower = handed.take_over(threads, clock, figures, self.files).await;
        if let Some(path) = &self.removed_at_end {
            self.directory.remove_at_end(path);
        }
        if let Err(error) = self.directory.note_process() {
            tracing::debug!(%error, "the lock file names another process");
        }
        self.notifier.main_pid(std::process::id());
        Some(follower)
    }
}
