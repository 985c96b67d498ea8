//! Viewers of rooms: counts told to all nodes once a second, and answers to what they ask.

use async_nats::Message;
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::node::Node;
use super::user_events::gather;
use crate::shard::survey::Survey;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{CROWD_ANSWER_MAX, VIEWERS_REPORTED_MAX};
use uproar_proto::cluster::crowd::{
    About, Crowd, encode_addresses, encode_recalled, encode_users, join_users,
};
use uproar_proto::extension::unique::UniqueUsers;
use uproar_proto::extension::viewers::Count;
use uproar_proto::token::TokenId;

impl Node<'_> {
    /// Tells all other nodes what a shard counts. What is lost on the way is said again in a moment.
    pub(super) fn tell_counts(&self, counts: Vec<(RoomId, Count)>) {
        let client = self.calls.client().clone();
        let (subject, from) = (self.calls.names.crowds(), self.engine.me());
        tokio::task::spawn_local(async move {
            for counts in counts.chunks(VIEWERS_REPORTED_MAX) {
                let counts = counts.to_vec();
                let report = Crowd::Report { from, counts };
                let _lost = client.publish(subject.clone(), report.encode()).await;
            }
        });
    }

    /// Tells all other nodes that a token has opened a connection here again. Said once: what is lost on the way leaves two.
    pub(super) fn tell_replaced(&self, token: TokenId) {
        let client = self.calls.client().clone();
        let (subject, from) = (self.calls.names.crowds(), self.engine.me());
        tokio::task::spawn_local(async move {
            let said = Crowd::Replaced { from, token };
            let _lost = client.publish(subject, said.encode()).await;
        });
    }

    /// Asks all other nodes about a room.
    pub(super) fn ask_crowd(&self, question: &Crowd, answer: oneshot::Sender<Vec<Bytes>>) {
        let client = self.calls.client().clone();
        let asked = (self.calls.names.crowds(), question.encode());
        let others = self.state.figures.nodes.saturating_sub(1);
        tokio::task::spawn_local(async move {
            // Whoever asked may have left.
            let _gone = answer.send(gather(&client, asked, others, CROWD_ANSWER_MAX).await);
        });
    }

    /// Another node tells its counts, or asks.
    pub(super) fn take_crowd(&mut self, message: Message) {
        match Crowd::decode(&message.payload) {
            Ok(Crowd::Report { from, counts }) if from != self.engine.me() => {
                self.shards.viewers(from, counts);
            }
            Ok(Crowd::Replaced { from, token }) if from != self.engine.me() => {
                self.shards.replace(token);
            }
            Ok(Crowd::Question { from, room, about }) if from != self.engine.me() => {
                if let Some(reply) = message.reply {
                    self.answer_crowd(room, about, reply.to_string());
                }
            }
            // Our own, or one that a newer server writes otherwise.
            Ok(_) | Err(_) => {}
        }
    }

    fn answer_crowd(&mut self, room: RoomId, about: About, reply: String) {
        let client = self.calls.client().clone();
        match about {
            About::Unique => {
                let answers = self.shards.survey(|answer| Survey::Unique { room, answer });
                tokio::task::spawn_local(async move {
                    let mut all = UniqueUsers::default();
                    for users in given(answers).await {
                        all.merge(users);
                    }
                    let mut out = Vec::new();
                    all.write(&mut out);
                    // Without a connection nobody waits for it.
                    let _lost = client.publish(reply, out.into()).await;
                });
            }
            About::Addresses(user_id) => {
                let answers = self.shards.survey(|answer| Survey::Addresses {
                    room,
                    user_id: user_id.clone(),
                    answer,
                });
                tokio::task::spawn_local(async move {
                    let addresses = given(answers).await.concat();
                    let _lost = client.publish(reply, encode_addresses(&addresses)).await;
                });
            }
            About::Remembered => {
                let answers = self.shards.survey(|answer| Survey::Recall { room, answer });
                tokio::task::spawn_local(async move {
                    // One shard is its home.
                    let recalled = given(answers).await.concat();
                    let _lost = client.publish(reply, encode_recalled(&recalled)).await;
                });
            }
            About::Users { after, most } => {
                let most = usize::try_from(most).expect("it is bounded");
                let answers = self.shards.survey(|answer| Survey::Users {
                    room,
                    after: after.clone(),
                    most,
                    answer,
                });
                tokio::task::spawn_local(async move {
                    let users = join_users(given(answers).await, most);
                    let _lost = client.publish(reply, encode_users(&users)).await;
                });
            }
        }
    }
}

/// The shards' answers, as far as they come in time.
async fn given<T>(answers: Vec<oneshot::Receiver<T>>) -> Vec<T> {
    let deadline = Instant::now() + CROWD_ANSWER_MAX;
    let mut given = Vec::with_capacity(answers.len());
    for answered in answers {
        given.extend(
            timeout_at(deadline, answered)
                .await
                .ok()
                .and_then(Result::ok),
        );
    }
    given
}
