//! A shard's thread: pins it, gives the core its ring, its mail and the time, and sleeps well.

use std::cell::RefCell;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, oneshot};

use super::core::{Core, Parts, Plan};
use super::door::{self, Door, Entrance};
use super::doorbell::Doorbell;
use super::handshake;
use super::inbox::Inbox;
use crate::base::clock::{Now, Tick, UnixTime};
use crate::base::id::{FrameIds, RoomId};
use crate::base::limits::HANDSHAKE_READ_BYTES;
use crate::net::event::Event;
use crate::net::listener::Listener;
use crate::net::ring::Completion;
use crate::net::rings::Rings;
use crate::net::stream::{self, Runtime};
use crate::room::RoomSettings;
use crate::supervisor::{Pulse, Told};

/// Reads both clocks. One for the whole process, so that ticks of different threads compare.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Ticks count from here.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Now {
            tick: self.tick(Instant::now()),
            unix: UnixTime::from_nanos(nanos(since_epoch)),
        }
    }

    fn tick(&self, instant: Instant) -> Tick {
        // An hour's head start: nothing is due "before the start".
        Tick::from_nanos(nanos(instant.duration_since(self.start) + HEAD_START))
    }

    /// The instant of a tick.
    pub fn instant(&self, tick: Tick) -> Instant {
        self.start + Duration::from_nanos(tick.nanos()).saturating_sub(HEAD_START)
    }
}

const HEAD_START: Duration = Duration::from_hours(1);

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Everything a shard's thread is started with, but for the rings, which it makes itself.
pub struct Setup {
    /// The core's parts, without a wire.
    pub parts: Parts<NoWire>,
    /// The CPU to stay on, if pinning is wanted.
    pub cpu: Option<usize>,
    /// Mail from the other shards, the archive and the control thread.
    pub inbox: Inbox<OwnedFd>,
    /// Rung when mail arrives.
    pub bell: Arc<Doorbell>,
    /// The rooms whose home this shard is.
    pub rooms: Vec<(RoomId, RoomSettings)>,
    /// The shared port.
    pub listener: TcpListener,
    /// Heard once, when newcomers may be accepted.
    pub opened: oneshot::Receiver<()>,
    /// What handshakes need.
    pub entrance: Entrance,
    /// The clock.
    pub clock: Clock,
}

/// Stands in for the rings until their thread makes them.
#[derive(Debug)]
pub struct NoWire;

impl crate::net::wire::Wire for NoWire {
    type Socket = OwnedFd;
    type Seat = ();
    fn install(&mut self, _: OwnedFd) -> io::Result<()> {
        Ok(())
    }
    fn receive(&mut self, (): &(), _: u64) {}
    fn send(&mut self, (): &(), _: u64, _: crate::net::wire::Outgoing) {}
    fn await_room(&mut self, (): &(), _: u64, _: crate::net::wire::Outgoing) {}
    fn shutdown(&mut self, (): &(), _: crate::net::wire::Shutdown) {}
    fn close(&mut self, (): ()) {}
}

