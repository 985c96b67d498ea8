//! Metrics of the archive, by kind of destination.

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

            /// The label in metrics and log lines.
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
    DropReason {
        /// The spool was full and dropped its oldest.
        SpoolFull = "spool_full",
        /// The spool could not be written.
        Disk = "disk",
        /// The spool's files were damaged.
        Damage = "damage",
        /// They were undelivered for too long.
        Age = "age",
        /// The destination accepted the request but not these records.
        Rejected = "rejected",
        /// The destination refuses every request that holds them.
        Refused = "refused",
        /// Their logging configuration was deleted.
        Deleted = "deleted",
    }
}

labels! {
    /// Why a delivery failed; it is repeated.
    DeliveryError {
        /// No connection, no answer.
        Unreachable = "unreachable",
        /// Credentials or permissions.
        AccessDenied = "access_denied",
        /// No such bucket, log group, stream.
        NotFound = "not_found",
        /// The destination asked to slow down.
        Throttled = "throttled",
        /// A local file or directory failed.
        Disk = "disk",
        /// A success answer that does not say which records were accepted.
        Unreadable = "unreadable",
        /// The destination names a record as at fault.
        Invalid = "invalid",
        /// Any other answer.
        Refused = "refused",
    }
}

impl Kind {
    /// The kind of a destination.
    pub fn of(destination: &Destination) -> Self {
        match destination {
            Destination::S3 { .. } => Self::S3,
            Destination::CloudWatchLogs { .. } => Self::CloudWatch,
            Destination::Firehose { .. } => Self::Firehose,
        }
    }
}

/// Counters of one kind.
#[derive(Debug, Default)]
struct KindMetrics {
    spooled: AtomicU64,
    delivered: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
    delivery_errors: [AtomicU64; DeliveryError::ALL.len()],
    spool_bytes: AtomicU64,
    backlog: AtomicU64,
    deliveries: AtomicU64,
    delivery_micros: AtomicU64,
}

/// Counters of all kinds: the archive writes them, `/metrics` reads them.
#[derive(Debug, Default)]
pub struct ArchiveMetrics([KindMetrics; Kind::ALL.len()]);

impl ArchiveMetrics {
    fn of(&self, kind: Kind) -> &KindMetrics {
        &self.0[kind as usize]
    }

    pub(super) fn spooled(&self, kind: Kind, records: u64) {
        self.of(kind).spooled.fetch_add(records, Relaxed);
    }

    pub(super) fn delivered(&self, kind: Kind, records: u64) {
        self.of(kind).delivered.fetch_add(records, Relaxed);
    }

    pub(super) fn dropped(&self, kind: Kind, reason: DropReason, records: u64) {
        self.of(kind).dropped[reason as usize].fetch_add(records, Relaxed);
    }

    pub(super) fn delivery_error(&self, kind: Kind, error: DeliveryError) {
        self.of(kind).delivery_errors[error as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn delivery(&self, kind: Kind, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.of(kind).deliveries.fetch_add(1, Relaxed);
        self.of(kind).delivery_micros.fetch_add(micros, Relaxed);
    }

    /// Replaces one spool's share of the gauges: bytes on disk, records undelivered.
    pub(super) fn hold(&self, kind: Kind, before: (u64, u64), after: (u64, u64)) {
        let metrics = self.of(kind);
        // There is one writer, and it subtracts exactly what it added: the sums never go below zero.
        metrics
            .spool_bytes
            .fetch_add(after.0.wrapping_sub(before.0), Relaxed);
        metrics
            .backlog
            .fetch_add(after.1.wrapping_sub(before.1), Relaxed);
    }

    /// Appends everything in Prometheus' text format.
    pub fn render(&self, out: &mut String) {
        type Read = fn(&KindMetrics) -> u64;
        let plain: [(&str, &str, &str, Read); 4] = [
            (
                "counter",
                "log_records_spooled_total",
                "Chat log records written to the spool.",
                |metrics| metrics.spooled.load(Relaxed),
            ),
            (
                "counter",
                "log_records_delivered_total",
                "Chat log records their destination took.",
                |metrics| metrics.delivered.load(Relaxed),
            ),
            (
                "gauge",
                "log_spool_bytes",
                "Bytes of chat log spools on disk.",
                |metrics| metrics.spool_bytes.load(Relaxed),
            ),
            (
                "gauge",
                "log_records_waiting",
                "Chat log records spooled and not yet delivered.",
                |metrics| metrics.backlog.load(Relaxed),
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
            for reason in DropReason::ALL {
                let count = self.of(*kind).dropped[*reason as usize].load(Relaxed);
                line(out, name, *kind, Some(reason.label()), count);
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
            for error in DeliveryError::ALL {
                let count = self.of(*kind).delivery_errors[*error as usize].load(Relaxed);
                line(out, name, *kind, Some(error.label()), count);
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

    /// Goal: every metric has its kind, gauges rise and fall, and each name is described once.
    #[test]
    fn metrics_are_rendered_by_kind() {
        let metrics = ArchiveMetrics::default();
        metrics.spooled(Kind::S3, 3);
        metrics.dropped(Kind::Firehose, DropReason::Age, 2);
        metrics.delivery_error(Kind::CloudWatch, DeliveryError::NotFound);
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
