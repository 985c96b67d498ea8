//! The new process's side of a take-over: it follows, and serves only when it has said `Committed`, or when the old
//! process is gone for certain.

use super::messages::{Counts, New as Say, Old as Said};

/// What the driver does, one at a time; it reports [`Event::Done`] or [`Event::Failed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// Start on what was handed over: store, rooms, shards with closed doors.
    Start,
    /// Give the rooms' state to the shards.
    Rooms,
    /// Take viewers until the old process has sent all, or is gone.
    Viewers,
    /// Say `Committed`. It fails if the old process does not listen any more.
    Acknowledge,
    /// Read and write viewers, open the doors, say `Serving` to whoever listens.
    Serve,
}

/// What happens to the new process. The driver reports messages before anything else, and [`Event::Gone`] only when
/// all that the old process has said was reported.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// Any message.
    Heard(Said),
    /// The step is done; what [`Step::Viewers`] has counted.
    Done(Counts),
    /// The step failed, for this reason.
    Failed(String),
    /// The deadline of [`Action::Await`] has passed.
    Deadline,
    /// The old process has ended: its pidfd is readable, and so is the connection's end.
    Gone,
}

/// What the driver has to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Say this; whether it arrives does not matter.
    Say(Say),
    /// Begin a step.
    Begin(Step),
    /// Set the deadline for what the old process says next.
    Await,
    /// It is over.
    Finish(Outcome),
}

/// How a take-over ended for the new process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// It serves.
    Serves,
    /// The old process ended before it handed anything over: start as ever.
    Alone,
    /// It exits. The old process serves.
    Exits(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Hello,
    Welcome,
    Start,
    Rooms,
    Viewers,
    Commit,
    Serve,
    Over,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct New {
    phase: Phase,
    running: bool,
    // Whether the old process is gone.
    gone: bool,
}

impl New {
    /// Has said hello.
    pub(crate) fn greeted() -> Self {
        Self {
            phase: Phase::Hello,
            running: false,
            gone: false,
        }
    }

    /// Whether it was told that the old process has ended.
    pub(crate) fn knows_end(&self) -> bool {
        self.gone
    }

    /// Takes an event; returns what is to be done.
    pub(crate) fn on(&mut self, event: Event) -> Vec<Action> {
        if matches!(self.phase, Phase::Serve | Phase::Over) {
            return self.serving(event);
        }
        match event {
            Event::Heard(said) => self.hear(said),
            Event::Done(counts) => {
                self.running = false;
                self.done(counts)
            }
            Event::Failed(reason) => {
                self.running = false;
                self.failed(reason)
            }
            // Nobody else serves: a slow start is better than none.
            Event::Deadline if self.gone => Vec::new(),
            Event::Deadline => self.exit(format!(
                "the old process was silent in phase {:?}",
                self.phase
            )),
            Event::Gone => {
                self.gone = true;
                if matches!(self.phase, Phase::Hello | Phase::Welcome) {
                    self.phase = Phase::Over;
                    vec![Action::Finish(Outcome::Alone)]
                } else if self.running {
                    Vec::new()
                } else {
                    self.serve()
                }
            }
        }
    }

    fn hear(&mut self, said: Said) -> Vec<Action> {
        match (self.phase, said) {
            (Phase::Hello, Said::Welcome { .. }) => {
                self.phase = Phase::Welcome;
                Vec::new()
            }
            (Phase::Hello, Said::Refused { reason }) => self.exit(reason),
            (Phase::Welcome, Said::Yours { .. }) => self.begin(Phase::Start, Step::Start),
            (Phase::Start, Said::Rooms) if !self.running => self.begin(Phase::Rooms, Step::Rooms),
            (Phase::Rooms, Said::Viewers) if !self.running => {
                self.begin(Phase::Viewers, Step::Viewers)
            }
            (Phase::Viewers, Said::Commit(_)) if !self.running => {
                self.begin(Phase::Commit, Step::Acknowledge)
            }
            (_, said) => self.exit(format!(
                "the old process said {said:?} in phase {:?}",
                self.phase
            )),
        }
    }

    fn done(&mut self, counts: Counts) -> Vec<Action> {
        let said = match self.phase {
            Phase::Commit => return self.serve(),
            _ if self.gone => return self.serve(),
            Phase::Start => Say::Loaded,
            Phase::Rooms => Say::RoomsLoaded,
            Phase::Viewers => Say::Prepared(counts),
            Phase::Hello | Phase::Welcome | Phase::Serve | Phase::Over => return Vec::new(),
        };
        vec![Action::Say(said), Action::Await]
    }

    fn failed(&mut self, reason: String) -> Vec<Action> {
        let installs = matches!(self.phase, Phase::Rooms | Phase::Viewers | Phase::Commit);
        if installs && self.gone {
            // Nobody else serves; what has arrived stays.
            return self.serve();
        }
        if self.phase == Phase::Commit {
            // The old process does not listen: it is gone, or about to end this one.
            return Vec::new();
        }
        let said = Say::Failed {
            reason: reason.clone(),
        };
        let mut actions = vec![Action::Say(said)];
        actions.extend(self.exit(reason));
        actions
    }

    fn begin(&mut self, phase: Phase, step: Step) -> Vec<Action> {
        self.phase = phase;
        self.running = true;
        vec![Action::Await, Action::Begin(step)]
    }

    fn serve(&mut self) -> Vec<Action> {
        self.phase = Phase::Serve;
        vec![Action::Begin(Step::Serve)]
    }

    fn serving(&mut self, event: Event) -> Vec<Action> {
        let outcome = match (self.phase, event) {
            (Phase::Serve, Event::Done(_)) => Outcome::Serves,
            (Phase::Serve, Event::Failed(reason)) => Outcome::Exits(reason),
            _ => return Vec::new(),
        };
        self.phase = Phase::Over;
        vec![Action::Finish(outcome)]
    }

    fn exit(&mut self, reason: String) -> Vec<Action> {
        self.phase = Phase::Over;
        vec![Action::Finish(Outcome::Exits(reason))]
    }
}
