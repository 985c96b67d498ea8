//! Nodes of a cluster under test: a registry, its database on disk, and what its shards and key files were told.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::model::Model;
use crate::control::arn::Account;
use crate::control::registry::facts::SLOTS;
use crate::control::registry::{
    ClusterSecret, Facts, KeyChange, NodeEffects, RecordChanges, Registry, ReplicaSettings,
    Standing,
};
use crate::control::store::{Store, path_in};
use crate::durable::faults::Scratch;
use crate::supervisor::Supervisor;
use uproar_proto::base::id::RoomId;
use uproar_proto::room::RoomSettings;

/// Runs a test on one thread.
pub(super) fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    LocalSet::new().block_on(&runtime.expect("a runtime"), work)
}

pub(super) fn account() -> Account {
    Account {
        region: "us-west-2".to_owned(),
        id: "123456789012".to_owned(),
    }
}

pub(super) fn facts_of_tests() -> Facts {
    Facts {
        cluster: "main".to_owned(),
        identity: "a1".to_owned(),
        era: 1,
        region: account().region,
        account: account().id,
        slots: SLOTS,
        version: "0.1.0".to_owned(),
    }
}

/// Makes the model a registry's bucket.
pub(super) fn facts(model: &Model) {
    let facts = serde_json::to_vec(&facts_of_tests()).expect("JSON");
    model.put("fact.cluster", Some(&facts));
}

pub(super) fn secret() -> ClusterSecret {
    ClusterSecret::of(&[7; 32])
}

pub(super) fn settings(model: &Model, node: &str) -> ReplicaSettings {
    ReplicaSettings {
        bucket: model.connect(),
        cluster: "main".to_owned(),
        node: node.to_owned(),
        secret: secret(),
        account: account(),
    }
}

pub(super) fn store(directory: &Scratch) -> Store {
    Store::open(&path_in(&directory.0), &Supervisor::new(|| {})).expect("opens")
}

/// What the node's shards and key files were told.
#[derive(Default)]
struct Told {
    shards: HashMap<RoomId, RoomSettings>,
    keys: Vec<KeyChange>,
}

impl NodeEffects for RefCell<Told> {
    async fn keys(&self, changes: Vec<KeyChange>) {
        self.borrow_mut().keys.extend(changes);
    }

    async fn records(&self, changes: RecordChanges) {
        for (id, settings) in changes.rooms {
            let shards = &mut self.borrow_mut().shards;
            match settings {
                Some(settings) => drop(shards.insert(id, settings)),
                None => drop(shards.remove(&id)),
            }
        }
    }
}

pub(super) struct Node {
    pub(super) name: &'static str,
    pub(super) registry: Rc<Registry>,
    pub(super) directory: Rc<Scratch>,
    told: Rc<RefCell<Told>>,
    following: JoinHandle<()>,
}

impl Node {
    pub(super) fn directory() -> Rc<Scratch> {
        Rc::new(Scratch::new())
    }

    /// Starts it; it may never become current.
    pub(super) fn new(model: &Model, name: &'static str, directory: Rc<Scratch>) -> Self {
        let registry = Registry::load_copy(store(&directory), settings(model, name));
        let registry = Rc::new(registry.expect("a copy, or empty"));
        let told = Told {
            shards: registry.room_settings().into_iter().collect(),
            keys: Vec::new(),
        };
        let told = Rc::new(RefCell::new(told));
        let (follows, tells) = (Rc::clone(&registry), Rc::clone(&told));
        let following = spawn_local(async move { match follows.follow(&*tells).await {} });
        Self {
            name,
            registry,
            directory,
            told,
            following,
        }
    }

    pub(super) async fn start(model: &Model, name: &'static str) -> Self {
        Self::start_in(model, name, Self::directory()).await
    }

    pub(super) async fn start_in(
        model: &Model,
        name: &'static str,
        directory: Rc<Scratch>,
    ) -> Self {
        let node = Self::new(model, name, directory);
        node.current().await;
        node
    }

    pub(super) async fn current(&self) {
        self.until(|standing| *standing == Standing::Current).await;
    }

    /// Waits until it is not current for a reason with this text.
    pub(super) async fn stale_because(&self, text: &str) -> String {
        let is_it = |standing: &Standing| matches!(standing, Standing::Stale(reason) if reason.contains(text));
        match self.until(is_it).await {
            Standing::Stale(reason) => reason.to_string(),
            Standing::Current => unreachable!("it is stale"),
        }
    }

    async fn until(&self, wanted: impl Fn(&Standing) -> bool) -> Standing {
        let replica = self.registry.replica().expect("of a cluster");
        let mut progress = replica.progress.subscribe();
        let found = progress
            .wait_for(|progress| wanted(&progress.standing))
            .await;
        found.expect("the replica lives").standing.clone()
    }

    pub(super) fn shards(&self) -> Vec<(RoomId, RoomSettings)> {
        let told = self.told.borrow();
        told.shards
            .iter()
            .map(|(id, settings)| (*id, settings.clone()))
            .collect()
    }

    pub(super) fn keys(&self) -> Vec<KeyChange> {
        self.told.borrow().keys.clone()
    }

    /// Stops it, and closes its database.
    pub(super) async fn stop(self) {
        self.following.abort();
        let _aborted = self.following.await;
        let closed = Rc::try_unwrap(self.registry);
        drop(closed.expect("nobody else has it"));
    }
}
