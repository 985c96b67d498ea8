//! Panics: they end the process, except in work that can be restarted.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use super::Supervisor;

thread_local! {
    // This thread runs work that may panic.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// The log's own thread, which survives even its own bugs.
const LOG_THREAD: &str = "log";

/// The work panicked. The panic has been logged.
#[derive(Debug, thiserror::Error)]
#[error("it panicked: this is a bug, the log has where")]
pub(super) struct Panicked;

/// Makes every panic that is not contained end the process, after the existing hook has written the line.
pub(super) fn end_at_panics() {
    let log = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        log(panic);
        if !CONTAINED.get() && std::thread::current().name() != Some(LOG_THREAD) {
            exit();
        }
    }));
}

/// Ends the process from any thread, as if it had been killed: acknowledged data is in files by then.
#[expect(clippy::exit, reason = "no thread is left that could end it in order")]
pub(super) fn exit() {
    std::process::exit(1);
}

/// Runs `work`, whose panic becomes an error. It must not leave shared state half changed.
pub(super) fn contained<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    let before = CONTAINED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(before);
    outcome.map_err(|_logged| Panicked)
}

/// Runs the task of `make` forever: when it panics it is restarted after `pause`, and counted. For tasks that start
/// from the state on disk, so that a restart loses nothing.
pub async fn keep<F: Future<Output = Infallible>>(
    supervisor: &Supervisor,
    name: &str,
    pause: Duration,
    make: impl Fn() -> F,
) -> Infallible {
    loop {
        let mut task = Box::pin(make());
        let polled = poll_fn(|context| match contained(|| task.as_mut().poll(context)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(never)) => match never {},
            Err(panicked) => Poll::Ready(panicked),
        });
        let panicked = polled.await;
        supervisor.0.restarts.fetch_add(1, Ordering::Relaxed);
        tracing::error!(task = name, %panicked, ?pause, "restarted after a pause");
        drop(task);
        tokio::time::sleep(pause).await;
    }
}
