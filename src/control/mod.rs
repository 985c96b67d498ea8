//! The control plane: the AWS REST-JSON API over HTTP, storage, and requests to the shards.

pub mod access;
pub mod archive;
pub mod arn;
pub mod aws_client;
pub mod fault;
mod http;
mod input;
pub mod op;
pub mod record;
pub mod record_cache;
pub mod registry;
pub mod review;
pub mod store;
pub mod throttle;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::clock::Clock;
use crate::shard::accept::LiveKeyring;
use crate::shard::gateway::Gateway;
use crate::supervisor::Supervisor;
use uproar_proto::base::id::RoomId;

pub use http::admission::ControlAdmissionSettings;

use access::Keys;
use archive::Archive;
use arn::Account;
use http::admission::ControlAdmission;
use record::Record;
use registry::Registry;
use throttle::{Rates, Throttle};

/// Settings the control plane starts with.
pub struct ControlSettings {
    /// Region and account of every ARN.
    pub account: Account,
    /// Access keys.
    pub keys: Keys,
    /// Calls per second of each operation.
    pub rates: Rates,
    /// How long a token may be used to connect.
    pub token_life: Duration,
    /// Knows whether every thread takes turns.
    pub supervisor: Supervisor,
    /// The archive of chat logs.
    pub archive: Archive,
    /// What one address may hold of the listener.
    pub admission: ControlAdmissionSettings,
}

/// Renders the shards' part of `/metrics`.
pub type Metrics = Box<dyn Fn(&mut String)>;

/// The control plane; one, on its own thread.
pub struct Control {
    settings: ControlSettings,
    registry: Registry,
    admission: Rc<ControlAdmission>,
    gateway: Gateway,
    keyring: LiveKeyring,
    clock: Clock,
    ready: Arc<AtomicBool>,
    metrics: Metrics,
    throttle: Throttle,
    // One further reference per call that waits for the disk or a shard.
    open_calls: Rc<()>,
    requests: RefCell<BTreeMap<(&'static str, u16), u64>>,
}

impl Control {
    /// Counts a call of `operation` that was answered with `status`.
    fn count(&self, operation: &'static str, status: u16) {
        let mut requests = self.requests.borrow_mut();
        *requests.entry((operation, status)).or_default() += 1;
    }

    /// Takes the stored records; the shards know its rooms already.
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
            admission: Rc::new(ControlAdmission::new(settings.admission.clone())),
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

    /// The ARN of the room with this id, else of the oldest named `name`; creates it with both if neither exists.
    pub async fn ready_room(&self, id: RoomId, name: &str) -> Result<String, fault::Fault> {
        let rooms = &self.registry.rooms;
        match rooms.get(id).or_else(|| rooms.named(name)) {
            Some(room) => Ok(self.settings.account.arn(room.id())),
            None => op::rooms::create_ready(self, id, name).await,
        }
    }
}
