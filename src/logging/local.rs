//! A [`Limiter`] for each thread with a clock of its own: control, archive, start-up. Shards keep theirs in their
//! core, whose time is an argument.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::Instant;

use super::{Kind, Limiter};
use uproar_proto::base::clock::Tick;
use uproar_proto::base::limits::LOG_LINE_INTERVAL;

thread_local! {
    static LIMITER: RefCell<Limiter> = RefCell::default();
}

/// [`Limiter::admit`] for this thread and the current time.
pub(crate) fn admit(kind: Kind) -> Option<u64> {
    LIMITER.with_borrow_mut(|limiter| limiter.admit(kind, now()))
}

/// Reports forever the lines this thread suppressed last. Run it as a task of the thread.
pub(crate) async fn log_overdue() {
    loop {
        tokio::time::sleep(LOG_LINE_INTERVAL).await;
        let overdue: Vec<_> = LIMITER.with_borrow_mut(|limiter| limiter.overdue(now()).collect());
        for overdue in overdue {
            overdue.log();
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "threads without a loop have no turn to take the time from"
)]
fn now() -> Tick {
    static START: OnceLock<Instant> = OnceLock::new();
    let since = START.get_or_init(Instant::now).elapsed();
    // Starts one interval late, so that the first line of a kind is never suppressed.
    Tick::default().after(since + LOG_LINE_INTERVAL)
}
