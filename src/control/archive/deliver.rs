//! One configuration's delivery: waits until something is due, ships it until it has arrived, and only
//! then moves the cursor.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::batch::window_start;
use super::destination::Shipper;
use super::metrics::{ArchiveMetrics, Kind, Loss, Trouble};
use super::parcel::parcels;
use super::shipment::{Report, Shipment};
use super::spool::{self, Spool, Stretch, Ticket};
use crate::base::id::LoggingId;
use crate::base::limits::{LOG_RETRY_MAX, LOG_STRETCH_BYTES_MAX, PUT_LOG_EVENTS_BYTES_MAX};
use crate::control::record::Destination;
use crate::logging;
use crate::shard::run::Clock;
use crate::supervisor::{Supervisor, blocking};

/// After the end of a window, until its objects are made: what was said in its last moment is in the
/// spool by then.
const WINDOW_GRACE_MS: u64 = 1_000;

/// A logging configuration at work.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) id: LoggingId,
    pub(super) spool: RefCell<Spool>,
    destination: RefCell<Destination>,
    // Changes with the destination.
    generation: Cell<u64>,
    // Records that may be dropped because the destination refuses them, until it takes something again.
    drops_left: Cell<u32>,
    /// Rung when records were spooled.
    pub(super) spooled: Notify,
    redirected: Notify,
    /// The last write to the spool failed: said once, not for each frame.
    pub(super) unwritable: Cell<bool>,
    // Its share of the gauges.
    share: Cell<(u64, u64)>,
}

/// What all outlets share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) shipper: Shipper,
    pub(super) metrics: Arc<ArchiveMetrics>,
    pub(super) clock: Clock,
    pub(super) supervisor: Supervisor,
}

impl Common {
    fn now_ms(&self) -> u64 {
        self.clock.now().unix.nanos() / 1_000_000
    }
}

impl Outlet {
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

    /// Delivers elsewhere from now on, what is in the spool included.
    pub(super) fn redirect(&self, metrics: &ArchiveMetrics, destination: Destination) {
        metrics.hold(self.kind(), self.share.take(), (0, 0));
        *self.destination.borrow_mut() = destination;
        self.generation.set(self.generation.get() + 1);
        self.drops_left.set(0);
        self.gauge(metrics);
        self.redirected.notify_one();
    }

    /// Brings the gauges up to date.
    pub(super) fn gauge(&self, metrics: &ArchiveMetrics) {
        let mut spool = self.spool.borrow_mut();
        let lost = spool.take_lost();
        if lost > 0 {
            tracing::error!(configuration = %self.id, records = lost, "chat logs: a spool file is damaged; these records are lost");
            metrics.lost(self.kind(), Loss::Damage, lost);
        }
        let share = (spool.bytes(), spool.backlog());
        metrics.hold(self.kind(), self.share.replace(share), share);
    }

    /// Takes its share out of the gauges: it is no more.
    pub(super) fn retire(&self, metrics: &ArchiveMetrics) {
        metrics.hold(self.kind(), self.share.take(), (0, 0));
    }
}

/// Delivers for ever.
pub(super) async fn deliver(outlet: Rc<Outlet>, common: Rc<Common>) -> Infallible {
    loop {
        let stretch = Arc::new(next(&outlet, &common).await);
        ship(&outlet, &common, &stretch).await;
        let advanced = outlet.spool.borrow_mut().advance(&stretch);
        if let Err(error) = advanced {
            tracing::warn!(configuration = %outlet.id, %error, "chat logs: the spool's cursor was not kept; a restart delivers again");
        }
        outlet.gauge(&common.metrics);
    }
}

