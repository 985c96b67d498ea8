//! A thread stands by while another process serves as this node: it follows the bucket, and says nothing to anybody.
//!
//! Records that are published meanwhile are dropped: reading begins where the other process stops. Which ones came is
//! remembered, so that those behind that are read at once.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::StreamExt;

use super::node::{Incoming, Node};
use crate::cluster::handle::{Order, RegistryFacts};
use crate::cluster::hands::Hands;
use crate::cluster::names::slot_of;
use crate::net::event::Event;
use crate::supervisor::Pulse;
use uproar_proto::base::limits::HASH_SLOTS;
use uproar_proto::cluster::Sequence;
use uproar_proto::cluster::engine::{Input, LogsEstate};
use uproar_proto::cluster::here::Here;

/// Where a node begins.
#[derive(Debug)]
pub(super) struct Origin {
    /// What the process before left; `None`: each log is read from its end on.
    pub(super) estate: Option<Box<LogsEstate>>,
    /// Of each log the newest record that was published meanwhile.
    pub(super) seen: [Sequence; HASH_SLOTS],
    /// The newest sign of life of each process.
    pub(super) heres: Vec<Bytes>,
    /// What the control plane said last.
    pub(super) registry: RegistryFacts,
}

impl Default for Origin {
    fn default() -> Self {
        Self {
            estate: None,
            seen: [Sequence::default(); HASH_SLOTS],
            heres: Vec::new(),
            registry: RegistryFacts::default(),
        }
    }
}

/// Waits for the order to serve; `None`: it was told to stop. A connection that ends for good is noticed by whoever serves
/// then.
pub(super) async fn wait(
    hands: &mut Hands,
    event: &Event,
    pulse: &Pulse,
    incoming: &mut Incoming,
) -> Option<Origin> {
    let mut origin = Origin::default();
    let mut heres = HashMap::new();
    loop {
        pulse.beat();
        tokio::select! {
            _rung = event.wait() => {}
            Some(record) = incoming.records.next() => {
                let sequence = record.headers.as_ref().and_then(|headers| headers.get("Nats-Sequence"));
                let sequence = sequence.and_then(|text| text.as_str().parse().ok());
                if let Some((slot, sequence)) = slot_of(&record.subject).zip(sequence) {
                    let seen = &mut origin.seen[slot.index()];
                    *seen = Sequence(sequence).max(*seen);
                }
            }
            // Nobody knows this process yet.
            Some(_) = incoming.messages.next() => {}
            // The other process has the viewers.
            Some(_) = incoming.user_events.next() => {}
            Some(_) = incoming.crowds.next() => {}
            Some(here) = incoming.heres.next() => {
                if let Ok(sign) = Here::decode(&here.payload) {
                    heres.insert(sign.incarnation, here.payload);
                }
            }
            order = hands.orders.recv() => match order {
                None | Some(Order::Stop) => return None,
                Some(Order::Facts(facts)) => origin.registry = facts,
                Some(Order::Begin(estate)) => {
                    if let Some(estate) = &estate {
                        // It lives no more.
                        heres.remove(&estate.process());
                    }
                    origin.estate = estate;
                    origin.heres = heres.into_values().collect();
                    return Some(origin);
                }
                // Asked again, or told again, by whoever cares.
                Some(_) => {}
            },
        }
    }
}

impl Node<'_> {
    /// What is known before the first turn: who lives, and that records may have been lost on the way.
    pub(super) fn first(&mut self, heres: Vec<Bytes>, inherits: bool) {
        let now = self.hands.clock.now();
        for here in heres {
            self.engine.input(Input::Here(here), now);
        }
        if inherits {
            self.expect_losses(now);
            // What this node is home of waits for it.
            self.publish_state(now);
        }
    }
}
