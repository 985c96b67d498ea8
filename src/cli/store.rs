//! `uproar store`: copies of the database, made while the server runs, and restored.

use std::path::PathBuf;

use clap::Subcommand;

use super::failure::Failure;
use super::output::print;
use super::place::Place;
use crate::control::store::{backup, keys, path_in};
use crate::server;

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Copy rooms and logging configurations to a file, also while the server runs
    ///
    /// The keys that seal tokens are not copied: a restored server makes new ones, and clients fetch new tokens.
    Backup {
        /// The copy: text, one record a line
        file: PathBuf,
        /// Copy the access keys, too: secrets, to FILE.access-keys and FILE.master-key with mode 0600
        #[arg(long)]
        with_keys: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Put a copy in the place of the database, which is kept beside it; the server must not run
    Restore {
        /// A copy that `uproar store backup` made
        file: PathBuf,
        /// Put FILE.access-keys and FILE.master-key in the place of the access keys, too
        #[arg(long)]
        with_keys: bool,
        #[command(flatten)]
        place: Place,
    },
}

pub(super) fn run(command: &StoreCommand) -> Result<(), Failure> {
    let failure = |error: backup::BackupError| Failure::Run(error.to_string());
    let list = |files: Vec<PathBuf>| -> Result<(), Failure> {
        if files.is_empty() {
            return print("no access keys: those in a configuration file are copied with it\n");
        }
        let lines = files
            .iter()
            .map(|file| format!("access keys in {}\n", file.display()));
        print(&lines.collect::<String>())
    };
    match command {
        StoreCommand::Backup {
            file,
            with_keys,
            place,
        } => {
            let data_dir = place.existing()?.data_dir;
            let count = backup::backup(&path_in(&data_dir), file).map_err(failure)?;
            print(&format!("{count} records in {}\n", file.display()))?;
            if *with_keys {
                list(keys::copy(&data_dir, file).map_err(failure)?)?;
            }
            Ok(())
        }
        StoreCommand::Restore {
            file,
            with_keys,
            place,
        } => {
            let data_dir = place.read()?.data_dir;
            let _alone = server::hold(&data_dir)?;
            let kept = backup::restore(file, &path_in(&data_dir)).map_err(failure)?;
            if let Some(kept) = kept {
                print(&format!(
                    "the database that was there is {}\n",
                    kept.display()
                ))?;
            }
            if *with_keys {
                list(keys::restore(file, &data_dir).map_err(failure)?)?;
            }
            Ok(())
        }
    }
}
