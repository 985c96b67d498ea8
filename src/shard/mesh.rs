//! Starts the shards: one thread for each, a mailbox for each ordered pair, one shared port.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use rtrb::Consumer;
use tokio::sync::oneshot;

use super::accept::HandshakeConfig;
use super::command::Command;
use super::core::Parts;
use super::doorbell::Doorbell;
use super::durability::Entry;
use super::inbox::{Ends, Mailboxes};
use super::journal::{self, NoRecord, Record};
use super::mailbox::{MailboxSender, mailbox};
use super::metrics::ShardMetrics;
use super::review::ReviewRequest;
use super::run::{NoIo, Setup, run};
use super::settings::{ShardSettings, SharedBudgets};
use super::tokens::UsedTokens;
use crate::clock::Clock;
use crate::net::socket;
use crate::random;
use crate::supervisor::{Supervisor, Thread};
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::MAILBOX_COMMANDS;
use uproar_proto::room::RoomSettings;

/// Everything needed to start the shards.
pub struct Plan<'a> {
    /// Settings of all shards.
    pub settings: ShardSettings,
    /// The messaging port.
    pub listeners: Listeners,
    /// All rooms. A shard knows its own before it admits a connection.
    pub rooms: Vec<(RoomId, RoomSettings)>,
    /// Directory of the journals of token uses; `None`: uses are not recorded.
    pub journals: Option<&'a Path>,
    /// Settings of handshakes.
    pub handshake_config: HandshakeConfig,
    /// Whether rooms can be logged.
    pub archive: bool,
    /// Pin each shard to a CPU.
    pub pin: bool,
    /// The clock.
    pub clock: Clock,
    /// Ends the process when any of them ends.
    pub supervisor: &'a Supervisor,
}

/// The control thread's end of the mailboxes for reviews.
pub struct ReviewReceivers {
    /// One for each shard.
    pub receivers: Vec<Consumer<ReviewRequest>>,
    /// Rung when an item arrives.
    pub bell: Arc<Doorbell>,
}

/// The messaging port, one listener for each shard. The kernel queues connections until they are accepted.
#[derive(Debug)]
pub struct Listeners {
    address: SocketAddr,
    each: Vec<TcpListener>,
}

/// Binds the messaging port; 0: any free one. No connection is accepted before [`Shards::open`].
///
/// # Errors
///
/// The kernel's errors, above all that the port is in use.
pub fn listen(address: SocketAddr, shard_count: usize) -> io::Result<Listeners> {
    let address = socket::probe(address)?;
    let each = (0..shard_count)
        .map(|_| socket::listen_shared(address))
        .collect::<io::Result<_>>()?;
    Ok(Listeners { address, each })
}

/// Running shards.
pub struct Shards {
    /// The control thread's mailboxes to the shards.
    pub mailboxes: Vec<MailboxSender<Command<OwnedFd>>>,
    /// Requests for reviews, to the control thread.
    pub reviews: Option<ReviewReceivers>,
    /// The archive's end of the mesh, if rooms can be logged.
    pub archive: Option<ArchiveEnd>,
    /// Their counters.
    pub metrics: Vec<Arc<ShardMetrics>>,
    /// The address they listen on.
    pub address: SocketAddr,
    open_senders: Vec<oneshot::Sender<()>>,
    threads: Vec<Thread>,
}

/// Mailboxes between the shards and the archive.
pub struct ArchiveEnd {
    /// From each shard, in order; empty if rooms are not logged.
    pub receivers: Vec<Consumer<Entry>>,
    /// To each shard, in order.
    pub mailboxes: Vec<MailboxSender<Command<OwnedFd>>>,
    /// Rung when an item arrives.
    pub bell: Arc<Doorbell>,
}

impl Shards {
    /// Starts accepting in every shard. Until then connections wait in the kernel's queue.
    pub fn open(&mut self) {
        for sender in self.open_senders.drain(..) {
            // A shard that has ended reports that itself.
            let _ended = sender.send(());
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
    /// A shard's ring could not be set up.
    #[error("io_uring: {0}")]
    Ring(io::Error),
    /// A journal of used tokens could not be opened.
    #[error("{0}: {1}")]
    Journal(PathBuf, io::Error),
    /// Threads, descriptors or random bytes were not available.
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
    let (open_senders, mut open_receivers): (Vec<_>, Vec<_>) =
        (0..count).map(|_| oneshot::channel()).unzip();
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
    let mut reviews = ReviewReceivers {
        receivers: Vec::with_capacity(count),
        bell: Arc::new(Doorbell::new()?),
    };
    let mut archive = ArchiveEnd {
        receivers: Vec::new(),
        mailboxes: mailboxes.archive,
        bell: Arc::new(Doorbell::new()?),
    };

    let (ready, readiness) = mpsc::channel();
    let mut threads = Vec::with_capacity(count);
    let ends = mailboxes.shards.into_iter().zip(each);
    for (id, (ends, listener)) in ends.enumerate() {
        let Ends {
            mailboxes,
            requests,
            inbox,
        } = ends;
        let (record, used) = records.remove(0);
        let (review_mailbox, review_receiver) = mailbox(&reviews.bell);
        reviews.receivers.push(review_receiver);
        let archive_mailbox = plan.archive.then(|| {
            let (mailbox, receiver) = mailbox(&archive.bell);
            archive.receivers.push(receiver);
            mailbox
        });
        let parts = Parts {
            id,
            settings: plan.settings.clone(),
            io: NoIo,
            mailboxes,
            requests,
            reviews: review_mailbox,
            archive: archive_mailbox,
            record,
            used,
            metrics: Arc::clone(&metrics[id]),
            budgets: Arc::clone(&budgets),
            seed: u64::from_ne_bytes(random::bytes()?),
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
            opened: open_receivers.remove(0),
            handshake_config: plan.handshake_config.clone(),
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
        mailboxes: mailboxes.control,
        reviews: Some(reviews),
        archive: plan.archive.then_some(archive),
        metrics,
        address,
        open_senders,
        threads,
    })
}

type Memory = (Box<dyn Record + Send>, UsedTokens);

/// Opens each shard's journal and reads its used tokens.
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
