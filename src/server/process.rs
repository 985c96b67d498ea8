//! Set up first in a server's process, before anything that takes time: the control thread's runtime, and handlers
//! for every signal that would otherwise end it.

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::StartError;
use super::listeners::Inherited;
use crate::supervisor;

/// Signals without a meaning here whose default is to end the process: SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM,
/// SIGPROF, SIGIO, SIGPWR; and SIGXFSZ, after which the write fails, as on a full disk.
const IGNORED: [i32; 8] = [
    libc::SIGUSR1,
    libc::SIGUSR2,
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
    pub(super) stop: Stop,
    /// SIGHUP: keys and certificates are read again.
    pub(super) hangup: Signal,
    /// Listening sockets that the process was started with.
    pub(super) inherited: Inherited,
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
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
        let (hangup, stop) = (
            signal(SignalKind::hangup())?,
            Stop {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            },
        );
        for number in IGNORED {
            // Once handled, a signal never has its default action again.
            drop(signal(SignalKind::from_raw(number))?);
        }
        drop(entered);
        Ok(Self {
            runtime,
            stop,
            hangup,
            inherited,
        })
    }
}

impl Stop {
    /// Ready at the first of both.
    pub(super) async fn requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Whether one has already arrived.
    pub(super) async fn is_requested(&mut self) -> bool {
        // The runtime checks for signals when its tasks yield.
        tokio::task::yield_now().await;
        // No timer: its shortest time is a millisecond.
        tokio::select! {
            biased;
            () = self.requested() => true,
            () = std::future::ready(()) => false,
        }
    }
}
