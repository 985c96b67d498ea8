//! A pause of the control plane, in which another process may own the database.
//!
//! The listener stays open and accepts nothing, so callers wait in the kernel's queue, health checks
//! too. Calls in progress are answered; then no connection is left, nothing can write, and the
//! database is closed. What is in memory stays, so viewers, reviews and the shards notice nothing.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::phase::Phase;
use super::state::Control;
use super::store::StoreError;
use uproar_proto::base::limits::CONTROL_DRAIN_MAX;

/// Interval of the looks whether connections and calls have ended.
const LOOK: Duration = Duration::from_millis(1);
/// From the cut of the connections that are left to their end, and from the request to close the
/// database to the answer: as long as calls have.
const STEP_MAX: Duration = CONTROL_DRAIN_MAX;

/// A paused control plane. Dropping it resumes.
///
/// It must not be dropped while another process may have the database: end that process first.
#[must_use = "dropping it resumes"]
pub struct Paused(Rc<Control>);

/// Why the control plane was not paused. It serves on.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// A pause is in progress.
    #[error("the control plane is paused already")]
    Paused,
    /// Calls wait for the disk or a shard.
    #[error(
        "{0} calls of the API wait for the disk or a shard and were not done within \
         {CONTROL_DRAIN_MAX:?}: look at /livez and the disk of server.data_dir, then try again"
    )]
    Calls(usize),
    /// Connections do not end.
    #[error("{0} connections of the control listener did not end: this is a bug")]
    Connections(usize),
    /// The database cannot be closed in the state that callers know.
    #[error("{0}: free space on the disk of server.data_dir, then try again")]
    Store(#[from] StoreError),
    /// The disk takes too long to close it.
    #[error("the database was not closed within {STEP_MAX:?}: look at the disk of server.data_dir")]
    StoreLate,
}

impl Control {
    /// Stops serving calls and closes the database. Each acknowledged write is on disk then, each
    /// refused one is not, and no call is left without its answer but those that had done nothing:
    /// a connection that has not sent its whole request within [`CONTROL_DRAIN_MAX`] is cut, and
    /// SDKs send such a request again.
    ///
    /// # Errors
    ///
    /// If a call in progress is not answered in time, or the disk refuses; the control plane serves
    /// on then, as after [`Paused::resume`].
    ///
    /// # Cancel safety
    ///
    /// The control plane serves on.
    pub async fn pause(self: &Rc<Self>) -> Result<Paused, PauseError> {
        if self.phase.set(Phase::Ending) != Phase::Serving {
            return Err(PauseError::Paused);
        }
        let paused = Paused(Rc::clone(self));
        let idle = || self.admission.open() == 0 && self.calls() == 0;
        until(CONTROL_DRAIN_MAX, idle).await;
        // Cutting the caller of a write that is being stored would make its SDK repeat the write.
        match self.calls() {
            0 => {}
            calls => return Err(PauseError::Calls(calls)),
        }
        self.phase.set(Phase::Cut);
        until(STEP_MAX, idle).await;
        match self.admission.open() {
            0 => {}
            open => return Err(PauseError::Connections(open)),
        }
        let closed = tokio::time::timeout(STEP_MAX, self.registry.close_store());
        closed.await.map_err(|_elapsed| PauseError::StoreLate)??;
        Ok(paused)
    }

    /// Calls that wait for the disk or a shard, whether or not their callers do.
    pub(super) fn calls(&self) -> usize {
        Rc::strong_count(&self.open_calls) - 1
    }
}

impl Paused {
    /// Serves again, with the same rooms. If the database cannot be opened, reads and chat tokens
    /// go on, writes get `InternalServerException`, and each tries again to open it.
    pub fn resume(self) {
        drop(self);
    }

    /// Leaves the control plane paused for the rest of the process's life: another process has the
    /// database and the listener.
    pub fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        self.0.registry.reopen_store();
        self.0.phase.set(Phase::Serving);
        self.0.resume_deferred();
    }
}

/// Waits until `done`, for `most`.
async fn until(most: Duration, done: impl Fn() -> bool) {
    let deadline = Instant::now() + most;
    while !done() && Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests;
