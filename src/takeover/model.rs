//! Goal: whatever happens in which order, exactly one process serves, and the store has one owner. Method: visit every
//! state that two machines can reach over FIFO channels, where at each step a message arrives, a step ends or fails, a
//! deadline passes, an order to stop comes, or one of the processes is killed, stopped or continued.

use std::collections::{HashSet, VecDeque};

use super::messages::{Counts, FORMAT, Hello, New as FromNew, Old as FromOld, Report};
use super::{new, old};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Life {
    Runs,
    // By SIGSTOP.
    Stopped,
    // It ended by itself, or the other process killed it.
    Ended,
    // A fault of the test killed it.
    Killed,
}

impl Life {
    fn is_over(self) -> bool {
        matches!(self, Self::Ended | Self::Killed)
    }
}

/// Takes a change that leads to one of the next states.
type Then<'a> = &'a mut dyn FnMut(&dyn Fn(&mut World));

/// Both processes, and everything between them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that come in any order, not a state"
)]
struct World {
    old: old::Old,
    old_life: Life,
    old_step: Option<old::Step>,
    old_deadline: bool,
    old_told_gone: bool,
    // It takes no message any more, and whether the driver has reported that all were read.
    hung_up: bool,
    drained: bool,
    stop_sent: bool,
    // Whether viewers and rooms stand still in it; whether the store is its.
    frozen: bool,
    old_store: bool,
    old_outcome: Option<old::Outcome>,
    // Decided, and not done yet: the other process acts in between.
    old_todo: VecDeque<old::Action>,

    new: new::New,
    new_life: Life,
    new_step: Option<new::Step>,
    new_deadline: bool,
    new_told_gone: bool,
    new_store: bool,
    new_serves: bool,
    new_outcome: Option<new::Outcome>,
    new_todo: VecDeque<new::Action>,
    // `Committed` was said, and the old process listened.
    committed: bool,

    to_old: VecDeque<Note>,
    to_new: VecDeque<FromOld>,
    // Kills, stops and failed steps that are still to come.
    faults: u8,
}

/// What arrives at the old process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Note {
    Hello,
    Said(FromNew),
}

impl World {
    fn new(faults: u8) -> Self {
        Self {
            old: old::Old::serving(),
            old_life: Life::Runs,
            old_step: None,
            old_deadline: false,
            old_told_gone: false,
            hung_up: false,
            drained: false,
            stop_sent: false,
            frozen: false,
            old_store: true,
            old_outcome: None,
            old_todo: VecDeque::new(),
            new: new::New::greeted(),
            new_life: Life::Runs,
            new_step: None,
            new_deadline: true,
            new_told_gone: false,
            new_store: false,
            new_serves: false,
            new_outcome: None,
            new_todo: VecDeque::new(),
            committed: false,
            to_old: [Note::Hello].into(),
            to_new: VecDeque::new(),
            faults,
        }
    }

    fn say_to_old(&mut self, said: FromNew) {
        if !self.hung_up && !self.old_life.is_over() && self.old_outcome.is_none() {
            self.to_old.push_back(Note::Said(said));
        }
    }

    fn say_to_new(&mut self, said: FromOld) {
        if !self.new_life.is_over() {
            self.to_new.push_back(said);
        }
    }

    fn old_event(&mut self, event: old::Event) {
        let actions = self.old.on(event);
        self.old_todo.extend(actions);
    }

    fn old_act(&mut self, action: old::Action) {
        match action {
            old::Action::Welcome => self.say_to_new(welcome()),
            old::Action::Refuse(reason) => self.say_to_new(FromOld::Refused { reason }),
            old::Action::Begin(step) => {
                assert_eq!(self.old_step.replace(step), None, "one step at a time");
                match step {
                    old::Step::Freeze => self.frozen = true,
                    old::Step::Viewers => self.say_to_new(FromOld::Viewers),
                    old::Step::Load | old::Step::Rooms => {}
                }
            }
            old::Action::Within(_) => self.old_deadline = true,
            old::Action::Commit => {
                assert!(self.frozen && !self.old_store);
                self.say_to_new(FromOld::Commit(Report::default()));
            }
            old::Action::HangUp => self.hung_up = true,
            old::Action::Kill => {
                if !self.new_life.is_over() {
                    self.new_life = Life::Ended;
                }
            }
            old::Action::Undo => {
                assert!(self.new_life.is_over(), "the other may still act: {self:?}");
                assert!(!self.committed, "the other may have acted: {self:?}");
                assert_eq!(self.old_step, None);
                self.frozen = false;
                self.old_store = true;
            }
            old::Action::Finish(outcome) => {
                self.old_deadline = false;
                if let old::Outcome::TakenOver { .. } = outcome {
                    self.old_life = Life::Ended;
                }
                self.old_outcome = Some(outcome);
            }
        }
    }

