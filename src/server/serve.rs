//! The control thread from its start to the server's end.

use std::convert::Infallible;
use std::future::pending;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use super::acme::{self, Wanted};
use super::admin::AdminSocket;
use super::audit::AuditThread;
use super::cluster::ClusterOrders;
use super::drain::{Drains, Progress};
use super::emulator::emulator;
use super::figures::Figures;
use super::listeners::Listeners;
use super::load::Loads;
use super::notify::Notifier;
use super::opening::{Addresses, Doors};
use super::operator::{Facts, History, Operator, carry};
use super::orders::{Ended, Orders, Subjects};
use super::preflight::Directory;
use super::process::{Process, Signals};
use super::process_metrics::ProcessMetrics;
use super::ready_file::ReadyFile;
use super::reload::{self, Reload};
use super::succession::Succession;
use super::tls::LiveTls;
use super::upgrade::{self, Files, Handed, Upgrade};
use super::vitals::{Opened, Vitals};
use super::{ChosenIo, Ready, StartError, demo, node, registry};
use crate::clock::Clock;
use crate::cluster::{Cluster, ClusterThread};
use crate::config::{Running, Settings};
use crate::control::access::Keys;
use crate::control::archive::{Archive, ArchiveThread};
use crate::control::registry::Registry;
use crate::control::review::Reviews;
use crate::control::{Control, ControlSettings, Emulator, ServerOrder, ServerOrders};
use crate::durable::Watched;
use crate::shard::gateway::Gateway;
use crate::shard::handshake::LiveKeyring;
use crate::shard::mesh::{ReviewReceivers, Shards};
use crate::shard::metrics;
use crate::supervisor::Supervisor;

/// Everything the control thread needs.
pub(super) struct Serving {
    pub(super) supervisor: Supervisor,
    pub(super) settings: Settings,
    pub(super) io: ChosenIo,
    pub(super) running: Running,
    pub(super) keyring: LiveKeyring,
    pub(super) keyring_file: Watched<1>,
    pub(super) tls: LiveTls,
    pub(super) clock: Clock,
    pub(super) registry: Registry,
    pub(super) keys: Keys,
    pub(super) pages: Option<Arc<demo::Demo>>,
    pub(super) listeners: Rc<Listeners>,
    pub(super) notifier: Notifier,
    pub(super) directory: Rc<Directory>,
    /// To be written once viewers may come.
    pub(super) ready_file: Option<ReadyFile>,
    /// What the process before this one has handed over, if one has.
    pub(super) handed: Option<Box<Handed>>,
}

/// The shards, which do not accept yet, and the archive.
pub(super) struct Threads {
    pub(super) shards: Shards,
    pub(super) archive: ArchiveThread,
    /// Where moderation is noted.
    pub(super) audit: Option<AuditThread>,
    /// On a node of a cluster.
    pub(super) cluster: Option<ClusterThread>,
}

/// The control listener, with the addresses to announce.
pub(super) struct ControlListener {
    pub(super) listener: TcpListener,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    pub(super) address: SocketAddr,
    // Whether the messaging listener uses TLS.
    pub(super) messaging_tls: bool,
    pub(super) io: ChosenIo,
}

impl Serving {
    /// Serves until the process is told to stop, or a task that must not end does; then ends the other threads.
    pub(super) fn run(
        self,
        process: Process,
        Threads {
            mut shards,
            archive,
            audit,
            cluster,
        }: Threads,
        listener: ControlListener,
        on_ready: impl FnOnce(&Ready),
    ) -> Result<Ended, StartError> {
        let mailboxes = std::mem::take(&mut shards.mailboxes);
        let gateway = Gateway::new(mailboxes, self.settings.shard.clone());
        let mut gateway = gateway.sharing(Arc::clone(&shards.budgets));
        if cluster.is_some() {
            gateway = gateway.of_cluster();
        }
        let Process {
            runtime,
            signals,
            inherited: _,
        } = process;
        let (to_shards, to_archive) = (gateway.clone(), archive.archive());
        let to_cluster = cluster.as_ref().map(ClusterThread::cluster);
        let serving = async {
            let opening = Opening {
                shards: &mut shards,
                listener,
                signals,
            };
            let threads = (to_shards, to_archive, to_cluster);
            self.serve(opening, threads, on_ready).await
        };
        let outcome = LocalSet::new().block_on(&runtime, serving);
        // Also after a failed start: the shards run already.
        gateway.stop();
        shards.join();
        if let Some(cluster) = cluster {
            cluster.stop();
        }
        archive.stop();
        if let Some(audit) = audit {
            audit.stop();
        }
        outcome
    }

