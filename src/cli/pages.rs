//! `uproar completions` and `uproar man`: what shells and `man` know of the command line, made from it.

use std::path::PathBuf;

use clap::Command;
use clap_complete::Shell;

use super::failure::Failure;
use super::output::print;

/// `uproar completions`.
#[derive(Debug, clap::Args)]
pub(super) struct CompletionsCommand {
    /// The shell
    shell: Shell,
}

/// `uproar man`.
#[derive(Debug, clap::Args)]
pub(super) struct ManCommand {
    /// Where they go; it must exist
    directory: PathBuf,
}

impl CompletionsCommand {
    /// Prints the script for `described`.
    pub(super) fn run(&self, mut described: Command) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut described, "uproar", &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}

impl ManCommand {
    /// Writes the pages of `described` and its commands.
    pub(super) fn run(&self, described: Command) -> Result<(), Failure> {
        let directory = self.directory.display();
        clap_mangen::generate_to(described, &self.directory)
            .map_err(|error| Failure::Run(format!("{directory}: {error}")))
    }
}
