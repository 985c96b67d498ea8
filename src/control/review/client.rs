//! A call to a handler.

use std::io;

use hyper::body::Bytes;
use hyper::header::HeaderName;
use hyper::{Method, StatusCode};

use super::settings::Target;
use crate::control::http_client::{Call, CallError, HttpClient, Policy, Signer};
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::limits::{
    REVIEW_ANSWER_BYTES_MAX, REVIEW_IDLE_MAX, REVIEW_IN_FLIGHT_PER_HANDLER_MAX,
};
use uproar_proto::sigv4::Scope;

const POLICY: Policy = Policy {
    // A review has a deadline, which covers its wait for a free request too.
    timeout: None,
    answer_bytes_max: REVIEW_ANSWER_BYTES_MAX,
    idle_max: REVIEW_IDLE_MAX,
    idle_connections_max: REVIEW_IN_FLIGHT_PER_HANDLER_MAX,
    repeats_broken: true,
};
const INVOCATION_TYPE: (&str, &str) = ("x-amz-invocation-type", "RequestResponse");
/// Set when Lambda's answer is the function's error, not its result.
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");

/// Why a handler gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallFault {
    /// There was no answer, or only a part of one.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A status other than 200.
    #[error("HTTP status {0}")]
    Status(StatusCode),
    /// The function failed.
    #[error("the function failed: {0}")]
    Function(String),
}

/// A handler's answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// Complete, unless there is a fault.
    pub(super) body: Vec<u8>,
    /// The reason why only a denial in it is valid.
    pub(super) fault: Option<CallFault>,
}

/// Calls handlers.
#[derive(Debug)]
pub(super) struct HandlerClient(HttpClient);

impl HandlerClient {
    /// A client with the system's certificates, which are read only if `secure`.
    pub(super) fn new(secure: bool) -> io::Result<Self> {
        HttpClient::new(POLICY, secure).map(Self)
    }

    /// Sends `body` and returns the handler's answer, as far as it arrived.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection; the handler may have received the message.
    pub(super) async fn call(
        &self,
        target: &Target,
        body: Bytes,
        now: UnixTime,
    ) -> Result<Answer, CallFault> {
        let signer = target.signed.as_ref().map(|(region, credentials)| Signer {
            credentials,
            scope: Scope {
                region,
                service: "lambda",
            },
            now,
        });
        let call = Call {
            method: Method::POST,
            uri: target.uri.clone(),
            content_type: "application/json",
            headers: &[INVOCATION_TYPE],
            body,
            signer,
        };
        let answer = self.0.call(&call).await?;
        let status = answer.status;
        let refused = (status != StatusCode::OK).then_some(CallFault::Status(status));
        let failed = answer.headers.get(FUNCTION_ERROR);
        let failed = failed
            .map(|kind| CallFault::Function(String::from_utf8_lossy(kind.as_bytes()).into_owned()));
        Ok(Answer {
            body: answer.body,
            fault: refused.or(failed).or(answer.cut.map(CallFault::Call)),
        })
    }
}
