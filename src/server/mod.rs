//! Start-up, wiring, signals and the end: from valid settings to a running server.

mod demo;
mod error;
mod keys;
pub mod logging;
mod preflight;
mod tls;

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::config::{DEV_ROOM, Mode, Settings};
use crate::control::access::Keys;
use crate::control::access::keyfile::KeyFile;
use crate::control::op::Operation;
use crate::control::store::{Store, path_in};
use crate::control::{Control, ControlSettings};
use crate::net::socket;
use crate::protocol::token::Keyring;
use crate::shard::gateway::Gateway;
use crate::shard::handshake::{Entrance, Pages};
use crate::shard::mesh::{self, Shards};
use crate::shard::metrics;
use crate::shard::run::Clock;

pub use error::StartError;
pub use keys::{load_keyring, nonce};
pub use preflight::raise_descriptor_limit;

/// Takes a data directory as a server does, so that none runs on it meanwhile.
pub fn hold(data_dir: &Path) -> Result<impl Sized, StartError> {
    preflight::data_directory(data_dir, false)
}

/// What a server that has just become ready says of itself.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Where viewers connect.
    pub messaging: SocketAddr,
    /// Where the API is.
    pub control: SocketAddr,
    /// Whether both speak TLS.
    pub tls: bool,
    /// ARN of the ready room, in dev.
    pub room: Option<String>,
}

/// Whether a start would accept what `settings` names: certificate and key. Changes nothing.
pub fn check(settings: &Settings) -> Result<(), StartError> {
    tls::configure(settings).map(drop)
}

/// Runs until SIGTERM or SIGINT. `on_ready` hears once that both listeners accept.
pub fn run(settings: Settings, on_ready: impl FnOnce(&Ready)) -> Result<(), StartError> {
    preflight::small_pages();
    let dev = matches!(settings.mode, Mode::Dev { .. });
    let directory = preflight::data_directory(&settings.data_dir, settings.data_is_temporary)?;
    let connections_max = preflight::descriptors(settings.shard.connections_max)?;
    let clock = Clock::start();
    let keyring = Arc::new(keys::open_or_create(&settings.data_dir, clock.now().unix)?);
    let tls = tls::configure(&settings)?;
    let database = path_in(&settings.data_dir);
    let keys = Keys::load(settings.keys.clone(), KeyFile::of(&settings.data_dir))
        .map_err(StartError::AccessKeys)?;
    let store = Store::open(&database).map_err(|cause| StartError::Store { database, cause })?;

    let pages = dev.then(|| Arc::new(demo::Demo::new(Arc::clone(&keyring), clock, &settings)));
    let mut shard_settings = settings.shard.clone();
    shard_settings.connections_max = connections_max;
    let entrance = Entrance {
        keyring: Arc::clone(&keyring),
        tls: tls.messaging,
        origins: settings.origins.clone().into(),
        pages: pages.clone().map(|pages| pages as Arc<dyn Pages>),
        echo: false,
    };
    let control_listener = bind_control(settings.control_listen)?;
    let control_address = control_listener
        .local_addr()
        .unwrap_or(settings.control_listen);
    let shards = mesh::start(mesh::Plan {
        settings: shard_settings.clone(),
        listen: settings.messaging_listen,
        journals: Some(&settings.data_dir.join("used-tokens")),
        entrance,
        pin: settings.pin,
        clock,
    })
    .map_err(|cause| StartError::of_shards(cause, settings.messaging_listen))?;

    let start = Start {
        settings,
        shards,
        shard_settings,
        keyring,
        clock,
        store,
        keys,
        pages,
    };
    let serves = Serves {
        listener: control_listener,
        tls: tls.control,
        address: control_address,
    };
    let outcome = start.run(serves, on_ready);
    drop(directory);
    outcome
}

/// Everything the control thread is made of.
struct Start {
    settings: Settings,
    shards: Shards,
    shard_settings: crate::shard::settings::ShardSettings,
    keyring: Arc<Keyring>,
    clock: Clock,
    store: Store,
    keys: Keys,
    pages: Option<Arc<demo::Demo>>,
}

/// The control listener.
struct Serves {
    listener: std::net::TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    address: SocketAddr,
}

impl Start {
    fn run(self, serves: Serves, on_ready: impl FnOnce(&Ready)) -> Result<(), StartError> {
        let Self {
            settings,
            mut shards,
            shard_settings,
            keyring,
            clock,
            store,
            keys,
            pages,
        } = self;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::Runtime)?;
        let gateway = Gateway::new(std::mem::take(&mut shards.posts), shard_settings);
        let shard_metrics = shards.metrics.clone();
        let ready = Arc::new(AtomicBool::new(false));
        let control_settings = ControlSettings {
            realm: settings.realm.clone(),
            keys,
            rates: settings.api_rates.then_some(Operation::aws_rate),
            token_life: settings.token_life,
        };
        let outcome = LocalSet::new().block_on(&runtime, async {
            let control = Control::start(
                control_settings,
                store,
                gateway.clone(),
                keyring,
                clock,
                Arc::clone(&ready),
                Box::new(move |out| metrics::render(&shard_metrics, out)),
            )
            .await
            .map_err(StartError::Load)?;
            let room = match &pages {
                Some(pages) => {
                    let arn = control
                        .room_called(DEV_ROOM)
                        .await
                        .map_err(|fault| StartError::Room(format!("{fault:?}")))?;
                    pages.set_room(&arn);
                    Some(arn)
                }
                None => None,
            };
            let stop = stop_signal()?;
            ready.store(true, Ordering::Release);
            let tls = serves.tls.is_some();
            on_ready(&Ready {
                messaging: shards.address,
                control: serves.address,
                tls,
                room,
            });
            tracing::info!(messaging = %shards.address, control = %serves.address, tls, "ready");
            let served = Rc::clone(&control)
                .serve(serves.listener, serves.tls, stop)
                .await;
            tracing::info!(
                "stopping: connections are cut without a Close frame, so that clients reconnect"
            );
            gateway.stop();
            served.map_err(StartError::Runtime)
        });
        shards.join();
        outcome
    }
}

fn bind_control(address: SocketAddr) -> Result<std::net::TcpListener, StartError> {
    socket::listen_alone(address).map_err(|cause| StartError::Bind { address, cause })
}

/// Ready at the first SIGTERM or SIGINT.
fn stop_signal() -> Result<impl Future<Output = ()>, StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Runtime)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
