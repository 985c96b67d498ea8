//! What the old process does in each step of a take-over, and how it takes that back.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::fault;
use super::figures::Figures;
use super::greet::{LOCK, TICKETS};
use super::link::AsyncLink;
use super::subject::Subject;
use crate::clock;
use crate::control::Paused;
use crate::net::pass::Connection;
use crate::net::sealed::seal;
use crate::server::drain::{Leaving, handed_over};
use crate::shard::command::{Command, Refused};
use crate::shard::estate::{Unfinished, merge_rooms};
use crate::takeover::messages::{Old as Say, Report};
use crate::takeover::old::Step;
use uproar_proto::base::limits::{LOG_PAUSE_MAX, TAKE_OVER_HANDSHAKES_MAX, TAKE_OVER_PAUSE_MAX};

/// The steps of one take-over.
pub(super) struct Steps {
    subject: Rc<Subject>,
    link: Rc<AsyncLink>,
    figures: Rc<Figures>,
    // `Some` while the new process has the store.
    paused: RefCell<Option<Paused>>,
    // When shards were told to freeze, in microseconds of the machine's clock; 0: they were not.
    frozen_at: Cell<u64>,
    doors_closed: Cell<bool>,
    // Whether this node's slots go to others.
    released: Cell<bool>,
    report: RefCell<Report>,
}

impl Steps {
    pub(super) fn new(subject: &Rc<Subject>, link: &Rc<AsyncLink>) -> Self {
        Self {
            subject: Rc::clone(subject),
            link: Rc::clone(link),
            figures: Rc::clone(&subject.upgrade.figures),
            paused: RefCell::default(),
            frozen_at: Cell::new(0),
            doors_closed: Cell::new(false),
            released: Cell::new(false),
            report: RefCell::default(),
        }
    }

    /// Does one; returns the number of viewers sent.
    pub(super) async fn run(&self, step: Step) -> Result<u64, String> {
        let point = match step {
            Step::Load => "old.load",
            Step::Freeze => "old.freeze",
            Step::Rooms => "old.rooms",
            Step::Viewers => "old.viewers",
        };
        fault::at(point)?;
        let before = clock::monotonic_micros();
        let count = match step {
            Step::Load => self.load().await.map(|()| 0),
            Step::Freeze => self.freeze().await.map(|()| 0),
            Step::Rooms => self.rooms().await.map(|()| 0),
            Step::Viewers => self.viewers().await,
        }?;
        let took = Duration::from_micros(clock::monotonic_micros() - before);
        tracing::info!(step = point, ?took, "take-over: step done");
        self.note(step, took);
        fault::at(&format!("{point}.done"))?;
        Ok(count)
    }

    fn note(&self, step: Step, took: Duration) {
        let phase = match step {
            Step::Load => "load",
            Step::Freeze => "freeze",
            Step::Rooms | Step::Viewers => "export",
        };
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut report = self.report.borrow_mut();
        let sum = report.phase_micros.entry(phase.to_owned()).or_default();
        *sum += micros;
        self.figures.phase(phase, Duration::from_micros(*sum));
    }

    /// What is told with `Commit`.
    pub(super) fn report(&self) -> Report {
        let mut report = self.report.borrow().clone();
        report.frozen_at_micros = self.frozen_at.get();
        report
    }

    /// Microseconds of the machine's clock when viewers were last served.
    pub(super) fn frozen_at(&self) -> u64 {
        self.frozen_at.get()
    }

    /// Stops deliveries of chat logs, pauses the API, and hands over the store, the lock and the listeners.
    async fn load(&self) -> Result<(), String> {
        let stopped = self.subject.upgrade.archive.pause().await;
        stopped.map_err(|error| error.to_string())?;
        let paused = self.subject.control.pause().await;
        *self.paused.borrow_mut() = Some(paused.map_err(|error| error.to_string())?);
        let mut named = vec![(LOCK.to_owned(), self.subject.upgrade.directory.lock())];
        let upgrade = &self.subject.upgrade;
        if let Some(tickets) = &upgrade.tickets {
            let file = tickets.hand_over(upgrade.clock.now().tick);
            named.push((TICKETS.to_owned(), file));
        }
        let listeners = upgrade.listeners.named();
        let listeners = listeners.map_err(|error| error.to_string())?;
        named.extend(
            listeners
                .into_iter()
                .map(|(name, socket)| (name, Ok(socket))),
        );
        let (mut names, mut descriptors) = (Vec::new(), Vec::new());
        for (name, descriptor) in named {
            names.push(name);
            descriptors.push(descriptor.map_err(|error| error.to_string())?);
        }
        self.say(&Say::Yours { names }, &descriptors)
    }

