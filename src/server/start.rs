//! From valid settings to running threads: what is bound, read and started, in which order.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::listeners::{Inherited, Listeners};
use super::notify::Notifier;
use super::orders::Ended;
use super::preflight::Directory;
use super::ready_file::ReadyFile;
use super::serve::{ControlListener, Serving, Threads};
use super::tickets::Tickets;
use super::upgrade::{self, Handed, Journals};
use super::{
    ChosenIo, Process, Ready, StartError, audit, demo, emulator, load_keyring, node, preflight,
    registry, tls,
};
use crate::clock::Clock;
use crate::cluster::bucket::BucketEnd;
use crate::config::{Mode, Running, Settings, keyring_path};
use crate::control::access::Keys;
use crate::control::access::keyfile::KeyFile;
use crate::control::archive;
use crate::control::registry::Registry;
use crate::control::rules::load_rules;
use crate::durable::Watched;
use crate::net::backend::Kind;
use crate::shard::handshake::{HandshakeConfig, LiveKeyring, Pages};
use crate::shard::journal;
use crate::shard::mesh;
use crate::supervisor::Supervisor;

/// Runs until SIGTERM or SIGINT. Calls `on_ready` once both listeners accept.
pub(crate) fn run(
    mut process: Process,
    (settings, io): (Settings, ChosenIo),
    running: Running,
    on_ready: impl FnOnce(&Ready),
) -> Result<Ended, StartError> {
    let mut handed = match &settings.take_over {
        Some(data_dir) => upgrade::greet(&settings, io.kind, data_dir)?,
        None => None,
    };
    let started = start(&mut process, (settings, io), running, handed.as_deref_mut());
    let (mut serving, threads, control_listener) = started.inspect_err(|error| {
        if let Some(handed) = &handed {
            handed.give_up(error);
        }
    })?;
    serving.handed = handed;
    // Held to the end.
    let (directory, ready_file) = (Rc::clone(&serving.directory), serving.ready_file.clone());
    let outcome = serving.run(process, threads, control_listener, on_ready);
    if let Some(file) = ready_file {
        file.remove();
    }
    drop(directory);
    outcome
}

/// Starts everything but the control thread, on what another process has `handed` over or as ever.
fn start(
    process: &mut Process,
    (mut settings, io): (Settings, ChosenIo),
    running: Running,
    mut handed: Option<&mut Handed>,
) -> Result<(Serving, Threads, ControlListener), StartError> {
    let supervisor = Supervisor::of_process();
    log_start(&settings, &io, &running);
    let (directory, inherited) = directory(process, &settings, handed.as_deref_mut())?;
    let ready_file = ReadyFile::prepare(&settings, handed.is_some())?;
    let shards = settings.shard.shard_count;
    preflight::fit(&mut settings, io.kind, shards)?;
    preflight::grow_descriptor_table(io.kind, shards);
    let notifier = Notifier::of_environment();
    // From here on connections wait in the kernel's queues; none is answered before all state is loaded.
    let listeners = Listeners::inherited_or_bound(&settings, inherited, &notifier)?;
    let clock = Clock::start();
    let mut loaded = Loaded::read(&settings, clock, &supervisor, handed.as_deref_mut())?;
    let is_dev = matches!(settings.mode, Mode::Dev { .. });
    let demo = || demo::Demo::new(Arc::clone(&loaded.keyring), clock, &settings);
    let pages = is_dev.then(|| Arc::new(demo()));
    let shown = pages.clone();
    let path = settings.data_dir.join("used-tokens");
    let stands_by = handed.is_some();
    let journals = match handed {
        Some(handed) => handed.journals(&path, &settings.shard, clock.now()),
        None => journal::open_all(&path, &settings.shard, clock.now()),
    };
    let journals = journals.map_err(|cause| StartError::Directory { path, cause })?;
    // Before the first id is drawn, and after what often fails.
    emulator::repeat_ids(&settings)?;
    let of_shards = (journals, shown, clock, stands_by);
    let threads = start_threads(
        (&settings, io.kind),
        &listeners,
        &mut loaded,
        of_shards,
        &supervisor,
    )?;
    let control_listener = control_listener(&settings, &io, &listeners, &loaded.tls)?;
    let serving = Serving {
        supervisor,
        settings,
        io,
        running,
        keyring: loaded.keyring,
        keyring_file: loaded.keyring_file,
        tls: Rc::new(RefCell::new(loaded.tls)),
        clock,
        registry: loaded.registry,
        keys: loaded.keys,
        pages,
        listeners: Rc::new(listeners),
        notifier,
        directory: Rc::new(directory),
        ready_file,
        handed: None,
    };
    Ok((serving, threads, control_listener))
}

