//! One configuration's delivery: waits until a batch is due, ships it until it has arrived, and
//! only then moves the cursor.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::due::Due;
use super::hold::{DeliveryHold, Work};
use super::metrics::{ArchiveMetrics, DeliveryError, DropReason};
use super::shipment::{Report, Shipment};
use super::sink::Sink;
use super::sink_client::SinkClient;
use super::spool::{self, BatchLocation, RecordBatch};
use super::upload::uploads;
use crate::clock::Clock;
use crate::logging;
use crate::random;
use crate::supervisor::{Supervisor, blocking};
use uproar_proto::base::limits::LOG_RETRY_MAX;
use uproar_proto::base::number::wide;

/// State that all sinks share.
#[derive(Debug)]
pub(super) struct Common {
    // Replaced as a whole when settings change.
    client: RefCell<Rc<SinkClient>>,
    pub(super) metrics: Arc<ArchiveMetrics>,
    pub(super) clock: Clock,
    pub(super) supervisor: Supervisor,
    pub(super) hold: DeliveryHold,
}

impl Common {
    pub(super) fn new(
        client: SinkClient,
        metrics: Arc<ArchiveMetrics>,
        clock: Clock,
        supervisor: Supervisor,
    ) -> Self {
        Self {
            client: RefCell::new(Rc::new(client)),
            metrics,
            clock,
            supervisor,
            hold: DeliveryHold::default(),
        }
    }

    /// The settings now, and what sends by them.
    pub(super) fn client(&self) -> Rc<SinkClient> {
        Rc::clone(&self.client.borrow())
    }

    /// Uses `client` for what is sent from now on.
    pub(super) fn set_client(&self, client: SinkClient) {
        self.client.replace(Rc::new(client));
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().unix.millis()
    }
}

/// Delivers forever, except while deliveries are held.
pub(super) async fn deliver(sink: Rc<Sink>, common: Rc<Common>) -> Infallible {
    let mut work = common.hold.work();
    loop {
        let batch = Arc::new(next(&sink, &common, &mut work).await);
        ship(&sink, &common, &batch, &mut work).await;
        let advanced = sink.spool.borrow_mut().advance(&batch);
        if let Err(error) = advanced {
            tracing::warn!(configuration = %sink.id, %error, "chat logs: the spool's cursor was not saved; a restart delivers again");
        }
        sink.gauge(&common.metrics);
    }
}

/// The next batch, once it is due and may be begun.
async fn next(sink: &Sink, common: &Common, work: &mut Work) -> RecordBatch {
    // Number and time of the oldest undelivered record. Its time is in its entry alone: reading
    // that one entry for each delivery is cheaper than times kept beside the spool, which a restart
    // would have to read back as well.
    let mut oldest = None;
    loop {
        work.begin().await;
        let location = sink.spool.borrow().next_batch(1);
        let Some(location) = location else {
            work.rest();
            sink.spooled.notified().await;
            continue;
        };
        let position = sink.spool.borrow().position();
        let event_ms = match oldest {
            Some((number, event_ms)) if number == position => event_ms,
            _ => {
                let Some(batch) = read(sink, common, location).await else {
                    continue;
                };
                let event_ms = batch.records[0].event_ms;
                oldest = Some((position, event_ms));
                event_ms
            }
        };
        let planned = sink.spool.borrow().is_planned();
        let due = Due::new(sink.kind(), &common.client().settings);
        let bytes = sink.spool.borrow().backlog_bytes();
        let wait = if planned {
            Duration::ZERO
        } else {
            due.wait(event_ms, bytes, common.now_ms())
        };
        if !wait.is_zero() {
            work.rest();
            // On an earlier wake-up, check whether enough has been collected.
            let _either = tokio::time::timeout(wait, sink.spooled.notified()).await;
            continue;
        }
        let location = sink.spool.borrow().next_batch(u64::MAX);
        let Some(location) = location else { continue };
        let Some(mut batch) = read(sink, common, location).await else {
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

/// Reads on a blocking thread. `None` if there is nothing to deliver: damaged records were dropped,
/// or a disk error was waited out.
async fn read(sink: &Sink, common: &Common, location: BatchLocation) -> Option<RecordBatch> {
    let position = sink.spool.borrow().position();
    let outcome = blocking(move || spool::read(&location)).await;
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
        // The spool was full and dropped them after the location was made.
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

/// Ships until all records have arrived, are too old, or were dropped by the spool.
async fn ship(sink: &Sink, common: &Common, batch: &Arc<RecordBatch>, work: &mut Work) {
    let metrics = &common.metrics;
    let divide = |client: &SinkClient| {
        let uploads = uploads(&client.settings, sink.id, &sink.destination.borrow(), batch);
        Shipment::new(uploads, sink.drops_left.get())
    };
    let mut client = common.client();
    let (mut generation, mut shipment) = (sink.generation.get(), divide(&client));
    while let Some(upload) = shipment.next() {
        work.go_on().await;
        if sink.spool.borrow().position() != batch.first {
            return;
        }
        let kind = sink.kind();
        // Elapsed time of this server: a record's own time may come from a wrong clock.
        let newest = batch.end().saturating_sub(1);
        let age = sink.spool.borrow().age(newest, common.clock.now().tick);
        if age > common.client().settings.age_max {
            let records = shipment.count();
            tracing::error!(configuration = %sink.id, records, "chat logs: undelivered for too long; dropped");
            metrics.dropped(kind, DropReason::Age, records);
            return;
        }
        let (started, was_failing) = (common.clock.now().tick, shipment.is_failing());
        let shipping = client.ship(upload, batch, common.clock.now().unix);
        let outcome = tokio::select! {
            biased;
            outcome = shipping => outcome,
            // A write to a file cannot be broken off; another process would write beside it.
            () = work.held(), if !client.writes_file(upload) => continue,
        };
        if sink.generation.get() != generation {
            // The old destination accepted it: the new destination gets everything.
            client = common.client();
            (generation, shipment) = (sink.generation.get(), divide(&client));
            continue;
        }
        let backlog = sink.spool.borrow().backlog();
        shipment.set_others_wait(backlog > wide(batch.records.len()));
        let report = shipment.answered(outcome);
        sink.drops_left.set(shipment.drops_left());
        if report.error.is_none() {
            metrics.delivery(kind, common.clock.now().tick.since(started));
        }
        note(sink, metrics, &report, was_failing);
        if let Some(pause) = report.pause {
            work.rest();
            // Up to half of it more, so that configurations do not all retry at once.
            let jittered = pause.mul_f64(1.0 + random::quick().f64() / 2.0);
            let _either = tokio::time::timeout(jittered, sink.redirected.notified()).await;
        }
        if sink.generation.get() != generation {
            client = common.client();
            (generation, shipment) = (sink.generation.get(), divide(&client));
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
