//! What must live: the list of the server's threads, what happens when one ends, and whether they turn.
//!
//! A thread ends when it is told to. If it ends otherwise, by an error or a panic, what it did is not
//! done any more and nobody else can do it, so the process ends: exit code 1 and one log line that says
//! which and why. Only bugs panic; a panic anywhere counts as such an end, in a task of one connection as
//! well, because what it left half done belongs to all others of its thread. The exception is what can
//! be begun anew from what is on disk: see [`keep`].

mod blocking;
mod contain;
mod pulse;

use std::convert::Infallible;
use std::fmt::{Display, Write};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

pub use blocking::{blocking, runtime};
pub use contain::keep;
pub use pulse::Pulse;

use crate::base::limits::{LIVENESS_MAX, THREAD_STOP_MAX};
use crate::logging;

/// Says that a thread ends because it was told to.
#[derive(Debug)]
pub struct Told;

/// The list. One for the process; cheap to clone.
#[derive(Clone)]
pub struct Supervisor(Arc<Inner>);

struct Inner {
    end: Box<dyn Fn() + Send + Sync>,
    pulses: Mutex<Vec<Arc<Pulse>>>,
    // A thread that was asked for a turn has taken one.
    turned: Arc<Notify>,
    restarts: AtomicU64,
}

/// A thread on the list.
#[derive(Debug)]
pub struct Thread {
    name: String,
    supervisor: Supervisor,
    // Its other end lives as long as the thread.
    ended: Receiver<Infallible>,
}

impl Supervisor {
    /// Ends the process when something ends that must live. From now on a panic does, too. Call when
    /// the log has started: the line is written first.
    pub fn of_process() -> Self {
        contain::end_at_panics();
        Self::new(contain::exit)
    }

    /// Calls `end` when something ends that must live.
    pub fn new(end: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            end: Box::new(end),
            pulses: Mutex::default(),
            turned: Arc::default(),
            restarts: AtomicU64::new(0),
        }))
    }

    /// Starts a thread that must live until it is told to end. It beats its pulse in each turn; `wake`
    /// has it take one.
    ///
    /// # Errors
    ///
    /// There is no thread to be had.
    pub fn thread<E: Display>(
        &self,
        name: &str,
        wake: impl Fn() + Send + Sync + 'static,
        work: impl FnOnce(&Pulse) -> Result<Told, E> + Send + 'static,
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

    /// `name` must live and does not: says so and ends the process.
    pub fn fail(&self, name: &str, cause: &dyn Display) {
        tracing::error!(thread = name, %cause, "a thread ended that must live: the process ends");
        logging::flush();
        (self.0.end)();
    }

    /// Asks every thread for a turn, at once; the names of those that take none within
    /// [`LIVENESS_MAX`]. Whoever asks takes one by asking.
    pub async fn silent(&self) -> Vec<String> {
        let pulses = self.pulses().clone();
        let mut asked: Vec<(Arc<Pulse>, u64)> = pulses
            .into_iter()
            .map(|pulse| {
                let before = pulse.ask();
                (pulse, before)
            })
            .collect();
        let started = Instant::now();
        loop {
            // Before the look, so that no turn falls between both.
            let mut turned = std::pin::pin!(self.0.turned.notified());
            turned.as_mut().enable();
            asked.retain(|(pulse, before)| pulse.turns() == *before);
            if asked.is_empty() || started.elapsed() >= LIVENESS_MAX {
                let names = asked.iter().map(|(pulse, _)| pulse.name().to_owned());
                return names.collect();
            }
            let _looks_again = tokio::time::timeout(LOOK, turned).await;
        }
    }

    /// Appends `uproar_supervised_restarts_total`.
    pub fn render(&self, out: &mut String) {
        let restarts = self.0.restarts.load(Ordering::Relaxed);
        let _infallible = write!(
            out,
            "# HELP uproar_supervised_restarts_total Tasks that panicked and were begun anew.\n\
             # TYPE uproar_supervised_restarts_total counter\n\
             uproar_supervised_restarts_total{{task=\"log-delivery\"}} {restarts}\n"
        );
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
    /// Waits for the end of a thread that was told to end. One that does not is as bad as one that dies.
    pub fn join(self) {
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(THREAD_STOP_MAX) {
            let cause = format!("it was told to end, and did not within {THREAD_STOP_MAX:?}");
            self.supervisor.fail(&self.name, &cause);
        }
    }
}

/// The longest time between two looks whether threads have turned.
const LOOK: Duration = Duration::from_millis(100);

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

    /// Goal: only an end nobody asked for ends the process.
    #[test]
    fn a_thread_ends_the_process_unless_it_was_told_to_end() {
        for (outcome, ends) in [(Ok(Told), false), (Err("io_uring_enter: ENOMEM"), true)] {
            let (supervisor, ended) = supervisor();
            let thread = supervisor
                .thread("t", || {}, |_| outcome)
                .expect("a thread");
            thread.join();
            assert_eq!(ended.load(Ordering::SeqCst), ends);
        }
    }

    /// Goal: a thread that sleeps turns when it is asked; one that hangs is named.
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
                Ok::<_, Infallible>(Told)
            },
        );
        let hung = supervisor.thread(
            "hung",
            || {},
            move |_| {
                let _until_the_end = freed.recv();
                Ok::<_, Infallible>(Told)
            },
        );
        let runtime = runtime().expect("a runtime");
        assert_eq!(runtime.block_on(supervisor.silent()), ["hung"]);
        drop((free, sleeper, hung));
    }

    /// Goal: a kept task goes on after panics, which are counted, and nothing else ends.
    #[test]
    fn a_kept_task_is_begun_anew_and_counted() {
        let (supervisor, ended) = supervisor();
        let runtime = runtime().expect("a runtime");
        let (begun, mut runs) = tokio::sync::mpsc::unbounded_channel();
        let make = || {
            let begun = begun.clone();
            async move {
                begun.send(()).expect("somebody counts");
                tokio::task::yield_now().await;
                panic!("poison");
            }
        };
        runtime.block_on(async {
            tokio::select! {
                // The third run is heard of before it is polled again and panics.
                biased;
                () = async { for _ in 0..3 { runs.recv().await.expect("begun anew"); } } => {}
                never = keep(&supervisor, "t", Duration::ZERO, make) => match never {},
            }
        });
        let mut text = String::new();
        supervisor.render(&mut text);
        assert!(text.ends_with(" 2\n"), "{text}");
        assert!(!ended.load(Ordering::SeqCst));
    }

    /// Goal: work beside a thread fails by a panic like by any other error.
    #[test]
    fn a_panic_in_blocking_work_is_an_error() {
        let runtime = runtime().expect("a runtime");
        let work = || -> io::Result<()> { panic!("poison") };
        let failed = runtime.block_on(blocking(work)).expect_err("it panicked");
        assert!(failed.to_string().contains("panicked"), "{failed}");
    }
}
