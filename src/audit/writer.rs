//! The thread that writes records.

use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Instant;

use tokio::sync::oneshot;

use super::files::Files;
use super::{AuditWork, By, Entry, Job};
use crate::logging::{Kind, local};
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::limits::{AUDIT_BATCH_MAX, AUDIT_SYNC_INTERVAL};

/// Writes records until the log is closed, and `beat`s in each turn. What is written is in the page cache, so that it
/// outlasts the process; within [`AUDIT_SYNC_INTERVAL`] it is on the disk.
pub fn run(work: AuditWork, beat: impl Fn()) {
    let files = Files::new(work.directory.clone(), work.bytes_max);
    let mut writer = Writer {
        files,
        work,
        unsynced: None,
        missing: 0,
        time: UnixTime::default(),
        lines: Vec::new(),
        waiting: Vec::new(),
    };
    while writer.turn() {
        beat();
    }
    writer.sync();
}

struct Writer {
    files: Files,
    work: AuditWork,
    // Since when something is not synced.
    unsynced: Option<Instant>,
    // Records that the disk has refused since the last one that it took.
    missing: u64,
    // Of the newest record.
    time: UnixTime,
    // Reused.
    lines: Vec<u8>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Writer {
    /// Writes what there is; `false`: there will be no more.
    fn turn(&mut self) -> bool {
        let first = match self.work.jobs.recv_timeout(AUDIT_SYNC_INTERVAL) {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                self.sync();
                return true;
            }
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        let mut count = 0;
        let more = std::iter::from_fn(|| self.work.jobs.try_recv().ok());
        let jobs: Vec<Job> = std::iter::once(first)
            .chain(more)
            .take(AUDIT_BATCH_MAX)
            .collect();
        self.lines.clear();
        for job in jobs {
            if let Job::Write(entry, done) = job {
                count += 1;
                self.time = entry.time;
                entry.write(&mut self.lines);
                self.waiting.extend(done);
            }
        }
        if count > 0 {
            self.write(count);
        }
        for waiting in self.waiting.drain(..) {
            // The caller has gone.
            let _gone = waiting.send(());
        }
        if self
            .unsynced
            .is_some_and(|since| since.elapsed() >= AUDIT_SYNC_INTERVAL)
        {
            self.sync();
        }
        true
    }

    fn write(&mut self, count: u64) {
        let figures = &self.work.figures;
        if self.missing > 0 {
            // First what is missing before it, so that the file tells of its gaps.
            let mut lines = Vec::new();
            gap(self.missing, self.time).write(&mut lines);
            lines.append(&mut self.lines);
            self.lines = lines;
        }
        match self.files.append(&self.lines) {
            Ok(()) => {
                if self.missing > 0
                    && let Some(suppressed) = local::admit(Kind::Audit)
                {
                    let missing = self.missing;
                    tracing::warn!(
                        missing,
                        suppressed,
                        "the audit file is written again, behind a gap"
                    );
                }
                self.missing = 0;
                figures.written.fetch_add(count, Ordering::Relaxed);
                self.unsynced.get_or_insert_with(now);
            }
            Err(error) => {
                self.missing += count;
                figures.lost_disk.fetch_add(count, Ordering::Relaxed);
                if let Some(suppressed) = local::admit(Kind::Audit) {
                    let directory = self.work.directory.display();
                    tracing::error!(
                        %directory, %error, missing = self.missing, suppressed,
                        "acts of moderation are not in the audit file; free space, or switch it off by audit.enabled"
                    );
                }
            }
        }
    }

    fn sync(&mut self) {
        if self.unsynced.take().is_none() {
            return;
        }
        if let Err(error) = self.files.sync()
            && let Some(suppressed) = local::admit(Kind::Audit)
        {
            tracing::error!(%error, suppressed, "the audit file is not synced: a loss of power may cost its last second");
        }
    }
}

/// Says in the file that records are missing.
fn gap(missing: u64, time: UnixTime) -> Entry {
    Entry {
        time,
        by: By::Rule("audit"),
        action: "gap",
        room: String::new(),
        target: missing.to_string(),
        reason: "the disk refused these records".to_owned(),
        result: "lost".to_owned(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a thread of its own, which is handed no clock"
)]
fn now() -> Instant {
    Instant::now()
}
