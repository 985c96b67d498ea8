//! The order loop of the control thread: what signals and the admin socket ask for, one at a time.
//!
//! | running | health | drain, reload, upgrade | first SIGTERM or SIGINT | second |
//! |---|---|---|---|---|
//! | nothing | answered | done | drains as `[drain]` says, then ends the server | |
//! | reload, upgrade | answered | refused: it says what is being done | as above, when it is over | ends the server when it is over |
//! | drain | answered | refused: it is to be cancelled first | the drain cannot be cancelled any more | ends the server at once |
//!
//! SIGHUP has nobody who could repeat it: during another order it waits for that one's end.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::admin::{DrainOrder, Health, Order, Refusal, RefusalCode, Reply};
use super::cluster::{ClusterOrders, Node, beside};
use super::drain::{DrainState, Drained, Drains, Plan, Wish};
use super::operator::Operator;
use super::process::{Signalled, Signals};
use super::reload::Reload;
use super::upgrade::{Calls, Restart, Subject, Told};
use crate::cluster::Cluster;
use crate::supervisor::Supervisor;
use uproar_proto::base::limits::CLUSTER_PROBE;

/// What orders are about.
pub(super) struct Subjects {
    pub(super) supervisor: Supervisor,
    pub(super) reload: Rc<Reload>,
    pub(super) drains: Rc<Drains>,
    pub(super) upgrade: Rc<Subject>,
    pub(super) cluster: ClusterOrders,
    pub(super) operator: Operator,
}

/// How the order loop has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All viewers were cut as a drain cuts them.
    Drained,
    /// A second signal ended the server at once.
    AtOnce {
        /// Viewers who were connected.
        cut: u64,
    },
}

/// Takes orders until one of them ends the server.
pub(super) struct Orders {
    signals: Signals,
    received: mpsc::Receiver<(Order, Reply)>,
    subjects: Subjects,
    running: Option<Running>,
    // SIGHUP has come while an order was being done: what it announces may have been read before.
    hung_up: bool,
    // Signals to stop that have come; an upgrade that has failed and asks for a restart is the first.
    stops: u32,
}

/// An order that is being done.
struct Running {
    what: &'static str,
    work: Pin<Box<dyn Future<Output = Next>>>,
    // An upgrade waits for the new process, and ends early when the server is to stop.
    upgrade: Option<Upgrading>,
    // What is wished of a drain.
    drain: Option<watch::Sender<Wish>>,
}

/// How to reach an upgrade that is being done.
struct Upgrading {
    connections: mpsc::Sender<OwnedFd>,
    told: Told,
}

/// What follows an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The server serves on.
    Serves,
    /// It is to be drained as by a signal.
    Stops,
    /// It was drained, and is to end.
    Ends,
}

impl Running {
    fn new(what: &'static str, work: impl Future<Output = ()> + 'static) -> Self {
        let work = async move {
            work.await;
            Next::Serves
        };
        Self {
            what,
            work: Box::pin(work),
            upgrade: None,
            drain: None,
        }
    }
}

impl Upgrading {
    /// Returns it with what the upgrade takes.
    fn new() -> (Self, Calls) {
        let (sender, connections) = mpsc::channel(1);
        let told = Told::default();
        let calls = Calls {
            connections,
            told: told.clone(),
        };
        let connections = sender;
        (Self { connections, told }, calls)
    }
}

