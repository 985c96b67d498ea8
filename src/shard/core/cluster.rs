//! What the cluster tells a shard.

use super::Core;
use super::rooms::cluster::Told;
use crate::net::io::Io;
use crate::shard::cluster::FromCluster;

impl<W: Io> Core<W> {
    /// Whether the shard takes what the cluster tells it. Else it waits in its mailbox, and the cluster's thread reads
    /// less: while another shard does not keep up, and once this turn has enough.
    pub fn can_take_from_cluster(&self) -> bool {
        !self.is_silent() && self.env.outbox.has_room_everywhere() && self.rooms.may_adopt()
    }

    /// Does what the cluster says.
    pub(super) fn hear_cluster(&mut self, told: FromCluster) {
        let (rooms, env) = (&mut self.rooms, &mut self.env);
        match told {
            FromCluster::Author { key, ask } => rooms.author((key, ask), env),
            FromCluster::Deliver {
                slot,
                epoch,
                sequence,
                is_home_here,
                entries,
            } => {
                if is_home_here {
                    rooms.log_committed((slot, epoch, sequence), &entries, env);
                }
                for entry in entries {
                    rooms.adopt(entry, env);
                }
            }
            FromCluster::Unarchived {
                slot,
                epoch,
                sequence,
                entries,
            } => rooms.log_committed((slot, epoch, sequence), &entries, env),
            FromCluster::Told {
                ticket,
                outcome,
                sent,
            } => match rooms.told(ticket, (outcome, sent), env.now.tick) {
                Told::Nothing => {}
                Told::Refused(refused) => {
                    self.connections.refuse_asker(&refused, rooms, env);
                }
                Told::Voted(outcomes) => {
                    for (voter, outcome) in outcomes {
                        let answer = ("vote", outcome);
                        self.connections.answer_cast(voter, answer, rooms, env);
                    }
                }
            },
            FromCluster::Viewers(node, counts) => rooms.hear_viewers(node.bits(), counts, env),
            FromCluster::Fenced(slot) => rooms.fence(slot, env),
            FromCluster::Halted(number) => self.freeze.cluster_halted(number),
            FromCluster::TokenUsed { claim, outcome } => {
                let confirmed = self.admission.confirm(claim, outcome, env);
                if let Some(admitted) = confirmed {
                    self.place(admitted);
                }
            }
        }
    }
}
