//! What one shard's acceptor and its handshakes share: settings, bounds, counters.

use std::cell::{Ref, RefCell};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::config::{AcceptSettings, HandshakeConfig, HandshakeSettings};
use crate::clock::Clock;
use crate::logging::Kind;
use crate::net::stream::{Hosted, Stream};
use crate::shard::core::Core;
use crate::shard::doorbell::Doorbell;
use crate::shard::metrics::ShardMetrics;
use uproar_proto::base::admission::{Entered, Holder, Place, Places, Share, Shares, part_of};
use uproar_proto::base::id::FrameIds;
use uproar_proto::base::limits::HANDSHAKE_READ_BYTES;

/// A connection whose handshake is in progress.
pub(super) struct Waiting<S> {
    /// The address at the time it took its place: perhaps a proxy's.
    ip: IpAddr,
    stream: Rc<S>,
}

/// The shard of this thread, as its acceptor sees it.
pub(crate) struct OwnShard<B: Hosted> {
    pub(crate) core: Rc<RefCell<Core<B>>>,
    pub(crate) bell: Arc<Doorbell>,
    pub(crate) metrics: Arc<ShardMetrics>,
    /// Ends the shard's sleep, as the bell does, without a system call.
    pub(crate) wake: Notify,
}

/// Accepts and admits the connections of one shard.
pub(crate) struct Acceptor<B: Hosted> {
    pub(super) config: HandshakeConfig,
    // Those of `config` until others are adopted.
    settings: RefCell<HandshakeSettings>,
    // Number of shards, which share the limit on an address's connections.
    shards: usize,
    pub(crate) shard: OwnShard<B>,
    pub(super) clock: Clock,
    /// Makes the `Id`s of refusals.
    pub(super) ids: RefCell<FrameIds>,
    /// Whether this shard accepts; while not, newcomers wait in the kernel's queue.
    pub(crate) doors: watch::Sender<bool>,
    /// Handshakes in progress, and refused ones whose answer is still being sent.
    pub(super) places: RefCell<Places<Waiting<B::Stream>>>,
    /// Notified when none is in progress any more.
    emptied: Notify,
    /// Connections and refusals of each address.
    pub(super) shares: RefCell<Shares>,
    /// Buffer of the first read of each connection.
    pub(crate) scratch: RefCell<Box<[u8]>>,
}

impl<B: Hosted> Acceptor<B> {
    /// The acceptor of one of `shards` shards, with closed doors; `ids` makes the `Id`s of its refusals.
    pub(crate) fn new(
        shard: OwnShard<B>,
        config: HandshakeConfig,
        shards: usize,
        clock: Clock,
        ids: FrameIds,
    ) -> Self {
        let limits = &config.settings.limits;
        let most = u64::try_from(limits.handshakes_max).expect("at most HANDSHAKES_MAX");
        shard.metrics.handshakes_max.set(most);
        let places = Places::new(limits.handshakes_max, limits.address_handshakes_max);
        let shares = Shares::new(connections_max(limits, shards), limits.address_refusals);
        Self {
            settings: RefCell::new(config.settings.clone()),
            config,
            shards,
            shard,
            clock,
            ids: RefCell::new(ids),
            doors: watch::Sender::new(false),
            places: RefCell::new(places),
            emptied: Notify::new(),
            shares: RefCell::new(shares),
            scratch: RefCell::new(vec![0; HANDSHAKE_READ_BYTES].into()),
        }
    }

    /// Counts a connection of `ip` that another process has admitted.
    pub(crate) fn readmit(&self, ip: IpAddr) -> Option<Share> {
        let now = self.clock.now().tick;
        self.shares.borrow_mut().readmit(Holder::of(ip), now)
    }

