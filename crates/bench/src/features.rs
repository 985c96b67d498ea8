//! `uproar bench features`: what Uproar has beyond IVS Chat, under a crowd. A module for each measure.

mod history;
mod moderation;
mod schedule;
mod viewers;
mod votes;

use clap::{Args, Subcommand};

use crate::harness::error::Failure;
use crate::harness::program::Environment;
use history::History;
use moderation::Moderation;
use viewers::ViewerEvents;
use votes::Votes;

/// Flags of `uproar bench features`.
#[derive(Debug, Args)]
pub(crate) struct Features {
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Debug, Subcommand)]
enum Measure {
    /// Joins of a room that remembers its newest messages
    History(History),
    /// From a deletion to the last viewer of a large room, beside a room at its limit
    Moderation(Moderation),
    /// Events of the number of viewers, beside messages to a large room
    Viewers(ViewerEvents),
    /// Votes per second in one tally, each answered
    Votes(Votes),
}

impl Features {
    pub(crate) fn run(&self, environment: &Environment<'_>) -> Result<(), Failure> {
        match &self.measure {
            Measure::History(history) => history.run(environment),
            Measure::Moderation(moderation) => moderation.run(environment),
            Measure::Viewers(viewers) => viewers.run(environment),
            Measure::Votes(votes) => votes.run(environment),
        }
    }
}
