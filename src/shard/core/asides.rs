//! What rooms have to say beside their logs, on its way.

use super::Core;
use crate::net::io::Io;
use crate::shard::aside::Aside;

impl<W: Io> Core<W> {
    /// Says what the turn has left to be said. What the control thread cannot take is lost, and counted.
    pub(super) fn say_asides(&mut self) {
        if self.env.asides.is_empty() {
            return;
        }
        for aside in std::mem::take(&mut self.env.asides) {
            let (rooms, env) = (&mut self.rooms, &mut self.env);
            match aside {
                Aside::Tell(event) => self.connections.tell_everywhere(event, rooms, env),
                Aside::Order(order) => {
                    let orders = env.orders.as_ref();
                    if orders.is_none_or(|orders| orders.try_send(*order).is_err()) {
                        env.metrics.kick_bans_lost.inc();
                    }
                }
            }
        }
    }
}
