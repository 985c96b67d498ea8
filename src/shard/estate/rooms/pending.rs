//! Messages under review, on their way to another process.

use crate::shard::estate::carried::SenderTag;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::FrameId;
use uproar_proto::chat::review::Rewrite;
use uproar_proto::room::review::Fallback;

/// A message under review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::shard) struct PendingMessage<'a> {
    pub content: &'a str,
    pub attributes_json: &'a str,
    pub request_id: &'a str,
    pub sender_json: &'a str,
    /// The sender's address; empty if it is not known.
    pub ip: &'a str,
    pub id: FrameId,
    pub sent: UnixTime,
    pub tag: SenderTag,
    pub decided: Decided,
    /// Whether its user alone gets it.
    pub is_shadowed: bool,
}

/// What is decided of a message under review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::shard) enum Decided {
    /// Nothing; this decides if no verdict comes.
    Waits(Fallback),
    /// It is allowed; with the handler's content, if it gave one.
    Allowed(Option<Rewrite>),
}
