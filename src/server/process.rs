//! Set up first in a server's process, before anything that takes time: the control thread's runtime, and handlers
//! for every signal that would otherwise end it.

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::StartError;
use super::listeners::Inherited;
use crate::supervisor;

/// Signals without a meaning here whose default is to end the process: SIGUSR1, SIGALRM, SIGVTALRM,
/// SIGPROF, SIGIO, SIGPWR; and SIGXFSZ, after which the write fails, as on a full disk.
const IGNORED: [i32; 7] = [
    libc::SIGUSR1,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGXFSZ,
];

/// Created before everything else. A signal that arrives before anything waits for it is kept.
#[derive(Debug)]
pub(crate) struct Process {
    pub(super) runtime: Runtime,
    pub(super) signals: Signals,
    /// Listening sockets that the process was started with.
    pub(super) inherited: Inherited,
}

/// The signals that mean something.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    upgrade: Signal,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signalled {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
    /// SIGUSR2.
    Upgrade,
}

impl Process {
    /// Sets up the runtime and the signals.
    ///
    /// # Errors
    ///
    /// No descriptors or memory for them.
    pub(crate) fn start() -> Result<Self, StartError> {
        Self::of_kernel().map_err(StartError::Runtime)
    }

    fn of_kernel() -> std::io::Result<Self> {
        // Before any other descriptor is opened, which could be taken for one of them.
        let inherited = Inherited::of_environment();
        let runtime = supervisor::runtime()?;
        let entered = runtime.enter();
        let signals = Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
        };
        for number in IGNORED {
            // Once handled, a signal never has its default action again.
            drop(signal(SignalKind::from_raw(number))?);
        }
        drop(entered);
        Ok(Self {
            runtime,
            signals,
            inherited,
        })
    }
}

impl Signals {
    /// Ready at the next signal.
    pub(super) async fn next(&mut self) -> Signalled {
        tokio::select! {
            _ = self.terminate.recv() => Signalled::Stop,
            _ = self.interrupt.recv() => Signalled::Stop,
            _ = self.hangup.recv() => Signalled::Reload,
            _ = self.upgrade.recv() => Signalled::Upgrade,
        }
    }

    /// Waits for a signal to stop.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(super) async fn stop_requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Whether a signal to stop has already arrived.
    pub(super) async fn is_stop_requested(&mut self) -> bool {
        // The runtime checks for signals when its tasks yield.
        tokio::task::yield_now().await;
        // No timer: its shortest time is a millisecond.
        tokio::select! {
            biased;
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => true,
            () = std::future::ready(()) => false,
        }
    }
}
