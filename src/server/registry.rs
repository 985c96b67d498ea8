//! The registry at a start: this server's own, or the copy of its cluster's.

use std::convert::Infallible;
use std::path::Path;
use std::rc::Rc;

use super::{StartError, keys};
use crate::cluster::bucket::{self, BucketEnd};
use crate::cluster::{Cluster, RegistryFacts};
use crate::config::{Settings, keyring_path};
use crate::control::registry::{ClusterSecret, Registry, ReplicaSettings, Standing};
use crate::control::store::{Store, Table, path_in};
use crate::control::{Control, KeyPlaces};
use crate::shard::handshake::LiveKeyring;
use crate::supervisor::Supervisor;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::limits::CLUSTER_HERE;

/// Loads the registry, and makes sure that there are sealing keys. Of a cluster, also returns where its requests to the
/// bucket arrive.
pub(super) fn load(
    settings: &Settings,
    now: UnixTime,
    supervisor: &Supervisor,
) -> Result<(Registry, Option<BucketEnd>), StartError> {
    let (data_dir, database) = (&settings.data_dir, path_in(&settings.data_dir));
    let failed = |cause| StartError::Store {
        database: database.clone(),
        cause,
    };
    let mut store = Store::open(&database, supervisor).map_err(failed)?;
    let Some(cluster) = &settings.cluster else {
        if store.has(Table::Cluster) {
            // First, so that after a failure the next start does it again.
            keys::make(data_dir, now)?;
            store.clear(Table::Cluster).map_err(failed)?;
            tracing::warn!(
                "this server is no node of a cluster any more: its records are its own, tokens made before are refused, \
                 clients fetch new ones"
            );
        }
        keys::open_or_create(data_dir, now)?;
        let registry = Registry::load(store).map_err(StartError::Load)?;
        registry.set_extensions(settings.extensions);
        return Ok((registry, None));
    };
    keys::open_or_make(data_dir, now)?;
    let (bucket, end) = bucket::channel();
    let replica = ReplicaSettings {
        bucket,
        cluster: cluster.name.clone(),
        node: cluster.node.clone(),
        secret: ClusterSecret::read(&cluster.secret_file).map_err(StartError::Secret)?,
        account: settings.account.clone(),
    };
    let registry = Registry::load_copy(store, replica).map_err(|cause| StartError::Copy {
        data_dir: data_dir.clone(),
        cause,
    })?;
    registry.set_extensions(settings.extensions);
    Ok((registry, Some(end)))
}

/// Begins to follow the cluster's registry, and to tell the other nodes how far. A server alone does nothing.
pub(super) fn follow(
    control: &Rc<Control>,
    cluster: Option<&Cluster>,
    data_dir: &Path,
    keyring: LiveKeyring,
) {
    let Some(cluster) = cluster.cloned() else {
        return;
    };
    let places = KeyPlaces {
        data_dir: data_dir.to_owned(),
        ring: keyring_path(data_dir),
    };
    let (follows, tells, finds) = (Rc::clone(control), Rc::clone(control), Rc::clone(control));
    let searches = cluster.searches();
    tokio::task::spawn_local(async move { match follows.follow(places).await {} });
    tokio::task::spawn_local(async move { match finds.answer_searches(searches).await {} });
    tokio::task::spawn_local(async move { match tell(&tells, &cluster, &keyring).await {} });
}

/// Tells what this node has, as long as it runs.
async fn tell(control: &Control, cluster: &Cluster, keyring: &LiveKeyring) -> Infallible {
    loop {
        let (standing, revision) = control.registry_standing();
        cluster.tell(RegistryFacts {
            is_current: standing == Standing::Current,
            revision,
            key_ids: keyring.load().key_ids(),
        });
        tokio::time::sleep(CLUSTER_HERE / 2).await;
    }
}
