//! The ERROR frame of a refused request: counted by its code and by the chat mode that refused it.

use crate::shard::metrics::{Figure, ShardMetrics};
use uproar_proto::base::id::FrameId;
use uproar_proto::chat::{ErrorCode, encode};
use uproar_proto::extension::modes::{Mode, read_refusal};

/// Counts a refusal, and makes its frame. A refusal is code and text wherever it comes from, another shard or node too: what more
/// there is of a chat mode's is in its text.
pub(super) fn refusal<'a>(
    metrics: &ShardMetrics,
    id: FrameId,
    request_id: &'a str,
    (code, message): (ErrorCode, &'a str),
) -> encode::Error<'a> {
    let read = read_refusal(code, message);
    let mode = read.map(|(mode, _)| mode);
    figure(metrics, code, mode).inc();
    encode::Error {
        id,
        request_id,
        code,
        message,
        retry_after: read.and_then(|(_, retry_after)| retry_after),
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
