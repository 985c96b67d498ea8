//! Starts the shards: one thread for each, a mailbox for each ordered pair, one shared port.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};

use super::cluster::{ClusterLink, ToCluster};
use super::command::{Command, MemberOrder};
use super::core::Parts;
use super::doorbell::Doorbell;
use super::durability::LoggedFrames;
use super::handshake::HandshakeConfig;
use super::inbox::{Ends, Mailboxes};
use super::journal::{Journal, NoRecord, Record};
use super::mailbox::{MailboxSender, mailbox};
use super::metrics::ShardMetrics;
use super::review::ReviewRequest;
use super::run::{Setup, run};
use super::settings::{ShardId, ShardSettings, SharedBudgets};
use super::tokens::UsedTokens;
use crate::clock::Clock;
use crate::net::backend::Kind;
use crate::net::capacity::divide;
use crate::net::epoll::Epoll;
use crate::net::rings::Rings;
use crate::net::socket;
use crate::net::stream::Hosted;
use crate::random;
use crate::supervisor::{Supervisor, Thread};
use rtrb::Consumer;
use rustix::process::{Resource, getrlimit};
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{JOINS_PARKED_MAX, MAILBOX_COMMANDS, MEMBER_ORDERS_MAX};
use uproar_proto::room::RoomSettings;

/// Everything needed to start the shards.
pub struct Plan<'a> {
    /// Settings of all shards.
    pub settings: ShardSettings,
    /// What moves their bytes.
    pub io: Kind,
    /// The messaging port.
    pub listeners: Listeners,
    /// All rooms. A shard knows its own before it admits a connection.
    pub rooms: Vec<(RoomId, RoomSettings)>,
    /// Each shard's journal of token uses, with the used tokens it tells; `None`: uses are not recorded.
    pub journals: Option<Vec<(Journal, UsedTokens)>>,
    /// Settings of handshakes.
    pub handshake_config: HandshakeConfig,
    /// Whether rooms can be logged.
    pub archive: bool,
    /// Whether the server is a node of a cluster.
    pub cluster: bool,
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

/// The messaging port: what each shard accepts from. The kernel queues connections until they are accepted.
#[derive(Debug)]
pub struct Listeners {
    address: SocketAddr,
    // For each shard; none is empty.
    each: Vec<Vec<TcpListener>>,
}

impl Listeners {
    /// Deals `sockets`, of one address, out to `shards` shards in turn, as duplicates: every socket is accepted from,
    /// since each has a queue of its own in the kernel, and with fewer sockets than shards several share one.
    ///
    /// # Errors
    ///
    /// No descriptor is available.
    ///
    /// # Panics
    ///
    /// If there is no socket.
    pub fn deal(sockets: &[&TcpListener], shards: usize) -> io::Result<Self> {
        let address = sockets[0].local_addr()?;
        let mut each: Vec<Vec<TcpListener>> = (0..shards).map(|_| Vec::new()).collect();
        for turn in 0..sockets.len().max(shards) {
            each[turn % shards].push(sockets[turn % sockets.len()].try_clone()?);
        }
        Ok(Self { address, each })
    }
}

#[cfg(test)]
impl Listeners {
    /// How many descriptors they are.
    pub(crate) fn count(&self) -> usize {
        self.each.iter().map(Vec::len).sum()
    }
}

/// Binds the messaging port; 0: any free one. Returns a socket for each shard.
///
/// # Errors
///
/// The kernel's errors, above all that the port is in use.
pub fn bind(address: SocketAddr, shards: usize) -> io::Result<Vec<TcpListener>> {
    let address = socket::probe(address)?;
    (0..shards)
        .map(|_| socket::listen_shared(address))
        .collect()
}

/// Running shards.
pub struct Shards {
    /// The control thread's mailboxes to the shards.
    pub mailboxes: Vec<MailboxSender<Command<OwnedFd>>>,
    /// Requests for reviews, to the control thread.
    pub reviews: Option<ReviewReceivers>,
    /// Commands of members, to the control thread.
    pub orders: Option<tokio::sync::mpsc::Receiver<MemberOrder>>,
    /// The archive's end of the mesh, if rooms can be logged.
    pub archive: Option<ArchiveEnd>,
    /// The cluster's end of the mesh, on a node of one.
    pub cluster: Option<ClusterEnd>,
    /// Their counters.
    pub metrics: Vec<Arc<ShardMetrics>>,
    /// What they share.
    pub budgets: SharedBudgets,
    /// The address they listen on.
    pub address: SocketAddr,
    threads: Vec<Thread>,
}

