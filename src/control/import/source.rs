//! The other side of an import: its lists and rooms, by signed calls within its rates.

use std::cell::Cell;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::clock::unix_now;
use crate::control::aws_client::Endpoint;
use crate::control::http_client::{Answer, Call, HttpClient, Policy, Signer};
use crate::control::operation::Operation;
use uproar_proto::base::limits::{
    IMPORT_ANSWER_BYTES_MAX, IMPORT_ANSWER_MAX, IMPORT_PAGE, IMPORT_PAUSE_MAX, IMPORT_TRIES_MAX,
};
use uproar_proto::sigv4::Scope;
use uproar_proto::sigv4::sign::Credentials;

const POLICY: Policy = Policy {
    timeout: Some(IMPORT_ANSWER_MAX),
    answer_bytes_max: IMPORT_ANSWER_BYTES_MAX,
    idle_max: Duration::from_secs(15),
    idle_connections_max: 1,
    // It reads only, and a failed call is made again anyway.
    repeats_broken: true,
};

/// Where an import reads.
#[derive(Debug)]
pub struct SourceSettings {
    /// As in `https://ivschat.us-west-2.amazonaws.com`.
    pub endpoint: Endpoint,
    /// The region of signatures.
    pub region: String,
    /// Whose calls these are.
    pub credentials: Credentials,
}

/// Why the other side's records are not known.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The system's certificates cannot be read.
    #[error("the system's certificates: {0}")]
    Certificates(std::io::Error),
    /// A refusal that repeating does not mend.
    #[error("{operation}: {status} {reason}")]
    Refused {
        /// The operation.
        operation: &'static str,
        /// HTTP status.
        status: u16,
        /// The other side's words.
        reason: String,
    },
    /// It failed each time.
    #[error(
        "{operation}: {reason}, {IMPORT_TRIES_MAX} times; run the import again later, it goes on from here"
    )]
    GivenUp {
        /// The operation.
        operation: &'static str,
        /// Why, the last time.
        reason: String,
    },
}

/// Reads one account's records in one region.
#[derive(Debug)]
pub struct Source {
    settings: SourceSettings,
    http: HttpClient,
    // When the next call of each operation may be made.
    next: [Cell<Option<Instant>>; Operation::ALL.len()],
}

impl Source {
    /// Reads from there.
    ///
    /// # Errors
    ///
    /// The system's certificates cannot be read.
    pub fn new(settings: SourceSettings) -> Result<Self, SourceError> {
        let secure = settings.endpoint.is_secure();
        let http = HttpClient::new(POLICY, secure).map_err(SourceError::Certificates)?;
        Ok(Self {
            settings,
            http,
            next: Default::default(),
        })
    }

    pub(super) async fn rooms(&self, token: Option<&str>) -> Result<Value, SourceError> {
        self.call(Operation::ListRooms, page(token)).await
    }

    pub(super) async fn logging_configurations(
        &self,
        token: Option<&str>,
    ) -> Result<Value, SourceError> {
        self.call(Operation::ListLoggingConfigurations, page(token))
            .await
    }

    /// A room; `None` if it does not exist any more.
    pub(super) async fn room(&self, arn: &str) -> Result<Option<Value>, SourceError> {
        let asked = self.call(Operation::GetRoom, json!({"identifier": arn}));
        match asked.await {
            Ok(room) => Ok(Some(room)),
            Err(SourceError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn call(&self, operation: Operation, input: Value) -> Result<Value, SourceError> {
        let name = operation.name();
        let mut reason = String::new();
        for tried in 0..IMPORT_TRIES_MAX {
            if tried > 0 {
                let pause = Duration::from_millis(250) * 2_u32.saturating_pow(tried - 1);
                tokio::time::sleep(pause.min(IMPORT_PAUSE_MAX)).await;
            }
            self.keep_rate(operation).await;
            let answer = match self.ask(name, &input).await {
                Ok(answer) => answer,
                Err(error) => {
                    reason = error;
                    continue;
                }
            };
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
            if answer.status.is_success() {
                return Ok(body);
            }
            reason = refusal(&answer, &body);
            let is_for_now = answer.status == StatusCode::TOO_MANY_REQUESTS
                || answer.status.is_server_error()
                || reason.contains("Throttl");
            if !is_for_now {
                return Err(SourceError::Refused {
                    operation: name,
                    status: answer.status.as_u16(),
                    reason,
                });
            }
        }
        Err(SourceError::GivenUp {
            operation: name,
            reason,
        })
    }

    /// Waits until the service's own rate lets the operation be called again.
    async fn keep_rate(&self, operation: Operation) {
        let next = &self.next[operation.index()];
        if let Some(at) = next.get() {
            tokio::time::sleep_until(at).await;
        }
        let interval = Duration::from_secs(1) / operation.aws_rate().max(1);
        next.set(Some(Instant::now() + interval));
    }

    async fn ask(&self, name: &str, input: &Value) -> Result<Answer, String> {
        let SourceSettings {
            endpoint,
            region,
            credentials,
        } = &self.settings;
        let uri = endpoint.uri(&format!("/{name}"));
        let call = Call {
            method: Method::POST,
            uri: uri.map_err(|error| error.to_string())?,
            content_type: "application/json",
            headers: &[],
            body: Bytes::from(input.to_string()),
            signer: Some(Signer {
                credentials,
                scope: Scope {
                    region,
                    service: "ivschat",
                },
                now: unix_now(),
            }),
        };
        let answer = self.http.call(&call).await;
        let answer = answer.map_err(|error| error.to_string())?;
        match answer.cut {
            Some(cut) => Err(cut.to_string()),
            None => Ok(answer),
        }
    }
}

fn page(token: Option<&str>) -> Value {
    match token {
        Some(token) => json!({"maxResults": IMPORT_PAGE, "nextToken": token}),
        None => json!({"maxResults": IMPORT_PAGE}),
    }
}

/// The kind of error and its words, as far as there are some.
fn refusal(answer: &Answer, body: &Value) -> String {
    let kind = answer.headers.get("x-amzn-errortype");
    let kind = kind
        .and_then(|kind| kind.to_str().ok())
        .or(body["__type"].as_str());
    let words = ["exceptionMessage", "message", "Message"]
        .into_iter()
        .find_map(|name| body[name].as_str());
    [kind, words]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(": ")
}
