//! From the shards' mailboxes to the spools, and what the control plane orders.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet};

use super::deliver::{Common, Outlet, deliver};
use super::metrics::{Kind, Loss};
use super::spool::Spool;
use super::{Order, record};
use crate::base::id::LoggingId;
use crate::base::limits::{LOG_SYNC_INTERVAL, RESTART_PAUSE};
use crate::control::record::Destination;
use crate::logging::{Kind as LineKind, local};
use crate::net::event::Event;
use crate::protocol::ws;
use crate::shard::command::Command;
use crate::shard::handover::Entry;
use crate::shard::mesh::ArchiveEnd;
use crate::supervisor::{Pulse, Told, blocking, keep};

/// Entries of one shard between two commits.
const ENTRIES_PER_COMMIT_MAX: u32 = 1024;
/// How long reading and writing beside the thread may go on when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

type Orders = mpsc::UnboundedReceiver<Order>;

/// Runs the archive until it is told to stop.
pub(super) fn run(
    runtime: Runtime,
    common: Common,
    end: ArchiveEnd,
    orders: Orders,
    pulse: &Pulse,
) -> io::Result<Told> {
    let tasks = LocalSet::new();
    let outcome = tasks.block_on(&runtime, async move {
        let event = Event::new(end.bell.event())?;
        tokio::task::spawn_local(local::say_overdue());
        let owed = vec![0; end.mail.len()];
        let intake = Intake {
            end,
            common: Rc::new(common),
            outlets: HashMap::new(),
            unopened: HashMap::new(),
            owed,
            stopping: false,
            record: Vec::new(),
        };
        intake.serve(event, orders, pulse).await
    });
    // Deliveries that are under way end here; they are repeated after the next start.
    drop(tasks);
    runtime.shutdown_timeout(STOP_TIMEOUT);
    outcome
}

/// An outlet and its tasks.
struct Running {
    outlet: Rc<Outlet>,
    delivery: JoinHandle<()>,
    sync: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.delivery.abort();
    }
}

struct Intake {
    end: ArchiveEnd,
    common: Rc<Common>,
    outlets: HashMap<LoggingId, Running>,
    // Configurations whose spool could not be opened; tried again and again.
    unopened: HashMap<LoggingId, Destination>,
    // Entries of each shard that are spooled, and it was not told.
    owed: Vec<u32>,
    stopping: bool,
    record: Vec<u8>,
}

