//! Who moderated what: an append-only file of JSON lines beside the store.
//!
//! Owns: the queue of records and what it counts; a thread of its own writes them, so that a slow disk holds up no shard.
//! Never: deciding what is moderation, and who may read of it; its callers do.

mod entry;
mod files;
mod read;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::oneshot;

pub use entry::{By, Entry};
pub use read::{Place, page};
pub use writer::run;

use crate::exposition::{Exposition, Family};
use uproar_proto::base::limits::{AUDIT_QUEUE_MAX, AUDIT_WRITE_WAIT_MAX};

/// Where moderation is noted. One for the process, shared by all threads; switched off until it is opened.
#[derive(Debug, Default)]
pub struct AuditLog {
    open: OnceLock<Open>,
    figures: Arc<Figures>,
}

#[derive(Debug)]
struct Open {
    // `None` once it is closed.
    jobs: RwLock<Option<SyncSender<Job>>>,
    directory: PathBuf,
    // What a room's id follows in its ARN.
    room_prefix: String,
}

/// What the thread is asked for.
#[derive(Debug)]
enum Job {
    /// Write this, and say so when it is done or has failed. In a box, since the queue's places are in memory from the start.
    Write(Box<Entry>, Option<oneshot::Sender<()>>),
    /// Take a turn.
    Wake,
}

/// What became of records.
#[derive(Debug, Default)]
struct Figures {
    written: AtomicU64,
    lost_queue: AtomicU64,
    lost_disk: AtomicU64,
    late: AtomicU64,
}

/// What the thread works with.
#[derive(Debug)]
pub struct AuditWork {
    jobs: Receiver<Job>,
    figures: Arc<Figures>,
    directory: PathBuf,
    bytes_max: u64,
}

impl AuditLog {
    /// Switches it on: records go to files in `directory`, `bytes_max` of them together. Give the answer to [`run`] on a
    /// thread of its own. `None`: it is on already.
    pub fn open(
        &self,
        directory: PathBuf,
        bytes_max: u64,
        room_prefix: String,
    ) -> Option<AuditWork> {
        let (sender, jobs) = sync_channel(AUDIT_QUEUE_MAX);
        let open = Open {
            jobs: RwLock::new(Some(sender)),
            directory: directory.clone(),
            room_prefix,
        };
        self.open.set(open).ok()?;
        Some(AuditWork {
            jobs,
            figures: Arc::clone(&self.figures),
            directory,
            bytes_max,
        })
    }

    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.open.get().is_some()
    }

    /// Where its files are, if it is on.
    pub fn directory(&self) -> Option<&Path> {
        self.open.get().map(|open| &*open.directory)
    }

    /// A room's ARN; empty while it is off.
    pub fn room_arn(&self, id: &dyn std::fmt::Display) -> String {
        let open = self.open.get();
        open.map_or_else(String::new, |open| format!("{}{id}", open.room_prefix))
    }

    /// Notes what was done, and does not wait. `entry` is not made while it is off.
    pub fn note(&self, entry: impl FnOnce() -> Entry) {
        if self.is_on() {
            self.send(Job::Write(Box::new(entry()), None));
        }
    }

    /// Notes what was done, and waits until it is in the file, or could not be written, at most [`AUDIT_WRITE_WAIT_MAX`].
    ///
    /// # Cancel safety
    ///
    /// The record is written all the same.
    pub async fn record(&self, entry: Entry) {
        if !self.is_on() {
            return;
        }
        let (done, is_done) = oneshot::channel();
        self.send(Job::Write(Box::new(entry), Some(done)));
        // What did not fit the queue is counted there, and its end is at once.
        if tokio::time::timeout(AUDIT_WRITE_WAIT_MAX, is_done)
            .await
            .is_err()
        {
            self.figures.late.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has the thread take a turn.
    pub fn wake(&self) {
        self.send(Job::Wake);
    }

    /// Ends the thread, once it has written what it was given.
    pub fn close(&self) {
        if let Some(open) = self.open.get() {
            let mut jobs = open.jobs.write().unwrap_or_else(PoisonError::into_inner);
            *jobs = None;
        }
    }

    fn send(&self, job: Job) {
        let Some(open) = self.open.get() else {
            return;
        };
        let jobs = open.jobs.read().unwrap_or_else(PoisonError::into_inner);
        let is_record = matches!(job, Job::Write(..));
        let taken = jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok());
        if is_record && !taken {
            self.figures.lost_queue.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds its figures to `/metrics`, if it is on.
    pub fn render(&self, page: &mut Exposition) {
        if !self.is_on() {
            return;
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let figures = &self.figures;
        page.family(&RECORDS).add(&[], count(&figures.written));
        let mut lost = page.family(&LOST);
        lost.add(&[("reason", "queue")], count(&figures.lost_queue));
        lost.add(&[("reason", "disk")], count(&figures.lost_disk));
        page.family(&LATE).add(&[], count(&figures.late));
    }
}

const RECORDS: Family = Family::counter(
    "uproar_audit_records_total",
    "Acts of moderation that were written to the audit file.",
);
const LOST: Family = Family::counter(
    "uproar_audit_records_lost_total",
    "Acts of moderation that are not in the audit file, by why.",
);
const LATE: Family = Family::counter(
    "uproar_audit_records_late_total",
    "Answers that were given before the record was written.",
);

#[cfg(test)]
mod tests;