    async fn serve(
        mut self,
        opening: Opening<'_>,
        (gateway, archive, cluster): (Gateway, Archive, Option<Cluster>),
        on_ready: impl FnOnce(&Ready),
    ) -> Result<Ended, StartError> {
        let (shards, listener, mut signals) = (opening.shards, opening.listener, opening.signals);
        let succession = self.succession(&archive);
        let (ready_rooms, ready_file) = (self.settings.dev.ready_rooms(), self.ready_file.take());
        let (supervisor, clock) = (self.supervisor.clone(), self.clock);
        let data_dir = self.settings.data_dir.clone();
        let of_cluster = node::of(cluster.as_ref(), &self.settings, clock);
        let upgrade = self.upgrade(&shards.metrics, gateway.clone(), archive.clone());
        let facts = self.facts(archive.clone(), &upgrade);
        let (to_orders, calls) = (self.settings.console).then(|| mpsc::channel(1)).unzip();
        let to_threads = (gateway.clone(), archive, cluster.clone());
        let keyring = Arc::clone(&self.keyring);
        let plane = self.plane(&shards.metrics, to_threads, (&upgrade, to_orders))?;
        let take_overs = Rc::clone(&upgrade.figures);
        registry::follow(&plane.control, cluster.as_ref(), &data_dir, keyring);
        let (opened, is_opened) = oneshot::channel();
        let doors = Doors {
            control: Rc::clone(&plane.control),
            reviews: Rc::clone(&plane.reviews),
            drains: Rc::clone(&plane.drains),
            pages: plane.pages.clone(),
            gateway: gateway.clone(),
            addresses: listener.addresses(shards.address),
            opened,
            ready_rooms,
            ready_file,
        };
        let (receivers, members) = plane.receivers(shards);
        let subjects = Subjects {
            supervisor,
            reload: Rc::clone(&plane.reload),
            drains: Rc::clone(&plane.drains),
            upgrade: Rc::new(upgrade.of(&plane.control, &plane.reviews)),
            cluster: of_cluster.clone(),
            operator: plane.operator(gateway, &shards.metrics, (of_cluster, facts)),
        };
        let opening: Pin<Box<dyn Future<Output = Result<Infallible, StartError>> + '_>> =
            if let Some(cluster) = cluster.clone().filter(|_| !succession.is_one()) {
                Box::pin(succession.open_late(doors, cluster, on_ready))
            } else {
                let threads = (cluster.as_ref(), clock, &take_overs);
                let open = succession.open(doors, threads, &mut signals, on_ready);
                if !open.await? {
                    tracing::info!("stopped before anybody was accepted");
                    return Ok(Ended::Drained);
                }
                Box::pin(pending())
            };
        let (stop, stopped) = oneshot::channel();
        let orders = follow_orders((signals, calls), &data_dir, subjects, stop);
        let running = (orders, stopped, opening);
        let run = plane.run(listener, (receivers, is_opened), (running, members), clock);
        // It is 16 KiB.
        Box::pin(run).await
    }

    /// What changes hands when this process serves instead of another one.
    fn succession(&mut self, archive: &Archive) -> Succession {
        Succession {
            files: Files::new(archive.clone(), self.registry.destinations()),
            handed: self.handed.take(),
            directory: Rc::clone(&self.directory),
            notifier: self.notifier.clone(),
            removed_at_end: (self.settings.data_is_own).then(|| self.settings.data_dir.clone()),
        }
    }