/// Returns how long this node is cut off from its cluster, when that is too long.
async fn cut_off(drains: &Drains) -> Duration {
    loop {
        if let Some(alone) = drains.control.cluster().and_then(Cluster::cut_off_for) {
            return alone;
        }
        sleep(CLUSTER_PROBE).await;
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
            stops: 0,
        }
    }

    /// Returns when the server is to end.
    pub(super) async fn run(&mut self) -> Ended {
        loop {
            if let Some(ended) = self.obey_stops() {
                return ended;
            }
            let is_running = self.running.is_some();
            let running = self.running.as_mut();
            tokio::select! {
                signal = self.signals.next() => match signal {
                    Signalled::Stop => self.stop(),
                    Signalled::Reload if is_running => self.hang_up(),
                    Signalled::Reload => self.take(Order::Reload {}, Reply::Signal("SIGHUP")),
                    Signalled::Upgrade => {
                        let (binary, or_restart) = (None, false);
                        let order = Order::Upgrade { binary, or_restart };
                        self.take(order, Reply::Signal("SIGUSR2"));
                    }
                },
                Some((order, reply)) = self.received.recv() => self.take(order, reply),
                alone = cut_off(&self.subjects.drains), if !is_running => {
                    let seconds = alone.as_secs();
                    tracing::error!(
                        seconds,
                        "nothing goes through the cluster: this node drains, as cluster.isolated_cut_seconds says"
                    );
                    self.drain(self.subjects.drains.configured(), Wish::Drain, None);
                }
                next = async { running.expect("asked before").work.as_mut().await }, if is_running => {
                    self.running = None;
                    match next {
                        Next::Serves => {}
                        Next::Stops => self.stops = self.stops.max(1),
                        Next::Ends => return Ended::Drained,
                    }
                    if std::mem::take(&mut self.hung_up) && self.stops == 0 {
                        self.take(Order::Reload {}, Reply::Signal("SIGHUP"));
                    }
                }
            }
        }
    }

    /// Waits for a signal to stop, when the loop has ended and the rest of the server is ending.
    pub(super) async fn stop_at_once(&mut self) -> Ended {
        // Whoever still waits for an answer sees that there is none.
        self.received.close();
        while self.received.try_recv().is_ok() {}
        while self.stops < 2 {
            if self.signals.next().await == Signalled::Stop {
                self.stops += 1;
            }
        }
        self.at_once()
    }

    fn stop(&mut self) {
        self.stops += 1;
        let upgrade = self
            .running
            .as_ref()
            .and_then(|running| running.upgrade.as_ref());
        if let Some(upgrade) = upgrade {
            upgrade.told.stop.notify_one();
        }
    }

    /// Keeps SIGHUP until the order that is being done has ended, be it in another process.
    fn hang_up(&mut self) {
        self.hung_up = true;
        if let Some(Running {
            upgrade: Some(upgrade),
            ..
        }) = &self.running
        {
            upgrade.told.reload.set(true);
        }
    }

    /// Does what signals to stop demand now.
    fn obey_stops(&mut self) -> Option<Ended> {
        let drain = self.running.as_ref().map(|running| &running.drain);
        match (drain, self.stops) {
            // A reload or an upgrade must not be cut short.
            (_, 0) | (Some(None), _) => None,
            (None, 1) => {
                let plan = self.subjects.drains.configured();
                self.drain(plan, Wish::Stop, None);
                None
            }
            (Some(Some(wish)), 1) => {
                let is_new = *wish.borrow() != Wish::Stop;
                if is_new {
                    self.subjects.drains.notifier.stopping();
                    wish.send_replace(Wish::Stop);
                }
                None
            }
            (None | Some(Some(_)), _) => Some(self.at_once()),
        }
    }

    fn at_once(&self) -> Ended {
        let cut = self.subjects.drains.progress.left();
        Ended::AtOnce { cut }
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
        if let Some(Running { what, drain, .. }) = &self.running
            && !order.is_answered_beside()
        {
            // At its end there is no server to repeat it to.
            let next = match drain {
                Some(_) => "end it with `uproar drain --cancel` first",
                None => "repeat the order when it is over",
            };
            let message = format!("{what} is being done; {next}");
            return reply.refuse(Refusal::new(RefusalCode::Busy, message));
        }
        let what = order.name();
        match order {
            Order::Health {} => self.health(reply),
            Order::ClusterStatus { room } => self.cluster_status(room, reply),
            Order::ClusterMove { slot, node } => self.cluster_move(slot, node, reply),
            Order::ClusterBalance {} => self.cluster_balance(reply),
            Order::CancelDrain {} => reply.answer(self.cancel_drain()),
            Order::Drain(order) => self.begin_drain(&order, reply),
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
            of_rooms @ (Order::Stats {}
            | Order::History { .. }
            | Order::Server {}
            | Order::Rooms(_)
            | Order::Room(_)
            | Order::User { .. }
            | Order::Call(_)
            | Order::Join(_)) => self.subjects.operator.take(of_rooms, reply),
        }
    }

    fn upgrade(&mut self, binary: Option<PathBuf>, or_restart: bool, reply: Reply) {
        let (upgrade, calls) = Upgrading::new();
        let subject = Rc::clone(&self.subjects.upgrade);
        let work = async move {
            match subject.upgrade(binary, or_restart, reply, calls).await {
                Restart::Yes => Next::Stops,
                Restart::No => Next::Serves,
            }
        };
        self.running = Some(Running {
            what: "upgrade",
            work: Box::pin(work),
            upgrade: Some(upgrade),
            drain: None,
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

    fn begin_drain(&mut self, order: &DrainOrder, reply: Reply) {
        let drains = &self.subjects.drains;
        let plan = match drains.plan(order) {
            Ok(plan) => plan,
            Err(refusal) => return reply.refuse(refusal),
        };
        let begun = plan.begun(drains.control.token_rate());
        if order.wait {
            reply.progress(&begun);
            self.drain(plan, Wish::Drain, Some(reply));
        } else {
            reply.ok(&begun);
            self.drain(plan, Wish::Drain, None);
        }
    }

    fn drain(&mut self, plan: Plan, wish: Wish, reply: Option<Reply>) {
        let drains = Rc::clone(&self.subjects.drains);
        let (sender, receiver) = watch::channel(wish);
        let work = async move {
            match drains.run(plan, receiver, reply).await {
                Drained::Cancelled => Next::Serves,
                Drained::Empty => Next::Ends,
            }
        };
        self.running = Some(Running {
            what: "drain",
            work: Box::pin(work),
            upgrade: None,
            drain: Some(sender),
        });
    }

    fn cancel_drain(&self) -> Result<(), Refusal> {
        let refuse = |message| Err(Refusal::new(RefusalCode::Refused, message));
        let wish = self
            .running
            .as_ref()
            .and_then(|running| running.drain.as_ref());
        let Some(wish) = wish else {
            return refuse("no drain is being done");
        };
        if *wish.borrow() == Wish::Stop {
            return refuse(
                "a signal has demanded the server's end, and whoever sent it would kill a server that went on",
            );
        }
        if self.subjects.drains.progress.state() == DrainState::Stopped {
            return refuse("it is too late: the last viewers are being cut");
        }
        wish.send_replace(Wish::Cancel);
        Ok(())
    }

    fn cluster_status(&self, room: Option<String>, reply: Reply) {
        let work = async move |node: Rc<Node>| node.report(room.as_deref()).await;
        beside(&self.subjects.cluster, reply, work);
    }

    fn cluster_move(&self, slot: u8, to: String, reply: Reply) {
        let work = async move |node: Rc<Node>| node.move_slot(slot, to).await;
        beside(&self.subjects.cluster, reply, work);
    }

    fn cluster_balance(&self, reply: Reply) {
        let work = async |node: Rc<Node>| node.balance().await;
        beside(&self.subjects.cluster, reply, work);
    }

    /// Answers beside whatever is being done.
    fn health(&self, reply: Reply) {
        let Subjects {
            drains,
            supervisor,
            upgrade,
            ..
        } = &self.subjects;
        let health = Health {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: env!("UPROAR_COMMIT").to_owned(),
            state: drains.progress.state().label().to_owned(),
            ready: drains.ready.load(Ordering::Acquire)
                && (drains.control.cluster()).is_none_or(|cluster| cluster.ready().is_ok()),
            viewers: drains.progress.left(),
            rooms: drains.progress.rooms(),
            io: upgrade.io().kind.name().to_owned(),
            io_uring_refused: upgrade.io().refused.clone(),
        };
        let supervisor = supervisor.clone();
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