    /// Hands slots over, closes the doors, then stops every shard between two messages.
    async fn freeze(&self) -> Result<(), String> {
        if let Some(cluster) = self.subject.cluster() {
            self.released.set(true);
            cluster.release(true);
            handed_over(cluster, Leaving::Slots).await;
        }
        let gateway = &self.subject.upgrade.gateway;
        self.doors_closed.set(true);
        let closed = gateway.turn_doors(false, TAKE_OVER_HANDSHAKES_MAX).await;
        closed.map_err(|error| format!("a shard does not close its doors: {error}"))?;
        self.frozen_at.set(clock::monotonic_micros());
        let frozen = gateway.ask_each(Command::Freeze, TAKE_OVER_PAUSE_MAX).await;
        let frozen = frozen.map_err(|error| self.not_frozen(error))?;
        tracing::debug!(shards = frozen.len(), "frozen");
        let settled = self.subject.upgrade.archive.settle();
        let settled = tokio::time::timeout(LOG_PAUSE_MAX, settled).await;
        let settled =
            settled.map_err(|_elapsed| "the spools of chat logs are not written in time")?;
        settled.map_err(|error| error.to_string())
    }

    /// Why a shard is not frozen, as far as it is known: on a node of a cluster it waits for answers of the brokers.
    fn not_frozen(&self, error: Refused) -> String {
        let reason = format!("a shard does not freeze: {error}");
        let unready = self
            .subject
            .cluster()
            .and_then(|cluster| cluster.ready().err());
        match unready {
            Some(unready) => format!("{reason}; {unready}"),
            None => reason,
        }
    }

    async fn rooms(&self) -> Result<(), String> {
        let gateway = &self.subject.upgrade.gateway;
        let parts = gateway
            .ask_each(Command::ExportRooms, TAKE_OVER_PAUSE_MAX)
            .await;
        let parts = parts.map_err(|error| format!("a shard does not export its rooms: {error}"))?;
        let logs = match self.subject.cluster() {
            Some(cluster) => Some(cluster.estate().await.ok_or(
                "this node has not read the end of every log yet: try again when /readyz is 200",
            )?),
            None => None,
        };
        let rooms = merge_rooms(&parts, logs.as_ref());
        let mut rooms = rooms.map_err(|error| error.to_string())?;
        // Shards are frozen: nothing comes behind it.
        let unfinished = Unfinished {
            acts: self.subject.control.unfinished(),
            reviews: self.subject.reviews.unfinished(),
        };
        rooms.extend(unfinished.into_bytes());
        let file = seal("uproar rooms", &[&rooms]).map_err(|error| error.to_string())?;
        self.say(&Say::Rooms, &[file])
    }

    async fn viewers(&self) -> Result<u64, String> {
        let (mut own, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..self.subject.upgrade.gateway.shard_count() {
            let (one, other) = Connection::pair().map_err(|error| error.to_string())?;
            own.push(one);
            theirs.push(OwnedFd::from(other));
        }
        self.say(&Say::Viewers, &theirs)?;
        // Each end has one owner, so that the end of a process ends its streams.
        drop(theirs);
        let mut answers = Vec::new();
        for (shard, stream) in own.into_iter().enumerate() {
            let (answer, answered) = oneshot::channel();
            self.subject
                .upgrade
                .gateway
                .tell(shard, Command::Export(stream, answer));
            answers.push(answered);
        }
        let mut sent = 0;
        for (shard, answered) in answers.into_iter().enumerate() {
            let answer = answered
                .await
                .map_err(|_| format!("shard {shard} has stopped"))?;
            let exported = answer.map_err(|error| format!("shard {shard}: {error}"))?;
            sent += exported.viewers;
            let mut report = self.report.borrow_mut();
            for (reason, count) in exported.not_carried() {
                *report
                    .not_carried
                    .entry(reason.label().to_owned())
                    .or_default() += count;
            }
        }
        Ok(sent)
    }

    /// Takes everything back; the new process has ended.
    pub(super) async fn undo(&self) {
        let gateway = &self.subject.upgrade.gateway;
        if self.frozen_at.get() > 0 {
            gateway.tell_each(|| Command::Thaw);
        }
        if let Some(cluster) = self.subject.cluster()
            && self.released.get()
        {
            cluster.release(false);
        }
        if self.doors_closed.get() {
            // A shard that does not answer is named by `/livez`.
            let _late = gateway.turn_doors(true, Duration::ZERO).await;
        }
        let paused = self.paused.borrow_mut().take();
        if let Some(paused) = paused {
            paused.resume();
        }
        self.subject.upgrade.archive.resume();
    }

    /// Leaves everything with the new process.
    pub(super) fn leave(&self) {
        let paused = self.paused.borrow_mut().take();
        if let Some(paused) = paused {
            paused.leave();
        }
    }

    fn say(&self, message: &Say, descriptors: &[OwnedFd]) -> Result<(), String> {
        let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        let said = self.link.say(message, &borrowed);
        said.map_err(|error| error.to_string())
    }
}
