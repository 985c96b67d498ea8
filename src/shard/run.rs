//! A shard's thread: pins it, gives the core its rings, its inbox and the time, and parks without losing wake-ups.

use std::cell::RefCell;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{Notify, mpsc};

use super::accept::{accept_all, turn_doors};
use super::carry::batch_viewers;
use super::command::{AdmitError, Doors, MemberOrder, PendingConnection};
use super::core::{Core, Parts, Plan};
use super::doorbell::Doorbell;
use super::estate::Order;
use super::export::{complete, export};
use super::handshake::HandshakeConfig;
use super::handshake::acceptor::{Acceptor, OwnShard};
use super::handshake::enter::reject;
use super::inbox::Inbox;
use super::turn_timer::TurnTimer;
use crate::clock::Clock;
use crate::net::capacity::divide;
use crate::net::event::Event;
use crate::net::listener::Listener;
use crate::net::stream::{self, Hosted, Runtime};
use crate::supervisor::{Pulse, Stopped};
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::{FrameIds, RoomId};
use uproar_proto::room::RoomSettings;

/// Everything a shard's thread needs at its start.
pub(super) struct Setup<B: Hosted> {
    /// Makes the core's parts of the rings or epoll, which belong to the thread.
    pub(super) make_parts: Box<dyn FnOnce(B) -> Parts<B> + Send>,
    /// The CPU to stay on, if pinning is wanted.
    pub(super) cpu: Option<usize>,
    /// Receives from the other shards, the archive and the control thread.
    pub(super) inbox: Inbox<OwnedFd>,
    /// Rung when an item arrives.
    pub(super) bell: Arc<Doorbell>,
    /// The rooms whose home this shard is.
    pub(super) rooms: Vec<(RoomId, RoomSettings)>,
    /// Where members' commands go that the control thread carries out.
    pub(super) orders: mpsc::Sender<MemberOrder>,
    /// What it accepts from while its doors are open; they are closed at first.
    pub(super) listeners: Vec<TcpListener>,
    /// Settings of handshakes.
    pub(super) handshake_config: HandshakeConfig,
    /// The clock.
    pub(super) clock: Clock,
}

/// Runs a shard until it is told to stop. `ready` receives whether its rings or epoll could be set up.
///
/// # Errors
///
/// The kernel's error when a ring has stopped working.
pub(super) fn run<B: Hosted>(
    setup: Setup<B>,
    pulse: &Pulse,
    ready: impl FnOnce(io::Result<()>),
) -> io::Result<Stopped> {
    if let Some(cpu) = setup.cpu {
        pin(cpu);
    }
    let started = B::set_up().and_then(|io| Ok((io, B::Runtime::new()?)));
    let (io, runtime) = match started {
        Ok(started) => started,
        Err(error) => {
            // The starter gets the error and ends the start.
            ready(Err(error));
            return Ok(Stopped);
        }
    };
    ready(Ok(()));
    let outcome = runtime.block_on(async move { Driver::new(setup, io)?.drive(pulse).await });
    if outcome.is_err() {
        // Dropping it would wait for operations of a ring that has stopped working.
        std::mem::forget(runtime);
    }
    outcome
}

fn pin(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(cpu, %error, "a shard could not be pinned to its CPU");
    }
}

/// A shard at work on its thread, within the thread's runtime.
struct Driver<B: Hosted> {
    core: Rc<RefCell<Core<B>>>,
    inbox: Inbox<OwnedFd>,
    clock: Clock,
    acceptor: Rc<Acceptor<B>>,
    // Ready when there are completions, if `Backend::signal` is on.
    io_event: Event,
    // Readable when the bell was rung.
    bell_event: Event,
    // Viewers that are handed over at once.
    batch: usize,
    // When the CPU time is read next.
    next_load: Tick,
    timer: TurnTimer,
}

impl<B: Hosted> Driver<B> {
    /// Makes the core, and starts the tasks that accept once the doors open.
    fn new(setup: Setup<B>, io: B) -> io::Result<Self> {
        let io_event = Event::new(io.event())?;
        let bell_event = Event::new(setup.bell.event())?;
        let parts = (setup.make_parts)(io);
        let (metrics, seed) = (Arc::clone(&parts.metrics), parts.seed);
        let shards = parts.settings.shard_count;
        let open_files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let of_shards = u64::try_from(shards).expect("a few shards");
        let passing = divide(B::KIND, open_files, of_shards).passing;
        let batch = batch_viewers(passing, shards);
        let mut core = Core::new(parts, setup.clock.now());
        core.load(setup.rooms);
        core.set_orders(setup.orders);
        core.io_mut().signal(false);
        let core = Rc::new(RefCell::new(core));
        let shard = OwnShard {
            core: Rc::clone(&core),
            bell: setup.bell,
            metrics,
            wake: Notify::new(),
        };
        let (config, ids) = (setup.handshake_config, FrameIds::seeded(!seed));
        let acceptor = Rc::new(Acceptor::new(shard, config, shards, setup.clock, ids));
        for listener in setup.listeners {
            stream::spawn(accept_all(Listener::new(listener)?, Rc::clone(&acceptor)));
        }
        Ok(Self {
            core,
            inbox: setup.inbox,
            clock: setup.clock,
            acceptor,
            io_event,
            bell_event,
            batch,
            next_load: Tick::default(),
            timer: TurnTimer::default(),
        })
    }

