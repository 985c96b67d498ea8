//! Drains: viewers are cut at an even pace, so that others take them, and then the server stops.
//!
//! | state | `/readyz` | newcomers |
//! |---|---|---|
//! | serving | 200 | accepted |
//! | noticed | 503 | accepted |
//! | cutting | 503 | accepted, and cut in their turn: one that is refused does not come back |
//! | stopped | 503 | wait in the kernel's queue for the next process; whoever is left is cut |
//!
//! A node of a cluster hands its slots to the others when the drain begins, and ends when they have them.

mod plan;
mod progress;
mod slots;
mod stop;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::admin::{DrainOrder, Refusal, RefusalCode, Reply};
use super::notify::Notifier;
use crate::config::DrainSettings;
use crate::control::Control;
use crate::shard::command::Command;
use crate::shard::gateway::Gateway;
use uproar_proto::base::limits::DRAIN_MAX;

pub(super) use plan::Plan;
pub(super) use progress::{DrainState, Progress};
pub(super) use slots::{Leaving, handed_over};

/// How often the server looks at a drain's progress.
const LOOK: Duration = Duration::from_millis(100);
/// How often it tells of it.
const REPORT: Duration = Duration::from_secs(1);
/// How often a service manager that waits for the end is asked to wait on, and for how long.
const EXTENSION_INTERVAL: Duration = Duration::from_secs(5);
const EXTENSION: Duration = Duration::from_secs(15);

/// What a drain works on.
pub(super) struct Drains {
    pub(super) control: Rc<Control>,
    gateway: Gateway,
    pub(super) notifier: Notifier,
    /// What `/readyz` says.
    pub(super) ready: Arc<AtomicBool>,
    pub(super) progress: Rc<Progress>,
    /// What SIGTERM does; a reload changes it.
    pub(super) settings: Rc<Cell<DrainSettings>>,
}

/// What is wanted of a drain in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// A command began it, and may cancel it.
    Drain,
    /// A signal demands the server's end, so that a service manager waits for it and would kill a server that
    /// went on.
    Stop,
    /// It is to be cancelled.
    Cancel,
}

/// How a drain has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drained {
    /// All viewers are cut; the server is to end.
    Empty,
    /// It was cancelled; the server serves.
    Cancelled,
}

impl Drains {
    /// Works on what the control thread has; `shown` is what `/readyz` and `/metrics` say.
    pub(super) fn new(
        control: &Rc<Control>,
        gateway: &Gateway,
        notifier: &Notifier,
        (ready, progress): (Arc<AtomicBool>, Rc<Progress>),
        settings: DrainSettings,
    ) -> Self {
        Self {
            control: Rc::clone(control),
            gateway: gateway.clone(),
            notifier: notifier.clone(),
            ready,
            progress,
            settings: Rc::new(Cell::new(settings)),
        }
    }

    /// The server is open for viewers; it is not ready for all that while a drain goes on.
    pub(super) fn opened(&self) {
        let serves = self.progress.state() == DrainState::Serving;
        self.ready.store(serves, Ordering::Release);
    }

    /// Decides about an order: its plan, or why not.
    pub(in crate::server) fn plan(&self, order: &DrainOrder) -> Result<Plan, Refusal> {
        for (name, seconds) in [("notice_s", order.notice_s), ("over_s", order.over_s)] {
            if let Some(seconds) = seconds.filter(|seconds| *seconds > DRAIN_MAX.as_secs()) {
                let most = DRAIN_MAX.as_secs();
                let message = format!("{name} is {seconds}; it must be at most {most}, a day");
                return Err(Refusal::new(RefusalCode::Refused, message));
            }
        }
        let plan = Plan::of(order, self.settings.get(), self.progress.left());
        match plan.excess(self.control.token_rate()) {
            Some(excess) if !order.force => Err(Refusal::new(RefusalCode::Refused, excess)),
            _ => Ok(plan),
        }
    }

    /// What SIGTERM does. Nobody is there to refuse it to.
    pub(super) fn configured(&self) -> Plan {
        let plan = Plan::of(
            &DrainOrder::default(),
            self.settings.get(),
            self.progress.left(),
        );
        if let Some(excess) = plan.excess(self.control.token_rate()) {
            tracing::warn!("viewers may be lost: {excess}");
        }
        plan
    }

