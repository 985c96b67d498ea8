//! Who has a connection of the control listener, and who must go when all are taken.
//!
//! Each address has a share, the oldest silent connections give way, and a few places are kept for health:
//! whoever fills the listener does not make the server look dead.

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::net::IpAddr;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::base::admission::{Entered, Holder, Place, Places};
use crate::base::limits::{
    CONTROL_ADDRESS_PERCENT, CONTROL_CONNECTIONS_MAX, CONTROL_HEALTH_CONNECTIONS_MAX,
};
use crate::logging::{Kind, local};
use crate::protocol::proxy::TrustedProxies;

/// What an address may have of the control listener.
#[derive(Debug, Clone)]
pub struct ControlDoorSettings {
    /// Connections.
    pub connections_max: usize,
    /// An address with more than so many percent of them loses its oldest first when all are taken.
    pub address_percent: u32,
    /// Who may speak for others.
    pub trusted: TrustedProxies,
}

impl Default for ControlDoorSettings {
    fn default() -> Self {
        Self {
            connections_max: CONTROL_CONNECTIONS_MAX,
            address_percent: CONTROL_ADDRESS_PERCENT,
            trusted: TrustedProxies::default(),
        }
    }
}

impl ControlDoorSettings {
    /// No more connections than a limit of so many descriptors leaves.
    #[must_use]
    pub fn within(self, descriptors: usize) -> Self {
        Self {
            connections_max: descriptors
                .max(CONTROL_HEALTH_CONNECTIONS_MAX)
                .min(self.connections_max),
            ..self
        }
    }
}

/// The connections of the control listener.
pub(in crate::control) struct ControlDoor {
    trusted: TrustedProxies,
    all: RefCell<Places<Rc<Notify>>>,
    // For health alone, while all others are busy.
    kept: RefCell<Places<Rc<Notify>>>,
    displaced: Cell<u64>,
    refused: Cell<u64>,
    malformed: Cell<u64>,
    accept_errors: Cell<u64>,
}

impl ControlDoor {
    pub(in crate::control) fn new(settings: ControlDoorSettings) -> Self {
        let places_max = settings.connections_max;
        let percent = usize::try_from(settings.address_percent).expect("at most 100");
        let share_max = (places_max * percent / 100).max(1);
        let kept = CONTROL_HEALTH_CONNECTIONS_MAX;
        Self {
            trusted: settings.trusted,
            all: RefCell::new(Places::new(places_max, share_max)),
            kept: RefCell::new(Places::new(kept, kept)),
            displaced: Cell::new(0),
            refused: Cell::new(0),
            malformed: Cell::new(0),
            accept_errors: Cell::new(0),
        }
    }

    pub(super) fn trusted(&self) -> &TrustedProxies {
        &self.trusted
    }

    /// Connections open.
    pub(super) fn open(&self) -> usize {
        self.all.borrow().len() + self.kept.borrow().len()
    }