    async fn drive(mut self, pulse: &Pulse) -> io::Result<Stopped> {
        loop {
            pulse.beat();
            let plan = self.turns()?;
            let plan = if self.follow_orders(pulse) {
                Plan::Now
            } else {
                plan
            };
            self.note_rings();
            self.note_load();
            self.acceptor.note();
            let adopted = self.core.borrow_mut().take_adopted();
            if let Some(settings) = adopted {
                self.acceptor.adopt(settings);
            }
            for doors in self.take_doors() {
                turn_doors(doors, &self.acceptor);
            }
            while let Some((pending, error)) = self.next_rejected() {
                stream::spawn(reject(pending, error, Rc::clone(&self.acceptor)));
            }
            if self.core.borrow().is_stopped() {
                return Ok(Stopped);
            }
            match plan {
                Plan::Now => {
                    // Parks for an instant, because tokio-uring submits its operations when the thread parks.
                    self.acceptor.shard.bell.press();
                    self.bell_event.wait().await?;
                }
                Plan::Wait(until) => {
                    let longest = &self.acceptor.shard.metrics.longest_turn;
                    self.timer.end(self.clock.now().tick, longest);
                    self.sleep(until).await?;
                }
            }
        }
    }

    /// Runs a few turns of the core while there is work; then handshakes run.
    fn turns(&mut self) -> io::Result<Plan> {
        let mut core = self.core.borrow_mut();
        let mut plan = Plan::Now;
        for _ in 0..TURNS_MAX {
            let now = self.clock.now();
            let metrics = &self.acceptor.shard.metrics;
            self.timer.begin(now.tick, &metrics.longest_turn);
            metrics.mailbox_depth.raise(self.inbox.depth());
            core.begin(now);
            self.inbox.take(&mut core);
            for _ in 0..COMPLETIONS_PER_TURN_MAX {
                let Some(completion) = core.io_mut().next_completion() else {
                    break;
                };
                complete(&mut core, completion);
            }
            plan = core.settle();
            enter(&mut core)?;
            let kept = core.flush_mailboxes();
            let more = kept || core.io_mut().has_completions() || !self.inbox.is_empty();
            if plan != Plan::Now && !more {
                return Ok(plan);
            }
            if more {
                plan = Plan::Now;
            }
        }
        Ok(plan)
    }

    /// Sleeps until `until`, or until the kernel, another thread or a handshake has work for the core.
    async fn sleep(&self, until: Tick) -> io::Result<()> {
        self.core.borrow_mut().io_mut().signal(true);
        let has_work =
            || self.core.borrow_mut().io_mut().has_completions() || !self.inbox.is_empty();
        let until = tokio::time::Instant::from_std(self.clock.instant(until));
        let shard = &self.acceptor.shard;
        let woken = async {
            tokio::select! {
                result = B::woken(&self.io_event) => result,
                result = self.bell_event.wait() => result,
                () = shard.wake.notified() => Ok(()),
                () = tokio::time::sleep_until(until) => Ok(()),
            }
        };
        shard.bell.sleep(has_work, woken).await?;
        self.core.borrow_mut().io_mut().signal(false);
        Ok(())
    }

    fn note_rings(&self) {
        let mut core = self.core.borrow_mut();
        let (rings, overflows) = (core.io_mut().rings(), core.io_mut().overflows());
        core.note_rings(rings, overflows);
    }

    /// Notes the thread's CPU time, some times a second while it has work.
    fn note_load(&mut self) {
        let now = self.core.borrow().now().tick;
        if now >= self.next_load {
            self.next_load = now.after(LOAD_INTERVAL);
            let spent = clock_gettime(ClockId::ThreadCPUTime);
            let spent = Duration::try_from(spent).unwrap_or_default();
            let nanos = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
            self.acceptor.shard.metrics.cpu_nanos.set(nanos);
        }
    }

    /// Does what a hand-over asks of this shard; returns whether it asked something.
    fn follow_orders(&self, pulse: &Pulse) -> bool {
        let mut core = self.core.borrow_mut();
        let mut has_any = false;
        while let Some(order) = core.next_order() {
            has_any = true;
            match order {
                Order::Inherit(mut viewers, answer) => {
                    for viewer in &mut viewers {
                        viewer.share = viewer.ip().and_then(|ip| self.acceptor.readmit(ip));
                    }
                    let carried = core.inherit(viewers);
                    core.answer_inherited(answer, carried);
                }
                Order::Export(stream, answer) => {
                    let alive = || pulse.beat();
                    let carried = export(&mut core, &stream, self.batch, alive);
                    let _asker_gone = answer.send(carried);
                }
            }
        }
        has_any
    }

    fn take_doors(&self) -> Vec<Doors> {
        self.core.borrow_mut().take_doors()
    }

    fn next_rejected(&self) -> Option<(Box<PendingConnection<OwnedFd>>, AdmitError)> {
        self.core.borrow_mut().next_rejected()
    }
}

/// Submits, and reports the cost of sends to the core: the kernel does their work during submission.
fn enter<B: Hosted>(core: &mut Core<B>) -> io::Result<()> {
    let queued = core.io_mut().take_queued();
    if queued.sends == 0 {
        return core.io_mut().enter();
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "what submitting costs is measured around the system call"
    )]
    let before = Instant::now();
    core.io_mut().enter()?;
    core.note_cost(queued, before.elapsed());
    Ok(())
}

/// Turns in a row before the runtime's handshakes and timers run.
const TURNS_MAX: u32 = 4;
/// Interval of the looks at the thread's CPU time, a system call each.
const LOAD_INTERVAL: Duration = Duration::from_millis(200);
/// Most completions taken in one turn.
const COMPLETIONS_PER_TURN_MAX: usize = 4096;
