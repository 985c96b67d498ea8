//! A shard's entrance: accepts, and takes a look at what each connection has already said.
//!
//! A client's upgrade request follows its connect at once, so mostly the whole head is there when we
//! accept. Then the newcomer needs no task, no timer and no descriptor of the runtime. Everybody else
//! (TLS, slow heads, refusals) goes on as a task in `shard::handshake`.

use std::cell::RefCell;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::command::Turned;
use super::core::Core;
use super::doorbell::Doorbell;
use super::handshake::{self, Guest, Knock};
use super::metrics::ShardMetrics;
use super::run::Clock;
use super::turned;
use crate::base::admission::{Entered, Holder, Place, Places, Shares, part_of};
use crate::base::id::FrameIds;
use crate::base::limits::{
    ACCEPTS_PER_TURN_MAX, ADDRESS_HANDSHAKES_PERCENT, ADDRESS_REFUSALS_PER_SECOND, HANDSHAKES_MAX,
    HANDSHAKES_MIN,
};
use crate::base::rate::Rate;
use crate::logging::Kind;
use crate::net::listener::Listener;
use crate::net::rings::Rings;
use crate::net::socket;
use crate::net::stream::{self, Stream};
use crate::protocol::proxy::TrustedProxies;
use crate::protocol::token::Keyring;

/// Answers plain HTTP requests of the messaging listener: the demo page, where there is one.
pub trait Pages: Send + Sync {
    /// Appends the whole HTTP answer to `out`, or returns `false` for 404.
    fn answer(&self, method: &str, target: &str, out: &mut Vec<u8>) -> bool;
}

/// The sealing keys, replaced as a whole while handshakes read them.
pub type LiveKeyring = Arc<ArcSwap<Keyring>>;

/// What an address may have at the door of one shard.
#[derive(Debug, Clone)]
pub struct DoorSettings {
    /// Handshakes under way.
    pub handshakes_max: usize,
    /// An address with more than so many of them loses its oldest first when there are no more places.
    pub address_handshakes_max: usize,
    /// Open connections of one address on all shards together; `None`: any number.
    pub address_connections_max: Option<usize>,
    /// Refused handshakes of one address that are answered.
    pub address_refusals: Option<Rate>,
    /// Who may speak for others.
    pub trusted: TrustedProxies,
}

impl Default for DoorSettings {
    fn default() -> Self {
        Self {
            handshakes_max: HANDSHAKES_MAX,
            address_handshakes_max: percent_of(HANDSHAKES_MAX, ADDRESS_HANDSHAKES_PERCENT),
            address_connections_max: None,
            address_refusals: Some(Rate::per_second(ADDRESS_REFUSALS_PER_SECOND)),
            trusted: TrustedProxies::default(),
        }
    }
}

impl DoorSettings {
    /// No more handshakes than `descriptors` allow, in so far as [`HANDSHAKES_MIN`] are; an address's part
    /// shrinks with them.
    #[must_use]
    pub fn within(self, descriptors: usize) -> Self {
        let handshakes_max = descriptors.max(HANDSHAKES_MIN).min(self.handshakes_max);
        let part = self.address_handshakes_max * handshakes_max / self.handshakes_max;
        Self {
            handshakes_max,
            address_handshakes_max: part.max(1),
            ..self
        }
    }
}

/// `percent` of `whole`, at least one.
pub fn percent_of(whole: usize, percent: u32) -> usize {
    let percent = usize::try_from(percent).expect("at most 100");
    (whole * percent / 100).max(1)
}

/// What all shards' handshakes share.
#[derive(Clone)]
pub struct Entrance {
    /// Opens tokens.
    pub keyring: LiveKeyring,
    /// TLS, if the listener speaks it.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// `Origin` values that may connect; empty: any. The token is the only credential either way.
    pub origins: Arc<[String]>,
    /// Plain pages.
    pub pages: Option<Arc<dyn Pages>>,
    /// Whether permessage-deflate is agreed to.
    pub compression: bool,
    /// Conformance mode: everybody enters, without a token.
    pub echo: bool,
    /// What an address may have.
    pub door: Arc<DoorSettings>,
}

/// The one room of the conformance mode.
pub const ECHO_ROOM: &str = "ConformEcho0";

/// A connection with a handshake under way.
pub(super) struct Waiting {
    /// As its place was given: perhaps a proxy's address.
    ip: IpAddr,
    stream: Rc<Stream>,
}

/// One shard's entrance.
pub(super) struct Door {
    pub(super) entrance: Entrance,
    pub(super) core: Rc<RefCell<Core<Rings>>>,
    pub(super) bell: Arc<Doorbell>,
    pub(super) metrics: Arc<ShardMetrics>,
    pub(super) clock: Clock,
    pub(super) ids: RefCell<FrameIds>,
    /// Handshakes under way, and those refused that have not read their answer.
    pub(super) places: RefCell<Places<Waiting>>,
    /// What each address has.
    pub(super) shares: RefCell<Shares>,
    /// What first looks read into.
    pub(super) scratch: RefCell<Box<[u8]>>,
    /// Wakes this thread's shard, as the bell does, without a system call.
    pub(super) entered: Notify,
}