/// The next stretch, when it is due.
async fn next(outlet: &Outlet, common: &Common) -> Stretch {
    // The oldest undelivered record: its number and time.
    let mut oldest = None;
    loop {
        let ticket = outlet.spool.borrow().ticket(1);
        let Some(ticket) = ticket else {
            outlet.spooled.notified().await;
            continue;
        };
        let position = outlet.spool.borrow().position();
        let event_ms = match oldest {
            Some((number, event_ms)) if number == position => event_ms,
            _ => {
                let Some(stretch) = read(outlet, common, ticket).await else {
                    continue;
                };
                let event_ms = stretch.records[0].event_ms;
                oldest = Some((position, event_ms));
                event_ms
            }
        };
        let planned = outlet.spool.borrow().is_planned();
        let due = Due::new(outlet.kind(), common);
        let bytes = outlet.spool.borrow().backlog_bytes();
        let wait = if planned {
            Duration::ZERO
        } else {
            due.wait(event_ms, bytes, common.now_ms())
        };
        if !wait.is_zero() {
            // Woken earlier, it looks whether enough has been collected by now.
            let _either = tokio::time::timeout(wait, outlet.spooled.notified()).await;
            continue;
        }
        let ticket = outlet.spool.borrow().ticket(u64::MAX);
        let Some(ticket) = ticket else { continue };
        let Some(mut stretch) = read(outlet, common, ticket).await else {
            continue;
        };
        if !planned {
            due.cut(&mut stretch, common.now_ms());
        }
        let noted = outlet.spool.borrow_mut().plan(&stretch);
        if let Err(error) = noted {
            tracing::warn!(configuration = %outlet.id, %error, "chat logs: a delivery was not noted; a restart may repeat it in other objects");
        }
        return stretch;
    }
}

/// Reads beside this thread. `None` if there is nothing: damage is given up, trouble waited for.
async fn read(outlet: &Outlet, common: &Common, ticket: Ticket) -> Option<Stretch> {
    let position = outlet.spool.borrow().position();
    let outcome = blocking(move || spool::read(&ticket)).await;
    let records = match &outcome {
        Ok(stretch) if !stretch.records.is_empty() => return outcome.ok(),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::error!(configuration = %outlet.id, %error, "chat logs: the spool cannot be read");
            common.metrics.trouble(outlet.kind(), Trouble::Disk);
            tokio::time::sleep(LOG_RETRY_MAX).await;
            return None;
        }
        // Given up for want of room since the ticket was made.
        _ if outlet.spool.borrow().position() != position => return None,
        Ok(damaged) => outlet.spool.borrow_mut().give_up_damaged(damaged),
        Err(_) => outlet.spool.borrow_mut().give_up_front(),
    };
    tracing::error!(configuration = %outlet.id, records, "chat logs: a spool file is damaged; the records that cannot be read are given up");
    common.metrics.lost(outlet.kind(), Loss::Damage, records);
    None
}

/// When records of a kind are delivered.
#[derive(Debug, Clone, Copy)]
struct Due {
    /// Of objects; `None` for streams.
    window_ms: Option<u64>,
    linger_ms: u64,
}

