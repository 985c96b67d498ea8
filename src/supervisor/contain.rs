//! Panics: they end the process, except in contained work.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

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

/// Ends the process at once and in good order, whatever its threads do: another process serves in its place, and
/// everything that is shared with it must stay as it is.
#[expect(
    clippy::exit,
    reason = "what the threads would end is the other process's"
)]
pub fn leave() -> ! {
    crate::logging::flush();
    std::process::exit(0);
}

/// The same for a process that must not have touched anything.
#[expect(
    clippy::exit,
    reason = "what the threads would end is the other process's"
)]
pub fn give_up() -> ! {
    crate::logging::flush();
    std::process::exit(1);
}

/// Runs `work`, whose panic becomes an error. It must not leave shared state half changed.
pub(super) fn contained<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    let before = CONTAINED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(before);
    outcome.map_err(|_logged| Panicked)
}