impl Intake {
    async fn serve(mut self, event: Event, mut orders: Orders, pulse: &Pulse) -> io::Result<Told> {
        let mut tick = tokio::time::interval(LOG_SYNC_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.stopping {
            pulse.beat();
            if self.take_mail(&mut orders) {
                // Deliveries get their turn.
                tokio::task::yield_now().await;
                continue;
            }
            self.end.bell.sleep().announce();
            if self.end.mail.iter().any(|consumer| !consumer.is_empty()) {
                self.end.bell.press();
            }
            tokio::select! {
                rung = event.wait() => rung?,
                order = orders.recv() => self.follow(order.unwrap_or(Order::Stop)),
                _ = tick.tick() => self.tend(),
            }
            self.end.bell.sleep().awake();
        }
        while self.take_mail(&mut orders) {}
        for running in self.outlets.values() {
            if let Some(file) = running.outlet.spool.borrow_mut().sync_handle() {
                let _as_far_as_possible = file.sync_data();
            }
        }
        Ok(Told)
    }

    /// Spools what the shards handed over and answers them. Whether there was anything.
    fn take_mail(&mut self, orders: &mut Orders) -> bool {
        let mut any = false;
        for shard in 0..self.end.mail.len() {
            let mut count = 0;
            while count < ENTRIES_PER_COMMIT_MAX {
                let Ok(entry) = self.end.mail[shard].pop() else {
                    break;
                };
                count += 1;
                self.stage(&entry, orders);
            }
            if count > 0 {
                any = true;
                self.commit();
                self.owed[shard] += count;
            }
        }
        for (post, owed) in self.end.posts.iter_mut().zip(&mut self.owed) {
            // A full mailbox: it is told next time, and its deadline lets deliveries go ahead.
            if *owed > 0 && post.has_room() {
                post.deliver(Command::Spooled(std::mem::take(owed)));
            }
            post.flush();
        }
        any
    }

    fn stage(&mut self, entry: &Entry, orders: &mut Orders) {
        let known = |intake: &Self, id| {
            intake.outlets.contains_key(&id) || intake.unopened.contains_key(&id)
        };
        if entry.targets.iter().any(|id| !known(self, id)) {
            // Told before the shard was, so it is here.
            while let Ok(order) = orders.try_recv() {
                self.follow(order);
            }
        }
        for payload in ws::payloads(&entry.frames) {
            self.record.clear();
            let Some(event_ms) = record::encode(&mut self.record, payload) else {
                if let Some(suppressed) = local::admit(LineKind::Archive) {
                    tracing::error!(room = %entry.room, suppressed, "chat logs: a frame is no record");
                }
                let outlets = entry.targets.iter().filter_map(|id| self.outlets.get(&id));
                for running in outlets {
                    let kind = running.outlet.kind();
                    self.common.metrics.lost(kind, Loss::Damage, 1);
                }
                continue;
            };
            for id in entry.targets.iter() {
                if let Some(running) = self.outlets.get(&id) {
                    let mut spool = running.outlet.spool.borrow_mut();
                    let staged = spool.stage(entry.room, |out| {
                        out.extend_from_slice(&self.record);
                        Some(event_ms)
                    });
                    debug_assert!(staged.is_some(), "a frame's record fits an entry");
                    if staged.is_none() {
                        let kind = running.outlet.kind();
                        self.common.metrics.lost(kind, Loss::Damage, 1);
                    }
                } else if let Some(destination) = self.unopened.get(&id) {
                    self.common
                        .metrics
                        .lost(Kind::of(destination), Loss::Disk, 1);
                }
            }
        }
    }

    fn commit(&mut self) {
        let metrics = &self.common.metrics;
        let now = self.common.clock.now().tick;
        for running in self.outlets.values() {
            let outlet = &running.outlet;
            let kind = outlet.kind();
            let committed = outlet.spool.borrow_mut().commit(now);
            match committed {
                Ok(done) if done.written == 0 => {}
                Ok(done) => {
                    metrics.spooled(kind, done.written);
                    if outlet.unwritable.take() {
                        tracing::info!(configuration = %outlet.id, "chat logs: the spool can be written again");
                    }
                    if done.given_up > 0 {
                        if let Some(suppressed) = local::admit(LineKind::ArchiveFull) {
                            tracing::error!(configuration = %outlet.id, records = done.given_up, suppressed, "chat logs: the spool is full; its oldest records are given up");
                        }
                        metrics.lost(kind, Loss::SpoolFull, done.given_up);
                    }
                    outlet.gauge(metrics);
                    outlet.spooled.notify_one();
                }
                Err((records, error)) => {
                    if !outlet.unwritable.replace(true)
                        && let Some(suppressed) = local::admit(LineKind::Archive)
                    {
                        tracing::error!(configuration = %outlet.id, records, suppressed, %error, "chat logs: the spool cannot be written; the chat goes on, its records are lost: make room on the disk of server.data_dir");
                    }
                    metrics.lost(kind, Loss::Disk, records);
                }
            }
        }
    }

    fn follow(&mut self, order: Order) {
        match order {
            Order::Load(all) => {
                self.clear_strangers(&all);
                for (id, destination) in all {
                    self.put(id, destination);
                }
            }
            Order::Put(id, destination) => self.put(id, destination),
            Order::Remove(id) => self.remove(id),
            Order::Stop => self.stopping = true,
        }
    }

    fn put(&mut self, id: LoggingId, destination: Destination) {
        let metrics = &self.common.metrics;
        if let Some(running) = self.outlets.get(&id) {
            running.outlet.redirect(metrics, destination);
            return;
        }
        let bytes_max = self.common.shipper.settings.spool_bytes_max;
        let now = self.common.clock.now().tick;
        match Spool::open(&self.directory(id), bytes_max, now) {
            Ok(spool) => {
                let outlet = Rc::new(Outlet::new(id, spool, destination));
                outlet.gauge(metrics);
                let (own, common) = (Rc::clone(&outlet), Rc::clone(&self.common));
                let delivery = tokio::task::spawn_local(async move {
                    let name = format!("delivery of {id}");
                    // From the spool's cursor on: what was under way is delivered again.
                    let make = || deliver(Rc::clone(&own), Rc::clone(&common));
                    match keep(&common.supervisor, &name, RESTART_PAUSE, make).await {}
                });
                let running = Running {
                    outlet,
                    delivery,
                    sync: None,
                };
                self.outlets.insert(id, running);
                self.unopened.remove(&id);
            }
            Err(error) => {
                if self.unopened.insert(id, destination).is_none() {
                    tracing::error!(configuration = %id, %error, "chat logs: a spool cannot be opened; tried again each second");
                }
            }
        }
    }

    fn remove(&mut self, id: LoggingId) {
        self.unopened.remove(&id);
        if let Some(running) = self.outlets.remove(&id) {
            let (metrics, kind) = (&self.common.metrics, running.outlet.kind());
            metrics.lost(kind, Loss::Deleted, running.outlet.spool.borrow().backlog());
            running.outlet.retire(metrics);
        }
        if let Err(error) = fs::remove_dir_all(self.directory(id)) {
            tracing::warn!(configuration = %id, %error, "chat logs: a spool was not removed");
        }
    }

    /// Removes spools of configurations that were deleted just before the server was killed.
    fn clear_strangers(&self, all: &[(LoggingId, Destination)]) {
        let Ok(found) = fs::read_dir(&self.common.shipper.settings.spool) else {
            return;
        };
        for entry in found.flatten() {
            let id = entry.file_name().to_str().and_then(LoggingId::parse);
            let stranger = id.filter(|id| all.iter().all(|(known, _)| known != id));
            if let Some(id) = stranger {
                tracing::warn!(configuration = %id, "chat logs: a spool without a configuration is removed");
                let _still_there = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Once in a while: syncs, and spools that could not be opened.
    fn tend(&mut self) {
        for (id, destination) in self.unopened.clone() {
            self.put(id, destination);
        }
        for running in self.outlets.values_mut() {
            let syncing = running
                .sync
                .as_ref()
                .is_some_and(|sync| !sync.is_finished());
            if syncing {
                continue;
            }
            if let Some(file) = running.outlet.spool.borrow_mut().sync_handle() {
                let id = running.outlet.id;
                running.sync = Some(tokio::task::spawn_local(async move {
                    if let Err(error) = blocking(move || file.sync_data()).await {
                        tracing::error!(configuration = %id, %error, "chat logs: a spool cannot be synced");
                    }
                }));
            }
        }
    }

    fn directory(&self, id: LoggingId) -> PathBuf {
        self.common.shipper.settings.spool.join(id.as_str())
    }
}
