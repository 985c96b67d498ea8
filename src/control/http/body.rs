//! Bodies of answers: whole, or lines as they come.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::{Either, Full};
use hyper::Response;
use hyper::body::{Body, Bytes, Frame};
use tokio::sync::mpsc;

use super::calls::CallInProgress;

/// An answer: its head, and its whole body or lines as they come.
pub(super) type Answered = Response<Either<Full<Bytes>, Lines>>;

/// An answer's whole body.
pub(super) fn whole(bytes: impl Into<Bytes>) -> Either<Full<Bytes>, Lines> {
    Either::Left(Full::new(bytes.into()))
}

/// The lines, of which one waits for the client at a time.
pub(super) struct Lines {
    lines: mpsc::Receiver<Bytes>,
    // The connection is in use.
    _call: CallInProgress,
}

impl Lines {
    pub(super) fn new(lines: mpsc::Receiver<Bytes>, call: CallInProgress) -> Self {
        Self { lines, _call: call }
    }
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let line = self.lines.poll_recv(cx);
        line.map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
