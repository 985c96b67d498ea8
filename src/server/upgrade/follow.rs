//! The new process from its start to its service: takes rooms and viewers, and follows the old process.

use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::StartError;
use super::fault;
use super::figures::Figures;
use super::files::Files;
use super::greet::Handed;
use super::link::{AsyncLink, Heard};
use super::take::Taker;
use crate::clock::{self, Clock};
use crate::cluster::Cluster;
use crate::logging;
use crate::shard::command::Command;
use crate::shard::estate::Unfinished;
use crate::shard::gateway::Gateway;
use crate::supervisor;
use crate::takeover::messages::{Counts, New as Say, Old as Said, Report};
use crate::takeover::new::{Action, Event, New, Outcome, Step};
use uproar_proto::base::limits::{TAKE_OVER_SERVING_MAX, TAKE_OVER_SILENCE_MAX};

type Running = Pin<Box<dyn Future<Output = Result<Counts, String>>>>;

/// A new process whose shards run with closed doors.
pub(in crate::server) struct Follower {
    machine: New,
    link: AsyncLink,
    taker: Rc<Taker>,
    figures: Rc<Figures>,
    step: Option<Running>,
    // Descriptors of the message that begins a step.
    descriptors: Vec<OwnedFd>,
    deadline: Instant,
    is_closed: bool,
    report: Report,
    files: Rc<Files>,
}

impl Handed {
    /// Takes over while this process's shards run with closed doors. Returns when it serves; else this process ends,
    /// at once: what its threads hold is the old process's.
    pub(in crate::server) async fn take_over(
        self,
        (gateway, cluster): (&Gateway, Option<&Cluster>),
        clock: Clock,
        figures: &Rc<Figures>,
        files: Files,
    ) -> Follower {
        let followed = async {
            let mut follower = self.follower(gateway, clock, figures, files)?;
            follower.follow().await?;
            let taken = follower.files.take(gateway);
            taken.map_err(|error| StartError::TakeOver(format!("used tokens: {error}")))?;
            Ok(follower)
        };
        match followed.await {
            Ok(follower) => {
                gateway.tell_each(|| Command::Resume);
                if let Some(cluster) = cluster {
                    // Shards have their viewers: what is read from here on is theirs.
                    cluster.begin(follower.taker.logs());
                }
                follower
            }
            Err(error) => {
                let error: StartError = error;
                logging::print(&format!("uproar: {error}\n"));
                supervisor::give_up();
            }
        }
    }

    /// Tells the old process why this one does not start.
    pub(in crate::server) fn give_up(&self, error: &StartError) {
        let reason = error.to_string();
        let _gone = self.link.say(&Say::Failed { reason }, &[]);
    }

    fn follower(
        self,
        gateway: &Gateway,
        clock: Clock,
        figures: &Rc<Figures>,
        files: Files,
    ) -> Result<Follower, StartError> {
        files.share(self.beside);
        let link = self.link.into_async().map_err(StartError::Runtime)?;
        Ok(Follower {
            machine: self.machine,
            link,
            taker: Rc::new(Taker::new(
                gateway.clone(),
                clock,
                self.epoch_nanos,
                self.old.shards,
            )),
            figures: Rc::clone(figures),
            step: None,
            descriptors: Vec::new(),
            deadline: Instant::now() + TAKE_OVER_SILENCE_MAX,
            is_closed: false,
            report: Report::default(),
            files: Rc::new(files),
        })
    }
}

impl Follower {
    /// Returns when this process is to serve, and has said so.
    async fn follow(&mut self) -> Result<(), StartError> {
        let mut event = match fault::at("new.start.done") {
            Ok(()) => Event::Done(Counts::default()),
            Err(reason) => Event::Failed(reason),
        };
        loop {
            for action in self.machine.on(event) {
                match action {
                    Action::Say(said) => self.say(&said),
                    Action::Begin(Step::Serve) => {
                        return fault::at("new.serve").map_err(StartError::TakeOver);
                    }
                    Action::Begin(step) => self.begin(step),
                    Action::Await => self.deadline = Instant::now() + TAKE_OVER_SILENCE_MAX,
                    Action::Finish(Outcome::Exits(reason)) => {
                        return Err(StartError::TakeOver(reason));
                    }
                    Action::Finish(Outcome::Alone | Outcome::Serves) => {}
                }
            }
            event = self.next().await?;
        }
    }

    /// Takes what the old process's control thread had to do still.
    pub(in crate::server) fn unfinished(&self) -> Unfinished {
        self.taker.unfinished()
    }

