//! Admission of connections to the control listener, and which one is closed when all slots are
//! taken.
//!
//! Each address has a share, the oldest idle connections are displaced first, and a few slots are
//! reserved for health checks: a client that fills the listener does not make the server look dead.

use std::cell::{Cell, Ref, RefCell};
use std::net::IpAddr;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::exposition::{Exposition, Family};
use crate::logging::{Kind, local};
use uproar_proto::base::admission::{Entered, Holder, Place, Places};
use uproar_proto::base::limits::{
    CONTROL_ADDRESS_PERCENT, CONTROL_CONNECTIONS_MAX, CONTROL_HEALTH_CONNECTIONS_MAX,
};
use uproar_proto::proxy::TrustedProxies;

/// What one address may hold of the control listener.
#[derive(Debug, Clone)]
pub struct ControlAdmissionSettings {
    /// Connections.
    pub connections_max: usize,
    /// An address with more than this percentage of them loses its oldest first when all are taken.
    pub address_percent: u32,
    /// Proxies that may name their clients' addresses.
    pub trusted: TrustedProxies,
}

impl Default for ControlAdmissionSettings {
    fn default() -> Self {
        Self {
            connections_max: CONTROL_CONNECTIONS_MAX,
            address_percent: CONTROL_ADDRESS_PERCENT,
            trusted: TrustedProxies::default(),
        }
    }
}

impl ControlAdmissionSettings {
    /// Limits the connections to what `descriptors` descriptors allow.
    #[must_use]
    pub fn within(self, descriptors: usize) -> Self {
        Self {
            connections_max: descriptors
                .max(CONTROL_HEALTH_CONNECTIONS_MAX)
                .min(self.connections_max),
            ..self
        }
    }

    /// Most connections of one address while all are taken.
    fn share_max(&self) -> usize {
        let percent = usize::try_from(self.address_percent).expect("at most 100");
        (self.connections_max * percent / 100).max(1)
    }
}

/// The connections of the control listener.
pub(super) struct ControlAdmission {
    trusted: RefCell<TrustedProxies>,
    // Slots for any request, each with what closes its connection.
    all: RefCell<Places<Rc<Notify>>>,
    // For health checks alone, while all others are busy.
    health: RefCell<Places<Rc<Notify>>>,
    // Connections closed in favour of newer ones.
    displaced: Cell<u64>,
    // Connections and calls refused because all slots were busy.
    refused: Cell<u64>,
    // Connections with an invalid PROXY header.
    malformed: Cell<u64>,
    // Accepts that failed.
    accept_errors: Cell<u64>,
}

impl ControlAdmission {
    pub(super) fn new(settings: ControlAdmissionSettings) -> Self {
        let (connections_max, share_max) = (settings.connections_max, settings.share_max());
        let health = CONTROL_HEALTH_CONNECTIONS_MAX;
        Self {
            trusted: RefCell::new(settings.trusted),
            all: RefCell::new(Places::new(connections_max, share_max)),
            health: RefCell::new(Places::new(health, health)),
            displaced: Cell::new(0),
            refused: Cell::new(0),
            malformed: Cell::new(0),
            accept_errors: Cell::new(0),
        }
    }

    /// Takes other settings over, for connections from now on.
    pub(super) fn adopt(&self, settings: ControlAdmissionSettings) {
        let share_max = settings.share_max();
        self.all.borrow_mut().set_share_max(share_max);
        self.trusted.replace(settings.trusted);
    }

