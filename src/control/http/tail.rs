//! An answer that has no end of its own: a room's live messages, a line each. It is read from the room as fast as
//! the client takes it, and ends with the listener's phase, so that no hand-over waits for it.

use http_body_util::Either;
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::body::{Answered, Lines};
use super::calls::CallInProgress;
use crate::control::op::tail::{Heard, Tail};
use crate::control::phase::PhaseWatch;
use uproar_proto::base::limits::TAIL_QUIET_MAX;

/// The answer that carries what `tail` hears.
pub(super) fn tailing(tail: Tail, phase: PhaseWatch, call: CallInProgress) -> Answered {
    let (sender, lines) = mpsc::channel(1);
    tokio::task::spawn_local(listen(tail, phase, sender));
    let lines = Lines::new(lines, call);
    let mut response = Response::new(Either::Right(lines));
    let lines = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, lines);
    response
}

/// Hands lines on until the room closes, the client has gone or the listener's phase ends. Each client's end shows at
/// the next line, an empty one at the latest.
async fn listen(mut tail: Tail, mut phase: PhaseWatch, lines: mpsc::Sender<Bytes>) {
    // So that the client sees at once that it listens.
    let mut line = Bytes::from_static(b"\n");
    let reason = loop {
        let sent = tokio::select! {
            sent = lines.send(line) => sent,
            () = phase.ending() => break "the listener pauses; ask again".to_owned(),
        };
        if sent.is_err() {
            return;
        }
        line = tokio::select! {
            heard = tail.hear() => match heard {
                Heard::Line(line) => line,
                Heard::Closed(reason) => break reason,
            },
            () = sleep(TAIL_QUIET_MAX) => Bytes::from_static(b"\n"),
            () = phase.ending() => break "the listener pauses; ask again".to_owned(),
            () = lines.closed() => return,
        };
    };
    let end = format!("{}\n", json!({"Type": "END", "Reason": reason}));
    // Whoever does not read it sees the end without its reason.
    let _unread = lines.try_send(end.into());
}
