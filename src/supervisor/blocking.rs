//! Blocking work outside a thread's runtime, on threads that exist whatever the limits are.

use std::io;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::contain::contained;

/// How long idle threads are kept: always.
const KEEP_ALIVE: Duration = Duration::from_hours(24 * 3650);

/// A runtime for this thread that already has its first thread for blocking work, and keeps it. tokio panics if it
/// needs one and none can be started; with one it only queues the work. Name resolution is such work.
///
/// # Errors
///
/// No memory, descriptor or thread is available.
pub fn runtime() -> io::Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(KEEP_ALIVE)
        .build()?;
    contained(|| drop(runtime.spawn_blocking(|| {})))
        .map_err(|_no_thread| io::Error::other("no thread is available"))?;
    Ok(runtime)
}

/// Runs work that blocks or computes for long on a blocking thread. A panic in it is an error.
///
/// # Errors
///
/// Those of `work`.
///
/// # Cancel safety
///
/// The work continues without the caller.
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