    /// The settings of handshakes now.
    pub(super) fn settings(&self) -> Ref<'_, HandshakeSettings> {
        self.settings.borrow()
    }

    /// Takes other settings over, for handshakes from now on.
    pub(crate) fn adopt(&self, settings: HandshakeSettings) {
        let limits = &settings.limits;
        let mut places = self.places.borrow_mut();
        places.set_share_max(limits.address_handshakes_max);
        let part = connections_max(limits, self.shards);
        let mut shares = self.shares.borrow_mut();
        shares.set_limits(part, limits.address_refusals);
        self.settings.replace(settings);
    }

    /// Whether connections speak TLS from their first byte.
    pub(crate) fn has_tls(&self) -> bool {
        self.settings().tls.is_some()
    }

    /// [`Limiter::admit`](crate::logging::Limiter::admit) of this shard, now.
    pub(crate) fn admit_line(&self, kind: Kind) -> Option<u64> {
        let now = self.clock.now().tick;
        self.shard.core.borrow_mut().admit_line(kind, now)
    }

    /// The stream of a connection whose handshake continues; `None`: the kernel has no memory for it, it is closed and
    /// counted.
    pub(crate) fn stream(&self, socket: OwnedFd) -> Option<Rc<B::Stream>> {
        let stream = B::Stream::from_fd(socket);
        if stream.is_err() {
            self.shard.metrics.accept_errors.inc();
        }
        stream.ok().map(Rc::new)
    }

    /// Takes a place for a connection whose handshake continues; displaces the oldest one if none is free.
    pub(crate) fn take_place(
        &self,
        ip: IpAddr,
        holder: Option<Holder>,
        stream: &Rc<B::Stream>,
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
                self.shard.metrics.rejected_limit.inc();
                None
            }
        }
    }

    /// Ends a handshake's stay. `false`: it was displaced or aborted before, and counted there.
    pub(super) fn leave(&self, place: Place) -> bool {
        let mut places = self.places.borrow_mut();
        let left = places.leave(place);
        if places.is_empty() {
            self.emptied.notify_waiters();
        }
        left
    }

    /// Waits until no handshake is in progress.
    ///
    /// # Cancel safety
    ///
    /// Safe: it changes nothing.
    pub(crate) async fn emptied(&self) {
        loop {
            // Before the look, so that no end is missed in between.
            let emptied = self.emptied.notified();
            if self.places.borrow().is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Resets all connections whose handshake is in progress; none of them is admitted any more.
    pub(crate) fn abort_all(&self) {
        let next = || self.places.borrow_mut().displace_next();
        for waiting in std::iter::from_fn(next) {
            self.shard.metrics.rejected_closing.inc();
            waiting.stream.abort();
        }
    }

    fn displace(&self, oldest: &Waiting<B::Stream>) {
        self.shard.metrics.rejected_displaced.inc();
        oldest.stream.abort();
        if let Some(suppressed) = self.admit_line(Kind::HandshakeLimit) {
            let reason = "Too many handshakes are in progress: the oldest one gave way";
            let (ip, limit) = (oldest.ip, self.settings().limits.handshakes_max);
            tracing::warn!(%ip, reason, limit, suppressed, "handshake refused");
        }
    }

    /// Sets the gauge of handshakes in progress.
    pub(crate) fn note(&self) {
        let in_progress = self.places.borrow().len();
        self.shard
            .metrics
            .handshakes
            .set(u64::try_from(in_progress).expect("at most HANDSHAKES_MAX"));
    }

    /// Closes the oldest handshake, to free its descriptor.
    pub(crate) fn displace_oldest(&self) {
        let oldest = self.places.borrow_mut().displace_next();
        if let Some(oldest) = oldest {
            self.displace(&oldest);
        }
    }

    /// The holder whose share `ip` counts against; a trusted proxy's own connections count against none.
    pub(super) fn holder(&self, ip: IpAddr) -> Option<Holder> {
        (!self.settings().limits.trusted.trusts(ip)).then(|| Holder::of(ip))
    }

    /// Whether one more refusal of this address gets an answer; refusals without one are counted.
    pub(super) fn is_answered(&self, ip: IpAddr) -> bool {
        let Some(holder) = self.holder(ip) else {
            return true;
        };
        let now = self.clock.now().tick;
        let answered = self.shares.borrow_mut().refuse(holder, now);
        if !answered {
            self.shard.metrics.rejected_unanswered.inc();
        }
        answered
    }
}

/// Most open connections of one address on one of `shards` shards.
fn connections_max(limits: &AcceptSettings, shards: usize) -> Option<usize> {
    let limit = limits.address_connections_max;
    limit.map(|limit| part_of(limit, shards))
}
