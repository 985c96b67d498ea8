//! Panics: they end the process, except where the work can be begun anew.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use super::Supervisor;

thread_local! {
    // This thread runs something that may panic.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// The log's own thread, which outlives even its own bugs: whatever happens to it changes nothing.
const LOG_THREAD: &str = "log";

/// What was begun panicked. The panic has been logged.
#[derive(Debug, thiserror::Error)]
#[error("it panicked: this is a bug, the log has where")]
pub(super) struct Panicked;

/// Has every panic that is not contained end the process, behind what the hook there is does: that
/// writes the line.
pub(super) fn end_at_panics() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        if !CONTAINED.get() && std::thread::current().name() != Some(LOG_THREAD) {
            exit();
        }
    }));
}

/// Ends the process from whichever thread this is, as if it had been killed: what was acknowledged is in
/// files by then.
#[expect(clippy::exit, reason = "no thread is left that could end it in order")]
pub(super) fn exit() {
    std::process::exit(1);
}

/// Runs `work`, whose panic is only an error. Nothing it shares with others may be left half done.
pub(super) fn contained<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    let before = CONTAINED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(before);
    outcome.map_err(|_logged| Panicked)
}

/// Runs what `make` makes for ever: when it panics it is made anew after `pause`, counted. For
/// tasks that begin from what is on disk, so that nothing is lost by it.
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
        tracing::error!(task = name, %panicked, ?pause, "begun anew after a pause");
        drop(task);
        tokio::time::sleep(pause).await;
    }
}
