//! The other side of an import: its lists and rooms, by signed calls within its rates.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::clock::unix_now;
use crate::control::aws_client::{Answered, AwsClient, Endpoint, ServiceCall};
use crate::control::http_client::Policy;
use crate::control::operation::Operation;
use uproar_proto::base::limits::{
    IMPORT_ANSWER_BYTES_MAX, IMPORT_ANSWER_MAX, IMPORT_PAGE, IMPORT_PAUSE_MAX, IMPORT_TRIES_MAX,
};
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
pub struct SourceSettings {
    /// As in `https://ivschat.us-west-2.amazonaws.com`.
    pub endpoint: Endpoint,
    /// The region of signatures.
    pub region: String,
    /// Whose calls these are.
    pub credentials: Credentials,
    /// Hears why a call is made again, each reason when it is new: people would see nothing for minutes.
    pub on_trouble: Box<dyn Fn(&str)>,
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
pub struct Source {
    endpoint: Endpoint,
    on_trouble: Box<dyn Fn(&str)>,
    // The last reason that it heard.
    trouble: RefCell<String>,
    client: AwsClient,
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
        let SourceSettings {
            endpoint,
            region,
            credentials,
            on_trouble,
        } = settings;
        let client = AwsClient::new(POLICY, credentials, region, endpoint.is_secure());
        Ok(Self {
            endpoint,
            on_trouble,
            trouble: RefCell::default(),
            client: client.map_err(SourceError::Certificates)?,
            next: std::array::from_fn(|_| Cell::default()),
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
                self.tell(name, &reason);
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
            if (200..300).contains(&answer.status) {
                return Ok(body);
            }
            reason = refusal(&answer, &body);
            let is_for_now = answer.status == 429
                || (500..600).contains(&answer.status)
                || reason.contains("Throttl");
            if !is_for_now {
                return Err(SourceError::Refused {
                    operation: name,
                    status: answer.status,
                    reason,
                });
            }
        }
        Err(SourceError::GivenUp {
            operation: name,
            reason,
        })
    }

    fn tell(&self, operation: &str, reason: &str) {
        if *self.trouble.borrow() != reason {
            self.trouble.replace(reason.to_owned());
            (self.on_trouble)(&format!(
                "{operation} at {}: {reason}; trying again, up to {IMPORT_TRIES_MAX} times",
                self.endpoint
            ));
        }
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

    async fn ask(&self, name: &str, input: &Value) -> Result<Answered, String> {
        let call = ServiceCall {
            service: "ivschat",
            method: Method::POST,
            endpoint: &self.endpoint,
            path: &format!("/{name}"),
            content_type: "application/json",
            headers: &[],
            body: Bytes::from(input.to_string()),
        };
        let answered = self.client.call(call, unix_now()).await;
        answered.map_err(|error| error.to_string())
    }
}

fn page(token: Option<&str>) -> Value {
    match token {
        Some(token) => json!({"maxResults": IMPORT_PAGE, "nextToken": token}),
        None => json!({"maxResults": IMPORT_PAGE}),
    }
}

/// The kind of error and its words, as far as there are some.
fn refusal(answer: &Answered, body: &Value) -> String {
    let kind = answer.error_type.as_deref().or(body["__type"].as_str());
    let words = ["exceptionMessage", "message", "Message"]
        .into_iter()
        .find_map(|name| body[name].as_str());
    [kind, words]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(": ")
}
