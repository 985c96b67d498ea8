//! A shard's thread: pins it, gives the core its rings, its inbox and the time, and parks without losing wake-ups.

use std::cell::RefCell;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Notify, oneshot};

use super::accept::{self, Acceptor, HandshakeConfig};
use super::core::{Core, Parts, Plan};
use super::doorbell::Doorbell;
use super::handshake;
use super::inbox::Inbox;
use crate::clock::Clock;
use crate::net::event::Event;
use crate::net::listener::Listener;
use crate::net::ring::Completion;
use crate::net::rings::Rings;
use crate::net::stream::{self, Runtime};
use crate::supervisor::{Pulse, Stopped};
use uproar_proto::base::id::{FrameIds, RoomId};
use uproar_proto::base::limits::HANDSHAKE_READ_BYTES;
use uproar_proto::room::RoomSettings;

/// Everything a shard's thread needs at its start; it makes its rings itself.
pub struct Setup {
    /// The core's parts, without the rings.
    pub parts: Parts<NoIo>,
    /// The CPU to stay on, if pinning is wanted.
    pub cpu: Option<usize>,
    /// Receives from the other shards, the archive and the control thread.
    pub inbox: Inbox<OwnedFd>,
    /// Rung when an item arrives.
    pub bell: Arc<Doorbell>,
    /// The rooms whose home this shard is.
    pub rooms: Vec<(RoomId, RoomSettings)>,
    /// The shared port.
    pub listener: TcpListener,
    /// Fires once, when accepting may start.
    pub opened: oneshot::Receiver<()>,
    /// Settings of handshakes.
    pub handshake_config: HandshakeConfig,
    /// The clock.
    pub clock: Clock,
}

/// Stands in for the rings until their thread makes them.
#[derive(Debug)]
pub struct NoIo;

impl crate::net::io::Io for NoIo {
    type Socket = OwnedFd;
    type FixedFile = ();
    fn install(&mut self, _: OwnedFd) -> io::Result<()> {
        Ok(())
    }
    fn receive(&mut self, (): &(), _: u64) {}
    fn send(&mut self, (): &(), _: u64, _: crate::net::io::SendBuffer) {}
    fn await_writable(&mut self, (): &(), _: u64, _: crate::net::io::SendBuffer) {}
    fn shutdown(&mut self, (): &(), _: crate::net::io::Shutdown) {}
    fn close(&mut self, (): ()) {}
}

/// Runs a shard until it is told to stop. `ready` receives whether the rings could be set up.
///
/// # Errors
///
/// The kernel's error when a ring has stopped working.
pub fn run(setup: Setup, pulse: &Pulse, ready: impl FnOnce(io::Result<()>)) -> io::Result<Stopped> {
    if let Some(cpu) = setup.cpu {
        pin(cpu);
    }
    let started = Rings::new().and_then(|rings| Ok((rings, Runtime::new()?)));
    let (rings, runtime) = match started {
        Ok(started) => started,
        Err(error) => {
            // The starter gets the error and ends the start.
            ready(Err(error));
            return Ok(Stopped);
        }
    };
    ready(Ok(()));
    let outcome = runtime.block_on(drive(setup, pulse, rings));
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

async fn drive(setup: Setup, pulse: &Pulse, rings: Rings) -> io::Result<Stopped> {
    let Setup {
        parts,
        mut inbox,
        bell,
        rooms,
        listener,
        opened,
        handshake_config,
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
    let (places, shares) = Acceptor::places_and_shares(&handshake_config.limits, shards);
    let acceptor = Rc::new(Acceptor {
        config: handshake_config,
        core: Rc::clone(&core),
        bell: Arc::clone(&bell),
        metrics,
        clock,
        ids: RefCell::new(FrameIds::seeded(!seed)),
        places,
        shares,
        scratch: RefCell::new(vec![0; HANDSHAKE_READ_BYTES].into()),
        wake: Notify::new(),
    });
    let listener = Listener::new(listener)?;
    let accepting = Rc::clone(&acceptor);
    stream::spawn(async move {
        // An error means that the start failed and the process ends.
        if opened.await.is_ok() {
            accept::accept_all(listener, accepting).await;
        }
    });
    core.borrow_mut().io.signal(false);
    loop {
        pulse.beat();
        let plan = turns(&core, &mut inbox, clock)?;
        note_rings(&core);
        acceptor.note();
        while let Some((pending, error)) = next_rejected(&core) {
            stream::spawn(handshake::reject(pending, error, Rc::clone(&acceptor)));
        }
        if core.borrow().is_stopped() {
            return Ok(Stopped);
        }
        match plan {
            Plan::Now => {
                // Parks for an instant, because tokio-uring submits its operations when the thread parks.
                bell.press();
                bell_event.wait().await?;
            }
            Plan::Wait(until) => {
                core.borrow_mut().io.signal(true);
                let has_work = || core.borrow_mut().io.has_completions() || !inbox.is_empty();
                let until = tokio::time::Instant::from_std(clock.instant(until));
                let woken = async {
                    tokio::select! {
                        result = ring_event.wait() => result,
                        result = bell_event.wait() => result,
                        () = acceptor.wake.notified() => Ok(()),
                        () = tokio::time::sleep_until(until) => Ok(()),
                    }
                };
                bell.sleep(has_work, woken).await?;
                core.borrow_mut().io.signal(false);
            }
        }
    }
}

/// Runs a few turns of the core while there is work; then handshakes run.
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
            let Some(completion) = core.io.next_completion() else {
                break;
            };
            complete(&mut core, completion);
        }
        plan = core.settle();
        enter(&mut core)?;
        let kept = core.flush_mailboxes();
        let more = kept || core.io.has_completions() || !inbox.is_empty();
        if plan != Plan::Now && !more {
            return Ok(plan);
        }
        if more {
            plan = Plan::Now;
        }
    }
    Ok(plan)
}

/// Hands the core a completion, and returns the receive buffer to the kernel.
pub fn complete(core: &mut Core<Rings>, completion: Completion) {
    match completion {
        Completion::Received {
            key,
            buffer: Some(mut buffer),
            result,
            more,
        } => {
            let len = buffer.received();
            core.received(key, Some((buffer.bytes(), len)), &result, more);
            core.io.recycle(buffer);
        }
        Completion::Received {
            key,
            buffer: None,
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

/// Submits, and reports the cost of sends to the core: the kernel does their work during submission.
fn enter(core: &mut Core<Rings>) -> io::Result<()> {
    let queued = core.io.take_queued();
    if queued.sends == 0 {
        return core.io.enter();
    }
    let before = Instant::now();
    core.io.enter()?;
    core.note_cost(queued, before.elapsed());
    Ok(())
}

fn note_rings(core: &RefCell<Core<Rings>>) {
    let mut core = core.borrow_mut();
    let (rings, overflows) = (core.io.count(), core.io.overflow_count());
    core.note_rings(rings, overflows);
}

fn next_rejected(
    core: &RefCell<Core<Rings>>,
) -> Option<(
    Box<super::command::PendingConnection<OwnedFd>>,
    super::command::AdmitError,
)> {
    core.borrow_mut().next_rejected()
}

fn with_rings(parts: Parts<NoIo>, rings: Rings) -> Parts<Rings> {
    let Parts {
        id,
        settings,
        io: NoIo,
        mailboxes,
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
        io: rings,
        mailboxes,
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

/// Turns in a row before the runtime's handshakes and timers run.
const TURNS_MAX: u32 = 4;
/// Most completions taken in one turn.
const COMPLETIONS_PER_TURN_MAX: usize = 4096;
