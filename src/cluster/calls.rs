//! The connection for everything but published records: appends, messages, calls and their answers.
//!
//! Nothing here waits: what a connection does not take now is given up, since the engine asks again and whatever it
//! asks for is harmless when it comes late.

use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, HeaderMap, Message, StatusCode, Subject, header::HeaderValue};
use bytes::Bytes;
use futures_util::FutureExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::names::{Names, Part, part_of};
use super::token_uses::{Answer as UseAnswer, Appends, Question};
use crate::logging::with_causes;
use uproar_proto::base::hex::push_hex;
use uproar_proto::base::limits::CLUSTER_ANSWER_MAX;
use uproar_proto::cluster::engine::AppendOutcome;
use uproar_proto::cluster::{HashSlot, Incarnation, Sequence};
use uproar_proto::token::TokenId;

/// JetStream's code for a condition that does not hold (`JSStreamWrongLastSequenceErrF`, and the one without a number).
const WRONG_LAST: [u64; 2] = [10071, 10164];
/// There is no such stream, by the brokers' `err_code`.
const NO_STREAM: u64 = 10059;
const NO_MESSAGE: u64 = 10037;
/// The condition of an append: the sequence of its subject's newest message, 0 for none.
const LAST_OF_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence";

/// The calls of one node.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    client: Client,
    pub(super) names: Names,
    // Below it are the answers that this module reads; the client has the rest of the inbox.
    own: String,
}

/// What an answer in the inbox is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// An append to a log: the attempt.
    Append(HashSlot, u64),
    /// A token's use: the attempt.
    Token(u64),
    /// Uses that are one append: the number of the first.
    Tokens(u64),
    /// A message to this process: nobody takes it.
    Message(Incarnation),
}

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CallFault {
    /// No answer, no connection, no leader.
    Unanswered(String),
    /// The brokers refuse it: HTTP-like code, their own code, and their words.
    Refused(u16, u64, String),
}

/// What the leader of a stream says about its newest message of a subject, or the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) sequence: u64,
    pub(super) payload: Bytes,
}

#[derive(Deserialize)]
struct Answer<T> {
    error: Option<Refusal>,
    #[serde(flatten)]
    result: Option<T>,
}

