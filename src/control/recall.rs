//! What other nodes remember of rooms, for a node of a cluster that begins: it has read nothing of their logs yet.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::state::Control;
use crate::shard::command::Command;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{CLUSTER_HERE, RECALL_MAX, RECALLS_AT_ONCE};
use uproar_proto::cluster::crowd::{About, Recalled, decode_recalled};
use uproar_proto::extension::Settings;
use uproar_proto::room::RoomSettings;

impl Control {
    /// Asks the other nodes for what they remember, room by room; ready once the rooms have it, or after `RECALL_MAX`: then
    /// the rest comes later, or not at all. Call it once the node follows every log, within a `LocalSet`.
    pub async fn recall(self: &Rc<Self>) {
        self.registry.shards_have_all().await;
        let remembers = |asked: &Settings| asked.recall().is_some().then_some(());
        let rooms = self.rooms_with(remembers);
        if rooms.is_empty() {
            return;
        }
        self.others_are_heard().await;
        let turns = Arc::new(Semaphore::new(RECALLS_AT_ONCE));
        let mut asked = JoinSet::new();
        for (room, ()) in rooms {
            let (control, turns) = (Rc::clone(self), Arc::clone(&turns));
            asked.spawn_local(async move {
                // It is never closed.
                let _turn = turns.acquire().await;
                control.recall_room(room).await;
            });
        }
        let all = async { while asked.join_next().await.is_some() {} };
        if timeout(RECALL_MAX, all).await.is_err() {
            tracing::warn!(
                rooms = asked.len(),
                "cluster: other nodes did not tell in time what rooms remember: who joins first gets less"
            );
            asked.detach_all();
        }
    }

    /// Ready once another node has told that it lives, or if there is none.
    async fn others_are_heard(&self) {
        let Some(cluster) = &self.settings.cluster else {
            return;
        };
        let begun = Instant::now();
        while cluster.live_nodes() < 2 && begun.elapsed() < HEARD_MAX {
            sleep(HEARD_LOOK).await;
        }
    }

    /// The rooms of whose settings beyond IVS Chat `wanted` says something.
    pub(super) fn rooms_with<T>(
        &self,
        wanted: impl Fn(&Settings) -> Option<T>,
    ) -> Vec<(RoomId, T)> {
        let said = |settings: &RoomSettings| wanted(&settings.extension.as_deref()?.settings);
        let rooms = self.registry.room_settings().into_iter();
        let rooms = rooms.filter_map(|(room, settings)| said(&settings).map(|said| (room, said)));
        rooms.collect()
    }

    async fn recall_room(&self, room: RoomId) {
        let Some(cluster) = &self.settings.cluster else {
            return;
        };
        let answers = cluster.ask_crowd(room, About::Remembered).await;
        let answers = answers.iter();
        // What a newer server writes otherwise is left out. All have read the same log: who remembers most was there longest.
        let recalled = answers.filter_map(|answer| decode_recalled(answer).ok());
        let most = recalled.max_by_key(Vec::len);
        let recalled: Vec<Recalled> = most.unwrap_or_default();
        let (answer, answered) = oneshot::channel();
        let command = Command::Recalled(room, recalled, answer);
        self.gateway.tell_home(room, command);
        // Whoever waits for it has a time of its own.
        let _stopping = answered.await;
    }
}

/// How long another node is waited for: some signs of life.
const HEARD_MAX: Duration = CLUSTER_HERE.saturating_mul(4);
/// How often it is looked whether one was heard.
const HEARD_LOOK: Duration = Duration::from_millis(20);
