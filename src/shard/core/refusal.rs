//! The ERROR frame of a refused request: counted by its code and by the chat mode that refused it.

use bytes::BytesMut;

use crate::shard::metrics::{Figure, ShardMetrics};
use uproar_proto::base::id::FrameId;
use uproar_proto::chat::{ErrorCode, encode};
use uproar_proto::extension::modes::{Mode, read_refusal};

/// An ERROR frame, before it is encoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct RefusalFrame<'a> {
    id: FrameId,
    request_id: &'a str,
    code: ErrorCode,
    message: &'a str,
    // When the request may be made again, in seconds from now.
    retry_after: Option<u64>,
}

impl<'a> RefusalFrame<'a> {
    /// Counts a refusal, and makes its frame. A refusal is code and text wherever it comes from, another shard or node too:
    /// what more there is of a chat mode's is in its text.
    pub(super) fn count(
        metrics: &ShardMetrics,
        id: FrameId,
        request_id: &'a str,
        (code, message): (ErrorCode, &'a str),
    ) -> Self {
        let read = read_refusal(code, message);
        let mode = read.map(|(mode, _)| mode);
        figure(metrics, code, mode).inc();
        Self {
            id,
            request_id,
            code,
            message,
            retry_after: read.and_then(|(_, retry_after)| retry_after),
        }
    }

    /// Appends it.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        let &Self {
            id,
            request_id,
            code,
            message,
            retry_after,
        } = self;
        match retry_after {
            None => encode::error(out, id, request_id, code, message),
            Some(seconds) => encode::error_for(out, id, request_id, (code, message), seconds),
        }
    }
}

fn figure(metrics: &ShardMetrics, code: ErrorCode, mode: Option<Mode>) -> &Figure {
    match mode {
        Some(Mode::Slow) => &metrics.rejected_slow,
        Some(Mode::Unique) => &metrics.rejected_unique,
        Some(Mode::Talk) => &metrics.rejected_talk,
        Some(Mode::Age) => &metrics.rejected_age,
        Some(Mode::Emotes) => &metrics.rejected_emotes,
        Some(Mode::Timeout) => &metrics.rejected_timed_out,
        None => match code {
            ErrorCode::BadRequest => &metrics.rejected_400,
            ErrorCode::Forbidden => &metrics.rejected_403,
            ErrorCode::NotFound => &metrics.rejected_404,
            ErrorCode::NotAcceptable => &metrics.rejected_406,
            ErrorCode::PayloadTooLarge => &metrics.rejected_413,
            ErrorCode::TooManyRequests => &metrics.rejected_429,
            ErrorCode::Unauthorized | ErrorCode::Internal => &metrics.rejected_other,
        },
    }
}
