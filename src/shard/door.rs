//! A shard's entrance: accepts, and takes a look at what each connection has already said.
//!
//! A client's upgrade request follows its connect at once, so mostly the whole head is there when we
//! accept. Then the newcomer needs no task, no timer and no descriptor of the runtime. Everybody else
//! (TLS, slow heads, refusals) goes on as a task in `shard::handshake`.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::core::Core;
use super::doorbell::Doorbell;
use super::handshake::{self, Guest, Knock};
use super::metrics::ShardMetrics;
use super::run::Clock;
use super::turned;
use crate::base::id::FrameIds;
use crate::base::limits::{ACCEPTS_PER_TURN_MAX, HANDSHAKES_MAX};
use crate::logging::Kind;
use crate::net::listener::Listener;
use crate::net::rings::Rings;
use crate::net::socket;
use crate::net::stream::{self, Stream};
use crate::protocol::token::Keyring;

/// Answers plain HTTP requests of the messaging listener: the demo page, where there is one.
pub trait Pages: Send + Sync {
    /// Appends the whole HTTP answer to `out`, or returns `false` for 404.
    fn answer(&self, method: &str, target: &str, out: &mut Vec<u8>) -> bool;
}

/// The sealing keys, replaced as a whole while handshakes read them.
pub type LiveKeyring = Arc<ArcSwap<Keyring>>;

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
}

/// The one room of the conformance mode.
pub const ECHO_ROOM: &str = "ConformEcho0";

/// One shard's entrance.
pub(super) struct Door {
    pub(super) entrance: Entrance,
    pub(super) core: Rc<RefCell<Core<Rings>>>,
    pub(super) bell: Arc<Doorbell>,
    pub(super) metrics: Arc<ShardMetrics>,
    pub(super) clock: Clock,
    pub(super) ids: RefCell<FrameIds>,
    pub(super) in_progress: Cell<usize>,
    /// What first looks read into.
    pub(super) scratch: RefCell<Box<[u8]>>,
    /// Wakes this thread's shard, as the bell does, without a system call.
    pub(super) entered: Notify,
}

/// Accepts for ever. Failures (no descriptors left, above all) are counted and waited out: the
/// connections stay in the kernel's queue.
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
                    tracing::warn!(%error, suppressed, "accept failed; retried every 50 ms");
                }
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

fn welcome(socket: OwnedFd, ip: IpAddr, door: &Rc<Door>) {
    let mut knock = Knock::default();
    if door.entrance.tls.is_none() {
        let mut scratch = door.scratch.borrow_mut();
        match socket::receive_now(&socket, &mut scratch) {
            Ok(None) => {}
            Ok(Some(len @ 1..)) => {
                if let Some(guest) = knock.look(&scratch[..len], door) {
                    return door.enter(guest, socket, ip);
                }
            }
            Ok(Some(0)) | Err(_) => return door.metrics.rejected_gone.inc(),
        }
    }
    if door.in_progress.get() >= HANDSHAKES_MAX {
        door.metrics.rejected_limit.inc();
        return turned::say_crowded(door, ip);
    }
    door.in_progress.set(door.in_progress.get() + 1);
    let door = Rc::clone(door);
    stream::spawn(async move {
        handshake::receive_one(Stream::from_fd(socket), ip, knock, &door).await;
        door.in_progress.set(door.in_progress.get() - 1);
    });
}

impl Door {
    /// [`Limiter::admit`](crate::logging::Limiter::admit) of this shard, now.
    pub(super) fn admit_line(&self, kind: Kind) -> Option<u64> {
        let now = self.clock.now().tick;
        self.core.borrow_mut().admit_line(kind, now)
    }

    /// Hands `guest` over to this thread's shard.
    pub(super) fn enter(&self, guest: Guest, socket: OwnedFd, ip: IpAddr) {
        let newcomer = guest.into_newcomer(socket, ip);
        self.core.borrow_mut().enter(newcomer);
        if self.bell.sleep().must_wake() {
            self.entered.notify_one();
        }
    }
}

const ACCEPT_RETRY: Duration = Duration::from_millis(50);