/// Accepts for ever. Failures (no descriptors left, above all) are counted: the connections stay in the
/// kernel's queue, and the oldest handshakes make room for them.
pub(super) async fn accept_all(listener: Listener, door: Rc<Door>) {
    loop {
        let accepted = listener
            .accept(ACCEPTS_PER_TURN_MAX, |socket, peer| {
                welcome(socket, peer.ip().to_canonical(), &door);
            })
            .await;
        match accepted {
            // The shard and the handshakes under way get their turn.
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => {
                door.metrics.accept_errors.inc();
                if let Some(suppressed) = door.admit_line(Kind::Accept) {
                    tracing::warn!(
                        %error,
                        suppressed,
                        "accept failed; retried every 50 ms, and the oldest handshakes give way"
                    );
                }
                for _ in 0..ACCEPTS_PER_TURN_MAX {
                    door.displace_oldest();
                }
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

fn welcome(socket: OwnedFd, ip: IpAddr, door: &Rc<Door>) {
    let mut knock = Knock::new(ip, door);
    if door.entrance.tls.is_none() {
        let mut scratch = door.scratch.borrow_mut();
        match socket::receive_now(&socket, &mut scratch) {
            Ok(None) => {}
            Ok(Some(len @ 1..)) => {
                if let Some(guest) = knock.look(&scratch[..len], door) {
                    return door.enter(guest, socket);
                }
                if knock.is_not_worth_an_answer(door) {
                    // Unread bytes, or this option, make it a reset.
                    let _gone = socket::reset_at_close(&socket);
                    return;
                }
            }
            Ok(Some(0)) | Err(_) => return door.metrics.rejected_gone.inc(),
        }
    }
    let stream = Rc::new(Stream::from_fd(socket));
    let Some(place) = door.take_place(ip, knock.holder(), &stream) else {
        return;
    };
    let door = Rc::clone(door);
    stream::spawn(async move { handshake::receive_one(stream, place, knock, door).await });
}

impl Door {
    /// [`Limiter::admit`](crate::logging::Limiter::admit) of this shard, now.
    pub(super) fn admit_line(&self, kind: Kind) -> Option<u64> {
        let now = self.clock.now().tick;
        self.core.borrow_mut().admit_line(kind, now)
    }

    /// A door for one of `shards` shards.
    pub(super) fn places_and_shares(
        settings: &DoorSettings,
        shards: usize,
    ) -> (RefCell<Places<Waiting>>, RefCell<Shares>) {
        let places = Places::new(settings.handshakes_max, settings.address_handshakes_max);
        let connections = settings.address_connections_max;
        let part = connections.map(|limit| part_of(limit, shards));
        let shares = Shares::new(part, settings.address_refusals);
        (RefCell::new(places), RefCell::new(shares))
    }

    /// Hands `guest` over to this thread's shard, if its address may have one more connection.
    pub(super) fn enter(self: &Rc<Self>, guest: Guest, socket: OwnedFd) {
        let mut newcomer = guest.into_newcomer(socket);
        if let Some(holder) = self.holder(newcomer.ip) {
            let now = self.clock.now().tick;
            let share = self.shares.borrow_mut().connect(holder, now);
            let Ok(share) = share else {
                self.metrics.rejected_address.inc();
                let turned = Turned::TooManyOfAddress;
                stream::spawn(handshake::turn_away(newcomer, turned, Rc::clone(self)));
                return;
            };
            newcomer.share = share;
        }
        self.core.borrow_mut().enter(newcomer);
        if self.bell.sleep().must_wake() {
            self.entered.notify_one();
        }
    }

    /// A place for a connection whose handshake goes on, at the expense of the oldest one if need be.
    pub(super) fn take_place(
        &self,
        ip: IpAddr,
        holder: Option<Holder>,
        stream: &Rc<Stream>,
    ) -> Option<Place> {
        let stream = Rc::clone(stream);
        let entered = self
            .places
            .borrow_mut()
            .enter(holder, Waiting { ip, stream });
        match entered {
            Entered::Placed(place) => Some(place),
            Entered::Displaced(place, oldest) => {
                self.displace(&oldest);
                Some(place)
            }
            // None of ours is ever busy.
            Entered::Full => {
                self.metrics.rejected_limit.inc();
                None
            }
        }
    }

    fn displace(&self, oldest: &Waiting) {
        self.metrics.rejected_displaced.inc();
        oldest.stream.abort();
        turned::say_displaced(self, oldest.ip);
    }

    /// Sets the gauge.
    pub(super) fn note(&self) {
        let under_way = self.places.borrow().len();
        self.metrics.handshakes.set(under_way as u64);
    }

    fn displace_oldest(&self) {
        let oldest = self.places.borrow_mut().give_up();
        if let Some(oldest) = oldest {
            self.displace(&oldest);
        }
    }

    /// Whose share `ip` counts to; a trusted proxy's own connections count to nobody's.
    pub(super) fn holder(&self, ip: IpAddr) -> Option<Holder> {
        (!self.entrance.door.trusted.trusts(ip)).then(|| Holder::of(ip))
    }

    /// Whether one more refusal of this address is worth an answer; counted if not.
    pub(super) fn is_answered(&self, ip: IpAddr) -> bool {
        let Some(holder) = self.holder(ip) else {
            return true;
        };
        let now = self.clock.now().tick;
        let answered = self.shares.borrow_mut().refuse(holder, now);
        if !answered {
            self.metrics.rejected_unanswered.inc();
        }
        answered
    }
}

const ACCEPT_RETRY: Duration = Duration::from_millis(50);
