//! The control plane: the AWS REST-JSON API over HTTP, storage, and what it asks of the shards.

pub mod access;
pub mod archive;
pub mod arn;
pub mod client;
pub mod fault;
mod http;
mod input;
pub mod op;
pub mod record;
pub mod registry;
pub mod review;
pub mod shelf;
pub mod store;
pub mod throttle;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::base::id::RoomId;
use crate::shard::door::LiveKeyring;
use crate::shard::gateway::Gateway;
use crate::shard::run::Clock;
use crate::supervisor::Supervisor;

pub use http::admission::ControlDoorSettings;

use access::Keys;
use archive::Archive;
use arn::Realm;
use http::admission::ControlDoor;
use record::Record;
use registry::Registry;
use throttle::{Rates, Throttle};

/// What the control plane is started with.
pub struct ControlSettings {
    /// Region and account of every ARN.
    pub realm: Realm,
    /// Access keys.
    pub keys: Keys,
    /// Calls of each operation per second.
    pub rates: Rates,
    /// How long a token may be used to connect.
    pub token_life: Duration,
    /// Knows whether every thread turns.
    pub supervisor: Supervisor,
    /// Where chat logs go.
    pub archive: Archive,
    /// What an address may have of the listener.
    pub door: ControlDoorSettings,
}

/// Renders the shards' part of `/metrics`.
pub type Metrics = Box<dyn Fn(&mut String)>;

/// The control plane, one on its thread.
pub struct Control {
    settings: ControlSettings,
    registry: Registry,
    door: Rc<ControlDoor>,
    gateway: Gateway,
    keyring: LiveKeyring,
    clock: Clock,
    ready: Arc<AtomicBool>,
    metrics: Metrics,
    throttle: Throttle,
    // As many further references as calls wait for the disk or a shard.
    open_calls: Rc<()>,
    requests: RefCell<BTreeMap<(&'static str, u16), u64>>,
}

impl Control {
    /// One more call of `operation` was answered with `status`.
    fn count(&self, operation: &'static str, status: u16) {
        let mut requests = self.requests.borrow_mut();
        *requests.entry((operation, status)).or_default() += 1;
    }

    /// With what is stored; the shards know its rooms already.
    pub fn new(
        settings: ControlSettings,
        registry: Registry,
        gateway: Gateway,
        keyring: LiveKeyring,
        clock: Clock,
        ready: Arc<AtomicBool>,
        metrics: Metrics,
    ) -> Rc<Self> {
        Rc::new(Self {
            throttle: Throttle::new(settings.rates.clone()),
            door: Rc::new(ControlDoor::new(settings.door.clone())),
            settings,
            registry,
            gateway,
            keyring,
            clock,
            ready,
            metrics,
            open_calls: Rc::default(),
            requests: RefCell::default(),
        })
    }

    /// Serves until `stop` is ready. Call within a `LocalSet`.
    pub async fn serve(
        self: Rc<Self>,
        listener: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
        stop: impl Future<Output = ()>,
    ) -> std::io::Result<()> {
        http::listen::serve(self, listener, tls, stop).await
    }

    /// The ARN of the room with this id, else of the oldest called `name`; made with both if there is neither.
    pub async fn ready_room(&self, id: RoomId, name: &str) -> Result<String, fault::Fault> {
        let rooms = &self.registry.rooms;
        match rooms.get(id).or_else(|| rooms.named(name)) {
            Some(room) => Ok(self.settings.realm.arn(room.id())),
            None => op::rooms::create_ready(self, id, name).await,
        }
    }
}
