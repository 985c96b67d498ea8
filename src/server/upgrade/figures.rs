//! Metrics of take-overs: results, the last one's times, and viewers carried over.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::exposition::{Exposition, Family};
use crate::shard::estate::{Carried, NotCarried};

/// How a take-over ended, for this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It took over.
    TakenOver,
    /// It refused another.
    Refused,
    /// It serves on after a fault.
    RolledBack,
}

/// Phases whose times are told; `pause` is the time in which viewers are not served.
const PHASES: [&str; 4] = ["load", "freeze", "export", "pause"];

const TAKE_OVERS: Family = Family::counter(
    "uproar_takeovers_total",
    "Take-overs by a new process, by their result for this process.",
);
const SECONDS: Family = Family::gauge(
    "uproar_takeover_seconds",
    "Time of each phase of the last take-over that this process took part in.",
);
const CARRIED: Family = Family::counter(
    "uproar_connections_taken_over_total",
    "Viewers that this process took over from the one before it.",
);
const NOT_CARRIED: Family = Family::counter(
    "uproar_connections_not_taken_over_total",
    "Viewers of the process before it whose connections ended instead, by reason.",
);

/// The counters; on the control thread only.
#[derive(Debug, Default)]
pub(in crate::server) struct Figures {
    endings: Cell<[u64; 3]>,
    seconds: RefCell<BTreeMap<String, Duration>>,
    carried: Cell<u64>,
    not_carried: RefCell<BTreeMap<String, u64>>,
}

impl Figures {
    pub(super) fn ended(&self, ending: Ending) {
        let mut counts = self.endings.get();
        let index = match ending {
            Ending::TakenOver => 0,
            Ending::Refused => 1,
            Ending::RolledBack => 2,
        };
        counts[index] += 1;
        self.endings.set(counts);
    }

    pub(super) fn phase(&self, phase: &str, took: Duration) {
        self.seconds.borrow_mut().insert(phase.to_owned(), took);
    }

    /// Notes what this process has taken over, and what the old one could not carry.
    pub(super) fn taken_over(&self, carried: &Carried, left_behind: &BTreeMap<String, u64>) {
        self.ended(Ending::TakenOver);
        self.carried.set(self.carried.get() + carried.viewers);
        let mut not_carried = self.not_carried.borrow_mut();
        for (reason, count) in carried.not_carried() {
            *not_carried.entry(reason.label().to_owned()).or_default() += count;
        }
        for (reason, count) in left_behind {
            *not_carried.entry(reason.clone()).or_default() += count;
        }
    }

    /// Counts of results, and seconds of the last one's phases.
    pub(in crate::server) fn summary(&self) -> Value {
        let [taken_over, refused, rolled_back] = self.endings.get();
        let seconds = self.seconds.borrow();
        let pause = seconds.get("pause").map(Duration::as_secs_f64);
        json!({
            "taken_over": taken_over,
            "refused": refused,
            "rolled_back": rolled_back,
            "pause_s": pause,
            "carried": self.carried.get(),
        })
    }

    /// Adds them to `/metrics`.
    pub(in crate::server) fn render(&self, page: &mut Exposition) {
        let results = ["taken_over", "refused", "rolled_back"];
        let mut series = page.family(&TAKE_OVERS);
        for (result, count) in results.iter().zip(self.endings.get()) {
            series.add(&[("result", result)], count);
        }
        let mut series = page.family(&SECONDS);
        let seconds = self.seconds.borrow();
        for phase in PHASES {
            let took = seconds.get(phase).copied().unwrap_or_default();
            series.add(&[("phase", phase)], took.as_secs_f64());
        }
        page.single(&CARRIED, self.carried.get());
        let mut series = page.family(&NOT_CARRIED);
        let not_carried = self.not_carried.borrow();
        for reason in NotCarried::ALL.map(NotCarried::label) {
            let count = not_carried.get(reason).copied().unwrap_or(0);
            series.add(&[("reason", reason)], count);
        }
    }
}
