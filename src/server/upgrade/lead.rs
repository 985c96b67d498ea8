//! The old process drives its machine: messages, steps, deadlines and the other process's end become events.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::fault;
use super::figures::Ending;
use super::link::{AsyncLink, Heard, Link};
use super::steps::Steps;
use super::subject::Subject;
use crate::net::pass::Connection;
use crate::takeover::messages::{New as Said, Old as Say};
use crate::takeover::old::{Action, Event, Limit, Old, Outcome};
use uproar_proto::base::limits::{
    TAKE_OVER_LOAD_MAX, TAKE_OVER_PAUSE_MAX, TAKE_OVER_SERVING_MAX, TAKE_OVER_SILENCE_MAX,
};

type Running = Pin<Box<dyn Future<Output = Result<u64, String>>>>;

/// What signals say to this server while it is being taken over from.
#[derive(Debug, Clone, Default)]
pub(in crate::server) struct Told {
    /// To stop.
    pub(in crate::server) stop: Rc<Notify>,
    /// To reload: the new process may have read the configuration before.
    pub(in crate::server) reload: Rc<Cell<bool>>,
}

/// One take-over, led by this process.
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that come in any order, not a state"
)]
pub(super) struct Leader {
    subject: Rc<Subject>,
    link: Rc<AsyncLink>,
    machine: Old,
    steps: Rc<Steps>,
    step: Option<Running>,
    deadline: Instant,
    hung_up: bool,
    // The machine knows that nothing of it is left to hear.
    is_drained: bool,
    // Nothing can be heard any more.
    is_closed: bool,
    is_gone: bool,
    // Until a hello says otherwise.
    needs_restart: bool,
    told: Told,
}

/// How it ended, with what an operator wants to know.
#[derive(Debug)]
pub(super) struct Led {
    pub(super) outcome: Outcome,
    /// The new process.
    pub(super) process: u32,
    /// Time without service, if it is known.
    pub(super) pause: Option<Duration>,
    /// The new version cannot take over from this one: only a restart helps.
    pub(super) needs_restart: bool,
}

impl Leader {
    /// Takes the connection of a process that wants to take over; it says hello next.
    ///
    /// # Errors
    ///
    /// The process is gone, or not visible here.
    pub(super) fn new(
        subject: &Rc<Subject>,
        connection: Connection,
        told: Told,
    ) -> std::io::Result<Self> {
        let link = Rc::new(Link::new(connection)?.into_async()?);
        Ok(Self {
            subject: Rc::clone(subject),
            machine: Old::serving(),
            steps: Rc::new(Steps::new(subject, &link)),
            link,
            step: None,
            deadline: Instant::now() + TAKE_OVER_SILENCE_MAX,
            hung_up: false,
            is_drained: false,
            is_closed: false,
            is_gone: false,
            needs_restart: true,
            told,
        })
    }

    /// The process that wants to take over.
    pub(super) fn peer(&self) -> std::io::Result<(u32, u32)> {
        self.link.peer()
    }

    /// Leads until it is over. If this process is to exit then, it must do nothing else before.
    pub(super) async fn run(mut self, told: impl Fn(&'static str)) -> Led {
        let (process, _) = self.link.peer().unwrap_or_default();
        let mut phase = self.machine.phase();
        loop {
            let event = self.next().await;
            for action in self.machine.on(event) {
                if let Action::Finish(outcome) = action {
                    return self.finish(outcome, process);
                }
                self.act(action).await;
            }
            if self.machine.phase() != phase {
                phase = self.machine.phase();
                tracing::info!(new_process = process, phase, "take-over");
                told(phase);
            }
        }
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Welcome => {
                let welcome = Say::Welcome {
                    hello: Box::new(self.subject.upgrade.hello.clone()),
                    viewers: self.subject.viewers(),
                    epoch_nanos: self.subject.upgrade.clock.epoch_nanos(),
                };
                // What this process started writes its lines where this one does.
                let stderr = rustix::stdio::stderr();
                let _gone = self.link.say(&welcome, &[stderr.as_fd()]);
            }
            Action::Refuse(reason) => {
                let _gone = self.link.say(&Say::Refused { reason }, &[]);
            }
            Action::Begin(step) => {
                let steps = Rc::clone(&self.steps);
                self.step = Some(Box::pin(async move { steps.run(step).await }));
            }
            Action::Within(limit) => {
                self.deadline = Instant::now()
                    + match limit {
                        Limit::Load => TAKE_OVER_LOAD_MAX,
                        Limit::Pause => TAKE_OVER_PAUSE_MAX,
                        Limit::Serving => TAKE_OVER_SERVING_MAX,
                    };
            }
            Action::Commit => {
                // A fault that fails here is one that the new process's silence shows.
                if fault::at("old.commit").is_ok() {
                    let _gone = self.link.say(&Say::Commit(self.steps.report()), &[]);
                }
                let _failed = fault::at("old.commit.done");
            }
            Action::HangUp => {
                tracing::warn!("take-over: a fault, everything is taken back");
                self.link.hang_up();
                self.hung_up = true;
            }
            Action::Kill => self.link.signal(Signal::KILL),
            Action::Undo => self.steps.undo().await,
            Action::Finish(_) => {}
        }
    }

