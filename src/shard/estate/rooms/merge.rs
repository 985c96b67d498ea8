//! The estates of all shards of a process as one.

use std::collections::HashMap;

use super::{BATCH, DEFLATED, DELETIONS, DISCONNECTS, FREEZING, ID, LOGS, PLAIN, ROOM, SENDS};
use uproar_proto::cluster::engine::LogsEstate;
use uproar_proto::tagged::{Fault, Fields, Tagged};

/// Instants of which the latest of all shards counts.
const NEWEST: [u32; 4] = [SENDS, DELETIONS, DISCONNECTS, FREEZING];

/// Fields of a room's log, of which every shard with members has a part. Its home alone has others.
const OF_LOG: [u32; 3] = [BATCH, PLAIN, DEFLATED];

/// Joins the estates of all shards of one process into one, and adds how far its members were given the logs of its
/// cluster, if it is of one. Each room's home part comes from its home. All shards have the same newest batches of a room,
/// so the longest log has what the members of all of them need.
///
/// # Errors
///
/// If one is no estate: they were made by this process, so that this is a bug.
pub fn merge_rooms(estates: &[Vec<u8>], logs: Option<&LogsEstate>) -> Result<Vec<u8>, Fault> {
    let mut merged = Fields::default();
    let mut rooms: HashMap<&[u8], Vec<Tagged<'_>>> = HashMap::new();
    let mut order = Vec::new();
    let mut numbers = [0; NEWEST.len()];
    for estate in estates {
        let estate = Tagged::parse(estate)?;
        for (number, most) in NEWEST.into_iter().zip(&mut numbers) {
            *most = estate.number(number)?.unwrap_or(0).max(*most);
        }
        for room in estate.all(ROOM) {
            let room = Tagged::parse(room)?;
            let parts = rooms.entry(room.need(ID)?).or_default();
            if parts.is_empty() {
                order.push(room.need(ID)?);
            }
            parts.push(room);
        }
    }
    for (number, value) in NEWEST.into_iter().zip(numbers) {
        merged.number(number, value);
    }
    if let Some(logs) = logs {
        merged.bytes(LOGS, &logs.encode());
    }
    for id in order {
        let parts = rooms.remove(id).unwrap_or_default();
        let longest = parts.iter().max_by_key(|room| room.all(BATCH).count());
        merged.nested(ROOM, |fields| {
            fields.bytes(ID, id);
            let of_home = parts.iter().flat_map(|room| room.fields());
            let of_home = of_home.filter(|(number, _)| *number != ID && !OF_LOG.contains(number));
            let log = longest.iter().flat_map(|room| room.fields());
            let log = log.filter(|(number, _)| OF_LOG.contains(number));
            of_home
                .chain(log)
                .for_each(|(number, value)| fields.bytes(number, value));
        });
    }
    Ok(merged.into_bytes())
}