    /// Makes the control plane and what runs beside it on its thread.
    fn plane(
        self,
        shards: &[Arc<metrics::ShardMetrics>],
        (gateway, archive, cluster): (Gateway, Archive, Option<Cluster>),
        (upgrade, orders): (&Upgrade, Option<ServerOrders>),
    ) -> Result<Plane, StartError> {
        let figures = self.figures(shards, upgrade, cluster.clone());
        let (review_figures, reloads) = (Rc::clone(&figures.reviews), Arc::clone(&figures.reloads));
        let (progress, acme) = (Rc::clone(&figures.drain), figures.acme.clone());
        let (ready, vitals) = (Arc::default(), self.vitals(shards, &progress));
        let control_settings = ControlSettings {
            emulator: self.emulator(),
            account: self.settings.account,
            keys: self.keys,
            rates: self.settings.api_rates,
            token_life: self.settings.token_life,
            archive: archive.clone(),
            metrics_rooms: self.settings.metrics_rooms,
            admission: self.settings.control_admission,
            supervisor: self.supervisor,
            cluster,
            orders,
        };
        let control = Control::new(
            control_settings,
            self.registry,
            gateway.clone(),
            Arc::clone(&self.keyring),
            self.clock,
            Arc::clone(&ready),
            figures.rendered(),
        );
        let (timeout, calls) = (self.settings.shard.review_timeout, Rc::clone(&control));
        let reviews = Reviews::new(calls, self.settings.review, timeout, review_figures);
        let reviews = reviews.map_err(StartError::Certificates)?;
        let (shown, paces) = ((ready, progress), self.settings.drain);
        let drains = Drains::new(&control, &gateway, &self.notifier, shown, paces);
        let live = reload::Live {
            drain: Rc::clone(&drains.settings),
            control: Rc::clone(&control),
            keyring: self.keyring,
            tls: self.tls,
            gateway,
            io: self.io.kind,
            archive,
            reviews: Rc::clone(&reviews),
            notifier: self.notifier,
            pages: self.pages.clone(),
        };
        let config = (self.running, self.settings.data_dir);
        Ok(Plane {
            acme,
            control,
            reviews,
            reload: Rc::new(Reload::new(config, live, self.keyring_file, reloads)),
            pages: self.pages,
            drains: Rc::new(drains),
            vitals,
        })
    }

    /// What an upgrade needs beside the control plane.
    fn upgrade(
        &self,
        shards: &[Arc<metrics::ShardMetrics>],
        gateway: Gateway,
        archive: Archive,
    ) -> Upgrade {
        Upgrade {
            hello: upgrade::hello(&self.settings, self.io.kind),
            io: self.io.clone(),
            directory: Rc::clone(&self.directory),
            listeners: Rc::clone(&self.listeners),
            tickets: self.tls.borrow().tickets.clone(),
            gateway,
            archive,
            clock: self.clock,
            shards: shards.to_vec(),
            figures: Rc::default(),
        }
    }

    fn vitals(&self, shards: &[Arc<metrics::ShardMetrics>], progress: &Rc<Progress>) -> Vitals {
        let watched = (shards, Rc::clone(progress));
        Vitals::new(
            self.notifier.clone(),
            &self.supervisor,
            watched,
            &self.settings,
        )
    }

    /// What a test may do with the whole server, under `dev`.
    fn emulator(&self) -> Option<Emulator> {
        let data_dir = self.settings.data_dir.clone();
        let (keyring, dev) = (Arc::clone(&self.keyring), &self.settings.dev);
        // Other nodes would have other clocks.
        let is_alone = self.pages.is_some() && self.settings.cluster.is_none();
        is_alone.then(|| emulator(dev, data_dir, keyring))
    }

    /// What an operator is told of beside rooms and shards.
    fn facts(&self, archive: Archive, upgrade: &Upgrade) -> Facts {
        Facts {
            io: self.io.clone(),
            tls: Rc::clone(&self.tls),
            archive,
            take_overs: Rc::clone(&upgrade.figures),
            history: None,
        }
    }

    fn figures(
        &self,
        shards: &[Arc<metrics::ShardMetrics>],
        upgrade: &Upgrade,
        cluster: Option<Cluster>,
    ) -> Figures {
        Figures {
            acme: Wanted::of(self.settings.acme.as_ref(), &self.tls, self.clock),
            cluster,
            shards: shards.to_vec(),
            reloads: Arc::new(reload::Reloads::new(self.running.sha256())),
            tls: Rc::clone(&self.tls),
            reviews: Rc::default(),
            drain: Rc::new(Progress::new(shards)),
            supervisor: self.supervisor.clone(),
            process: ProcessMetrics::new(self.io.kind, self.settings.data_dir.clone()),
            listeners: Rc::clone(&self.listeners),
            take_overs: Rc::clone(&upgrade.figures),
            loads: Loads::start(shards),
        }
    }
}

