//! One configuration's delivery: waits until a batch is due, ships it until it has arrived, and only then moves the
//! cursor.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::batch::window_start;
use super::metrics::{ArchiveMetrics, DeliveryError, DropReason, Kind};
use super::shipment::{Report, Shipment};
use super::sink_client::SinkClient;
use super::spool::{self, RecordBatch, Spool, Ticket};
use super::upload::uploads;
use crate::clock::Clock;
use crate::control::record::Destination;
use crate::logging;
use crate::random;
use crate::supervisor::{Supervisor, blocking};
use uproar_proto::base::id::LoggingId;
use uproar_proto::base::limits::{LOG_RETRY_MAX, LOG_STRETCH_BYTES_MAX, PUT_LOG_EVENTS_BYTES_MAX};

/// From the end of a window until its objects are made: messages of its last moment are in the spool by then.
const WINDOW_GRACE_MS: u64 = 1_000;

/// Where the records of one logging configuration go, and its spool.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) id: LoggingId,
    pub(super) spool: RefCell<Spool>,
    destination: RefCell<Destination>,
    // Changes with the destination.
    generation: Cell<u64>,
    // Records that may be dropped because the destination refuses them, until it accepts one again.
    drops_left: Cell<u32>,
    /// Notified when records were spooled.
    pub(super) spooled: Notify,
    redirected: Notify,
    /// The last write to the spool failed; logged once, not for each frame.
    pub(super) unwritable: Cell<bool>,
    // This sink's share of the gauges.
    share: Cell<(u64, u64)>,
}

/// State that all sinks share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) client: SinkClient,
    pub(super) metrics: Arc<ArchiveMetrics>,
    pub(super) clock: Clock,
    pub(super) supervisor: Supervisor,
}

impl Common {
    fn now_ms(&self) -> u64 {
        self.clock.now().unix.millis()
    }
}

impl Sink {
    pub(super) fn new(id: LoggingId, spool: Spool, destination: Destination) -> Self {
        Self {
            id,
            spool: RefCell::new(spool),
            destination: RefCell::new(destination),
            generation: Cell::new(0),
            drops_left: Cell::new(0),
            spooled: Notify::new(),
            redirected: Notify::new(),
            unwritable: Cell::new(false),
            share: Cell::default(),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        Kind::of(&self.destination.borrow())
    }

    /// Delivers to `destination` from now on, including the records in the spool.
    pub(super) fn redirect(&self, metrics: &ArchiveMetrics, destination: Destination) {
        metrics.hold(self.kind(), self.share.take(), (0, 0));
        *self.destination.borrow_mut() = destination;
        self.generation.set(self.generation.get() + 1);
        self.drops_left.set(0);
        self.gauge(metrics);
        self.redirected.notify_one();
    }

    /// Updates the gauges.
    pub(super) fn gauge(&self, metrics: &ArchiveMetrics) {
        let mut spool = self.spool.borrow_mut();
        let lost = spool.take_lost();
        if lost > 0 {
            tracing::error!(configuration = %self.id, records = lost, "chat logs: a spool file is damaged; these records are lost");
            metrics.dropped(self.kind(), DropReason::Damage, lost);
        }
        let share = (spool.bytes(), spool.backlog());
        metrics.hold(self.kind(), self.share.replace(share), share);
    }

    /// Takes the sink's share out of the gauges, since its configuration was deleted.
    pub(super) fn retire(&self, metrics: &ArchiveMetrics) {
        metrics.hold(self.kind(), self.share.take(), (0, 0));
    }
}

/// Delivers forever.
pub(super) async fn deliver(sink: Rc<Sink>, common: Rc<Common>) -> Infallible {
    loop {
        let batch = Arc::new(next(&sink, &common).await);
        ship(&sink, &common, &batch).await;
        let advanced = sink.spool.borrow_mut().advance(&batch);
        if let Err(error) = advanced {
            tracing::warn!(configuration = %sink.id, %error, "chat logs: the spool's cursor was not saved; a restart delivers again");
        }
        sink.gauge(&common.metrics);
    }
}

/// The next batch, once it is due.
async fn next(sink: &Sink, common: &Common) -> RecordBatch {
    // Number and time of the oldest undelivered record.
    let mut oldest = None;
    loop {
        let ticket = sink.spool.borrow().ticket(1);
        let Some(ticket) = ticket else {
            sink.spooled.notified().await;
            continue;
        };
        let position = sink.spool.borrow().position();
        let event_ms = match oldest {
            Some((number, event_ms)) if number == position => event_ms,
            _ => {
                let Some(batch) = read(sink, common, ticket).await else {
                    continue;
                };
                let event_ms = batch.records[0].event_ms;
                oldest = Some((position, event_ms));
                event_ms
            }
        };
        let planned = sink.spool.borrow().is_planned();
        let due = Due::new(sink.kind(), common);
        let bytes = sink.spool.borrow().backlog_bytes();
        let wait = if planned {
            Duration::ZERO
        } else {
            due.wait(event_ms, bytes, common.now_ms())
        };
        if !wait.is_zero() {
            // On an earlier wake-up, check whether enough has been collected.
            let _either = tokio::time::timeout(wait, sink.spooled.notified()).await;
            continue;
        }
        let ticket = sink.spool.borrow().ticket(u64::MAX);
        let Some(ticket) = ticket else { continue };
        let Some(mut batch) = read(sink, common, ticket).await else {
            continue;
        };
        if !planned {
            due.cut(&mut batch, common.now_ms());
        }
        let planned = sink.spool.borrow_mut().plan(&batch);
        if let Err(error) = planned {
            tracing::warn!(configuration = %sink.id, %error, "chat logs: a planned delivery was not saved; a restart may repeat it in other objects");
        }
        return batch;
    }
}

/// Reads on a blocking thread. `None` if there is nothing to deliver: damaged records were dropped, or a disk error
/// was waited out.
async fn read(sink: &Sink, common: &Common, ticket: Ticket) -> Option<RecordBatch> {
    let position = sink.spool.borrow().position();
    let outcome = blocking(move || spool::read(&ticket)).await;
    let records = match &outcome {
        Ok(batch) if !batch.records.is_empty() => return outcome.ok(),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::error!(configuration = %sink.id, %error, "chat logs: the spool cannot be read");
            common
                .metrics
                .delivery_error(sink.kind(), DeliveryError::Disk);
            tokio::time::sleep(LOG_RETRY_MAX).await;
            return None;
        }
        // The spool was full and dropped them after the ticket was made.
        _ if sink.spool.borrow().position() != position => return None,
        Ok(damaged) => sink.spool.borrow_mut().drop_damaged(damaged),
        Err(_) => sink.spool.borrow_mut().drop_front(),
    };
    tracing::error!(configuration = %sink.id, records, "chat logs: a spool file is damaged; the records that cannot be read are dropped");
    common
        .metrics
        .dropped(sink.kind(), DropReason::Damage, records);
    None
}

