//! Start-up, wiring, signals and shutdown: from valid settings to a running server.

mod certificate;
mod demo;
mod error;
mod keys;
mod pem;
mod preflight;
mod process;
mod process_metrics;
mod reload;
mod remedy;
mod tls;

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tokio::task::LocalSet;

use crate::clock::{self, Clock};
use crate::config::{DEV_ROOM, DEV_ROOM_ID, Mode, Running, Settings, keyring_path};
use crate::control::access::Keys;
use crate::control::access::keyfile::KeyFile;
use crate::control::archive::{self, ArchiveThread};
use crate::control::registry::Registry;
use crate::control::review::{ReviewMetrics, Reviews};
use crate::control::store::{Store, path_in};
use crate::control::{Control, ControlSettings};
use crate::durable::Watched;
use crate::logging;
use crate::net::socket;
use crate::shard::gateway::Gateway;
use crate::shard::handshake::{HandshakeConfig, LiveKeyring, Pages};
use crate::shard::mesh::{self, Shards};
use crate::shard::metrics;
use crate::supervisor::Supervisor;
use uproar_proto::base::id::RoomId;

pub(crate) use error::StartError;
pub(crate) use keys::{load_keyring, nonce, rotate_keyring};
pub(crate) use preflight::raise_descriptor_limit;
pub(crate) use process::Process;
pub(crate) use remedy::ring_remedy;

/// Locks a data directory as a server does, so that no server runs on it meanwhile.
pub(crate) fn hold(data_dir: &Path) -> Result<impl Sized, StartError> {
    preflight::data_directory(data_dir, false)
}

/// The addresses of a server that has just become ready.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    /// Address for viewers.
    pub messaging: SocketAddr,
    /// Address of the API.
    pub control: SocketAddr,
    /// Whether viewers use TLS.
    pub messaging_tls: bool,
    /// Whether callers of the API use TLS.
    pub control_tls: bool,
    /// ARN of the ready room, in dev.
    pub room: Option<String>,
}

/// Whether a start would accept the certificate and key that `settings` names. Changes nothing. Returns the start's
/// warning, if there is one.
pub(crate) fn check(settings: &Settings) -> Result<Option<String>, StartError> {
    let Some(certificate) = tls::configure(settings)?.certificate else {
        return Ok(None);
    };
    let now = clock::unix_now();
    let warning = certificate.validity().map(|validity| validity.warning(now));
    let warning = warning.unwrap_or_else(|error| Some(certificate::unreadable(&error)));
    let name = |path: &Path| path.display().to_string();
    let file = certificate
        .files()
        .map_or_else(String::new, |[path, _]| name(path));
    Ok(warning.map(|warning| format!("{file}: {warning}")))
}