/// Mailboxes between the shards and the archive.
pub struct ArchiveEnd {
    /// From each shard, in order; empty if rooms are not logged.
    pub receivers: Vec<Consumer<LoggedFrames>>,
    /// To each shard, in order.
    pub mailboxes: Vec<MailboxSender<Command<OwnedFd>>>,
    /// Rung when an item arrives.
    pub bell: Arc<Doorbell>,
}

/// Mailboxes between the shards and the cluster's thread. A room is at home on the shard that
/// [`ShardSettings::home`] names.
pub struct ClusterEnd {
    /// From each shard, in order.
    pub receivers: Vec<Consumer<ToCluster>>,
    /// To each shard, in order: [`Command::Cluster`]. While one has no room the thread takes no more from the log.
    pub mailboxes: Vec<MailboxSender<Command<OwnedFd>>>,
    /// Rung when an item arrives.
    pub bell: Arc<Doorbell>,
}

impl Shards {
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
    /// An epoll, threads, descriptors or random bytes were not available.
    #[error("{0}")]
    Other(#[from] io::Error),
}

/// Starts every shard, with closed doors, and waits until each has its ring or epoll.
///
/// # Errors
///
/// The first failure; the shards started until then end with the process.
pub fn start(plan: Plan<'_>) -> Result<Shards, StartFault> {
    match plan.io {
        Kind::IoUring => start_on::<Rings>(plan),
        Kind::Epoll => start_on::<Epoll>(plan),
    }
}

fn start_on<B: Hosted>(plan: Plan<'_>) -> Result<Shards, StartFault> {
    let settings = &plan.settings.of_shards(plan.cluster);
    let count = settings.shard_count;
    let Listeners { address, each } = plan.listeners;
    let records = records(plan.journals, count);
    let homes = by_home(plan.rooms, settings);
    let wires = Wires::new(count, plan.io, plan.archive, plan.cluster)?;
    let metrics: Vec<Arc<ShardMetrics>> = (0..count).map(|_| Arc::default()).collect();
    let budgets = SharedBudgets::default();
    let cpus = if plan.pin { cpus() } else { Vec::new() };
    let (ready, readiness) = mpsc::channel();
    let (orders, ordered) = tokio::sync::mpsc::channel(MEMBER_ORDERS_MAX);
    let mut threads = Vec::new();
    let own = wires.shards.into_iter().zip(each).zip(records).zip(homes);
    for (id, (((wires, listeners), (record, used)), rooms)) in own.enumerate() {
        let ends = wires.ends;
        let (settings, budgets) = (settings.clone(), Arc::clone(&budgets));
        let metrics = Arc::clone(&metrics[id]);
        let seed = u64::from_ne_bytes(random::id_bytes()?);
        let setup = Setup::<B> {
            make_parts: Box::new(move |io| Parts {
                id,
                settings,
                io,
                mailboxes: ends.mailboxes,
                requests: ends.requests,
                reviews: wires.reviews,
                archive: wires.archive,
                cluster: wires.cluster,
                record,
                used,
                metrics,
                budgets,
                seed,
            }),
            cpu: cpus.get(id % cpus.len().max(1)).copied(),
            inbox: ends.inbox,
            bell: wires.bell,
            rooms,
            orders: orders.clone(),
            listeners,
            handshake_config: plan.handshake_config.clone(),
            clock: plan.clock,
        };
        threads.push(start_one(plan.supervisor, id, setup, ready.clone())?);
    }
    drop(ready);
    await_all(&readiness, count, plan.io)?;
    Ok(Shards {
        mailboxes: wires.control,
        reviews: Some(wires.reviews),
        orders: Some(ordered),
        archive: plan.archive.then_some(wires.archive),
        cluster: plan.cluster.then_some(wires.cluster),
        metrics,
        budgets,
        address,
        threads,
    })
}

/// Waits until each shard has its ring or epoll.
fn await_all(
    readiness: &mpsc::Receiver<io::Result<()>>,
    count: usize,
    io: Kind,
) -> Result<(), StartFault> {
    for _ in 0..count {
        let started = readiness
            .recv()
            .map_err(|_panicked| io::Error::other("a shard ended at start"))?;
        started.map_err(|cause| match io {
            Kind::IoUring => StartFault::Ring(cause),
            Kind::Epoll => StartFault::Other(cause),
        })?;
    }
    Ok(())
}

/// Starts one shard's thread, which tells `ready` whether it has its ring or epoll.
fn start_one<B: Hosted>(
    supervisor: &Supervisor,
    id: ShardId,
    setup: Setup<B>,
    ready: mpsc::Sender<io::Result<()>>,
) -> io::Result<Thread> {
    let bell = Arc::clone(&setup.bell);
    supervisor.thread(
        &format!("shard-{id}"),
        move || bell.press(),
        move |pulse| {
            run(setup, pulse, move |result| {
                // The starter may have given up on an earlier shard's failure.
                let _gone = ready.send(result);
            })
        },
    )
}

/// The rooms of each shard, in order.
fn by_home(
    rooms: Vec<(RoomId, RoomSettings)>,
    settings: &ShardSettings,
) -> Vec<Vec<(RoomId, RoomSettings)>> {
    let mut homes = vec![Vec::new(); settings.shard_count];
    for (room, room_settings) in rooms {
        homes[settings.home(room)].push((room, room_settings));
    }
    homes
}

/// All mailboxes and bells, by owner.
struct Wires {
    shards: Vec<ShardWires>,
    control: Vec<MailboxSender<Command<OwnedFd>>>,
    reviews: ReviewReceivers,
    archive: ArchiveEnd,
    cluster: ClusterEnd,
}

/// The bell and the mailboxes of one shard.
struct ShardWires {
    bell: Arc<Doorbell>,
    ends: Ends<OwnedFd>,
    reviews: MailboxSender<ReviewRequest>,
    // If rooms can be logged.
    archive: Option<MailboxSender<LoggedFrames>>,
    // On a node of a cluster.
    cluster: Option<ClusterLink>,
}

impl Wires {
    fn new(count: usize, io: Kind, has_archive: bool, is_clustered: bool) -> io::Result<Self> {
        let bells = (0..count)
            .map(|_| Doorbell::new().map(Arc::new))
            .collect::<io::Result<Vec<_>>>()?;
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
        let mut cluster = ClusterEnd {
            receivers: Vec::new(),
            mailboxes: mailboxes.cluster,
            bell: Arc::new(Doorbell::new()?),
        };
        let joins_parked_max = joins_parked_max(io, count);
        let wire = |(bell, ends)| {
            let (review_sender, receiver) = mailbox(&reviews.bell);
            reviews.receivers.push(receiver);
            let archive_sender = has_archive.then(|| {
                let (sender, receiver) = mailbox(&archive.bell);
                archive.receivers.push(receiver);
                sender
            });
            let cluster_link = is_clustered.then(|| {
                let (mailbox, receiver) = mailbox(&cluster.bell);
                cluster.receivers.push(receiver);
                ClusterLink {
                    mailbox,
                    joins_parked_max,
                }
            });
            ShardWires {
                bell,
                ends,
                reviews: review_sender,
                archive: archive_sender,
                cluster: cluster_link,
            }
        };
        let shards = bells.into_iter().zip(mailboxes.shards).map(wire).collect();
        Ok(Self {
            shards,
            control: mailboxes.control,
            reviews,
            archive,
            cluster,
        })
    }
}

/// Most connections of one shard that wait for the cluster, each with a descriptor: a quarter of those for connections
/// on their way.
fn joins_parked_max(io: Kind, shards: usize) -> usize {
    let open_files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let of_shards = u64::try_from(shards).expect("a few shards");
    let passing = divide(io, open_files, of_shards).passing;
    let share = usize::try_from(passing).unwrap_or(usize::MAX) / 4 / shards;
    share.clamp(1, JOINS_PARKED_MAX)
}

type Memory = (Box<dyn Record + Send>, UsedTokens);

fn records(journals: Option<Vec<(Journal, UsedTokens)>>, count: usize) -> Vec<Memory> {
    let boxed = |(journal, used)| -> Memory { (Box::new(journal), used) };
    match journals {
        Some(opened) => opened.into_iter().map(boxed).collect(),
        None => {
            std::iter::repeat_with(|| -> Memory { (Box::new(NoRecord), UsedTokens::default()) })
                .take(count)
                .collect()
        }
    }
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
