//! Accepts connections and reads what each has already sent.
//!
//! A client's upgrade request follows its connect at once, so mostly the whole head is there when we
//! accept. Then the handshake needs no task, no timer and no descriptor of the runtime. All others
//! (TLS, slow heads, refusals) continue as a task in `shard::handshake`.

use std::cell::RefCell;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::command::AdmitError;
use super::core::Core;
use super::doorbell::Doorbell;
use super::handshake::{self, AcceptedUpgrade, PartialRequest};
use super::metrics::ShardMetrics;
use super::refused_handshake;
use crate::clock::Clock;
use crate::logging::Kind;
use crate::net::listener::Listener;
use crate::net::rings::Rings;
use crate::net::socket;
use crate::net::stream::{self, Stream};
use uproar_proto::base::admission::{Entered, Holder, Place, Places, Shares, part_of};
use uproar_proto::base::id::FrameIds;
use uproar_proto::base::limits::{
    ACCEPTS_PER_TURN_MAX, ADDRESS_HANDSHAKES_PERCENT, ADDRESS_REFUSALS_PER_SECOND, HANDSHAKES_MAX,
    HANDSHAKES_MIN,
};
use uproar_proto::base::rate::Rate;
use uproar_proto::proxy::TrustedProxies;
use uproar_proto::token::Keyring;

/// Answers plain HTTP requests of the messaging listener: the demo page, where there is one.
pub trait Pages: Send + Sync {
    /// Appends the whole HTTP answer to `out`, or returns `false` for 404.
    fn answer(&self, method: &str, target: &str, out: &mut Vec<u8>) -> bool;
}

/// The sealing keys, replaced as a whole while handshakes read them.
pub type LiveKeyring = Arc<ArcSwap<Keyring>>;

/// Limits on handshakes and on single addresses, for one shard.
#[derive(Debug, Clone)]
pub struct AcceptSettings {
    /// Most handshakes in progress.
    pub handshakes_max: usize,
    /// When no place is free, an address with more handshakes than this loses its oldest first.
    pub address_handshakes_max: usize,
    /// Most open connections of one address on all shards together; `None`: not limited.
    pub address_connections_max: Option<usize>,
    /// How many refused handshakes of one address are answered.
    pub address_refusals: Option<Rate>,
    /// Proxies that may name the client's address.
    pub trusted: TrustedProxies,
}

