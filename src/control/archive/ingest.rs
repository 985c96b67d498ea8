//! From the shards' mailboxes to the spools; executes the control plane's commands.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, LocalSet};

use super::deliver::{Common, deliver};
use super::metrics::{DropReason, Kind};
use super::record;
use super::sink::Sink;
use super::sink_client::SinkClient;
use super::spool::Spool;
use crate::control::record::Destination;
use crate::logging::{Kind as LineKind, local};
use crate::net::event::Event;
use crate::shard::command::Command;
use crate::shard::durability::LoggedFrames;
use crate::shard::mesh::ArchiveEnd;
use crate::supervisor::{Pulse, Stopped, blocking, keep};
use uproar_proto::base::id::LoggingId;
use uproar_proto::base::limits::{LOG_SYNC_INTERVAL, RESTART_PAUSE};
use uproar_proto::ws;

/// Entries of one shard between two commits.
const ENTRIES_PER_COMMIT_MAX: u32 = 1024;
/// How long blocking reads and writes may continue when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// A command from the control plane. Commands arrive in order, and before any shard sends frames
/// that depend on them.
#[derive(Debug)]
pub(super) enum ArchiveCommand {
    /// All configurations; spools of others are removed.
    Load(Vec<(LoggingId, Destination)>),
    /// The configuration is new, or its destination has changed.
    Put(LoggingId, Destination),
    /// Other settings, and what sends by them.
    Adopt(Box<SinkClient>),
    /// The configuration was deleted; its records are deleted too.
    Remove(LoggingId),
    /// Stop deliveries.
    Pause(oneshot::Sender<io::Result<()>>),
    /// Answer when the contents of the mailboxes are spooled.
    Settle(oneshot::Sender<()>),
    /// Deliveries go on.
    Resume,
    /// Spool the contents of the mailboxes and stop.
    Stop,
}

type Commands = mpsc::UnboundedReceiver<ArchiveCommand>;

/// Runs the archive until it receives a stop command.
pub(super) fn run(
    runtime: Runtime,
    common: Common,
    end: ArchiveEnd,
    commands: Commands,
    pulse: &Pulse,
) -> io::Result<Stopped> {
    let tasks = LocalSet::new();
    let outcome = tasks.block_on(&runtime, async move {
        let event = Event::new(end.bell.event())?;
        tokio::task::spawn_local(local::log_overdue());
        let unacknowledged = vec![0; end.receivers.len()];
        let ingest = Ingest {
            end,
            common: Rc::new(common),
            sinks: HashMap::new(),
            unopened: HashMap::new(),
            unacknowledged,
            settling: Vec::new(),
            stopping: false,
            record: Vec::new(),
        };
        ingest.serve(event, commands, pulse).await
    });
    // Deliveries in progress end here; they are repeated after the next start.
    drop(tasks);
    runtime.shutdown_timeout(STOP_TIMEOUT);
    outcome
}

/// A sink and its tasks.
struct Running {
    sink: Rc<Sink>,
    // Ends with this value.
    delivery: JoinHandle<()>,
    // The last sync of its spool; one at a time.
    sync: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.delivery.abort();
    }
}

/// What ended the archive's sleep.
enum Woken {
    Rung(io::Result<()>),
    Command(ArchiveCommand),
    Tick,
}

struct Ingest {
    end: ArchiveEnd,
    common: Rc<Common>,
    sinks: HashMap<LoggingId, Running>,
    // Configurations whose spool could not be opened; opening is retried.
    unopened: HashMap<LoggingId, Destination>,
    // Entries of each shard that are spooled but not yet acknowledged. A count is enough: mailbox
    // and spool keep the order in which the shard holds its deliveries.
    unacknowledged: Vec<u32>,
    // Those who wait until the mailboxes are empty.
    settling: Vec<oneshot::Sender<()>>,
    // A stop command was received.
    stopping: bool,
    // The record being made; reused.
    record: Vec<u8>,
}

