//! `uproar dev --cluster`: what is printed once all nodes are ready.

use std::fmt::Write;

use super::failure::Failure;
use super::output::show;
use crate::config::{
    DEV_ACCOUNT, DEV_KEY_ID, DEV_REGION, DEV_ROOM_ID, DEV_SECRET, Flags, Profile, dev_cluster_dir,
};
use crate::server::{self, DEV_CLUSTER_PAGE, dev_ports};

/// Runs until a signal.
pub(super) fn run(flags: &Flags) -> Result<(), Failure> {
    // First, so that a signal from now on does not end the process by its default.
    let process = server::Process::start()?;
    let quotas = flags.quotas.unwrap_or(Profile::Aws);
    show("  Starting three brokers and three nodes ...\n");
    Ok(server::run_dev_cluster(
        process,
        quotas,
        || show(&banner()),
    )?)
}

fn banner() -> String {
    let mut nodes = String::new();
    for ports in dev_ports() {
        let (number, messaging, control) = (ports.number, ports.messaging, ports.control);
        let _infallible = writeln!(
            nodes,
            "  node-{number}           ws://127.0.0.1:{messaging}   http://127.0.0.1:{control}"
        );
    }
    let logs = dev_cluster_dir();
    let logs = logs.display();
    format!(
        "
  Uproar is ready, on three nodes.

  Break it         http://127.0.0.1:{DEV_CLUSTER_PAGE}/   (stop a node or a broker, and see the chat go on)

                   messaging             control plane
{nodes}  Room 'lobby'     arn:aws:ivschat:{DEV_REGION}:{DEV_ACCOUNT}:room/{DEV_ROOM_ID}, on every node

  Shell, for the AWS CLI and every SDK; each node will do:
  export AWS_ENDPOINT_URL_IVSCHAT=http://127.0.0.1:8081 AWS_REGION={DEV_REGION} AWS_DEFAULT_REGION={DEV_REGION}
  export AWS_ACCESS_KEY_ID={DEV_KEY_ID} AWS_SECRET_ACCESS_KEY={DEV_SECRET}

  How it does      uproar cluster status
  Logs             {logs}/*.log, gone at the end like all data
  Stop             Ctrl-C
"
    )
}