    /// A seat for a connection from `ip`; `None` if even those for health are busy.
    pub(super) fn admit(self: &Rc<Self>, ip: IpAddr) -> Option<Seat> {
        let cut = Rc::new(Notify::new());
        let holder = self.holder(ip);
        let mut is_kept = false;
        let mut entered = self.all.borrow_mut().enter(holder, Rc::clone(&cut));
        if matches!(entered, Entered::Full) {
            is_kept = true;
            entered = self.kept.borrow_mut().enter(None, Rc::clone(&cut));
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
        Some(Seat {
            door: Rc::clone(self),
            place,
            is_kept,
            cut,
            calls: Cell::new(0),
        })
    }

    /// No descriptor was left for a connection: the oldest gives way.
    pub(super) fn accept_failed(&self) {
        self.accept_errors.set(self.accept_errors.get() + 1);
        if let Some(oldest) = self.all.borrow_mut().give_up() {
            self.displace(&oldest, None);
        }
    }

    /// A trusted proxy sent a header that is none.
    pub(super) fn note_malformed(&self) {
        self.malformed.set(self.malformed.get() + 1);
    }

    /// A connection or a call was turned away: all places are busy.
    pub(super) fn note_refused(&self, from: IpAddr) {
        self.refused.set(self.refused.get() + 1);
        self.warn(
            Some(from),
            "all connections are busy: further ones are refused, but for health",
        );
    }

    fn displace(&self, oldest: &Notify, newcomer: Option<IpAddr>) {
        self.displaced.set(self.displaced.get() + 1);
        oldest.notify_one();
        self.warn(
            newcomer,
            "all connections are taken: the oldest silent ones give way",
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
        (!self.trusted.trusts(ip)).then(|| Holder::of(ip))
    }

    /// Appends its figures in Prometheus' text format.
    pub(super) fn render(&self, out: &mut String) {
        out.push_str(
            "# HELP uproar_control_connections Open connections of the control listener.\n",
        );
        out.push_str("# TYPE uproar_control_connections gauge\n");
        let _infallible = writeln!(out, "uproar_control_connections {}", self.open());
        let name = "uproar_control_connections_refused_total";
        let _infallible = writeln!(
            out,
            "# HELP {name} Connections of the control listener that were cut or refused for want of places.\n\
             # TYPE {name} counter"
        );
        for (reason, count) in [
            ("displaced", &self.displaced),
            ("busy", &self.refused),
            ("proxy_header", &self.malformed),
        ] {
            let _infallible = writeln!(out, "{name}{{reason=\"{reason}\"}} {}", count.get());
        }
        let name = "uproar_control_accept_errors_total";
        let _infallible = writeln!(
            out,
            "# HELP {name} Accepts of the control listener that failed, for want of descriptors above all.\n\
             # TYPE {name} counter\n{name} {}",
            self.accept_errors.get()
        );
    }
}

/// A connection's place; given back when it is dropped.
pub(super) struct Seat {
    door: Rc<ControlDoor>,
    place: Place,
    is_kept: bool,
    cut: Rc<Notify>,
    calls: Cell<usize>,
}

impl Seat {
    /// Ready when the connection must go.
    pub(super) async fn displaced(&self) {
        self.cut.notified().await;
    }

    /// Whether it is there for health alone.
    pub(super) fn is_for_health(&self) -> bool {
        self.is_kept
    }

    /// Says whose it is, now that a proxy has said so.
    pub(super) fn identify(&self, ip: IpAddr) {
        if let Some(holder) = self.door.holder(ip)
            && !self.is_kept
        {
            self.door.all.borrow_mut().identify(self.place, holder);
        }
    }

    /// A proven call is under way: the connection is not given up until that is done.
    pub(super) fn work(self: &Rc<Self>) -> Working {
        self.calls.set(self.calls.get() + 1);
        self.places().busy(self.place);
        Working(Rc::clone(self))
    }

    /// Something was answered; unless more is under way it may be given up, later than those that were
    /// never served.
    pub(super) fn rest(&self) {
        if self.calls.get() == 0 {
            self.places().idle(self.place);
        }
    }

    fn places(&self) -> std::cell::RefMut<'_, Places<Rc<Notify>>> {
        let places = if self.is_kept {
            &self.door.kept
        } else {
            &self.door.all
        };
        places.borrow_mut()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.places().leave(self.place);
    }
}

/// A call under way.
pub(super) struct Working(Rc<Seat>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.calls.set(self.0.calls.get() - 1);
        self.0.rest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(connections_max: usize) -> Rc<ControlDoor> {
        Rc::new(ControlDoor::new(ControlDoorSettings {
            connections_max,
            address_percent: 50,
            trusted: TrustedProxies::default(),
        }))
    }

    fn is_cut(seat: &Seat) -> bool {
        let mut displaced = std::pin::pin!(seat.displaced());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        displaced.as_mut().poll(&mut context).is_ready()
    }

    /// Goal: silent connections of one address shut nobody out; the oldest of them goes.
    #[test]
    fn silent_connections_give_way() {
        let door = door(4);
        let silent: Vec<_> = (0..4).map(|_| door.admit([127, 0, 0, 2].into())).collect();
        let caller = door.admit([127, 0, 0, 1].into()).expect("a place");
        assert!(!caller.is_for_health());
        let cut: Vec<_> = silent.iter().flatten().map(is_cut).collect();
        assert_eq!(cut, [true, false, false, false]);
        assert_eq!(door.displaced.get(), 1);
    }

    /// Goal: while all are busy newcomers are for health alone, and the oldest of those gives way; afterwards
    /// everything is as before.
    #[test]
    fn health_has_places_of_its_own() {
        let door = door(4);
        let busy: Vec<_> = (0..4)
            .map(|_| Rc::new(door.admit([127, 0, 0, 2].into()).expect("a place")))
            .map(|seat| (seat.work(), seat))
            .collect();
        let kept: Vec<_> = (0..CONTROL_HEALTH_CONNECTIONS_MAX + 3)
            .map(|_| door.admit([127, 0, 0, 1].into()).expect("kept for health"))
            .collect();
        assert!(kept.iter().all(Seat::is_for_health));
        assert_eq!(kept.iter().filter(|seat| is_cut(seat)).count(), 3);
        assert!(busy.iter().all(|(_, seat)| !is_cut(seat)));
        drop((busy, kept));
        assert_eq!(door.open(), 0);
        assert!(
            !door
                .admit([127, 0, 0, 1].into())
                .expect("a place")
                .is_for_health()
        );
    }
}
