//! The unread part of a request's body once its answer is ready: a small rest is drained and the
//! connection continues; a larger one ends the connection, in a way that lets the client still read
//! the answer.

use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Version;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONNECTION, EXPECT, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;

use super::body::Answered;
use super::exchange::Caller;
use crate::control::fault::Fault;
use uproar_proto::base::limits::{BODY_BYTES_MAX, BODY_TIMEOUT, UNREAD_BODY_BYTES_MAX};

/// The state of a request's body.
pub(super) enum Unread {
    /// It is read completely, or empty.
    Nothing,
    /// Reading has not started.
    Whole(Incoming),
    /// Reading stopped before its end.
    Rest,
}

impl Unread {
    /// A body that has just arrived.
    pub(super) fn of(body: Incoming) -> Self {
        if body.is_end_stream() {
            Self::Nothing
        } else {
            Self::Whole(body)
        }
    }

    /// Reads the body, bounded, within a deadline; a declared length is checked before a byte is
    /// read.
    pub(super) async fn read(&mut self) -> Result<Bytes, Fault> {
        let body = match std::mem::replace(self, Self::Rest) {
            Self::Nothing => {
                *self = Self::Nothing;
                return Ok(Bytes::new());
            }
            Self::Rest => return Err(Fault::Body("Request body was read before")),
            Self::Whole(body) => body,
        };
        let declared = body.size_hint().lower();
        if declared > u64::try_from(BODY_BYTES_MAX).expect("256 KiB") {
            return Err(Fault::BodyTooLarge);
        }
        let collected =
            tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect());
        match collected.await {
            Err(_elapsed) => Err(Fault::BodyTooSlow),
            Ok(Ok(body)) => {
                *self = Self::Nothing;
                Ok(body.to_bytes())
            }
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Fault::BodyTooLarge),
            Ok(Err(_)) => Err(Fault::Body("Request body could not be read")),
        }
    }

    /// Decides whether the connection continues, and announces its end in the answer, before the
    /// client sends another request on it. `is_last`: the listener is not served any more. HTTP/2
    /// ends only the stream.
    pub(super) fn settle(
        self,
        from: &Caller,
        parts: &Parts,
        is_last: bool,
        mut answer: Answered,
    ) -> Answered {
        if parts.version > Version::HTTP_11 {
            return answer;
        }
        // Only the library decides where a chunked body ends; see `protocol::framing`.
        let mut ends = is_last || parts.headers.contains_key(TRANSFER_ENCODING);
        match self {
            Self::Nothing => {}
            Self::Whole(body) if !ends && is_small(&body, parts) => {
                tokio::task::spawn_local(drain(body, BODY_TIMEOUT));
            }
            Self::Whole(_) | Self::Rest => {
                ends = true;
                from.ends_unread.set(true);
            }
        }
        if ends {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(CONNECTION, close);
        }
        answer
    }
}

/// A client that waits for `100 Continue` may never send its body.
fn is_small(body: &Incoming, parts: &Parts) -> bool {
    let length = body.size_hint().exact();
    length.is_some_and(|length| length <= UNREAD_BODY_BYTES_MAX)
        && !parts.headers.contains_key(EXPECT)
}

/// Drains the body; if it takes longer than `limit` the library ends the connection.
async fn drain(mut body: Incoming, limit: Duration) {
    let read = async { while let Some(Ok(_dropped)) = body.frame().await {} };
    let _elapsed = tokio::time::timeout(limit, read).await;
}