/// Runs a shard until it is told to stop. `ready` hears whether the ring could be set up.
///
/// # Errors
///
/// The kernel's, of a ring that does not work any more.
pub fn run(setup: Setup, pulse: &Pulse, ready: impl FnOnce(io::Result<()>)) -> io::Result<Told> {
    if let Some(cpu) = setup.cpu {
        pin(cpu);
    }
    let started = Rings::new().and_then(|rings| Ok((rings, Runtime::new()?)));
    let (rings, runtime) = match started {
        Ok(started) => started,
        Err(error) => {
            // Who starts the shards knows, and ends the start.
            ready(Err(error));
            return Ok(Told);
        }
    };
    ready(Ok(()));
    let outcome = runtime.block_on(drive(setup, pulse, rings));
    if outcome.is_err() {
        // It would wait for operations of a ring that does not work any more.
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

async fn drive(setup: Setup, pulse: &Pulse, rings: Rings) -> io::Result<Told> {
    let Setup {
        parts,
        mut inbox,
        bell,
        rooms,
        listener,
        opened,
        entrance,
        clock,
        ..
    } = setup;
    let ring_event = Event::new(rings.event())?;
    let bell_event = Event::new(bell.event())?;
    let (metrics, seed) = (Arc::clone(&parts.metrics), parts.seed);
    let shards = parts.settings.shard_count;
    let mut core = Core::new(with_rings(parts, rings), clock.now());
    core.load(rooms);
    let core = Rc::new(RefCell::new(core));
    let (places, shares) = Door::places_and_shares(&entrance.door, shards);
    let door = Rc::new(Door {
        entrance,
        core: Rc::clone(&core),
        bell: Arc::clone(&bell),
        metrics,
        clock,
        ids: RefCell::new(FrameIds::seeded(!seed)),
        places,
        shares,
        scratch: RefCell::new(vec![0; HANDSHAKE_READ_BYTES].into()),
        entered: Notify::new(),
    });
    let listener = Listener::new(listener)?;
    let entered = Rc::clone(&door);
    stream::spawn(async move {
        // Nobody opens it: the start failed, and the process ends.
        if opened.await.is_ok() {
            door::accept_all(listener, entered).await;
        }
    });
    core.borrow_mut().wire.signal(false);
    loop {
        pulse.beat();
        let plan = turns(&core, &mut inbox, clock)?;
        note_rings(&core);
        door.note();
        while let Some((newcomer, turned)) = next_turned(&core) {
            stream::spawn(handshake::turn_away(newcomer, turned, Rc::clone(&door)));
        }
        if core.borrow().is_stopped() {
            return Ok(Told);
        }
        match plan {
            Plan::Now => {
                // Really park, if only for an instant: tokio-uring submits its operations then.
                bell.press();
                bell_event.wait().await?;
            }
            Plan::Wait(until) => {
                core.borrow_mut().wire.signal(true);
                bell.sleep().announce();
                let missed = core.borrow_mut().wire.has_completions() || !inbox.is_empty();
                if missed {
                    bell.press();
                }
                let until = tokio::time::Instant::from_std(clock.instant(until));
                tokio::select! {
                    result = ring_event.wait() => result?,
                    result = bell_event.wait() => result?,
                    () = door.entered.notified() => {}
                    () = tokio::time::sleep_until(until) => {}
                }
                bell.sleep().awake();
                core.borrow_mut().wire.signal(false);
            }
        }
    }
}

/// A few turns of the core, while there is work at hand; then handshakes get theirs.
fn turns(
    core: &RefCell<Core<Rings>>,
    inbox: &mut Inbox<OwnedFd>,
    clock: Clock,
) -> io::Result<Plan> {
    let mut core = core.borrow_mut();
    let mut plan = Plan::Now;
    for _ in 0..TURNS_MAX {
        core.begin(clock.now());
        inbox.take(&mut core);
        for _ in 0..COMPLETIONS_PER_TURN_MAX {
            let Some(completion) = core.wire.next_completion() else {
                break;
            };
            complete(&mut core, completion);
        }
        plan = core.settle();
        enter(&mut core)?;
        let kept = core.post();
        let more = kept || core.wire.has_completions() || !inbox.is_empty();
        if plan != Plan::Now && !more {
            return Ok(plan);
        }
        if more {
            plan = Plan::Now;
        }
    }
    Ok(plan)
}

/// Hands the core what the kernel reports, and the kernel its buffer back.
pub fn complete(core: &mut Core<Rings>, completion: Completion) {
    match completion {
        Completion::Received {
            key,
            filled: Some(mut filled),
            result,
            more,
        } => {
            let len = filled.received();
            core.received(key, Some((filled.bytes(), len)), &result, more);
            core.wire.recycle(filled);
        }
        Completion::Received {
            key,
            filled: None,
            result,
            more,
        } => {
            core.received(key, None, &result, more);
        }
        Completion::Sent {
            key,
            outgoing,
            result,
        } => core.sent(key, outgoing, &result),
        Completion::Writable { key, outgoing } => core.writable(key, outgoing),
    }
}

/// Submits, and tells the core what a send costs: submission is where the kernel does the work.
fn enter(core: &mut Core<Rings>) -> io::Result<()> {
    let queued = core.wire.take_queued();
    if queued.sends == 0 {
        return core.wire.enter();
    }
    let before = Instant::now();
    core.wire.enter()?;
    core.note_cost(queued, before.elapsed());
    Ok(())
}

fn note_rings(core: &RefCell<Core<Rings>>) {
    let mut core = core.borrow_mut();
    let (rings, overflows) = (core.wire.count(), core.wire.overflow_count());
    core.note_rings(rings, overflows);
}

fn next_turned(
    core: &RefCell<Core<Rings>>,
) -> Option<(
    Box<super::command::Newcomer<OwnedFd>>,
    super::command::Turned,
)> {
    core.borrow_mut().next_turned()
}

fn with_rings(parts: Parts<NoWire>, rings: Rings) -> Parts<Rings> {
    let Parts {
        id,
        settings,
        wire: NoWire,
        posts,
        requests,
        reviews,
        archive,
        record,
        used,
        ..
    } = parts;
    let Parts {
        metrics,
        budgets,
        seed,
        ..
    } = parts;
    Parts {
        id,
        settings,
        wire: rings,
        posts,
        requests,
        reviews,
        archive,
        record,
        used,
        metrics,
        budgets,
        seed,
    }
}

/// Turns in a row before handshakes and timers of the runtime are served.
const TURNS_MAX: u32 = 4;
/// Completions in one turn.
const COMPLETIONS_PER_TURN_MAX: usize = 4096;
