//! A failing disk and a stopping machine, for tests: on the test's own thread, operation by operation.

use std::cell::RefCell;
use std::io;

/// The fate of the operations that follow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Numbers of the operations that fail, counted from 0.
    pub fails: Vec<usize>,
    /// Whether a failing operation still takes effect.
    pub late: bool,
    /// From this operation on nothing takes effect: the process is killed.
    pub killed: Option<usize>,
}

#[derive(Debug)]
struct Running {
    plan: Plan,
    operations: Vec<String>,
}

thread_local!(static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) });

/// Runs `act` under `plan`; returns its result and the operations.
pub(crate) fn under<T>(plan: Plan, act: impl FnOnce() -> T) -> (T, Vec<String>) {
    let operations = Vec::new();
    RUNNING.set(Some(Running { plan, operations }));
    let outcome = act();
    let running = RUNNING.take().expect("set above");
    (outcome, running.operations)
}

/// Every plan for this many operations: each fails alone, and each pair with any gap, before or after it took
/// effect; a kill before each.
pub(crate) fn plans(operations: usize) -> impl Iterator<Item = Plan> {
    let failing = (0..operations).flat_map(move |first| {
        (first..operations).flat_map(move |second| {
            [false, true].map(|late| Plan {
                fails: vec![first, second],
                late,
                killed: None,
            })
        })
    });
    let killed = (0..=operations).map(|at| Plan {
        killed: Some(at),
        ..Plan::default()
    });
    failing.chain(killed)
}

pub(super) fn attempt<T>(operation: &str, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let verdict = RUNNING.with_borrow_mut(|running| {
        let Some(running) = running else {
            return (false, false);
        };
        let number = running.operations.len();
        running.operations.push(operation.to_owned());
        let dead = running.plan.killed.is_some_and(|at| number >= at);
        let fails = running.plan.fails.contains(&number);
        (dead || fails, dead || !running.plan.late)
    });
    match verdict {
        (false, _) => act(),
        (true, without_effect) => {
            if !without_effect {
                drop(act()?);
            }
            Err(io::Error::other(format!(
                "the test's disk refuses: {operation}"
            )))
        }
    }
}

/// A directory of the test's own, removed at the end.
#[derive(Debug)]
pub(crate) struct Scratch(pub(crate) std::path::PathBuf);

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Scratch {
    /// A new, empty one.
    pub(crate) fn new() -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("uproar-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _absent = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    /// Its file names, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("a directory").flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().into_string().expect("text"))
            .collect();
        names.sort_unstable();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _best_effort = std::fs::remove_dir_all(&self.0);
    }
}
