//! A cluster that only runs, for programs that measure or break it: where it is, and orders to kill and start its parts.

use std::io::BufRead;

use serde_json::json;

use crate::harness::error::{BenchError, Failure};
use crate::harness::nodes::Nodes;

/// Prints one JSON object that says where everything is, then obeys lines `kill NAME` and `start NAME`, each answered by
/// such an object, until standard input ends.
pub(super) fn hold(mut nodes: Nodes, rooms: usize) -> Result<(), Failure> {
    let rooms = nodes.create_rooms(0, rooms)?;
    let rooms: Vec<String> = rooms.iter().map(|room| nodes.arn(*room)).collect();
    let mut place = nodes.place();
    place["rooms"] = json!(rooms);
    println!("{place}");
    for line in std::io::stdin().lock().lines() {
        obey(&mut nodes, &line?)?;
        println!("{}", nodes.place());
    }
    Ok(())
}

fn obey(nodes: &mut Nodes, line: &str) -> Result<(), BenchError> {
    match line.split_once(' ') {
        Some(("kill", name)) => nodes.kill_named(name),
        Some(("start", name)) => nodes.start_named(name),
        _ => Err(BenchError::Server(format!("no order: {line}"))),
    }
}
