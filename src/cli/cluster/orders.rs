//! `uproar cluster move` and `balance`.

use super::super::failure::Failure;
use super::super::output::print;
use super::super::place::Place;
use crate::server::{Order, ask};

/// `uproar cluster move`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct MoveCommand {
    /// The slot, from 0 to 255; `uproar cluster status --room ARN` names a room's
    slot: u8,
    /// The name of the node that gets it
    node: String,
    #[command(flatten)]
    place: Place,
}

/// `uproar cluster balance`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct BalanceCommand {
    #[command(flatten)]
    place: Place,
}

impl MoveCommand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let (slot, node) = (self.slot, self.node.clone());
        let order = Order::ClusterMove { slot, node };
        order_to(&self.place, &order)?;
        print(&format!("slot {slot} goes to {}\n", self.node))
    }
}

impl BalanceCommand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let done = order_to(&self.place, &Order::ClusterBalance {})?;
        let moved = done["moved"].as_array().map_or(0, Vec::len);
        print(&format!(
            "slots go where they belong; {moved} streams got another leader\n"
        ))
    }
}

fn order_to(place: &Place, order: &Order) -> Result<serde_json::Value, Failure> {
    let data_dir = super::status::data_dir(place)?;
    ask(&data_dir, order, |_| {}).map_err(|error| Failure::Run(error.to_string()))
}
