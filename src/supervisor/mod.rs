//! Supervision: the list of the server's threads, their unexpected end, and their liveness.
//!
//! A thread ends when it is told to. If it ends otherwise, by an error or a panic, nothing else can do its work, so
//! the process ends: exit code 1 and one log line with the thread and the cause. Only bugs panic; any panic counts
//! as such an end, also in a task of one connection, because the state it leaves behind is shared with the rest of
//! its thread. The exception is work that can restart from the state on disk: see [`keep()`].

mod blocking;
mod contain;
mod keep;
mod pulse;

use std::convert::Infallible;
use std::fmt::Display;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

pub use blocking::{blocking, runtime};
pub use contain::{give_up, leave};
pub use keep::keep;
pub use pulse::Pulse;

use crate::exposition::{Exposition, Family};
use crate::logging;
use uproar_proto::base::limits::{LIVENESS_MAX, THREAD_STOP_MAX};

/// Returned by a thread that ends because it was told to.
#[derive(Debug)]
pub struct Stopped;

/// The list of threads. One per process; cheap to clone.
#[derive(Clone)]
pub struct Supervisor(Arc<Inner>);

struct Inner {
    end: Box<dyn Fn() + Send + Sync>,
    pulses: Mutex<Vec<Arc<Pulse>>>,
    // Notified when a thread has taken a requested turn.
    turned: Arc<Notify>,
    restarts: AtomicU64,
}

/// A thread on the list.
#[derive(Debug)]
pub struct Thread {
    name: String,
    supervisor: Supervisor,
    // The sender lives as long as the thread.
    ended: Receiver<Infallible>,
}

impl Supervisor {
    /// Ends the process when a supervised thread ends unexpectedly, and from now on at any panic. Call when the log
    /// has started: the line is written first.
    pub fn of_process() -> Self {
        contain::end_at_panics();
        Self::new(contain::exit)
    }

    /// Calls `end` when a supervised thread ends unexpectedly.
    pub fn new(end: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            end: Box::new(end),
            pulses: Mutex::default(),
            turned: Arc::default(),
            restarts: AtomicU64::new(0),
        }))
    }

    /// Starts a thread that must live until it is told to end. It beats its pulse in each turn; `wake` makes it take
    /// one.
    ///
    /// # Errors
    ///
    /// No thread is available.
    pub fn thread<E: Display>(
        &self,
        name: &str,
        wake: impl Fn() + Send + Sync + 'static,
        work: impl FnOnce(&Pulse) -> Result<Stopped, E> + Send + 'static,
    ) -> io::Result<Thread> {
        let pulse = Arc::new(Pulse::new(name, Arc::clone(&self.0.turned), wake));
        let (alive, ended) = channel();
        let (supervisor, own) = (self.clone(), Arc::clone(&pulse));
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(move || {
            let _until_the_end = alive;
            if let Err(error) = work(&own) {
                supervisor.fail(own.name(), &error);
            }
        })?;
        self.pulses().push(pulse);
        Ok(Thread {
            name: name.to_owned(),
            supervisor: self.clone(),
            ended,
        })
    }

    /// Logs that `name` ended unexpectedly, and ends the process.
    pub fn fail(&self, name: &str, cause: &dyn Display) {
        tracing::error!(thread = name, %cause, "a thread ended that must live: the process ends");
        logging::flush();
        (self.0.end)();
    }

    /// Requests a turn from every thread at once; returns the names of those that take none within [`LIVENESS_MAX`].
    /// The caller's own thread takes one by calling.
    pub async fn silent(&self) -> Vec<String> {
        let pulses = self.pulses().clone();
        let mut asked: Vec<(Arc<Pulse>, u64)> = pulses
            .into_iter()
            .map(|pulse| {
                let before = pulse.ask();
                (pulse, before)
            })
            .collect();
        #[expect(
            clippy::disallowed_methods,
            reason = "below any clock that it could be handed"
        )]
        let started = Instant::now();
        loop {
            // Before the check, so that no turn is missed in between.
            let mut turned = std::pin::pin!(self.0.turned.notified());
            turned.as_mut().enable();
            asked.retain(|(pulse, before)| pulse.turns() == *before);
            if asked.is_empty() || started.elapsed() >= LIVENESS_MAX {
                let names = asked.iter().map(|(pulse, _)| pulse.name().to_owned());
                return names.collect();
            }
            let _checks_again = tokio::time::timeout(CHECK_INTERVAL, turned).await;
        }
    }

    /// Adds the restarts to `/metrics`.
    pub fn render(&self, page: &mut Exposition) {
        let restarts = self.0.restarts.load(Ordering::Relaxed);
        let mut series = page.family(&RESTARTS);
        series.add(&[("task", "log-delivery")], restarts);
    }

    fn pulses(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Pulse>>> {
        let pulses = self.0.pulses.lock();
        pulses.unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").finish_non_exhaustive()
    }
}

