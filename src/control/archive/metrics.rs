//! Figures of the archive, by kind of destination.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::control::record::Destination;

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// As in labels of metrics and in log lines.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }
    };
}

labels! {
    /// A kind of destination.
    Kind {
        /// Object storage.
        S3 = "s3",
        /// CloudWatch Logs.
        CloudWatch = "cloudwatch",
        /// Firehose.
        Firehose = "firehose",
    }
}

labels! {
    /// Why records are not delivered.
    Loss {
        /// The spool was full: the oldest were given up.
        SpoolFull = "spool_full",
        /// The spool could not be written.
        Disk = "disk",
        /// The spool's files were damaged.
        Damage = "damage",
        /// Undelivered for too long.
        Age = "age",
        /// The destination took the request but not these.
        Rejected = "rejected",
        /// The destination refuses every request that holds them.
        Refused = "refused",
        /// Their logging configuration was deleted.
        Deleted = "deleted",
    }
}

labels! {
    /// Why a delivery failed; it is repeated.
    Trouble {
        /// No connection, no answer.
        Unreachable = "unreachable",
        /// Credentials or permissions.
        AccessDenied = "access_denied",
        /// No such bucket, log group, stream.
        NotFound = "not_found",
        /// Asked to slow down.
        Throttled = "throttled",
        /// A local file or directory.
        Disk = "disk",
        /// An answer of success that does not say what was taken.
        Unreadable = "unreadable",
        /// A record that the destination names as at fault.
        Invalid = "invalid",
        /// Any other answer.
        Refused = "refused",
    }
}

impl Kind {
    /// Of a destination.
    pub fn of(destination: &Destination) -> Self {
        match destination {
            Destination::S3 { .. } => Self::S3,
            Destination::CloudWatchLogs { .. } => Self::CloudWatch,
            Destination::Firehose { .. } => Self::Firehose,
        }
    }
}

/// Figures of one kind.
#[derive(Debug, Default)]
struct Figures {
    spooled: AtomicU64,
    delivered: AtomicU64,
    lost: [AtomicU64; Loss::ALL.len()],
    troubles: [AtomicU64; Trouble::ALL.len()],
    spool_bytes: AtomicU64,
    backlog: AtomicU64,
    deliveries: AtomicU64,
    delivery_micros: AtomicU64,
}

/// Figures of all kinds: written by the archive, read by whoever renders `/metrics`.
#[derive(Debug, Default)]
pub struct ArchiveMetrics([Figures; Kind::ALL.len()]);

impl ArchiveMetrics {
    fn of(&self, kind: Kind) -> &Figures {
        &self.0[kind as usize]
    }

    pub(super) fn spooled(&self, kind: Kind, records: u64) {
        self.of(kind).spooled.fetch_add(records, Relaxed);
    }

    pub(super) fn delivered(&self, kind: Kind, records: u64) {
        self.of(kind).delivered.fetch_add(records, Relaxed);
    }

    pub(super) fn lost(&self, kind: Kind, loss: Loss, records: u64) {
        self.of(kind).lost[loss as usize].fetch_add(records, Relaxed);
    }

