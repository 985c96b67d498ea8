//! The order loop of the control thread: what signals and the admin socket ask for, one at a time.
//!
//! | running | health | drain, reload, upgrade | first SIGTERM or SIGINT |
//! |---|---|---|---|
//! | nothing | answered | done | ends the loop |
//! | reload, upgrade | answered | refused: it says what is being done | waits for its end |
//!
//! SIGHUP has nobody who could repeat it: during another order it waits for that one's end.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, mpsc};

use super::admin::{Health, Order, Refusal, RefusalCode, Reply};
use super::process::{Signalled, Signals};
use super::reload::Reload;
use super::upgrade::{Calls, Restart, Subject};
use crate::shard::metrics::{Figure, ShardMetrics};
use crate::supervisor::Supervisor;

/// What orders are about.
pub(super) struct Subjects {
    shards: Vec<Arc<ShardMetrics>>,
    supervisor: Supervisor,
    // What `/readyz` says.
    ready: Arc<AtomicBool>,
    reload: Rc<Reload>,
    upgrade: Rc<Subject>,
}

impl Subjects {
    /// Takes part in what the rest of the control thread has; `ready` is what `/readyz` says.
    pub(super) fn new(
        shards: &[Arc<ShardMetrics>],
        supervisor: &Supervisor,
        ready: Arc<AtomicBool>,
        reload: Rc<Reload>,
        upgrade: Rc<Subject>,
    ) -> Self {
        Self {
            shards: shards.to_vec(),
            supervisor: supervisor.clone(),
            ready,
            reload,
            upgrade,
        }
    }
}

/// Takes orders until one of them ends the server.
pub(super) struct Orders {
    signals: Signals,
    received: mpsc::Receiver<(Order, Reply)>,
    subjects: Subjects,
    running: Option<Running>,
    // SIGHUP has come while an order was being done: what it announces may have been read before.
    hung_up: bool,
    // A signal to stop has come while an order was being done that must not be cut short.
    stopping: bool,
}

/// An order that is being done.
struct Running {
    what: &'static str,
    work: Pin<Box<dyn Future<Output = Ended>>>,
    // An upgrade waits for the new process, and ends early when the server is to stop.
    upgrade: Option<Upgrading>,
}

/// How to reach an upgrade that is being done.
struct Upgrading {
    connections: mpsc::Sender<OwnedFd>,
    stop: Rc<Notify>,
}

/// What follows an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Serves,
    Stops,
}

impl Running {
    fn new(what: &'static str, work: impl Future<Output = ()> + 'static) -> Self {
        let work = async move {
            work.await;
            Ended::Serves
        };
        Self {
            what,
            work: Box::pin(work),
            upgrade: None,
        }
    }
}

impl Upgrading {
    /// Returns it with what the upgrade takes.
    fn new() -> (Self, Calls) {
        let (sender, connections) = mpsc::channel(1);
        let stop = Rc::new(Notify::new());
        let calls = Calls {
            connections,
            stop: Rc::clone(&stop),
        };
        let connections = sender;
        (Self { connections, stop }, calls)
    }
}

impl Orders {
    /// Takes orders from `signals` and from the admin socket, as `received`.
    pub(super) fn new(
        signals: Signals,
        received: mpsc::Receiver<(Order, Reply)>,
        subjects: Subjects,
    ) -> Self {
        Self {
            signals,
            received,
            subjects,
            running: None,
            hung_up: false,
            stopping: false,
        }
    }

