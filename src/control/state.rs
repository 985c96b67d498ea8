//! What the HTTP front, the operations and the reviews of the control thread share.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::access::{Keys, NewKeys};
use super::admission::{ControlAdmission, ControlAdmissionSettings};
use super::archive::Archive;
use super::arn::Account;
use super::emulator::Emulator;
use super::ends::Ends;
use super::fault::Fault;
use super::operation::{Family, Operation};
use super::phase::PhaseSetter;
use super::registry::{Registry, Standing};
use super::server_order::ServerOrders;
use super::throttle::{Rates, Throttle};
use crate::clock::Clock;
use crate::cluster::{Cluster, Unready};
use crate::exposition::Exposition;
use crate::shard::cluster::Search;
use crate::shard::command::{Command, MemberOrder};
use crate::shard::estate::unfinished::Act;
use crate::shard::gateway::Gateway;
use crate::shard::handshake::LiveKeyring;
use crate::shard::review::ReviewRequest;
use crate::shard::times::Times;
use crate::supervisor::Supervisor;
use rtrb::Consumer;
use tokio::sync::{Notify, mpsc, watch};
use uproar_proto::base::id::{BanId, RoomId};
use uproar_proto::base::limits::UNKNOWN_ROOM_SEARCH;
use uproar_proto::cluster::engine::MessageRates;

/// Settings the control plane starts with.
pub struct ControlSettings {
    /// Region and account of every ARN.
    pub account: Account,
    /// Access keys.
    pub keys: Keys,
    /// Calls per second of each operation.
    pub rates: Rates,
    /// How long a token may be used to connect, at first.
    pub token_life: Duration,
    /// Knows whether every thread takes turns.
    pub supervisor: Supervisor,
    /// The archive of chat logs.
    pub archive: Archive,
    /// Rooms that `/metrics` names by each figure, at first.
    pub metrics_rooms: usize,
    /// What one address may hold of the listener.
    pub admission: ControlAdmissionSettings,
    /// The cluster, on a node of one.
    pub cluster: Option<Cluster>,
    /// What a test may do with the whole server, under `dev`.
    pub emulator: Option<Emulator>,
    /// Where orders about the whole server go; `None`: the operator's page and its API are switched off.
    pub orders: Option<ServerOrders>,
}

