//! The old process's side of a take-over: it leads, and takes everything back at any fault before the new process
//! has said `Committed`.

use super::messages::{Counts, New};

/// What the driver does, one at a time; it reports [`Event::Done`] or [`Event::Failed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// Finish the API's calls, close the store, say `Yours`.
    Load,
    /// Close the doors, and stop every shard between two messages.
    Freeze,
    /// Collect the rooms' state, say `Rooms`.
    Rooms,
    /// Say `Viewers`, and send each shard's.
    Viewers,
}

/// What happens to the old process. The driver reports messages before anything else, and [`Event::Gone`] only when
/// all that the new process has said was reported.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// The hello came, and this is why it is refused, if it is.
    Greeted {
        /// The reason, with its next step.
        refusal: Option<String>,
    },
    /// Any later message.
    Heard(New),
    /// The step is done; viewers sent by [`Step::Viewers`], 0 by the others.
    Done(u64),
    /// The step failed, for this reason.
    Failed(String),
    /// The deadline of [`Action::Within`] has passed.
    Deadline,
    /// The new process has closed the connection.
    Closed,
    /// After [`Action::HangUp`]: nothing can arrive any more, and all that did was reported.
    Drained,
    /// The new process has ended.
    Gone,
    /// This server was told to stop.
    Stop,
}

/// How long the driver waits before [`Event::Deadline`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Limit {
    /// For the API's calls and the new process's start.
    Load,
    /// From the freeze to `Committed`: viewers wait.
    Pause,
    /// From `Committed` to `Serving`, which is told to the operator.
    Serving,
}

/// What the driver has to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Say `Welcome`.
    Welcome,
    /// Say `Refused`, with the reason.
    Refuse(String),
    /// Begin a step.
    Begin(Step),
    /// Set the deadline.
    Within(Limit),
    /// Say `Commit`.
    Commit,
    /// Take no further message: what the new process says from now on fails there.
    HangUp,
    /// Kill the new process.
    Kill,
    /// Take back what the steps have done, from the last to the first.
    Undo,
    /// It is over.
    Finish(Outcome),
}

/// How a take-over ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// Nothing has happened.
    Refused(String),
    /// This process serves as before.
    RolledBack(String),
    /// The new process serves; this one exits at once and touches nothing.
    TakenOver {
        /// What it said about it: viewers and the instant; `None` if it was not heard in time.
        serving: Option<(u64, u64)>,
        /// This server was told to stop meanwhile: that order is the new process's.
        stop: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Hello,
    Load,
    Freeze,
    Rooms,
    Viewers,
    Commit,
    Committed,
    RollBack,
    Over,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that come in any order, not a state"
)]
pub(crate) struct Old {
    phase: Phase,
    // Whether a step is running, also one that a fault has overtaken.
    running: bool,
    // Whether the phase's answer was heard; the freeze has none.
    heard: bool,
    // Viewers sent, and what the new process made of them.
    sent: u64,
    prepared: Counts,
    // Whether `Commit` was said: from then on only `Committed` tells who serves.
    committing: bool,
    // In a roll back: why, and whether the new process has ended.
    reason: String,
    gone: bool,
    stop: bool,
}

impl Old {
    /// Waits for the hello.
    pub(crate) fn serving() -> Self {
        Self {
            phase: Phase::Hello,
            running: false,
            heard: false,
            sent: 0,
            prepared: Counts::default(),
            committing: false,
            reason: String::new(),
            gone: false,
            stop: false,
        }
    }

