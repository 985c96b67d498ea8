//! The thread that writes the audit file.

use std::sync::Arc;

use super::StartError;
use crate::audit;
use crate::config::Settings;
use crate::shard::settings::SharedBudgets;
use crate::supervisor::{Stopped, Supervisor, Thread};
use uproar_proto::base::id::RoomId;

/// The thread, to be stopped behind those that note something.
pub(super) struct AuditThread {
    shared: SharedBudgets,
    thread: Thread,
}

/// Starts it, if moderation is to be noted.
///
/// # Errors
///
/// No thread is available.
pub(super) fn start(
    settings: &Settings,
    shared: &SharedBudgets,
    supervisor: &Supervisor,
) -> Result<Option<AuditThread>, StartError> {
    let directory = settings.data_dir.join("audit");
    let any = RoomId::from_random(0);
    let arn = settings.account.arn(any);
    let prefix = arn.strip_suffix(any.as_str()).unwrap_or_default();
    let work = settings
        .audit_bytes
        .and_then(|bytes_max| shared.audit.open(directory, bytes_max, prefix.to_owned()));
    let Some(work) = work else {
        return Ok(None);
    };
    let woken = Arc::clone(shared);
    let wake = move || woken.audit.wake();
    let thread = supervisor.thread("audit", wake, move |pulse| {
        audit::run(work, || pulse.beat());
        Ok::<_, std::io::Error>(Stopped)
    });
    let thread = thread.map_err(StartError::Runtime)?;
    Ok(Some(AuditThread {
        shared: Arc::clone(shared),
        thread,
    }))
}

impl AuditThread {
    /// Ends it once everything is written.
    pub(super) fn stop(self) {
        self.shared.audit.close();
        self.thread.join();
    }
}