    /// Drains until nobody is left or `wish` changes to [`Wish::Cancel`]; `reply` is who waits for it.
    pub(super) async fn run(
        &self,
        plan: Plan,
        mut wish: watch::Receiver<Wish>,
        reply: Option<Reply>,
    ) -> Drained {
        let mut credited = self.progress.cut();
        let cut_before = credited;
        self.ready.store(false, Ordering::Release);
        self.progress.begin(plan.notice.saturating_add(plan.over));
        self.leave_cluster(true);
        if *wish.borrow() == Wish::Stop {
            self.notifier.stopping();
        }
        let (notice_s, over_s) = (plan.notice.as_secs(), plan.over.as_secs());
        tracing::info!(viewers = plan.viewers, notice_s, over_s, "draining");
        for (state, length) in [
            (DrainState::Noticed, plan.notice),
            (DrainState::Cutting, plan.over),
        ] {
            if length.is_zero() {
                continue;
            }
            self.progress.enter(state);
            if state == DrainState::Cutting {
                self.gateway.tell_each(|| Command::Drain(length));
            }
            let end = self.pass(
                length,
                &mut wish,
                &mut credited,
                (cut_before, reply.as_ref()),
            );
            if end.await == Wish::Cancel {
                self.cancel(reply);
                return Drained::Cancelled;
            }
        }
        self.progress.enter(DrainState::Stopped);
        let began = Instant::now();
        if let Some(cluster) = self.control.cluster() {
            handed_over(cluster, Leaving::SlotsAndRequests).await;
        }
        if *wish.borrow() != Wish::Stop {
            self.notifier.stopping();
        }
        stop::cut_all(&self.gateway, &self.progress).await;
        self.credit(&mut credited);
        if let Some(reply) = reply {
            reply.ok(&self
                .progress
                .report(cut_before, [began.elapsed(), Duration::ZERO]));
        }
        Drained::Empty
    }

    /// Lets a state's time pass, and tells of it; returns what was wished at its end, or that it was cancelled.
    async fn pass(
        &self,
        length: Duration,
        wish: &mut watch::Receiver<Wish>,
        credited: &mut u64,
        (cut_before, reply): (u64, Option<&Reply>),
    ) -> Wish {
        let (began, mut reported, mut extended) = (Instant::now(), None, None);
        loop {
            let now = *wish.borrow_and_update();
            let elapsed = began.elapsed();
            self.credit(credited);
            let is_due = |last: Option<Duration>, interval| {
                last.is_none_or(|last| elapsed >= last + interval)
            };
            if is_due(reported, REPORT) {
                reported = Some(elapsed);
                if let Some(reply) = reply {
                    let rest = length.saturating_sub(elapsed);
                    reply.progress(&self.progress.report(cut_before, [elapsed, rest]));
                }
            }
            if now == Wish::Stop && is_due(extended, EXTENSION_INTERVAL) {
                extended = Some(elapsed);
                self.notifier.extend_timeout(EXTENSION);
            }
            if now == Wish::Cancel || elapsed >= length {
                return now;
            }
            let next = LOOK.min(length.saturating_sub(elapsed));
            // A failure means that the order loop is gone, and with it this future.
            let _changed = timeout(next, wish.changed()).await;
        }
    }

    /// Returns to serving.
    fn cancel(&self, reply: Option<Reply>) {
        self.gateway.tell_each(|| Command::Undrain);
        self.leave_cluster(false);
        self.progress.enter(DrainState::Serving);
        self.ready.store(true, Ordering::Release);
        tracing::info!(viewers = self.progress.left(), "the drain was cancelled");
        if let Some(reply) = reply {
            let message = "the drain was cancelled: the server serves the viewers that are left";
            reply.refuse(Refusal::new(RefusalCode::Refused, message));
        }
    }

    /// Hands this node's slots to the others at once, or lets it have its share again.
    fn leave_cluster(&self, begins: bool) {
        if let Some(cluster) = self.control.cluster() {
            cluster.drain(begins);
        }
    }

    /// Whoever was cut needs a token to come back: here, if nobody else serves.
    fn credit(&self, credited: &mut u64) {
        let cut = self.progress.cut();
        self.control.credit_tokens(cut - *credited);
        *credited = cut;
    }
}
