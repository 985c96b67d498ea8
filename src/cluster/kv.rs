//! The registry's bucket on the brokers: one stream, whose leader decides writes, and whose order all nodes follow.

use std::convert::Infallible;
use std::mem;

use async_nats::HeaderMap;
use async_nats::header::{HeaderValue, NATS_EXPECTED_LAST_SUBJECT_SEQUENCE};
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::push::{Ordered, OrderedConfig};
use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy};
use async_nats::jetstream::context::{GetStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::bucket::{
    Bucket, BucketEnd, BucketRequest, BucketWrite, Change, Expected, InspectFault, Inspected,
    Revision, WriteFault, channel,
};
use super::connect;
use super::fault::ClusterFault;
use super::names::Names;
use super::settings::ClusterSettings;
use super::setup;
use crate::logging::with_causes;
use uproar_proto::base::limits::{BUCKET_ANSWER_MAX, BUCKET_RETRY};

/// Marks the removal of a key, as NATS' own tools read and write it.
const OPERATION: &str = "KV-Operation";
const REMOVED: &str = "DEL";

/// Answers the control thread's requests, on the cluster's thread. Returns when the control thread has gone.
pub(super) async fn serve(brokers: Context, cluster: &str, mut end: BucketEnd) {
    let kv = Kv {
        brokers,
        names: Names::new(cluster),
    };
    let mut watching: Option<JoinHandle<Infallible>> = None;
    while let Some(request) = end.0.recv().await {
        let kv = kv.clone();
        match request {
            BucketRequest::Write(write, answer) => {
                tokio::spawn(async move {
                    // The caller may have gone.
                    let _gone = answer.send(kv.write(write).await);
                });
            }
            BucketRequest::Inspect(key, answer) => {
                tokio::spawn(async move {
                    let _gone = answer.send(kv.inspect(&key).await);
                });
            }
            BucketRequest::Watch(after, changes) => {
                if let Some(before) = watching.take() {
                    before.abort();
                }
                watching = Some(tokio::spawn(async move { kv.watch(after, changes).await }));
            }
        }
    }
    if let Some(watching) = watching {
        watching.abort();
    }
}

/// Reaches the bucket without a server, for commands. Call it within a runtime; it ends with the last [`Bucket`].
///
/// # Errors
///
/// The brokers do not answer, or are unfit.
pub async fn open(settings: &ClusterSettings) -> Result<Bucket, ClusterFault> {
    let client = connect::connect_once(settings).await?;
    let (bucket, end) = channel();
    let cluster = settings.name.clone();
    tokio::spawn(async move { serve(setup::context(client), &cluster, end).await });
    Ok(bucket)
}

#[derive(Clone)]
struct Kv {
    brokers: Context,
    names: Names,
}

impl Kv {
    async fn write(&self, write: BucketWrite) -> Result<Revision, WriteFault> {
        let mut headers = HeaderMap::new();
        let condition = match write.expected {
            Expected::Any => None,
            Expected::Unused => Some(0),
            Expected::At(revision) => Some(revision.0),
        };
        if let Some(sequence) = condition {
            let sequence = HeaderValue::from(sequence);
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, sequence);
        }
        if write.value.is_none() {
            headers.insert(OPERATION, REMOVED);
        }
        let (subject, value) = (self.names.key(&write.key), write.value.unwrap_or_default());
        let published = async {
            let acknowledged = self.brokers.publish_with_headers(subject, headers, value);
            acknowledged.await?.await
        };
        let unknown = |cause: String| Err(WriteFault::Unknown(cause));
        match timeout(BUCKET_ANSWER_MAX, published).await {
            Ok(Ok(acknowledged)) => Ok(Revision(acknowledged.sequence)),
            Ok(Err(error)) if error.kind() == PublishErrorKind::WrongLastSequence => {
                Err(WriteFault::Conflict)
            }
            Ok(Err(error)) => unknown(with_causes(&error)),
            Err(_elapsed) => unknown(format!("none within {BUCKET_ANSWER_MAX:?}")),
        }
    }

    async fn inspect(&self, key: &str) -> Result<Inspected, InspectFault> {
        let unknown = |cause: String| InspectFault::Unknown(cause);
        let inspected = async {
            let stream = self.stream().await?;
            let last = Revision(stream.cached_info().state.last_sequence);
            let subject = self.names.key(key);
            // Asks the leader: other brokers may not have what was acknowledged last.
            let found = match stream.get_last_raw_message_by_subject(&subject).await {
                Ok(found) => {
                    let value = value(found.payload, Some(&found.headers));
                    Some((Revision(found.sequence), value))
                }
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => None,
                Err(error) => return Err(unknown(with_causes(&error))),
            };
            Ok(Inspected { found, last })
        };
        let answered = timeout(BUCKET_ANSWER_MAX, inspected).await;
        answered.unwrap_or_else(|_| Err(unknown(format!("none within {BUCKET_ANSWER_MAX:?}"))))
    }

    async fn stream(&self) -> Result<Stream, InspectFault> {
        let found = self.brokers.get_stream(self.names.bucket_stream()).await;
        found.map_err(|error| {
            if let GetStreamErrorKind::JetStream(refusal) = error.kind()
                && refusal.code() == 404
            {
                return InspectFault::NoBucket;
            }
            InspectFault::Unknown(with_causes(&error))
        })
    }

    /// Follows the changes, by one consumer after the other.
    async fn watch(&self, mut after: Revision, changes: mpsc::Sender<Change>) -> Infallible {
        let mut fails = false;
        loop {
            match self.consumer(after).await {
                Ok(mut messages) => {
                    if mem::take(&mut fails) {
                        tracing::info!("the registry is followed again");
                    }
                    let ended = self.follow(&mut messages, &mut after, &changes).await;
                    tracing::debug!(cause = ended, "the registry's watch is begun anew");
                }
                // Said once, since it is tried again and again; /readyz and the metrics go on telling.
                Err(cause) if mem::replace(&mut fails, true) => {
                    tracing::debug!(cause, "the registry's watch does not begin");
                }
                Err(cause) => tracing::warn!(
                    cause,
                    "the registry of rooms and keys cannot be followed; if its stream was deleted, `uproar cluster restore` \
                     makes it anew from this node's copy"
                ),
            }
            if changes.is_closed() {
                // Nobody listens: the task is aborted when the next watch begins.
                std::future::pending::<()>().await;
            }
            sleep(BUCKET_RETRY).await;
        }
    }

    async fn consumer(&self, after: Revision) -> Result<Ordered, String> {
        let begun = async {
            let stream = self.stream().await.map_err(|fault| with_causes(&fault))?;
            let config = OrderedConfig {
                deliver_subject: self.brokers.client().new_inbox(),
                filter_subject: self.names.key(">"),
                replay_policy: ReplayPolicy::Instant,
                deliver_policy: DeliverPolicy::ByStartSequence {
                    start_sequence: after.0 + 1,
                },
                ..OrderedConfig::default()
            };
            let consumer = stream.create_consumer(config).await;
            let consumer = consumer.map_err(|error| with_causes(&error))?;
            let messages = consumer.messages().await;
            messages.map_err(|error| with_causes(&error))
        };
        let begun = timeout(BUCKET_ANSWER_MAX, begun).await;
        begun.unwrap_or_else(|_| Err("no answer".to_owned()))
    }

    /// Returns why it has ended.
    async fn follow(
        &self,
        messages: &mut Ordered,
        after: &mut Revision,
        changes: &mpsc::Sender<Change>,
    ) -> String {
        let prefix = self.names.key("");
        while let Some(message) = messages.next().await {
            let message = match message {
                Ok(message) => message,
                Err(error) => return with_causes(&error),
            };
            let revision = match message.info() {
                Ok(info) => Revision(info.stream_sequence),
                Err(error) => return error.to_string(),
            };
            let Some(key) = message.subject.strip_prefix(&*prefix) else {
                continue;
            };
            let key = key.to_owned();
            let value = value(message.message.payload, message.message.headers.as_ref());
            let change = Change {
                revision,
                key,
                value,
            };
            if changes.send(change).await.is_err() {
                return "nobody listens".to_owned();
            }
            *after = revision;
        }
        "the consumer has ended".to_owned()
    }
}

/// The value of a message; `None` if it removes its key.
fn value(payload: Bytes, headers: Option<&HeaderMap>) -> Option<Bytes> {
    let operation = headers.and_then(|headers| headers.get(OPERATION));
    let removes = operation.is_some_and(|operation| ["DEL", "PURGE"].contains(&operation.as_str()));
    (!removes).then_some(payload)
}
