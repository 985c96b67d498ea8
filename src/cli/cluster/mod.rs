//! `uproar cluster`: one screen about nodes, brokers and slots, and orders to them; the registry, made and restored.

mod orders;
mod records;
pub(super) mod shared_keys;
mod status;

use clap::Subcommand;

use super::failure::Failure;

#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Make the cluster on its brokers, with the rooms and keys of this node; its server must not run
    Init(records::RecordsCommand),
    /// Put records back that the brokers have lost, from this node's copy; its server must not run
    Restore(records::RecordsCommand),
    /// Nodes, brokers and slots on one screen, with one line of advice
    Status(status::StatusCommand),
    /// Hand a slot's rooms over to another node, where they stay until the next `balance`
    Move(orders::MoveCommand),
    /// Spread slots over the nodes, and the streams' leaders over the brokers
    Balance(orders::BalanceCommand),
}

pub(super) fn run(command: &ClusterCommand) -> Result<(), Failure> {
    match command {
        ClusterCommand::Init(command) => command.init(),
        ClusterCommand::Restore(command) => command.restore(),
        ClusterCommand::Status(command) => command.run(),
        ClusterCommand::Move(command) => command.run(),
        ClusterCommand::Balance(command) => command.run(),
    }
}
