//! What nobody has read of a request's body when its answer is there: a small rest is dropped and the connection
//! goes on, for a larger one it ends, in a way that the client can still read why.

use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Version;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONNECTION, EXPECT, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;

use super::{Answered, Caller};
use crate::base::limits::{BODY_BYTES_MAX, BODY_TIMEOUT, UNREAD_BODY_BYTES_MAX};
use crate::control::fault::Fault;

/// The body of a request, as long as it is not read.
pub(super) enum Unread {
    /// There is nothing more.
    Nothing,
    /// Nobody has begun.
    Whole(Incoming),
    /// Somebody gave up.
    Rest,
}

impl Unread {
    /// A body that has just come.
    pub(super) fn of(body: Incoming) -> Self {
        if body.is_end_stream() {
            Self::Nothing
        } else {
            Self::Whole(body)
        }
    }

    /// Reads it, bounded, within a deadline; a declared length is judged before a byte is read.
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

    /// Decides about the connection, and says so in the answer before a client sends its next request into
    /// nothing. HTTP/2 ends the stream alone.
    pub(super) fn settle(self, from: &Caller, parts: &Parts, mut answer: Answered) -> Answered {
        if parts.version > Version::HTTP_11 {
            return answer;
        }
        // Where a chunked body ends is for the library alone to find; see `protocol::framing`.
        let mut ends = parts.headers.contains_key(TRANSFER_ENCODING);
        match self {
            Self::Nothing => {}
            Self::Whole(body) if !ends && is_small(&body, parts) => {
                tokio::task::spawn_local(drop_within(body, BODY_TIMEOUT));
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

/// Who waits for `100 Continue` may never send it.
fn is_small(body: &Incoming, parts: &Parts) -> bool {
    let length = body.size_hint().exact();
    length.is_some_and(|length| length <= UNREAD_BODY_BYTES_MAX)
        && !parts.headers.contains_key(EXPECT)
}

/// If it takes longer the library ends the connection.
async fn drop_within(mut body: Incoming, limit: Duration) {
    let read = async { while let Some(Ok(_dropped)) = body.frame().await {} };
    let _elapsed = tokio::time::timeout(limit, read).await;
}