    fn new_event(&mut self, event: new::Event) {
        let actions = self.new.on(event);
        self.new_todo.extend(actions);
    }

    fn new_act(&mut self, action: new::Action) {
        match action {
            new::Action::Say(said) => self.say_to_old(said),
            new::Action::Begin(step) => {
                assert_eq!(self.new_step.replace(step), None, "one step at a time");
                self.new_store |= step == new::Step::Start;
                self.new_serves |= step == new::Step::Serve;
            }
            new::Action::Await => self.new_deadline = true,
            new::Action::Finish(outcome) => {
                match outcome {
                    new::Outcome::Serves => {}
                    new::Outcome::Alone => (self.new_store, self.new_serves) = (true, true),
                    new::Outcome::Exits(ref reason) => {
                        let gave_up = self.new_told_gone && reason != STEP;
                        assert!(!gave_up, "nobody is left: {self:?}");
                        self.new_life = Life::Ended;
                    }
                }
                self.new_deadline = false;
                self.new_outcome = Some(outcome);
            }
        }
    }

    /// Every state that can be next.
    fn next(&self) -> Vec<Self> {
        let mut next = Vec::new();
        let mut then = |change: &dyn Fn(&mut Self)| {
            let mut world = self.clone();
            change(&mut world);
            world.check();
            next.push(world);
        };
        if self.old_life == Life::Runs && self.old_outcome.is_none() {
            self.old_moves(&mut then);
        }
        if self.new_life == Life::Runs && self.new_outcome.is_none() {
            self.new_moves(&mut then);
        }
        self.faults(&mut then);
        next
    }

    fn old_moves(&self, then: Then<'_>) {
        if !self.old_todo.is_empty() {
            return then(&|world| {
                let action = world.old_todo.pop_front().expect("it is not empty");
                world.old_act(action);
            });
        }
        if self.to_old.is_empty() {
            if self.hung_up && !self.drained {
                then(&|world| {
                    world.drained = true;
                    world.old_event(old::Event::Drained);
                });
            }
            if self.new_life.is_over() && !self.old_told_gone {
                then(&|world| world.old_event(old::Event::Closed));
                then(&|world| {
                    world.old_told_gone = true;
                    world.old_event(old::Event::Gone);
                });
            }
        } else {
            then(&|world| match world.to_old.pop_front() {
                Some(Note::Hello) => world.old_event(old::Event::Greeted { refusal: None }),
                Some(Note::Said(said)) => world.old_event(old::Event::Heard(said)),
                None => {}
            });
        }
        if self.old_deadline {
            then(&|world| {
                world.old_deadline = false;
                world.old_event(old::Event::Deadline);
            });
        }
        self.old_step_ends(then);
        if !self.stop_sent {
            then(&|world| {
                world.stop_sent = true;
                world.old_event(old::Event::Stop);
            });
        }
    }

    fn old_step_ends(&self, then: Then<'_>) {
        if let Some(step) = self.old_step {
            then(&|world| {
                world.old_step = None;
                match step {
                    old::Step::Load => {
                        world.old_store = false;
                        world.say_to_new(FromOld::Yours { names: Vec::new() });
                    }
                    old::Step::Rooms => world.say_to_new(FromOld::Rooms),
                    old::Step::Freeze | old::Step::Viewers => {}
                }
                world.old_event(old::Event::Done(VIEWERS));
            });
            if self.faults > 0 {
                then(&|world| {
                    world.old_step = None;
                    world.faults -= 1;
                    // It may fail behind what it did.
                    world.old_store &= step != old::Step::Load;
                    world.old_event(old::Event::Failed(STEP.to_owned()));
                });
            }
        }
    }

