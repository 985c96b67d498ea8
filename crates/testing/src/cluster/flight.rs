//! What is on its way between nodes, brokers and viewers.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::cluster::engine::FetchFrom;
use uproar_proto::cluster::{Epoch, HashSlot, Sequence};
use uproar_proto::token::TokenId;

use crate::parts::GREETING;
use crate::simulation::net::Net;

/// A read on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking {
    pub(super) node: usize,
    pub(super) life: u64,
    pub(super) slot: usize,
    pub(super) read: u64,
    pub(super) from: FetchFrom,
}

/// An append on its way.
#[derive(Debug, Clone)]
pub(super) struct Appending {
    pub(super) node: usize,
    pub(super) life: u64,
    pub(super) slot: usize,
    pub(super) attempt: u64,
    pub(super) expected: u64,
    pub(super) payload: Bytes,
}

/// A viewer, and what it asked.
pub(super) struct Viewer {
    pub(super) node: usize,
    pub(super) life: u64,
    pub(super) net: Net,
    pub(super) peer: usize,
    pub(super) room: RoomId,
    pub(super) user: String,
    pub(super) token: u64,
    pub(super) requested: HashSet<String>,
}

impl Viewer {
    /// Whether its connection was opened.
    pub(super) fn is_greeted(&self) -> bool {
        self.net.borrow()[self.peer]
            .from_server
            .starts_with(GREETING)
    }

    /// Whether the server has not ended it.
    pub(super) fn is_open(&self) -> bool {
        let peer = &self.net.borrow()[self.peer];
        !peer.closing && !peer.cut && peer.fin.is_none()
    }
}

/// A use of a token on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Using {
    pub(super) node: usize,
    pub(super) life: u64,
    pub(super) shard: usize,
    pub(super) claim: u64,
    pub(super) token: TokenId,
    pub(super) tried: Duration,
}

/// Frames on their way into an archive.
#[derive(Debug)]
pub(super) struct Archiving {
    pub(super) slot: HashSlot,
    pub(super) epoch: Epoch,
    pub(super) sequence: Sequence,
    pub(super) ids: Vec<FrameId>,
}