/// When records of a kind are delivered.
#[derive(Debug, Clone, Copy)]
struct Due {
    /// Window of objects; `None` for streams.
    window_ms: Option<u64>,
    linger_ms: u64,
}

impl Due {
    fn new(kind: Kind, common: &Common) -> Self {
        let settings = &common.client.settings;
        Self {
            window_ms: (kind == Kind::S3).then(|| settings.window_ms()),
            linger_ms: u64::try_from(settings.linger.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// How long to wait for more records if the oldest one is of `event_ms`.
    fn wait(self, event_ms: u64, backlog_bytes: u64, now_ms: u64) -> Duration {
        let (due_ms, most_ms, bytes_max) = match self.window_ms {
            Some(window_ms) => (
                window_start(event_ms, window_ms) + window_ms + WINDOW_GRACE_MS,
                window_ms + WINDOW_GRACE_MS,
                LOG_STRETCH_BYTES_MAX,
            ),
            None => (
                event_ms + self.linger_ms,
                self.linger_ms,
                PUT_LOG_EVENTS_BYTES_MAX,
            ),
        };
        if backlog_bytes >= bytes_max as u64 {
            return Duration::ZERO;
        }
        // Never longer than usual, even if the clock has stepped back.
        Duration::from_millis(due_ms.saturating_sub(now_ms).min(most_ms))
    }

    /// Holds back records of an open time window, unless they fill an object by themselves.
    fn cut(self, batch: &mut RecordBatch, now_ms: u64) {
        let Some(window_ms) = self.window_ms else {
            return;
        };
        let open_ms = window_start(now_ms.saturating_sub(WINDOW_GRACE_MS), window_ms);
        let closed = |record: &spool::entry::Located| record.event_ms < open_ms;
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

/// Ships until all records have arrived, are too old, or were dropped by the spool.
async fn ship(sink: &Sink, common: &Common, batch: &Arc<RecordBatch>) {
    let Common {
        client, metrics, ..
    } = common;
    let divide = || {
        let uploads = uploads(&client.settings, sink.id, &sink.destination.borrow(), batch);
        Shipment::new(uploads, sink.drops_left.get())
    };
    let (mut generation, mut shipment) = (sink.generation.get(), divide());
    while let Some(upload) = shipment.next() {
        if sink.spool.borrow().position() != batch.first {
            return;
        }
        let kind = sink.kind();
        // Elapsed time of this server: a record's own time may come from a wrong clock.
        let newest = batch.end().saturating_sub(1);
        let age = sink.spool.borrow().age(newest, common.clock.now().tick);
        if age > client.settings.age_max {
            let records = shipment.count();
            tracing::error!(configuration = %sink.id, records, "chat logs: undelivered for too long; dropped");
            metrics.dropped(kind, DropReason::Age, records);
            return;
        }
        let (started, was_failing) = (common.clock.now().tick, shipment.is_failing());
        let outcome = client.ship(upload, batch, common.clock.now().unix).await;
        if sink.generation.get() != generation {
            // The old destination accepted it: the new destination gets everything.
            (generation, shipment) = (sink.generation.get(), divide());
            continue;
        }
        let backlog = sink.spool.borrow().backlog();
        shipment.set_others_wait(backlog > batch.records.len() as u64);
        let report = shipment.answered(outcome);
        sink.drops_left.set(shipment.drops_left());
        if report.error.is_none() {
            metrics.delivery(kind, common.clock.now().tick.since(started));
        }
        note(sink, metrics, &report, was_failing);
        if let Some(pause) = report.pause {
            // Up to half of it more, so that configurations do not all retry at once.
            let jittered = pause.mul_f64(1.0 + random::quick().f64() / 2.0);
            let _either = tokio::time::timeout(jittered, sink.redirected.notified()).await;
        }
        if sink.generation.get() != generation {
            (generation, shipment) = (sink.generation.get(), divide());
        }
    }
}

/// Counts the result of a request, and logs changes.
fn note(sink: &Sink, metrics: &ArchiveMetrics, report: &Report, was_failing: bool) {
    let kind = sink.kind();
    metrics.delivered(kind, report.delivered);
    metrics.dropped(kind, DropReason::Rejected, report.rejected);
    metrics.dropped(kind, DropReason::Refused, report.refused);
    if report.rejected > 0
        && let Some(suppressed) = logging::local::admit(logging::Kind::Archive)
    {
        tracing::error!(configuration = %sink.id, records = report.rejected, suppressed, "chat logs: the destination rejected records for good");
    }
    let Some((error, text)) = &report.error else {
        if was_failing {
            tracing::info!(configuration = %sink.id, "chat logs: the destination accepts records again");
        }
        return;
    };
    metrics.delivery_error(kind, *error);
    if report.refused > 0 {
        if let Some(suppressed) = logging::local::admit(logging::Kind::Archive) {
            tracing::error!(configuration = %sink.id, destination = kind.label(), %text, suppressed, "chat logs: the destination refuses a record, which is dropped");
        }
    } else if !was_failing && let Some(suppressed) = logging::local::admit(logging::Kind::Archive) {
        tracing::warn!(configuration = %sink.id, destination = kind.label(), error = error.label(), %text, suppressed, "chat logs: a delivery failed; it is repeated");
    }
}

#[cfg(test)]
mod tests {
    use super::spool::batch_of;
    use super::*;

    const OBJECTS: Due = Due {
        window_ms: Some(300_000),
        linger_ms: 5_000,
    };
    const STREAM: Due = Due {
        window_ms: None,
        linger_ms: 5_000,
    };

    /// Goal: objects wait for their window's end, streams for their linger, a full batch does not wait, and a clock
    /// that steps back delays nothing for longer than usual.
    #[test]
    fn records_are_due_in_time() {
        let wait =
            |due: Due, event_ms, bytes, now_ms| due.wait(event_ms, bytes, now_ms).as_millis();
        assert_eq!(wait(OBJECTS, 900_001, 10, 900_001), 300_999);
        assert_eq!(wait(OBJECTS, 1_199_999, 10, 1_200_500), 500);
        assert_eq!(wait(OBJECTS, 1_199_999, 10, 1_201_000), 0);
        assert_eq!(
            wait(OBJECTS, 900_000, LOG_STRETCH_BYTES_MAX as u64, 900_000),
            0
        );
        assert_eq!(wait(OBJECTS, 99_000_000, 10, 0), 301_000);
        assert_eq!(wait(STREAM, 1_000, 10, 2_000), 4_000);
        assert_eq!(wait(STREAM, 1_000, 10, 6_000), 0);
        assert_eq!(wait(STREAM, 99_000_000, 10, 0), 5_000);
    }

    /// Goal: a batch ends with the last closed window; without a closed one it is delivered as it is.
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