#[derive(Deserialize)]
struct Refusal {
    code: u16,
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct Acknowledgement {
    seq: u64,
    // Messages of a batch; nothing of a single one.
    count: Option<usize>,
}

#[derive(Deserialize)]
struct Found {
    message: FoundMessage,
}

#[derive(Deserialize)]
struct FoundMessage {
    seq: u64,
    #[serde(default)]
    data: String,
}

impl Calls {
    pub(super) fn new(client: Client, names: Names, inbox: &str) -> Self {
        Self {
            client,
            names,
            own: format!("{inbox}.own"),
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The subject of all answers that [`about`](Self::about) reads.
    pub(super) fn answers(&self) -> String {
        format!("{}.>", self.own)
    }

    pub(super) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Appends to a log. Returns whether it is on its way.
    pub(super) fn append(
        &self,
        slot: HashSlot,
        expected: Sequence,
        attempt: u64,
        payload: Bytes,
    ) -> bool {
        let reply = format!("{}.a.{}.{attempt}", self.own, slot.number());
        self.publish(self.names.log(slot), reply, Some(expected.0), payload)
    }

    /// Sends a message to a process. An answer comes only if nobody takes it.
    pub(super) fn send(&self, to: Incarnation, payload: Bytes) -> bool {
        let reply = format!("{}.n.{to}", self.own);
        self.publish(self.names.to(to), reply, None, payload)
    }

    /// Tells all nodes that this one lives.
    pub(super) fn here(&self, payload: Bytes) -> bool {
        let published = self.client.publish(self.names.here(), payload);
        self.is_connected() && now(published)
    }

    fn publish(
        &self,
        subject: String,
        reply: String,
        expected: Option<u64>,
        payload: Bytes,
    ) -> bool {
        if !self.is_connected() {
            return false;
        }
        let mut headers = HeaderMap::new();
        match expected {
            Some(last) => {
                headers.insert(LAST_OF_SUBJECT, HeaderValue::from(last));
                now(self
                    .client
                    .publish_with_reply_and_headers(subject, reply, headers, payload))
            }
            None => now(self.client.publish_with_reply(subject, reply, payload)),
        }
    }

    /// What an answer is about.
    pub(super) fn about(&self, subject: &Subject) -> Option<About> {
        let mut parts = subject.strip_prefix(&*self.own)?.split('.').skip(1);
        match (parts.next()?, parts.next()?, parts.next()) {
            ("a", slot, Some(attempt)) => {
                let slot = HashSlot::new(slot.parse().ok()?);
                Some(About::Append(slot, attempt.parse().ok()?))
            }
            ("t", attempt, None) => Some(About::Token(attempt.parse().ok()?)),
            ("b", first, None) => Some(About::Tokens(first.parse().ok()?)),
            ("n", process, None) => {
                let bits = u64::from_str_radix(process, 16).ok()?;
                Some(About::Message(Incarnation::new(bits)))
            }
            _ => None,
        }
    }

    /// The newest message of a subject, or with `after` the next one behind it, as the stream's leader has it.
    pub(super) async fn stored(
        &self,
        stream: &str,
        subject: &str,
        after: Option<u64>,
        time_max: Duration,
    ) -> Result<Option<Stored>, CallFault> {
        let request = match after {
            None => serde_json::json!({ "last_by_subj": subject }),
            Some(after) => serde_json::json!({ "seq": after + 1, "next_by_subj": subject }),
        };
        let call = format!("$JS.API.STREAM.MSG.GET.{stream}");
        match self
            .call::<Found>(call, request.to_string().into(), time_max)
            .await
        {
            Ok(Found { message }) => {
                use base64::Engine;
                let payload = base64::engine::general_purpose::STANDARD.decode(&message.data);
                let payload = payload.map_err(|_| unreadable("base64"))?;
                Ok(Some(Stored {
                    sequence: message.seq,
                    payload: payload.into(),
                }))
            }
            Err(CallFault::Refused(_, NO_MESSAGE, _)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Asks the stream's leader whose use of a token it has.
    pub(super) async fn whose(&self, question: Question) -> UseAnswer {
        let stream = self.names.stream(Part::Tokens);
        let subject = self.names.token(question.token);
        let stored = self
            .stored(&stream, &subject, None, CLUSTER_ANSWER_MAX)
            .await;
        let stored = stored.ok().flatten();
        question.answer(stored.as_ref().map(|stored| &*stored.payload))
    }

    /// Calls JetStream.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        subject: String,
        payload: Bytes,
        time_max: Duration,
    ) -> Result<T, CallFault> {
        let request = async_nats::Request::new().payload(payload);
        read(&self.request(subject, request, time_max).await?)
    }

    async fn request(
        &self,
        subject: String,
        request: async_nats::Request,
        time_max: Duration,
    ) -> Result<Bytes, CallFault> {
        if !self.is_connected() {
            return Err(CallFault::Unanswered(
                "not connected to a broker".to_owned(),
            ));
        }
        let answer = self
            .client
            .send_request(subject, request.timeout(Some(time_max)))
            .await;
        let answer = answer.map_err(|error| CallFault::Unanswered(with_causes(&error)))?;
        Ok(answer.payload)
    }
}

impl Appends for Calls {
    fn append_use(&self, number: u64, token: TokenId, claimant: Bytes) -> bool {
        let reply = format!("{}.t.{number}", self.own);
        self.publish(self.names.token(token), reply, Some(0), claimant)
    }

    fn append_uses(&self, uses: &[(u64, TokenId, Bytes)]) -> bool {
        let [(first, _, unique), others @ ..] = uses else {
            return false;
        };
        let mut batch = String::with_capacity(2 * unique.len());
        push_hex(&mut batch, unique);
        self.is_connected()
            && uses.iter().enumerate().all(|(at, (_, token, claimant))| {
                let mut headers = HeaderMap::new();
                headers.insert(LAST_OF_SUBJECT, HeaderValue::from(0));
                headers.insert("Nats-Batch-Id", &*batch);
                headers.insert("Nats-Batch-Sequence", HeaderValue::from(at + 1));
                let (subject, claimant) = (self.names.token(*token), claimant.clone());
                if at < others.len() {
                    return now(self.client.publish_with_headers(subject, headers, claimant));
                }
                headers.insert("Nats-Batch-Commit", "1");
                let reply = format!("{}.b.{first}", self.own);
                now(self
                    .client
                    .publish_with_reply_and_headers(subject, reply, headers, claimant))
            })
    }
}

impl CallFault {
    /// Whether the brokers' condition did not hold.
    pub(super) fn is_wrong_last(&self) -> bool {
        matches!(self, Self::Refused(_, code, _) if WRONG_LAST.contains(code))
    }
}

impl std::fmt::Display for CallFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unanswered(cause) => f.write_str(cause),
            Self::Refused(_, NO_STREAM, words) => write!(
                f,
                "{words} ({NO_STREAM}): somebody deleted it; stop one node, run `uproar cluster init` there, and start it"
            ),
            Self::Refused(_, code, words) => write!(f, "{words} ({code})"),
        }
    }
}

/// The outcome of an append of `count` messages, by the answer to it, and why it is not known.
pub(super) fn outcome(answer: &Message, count: usize) -> (AppendOutcome, Option<CallFault>) {
    if answer.status == Some(StatusCode::NO_RESPONDERS) {
        let fault = CallFault::Unanswered("the stream has no leader".to_owned());
        return (AppendOutcome::Unknown, Some(fault));
    }
    match read::<Acknowledgement>(&answer.payload) {
        Ok(Acknowledgement { seq, count: found }) if found.unwrap_or(1) == count => {
            (AppendOutcome::Ok(Sequence(seq)), None)
        }
        // A broker that does not know batches takes each message for itself, and tells of the last one only.
        Ok(_) => (
            AppendOutcome::Unknown,
            Some(unreadable("it is not about the whole batch")),
        ),
        Err(fault) if fault.is_wrong_last() => (AppendOutcome::WrongLast, None),
        Err(fault) => (AppendOutcome::Unknown, Some(fault)),
    }
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, CallFault> {
    let answer: Answer<T> =
        serde_json::from_slice(answer).map_err(|error| unreadable(&error.to_string()))?;
    match answer {
        Answer {
            error: Some(refusal),
            ..
        } => Err(CallFault::Refused(
            refusal.code,
            refusal.err_code,
            refusal.description,
        )),
        Answer {
            result: Some(result),
            ..
        } => Ok(result),
        Answer { .. } => Err(unreadable("it has no result")),
    }
}

fn unreadable(why: &str) -> CallFault {
    CallFault::Unanswered(format!("an answer that cannot be read: {why}"))
}

/// Whether a message goes to the connection's queue at once. Unconstrained: else a turn with much to send would take an
/// exhausted share of the runtime for a full queue.
fn now<E>(publishing: impl Future<Output = Result<(), E>>) -> bool {
    let done = tokio::task::unconstrained(publishing).now_or_never();
    done.is_some_and(|outcome| outcome.is_ok())
}

/// The stream that has the log of `slot`.
pub(super) fn stream_of(names: &Names, slot: HashSlot) -> String {
    names.stream(Part::Log(part_of(slot)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(payload: &'static str, status: Option<StatusCode>) -> Message {
        Message {
            subject: "a".into(),
            reply: None,
            payload: Bytes::from_static(payload.as_bytes()),
            headers: None,
            status,
            description: None,
            length: 0,
        }
    }

    /// Goal: only an acknowledgement is success, and only the brokers' refusal of a condition is one; whatever else
    /// they say leaves the outcome open.
    #[test]
    fn answers_are_told_apart() {
        let of = |text| outcome(&answer(text, None), 1).0;
        let batch = |text| outcome(&answer(text, None), 3).0;
        assert_eq!(
            batch(r#"{"stream":"UP_main_TOK","seq":9,"batch":"x","count":3}"#),
            AppendOutcome::Ok(Sequence(9))
        );
        assert_eq!(
            batch(r#"{"stream":"UP_main_TOK","seq":9}"#),
            AppendOutcome::Unknown,
            "an old broker has looked at the last one only"
        );
        assert_eq!(
            of(r#"{"stream":"UP_main_LOG_0","seq":815,"domain":"d"}"#),
            AppendOutcome::Ok(Sequence(815))
        );
        for text in [
            r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 7"},"stream":"s","seq":0}"#,
            r#"{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"}}"#,
        ] {
            assert_eq!(of(text), AppendOutcome::WrongLast, "{text}");
        }
        for text in [
            r#"{"error":{"code":503,"err_code":10077,"description":"no space"},"stream":"s","seq":0}"#,
            "{}",
            "",
            "+OK",
        ] {
            assert_eq!(of(text), AppendOutcome::Unknown, "{text}");
        }
        let silent = outcome(&answer("", Some(StatusCode::NO_RESPONDERS)), 1);
        assert_eq!(silent.0, AppendOutcome::Unknown);
    }
}
