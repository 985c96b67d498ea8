//! Starts the shards: one thread for each, a mailbox for each ordered pair, one shared port.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use rtrb::Consumer;
use tokio::sync::oneshot;

use super::command::Command;
use super::core::Parts;
use super::door::Entrance;
use super::doorbell::Doorbell;
use super::handover::Entry;
use super::inbox::{Ends, Mailboxes};
use super::journal::{self, NoRecord, Record};
use super::mailbox::{Post, mailbox};
use super::metrics::ShardMetrics;
use super::review::ReviewRequest;
use super::run::{Clock, NoWire, Setup, run};
use super::settings::{ShardSettings, SharedBudgets};
use super::tokens::UsedTokens;
use crate::base::id::RoomId;
use crate::base::limits::MAILBOX_COMMANDS;
use crate::net::socket;
use crate::room::RoomSettings;
use crate::supervisor::{Supervisor, Thread};

/// How to start the shards.
pub struct Plan<'a> {
    /// Settings of all.
    pub settings: ShardSettings,
    /// Where viewers connect.
    pub listeners: Listeners,
    /// Every room there is. A shard knows its own before it judges anybody.
    pub rooms: Vec<(RoomId, RoomSettings)>,
    /// Where token uses are written down; `None`: nowhere.
    pub journals: Option<&'a Path>,
    /// What handshakes need.
    pub entrance: Entrance,
    /// Whether rooms can be logged.
    pub archive: bool,
    /// Pin each shard to a CPU.
    pub pin: bool,
    /// The clock.
    pub clock: Clock,
    /// Ends the process with any of them.
    pub supervisor: &'a Supervisor,
}

/// The control thread's end of the mailboxes for reviews.
pub struct ReviewMail {
    /// One for each shard.
    pub mail: Vec<Consumer<ReviewRequest>>,
    /// Rung when mail arrives.
    pub bell: Arc<Doorbell>,
}

/// The messaging port, one listener for each shard. From here on the kernel keeps newcomers waiting.
#[derive(Debug)]
pub struct Listeners {
    address: SocketAddr,
    each: Vec<TcpListener>,
}

/// Takes the messaging port; 0: any free one. Nobody is accepted before [`Shards::open`].
///
/// # Errors
///
/// The kernel's, above all that somebody else has the port.
pub fn listen(address: SocketAddr, shard_count: usize) -> io::Result<Listeners> {
    let address = socket::probe(address)?;
    let each = (0..shard_count)
        .map(|_| socket::listen_shared(address))
        .collect::<io::Result<_>>()?;
    Ok(Listeners { address, each })
}

/// Running shards.
pub struct Shards {
    /// The control thread's mailboxes to them.
    pub posts: Vec<Post<Command<OwnedFd>>>,
    /// Messages that the control thread is asked to have reviewed.
    pub reviews: Option<ReviewMail>,
    /// The archive's end of the mesh, if rooms can be logged.
    pub archive: Option<ArchiveEnd>,
    /// Their counters.
    pub metrics: Vec<Arc<ShardMetrics>>,
    /// Where they listen.
    pub address: SocketAddr,
    doors: Vec<oneshot::Sender<()>>,
    threads: Vec<Thread>,
}

/// Mailboxes between the shards and the archive.
pub struct ArchiveEnd {
    /// From each shard, in order; empty if rooms are not logged.
    pub mail: Vec<Consumer<Entry>>,
    /// To each shard, in order.
    pub posts: Vec<Post<Command<OwnedFd>>>,
    /// Rung when mail arrives.
    pub bell: Arc<Doorbell>,
}

impl Shards {
    /// Begins to accept, in every shard. Before it newcomers wait in the kernel's queue.
    pub fn open(&mut self) {
        for door in self.doors.drain(..) {
            // A shard that has ended says so itself.
            let _ended = door.send(());
        }
    }

    /// Waits until every shard has stopped; call when all were told to.
    pub fn join(&mut self) {
        for thread in self.threads.drain(..) {
            thread.join();
        }
    }
}

/// Why the shards did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    /// A shard's ring.
    #[error("io_uring: {0}")]
    Ring(io::Error),
    /// A journal of used tokens.
    #[error("{0}: {1}")]
    Journal(PathBuf, io::Error),
    /// Threads, descriptors, random bytes.
    #[error("{0}")]
    Other(#[from] io::Error),
}

