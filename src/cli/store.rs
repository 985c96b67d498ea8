//! `uproar store`: copies of the database, made while the server runs, and back.

use std::path::PathBuf;

use clap::Subcommand;

use super::Failure;
use super::keys::print;
use crate::config::dev_data_dir;
use crate::control::store::{backup, path_in};
use crate::server;

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Copy rooms and logging configurations to a file, also while the server runs
    ///
    /// The data directory's token-keys, access-keys and master-key are secrets and not in it: copy these files to
    /// a safe place as they are.
    Backup {
        /// The copy: text, one record a line
        file: PathBuf,
        /// The server's data directory [default: that of `uproar dev`]
        #[arg(long, value_name = "DIRECTORY")]
        data_dir: Option<PathBuf>,
    },
    /// Put a copy in the place of the database, which is kept beside it; the server must not run
    Restore {
        /// A copy that `uproar store backup` made
        file: PathBuf,
        /// The server's data directory [default: that of `uproar dev`]
        #[arg(long, value_name = "DIRECTORY")]
        data_dir: Option<PathBuf>,
    },
}

pub(super) fn run(command: &StoreCommand) -> Result<(), Failure> {
    let failure = |error: backup::BackupError| Failure::Run(error.to_string());
    match command {
        StoreCommand::Backup { file, data_dir } => {
            let data_dir = data_dir.clone().unwrap_or_else(dev_data_dir);
            let count = backup::backup(&path_in(&data_dir), file).map_err(failure)?;
            print(&format!("{count} records in {}\n", file.display()))
        }
        StoreCommand::Restore { file, data_dir } => {
            let data_dir = data_dir.clone().unwrap_or_else(dev_data_dir);
            let _alone = server::hold(&data_dir)?;
            let kept = backup::restore(file, &path_in(&data_dir)).map_err(failure)?;
            kept.map_or(Ok(()), |kept| {
                print(&format!(
                    "the database that was there is {}\n",
                    kept.display()
                ))
            })
        }
    }
}
