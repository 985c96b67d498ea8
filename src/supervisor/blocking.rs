//! Work that blocks, beside a thread's runtime, with threads that are there whatever the limits say.

use std::io;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::contain::contained;

/// Idle threads are kept for so long: always.
const KEEP_ALIVE: Duration = Duration::from_hours(24 * 3650);

/// A runtime of this thread that has its first thread for blocking work already, and keeps it. tokio
/// panics if it needs one and there is none at all to be had; with one it only queues the work. Looking
/// up host names is such work.
///
/// # Errors
///
/// No memory, descriptor or thread.
pub fn runtime() -> io::Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(KEEP_ALIVE)
        .build()?;
    contained(|| drop(runtime.spawn_blocking(|| {})))
        .map_err(|_no_thread| io::Error::other("there is no thread to be had"))?;
    Ok(runtime)
}

/// Runs work that blocks or computes for long beside this thread. A panic in it is an error.
///
/// # Errors
///
/// Those of `work`.
///
/// # Cancel safety
///
/// The work goes on whoever waits.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(|| contained(work)).await;
    match done {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panicked)) => Err(io::Error::other(panicked)),
        Err(stopping) => Err(io::Error::other(stopping)),
    }
}