/// Settings that a running control plane takes over.
#[derive(Debug)]
pub struct ControlChange {
    /// Access keys, of the configuration and the data directory.
    pub keys: NewKeys,
    /// Calls per second of each operation.
    pub rates: Rates,
    /// Rates of messages of all rooms.
    pub messages: MessageRates,
    /// Rooms that `/metrics` names by each figure.
    pub metrics_rooms: usize,
    /// How long a token may be used to connect, of tokens made from now on.
    pub token_life: Duration,
    /// What one address may hold of the listener.
    pub admission: ControlAdmissionSettings,
    /// TLS of connections from now on; `None`: they are plain.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// Adds what other modules measure to `/metrics`.
pub type Metrics = Box<dyn Fn(&mut Exposition)>;

/// The control plane; one, on its own thread.
pub struct Control {
    /// What it was started with.
    pub(super) settings: ControlSettings,
    /// The stored resources.
    pub(super) registry: Registry,
    /// What the control listener does.
    pub(super) phase: PhaseSetter,
    /// The connections of the control listener.
    pub(super) admission: Rc<ControlAdmission>,
    /// Requests to the shards.
    pub(super) gateway: Gateway,
    /// The keys that seal chat tokens; replaced while the server runs.
    pub(super) keyring: LiveKeyring,
    /// The process's clock.
    pub(super) clock: Clock,
    /// Whether viewers can connect: what `/readyz` says.
    pub(super) ready: Arc<AtomicBool>,
    /// Adds what other modules measure to `/metrics`.
    pub(super) metrics: Metrics,
    /// Rooms that `/metrics` names by each figure; 0: none.
    pub(super) metrics_rooms: Cell<usize>,
    /// How long a token may be used to connect.
    pub(super) token_life: Cell<Duration>,
    /// TLS of the listener's new connections.
    pub(super) tls: RefCell<Option<Arc<rustls::ServerConfig>>>,
    /// Why there is no certificate yet, where the server orders it itself.
    pub(super) awaited_certificate: RefCell<Option<String>>,
    /// What is left of each operation's calls this second.
    pub(super) throttle: Throttle,
    /// One further reference for each call that waits for the disk or a shard; at most
    /// `CALLS_OPEN_MAX`.
    pub(super) open_calls: Rc<()>,
    /// One further reference for each [tail](mod@super::op::tail); at most `TAILS_MAX`.
    pub(super) open_tails: Rc<()>,
    /// Answered calls by operation and HTTP status.
    pub(super) requests: RefCell<BTreeMap<(&'static str, u16), u64>>,
    /// Where shards put members' commands, once they are carried out.
    pub(super) orders: RefCell<Option<mpsc::Receiver<MemberOrder>>>,
    /// Where shards put requests for reviews, once they are handled.
    pub(super) review_requests: RefCell<Vec<Consumer<ReviewRequest>>>,
    /// What the server is to do by itself once it may write again, or in the process that takes over; at most
    /// `CALLS_OPEN_MAX`.
    pub(super) deferred: RefCell<Vec<Act>>,
    /// Commands of members that were carried out here, by verb and result.
    pub(super) member_orders: RefCell<BTreeMap<(&'static str, &'static str), u64>>,
    /// Bans that were made, by mode and source.
    pub(super) bans_made: RefCell<BTreeMap<(&'static str, &'static str), u64>>,
    /// Has what ends by time looked at: the rooms are there now, or a test has moved the clock.
    pub(super) look_now: Notify,
    /// What ends by time in rooms' records.
    pub(super) ends: Ends,
    /// Bans because of a kick or a rule that were refused, by source: nobody waits for an answer.
    pub(super) bans_refused: RefCell<BTreeMap<&'static str, u64>>,
    /// New bans on their way to the disk: they have their places already. At most `CALLS_OPEN_MAX`, and those of members.
    pub(super) bans_coming: RefCell<Vec<(Option<RoomId>, BanId)>>,
    /// How long each operation's calls took, by class of status.
    pub(super) call_times: RefCell<BTreeMap<(&'static str, &'static str), Times>>,
}

impl Control {
    /// Counts a call of `operation` that was answered with `status`.
    pub(super) fn count(&self, operation: &'static str, status: u16) {
        let mut requests = self.requests.borrow_mut();
        *requests.entry((operation, status)).or_default() += 1;
    }

    /// Counts how long a call took from its head to its answer. Of the status its class alone: a histogram has 14 series,
    /// and refusals, which are quick, must not hide calls that are slow.
    pub(super) fn took(&self, operation: &'static str, status: u16, time: Duration) {
        let class = match status {
            ..400 => "2xx",
            400..500 => "4xx",
            500.. => "5xx",
        };
        let mut times = self.call_times.borrow_mut();
        times.entry((operation, class)).or_default().observe(time);
    }

    /// Whether the registry is current, and its revision.
    pub fn registry_standing(&self) -> (Standing, u64) {
        (self.registry.standing(), self.registry.revision())
    }

    /// Answers the shards' searches for rooms, as long as the server runs: behind a barrier, which all of them share.
    pub async fn answer_searches(&self, mut searches: watch::Receiver<Vec<Search>>) -> Infallible {
        let mut answered = vec![0; self.gateway.shard_count()];
        loop {
            // Its sender is the cluster's thread, whose end ends the process.
            let _ended = searches.changed().await;
            let asked = searches.borrow_and_update().clone();
            if self.registry.shards_know_all_rooms().await {
                for (shard, search) in asked.into_iter().enumerate() {
                    if std::mem::replace(&mut answered[shard], search) < search {
                        self.gateway.tell(shard, Command::Searched(search));
                    }
                }
            }
            tokio::time::sleep(UNKNOWN_ROOM_SEARCH).await;
        }
    }

