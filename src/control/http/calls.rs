//! The calls of one connection of the control listener, and when it may end without cutting one off.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::stream::SharedStream;
use crate::control::phase::PhaseWatch;
use uproar_proto::base::limits::CONTROL_FIRST_CALL_MAX;

/// Interval of the looks whether a request that has arrived is being read.
const UNREAD_LOOK: Duration = Duration::from_millis(1);

/// The calls of one connection.
#[derive(Clone, Default)]
pub(super) struct Calls {
    in_progress: Rc<Cell<usize>>,
    // Whether there ever was one.
    any: Rc<Cell<bool>>,
}

impl Calls {
    /// Counts a call until the returned value is dropped.
    pub(super) fn begin(&self) -> CallInProgress {
        self.any.set(true);
        self.in_progress.set(self.in_progress.get() + 1);
        CallInProgress(Rc::clone(&self.in_progress))
    }

    pub(super) fn in_progress(&self) -> bool {
        self.in_progress.get() > 0
    }
}

/// Counts one call for as long as it lives.
pub(super) struct CallInProgress(Rc<Cell<usize>>);

impl Drop for CallInProgress {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Ready when the listener is not served any more and no call is about to begin on this connection:
/// a request that has arrived is answered, and a connection without a call yet may send its first
/// one for a moment, so that few clients have to send a request again.
pub(super) async fn last_call(mut phase: PhaseWatch, socket: SharedStream, calls: &Calls) {
    phase.ending().await;
    let until = Instant::now() + CONTROL_FIRST_CALL_MAX;
    let is_near = || !calls.in_progress() && (!calls.any.get() || socket.has_unread());
    while is_near() && Instant::now() < until {
        tokio::time::sleep(UNREAD_LOOK).await;
    }
}