impl Default for AcceptSettings {
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

impl AcceptSettings {
    /// Lowers the limit on handshakes to `descriptors`, but not below [`HANDSHAKES_MIN`]; the limit per address
    /// shrinks in proportion.
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

/// Settings that the handshakes of all shards share.
#[derive(Clone)]
pub struct HandshakeConfig {
    /// Opens tokens.
    pub keyring: LiveKeyring,
    /// TLS settings, if the listener uses TLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// `Origin` values that may connect; empty: any. The token is the only credential either way.
    pub origins: Arc<[String]>,
    /// Answers plain HTTP requests.
    pub pages: Option<Arc<dyn Pages>>,
    /// Whether the server accepts permessage-deflate.
    pub compression: bool,
    /// Conformance mode: every connection is admitted without a token.
    pub echo: bool,
    /// Limits on handshakes and on single addresses.
    pub limits: Arc<AcceptSettings>,
}

/// The one room of the conformance mode.
pub const ECHO_ROOM: &str = "ConformEcho0";

/// A connection whose handshake is in progress.
pub(super) struct Waiting {
    /// The address at the time it took its place: perhaps a proxy's.
    ip: IpAddr,
    stream: Rc<Stream>,
}

/// Accepts and admits the connections of one shard.
pub(super) struct Acceptor {
    pub(super) config: HandshakeConfig,
    pub(super) core: Rc<RefCell<Core<Rings>>>,
    pub(super) bell: Arc<Doorbell>,
    pub(super) metrics: Arc<ShardMetrics>,
    pub(super) clock: Clock,
    pub(super) ids: RefCell<FrameIds>,
    /// Handshakes in progress, and refused ones whose answer is still being sent.
    pub(super) places: RefCell<Places<Waiting>>,
    /// Connections and refusals of each address.
    pub(super) shares: RefCell<Shares>,
    /// Buffer of the first read of each connection.
    pub(super) scratch: RefCell<Box<[u8]>>,
    /// Wakes this thread's shard, as the bell does, without a system call.
    pub(super) wake: Notify,
}

/// Accepts for ever. Failures (above all: no descriptor is free) are counted: the connections stay in the
/// kernel's queue, and the oldest handshakes are closed to free descriptors.
pub(super) async fn accept_all(listener: Listener, acceptor: Rc<Acceptor>) {
    loop {
        let accepted = listener
            .accept(ACCEPTS_PER_TURN_MAX, |socket, peer| {
                accept_one(socket, peer.ip().to_canonical(), &acceptor);
            })
            .await;
        match accepted {
            // Lets the shard and the other handshakes run.
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => {
                acceptor.metrics.accept_errors.inc();
                if let Some(suppressed) = acceptor.admit_line(Kind::Accept) {
                    tracing::warn!(
                        %error,
                        suppressed,
                        "accept failed; retried every 50 ms, and the oldest handshakes give way"
                    );
                }
                for _ in 0..ACCEPTS_PER_TURN_MAX {
                    acceptor.displace_oldest();
                }
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

fn accept_one(socket: OwnedFd, ip: IpAddr, acceptor: &Rc<Acceptor>) {
    let mut partial = PartialRequest::new(ip, acceptor);
    if acceptor.config.tls.is_none() {
        let mut scratch = acceptor.scratch.borrow_mut();
        match socket::receive_now(&socket, &mut scratch) {
            Ok(None) => {}
            Ok(Some(len @ 1..)) => {
                if let Some(upgrade) = partial.first_read(&scratch[..len], acceptor) {
                    return acceptor.enter(upgrade, socket);
                }
                if partial.gets_no_answer(acceptor) {
                    // Closing with unread bytes, or with this option, sends a reset.
                    let _gone = socket::reset_at_close(&socket);
                    return;
                }
            }
            Ok(Some(0)) | Err(_) => return acceptor.metrics.rejected_gone.inc(),
        }
    }
    let stream = Rc::new(Stream::from_fd(socket));
    let Some(place) = acceptor.take_place(ip, partial.holder(), &stream) else {
        return;
    };
    let acceptor = Rc::clone(acceptor);
    stream::spawn(async move { handshake::receive_one(stream, place, partial, acceptor).await });
}

impl Acceptor {
    /// [`Limiter::admit`](crate::logging::Limiter::admit) of this shard, now.
    pub(super) fn admit_line(&self, kind: Kind) -> Option<u64> {
        let now = self.clock.now().tick;
        self.core.borrow_mut().admit_line(kind, now)
    }

    /// The limits of one of `shards` shards.
    pub(super) fn places_and_shares(
        settings: &AcceptSettings,
        shards: usize,
    ) -> (RefCell<Places<Waiting>>, RefCell<Shares>) {
        let places = Places::new(settings.handshakes_max, settings.address_handshakes_max);
        let connections = settings.address_connections_max;
        let part = connections.map(|limit| part_of(limit, shards));
        let shares = Shares::new(part, settings.address_refusals);
        (RefCell::new(places), RefCell::new(shares))
    }

    /// Hands `upgrade` to this thread's shard if its address may have one more connection.
    pub(super) fn enter(self: &Rc<Self>, upgrade: AcceptedUpgrade, socket: OwnedFd) {
        let mut pending = upgrade.into_pending(socket);
        if let Some(holder) = self.holder(pending.ip) {
            let now = self.clock.now().tick;
            let share = self.shares.borrow_mut().connect(holder, now);
            let Ok(share) = share else {
                self.metrics.rejected_address.inc();
                let error = AdmitError::TooManyOfAddress;
                stream::spawn(handshake::reject(pending, error, Rc::clone(self)));
                return;
            };
            pending.share = share;
        }
        self.core.borrow_mut().enter(pending);
        self.bell.ring_by(|| self.wake.notify_one());
    }

    /// Takes a place for a connection whose handshake continues; displaces the oldest one if none is free.
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
            // Our places are never busy, so one can always be displaced.
            Entered::Full => {
                self.metrics.rejected_limit.inc();
                None
            }
        }
    }

    fn displace(&self, oldest: &Waiting) {
        self.metrics.rejected_displaced.inc();
        oldest.stream.abort();
        refused_handshake::log_displaced(self, oldest.ip);
    }

    /// Sets the gauge of handshakes in progress.
    pub(super) fn note(&self) {
        let in_progress = self.places.borrow().len();
        self.metrics.handshakes.set(in_progress as u64);
    }

    fn displace_oldest(&self) {
        let oldest = self.places.borrow_mut().displace_next();
        if let Some(oldest) = oldest {
            self.displace(&oldest);
        }
    }

    /// The holder whose share `ip` counts against; a trusted proxy's own connections count against none.
    pub(super) fn holder(&self, ip: IpAddr) -> Option<Holder> {
        (!self.config.limits.trusted.trusts(ip)).then(|| Holder::of(ip))
    }

    /// Whether one more refusal of this address gets an answer; refusals without one are counted.
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