    /// The phase's name, for log lines and metrics.
    pub(crate) fn phase(&self) -> &'static str {
        match self.phase {
            Phase::Hello => "prepare",
            Phase::Load => "load",
            Phase::Freeze => "freeze",
            Phase::Rooms | Phase::Viewers => "export",
            Phase::Commit | Phase::Committed => "commit",
            Phase::RollBack => "roll_back",
            Phase::Over => "over",
        }
    }

    /// Takes an event; returns what is to be done.
    pub(crate) fn on(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Greeted { refusal } => self.greeted(refusal),
            Event::Heard(said) => self.hear(said),
            Event::Done(count) => {
                self.running = false;
                if self.phase == Phase::Viewers {
                    self.sent = count;
                }
                self.proceed()
            }
            Event::Failed(reason) => {
                self.running = false;
                self.fault(reason)
            }
            Event::Deadline => self.fault(format!("phase {} took too long", self.phase())),
            Event::Closed => self.fault("the new process closed the connection".to_owned()),
            Event::Drained if self.phase == Phase::RollBack => vec![Action::Kill],
            Event::Drained => Vec::new(),
            Event::Gone => {
                self.gone = true;
                self.fault("the new process ended".to_owned())
            }
            Event::Stop => {
                self.stop = true;
                // Once `Commit` was said, the new process may serve: the order will be its.
                if self.committing {
                    return Vec::new();
                }
                self.fault("this server was told to stop".to_owned())
            }
        }
    }

    fn greeted(&mut self, refusal: Option<String>) -> Vec<Action> {
        match refusal {
            None if self.phase == Phase::Hello => {
                self.enter(Phase::Load, Some(Step::Load));
                vec![
                    Action::Welcome,
                    Action::Within(Limit::Load),
                    Action::Begin(Step::Load),
                ]
            }
            Some(reason) if self.phase == Phase::Hello => {
                self.phase = Phase::Over;
                vec![
                    Action::Refuse(reason.clone()),
                    Action::Finish(Outcome::Refused(reason)),
                ]
            }
            _ => self.fault("it greeted twice".to_owned()),
        }
    }

    fn hear(&mut self, said: New) -> Vec<Action> {
        match (self.phase, said) {
            (Phase::Load, New::Loaded) | (Phase::Rooms, New::RoomsLoaded) => {
                self.heard = true;
                self.proceed()
            }
            (Phase::Viewers, New::Prepared(counts)) => {
                self.heard = true;
                self.prepared = counts;
                self.proceed()
            }
            (Phase::Commit, New::Committed) => {
                self.phase = Phase::Committed;
                vec![Action::Within(Limit::Serving)]
            }
            // It was said before the driver hung up: the new process serves.
            (Phase::RollBack, New::Committed) if self.committing => self.taken_over(None),
            (Phase::Committed, New::Serving { viewers, at_nanos }) => {
                self.taken_over(Some((viewers, at_nanos)))
            }
            (_, New::Failed { reason }) => self.fault(reason),
            (_, said) => self.fault(format!("it said {said:?} in phase {}", self.phase())),
        }
    }

    /// Goes on to the next phase once this one's step is done and its answer was heard.
    fn proceed(&mut self) -> Vec<Action> {
        let (phase, step) = match self.phase {
            Phase::RollBack => return self.roll_back(),
            _ if self.running || !self.heard => return Vec::new(),
            Phase::Load => (Phase::Freeze, Step::Freeze),
            Phase::Freeze => (Phase::Rooms, Step::Rooms),
            Phase::Rooms => (Phase::Viewers, Step::Viewers),
            Phase::Viewers => return self.compare(),
            Phase::Hello | Phase::Commit | Phase::Committed | Phase::Over => return Vec::new(),
        };
        self.enter(phase, Some(step));
        let pause = (phase == Phase::Freeze).then_some(Action::Within(Limit::Pause));
        pause.into_iter().chain([Action::Begin(step)]).collect()
    }

    /// Commits if the new process has every viewer that was sent, or said that it refused it.
    fn compare(&mut self) -> Vec<Action> {
        let (sent, Counts { viewers, refused }) = (self.sent, self.prepared);
        if viewers + refused != sent {
            return self.fault(format!(
                "{sent} viewers were sent, and the new process has {viewers} and refused {refused}"
            ));
        }
        self.enter(Phase::Commit, None);
        self.committing = true;
        vec![Action::Commit]
    }

    fn enter(&mut self, phase: Phase, step: Option<Step>) {
        self.running = step.is_some();
        self.heard = phase == Phase::Freeze;
        self.phase = phase;
    }

    /// What to do about a fault, or the end of what waits for it.
    fn fault(&mut self, reason: String) -> Vec<Action> {
        match self.phase {
            Phase::Hello => {
                self.phase = Phase::Over;
                vec![Action::Finish(Outcome::Refused(reason))]
            }
            Phase::Committed => self.taken_over(None),
            Phase::RollBack => self.roll_back(),
            Phase::Over => Vec::new(),
            Phase::Load | Phase::Freeze | Phase::Rooms | Phase::Viewers | Phase::Commit => {
                self.phase = Phase::RollBack;
                self.reason = reason;
                let mut actions = vec![Action::HangUp];
                actions.extend(self.roll_back());
                actions
            }
        }
    }

    /// Takes everything back when nothing runs any more, here and there.
    fn roll_back(&mut self) -> Vec<Action> {
        if self.running || !self.gone {
            return Vec::new();
        }
        self.phase = Phase::Over;
        let reason = std::mem::take(&mut self.reason);
        vec![Action::Undo, Action::Finish(Outcome::RolledBack(reason))]
    }

    fn taken_over(&mut self, serving: Option<(u64, u64)>) -> Vec<Action> {
        self.phase = Phase::Over;
        let stop = self.stop;
        vec![Action::Finish(Outcome::TakenOver { serving, stop })]
    }
}
