//! Where the records of one logging configuration go.

use std::cell::{Cell, RefCell};

use tokio::sync::Notify;

use super::metrics::{ArchiveMetrics, DropReason, Kind};
use super::spool::Spool;
use crate::control::record::Destination;
use uproar_proto::base::id::LoggingId;

/// Where the records of one logging configuration go, and its spool.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) id: LoggingId,
    pub(super) spool: RefCell<Spool>,
    /// Replaced with a new generation only: see [`Sink::redirect`].
    pub(super) destination: RefCell<Destination>,
    /// Changes with the destination, so that a delivery in progress notices.
    pub(super) generation: Cell<u64>,
    /// Records that may be dropped because the destination refuses them, until it accepts one
    /// again.
    pub(super) drops_left: Cell<u32>,
    /// Notified when records were spooled.
    pub(super) spooled: Notify,
    /// Notified when the destination has changed.
    pub(super) redirected: Notify,
    /// The last write to the spool failed; logged once, not for each frame.
    pub(super) unwritable: Cell<bool>,
    // What the gauges have of this sink: bytes on disk, records not delivered.
    share: Cell<(u64, u64)>,
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