    /// Tells the old process that this one serves, and sees to its end. Call when everything works: the operator is
    /// told then.
    pub(in crate::server) async fn serving(mut self) {
        let counts = self.taker.counts();
        let serving = Say::Serving {
            viewers: counts.viewers,
            at_nanos: clock::monotonic_micros() * 1000,
        };
        self.say(&serving);
        self.machine.on(Event::Done(counts));
        let (viewers, refused) = (counts.viewers, counts.refused);
        tracing::info!(viewers, refused, "taken over: this process serves");
        let Report {
            frozen_at_micros,
            phase_micros,
            not_carried,
        } = &self.report;
        for (phase, micros) in phase_micros {
            self.figures.phase(phase, Duration::from_micros(*micros));
        }
        if *frozen_at_micros > 0 {
            let pause = clock::monotonic_micros().saturating_sub(*frozen_at_micros);
            self.figures.phase("pause", Duration::from_micros(pause));
        }
        self.figures.taken_over(&self.taker.carried(), not_carried);
        if tokio::time::timeout(TAKE_OVER_SERVING_MAX, self.link.ended())
            .await
            .is_err()
        {
            // Connections end by FIN only when it holds none of them any more.
            tracing::warn!(
                "the old process has not ended within {TAKE_OVER_SERVING_MAX:?}: it is killed"
            );
            self.link.signal(rustix::process::Signal::KILL);
        }
    }

    fn say(&self, said: &Say) {
        // A peer that is gone is found by the next look.
        let _gone = self.link.say(said, &[]);
    }

    fn begin(&mut self, step: Step) {
        let (taker, files) = (Rc::clone(&self.taker), Rc::clone(&self.files));
        let descriptors = std::mem::take(&mut self.descriptors);
        let point = match step {
            Step::Start => "new.start",
            Step::Rooms => "new.rooms",
            Step::Viewers => "new.viewers",
            Step::Acknowledge => "new.acknowledge",
            Step::Serve => "new.serve",
        };
        if step == Step::Acknowledge {
            // Nothing may come between, so it is no task of its own.
            let said = fault::at(point).and_then(|()| {
                let said = self.link.say(&Say::Committed, &[]);
                said.map_err(|error| error.to_string())
            });
            let said = said.and_then(|()| fault::at("new.acknowledge.done"));
            self.step = Some(Box::pin(std::future::ready(
                said.map(|()| Counts::default()),
            )));
            return;
        }
        self.step = Some(Box::pin(async move {
            fault::at(point)?;
            let outcome = match step {
                Step::Rooms => taker.rooms(descriptors).map(|()| Counts::default()),
                Step::Viewers => match files.read() {
                    Ok(()) => taker.viewers(descriptors).await,
                    Err(error) => Err(format!("used tokens: {error}")),
                },
                Step::Start | Step::Acknowledge | Step::Serve => Ok(Counts::default()),
            };
            fault::at(&format!("{point}.done"))?;
            outcome
        }));
    }

    async fn next(&mut self) -> Result<Event, StartError> {
        let failed = |error: std::io::Error| StartError::TakeOver(error.to_string());
        tokio::select! {
            biased;
            heard = self.link.hear(), if !self.is_closed => match heard.map_err(failed)? {
                Heard::Message(said, descriptors) => {
                    if let Said::Commit(report) = &said {
                        self.report = report.clone();
                    }
                    self.descriptors = descriptors;
                    Ok(Event::Heard(said))
                }
                Heard::Foreign(text) => Err(StartError::TakeOver(format!("the old process said {text}"))),
                Heard::Closed => {
                    self.is_closed = true;
                    Box::pin(self.next()).await
                }
            },
            () = self.link.ended(), if self.is_closed && !self.machine.knows_end() => Ok(Event::Gone),
            done = poll(&mut self.step), if self.step.is_some() => {
                self.step = None;
                match done {
                    Ok(counts) => Ok(Event::Done(counts)),
                    Err(reason) => self.failed(reason).await,
                }
            }
            () = tokio::time::sleep_until(self.deadline) => {
                self.deadline = Instant::now() + TAKE_OVER_SILENCE_MAX;
                Ok(Event::Deadline)
            }
        }
    }

    /// A step fails when the old process dies: its end is looked for first, because it decides what follows.
    async fn failed(&mut self, reason: String) -> Result<Event, StartError> {
        let gone = async {
            while !matches!(self.link.hear::<Said>().await, Ok(Heard::Closed) | Err(_)) {}
            self.link.ended().await;
        };
        let gone = tokio::time::timeout(END_MAX, gone).await.is_ok();
        if gone && !self.machine.knows_end() {
            self.is_closed = true;
            self.step = Some(Box::pin(std::future::ready(Err(reason))));
            return Ok(Event::Gone);
        }
        Ok(Event::Failed(reason))
    }
}

async fn poll(step: &mut Option<Running>) -> Result<Counts, String> {
    match step {
        Some(step) => step.await,
        None => std::future::pending().await,
    }
}

/// From the first sign of the old process's end to its last.
const END_MAX: Duration = Duration::from_secs(2);
