//! Orders in `/metrics`.

use std::cell::Cell;

use super::fault::Kind;
use crate::exposition::{Exposition, Family};
use uproar_proto::base::clock::UnixTime;

/// Orders of this process.
#[derive(Debug, Default)]
pub(in crate::server) struct Figures {
    issued: Cell<u64>,
    unreachable: Cell<u64>,
    refused: Cell<u64>,
    failed: Cell<u64>,
    /// Attempts that failed since the last success, of the processes before this one too.
    pub(super) failures: Cell<u32>,
    /// The next attempt, as far as it is known.
    pub(super) next: Cell<Option<UnixTime>>,
}

const ORDERS: Family = Family::counter(
    "uproar_tls_acme_orders_total",
    "Attempts to get a certificate from the authority, by result.",
);
const FAILURES: Family = Family::gauge(
    "uproar_tls_acme_failures",
    "Attempts to get a certificate that have failed since the last one that succeeded.",
);
const NEXT: Family = Family::gauge(
    "uproar_tls_acme_next_order_timestamp_seconds",
    "When the next certificate is ordered, in seconds since the Unix epoch.",
);

impl Figures {
    pub(super) fn issued(&self) {
        self.issued.set(self.issued.get() + 1);
        self.failures.set(0);
    }

    pub(super) fn failed(&self, kind: Kind) {
        let count = match kind {
            Kind::Unreachable => &self.unreachable,
            Kind::Refused => &self.refused,
            Kind::Here => &self.failed,
        };
        count.set(count.get() + 1);
        self.failures.set(self.failures.get().saturating_add(1));
    }

    /// Adds them to `/metrics`.
    pub(in crate::server) fn render(&self, page: &mut Exposition) {
        let mut orders = page.family(&ORDERS);
        for (result, count) in [
            ("issued", &self.issued),
            ("unreachable", &self.unreachable),
            ("refused", &self.refused),
            ("failed", &self.failed),
        ] {
            orders.add(&[("result", result)], count.get());
        }
        page.single(&FAILURES, self.failures.get());
        if let Some(next) = self.next.get() {
            page.single(&NEXT, next.secs());
        }
    }
}
