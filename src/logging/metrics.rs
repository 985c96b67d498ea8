//! Metrics of log lines.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Kind, start};

/// Suppressed lines by kind. Shared by all threads: a refusal costs far more than this count.
pub(super) static SUPPRESSED: Suppressed = Suppressed([const { AtomicU64::new(0) }; Kind::COUNT]);

pub(super) struct Suppressed([AtomicU64; Kind::COUNT]);

impl Suppressed {
    pub(super) fn inc(&self, kind: Kind) {
        self.0[kind as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Appends lost and suppressed lines in Prometheus' text format.
pub fn render(out: &mut String) {
    let lost = start::lost();
    let _infallible = write!(
        out,
        "# HELP uproar_log_lost_lines_total Log lines that could not be written.\n\
         # TYPE uproar_log_lost_lines_total counter\n\
         uproar_log_lost_lines_total {lost}\n\
         # HELP uproar_log_suppressed_total Log lines left out because their kind was said less than a second before.\n\
         # TYPE uproar_log_suppressed_total counter\n"
    );
    for (kind, count) in Kind::ALL.iter().zip(&SUPPRESSED.0) {
        let (kind, count) = (kind.label(), count.load(Ordering::Relaxed));
        let _infallible = writeln!(
            out,
            "uproar_log_suppressed_total{{kind=\"{kind}\"}} {count}"
        );
    }
}
