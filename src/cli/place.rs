//! Selects a command's server on this machine: its data directory and its configuration of tokens.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::failure::Failure;
use crate::cluster::ClusterSettings;
use crate::config::{self, dev_data_dir};
use crate::control::arn::Account;
use crate::logging;

/// The server a command is for.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// The server's configuration file, which names its data directory
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The server's data directory [default: the configuration's, or that of `uproar dev`]
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
}

/// The resolved [`Place`].
#[derive(Debug)]
pub(super) struct Placed {
    /// Its data directory.
    pub(super) data_dir: PathBuf,
    /// How long a token may be used to connect.
    pub(super) token_life: Duration,
    /// Region and account.
    pub(super) account: Account,
    /// The cluster that the server is a node of.
    pub(super) cluster: Option<ClusterSettings>,
}

impl Place {
    /// Reads the configuration. If neither option is given, prints which directory is used.
    pub(super) fn read(&self) -> Result<Placed, Failure> {
        let local = config::local(self.config.as_deref(), config::environment())?;
        let data_dir = match (&self.data_dir, local.data_dir) {
            (Some(own), _) => own.clone(),
            (None, Some(configured)) => configured,
            (None, None) => {
                let own = dev_data_dir();
                logging::print(&format!(
                    "uproar: for the server in {}, the directory of `uproar dev`; --config or --data-dir names another\n",
                    own.display()
                ));
                own
            }
        };
        Ok(Placed {
            data_dir,
            token_life: local.token_life,
            account: local.account,
            cluster: local.cluster,
        })
    }

    /// Whether either option is given.
    pub(super) fn is_named(&self) -> bool {
        self.config.is_some() || self.data_dir.is_some()
    }

    /// Like [`Place::read`], for an existing directory.
    pub(super) fn existing(&self) -> Result<Placed, Failure> {
        let placed = self.read()?;
        must_be_there(&placed.data_dir)?;
        Ok(placed)
    }
}

fn must_be_there(data_dir: &Path) -> Result<(), Failure> {
    if data_dir.is_dir() {
        return Ok(());
    }
    Err(Failure::Run(format!(
        "{}: there is no such data directory; name the server's with --config or --data-dir",
        data_dir.display()
    )))
}