/// What runs on the control thread.
struct Plane {
    control: Rc<Control>,
    reviews: Rc<Reviews>,
    reload: Rc<Reload>,
    pages: Option<Arc<demo::Demo>>,
    drains: Rc<Drains>,
    vitals: Vitals,
    acme: Option<Wanted>,
}

impl Plane {
    /// What comes from the shards: reviews to ask for, and members' commands, which are carried out.
    fn receivers(
        &self,
        shards: &mut Shards,
    ) -> (ReviewReceivers, impl Future<Output = Infallible> + use<>) {
        let reviews = shards.reviews.take().expect("it is taken once");
        let orders = shards.orders.take().expect("it is taken once");
        (reviews, Rc::clone(&self.control).serve_members(orders))
    }

    /// What an operator sees and does at the admin socket.
    fn operator(
        &self,
        gateway: Gateway,
        shards: &[Arc<metrics::ShardMetrics>],
        (cluster, mut facts): (ClusterOrders, Facts),
    ) -> Operator {
        let keeps_history = self.control.has_console();
        facts.history = keeps_history.then(|| History::start(&self.control, shards));
        Operator {
            control: Rc::clone(&self.control),
            gateway,
            shards: shards.to_vec(),
            drains: Rc::clone(&self.drains),
            cluster,
            facts: Rc::new(facts),
        }
    }

    /// Runs until `orders` end or have told the control plane to stop, or a task ends that must not.
    async fn run(
        mut self,
        listener: ControlListener,
        (receivers, opened): (ReviewReceivers, oneshot::Receiver<Opened>),
        ((orders, stopped, opening), members): (
            (
                impl Future<Output = Ended>,
                oneshot::Receiver<()>,
                impl Future<Output = Result<Infallible, StartError>>,
            ),
            impl Future<Output = Infallible>,
        ),
        clock: Clock,
    ) -> Result<Ended, StartError> {
        let ControlListener { listener, tls, .. } = listener;
        let control = self.control;
        let serving = Rc::clone(&control).serve(listener, tls, async { drop(stopped.await) });
        // The control thread's tasks that must not end.
        let served = tokio::select! {
            served = serving => served.map(|()| Ended::Drained).map_err(StartError::Runtime),
            at_once = orders => Ok(at_once),
            Err(failed) = opening => Err(failed),
            never = self.reload.watch(clock) => match never {},
            never = self.vitals.run(&control, opened) => match never {},
            never = acme::run(self.acme, &control) => match never {},
            never = members => match never {},
            failed = self.reviews.serve(receivers) => match failed {
                Err(cause) => Err(StartError::Task { task: "reviews", cause }),
            },
        };
        self.vitals.ending(&control).await;
        served
    }
}

/// What opens the server to its users, and ends it.
struct Opening<'a> {
    shards: &'a mut Shards,
    listener: ControlListener,
    signals: Signals,
}

/// Takes orders from signals, the admin socket and calls of the API. Tells `stop` when the control plane is to end, as the last of all;
/// returns if a signal demands that nobody waits for it.
async fn follow_orders(
    (signals, calls): (Signals, Option<mpsc::Receiver<ServerOrder>>),
    data_dir: &Path,
    subjects: Subjects,
    stop: oneshot::Sender<()>,
) -> Ended {
    let (sender, received) = mpsc::channel(1);
    let socket = AdminSocket::listen(data_dir).inspect_err(|error| {
        let data_dir = data_dir.display();
        tracing::warn!(%data_dir, %error, "no admin socket: the server takes orders by signals alone");
    });
    let mut orders = Orders::new(signals, received, subjects);
    let carried = carry(calls, sender.clone());
    let following = async {
        let ended = tokio::select! {
            ended = orders.run() => ended,
            never = carried => match never {},
        };
        match ended {
            Ended::Drained => {
                let _waits = stop.send(());
                orders.stop_at_once().await
            }
            at_once @ Ended::AtOnce { .. } => at_once,
        }
    };
    // Without a socket the sender lives on, so that the channel has no end.
    match socket {
        Ok(socket) => tokio::select! {
            ended = following => ended,
            never = socket.serve(sender) => match never {},
        },
        Err(_) => following.await,
    }
}

impl ControlListener {
    fn addresses(&self, messaging: SocketAddr) -> Addresses {
        Addresses {
            messaging,
            control: self.address,
            messaging_tls: self.messaging_tls,
            control_tls: self.tls.is_some(),
            io: self.io.clone(),
        }
    }
}