/// Starts every shard and waits until each has its ring.
pub fn start(plan: Plan<'_>) -> Result<Shards, StartFault> {
    let count = plan.settings.shard_count;
    let Listeners { address, each } = plan.listeners;
    let mut rooms = plan.rooms.into_iter().fold(
        vec![Vec::new(); count],
        |mut homes: Vec<Vec<_>>, (room, settings)| {
            homes[plan.settings.home(room)].push((room, settings));
            homes
        },
    );
    let (doors, mut opens): (Vec<_>, Vec<_>) = (0..count).map(|_| oneshot::channel()).unzip();
    let mut records = records(plan.journals, &plan.settings, plan.clock).map_err(|cause| {
        StartFault::Journal(plan.journals.unwrap_or(Path::new("")).to_owned(), cause)
    })?;
    let bells = (0..count)
        .map(|_| Doorbell::new().map(Arc::new))
        .collect::<io::Result<Vec<_>>>()?;
    let metrics: Vec<Arc<ShardMetrics>> = (0..count).map(|_| Arc::default()).collect();
    let budgets = SharedBudgets::default();
    let cpus = cpus();

    let mailboxes = Mailboxes::new(&bells, MAILBOX_COMMANDS);
    let mut reviews = ReviewMail {
        mail: Vec::with_capacity(count),
        bell: Arc::new(Doorbell::new()?),
    };
    let mut archive = ArchiveEnd {
        mail: Vec::new(),
        posts: mailboxes.archive,
        bell: Arc::new(Doorbell::new()?),
    };

    let (ready, readiness) = mpsc::channel();
    let mut threads = Vec::with_capacity(count);
    let ends = mailboxes.shards.into_iter().zip(each);
    for (id, (ends, listener)) in ends.enumerate() {
        let Ends {
            posts,
            requests,
            inbox,
        } = ends;
        let (record, used) = records.remove(0);
        let (review_post, review_mail) = mailbox(&reviews.bell);
        reviews.mail.push(review_mail);
        let archive_post = plan.archive.then(|| {
            let (post, mail) = mailbox(&archive.bell);
            archive.mail.push(mail);
            post
        });
        let parts = Parts {
            id,
            settings: plan.settings.clone(),
            wire: NoWire,
            posts,
            requests,
            reviews: review_post,
            archive: archive_post,
            record,
            used,
            metrics: Arc::clone(&metrics[id]),
            budgets: Arc::clone(&budgets),
            seed: getrandom::u64().map_err(io::Error::from)?,
        };
        let setup = Setup {
            parts,
            cpu: plan
                .pin
                .then(|| cpus.get(id % cpus.len().max(1)).copied())
                .flatten(),
            inbox,
            bell: Arc::clone(&bells[id]),
            rooms: std::mem::take(&mut rooms[id]),
            listener,
            opened: opens.remove(0),
            entrance: plan.entrance.clone(),
            clock: plan.clock,
        };
        let ready = ready.clone();
        let bell = Arc::clone(&bells[id]);
        let thread = plan.supervisor.thread(
            &format!("shard-{id}"),
            move || bell.press(),
            move |pulse| {
                run(setup, pulse, move |result| {
                    // The starter may have given up on an earlier shard's failure.
                    let _gone = ready.send(result);
                })
            },
        )?;
        threads.push(thread);
    }
    drop(ready);
    for _ in 0..count {
        readiness
            .recv()
            .map_err(|_panicked| io::Error::other("a shard ended at start"))?
            .map_err(StartFault::Ring)?;
    }
    Ok(Shards {
        posts: mailboxes.control,
        reviews: Some(reviews),
        archive: plan.archive.then_some(archive),
        metrics,
        address,
        doors,
        threads,
    })
}

type Memory = (Box<dyn Record + Send>, UsedTokens);

/// Each shard's journal and what it remembers.
fn records(
    journals: Option<&Path>,
    settings: &ShardSettings,
    clock: Clock,
) -> io::Result<Vec<Memory>> {
    let Some(directory) = journals else {
        let nothing = || -> Memory { (Box::new(NoRecord), UsedTokens::default()) };
        return Ok(std::iter::repeat_with(nothing)
            .take(settings.shard_count)
            .collect());
    };
    let opened = journal::open_all(directory, settings, clock.now())?;
    let boxed = |(journal, used)| -> Memory { (Box::new(journal), used) };
    Ok(opened.into_iter().map(boxed).collect())
}

/// The CPUs this process may use.
fn cpus() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect()
}
