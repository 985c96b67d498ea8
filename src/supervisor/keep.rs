//! Work that is restarted after a panic.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use super::Supervisor;
use super::contain::contained;

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
