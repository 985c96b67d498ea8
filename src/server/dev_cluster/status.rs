//! What the nodes say of the cluster, asked once a second in the background: a stopped node is silent for seconds.

use std::cell::RefCell;
use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;

use super::ports;
use crate::config::{DEV_ACCOUNT, DEV_REGION, DEV_ROOM_ID, dev_node_dir};
use crate::server::cluster::{ClusterReport, ask_cluster};
use crate::supervisor::blocking;

/// Between two questions.
const INTERVAL: Duration = Duration::from_secs(1);

/// The latest answer.
#[derive(Debug, Default)]
pub(super) struct Status(RefCell<Option<ClusterReport>>);

impl Status {
    /// `None`: no node answers.
    pub(super) fn latest(&self) -> Option<ClusterReport> {
        self.0.borrow().clone()
    }

    /// Asks for as long as it is polled.
    pub(super) async fn follow(&self, directory: &Path) -> Infallible {
        loop {
            let directory = directory.to_owned();
            let answer = blocking(move || Ok(first_answer(&directory))).await;
            *self.0.borrow_mut() = answer.ok().flatten();
            sleep(INTERVAL).await;
        }
    }
}

/// The answer of the first node that gives one.
fn first_answer(directory: &Path) -> Option<ClusterReport> {
    let room = format!("arn:aws:ivschat:{DEV_REGION}:{DEV_ACCOUNT}:room/{DEV_ROOM_ID}");
    let mut nodes = ports::all().map(|ports| dev_node_dir(directory, ports.number));
    nodes.find_map(|node| ask_cluster(&node, Some(&room)).ok())
}
