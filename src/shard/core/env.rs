//! What every part of a core works with: who the shard is, what time it is, what it counts and
//! where it sends.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::outbox::Outbox;
use crate::logging::Limiter;
use crate::shard::aside::Aside;
use crate::shard::command::MemberOrder;
use crate::shard::metrics::ShardMetrics;
use crate::shard::review::ReviewQueue;
use crate::shard::settings::{ShardId, ShardSettings, SharedBudgets};
use crate::shard::shard_room::{PublishContext, ShardRoom};
use uproar_proto::base::clock::Now;
use uproar_proto::base::id::FrameIds;
use uproar_proto::base::table::Slot;
use uproar_proto::ws::Deflater;

/// One per core, lent to the part that works. It knows no room and no connection.
pub(super) struct Env<S> {
    /// This shard's number, below `settings.shard_count`.
    pub(super) id: ShardId,
    /// Settings of all shards; [`Core::adopt`](super::Core::adopt) alone changes them.
    pub(super) settings: ShardSettings,
    /// This shard's counters: its thread alone writes them.
    pub(super) metrics: Arc<ShardMetrics>,
    /// The account's budgets, shared by all shards.
    pub(super) budgets: SharedBudgets,
    /// The time of the turn; its tick never goes back.
    pub(super) now: Now,
    /// Source of frame ids.
    pub(super) ids: FrameIds,
    /// Compresses for all rooms and connections.
    pub(super) deflater: Deflater,
    /// Limits the log lines that strangers can cause.
    pub(super) lines: Limiter,
    /// The mailboxes to the other shards.
    pub(super) outbox: Outbox<S>,
    /// What rooms have to say beside their logs, until the end of the turn.
    pub(super) asides: Vec<Aside>,
    /// Where members' commands go that the control thread carries out, if it does.
    pub(super) orders: Option<mpsc::Sender<MemberOrder>>,
}

impl<S> Env<S> {
    /// Lends what a request to publish takes, beside the rooms' own queue.
    #[inline]
    pub(super) fn publish_context<'a>(
        &'a mut self,
        review_queue: &'a mut ReviewQueue<Slot<ShardRoom>>,
    ) -> PublishContext<'a> {
        PublishContext {
            ids: &mut self.ids,
            deflater: &mut self.deflater,
            review_queue,
            settings: &self.settings,
            budgets: &self.budgets,
            metrics: &self.metrics,
            asides: &mut self.asides,
            now: self.now,
        }
    }
}
