//! Chat logs: a process archives what it wrote as a home of rooms that are logged, and what homes before it left.

use std::time::Duration;

use uproar_proto::cluster::engine::Input;
use uproar_proto::cluster::record::Entry;
use uproar_proto::cluster::{Epoch, HashSlot, Sequence};

use super::fault::Fault;
use super::flight::Archiving;
use super::oracle::{id_of, is_logged};
use super::world::{Event, World};

impl World {
    /// An engine gives frames to the archive of its process, which takes them in order.
    pub(super) fn archive(
        &mut self,
        node: usize,
        (slot, epoch, sequence): (HashSlot, Epoch, Sequence),
        entries: &[Entry],
    ) {
        let micros = if self.chaos.strikes(Fault::ArchivedLate) {
            3_000_000
        } else {
            20_000
        };
        let at = self.now.tick.after(self.below(micros));
        let life = self.nodes[node].life();
        life.archives = at.max(life.archives);
        let (at, life) = (life.archives, life.id);
        let logged = entries.iter().filter(|entry| is_logged(entry.room));
        let ids = logged.map(id_of).collect();
        let archiving = Archiving {
            slot,
            epoch,
            sequence,
            ids,
        };
        self.nodes[node].life().archiving.push_back(archiving);
        self.at(at, Event::Archived(node, life));
    }

    /// The next frames of a process are in its archive, unless it has ended before. A pause holds some up; none overtake others.
    pub(super) fn archived(&mut self, node: usize, life: u64) {
        if !self.nodes[node].is(life) {
            return;
        }
        if let Some(until) = self.nodes[node].paused {
            let until = until.after(Duration::from_millis(200));
            return self.at(until, Event::Archived(node, life));
        }
        let next = self.nodes[node].life().archiving.pop_front();
        let Archiving {
            slot,
            epoch,
            sequence,
            ids,
        } = next.expect("one for each event");
        self.oracle.counts.archived += ids.len() as u64;
        self.oracle.archived.extend(ids);
        let told = Input::Archived {
            slot,
            epoch,
            sequence,
        };
        self.feed(node, told);
    }
}