    fn new_moves(&self, then: Then<'_>) {
        if !self.new_todo.is_empty() {
            return then(&|world| {
                let action = world.new_todo.pop_front().expect("it is not empty");
                world.new_act(action);
            });
        }
        if self.new_deadline {
            then(&|world| {
                world.new_deadline = false;
                world.new_event(new::Event::Deadline);
            });
        }
        if !self.to_new.is_empty() {
            then(&|world| {
                let said = world.to_new.pop_front().expect("it is not empty");
                world.new_event(new::Event::Heard(said));
            });
        } else if self.old_life.is_over() && !self.new_told_gone {
            then(&|world| {
                world.new_told_gone = true;
                world.new_event(new::Event::Gone);
            });
        }
        let Some(step) = self.new_step else { return };
        let hears = !self.hung_up && !self.old_life.is_over();
        if step != new::Step::Acknowledge || hears {
            then(&|world| {
                world.new_step = None;
                if step == new::Step::Acknowledge {
                    world.say_to_old(FromNew::Committed);
                    world.committed = true;
                }
                world.new_event(new::Event::Done(Counts {
                    viewers: VIEWERS,
                    refused: 0,
                }));
            });
        }
        let fails = self.faults > 0 && step != new::Step::Acknowledge;
        if fails || (step == new::Step::Acknowledge && !hears) {
            then(&|world| {
                world.new_step = None;
                world.faults -= u8::from(fails);
                if fails && matches!(step, new::Step::Start | new::Step::Serve) {
                    // Nothing else could serve: the test counts it as killed.
                    let orphan = world.old_life.is_over() || step == new::Step::Serve;
                    world.new_event(new::Event::Failed(STEP.to_owned()));
                    if orphan {
                        world.new_life = Life::Killed;
                    }
                } else {
                    world.new_event(new::Event::Failed(STEP.to_owned()));
                }
            });
        }
    }

    fn faults(&self, then: Then<'_>) {
        for of_old in [true, false] {
            let life = move |world: &mut Self, life| {
                *(if of_old {
                    &mut world.old_life
                } else {
                    &mut world.new_life
                }) = life;
            };
            let now = if of_old { self.old_life } else { self.new_life };
            if now == Life::Stopped {
                then(&|world| life(world, Life::Runs));
            }
            if self.faults > 0 && !now.is_over() {
                then(&|world| {
                    world.faults -= 1;
                    life(world, Life::Killed);
                });
            }
            if self.faults > 0 && now == Life::Runs {
                then(&|world| {
                    world.faults -= 1;
                    life(world, Life::Stopped);
                });
            }
        }
    }

    /// What holds at every instant.
    fn check(&self) {
        let (old, new) = (!self.old_life.is_over(), !self.new_life.is_over());
        if old && new {
            let two = self.new_serves && !self.frozen;
            assert!(!two, "two servers: {self:?}");
            assert!(
                !(self.new_store && self.old_store),
                "two owners of the store: {self:?}"
            );
            assert!(
                !self.new_serves || self.committed,
                "it serves before it said so: {self:?}"
            );
        }
    }

    /// What holds when nothing can happen any more.
    fn check_end(&self) {
        let (old, new) = (!self.old_life.is_over(), !self.new_life.is_over());
        let old_serves = old && !self.frozen && self.old_store;
        let new_serves = new && self.new_serves && self.new_store;
        let killed = [self.old_life, self.new_life].contains(&Life::Killed);
        assert!(
            old_serves != new_serves || (killed && !old && !new),
            "nobody serves, or both: {self:?}"
        );
        assert!(
            self.old_outcome.is_some() || !old,
            "the old process waits: {self:?}"
        );
        assert!(
            self.new_outcome.is_some() || !new,
            "the new process waits: {self:?}"
        );
    }
}

const VIEWERS: u64 = 3;
/// Why a step fails.
const STEP: &str = "the disk is full";

fn welcome() -> FromOld {
    FromOld::Welcome {
        hello: Box::new(Hello {
            format: FORMAT,
            version: String::new(),
            uid: 0,
            lock: (0, 0),
            data_dir: "/".into(),
            region: String::new(),
            account: String::new(),
            shards: 1,
            schema: None,
            connections_max: None,
            node: None,
            features: [].into(),
        }),
        viewers: VIEWERS,
        epoch_nanos: 0,
    }
}

fn explore(faults: u8) -> (usize, HashSet<String>) {
    let start = World::new(faults);
    let (mut seen, mut open) = (HashSet::from([start.clone()]), vec![start]);
    let mut ends = HashSet::new();
    while let Some(world) = open.pop() {
        let next = world.next();
        // A kill is never needed to go on.
        let goes_on = next.iter().any(|next| next.faults == world.faults);
        if !goes_on {
            world.check_end();
            let outcome = world.old_outcome.as_ref();
            let outcome = outcome.map(|outcome| format!("{outcome:?}"));
            let word = outcome
                .as_deref()
                .and_then(|outcome| outcome.split([' ', '(']).next());
            ends.insert(word.unwrap_or("Killed").to_owned());
        }
        for world in next {
            if !seen.contains(&world) {
                seen.insert(world.clone());
                open.push(world);
            }
        }
    }
    (seen.len(), ends)
}

#[test]
fn exactly_one_process_serves_whatever_happens() {
    let (without, _) = explore(0);
    let (states, ends) = explore(2);
    assert!(
        states > 10 * without,
        "{states} states, {without} without faults"
    );
    let all = ["Killed", "Refused", "RolledBack", "TakenOver"].map(str::to_owned);
    assert_eq!(ends, HashSet::from(all));
}