/// Runs until SIGTERM or SIGINT. Calls `on_ready` once both listeners accept.
pub(crate) fn run(
    process: Process,
    settings: Settings,
    running: Running,
    on_ready: impl FnOnce(&Ready),
) -> Result<(), StartError> {
    let supervisor = Supervisor::of_process();
    log_start(&settings, &running);
    preflight::small_pages();
    let dev = matches!(settings.mode, Mode::Dev { .. });
    let mut directory = preflight::data_directory(&settings.data_dir, settings.data_is_temporary)?;
    if settings.data_is_own {
        directory.remove_at_end(&settings.data_dir);
    }
    let mut shard_settings = settings.shard.clone();
    shard_settings.connections_max =
        preflight::descriptors(settings.shard.connections_max, settings.shard.shard_count)?;
    // From here on connections wait in the kernel's queues; none is answered before all state is loaded.
    let control_listener = bind(settings.control_listen, "--control-listen", |address| {
        socket::listen_alone(address)
    })?;
    let listeners = bind(settings.messaging_listen, "--messaging-listen", |address| {
        mesh::listen(address, shard_settings.shard_count)
    })?;
    let clock = Clock::start();
    keys::open_or_create(&settings.data_dir, clock.now().unix)?;
    // Watched before it is read, so that no rotation is missed.
    let keyring_file = Watched::new([keyring_path(&settings.data_dir)]);
    let keyring = load_keyring(&settings.data_dir)?;
    let keyring = Arc::new(ArcSwap::from_pointee(keyring));
    let tls = tls::configure(&settings)?;
    let keys = Keys::load(settings.keys.clone(), KeyFile::of(&settings.data_dir))
        .map_err(StartError::AccessKeys)?;
    let database = path_in(&settings.data_dir);
    let store = Store::open(&database, &supervisor)
        .map_err(|cause| StartError::Store { database, cause })?;
    let registry = Registry::load(store).map_err(StartError::Load)?;

    let pages = dev.then(|| Arc::new(demo::Demo::new(Arc::clone(&keyring), clock, &settings)));
    let spare = preflight::spare_descriptors(shard_settings.shard_count);
    let accept_settings = settings
        .accept
        .clone()
        .within(spare / 2 / shard_settings.shard_count);
    let messaging_tls = tls.messaging.is_some();
    let handshake_config = HandshakeConfig {
        keyring: Arc::clone(&keyring),
        tls: tls.messaging,
        origins: settings.origins.clone().into(),
        pages: pages.clone().map(|pages| -> Arc<dyn Pages> { pages }),
        compression: settings.compression,
        echo: false,
        limits: Arc::new(accept_settings),
    };
    let mut shards = mesh::start(mesh::Plan {
        settings: shard_settings.clone(),
        listeners,
        rooms: registry.room_settings(),
        journals: Some(&settings.data_dir.join("used-tokens")),
        handshake_config,
        archive: true,
        pin: settings.pin,
        clock,
        supervisor: &supervisor,
    })
    .map_err(StartError::of_shards)?;
    let end = shards.archive.take().expect("requested, and taken once");
    let destinations = registry.destinations();
    let archive = archive::start(
        settings.archive.clone(),
        destinations,
        end,
        clock,
        &supervisor,
    )
    .map_err(|cause| StartError::Archive { cause })?;

    let control_address = control_listener.local_addr();
    let control_listener = ControlListener {
        address: control_address.unwrap_or(settings.control_listen),
        listener: control_listener,
        tls: tls.control,
        messaging_tls,
    };
    let start = Start {
        process,
        supervisor,
        settings,
        running,
        shards,
        shard_settings,
        keyring,
        keyring_file,
        certificate: tls.certificate,
        clock,
        registry,
        archive,
        keys,
        pages,
        spare,
    };
    let outcome = start.run(control_listener, on_ready);
    drop(directory);
    outcome
}

/// Logs the program, its process and its configuration.
fn log_start(settings: &Settings, running: &Running) {
    let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("UPROAR_COMMIT"));
    let pid = std::process::id();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let shards = settings.shard.shard_count;
    let config = running
        .file()
        .map(|path| tracing::field::display(path.display()));
    let data_dir = settings.data_dir.display();
    tracing::info!(version, commit, pid, cores, shards, config, %data_dir, "starting");
}

/// Everything the control thread needs.
struct Start {
    process: Process,
    supervisor: Supervisor,
    settings: Settings,
    running: Running,
    shards: Shards,
    shard_settings: crate::shard::settings::ShardSettings,
    keyring: LiveKeyring,
    keyring_file: Watched<1>,
    certificate: Option<Arc<tls::LiveCertificate>>,
    clock: Clock,
    registry: Registry,
    archive: ArchiveThread,
    keys: Keys,
    pages: Option<Arc<demo::Demo>>,
    // Descriptors beyond what the server always needs.
    spare: usize,
}

/// The control listener, with the addresses to announce.
struct ControlListener {
    listener: std::net::TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    address: SocketAddr,
    // Whether the messaging listener uses TLS.
    messaging_tls: bool,
}

