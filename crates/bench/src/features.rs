//! `uproar bench features`: what Uproar has beyond IVS Chat, under a crowd. A module for each measure.

mod votes;

use clap::{Args, Subcommand};

use crate::harness::error::Failure;
use crate::harness::program::Environment;
use votes::Votes;

/// Flags of `uproar bench features`.
#[derive(Debug, Args)]
pub(crate) struct Features {
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Debug, Subcommand)]
enum Measure {
    /// Votes per second in one tally, each answered
    Votes(Votes),
}

impl Features {
    pub(crate) fn run(&self, environment: &Environment<'_>) -> Result<(), Failure> {
        match &self.measure {
            Measure::Votes(votes) => votes.run(environment),
        }
    }
}