    pub(super) fn trusted(&self) -> Ref<'_, TrustedProxies> {
        self.trusted.borrow()
    }

    /// Connections open.
    pub(super) fn open(&self) -> usize {
        self.all.borrow().len() + self.health.borrow().len()
    }

    /// A slot for a connection from `ip`; `None` if even those for health checks are busy.
    pub(super) fn admit(self: &Rc<Self>, ip: IpAddr) -> Option<AdmissionSlot> {
        let cut = Rc::new(Notify::new());
        let holder = self.holder(ip);
        let mut is_health = false;
        let mut entered = self.all.borrow_mut().enter(holder, Rc::clone(&cut));
        if matches!(entered, Entered::Full) {
            is_health = true;
            entered = self.health.borrow_mut().enter(None, Rc::clone(&cut));
        }
        let place = match entered {
            Entered::Placed(place) => place,
            Entered::Displaced(place, oldest) => {
                self.displace(&oldest, Some(ip));
                place
            }
            Entered::Full => {
                self.note_refused(ip);
                return None;
            }
        };
        Some(AdmissionSlot {
            admission: Rc::clone(self),
            place,
            is_health,
            cut,
            calls: Cell::new(0),
        })
    }

    /// No descriptor was left for a new connection: the oldest one is displaced.
    pub(super) fn accept_failed(&self) {
        self.accept_errors.set(self.accept_errors.get() + 1);
        // The borrow ends here: what follows looks at the table, too.
        let oldest = self.all.borrow_mut().displace_next();
        if let Some(oldest) = oldest {
            self.displace(&oldest, None);
        }
    }

    /// A trusted proxy sent an invalid header.
    pub(super) fn note_malformed(&self) {
        self.malformed.set(self.malformed.get() + 1);
    }

    /// A connection or a call was refused: all slots are busy.
    pub(super) fn note_refused(&self, from: IpAddr) {
        self.refused.set(self.refused.get() + 1);
        self.warn(
            Some(from),
            "all connections are busy: further ones are refused, except for health checks",
        );
    }

    fn displace(&self, oldest: &Notify, for_address: Option<IpAddr>) {
        self.displaced.set(self.displaced.get() + 1);
        oldest.notify_one();
        self.warn(
            for_address,
            "all connections are taken: the oldest idle ones are closed",
        );
    }

    fn warn(&self, address: Option<IpAddr>, what: &str) {
        if let Some(suppressed) = local::admit(Kind::ControlFull) {
            let open = self.open();
            let address = address.map(tracing::field::display);
            tracing::warn!(open, address, suppressed, "control: {what}");
        }
    }

    fn holder(&self, ip: IpAddr) -> Option<Holder> {
        (!self.trusted().trusts(ip)).then(|| Holder::of(ip))
    }

    /// Adds its metrics to `/metrics`.
    pub(super) fn render(&self, page: &mut Exposition) {
        page.single(&CONNECTIONS, self.open());
        let mut refused = page.family(&REFUSED);
        for (reason, count) in [
            ("displaced", &self.displaced),
            ("busy", &self.refused),
            ("proxy_header", &self.malformed),
        ] {
            refused.add(&[("reason", reason)], count.get());
        }
        page.single(&ACCEPT_ERRORS, self.accept_errors.get());
    }
}

const CONNECTIONS: Family = Family::gauge(
    "uproar_control_connections",
    "Open connections of the control listener.",
);
const REFUSED: Family = Family::counter(
    "uproar_control_connections_refused_total",
    "Connections of the control listener that were closed or refused, by reason.",
);
const ACCEPT_ERRORS: Family = Family::counter(
    "uproar_control_accept_errors_total",
    "Accepts of the control listener that failed, mostly for lack of descriptors.",
);

/// A connection's slot; dropping it releases the slot.
pub(super) struct AdmissionSlot {
    admission: Rc<ControlAdmission>,
    // In the table that `is_health` says.
    place: Place,
    is_health: bool,
    // Notified when the connection is displaced.
    cut: Rc<Notify>,
    // Authenticated calls in progress; while there are any the place is busy.
    calls: Cell<usize>,
}

impl AdmissionSlot {
    /// Ready when the connection must close.
    pub(super) async fn displaced(&self) {
        self.cut.notified().await;
    }

    /// Whether the slot is for health checks alone.
    pub(super) fn is_for_health(&self) -> bool {
        self.is_health
    }