    /// Returns when the server is to stop.
    pub(super) async fn run(&mut self) {
        loop {
            let is_running = self.running.is_some();
            if self.stopping && !is_running {
                return;
            }
            let running = self.running.as_mut();
            tokio::select! {
                signal = self.signals.next() => match signal {
                    Signalled::Stop => self.stop(),
                    Signalled::Reload if is_running => self.hung_up = true,
                    Signalled::Reload => self.take(Order::Reload {}, Reply::Signal("SIGHUP")),
                    Signalled::Upgrade => {
                        let (binary, or_restart) = (None, false);
                        let order = Order::Upgrade { binary, or_restart };
                        self.take(order, Reply::Signal("SIGUSR2"));
                    }
                },
                Some((order, reply)) = self.received.recv() => self.take(order, reply),
                ended = async { running.expect("asked before").work.as_mut().await }, if is_running => {
                    self.running = None;
                    self.stopping |= ended == Ended::Stops;
                    if std::mem::take(&mut self.hung_up) && !self.stopping {
                        self.take(Order::Reload {}, Reply::Signal("SIGHUP"));
                    }
                }
            }
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        let upgrade = self
            .running
            .as_ref()
            .and_then(|running| running.upgrade.as_ref());
        if let Some(upgrade) = upgrade {
            upgrade.stop.notify_one();
        }
    }

    fn take(&mut self, order: Order, mut reply: Reply) {
        if order == (Order::TakeOver {})
            && let Some(Running {
                upgrade: Some(upgrade),
                ..
            }) = &self.running
            && let Ok(place) = upgrade.connections.try_reserve()
        {
            match reply.into_socket() {
                Ok(socket) => return place.send(socket),
                Err(other) => reply = other,
            }
        }
        if let Some(Running { what, .. }) = &self.running
            && order != (Order::Health {})
        {
            let message = format!("{what} is being done; repeat the order when it is over");
            return reply.refuse(Refusal::new(RefusalCode::Busy, message));
        }
        let what = order.name();
        match order {
            Order::Health {} => self.health(reply),
            Order::Drain {} => {
                reply.ok(&());
                self.stopping = true;
            }
            Order::CancelDrain {} => {
                let message = "no drain is being done";
                reply.refuse(Refusal::new(RefusalCode::Refused, message));
            }
            Order::Reload {} => {
                let reload = Rc::clone(&self.subjects.reload);
                let work = async move {
                    let outcome = reload.run().await;
                    // After a signal the log is all there is, and has the outcome already.
                    if !matches!(reply, Reply::Signal(_)) {
                        let refusal = |refused| Refusal::new(RefusalCode::Refused, refused);
                        reply.answer(outcome.map_err(refusal));
                    }
                };
                self.running = Some(Running::new(what, work));
            }
            Order::Upgrade { binary, or_restart } => self.upgrade(binary, or_restart, reply),
            Order::TakeOver {} => self.take_over(reply),
        }
    }

    fn upgrade(&mut self, binary: Option<PathBuf>, or_restart: bool, reply: Reply) {
        let (upgrade, calls) = Upgrading::new();
        let subject = Rc::clone(&self.subjects.upgrade);
        let work = async move {
            match subject.upgrade(binary, or_restart, reply, calls).await {
                Restart::Yes => Ended::Stops,
                Restart::No => Ended::Serves,
            }
        };
        self.running = Some(Running {
            what: "upgrade",
            work: Box::pin(work),
            upgrade: Some(upgrade),
        });
    }

    fn take_over(&mut self, reply: Reply) {
        let Ok(socket) = reply.into_socket() else {
            return;
        };
        let (upgrade, calls) = Upgrading::new();
        let subject = Rc::clone(&self.subjects.upgrade);
        self.running = Some(Running {
            upgrade: Some(upgrade),
            ..Running::new("take_over", subject.take_over(socket, calls))
        });
    }

    /// Answers beside whatever is being done.
    fn health(&self, reply: Reply) {
        let sum = |figure: fn(&ShardMetrics) -> &Figure| -> u64 {
            let shards = self.subjects.shards.iter();
            shards.map(|shard| figure(shard).get()).sum()
        };
        let health = Health {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: env!("UPROAR_COMMIT").to_owned(),
            state: "serving".to_owned(),
            ready: self.subjects.ready.load(Ordering::Acquire),
            viewers: sum(|shard| &shard.connections),
            rooms: sum(|shard| &shard.rooms),
        };
        let supervisor = self.subjects.supervisor.clone();
        tokio::task::spawn_local(async move {
            let silent = supervisor.silent().await;
            reply.answer(if silent.is_empty() {
                Ok(health)
            } else {
                let message = format!("these threads take no turn: {}", silent.join(", "));
                Err(Refusal::new(RefusalCode::Failed, message))
            });
        });
    }
}
