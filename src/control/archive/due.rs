//! When the records of a spool are delivered: objects at the end of their window, others after a
//! short wait.

use std::time::Duration;

use super::batch::window_start;
use super::metrics::Kind;
use super::settings::ArchiveSettings;
use super::spool::RecordBatch;
use super::spool::entry::SpooledRecord;
use uproar_proto::base::limits::{LOG_BATCH_BYTES_MAX, PUT_LOG_EVENTS_BYTES_MAX};
use uproar_proto::base::number::wide;

/// From the end of a window until its objects are made: messages of its last moment are in the
/// spool by then.
const WINDOW_GRACE_MS: u64 = 1_000;

/// When records of a kind are delivered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    /// Window of objects; `None` for streams.
    window_ms: Option<u64>,
    linger_ms: u64,
}

impl Due {
    pub(super) fn new(kind: Kind, settings: &ArchiveSettings) -> Self {
        Self {
            window_ms: (kind == Kind::S3).then(|| settings.window_ms()),
            linger_ms: u64::try_from(settings.linger.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// How long to wait for more records if the oldest one is of `event_ms`.
    pub(super) fn wait(self, event_ms: u64, backlog_bytes: u64, now_ms: u64) -> Duration {
        let (due_ms, most_ms, bytes_max) = match self.window_ms {
            Some(window_ms) => (
                window_start(event_ms, window_ms) + window_ms + WINDOW_GRACE_MS,
                window_ms + WINDOW_GRACE_MS,
                LOG_BATCH_BYTES_MAX,
            ),
            None => (
                event_ms + self.linger_ms,
                self.linger_ms,
                PUT_LOG_EVENTS_BYTES_MAX,
            ),
        };
        if backlog_bytes >= wide(bytes_max) {
            return Duration::ZERO;
        }
        // Never longer than usual, even if the clock has stepped back.
        Duration::from_millis(due_ms.saturating_sub(now_ms).min(most_ms))
    }

    /// Holds back records of an open time window, unless they fill an object by themselves.
    pub(super) fn cut(self, batch: &mut RecordBatch, now_ms: u64) {
        let Some(window_ms) = self.window_ms else {
            return;
        };
        let open_ms = window_start(now_ms.saturating_sub(WINDOW_GRACE_MS), window_ms);
        let closed = |record: &SpooledRecord| record.event_ms < open_ms;
        let count = batch
            .records
            .iter()
            .take_while(|record| closed(record))
            .count();
        if count > 0 {
            batch.truncate(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::spool::batch_of;
    use super::*;

    const OBJECTS: Due = Due {
        window_ms: Some(300_000),
        linger_ms: 5_000,
    };
    const STREAM: Due = Due {
        window_ms: None,
        linger_ms: 5_000,
    };

    /// Goal: objects wait for their window's end, streams for their linger, a full batch does not
    /// wait, and a clock that steps back delays nothing for longer than usual.
    #[test]
    fn records_are_due_in_time() {
        let wait =
            |due: Due, event_ms, bytes, now_ms| due.wait(event_ms, bytes, now_ms).as_millis();
        assert_eq!(wait(OBJECTS, 900_001, 10, 900_001), 300_999);
        assert_eq!(wait(OBJECTS, 1_199_999, 10, 1_200_500), 500);
        assert_eq!(wait(OBJECTS, 1_199_999, 10, 1_201_000), 0);
        assert_eq!(
            wait(OBJECTS, 900_000, wide(LOG_BATCH_BYTES_MAX), 900_000),
            0
        );
        assert_eq!(wait(OBJECTS, 99_000_000, 10, 0), 301_000);
        assert_eq!(wait(STREAM, 1_000, 10, 2_000), 4_000);
        assert_eq!(wait(STREAM, 1_000, 10, 6_000), 0);
        assert_eq!(wait(STREAM, 99_000_000, 10, 0), 5_000);
    }

    /// Goal: a batch ends with the last closed window; without a closed one it is delivered as it
    /// is.
    #[test]
    fn batches_end_with_closed_windows() {
        let records = [
            (900_000, "a"),
            (1_199_999, "b"),
            (1_200_000, "c"),
            (1_500_000, "d"),
        ];
        let count = |due: Due, now_ms| {
            let mut batch = batch_of(&records);
            due.cut(&mut batch, now_ms);
            batch.records.len()
        };
        assert_eq!(count(OBJECTS, 1_201_000), 2);
        assert_eq!(count(OBJECTS, 1_501_000), 3);
        assert_eq!(count(OBJECTS, 1_200_999), 4, "full before its time");
        assert_eq!(count(STREAM, 1_201_000), 4);
    }
}
