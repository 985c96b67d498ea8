//! Tokens that open several connections, one after the other: the next one closes the one before.

use super::Connections;
use crate::net::io::Io;
use crate::shard::core::env::Env;
use crate::shard::core::outbound::ConnectionSlot;
use crate::shard::core::rooms::Rooms;
use uproar_proto::session::Ending;
use uproar_proto::token::TokenId;

/// What the closed one is told. Official clients take the end as final: two of them do not close each other for ever.
const REPLACED: &str = "The token has opened another connection";

impl<W: Io> Connections<W> {
    /// Notes the connection that a token has opened, where one may open several.
    pub(super) fn note_token(&mut self, token: Option<TokenId>, slot: ConnectionSlot<W>) {
        let Some(token) = token else {
            return;
        };
        if self.by_token.len() > KEPT.max(2 * self.table.len()) {
            let table = &self.table;
            self.by_token.retain(|_, slot| table.get(*slot).is_some());
        }
        self.by_token.insert(token, slot);
    }

    /// Closes the connection that a token has opened, if it is here.
    pub(in crate::shard::core) fn replace(
        &mut self,
        token: TokenId,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        if let Some(slot) = self.by_token.remove(&token) {
            let reason = REPLACED;
            self.finish(slot, &Ending::Disconnected { reason }, rooms, env);
        }
    }
}

/// Places that are looked through at once.
const KEPT: usize = 64;
