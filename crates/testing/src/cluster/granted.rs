//! What homes grant of the account's rate.

use bytes::Bytes;
use uproar_proto::cluster::engine::{Input, MessageRates};
use uproar_proto::cluster::message::{AskKind, Message, MessageContent};

use super::node::Authoring;
use super::world::World;

impl World {
    /// A home grants a request.
    pub(super) fn granted(&mut self, node: usize, authoring: &Authoring) {
        if !self.account.is_limited || authoring.ask.kind != AskKind::SendMessage {
            return;
        }
        let now = self.now.tick;
        let life = self.nodes[node].life();
        let alone = life.engine.purse_counts().alone;
        let is_alone = alone > life.alone;
        life.alone += u64::from(is_alone);
        let by = is_alone.then_some(life.id);
        self.account.granted.insert(authoring.ask.id, (now, by));
    }

    /// The rate is lifted, everywhere.
    pub(super) fn lift_rates(&mut self) {
        self.account.is_limited = false;
        for node in 0..self.nodes.len() {
            self.feed(node, Input::Rates(MessageRates::default()));
        }
    }
}

/// A grant is more than was charged, if that is planted.
pub(super) fn inflated(payload: Bytes) -> Bytes {
    let Ok(mut message) = Message::decode(&payload) else {
        return payload;
    };
    let MessageContent::Grant { grants, .. } = &mut message.content else {
        return payload;
    };
    for (_, count) in grants {
        *count = 4 * *count + 4;
    }
    message.encode()
}