impl Due {
    fn new(kind: Kind, common: &Common) -> Self {
        let settings = &common.shipper.settings;
        Self {
            window_ms: (kind == Kind::S3).then(|| settings.window_ms()),
            linger_ms: u64::try_from(settings.linger.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// How long to wait for more, the oldest record being of `event_ms`.
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
        // Never longer than usual, should the clock have stepped back.
        Duration::from_millis(due_ms.saturating_sub(now_ms).min(most_ms))
    }

    /// Leaves records of a window that is not over for later, unless they fill an object by themselves.
    fn cut(self, stretch: &mut Stretch, now_ms: u64) {
        let Some(window_ms) = self.window_ms else {
            return;
        };
        let open_ms = window_start(now_ms.saturating_sub(WINDOW_GRACE_MS), window_ms);
        let closed = |record: &spool::entry::Located| record.event_ms < open_ms;
        let count = stretch
            .records
            .iter()
            .take_while(|record| closed(record))
            .count();
        if count > 0 {
            stretch.truncate(count);
        }
    }
}

/// Ships until everything has arrived, is too old, or was given up by the spool.
async fn ship(outlet: &Outlet, common: &Common, stretch: &Arc<Stretch>) {
    let Common {
        shipper, metrics, ..
    } = common;
    let divide = || {
        let parcels = parcels(
            &shipper.settings,
            outlet.id,
            &outlet.destination.borrow(),
            stretch,
        );
        Shipment::new(parcels, outlet.drops_left.get())
    };
    let (mut generation, mut shipment) = (outlet.generation.get(), divide());
    while let Some(parcel) = shipment.next() {
        if outlet.spool.borrow().position() != stretch.first {
            return;
        }
        let kind = outlet.kind();
        // Time that passed here: what a record says of its own time may be a wrong clock's.
        let newest = stretch.end().saturating_sub(1);
        let age = outlet.spool.borrow().age(newest, common.clock.now().tick);
        if age > shipper.settings.age_max {
            let records = shipment.count();
            tracing::error!(configuration = %outlet.id, records, "chat logs: undelivered for too long; given up");
            metrics.lost(kind, Loss::Age, records);
            return;
        }
        let (started, was_failing) = (Instant::now(), shipment.is_failing());
        let outcome = shipper.ship(parcel, stretch, common.clock.now().unix).await;
        if outlet.generation.get() != generation {
            // What was taken was taken elsewhere: the new destination gets everything.
            (generation, shipment) = (outlet.generation.get(), divide());
            continue;
        }
        let backlog = outlet.spool.borrow().backlog();
        shipment.set_others_wait(backlog > stretch.records.len() as u64);
        let report = shipment.answered(outcome);
        outlet.drops_left.set(shipment.drops_left());
        if report.trouble.is_none() {
            metrics.delivery(kind, started.elapsed());
        }
        note(outlet, metrics, &report, was_failing);
        if let Some(pause) = report.pause {
            // Up to half of it more, so that configurations do not come back all at once.
            let jittered = pause.mul_f64(1.0 + fastrand::f64() / 2.0);
            let _either = tokio::time::timeout(jittered, outlet.redirected.notified()).await;
        }
        if outlet.generation.get() != generation {
            (generation, shipment) = (outlet.generation.get(), divide());
        }
    }
}

/// Counts what an answer came to, and says what is new.
fn note(outlet: &Outlet, metrics: &ArchiveMetrics, report: &Report, was_failing: bool) {
    let kind = outlet.kind();
    metrics.delivered(kind, report.delivered);
    metrics.lost(kind, Loss::Rejected, report.rejected);
    metrics.lost(kind, Loss::Refused, report.refused);
    if report.rejected > 0
        && let Some(suppressed) = logging::local::admit(logging::Kind::Archive)
    {
        tracing::error!(configuration = %outlet.id, records = report.rejected, suppressed, "chat logs: the destination rejected records for good");
    }
    let Some((trouble, text)) = &report.trouble else {
        if was_failing {
            tracing::info!(configuration = %outlet.id, "chat logs: the destination takes records again");
        }
        return;
    };
    metrics.trouble(kind, *trouble);
    if report.refused > 0 {
        if let Some(suppressed) = logging::local::admit(logging::Kind::Archive) {
            tracing::error!(configuration = %outlet.id, destination = kind.label(), %text, suppressed, "chat logs: the destination refuses a record, which is dropped");
        }
    } else if !was_failing && let Some(suppressed) = logging::local::admit(logging::Kind::Archive) {
        tracing::warn!(configuration = %outlet.id, destination = kind.label(), trouble = trouble.label(), %text, suppressed, "chat logs: a delivery failed; it is repeated");
    }
}

#[cfg(test)]
mod tests {
    use super::spool::stretch_of;
    use super::*;

    const OBJECTS: Due = Due {
        window_ms: Some(300_000),
        linger_ms: 5_000,
    };
    const STREAM: Due = Due {
        window_ms: None,
        linger_ms: 5_000,
    };

    /// Goal: objects wait for their window's end, streams for their linger, nothing waits when there is
    /// enough, and a clock that steps back delays nothing for longer than usual.
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

    /// Goal: a stretch ends with the last window that is over; without such, it is taken as it is.
    #[test]
    fn stretches_end_with_closed_windows() {
        let records = [
            (900_000, "a"),
            (1_199_999, "b"),
            (1_200_000, "c"),
            (1_500_000, "d"),
        ];
        let count = |due: Due, now_ms| {
            let mut stretch = stretch_of(&records);
            due.cut(&mut stretch, now_ms);
            stretch.records.len()
        };
        assert_eq!(count(OBJECTS, 1_201_000), 2);
        assert_eq!(count(OBJECTS, 1_501_000), 3);
        assert_eq!(count(OBJECTS, 1_200_999), 4, "full before its time");
        assert_eq!(count(STREAM, 1_201_000), 4);
    }
}
