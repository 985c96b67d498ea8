//! Metrics of the archive, by kind of destination.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::{Value, json};

use crate::control::record::Destination;
use crate::exposition::{Exposition, Family};

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its position in `ALL`, and in an array with one entry for each.
            #[expect(clippy::as_conversions, reason = "the variants are counted from 0")]
            const fn index(self) -> usize {
                self as usize
            }

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
    // Records.
    spooled: AtomicU64,
    delivered: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
    // Requests that failed.
    delivery_errors: [AtomicU64; DeliveryError::ALL.len()],
    // Bytes and undelivered records of the kind's spools; the sum of its sinks' shares.
    spool_bytes: AtomicU64,
    backlog: AtomicU64,
    // Requests that succeeded, and their total duration.
    deliveries: AtomicU64,
    delivery_micros: AtomicU64,
}

/// Counters of all kinds: the archive writes them, `/metrics` reads them.
#[derive(Debug, Default)]
pub struct ArchiveMetrics([KindMetrics; Kind::ALL.len()]);

impl ArchiveMetrics {
    fn of(&self, kind: Kind) -> &KindMetrics {
        &self.0[kind.index()]
    }

    /// What was done for each kind of destination that had any record, and what waits.
    pub fn summary(&self) -> Value {
        let kinds = Kind::ALL.iter().map(|kind| {
            let own = self.of(*kind);
            let sum = |counts: &[AtomicU64]| -> u64 {
                counts.iter().map(|count| count.load(Relaxed)).sum()
            };
            json!({
                "kind": kind.label(),
                "spooled": own.spooled.load(Relaxed),
                "delivered": own.delivered.load(Relaxed),
                "dropped": sum(&own.dropped),
                "errors": sum(&own.delivery_errors),
                "backlog": own.backlog.load(Relaxed),
                "spool_bytes": own.spool_bytes.load(Relaxed),
            })
        });
        kinds.collect()
    }

    pub(super) fn spooled(&self, kind: Kind, records: u64) {
        self.of(kind).spooled.fetch_add(records, Relaxed);
    }

    pub(super) fn delivered(&self, kind: Kind, records: u64) {
        self.of(kind).delivered.fetch_add(records, Relaxed);
    }

    pub(super) fn dropped(&self, kind: Kind, reason: DropReason, records: u64) {
        self.of(kind).dropped[reason.index()].fetch_add(records, Relaxed);
    }

    pub(super) fn delivery_error(&self, kind: Kind, error: DeliveryError) {
        self.of(kind).delivery_errors[error.index()].fetch_add(1, Relaxed);
    }

    pub(super) fn delivery(&self, kind: Kind, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.of(kind).deliveries.fetch_add(1, Relaxed);
        self.of(kind).delivery_micros.fetch_add(micros, Relaxed);
    }

    /// Replaces one spool's share of the gauges: bytes on disk, records undelivered.
    pub(super) fn hold(&self, kind: Kind, before: (u64, u64), after: (u64, u64)) {
        let metrics = self.of(kind);
        // There is one writer, and it subtracts exactly what it added: the sums never go below
        // zero.
        metrics
            .spool_bytes
            .fetch_add(after.0.wrapping_sub(before.0), Relaxed);
        metrics
            .backlog
            .fetch_add(after.1.wrapping_sub(before.1), Relaxed);
    }

    /// Adds everything to `/metrics`.
    pub fn render(&self, page: &mut Exposition) {
        type Read = fn(&KindMetrics) -> &AtomicU64;
        let plain: [(&Family, Read); 4] = [
            (&SPOOLED, |metrics| &metrics.spooled),
            (&DELIVERED, |metrics| &metrics.delivered),
            (&SPOOL_BYTES, |metrics| &metrics.spool_bytes),
            (&WAITING, |metrics| &metrics.backlog),
        ];
        for (family, read) in plain {
            let mut series = page.family(family);
            for kind in Kind::ALL {
                let labels = [("destination", kind.label())];
                series.add(&labels, read(self.of(*kind)).load(Relaxed));
            }
        }
        let reasons = DropReason::ALL.iter().map(|reason| reason.label());
        self.render_by_reason(page, &DROPPED, reasons, |metrics| &metrics.dropped);
        let errors = DeliveryError::ALL.iter().map(|error| error.label());
        self.render_by_reason(page, &ERRORS, errors, |metrics| &metrics.delivery_errors);
        let mut durations = page.family(&DURATIONS);
        for kind in Kind::ALL {
            let metrics = self.of(*kind);
            let sum = Duration::from_micros(metrics.delivery_micros.load(Relaxed));
            let labels = [("destination", kind.label())];
            durations.summary(&labels, sum.as_secs_f64(), metrics.deliveries.load(Relaxed));
        }
    }

    /// Adds the counters that `read` returns, one for each of `reasons`, in their order.
    fn render_by_reason<const N: usize>(
        &self,
        page: &mut Exposition,
        family: &Family,
        reasons: impl Iterator<Item = &'static str> + Clone,
        read: fn(&KindMetrics) -> &[AtomicU64; N],
    ) {
        let mut series = page.family(family);
        for kind in Kind::ALL {
            for (reason, count) in reasons.clone().zip(read(self.of(*kind))) {
                let labels = [("destination", kind.label()), ("reason", reason)];
                series.add(&labels, count.load(Relaxed));
            }
        }
    }
}

const SPOOLED: Family = Family::counter(
    "uproar_log_records_spooled_total",
    "Chat log records written to the spool.",
);
const DELIVERED: Family = Family::counter(
    "uproar_log_records_delivered_total",
    "Chat log records that their destination accepted.",
);
const SPOOL_BYTES: Family = Family::gauge(
    "uproar_log_spool_bytes",
    "Chat log spools on disk, in bytes.",
);
const WAITING: Family = Family::gauge(
    "uproar_log_records_waiting",
    "Chat log records that are spooled and not delivered.",
);
const DROPPED: Family = Family::counter(
    "uproar_log_records_dropped_total",
    "Chat log records that will never be delivered, by reason.",
);
const ERRORS: Family = Family::counter(
    "uproar_log_delivery_errors_total",
    "Deliveries of chat logs that failed and are repeated, by reason.",
);
const DURATIONS: Family = Family::summary(
    "uproar_log_delivery_seconds",
    "Duration of successful requests that deliver chat logs, in seconds.",
);

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every metric has its kind, and gauges rise and fall.
    #[test]
    fn metrics_are_rendered_by_kind() {
        let metrics = ArchiveMetrics::default();
        metrics.spooled(Kind::S3, 3);
        metrics.dropped(Kind::Firehose, DropReason::Age, 2);
        metrics.delivery_error(Kind::CloudWatch, DeliveryError::NotFound);
        metrics.delivery(Kind::S3, Duration::from_millis(1500));
        metrics.hold(Kind::S3, (0, 0), (100, 3));
        metrics.hold(Kind::S3, (100, 3), (40, 1));
        let mut page = Exposition::new();
        metrics.render(&mut page);
        let out = page.into_text();
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
    }
}