    fn finish(&self, outcome: Outcome, process: u32) -> Led {
        let figures = &self.subject.upgrade.figures;
        let mut pause = None;
        match &outcome {
            Outcome::Refused(reason) => {
                tracing::warn!(new_process = process, %reason, "take-over refused: nothing has changed");
                figures.ended(Ending::Refused);
            }
            Outcome::RolledBack(reason) => {
                tracing::error!(new_process = process, %reason, "take-over rolled back: this process serves as before");
                figures.ended(Ending::RolledBack);
            }
            Outcome::TakenOver { serving, stop } => {
                self.steps.leave();
                let frozen_at = self.steps.frozen_at();
                pause = serving.map(|(_, at_nanos)| {
                    Duration::from_micros((at_nanos / 1000).saturating_sub(frozen_at))
                });
                if *stop {
                    self.link.signal(Signal::TERM);
                } else if self.told.reload.get() {
                    self.link.signal(Signal::HUP);
                }
                let viewers = serving.map(|(viewers, _)| viewers);
                let pause_ms =
                    pause.map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
                tracing::info!(
                    new_process = process,
                    viewers,
                    pause_ms,
                    "taken over: this process exits"
                );
            }
        }
        let is_refused = matches!(outcome, Outcome::Refused(_));
        Led {
            needs_restart: is_refused && self.needs_restart,
            outcome,
            process,
            pause,
        }
    }

    /// The next event. Messages come before anything else, and the end of the other process behind all of them.
    async fn next(&mut self) -> Event {
        loop {
            if self.hung_up && self.is_closed && !self.is_drained {
                self.is_drained = true;
                return Event::Drained;
            }
            let can_hear = !self.is_closed;
            let awaits_end = self.is_closed && !self.is_gone;
            let link = Rc::clone(&self.link);
            return tokio::select! {
                biased;
                heard = link.hear(), if can_hear => match heard {
                    Ok(Heard::Message(Said::Hello(hello), _)) => {
                        self.needs_restart = self.subject.upgrade.hello.needs_restart(&hello);
                        let refusal = self.subject.refusal(&hello);
                        Event::Greeted { refusal }
                    }
                    Ok(Heard::Message(said, _)) => Event::Heard(said),
                    Ok(Heard::Foreign(text)) => {
                        let reason = format!("it said what this version does not understand: {text}");
                        Event::Heard(Said::Failed { reason })
                    }
                    // After a hang-up the kernel tells of the end when all was read.
                    Ok(Heard::Closed) | Err(_) => {
                        self.is_closed = true;
                        if self.hung_up {
                            continue;
                        }
                        Event::Closed
                    }
                },
                () = self.told.stop.notified() => Event::Stop,
                () = link.ended(), if awaits_end => {
                    self.is_gone = true;
                    Event::Gone
                }
                done = poll(&mut self.step), if self.step.is_some() => {
                    self.step = None;
                    match done {
                        Ok(count) => Event::Done(count),
                        Err(reason) => Event::Failed(reason),
                    }
                }
                () = tokio::time::sleep_until(self.deadline) => {
                    self.deadline = Instant::now() + TAKE_OVER_SILENCE_MAX;
                    Event::Deadline
                }
            };
        }
    }
}

async fn poll(step: &mut Option<Running>) -> Result<u64, String> {
    match step {
        Some(step) => step.await,
        None => std::future::pending().await,
    }
}
