//! `uproar cluster`: one screen about nodes, brokers and slots, and orders to them.

mod orders;
mod status;

use clap::Subcommand;

use super::failure::Failure;

#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Nodes, brokers and slots on one screen, with one line of advice
    Status(status::StatusCommand),
    /// Hand a slot's rooms over to another node, where they stay until the next `balance`
    Move(orders::MoveCommand),
    /// Spread slots over the nodes, and the streams' leaders over the brokers
    Balance(orders::BalanceCommand),
}

pub(super) fn run(command: &ClusterCommand) -> Result<(), Failure> {
    match command {
        ClusterCommand::Status(command) => command.run(),
        ClusterCommand::Move(command) => command.run(),
        ClusterCommand::Balance(command) => command.run(),
    }
}
