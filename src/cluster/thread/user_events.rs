//! Events for one user: told to all nodes at once, outside the logs, and counted.

use std::time::Duration;

use async_nats::{Client, Message};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::node::Node;
use crate::shard::command;
use uproar_proto::base::limits::{SHARD_ANSWER_MAX, USER_EVENT_COUNT_MAX};
use uproar_proto::cluster::user_event::{UserEvent, decode_count, encode_count};

impl Node<'_> {
    /// Tells all other nodes, and answers with the sum of their counts, as far as they come in time.
    pub(super) fn tell_user(&self, event: &UserEvent, answer: oneshot::Sender<u64>) {
        let client = self.calls.client().clone();
        let (subject, payload) = (self.calls.names.user_events(), event.encode());
        let others = self.state.figures.nodes.saturating_sub(1);
        tokio::task::spawn_local(async move {
            let counted = count(&client, subject, payload, others);
            // Whoever asked may have left.
            let _gone = answer.send(counted.await);
        });
    }

    /// Tells all other nodes of what a user here says to that user alone; nobody counts it.
    pub(super) fn echo_to_user(&self, event: command::UserEvent) {
        let client = self.calls.client().clone();
        let event = UserEvent {
            from: self.engine.me(),
            room: event.room,
            user_id: event.user_id,
            frame: event.frame,
        };
        let (subject, payload) = (self.calls.names.user_events(), event.encode());
        tokio::task::spawn_local(async move {
            let _lost = client.publish(subject, payload).await;
        });
    }

    /// Another node tells one: its user may have connections here.
    pub(super) fn take_user_event(&mut self, message: Message) {
        // One that a newer server writes otherwise is none.
        let Ok(event) = UserEvent::decode(&message.payload) else {
            return;
        };
        if event.from == self.engine.me() {
            return;
        }
        let event = command::UserEvent {
            room: event.room,
            user_id: event.user_id,
            frame: event.frame,
        };
        let answers = self.shards.tell_user(&event);
        let client = self.calls.client().clone();
        tokio::task::spawn_local(async move {
            let sent = sum(answers, SHARD_ANSWER_MAX).await;
            if let Some(reply) = message.reply {
                // Without a connection nobody waits for it.
                let _lost = client.publish(reply, encode_count(sent)).await;
            }
        });
    }
}

/// The sum of the other nodes' counts. What has come counts, though another node does not answer.
async fn count(client: &Client, subject: String, payload: Bytes, others: usize) -> u64 {
    let answers = gather(client, (subject, payload), others, USER_EVENT_COUNT_MAX).await;
    let counts = answers
        .iter()
        .map(|answer| decode_count(answer).unwrap_or_default());
    counts.sum()
}

/// What other nodes answer to a message, as far as it comes within this time.
pub(super) async fn gather(
    client: &Client,
    (subject, payload): (String, Bytes),
    others: usize,
    within: Duration,
) -> Vec<Bytes> {
    let deadline = Instant::now() + within;
    if others == 0 {
        return Vec::new();
    }
    let inbox = client.new_inbox();
    let asking = async {
        let answers = client.subscribe(inbox.clone()).await.ok()?;
        let published = client.publish_with_reply(subject, inbox, payload).await;
        published.ok().map(|()| answers)
    };
    let Ok(Some(mut answers)) = timeout_at(deadline, asking).await else {
        return Vec::new();
    };
    let mut given = Vec::with_capacity(others);
    for _ in 0..others {
        let Ok(Some(answer)) = timeout_at(deadline, answers.next()).await else {
            break;
        };
        given.push(answer.payload);
    }
    given
}

async fn sum(answers: Vec<oneshot::Receiver<u64>>, within: Duration) -> u64 {
    let deadline = Instant::now() + within;
    let mut sent = 0;
    for answered in answers {
        let answer = timeout_at(deadline, answered).await;
        sent += answer.ok().and_then(Result::ok).unwrap_or_default();
    }
    sent
}
