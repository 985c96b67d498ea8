//! Whether the control listener is served: what its accept loop and each of its connections follow.

use tokio::sync::watch;

/// What the control listener does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It accepts connections and answers their calls.
    Serving,
    /// It accepts nothing: the kernel's queue holds callers. Connections end when they have no
    /// call in progress.
    Ending,
    /// The same, and the connections that are left are cut.
    Cut,
}

/// Sets the phase of the listener.
#[derive(Debug)]
pub(super) struct PhaseSetter(watch::Sender<Phase>);

/// Follows the phase of the listener. Each connection has one.
#[derive(Debug, Clone)]
pub(super) struct PhaseWatch(watch::Receiver<Phase>);

impl Default for PhaseSetter {
    /// The listener is served from the start.
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Serving))
    }
}

impl PhaseSetter {
    /// Changes the phase; returns the one before.
    pub(super) fn set(&self, phase: Phase) -> Phase {
        self.0.send_replace(phase)
    }

    /// Whether connections are to end.
    pub(super) fn is_ending(&self) -> bool {
        *self.0.borrow() != Phase::Serving
    }

    /// Follows it from now on.
    pub(super) fn watch(&self) -> PhaseWatch {
        PhaseWatch(self.0.subscribe())
    }
}

impl PhaseWatch {
    /// Ready once the listener is served; at once if it is.
    pub(super) async fn serving(&mut self) {
        self.reached(|phase| phase == Phase::Serving).await;
    }

    /// Ready once connections are to end.
    pub(super) async fn ending(&mut self) {
        self.reached(|phase| phase != Phase::Serving).await;
    }

    /// Ready once connections are cut.
    pub(super) async fn cut(&mut self) {
        self.reached(|phase| phase == Phase::Cut).await;
    }

    async fn reached(&mut self, wanted: impl Fn(Phase) -> bool) {
        let gone = self.0.wait_for(|phase| wanted(*phase)).await.is_err();
        if gone {
            // The control plane has gone, and every task of its thread with it.
            std::future::pending::<()>().await;
        }
    }
}