impl Start {
    fn run(
        self,
        control_listener: ControlListener,
        on_ready: impl FnOnce(&Ready),
    ) -> Result<(), StartError> {
        let Self {
            process,
            supervisor,
            settings,
            running,
            mut shards,
            shard_settings,
            keyring,
            keyring_file,
            certificate,
            clock,
            registry,
            archive,
            keys,
            pages,
            spare,
        } = self;
        let Process {
            runtime,
            mut stop,
            hangup,
        } = process;
        let reloads = Arc::new(reload::Reloads::default());
        let watch = reload::Watch::new(
            settings.data_dir.clone(),
            running,
            (Arc::clone(&keyring), keyring_file),
            certificate.clone(),
            Arc::clone(&reloads),
        );
        let gateway = Gateway::new(std::mem::take(&mut shards.mailboxes), shard_settings);
        let shard_metrics = shards.metrics.clone();
        let review_receivers = shards
            .reviews
            .take()
            .expect("every mesh has one, and it is taken once");
        let review_metrics = Rc::new(ReviewMetrics::default());
        let restarts = supervisor.clone();
        let shown_reviews = Rc::clone(&review_metrics);
        let process_metrics = process_metrics::ProcessMetrics::new();
        let ready = Arc::new(AtomicBool::new(false));
        let control_settings = ControlSettings {
            account: settings.account.clone(),
            keys,
            rates: settings.api_rates.clone(),
            token_life: settings.token_life,
            archive: archive.archive(),
            admission: settings.control_admission.clone().within(spare / 4),
            supervisor,
        };
        let outcome = LocalSet::new().block_on(&runtime, async {
            let control = Control::new(
                control_settings,
                registry,
                gateway.clone(),
                keyring,
                clock,
                Arc::clone(&ready),
                Box::new(move |out| {
                    metrics::render(&shard_metrics, out);
                    reloads.render(out);
                    if let Some(certificate) = &certificate {
                        certificate.render(out);
                    }
                    shown_reviews.render(out);
                    restarts.render(out);
                    logging::render(out);
                    process_metrics.render(out);
                }),
            );
            let timeout = settings.shard.review_timeout;
            let reviews = Reviews::new(
                Rc::clone(&control),
                settings.review,
                timeout,
                review_metrics,
            )
            .map_err(StartError::Certificates)?;
            let room = match &pages {
                Some(pages) => {
                    let id = RoomId::parse(DEV_ROOM_ID).expect("twelve letters and digits");
                    let arn = control
                        .ready_room(id, DEV_ROOM)
                        .await
                        .map_err(|fault| StartError::Room(format!("{fault:?}")))?;
                    pages.set_room(&arn, control_listener.address);
                    Some(arn)
                }
                None => None,
            };
            if stop.is_requested().await {
                tracing::info!("stopped before anybody was accepted");
                return Ok(());
            }
            shards.open();
            ready.store(true, Ordering::Release);
            let (tls, control_tls) = (
                control_listener.messaging_tls,
                control_listener.tls.is_some(),
            );
            on_ready(&Ready {
                messaging: shards.address,
                control: control_listener.address,
                messaging_tls: tls,
                control_tls,
                room,
            });
            let (viewers, callers) = (shards.address, control_listener.address);
            tracing::info!(messaging = %viewers, control = %callers, tls, control_tls, "ready");
            let serving = Rc::clone(&control).serve(
                control_listener.listener,
                control_listener.tls,
                stop.requested(),
            );
            // The control thread's tasks that must not end.
            let served = tokio::select! {
                served = serving => served.map_err(StartError::Runtime),
                never = watch.run(hangup, clock) => match never {},
                failed = reviews.serve(review_receivers) => match failed {
                    Err(cause) => Err(StartError::Task { task: "reviews", cause }),
                },
            };
            tracing::info!(
                "stopping: connections are cut without a Close frame, so that clients reconnect"
            );
            served
        });
        // Also after a failed start: the shards run already.
        gateway.stop();
        shards.join();
        archive.stop();
        outcome
    }
}

/// Binds an address, or names the setting that failed.
fn bind<T>(
    address: SocketAddr,
    flag: &'static str,
    listen: impl FnOnce(SocketAddr) -> std::io::Result<T>,
) -> Result<T, StartError> {
    listen(address).map_err(|cause| StartError::Bind {
        address,
        flag,
        cause,
    })
}
