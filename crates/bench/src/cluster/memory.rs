//! Memory that a room without viewers takes at each node.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::error::BenchError;
use crate::harness::nodes::Nodes;

/// Threads that create rooms.
const CREATORS: usize = 8;
/// Time for the allocator and for the other nodes to follow.
const SETTLE: Duration = Duration::from_secs(2);

/// What came of it.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    pub(super) rooms: usize,
    /// Bytes a room of the first half and of the second half, by node.
    pub(super) first: Vec<f64>,
    pub(super) second: Vec<f64>,
    pub(super) created_per_second: f64,
}

/// Creates rooms at all nodes in two halves, and compares memory before, between and after.
pub(super) fn measure(nodes: &Nodes, rooms: usize) -> Result<Memory, BenchError> {
    let memory = || -> Vec<f64> {
        std::thread::sleep(SETTLE);
        (0..nodes.count())
            .map(|node| nodes.memory(node) as f64)
            .collect()
    };
    let half = (rooms / 2).max(1);
    let each = |after: &[f64], before: &[f64]| {
        let both = after.iter().zip(before);
        both.map(|(after, before)| (after - before) / half as f64)
            .collect()
    };
    let begun = std::time::Instant::now();
    let before = memory();
    create(nodes, half)?;
    let between = memory();
    create(nodes, half)?;
    let created = begun.elapsed().saturating_sub(2 * SETTLE);
    let after = memory();
    Ok(Memory {
        rooms: 2 * half,
        first: each(&between, &before),
        second: each(&after, &between),
        created_per_second: 2.0 * half as f64 / created.as_secs_f64(),
    })
}

fn create(nodes: &Nodes, count: usize) -> Result<(), BenchError> {
    std::thread::scope(|scope| {
        let share = |creator: usize| (count + creator) / CREATORS;
        let creators = (0..CREATORS).map(|creator| {
            scope.spawn(move || nodes.create_rooms(creator % nodes.count(), share(creator)))
        });
        let creators: Vec<_> = creators.collect();
        creators.into_iter().try_for_each(|creator| {
            creator.join().expect("creating rooms does not panic")?;
            Ok(())
        })
    })
}

impl Memory {
    pub(super) fn json(&self) -> Value {
        json!({
            "rooms": self.rooms,
            "bytes_per_room_first_half": self.first,
            "bytes_per_room_second_half": self.second,
            "created_per_second": self.created_per_second.round(),
        })
    }

    pub(super) fn line(&self) -> String {
        let list = |all: &[f64]| {
            all.iter()
                .map(|one| format!("{one:.0}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let most = self.second.iter().copied().fold(0.0, f64::max);
        format!(
            "{} bytes a room by node ({} in the first half of {}); {:.0} created/s; 100,000 rooms at this: {:.0} MB a node",
            list(&self.second),
            list(&self.first),
            self.rooms,
            self.created_per_second,
            most / 10.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the creators' shares add up to what is wanted, whatever that is.
    #[test]
    fn shares_add_up() {
        for count in [1, 7, 8, 2_500] {
            let shares = (0..CREATORS).map(|creator| (count + creator) / CREATORS);
            assert_eq!(shares.sum::<usize>(), count);
        }
    }
}