impl Ingest {
    async fn serve(
        mut self,
        event: Event,
        mut commands: Commands,
        pulse: &Pulse,
    ) -> io::Result<Stopped> {
        let mut tick = tokio::time::interval(LOG_SYNC_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.stopping {
            pulse.beat();
            if self.take_entries(&mut commands) {
                // Let deliveries run.
                tokio::task::yield_now().await;
                continue;
            }
            for answer in self.settling.drain(..) {
                // The asker may have given up.
                let _gone = answer.send(());
            }
            let receivers = &self.end.receivers;
            let has_entries = || receivers.iter().any(|receiver| !receiver.is_empty());
            let woken = async {
                tokio::select! {
                    rung = event.wait() => Woken::Rung(rung),
                    command = commands.recv() => Woken::Command(command.unwrap_or(ArchiveCommand::Stop)),
                    _ = tick.tick() => Woken::Tick,
                }
            };
            match self.end.bell.sleep(has_entries, woken).await {
                Woken::Rung(rung) => rung?,
                Woken::Command(command) => self.execute(command),
                Woken::Tick => self.maintain(),
            }
        }
        while self.take_entries(&mut commands) {}
        for running in self.sinks.values() {
            let unsynced = running.sink.spool.borrow_mut().sync_handle();
            if let Some(file) = unsynced {
                let _as_far_as_possible = file.sync_data();
            }
        }
        Ok(Stopped)
    }

    /// Spools the shards' frames and acknowledges them. Returns whether there were any.
    fn take_entries(&mut self, commands: &mut Commands) -> bool {
        let mut any = false;
        for shard in 0..self.end.receivers.len() {
            let mut count = 0;
            while count < ENTRIES_PER_COMMIT_MAX {
                let Ok(entry) = self.end.receivers[shard].pop() else {
                    break;
                };
                count += 1;
                self.stage(&entry, commands);
            }
            if count > 0 {
                any = true;
                self.commit();
                self.unacknowledged[shard] += count;
            }
        }
        for (mailbox, unacknowledged) in self.end.mailboxes.iter_mut().zip(&mut self.unacknowledged)
        {
            // A full mailbox: the acknowledgement waits, and the shard's deadline lets deliveries
            // go ahead.
            if *unacknowledged > 0 && mailbox.has_room() {
                mailbox.deliver(Command::Spooled(std::mem::take(unacknowledged)));
            }
            mailbox.flush();
        }
        any
    }

    fn stage(&mut self, entry: &LoggedFrames, commands: &mut Commands) {
        let known =
            |ingest: &Self, id| ingest.sinks.contains_key(&id) || ingest.unopened.contains_key(&id);
        if entry.targets.iter().any(|id| !known(self, id)) {
            // The command was sent before the shard learned of it, so it has arrived.
            while let Ok(command) = commands.try_recv() {
                self.execute(command);
            }
        }
        for payload in ws::payloads(&entry.frames) {
            self.record.clear();
            let Some(event_ms) = record::encode(&mut self.record, payload) else {
                if let Some(suppressed) = local::admit(LineKind::Archive) {
                    tracing::error!(room = %entry.room, suppressed, "chat logs: a frame is not a record");
                }
                let sinks = entry.targets.iter().filter_map(|id| self.sinks.get(&id));
                for running in sinks {
                    let kind = running.sink.kind();
                    self.common.metrics.dropped(kind, DropReason::Damage, 1);
                }
                continue;
            };
            for id in entry.targets.iter() {
                if let Some(running) = self.sinks.get(&id) {
                    let mut spool = running.sink.spool.borrow_mut();
                    let staged = spool.stage(entry.room, |out| {
                        out.extend_from_slice(&self.record);
                        Some(event_ms)
                    });
                    debug_assert!(staged.is_some(), "a frame's record fits an entry");
                    if staged.is_none() {
                        let kind = running.sink.kind();
                        self.common.metrics.dropped(kind, DropReason::Damage, 1);
                    }
                } else if let Some(destination) = self.unopened.get(&id) {
                    self.common
                        .metrics
                        .dropped(Kind::of(destination), DropReason::Disk, 1);
                }
            }
        }
    }

    fn commit(&mut self) {
        let metrics = &self.common.metrics;
        let now = self.common.clock.now().tick;
        for running in self.sinks.values() {
            let sink = &running.sink;
            let kind = sink.kind();
            let committed = sink.spool.borrow_mut().commit(now);
            match committed {
                Ok(done) if done.written == 0 => {}
                Ok(done) => {
                    metrics.spooled(kind, done.written);
                    if sink.unwritable.take() {
                        tracing::info!(configuration = %sink.id, "chat logs: the spool can be written again");
                    }
                    if done.dropped > 0 {
                        if let Some(suppressed) = local::admit(LineKind::ArchiveFull) {
                            tracing::error!(configuration = %sink.id, records = done.dropped, suppressed, "chat logs: the spool is full; its oldest records are dropped");
                        }
                        metrics.dropped(kind, DropReason::SpoolFull, done.dropped);
                    }
                    sink.gauge(metrics);
                    sink.spooled.notify_one();
                }
                Err((records, error)) => {
                    if !sink.unwritable.replace(true)
                        && let Some(suppressed) = local::admit(LineKind::Archive)
                    {
                        tracing::error!(configuration = %sink.id, records, suppressed, %error, "chat logs: the spool cannot be written; the chat continues, its records are lost: free space on the disk of server.data_dir");
                    }
                    metrics.dropped(kind, DropReason::Disk, records);
                }
            }
        }
    }

    fn execute(&mut self, command: ArchiveCommand) {
        match command {
            ArchiveCommand::Load(all) => {
                self.remove_orphaned_spools(&all);
                for (id, destination) in all {
                    self.put(id, destination);
                }
            }
            ArchiveCommand::Put(id, destination) => self.put(id, destination),
            ArchiveCommand::Adopt(client) => self.adopt(*client),
            ArchiveCommand::Remove(id) => self.remove(id),
            ArchiveCommand::Pause(answer) => {
                let common = Rc::clone(&self.common);
                tokio::task::spawn_local(async move {
                    // An asker that has given up resumes.
                    let _gone = answer.send(common.hold.stop().await);
                });
            }
            ArchiveCommand::Settle(answer) => self.settling.push(answer),
            ArchiveCommand::Resume => self.common.hold.resume(),
            ArchiveCommand::Stop => self.stopping = true,
        }
    }

    fn put(&mut self, id: LoggingId, destination: Destination) {
        let metrics = &self.common.metrics;
        if let Some(running) = self.sinks.get(&id) {
            running.sink.redirect(metrics, destination);
            return;
        }
        let bytes_max = self.common.client().settings.spool_bytes_max;
        let now = self.common.clock.now().tick;
        match Spool::open(&self.directory(id), bytes_max, now) {
            Ok(spool) => {
                let sink = Rc::new(Sink::new(id, spool, destination));
                sink.gauge(metrics);
                let (own, common) = (Rc::clone(&sink), Rc::clone(&self.common));
                let delivery = tokio::task::spawn_local(async move {
                    let name = format!("delivery of {id}");
                    // Starts at the spool's cursor: a delivery that was in progress is repeated.
                    let make = || deliver(Rc::clone(&own), Rc::clone(&common));
                    match keep(&common.supervisor, &name, RESTART_PAUSE, make).await {}
                });
                let running = Running {
                    sink,
                    delivery,
                    sync: None,
                };
                self.sinks.insert(id, running);
                self.unopened.remove(&id);
            }
            Err(error) => {
                if self.unopened.insert(id, destination).is_none() {
                    tracing::error!(configuration = %id, %error, "chat logs: a spool cannot be opened; retried each second");
                }
            }
        }
    }

    /// Sends by `client` from now on. A delivery in progress begins anew if it would go elsewhere.
    fn adopt(&mut self, client: SinkClient) {
        let goes_elsewhere = client
            .settings
            .goes_elsewhere(&self.common.client().settings);
        let bytes_max = client.settings.spool_bytes_max;
        self.common.set_client(client);
        for running in self.sinks.values() {
            let sink = &running.sink;
            sink.spool.borrow_mut().set_bytes_max(bytes_max);
            if goes_elsewhere {
                let destination = sink.destination.borrow().clone();
                sink.redirect(&self.common.metrics, destination);
            }
            // Its records may be due earlier now.
            sink.spooled.notify_one();
        }
    }

    fn remove(&mut self, id: LoggingId) {
        self.unopened.remove(&id);
        if let Some(running) = self.sinks.remove(&id) {
            let (metrics, kind) = (&self.common.metrics, running.sink.kind());
            metrics.dropped(
                kind,
                DropReason::Deleted,
                running.sink.spool.borrow().backlog(),
            );
            running.sink.retire(metrics);
        }
        if let Err(error) = fs::remove_dir_all(self.directory(id)) {
            tracing::warn!(configuration = %id, %error, "chat logs: a spool was not removed");
        }
    }

    /// Removes spools of configurations that were deleted just before the server was killed.
    fn remove_orphaned_spools(&self, all: &[(LoggingId, Destination)]) {
        let Ok(found) = fs::read_dir(&self.common.client().settings.spool) else {
            return;
        };
        for entry in found.flatten() {
            let id = entry.file_name().to_str().and_then(LoggingId::parse);
            let orphan = id.filter(|id| all.iter().all(|(known, _)| known != id));
            if let Some(id) = orphan {
                tracing::warn!(configuration = %id, "chat logs: a spool without a configuration is removed");
                let _still_there = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Runs each second: syncs spools, and retries those that could not be opened.
    fn maintain(&mut self) {
        if self.common.hold.is_running() {
            for (id, destination) in self.unopened.clone() {
                self.put(id, destination);
            }
        }
        for running in self.sinks.values_mut() {
            let syncing = running
                .sync
                .as_ref()
                .is_some_and(|sync| !sync.is_finished());
            if syncing {
                continue;
            }
            let unsynced = running.sink.spool.borrow_mut().sync_handle();
            if let Some(file) = unsynced {
                let id = running.sink.id;
                running.sync = Some(tokio::task::spawn_local(async move {
                    if let Err(error) = blocking(move || file.sync_data()).await {
                        tracing::error!(configuration = %id, %error, "chat logs: a spool cannot be synced");
                    }
                }));
            }
        }
    }

    fn directory(&self, id: LoggingId) -> PathBuf {
        self.common.client().settings.spool.join(id.as_str())
    }
}
