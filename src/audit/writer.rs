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
        removed: false,
        time: UnixTime::default(),
        lines: Vec::new(),
        waiting: Vec::new(),
    };
    while writer.turn() {
        beat();
    }
    writer.end();
}

struct Writer {
    files: Files,
    work: AuditWork,
    // Since when something is not synced.
    unsynced: Option<Instant>,
    // Records that the disk has refused since the last one that it took.
    missing: u64,
    // Whether somebody has removed files that the next one is to tell of.
    removed: bool,
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
                self.look();
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
        } else {
            self.look();
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

    /// Looks whether the files are still there, while nothing is to be written.
    fn look(&mut self) {
        self.check();
        if self.removed {
            self.lines.clear();
            self.write(0);
        }
    }

    /// Notices that somebody has removed the file that is written.
    fn check(&mut self) {
        if self.files.are_removed() {
            self.removed = true;
            // Synced with it, or gone.
            self.unsynced = None;
            let directory = self.work.directory.display();
            tracing::error!(
                %directory,
                "somebody has removed the audit file that was written: its records are gone, and a new one begins"
            );
        }
    }

    /// Writes these lines, of `count` records, behind those that tell of what is missing before them.
    fn write(&mut self, count: u64) {
        self.check();
        let figures = &self.work.figures;
        let mut lines = Vec::new();
        if self.removed {
            removal(self.time).write(&mut lines);
        }
        if self.missing > 0 {
            gap(self.missing, self.time).write(&mut lines);
        }
        if !lines.is_empty() {
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
                (self.missing, self.removed) = (0, false);
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

    /// The last turn: what is missing is told in the file if it can be, else in the log, since nobody will know it later.
    fn end(&mut self) {
        self.lines.clear();
        if self.missing > 0 || self.removed {
            self.write(0);
        }
        if self.missing > 0 {
            let directory = self.work.directory.display();
            tracing::error!(
                %directory, missing = self.missing,
                "acts of moderation are missing in the audit file, which the disk still refuses: it will not tell of them"
            );
        }
        self.sync();
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
    lost(missing.to_string(), "the disk refused these records", time)
}

/// Says in the file that the one before it was removed, with how many records nobody knows.
fn removal(time: UnixTime) -> Entry {
    let why = "somebody removed the file that was written before";
    lost(String::new(), why, time)
}

fn lost(target: String, why: &str, time: UnixTime) -> Entry {
    Entry {
        time,
        by: By::Rule("audit"),
        action: "gap",
        room: String::new(),
        target,
        reason: why.to_owned(),
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
