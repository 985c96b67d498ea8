//! `uproar cluster init` and `restore`: the cluster's registry from the records of this node.

use crate::cli::failure::Failure;
use crate::cli::output::print;
use crate::cli::place::{Place, Placed};
use crate::clock;
use crate::cluster::bucket::Bucket;
use crate::cluster::{self, ClusterSettings};
use crate::control::access::keyfile::KeyFile;
use crate::control::registry::ClusterSecret;
use crate::control::registry::admin::{self, NodeRecords, Written};
use crate::control::store::{Store, path_in};
use crate::durable;
use crate::server;
use crate::supervisor::{Supervisor, runtime};

/// Which node.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RecordsCommand {
    #[command(flatten)]
    place: Place,
}

impl RecordsCommand {
    pub(super) fn init(&self) -> Result<(), Failure> {
        let (placed, cluster) = self.node()?;
        let made = durable::private_directory()
            .recursive(true)
            .create(&placed.data_dir);
        made.map_err(|error| Failure::Run(format!("{}: {error}", placed.data_dir.display())))?;
        let _alone = server::hold(&placed.data_dir)?;
        let (secret, is_new) =
            ClusterSecret::read_or_make(&cluster.secret_file).map_err(|error| run(&error))?;
        if is_new {
            let file = cluster.secret_file.display();
            print(&format!(
                "made {file}: copy it to every node, with mode 0600\n"
            ))?;
        }
        let records = records(&placed, &cluster, secret)?;
        let written = with_brokers(async {
            let written = admin::init(&bucket(&cluster).await?, records).await;
            written.map_err(|error| run(&error))
        })?;
        let (name, Written { made, found, .. }) = (&cluster.name, written);
        print(&if written.was_whole {
            format!("cluster {name} is there already, and this node is in it\n")
        } else {
            format!(
                "cluster {name} is made: {made} records and keys, and {found} that were there. Start this node, then the others \
                 with an empty server.data_dir\n"
            )
        })
    }

    pub(super) fn restore(&self) -> Result<(), Failure> {
        let (placed, cluster) = self.node()?;
        let _alone = server::hold(&placed.data_dir)?;
        let secret = ClusterSecret::read(&cluster.secret_file).map_err(|error| run(&error))?;
        let records = records(&placed, &cluster, secret)?;
        let written = with_brokers(async {
            let written = admin::restore(&bucket(&cluster).await?, records).await;
            written.map_err(|error| run(&error))
        })?;
        let Written { made, found, .. } = written;
        print(&if written.was_whole {
            format!(
                "nothing was missing: the brokers have all {found} records and keys of this node\n"
            )
        } else {
            format!(
                "{made} records and keys were put back, {found} were there. Start this node; the others drop what they have and \
                 the cluster has not\n"
            )
        })
    }

    /// The node, which must be one of a cluster.
    fn node(&self) -> Result<(Placed, ClusterSettings), Failure> {
        let placed = self.place.read()?;
        let Some(cluster) = placed.cluster.clone() else {
            let text =
                "the configuration names no cluster: pass --config FILE with a table [cluster]";
            return Err(Failure::Usage(text.to_owned()));
        };
        Ok((placed, cluster))
    }
}

/// The cluster's bucket; what is missing of it and of the streams is made.
async fn bucket(cluster: &ClusterSettings) -> Result<Bucket, Failure> {
    let made = cluster::setup(cluster).await;
    made.map_err(|error| run(&error))?;
    let opened = cluster::open(cluster).await;
    opened.map_err(|error| run(&error))
}

/// All that the node has.
fn records(
    placed: &Placed,
    cluster: &ClusterSettings,
    secret: ClusterSecret,
) -> Result<NodeRecords, Failure> {
    let data_dir = &placed.data_dir;
    let database = path_in(data_dir);
    let store = Store::open(&database, &Supervisor::new(|| {}));
    let store = store.map_err(|error| Failure::Run(format!("{}: {error}", database.display())))?;
    let access_keys = KeyFile::of(data_dir)
        .export()
        .map_err(|error| run(&error))?;
    let ring = server::open_or_make(data_dir, clock::unix_now())?;
    Ok(NodeRecords {
        cluster: cluster.name.clone(),
        account: placed.account.clone(),
        secret,
        store,
        access_keys,
        ring: ring.to_text().as_bytes().to_vec().into(),
        progress,
    })
}

/// Says how far it is; nobody has to read it.
fn progress(done: usize, all: usize) {
    let _unread = print(&format!("{done} of {all} records and keys\n"));
}

/// Runs what asks the brokers.
pub(in crate::cli) fn with_brokers<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let runtime = runtime().map_err(|error| run(&error))?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}

fn run(error: &dyn std::error::Error) -> Failure {
    Failure::Run(error.to_string())
}