    /// Ready once the registry is current.
    pub async fn registry_current(&self) {
        self.registry.current().await;
    }

    /// Charges one call to the account: alone at once, on a node of a cluster as soon as the nodes' common budget has
    /// answered.
    ///
    /// # Errors
    ///
    /// `ThrottlingException`.
    pub(super) async fn charge(&self, operation: Operation) -> Result<(), Fault> {
        let now = self.clock.now().tick;
        // What is asked of one server is no matter of the account's budgets.
        let of_account = operation.family() != Family::Operator;
        let Some(cluster) = self.settings.cluster.as_ref().filter(|_| of_account) else {
            return self.throttle.take(operation, now);
        };
        let Some(rate) = self.throttle.uncredited(operation, now) else {
            return Ok(());
        };
        let limit = rate.limit();
        match cluster.charge(operation.index(), rate).await {
            Some(true) => Ok(()),
            Some(false) => Err(Fault::Throttled { limit }),
            // Its thread stands still.
            None => self.throttle.take(operation, now),
        }
    }

    /// Whether viewers are welcome as far as the cluster goes, if there is one.
    pub(super) fn is_clustered_well(&self) -> Result<(), String> {
        let cluster = self.settings.cluster.as_ref();
        let ready = cluster.map_or(Ok(()), Cluster::ready);
        if let Err(waiting @ Unready::Waiting(_)) = ready {
            return Err(waiting.to_string());
        }
        if let Standing::Stale(reason) = self.registry.standing() {
            return Err(reason.to_string());
        }
        ready.map_err(|unready| unready.to_string())
    }

    /// Whether viewers are welcome as far as the certificate and the cluster go.
    pub(super) fn is_provided(&self) -> Result<(), String> {
        match &*self.awaited_certificate.borrow() {
            Some(reason) => Err(reason.clone()),
            None => self.is_clustered_well(),
        }
    }

    /// What the server waits for, if it does: its certificate, or its cluster.
    pub fn waits_for(&self) -> Option<String> {
        self.is_provided().err()
    }

    /// Notes why there is no certificate yet; `None`: there is one.
    pub fn await_certificate(&self, reason: Option<String>) {
        self.awaited_certificate.replace(reason);
    }

    /// On a node of a cluster: the longest life of a token whose use the cluster is sure to remember.
    pub fn token_life_max(&self) -> Option<Duration> {
        self.settings.cluster.as_ref().map(Cluster::token_life_max)
    }

    /// The cluster, on a node of one.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.settings.cluster.as_ref()
    }

    /// Takes changed settings over. It cannot fail, and no call sees a part of them.
    pub fn adopt(&self, change: ControlChange) {
        self.settings.keys.adopt(change.keys);
        self.throttle.set_rates(change.rates);
        if let Some(cluster) = &self.settings.cluster {
            cluster.set_rates(change.messages);
        }
        self.metrics_rooms.set(change.metrics_rooms);
        self.token_life.set(change.token_life);
        self.admission.adopt(change.admission);
        self.tls.replace(change.tls);
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
            metrics_rooms: Cell::new(settings.metrics_rooms),
            token_life: Cell::new(settings.token_life),
            tls: RefCell::default(),
            awaited_certificate: RefCell::default(),
            admission: Rc::new(ControlAdmission::new(settings.admission.clone())),
            settings,
            phase: PhaseSetter::default(),
            registry,
            gateway,
            keyring,
            clock,
            ready,
            metrics,
            open_calls: Rc::default(),
            open_tails: Rc::default(),
            orders: RefCell::default(),
            review_requests: RefCell::default(),
            deferred: RefCell::default(),
            requests: RefCell::default(),
            member_orders: RefCell::default(),
            bans_made: RefCell::default(),
            bans_refused: RefCell::default(),
            bans_coming: RefCell::default(),
            look_now: Notify::new(),
            ends: Ends::default(),
            call_times: RefCell::default(),
        })
    }
}