    pub(super) fn trouble(&self, kind: Kind, trouble: Trouble) {
        self.of(kind).troubles[trouble as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn delivery(&self, kind: Kind, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.of(kind).deliveries.fetch_add(1, Relaxed);
        self.of(kind).delivery_micros.fetch_add(micros, Relaxed);
    }

    /// Replaces one spool's share of the gauges: bytes on disk, records undelivered.
    pub(super) fn hold(&self, kind: Kind, before: (u64, u64), after: (u64, u64)) {
        let figures = self.of(kind);
        // One writer, and shares are taken back exactly: the sums do not go below zero.
        figures
            .spool_bytes
            .fetch_add(after.0.wrapping_sub(before.0), Relaxed);
        figures
            .backlog
            .fetch_add(after.1.wrapping_sub(before.1), Relaxed);
    }

    /// Appends everything in Prometheus' text format.
    pub fn render(&self, out: &mut String) {
        type Read = fn(&Figures) -> u64;
        let plain: [(&str, &str, &str, Read); 4] = [
            (
                "counter",
                "log_records_spooled_total",
                "Chat log records written to the spool.",
                |figures| figures.spooled.load(Relaxed),
            ),
            (
                "counter",
                "log_records_delivered_total",
                "Chat log records their destination took.",
                |figures| figures.delivered.load(Relaxed),
            ),
            (
                "gauge",
                "log_spool_bytes",
                "Bytes of chat log spools on disk.",
                |figures| figures.spool_bytes.load(Relaxed),
            ),
            (
                "gauge",
                "log_records_waiting",
                "Chat log records spooled and not yet delivered.",
                |figures| figures.backlog.load(Relaxed),
            ),
        ];
        for (kind, name, help, read) in plain {
            describe(out, kind, name, help);
            for kind in Kind::ALL {
                line(out, name, *kind, None, read(self.of(*kind)));
            }
        }
        let name = "log_records_dropped_total";
        describe(
            out,
            "counter",
            name,
            "Chat log records that were spooled and will not be delivered.",
        );
        for kind in Kind::ALL {
            for loss in Loss::ALL {
                let count = self.of(*kind).lost[*loss as usize].load(Relaxed);
                line(out, name, *kind, Some(loss.label()), count);
            }
        }
        let name = "log_delivery_errors_total";
        describe(
            out,
            "counter",
            name,
            "Deliveries of chat logs that failed and were repeated.",
        );
        for kind in Kind::ALL {
            for trouble in Trouble::ALL {
                let count = self.of(*kind).troubles[*trouble as usize].load(Relaxed);
                line(out, name, *kind, Some(trouble.label()), count);
            }
        }
        let name = "log_delivery_seconds";
        describe(
            out,
            "summary",
            name,
            "Duration of successful requests that deliver chat logs.",
        );
        for kind in Kind::ALL {
            let micros = Duration::from_micros(self.of(*kind).delivery_micros.load(Relaxed));
            let (label, seconds) = (kind.label(), micros.as_secs_f64());
            let _infallible = writeln!(
                out,
                "uproar_{name}_sum{{destination=\"{label}\"}} {seconds}"
            );
            line(
                out,
                "log_delivery_seconds_count",
                *kind,
                None,
                self.of(*kind).deliveries.load(Relaxed),
            );
        }
    }
}

fn describe(out: &mut String, kind: &str, name: &str, help: &str) {
    let _infallible = writeln!(
        out,
        "# HELP uproar_{name} {help}\n# TYPE uproar_{name} {kind}"
    );
}

fn line(out: &mut String, name: &str, kind: Kind, reason: Option<&str>, value: u64) {
    let reason = reason.map_or_else(String::new, |reason| format!(",reason=\"{reason}\""));
    let _infallible = writeln!(
        out,
        "uproar_{name}{{destination=\"{}\"{reason}}} {value}",
        kind.label()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every line has its kind, gauges go up and down, names are described once.
    #[test]
    fn figures_are_rendered_by_kind() {
        let metrics = ArchiveMetrics::default();
        metrics.spooled(Kind::S3, 3);
        metrics.lost(Kind::Firehose, Loss::Age, 2);
        metrics.trouble(Kind::CloudWatch, Trouble::NotFound);
        metrics.delivery(Kind::S3, Duration::from_millis(1500));
        metrics.hold(Kind::S3, (0, 0), (100, 3));
        metrics.hold(Kind::S3, (100, 3), (40, 1));
        let mut out = String::new();
        metrics.render(&mut out);
        for expected in [
            "uproar_log_records_spooled_total{destination=\"s3\"} 3",
            "uproar_log_records_dropped_total{destination=\"firehose\",reason=\"age\"} 2",
            "uproar_log_delivery_errors_total{destination=\"cloudwatch\",reason=\"not_found\"} 1",
            "uproar_log_delivery_seconds_sum{destination=\"s3\"} 1.5",
            "uproar_log_delivery_seconds_count{destination=\"s3\"} 1",
            "uproar_log_spool_bytes{destination=\"s3\"} 40",
            "uproar_log_records_waiting{destination=\"s3\"} 1",
        ] {
            assert!(
                out.lines().any(|line| line == expected),
                "{expected}\n{out}"
            );
        }
        let mut described: Vec<&str> = out
            .lines()
            .filter(|line| line.starts_with("# TYPE"))
            .collect();
        described.sort_unstable();
        let count = described.len();
        described.dedup();
        assert_eq!(described.len(), count);
    }
}