impl Thread {
    /// Waits for the end of a thread that was told to end. One that does not end is as bad as one that dies.
    pub fn join(self) {
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(THREAD_STOP_MAX) {
            let cause = format!("it was told to end, and did not within {THREAD_STOP_MAX:?}");
            self.supervisor.fail(&self.name, &cause);
        }
    }
}

const RESTARTS: Family = Family::counter(
    "uproar_supervised_restarts_total",
    "Tasks that panicked and were started again.",
);

/// Interval of the checks whether threads have taken a turn.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    fn supervisor() -> (Supervisor, Arc<AtomicBool>) {
        let ended = Arc::new(AtomicBool::new(false));
        let own = Arc::clone(&ended);
        (
            Supervisor::new(move || own.store(true, Ordering::SeqCst)),
            ended,
        )
    }

    /// Goal: only an unexpected end of a thread ends the process.
    #[test]
    fn an_unexpected_end_of_a_thread_ends_the_process() {
        for (outcome, ends) in [(Ok(Stopped), false), (Err("io_uring_enter: ENOMEM"), true)] {
            let (supervisor, ended) = supervisor();
            let thread = supervisor
                .thread("t", || {}, |_| outcome)
                .expect("a thread");
            thread.join();
            assert_eq!(ended.load(Ordering::SeqCst), ends);
        }
    }

    /// Goal: a sleeping thread takes a turn on request; a hanging one is named.
    #[test]
    fn a_thread_that_hangs_is_named() {
        let (supervisor, _) = supervisor();
        let (ask, asked) = channel::<()>();
        let (free, freed) = channel::<()>();
        let sleeper = supervisor.thread(
            "sleeper",
            move || {
                let _gone = ask.send(());
            },
            move |pulse| {
                while asked.recv().is_ok() {
                    pulse.beat();
                }
                Ok::<_, Infallible>(Stopped)
            },
        );
        let hung = supervisor.thread(
            "hung",
            || {},
            move |_| {
                let _until_the_end = freed.recv();
                Ok::<_, Infallible>(Stopped)
            },
        );
        let runtime = runtime().expect("a runtime");
        assert_eq!(runtime.block_on(supervisor.silent()), ["hung"]);
        drop((free, sleeper, hung));
    }

    /// Goal: a kept task continues after panics, which are counted, and nothing else ends.
    #[test]
    fn a_kept_task_is_restarted_and_counted() {
        let (supervisor, ended) = supervisor();
        let runtime = runtime().expect("a runtime");
        let (begun, mut runs) = tokio::sync::mpsc::unbounded_channel();
        let make = || {
            let begun = begun.clone();
            async move {
                begun.send(()).expect("the test counts");
                tokio::task::yield_now().await;
                panic!("poison");
            }
        };
        runtime.block_on(async {
            tokio::select! {
                // The third run is received before it is polled again and panics.
                biased;
                () = async { for _ in 0..3 { runs.recv().await.expect("restarted"); } } => {}
                never = keep(&supervisor, "t", Duration::ZERO, make) => match never {},
            }
        });
        let mut page = Exposition::new();
        supervisor.render(&mut page);
        let text = page.into_text();
        assert!(text.ends_with(" 2\n"), "{text}");
        assert!(!ended.load(Ordering::SeqCst));
    }

    /// Goal: a panic in blocking work is an error like any other.
    #[test]
    fn a_panic_in_blocking_work_is_an_error() {
        let runtime = runtime().expect("a runtime");
        let work = || -> io::Result<()> { panic!("poison") };
        let failed = runtime.block_on(blocking(work)).expect_err("it panicked");
        assert!(failed.to_string().contains("panicked"), "{failed}");
    }
}