fn control_listener(
    settings: &Settings,
    io: &ChosenIo,
    listeners: &Listeners,
    tls: &tls::Listeners,
) -> Result<ControlListener, StartError> {
    let listener = listeners.control().map_err(StartError::Runtime)?;
    Ok(ControlListener {
        address: listener.local_addr().unwrap_or(settings.control_listen),
        listener,
        messaging_tls: tls.messaging.is_some(),
        tls: tls.control.clone(),
        io: io.clone(),
    })
}

/// The data directory, locked, and the sockets that this process was given: by the process before it, or at its start.
fn directory(
    process: &mut Process,
    settings: &Settings,
    handed: Option<&mut Handed>,
) -> Result<(Directory, Inherited), StartError> {
    if let Some(handed) = handed {
        return handed.take().map_err(StartError::Runtime);
    }
    let (path, fresh) = (&settings.data_dir, settings.data_is_temporary);
    let directory = preflight::data_directory(path, fresh)?;
    if settings.data_is_own {
        directory.remove_at_end(path);
    }
    Ok((directory, std::mem::take(&mut process.inherited)))
}

/// What a start reads from its files.
struct Loaded {
    keyring: LiveKeyring,
    // Watched before it is read, so that no rotation is missed.
    keyring_file: Watched<1>,
    tls: tls::Listeners,
    keys: Keys,
    registry: Registry,
    // Where the registry's requests to the cluster's bucket arrive, until the thread has it.
    bucket: Option<BucketEnd>,
}

impl Loaded {
    fn read(
        settings: &Settings,
        clock: Clock,
        supervisor: &Supervisor,
        handed: Option<&mut Handed>,
    ) -> Result<Self, StartError> {
        let (registry, bucket) = registry::load(settings, clock.now().unix, supervisor)?;
        let keyring_file = Watched::new([keyring_path(&settings.data_dir)]);
        let keyring = load_keyring(&settings.data_dir)?;
        let now = clock.now().tick;
        let tickets = match handed.and_then(Handed::tickets) {
            Some(file) => Tickets::inherited(file, now),
            None => Tickets::new(now),
        };
        let tickets = tickets.map_err(StartError::Runtime)?;
        let tls = tls::configure(settings, Some(tickets), None)?;
        let keys = Keys::load(settings.keys.clone(), KeyFile::of(&settings.data_dir))
            .map_err(StartError::AccessKeys)?;
        Ok(Self {
            keyring: Arc::new(ArcSwap::from_pointee(keyring)),
            keyring_file,
            tls,
            keys,
            registry,
            bucket,
        })
    }
}

fn start_threads(
    (settings, io): (&Settings, Kind),
    listeners: &Listeners,
    loaded: &mut Loaded,
    (journals, pages, clock, stands_by): (Journals, Option<Arc<demo::Demo>>, Clock, bool),
    supervisor: &Supervisor,
) -> Result<Threads, StartError> {
    let handshake_config = HandshakeConfig {
        keyring: Arc::clone(&loaded.keyring),
        pages: pages.map(|pages| -> Arc<dyn Pages> { pages }),
        echo: false,
        extensions: settings.extensions,
        settings: loaded.tls.handshake_settings(settings),
    };
    let of_shards = listeners.messaging(settings.shard.shard_count);
    let listeners = of_shards.map_err(StartError::Runtime)?;
    let mut shards = mesh::start(mesh::Plan {
        settings: settings.shard.clone(),
        io,
        listeners,
        rooms: loaded.registry.room_settings(),
        journals: Some(journals),
        handshake_config,
        archive: true,
        cluster: settings.cluster.is_some(),
        pin: settings.pin,
        clock,
        supervisor,
    })
    .map_err(StartError::of_shards)?;
    // Before anybody is let in.
    for (id, ban) in loaded.registry.bans_in_force(clock.now()) {
        shards.budgets.bans.put(id, ban);
    }
    let audit = audit::start(settings, &shards.budgets, supervisor)?;
    load_rules(&loaded.registry.rule_sets_in_force(), &shards.budgets);
    let end = shards.archive.take().expect("requested, and taken once");
    let archive = archive::start(settings.archive.clone(), end, clock, supervisor)
        .map_err(|cause| StartError::Archive { cause })?;
    let bucket = loaded.bucket.take();
    let cluster = node::start(
        settings,
        (&mut shards, bucket, stands_by),
        clock,
        supervisor,
    )?;
    Ok(Threads {
        shards,
        archive,
        audit,
        cluster,
    })
}

/// Logs the program, its process and its configuration.
fn log_start(settings: &Settings, io: &ChosenIo, running: &Running) {
    let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("UPROAR_COMMIT"));
    let pid = std::process::id();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let shards = settings.shard.shard_count;
    let config = running
        .file()
        .map(|path| tracing::field::display(path.display()));
    let data_dir = settings.data_dir.display();
    let kind = io.kind.name();
    tracing::info!(version, commit, pid, cores, shards, io = kind, config, %data_dir, "starting");
    io.warn();
}
