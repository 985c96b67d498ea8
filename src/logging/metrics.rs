//! Metrics of log lines.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Kind, start};
use crate::exposition::{Exposition, Family};

const LOST: Family = Family::counter(
    "uproar_log_lost_lines_total",
    "Log lines that could not be written.",
);
const LEFT_OUT: Family = Family::counter(
    "uproar_log_suppressed_total",
    "Log lines left out because a line of their kind was written less than a second before.",
);

/// Suppressed lines by kind. Shared by all threads: a refusal costs far more than this count.
pub(super) static SUPPRESSED: Suppressed = Suppressed([const { AtomicU64::new(0) }; Kind::COUNT]);

pub(super) struct Suppressed([AtomicU64; Kind::COUNT]);

impl Suppressed {
    pub(super) fn inc(&self, kind: Kind) {
        self.0[kind.index()].fetch_add(1, Ordering::Relaxed);
    }
}

/// Adds lost and suppressed lines to `/metrics`.
pub(crate) fn render(page: &mut Exposition) {
    page.single(&LOST, start::lost());
    let mut left_out = page.family(&LEFT_OUT);
    for (kind, count) in Kind::ALL.iter().zip(&SUPPRESSED.0) {
        left_out.add(&[("kind", kind.label())], count.load(Ordering::Relaxed));
    }
}