    /// Counts the connection for `ip`, which a proxy has named.
    pub(super) fn identify(&self, ip: IpAddr) {
        if let Some(holder) = self.admission.holder(ip)
            && !self.is_health
        {
            self.admission.all.borrow_mut().identify(self.place, holder);
        }
    }

    /// An authenticated call is in progress: the connection is not displaced until it is done.
    pub(super) fn work(self: &Rc<Self>) -> Working {
        self.calls.set(self.calls.get() + 1);
        self.places().busy(self.place);
        Working(Rc::clone(self))
    }

    /// A request was answered; unless another is in progress the connection may be displaced, after
    /// all that were never served.
    pub(super) fn rest(&self) {
        if self.calls.get() == 0 {
            self.places().idle(self.place);
        }
    }

    fn places(&self) -> std::cell::RefMut<'_, Places<Rc<Notify>>> {
        let places = if self.is_health {
            &self.admission.health
        } else {
            &self.admission.all
        };
        places.borrow_mut()
    }
}

impl Drop for AdmissionSlot {
    fn drop(&mut self) {
        self.places().leave(self.place);
    }
}

/// A call in progress.
pub(super) struct Working(Rc<AdmissionSlot>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.calls.set(self.0.calls.get() - 1);
        self.0.rest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(connections_max: usize) -> Rc<ControlAdmission> {
        Rc::new(ControlAdmission::new(ControlAdmissionSettings {
            connections_max,
            address_percent: 50,
            trusted: TrustedProxies::default(),
        }))
    }

    fn is_cut(slot: &AdmissionSlot) -> bool {
        let mut displaced = std::pin::pin!(slot.displaced());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        displaced.as_mut().poll(&mut context).is_ready()
    }

    /// Goal: an accept that fails closes the oldest connection and says so.
    #[test]
    fn a_failed_accept_displaces_the_oldest_connection() {
        let admission = admission(4);
        let open: Vec<_> = (0..2)
            .filter_map(|_| admission.admit([127, 0, 0, 2].into()))
            .collect();
        admission.accept_failed();
        let cut: Vec<_> = open.iter().map(is_cut).collect();
        assert_eq!(cut, [true, false]);
        admission.accept_failed();
        admission.accept_failed();
        assert_eq!(admission.accept_errors.get(), 3);
    }

    /// Goal: idle connections of one address exclude no other address; the oldest of them is
    /// displaced.
    #[test]
    fn idle_connections_are_displaced() {
        let admission = admission(4);
        let silent: Vec<_> = (0..4)
            .map(|_| admission.admit([127, 0, 0, 2].into()))
            .collect();
        let caller = admission.admit([127, 0, 0, 1].into()).expect("a slot");
        assert!(!caller.is_for_health());
        let cut: Vec<_> = silent.iter().flatten().map(is_cut).collect();
        assert_eq!(cut, [true, false, false, false]);
        assert_eq!(admission.displaced.get(), 1);
    }

    /// Goal: while all are busy, new connections are for health checks alone and the oldest of
    /// those is displaced; afterwards everything is as before.
    #[test]
    fn health_checks_have_slots_of_their_own() {
        let admission = admission(4);
        let busy: Vec<_> = (0..4)
            .map(|_| Rc::new(admission.admit([127, 0, 0, 2].into()).expect("a slot")))
            .map(|slot| (slot.work(), slot))
            .collect();
        let health: Vec<_> = (0..CONTROL_HEALTH_CONNECTIONS_MAX + 3)
            .map(|_| {
                admission
                    .admit([127, 0, 0, 1].into())
                    .expect("reserved for health")
            })
            .collect();
        assert!(health.iter().all(AdmissionSlot::is_for_health));
        assert_eq!(health.iter().filter(|slot| is_cut(slot)).count(), 3);
        assert!(busy.iter().all(|(_, slot)| !is_cut(slot)));
        drop((busy, health));
        assert_eq!(admission.open(), 0);
        assert!(
            !admission
                .admit([127, 0, 0, 1].into())
                .expect("a slot")
                .is_for_health()
        );
    }
}
