//! A connection's plaintext before it reaches the HTTP library, which resolves two lengths of one
//! request by itself: after the first ambiguity it receives bytes that are no request, so that it
//! answers 400 and closes.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use uproar_proto::framing::{Doubt, Framing};

/// The library parses a request head again when a blank line arrives.
const BLANK: &[u8] = b"\r\n\r\n";

/// The stream that the library reads and writes.
pub(super) struct Guarded<S> {
    stream: S,
    framing: Framing,
    // The first ambiguity of the framing, once there is one.
    doubt: Rc<Cell<Option<Doubt>>>,
    // Bytes to be read before the stream's.
    ahead: &'static [u8],
}

impl<S> Guarded<S> {
    /// `doubt` receives the first ambiguity.
    pub(super) fn new(stream: S, doubt: Rc<Cell<Option<Doubt>>>) -> Self {
        Self {
            stream,
            framing: Framing::default(),
            doubt,
            ahead: &[],
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let (now, later) = self
                .ahead
                .split_at(self.ahead.len().min(buffer.remaining()));
            buffer.put_slice(now);
            self.ahead = later;
            return Poll::Ready(Ok(()));
        }
        let start = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if self.doubt.get().is_none()
            && let Err(raised) = self.framing.read(&buffer.filled()[start..])
        {
            self.doubt.set(Some(raised.doubt));
            // No request contains a NUL; the bytes after it are lost with the connection.
            buffer.filled_mut()[start + raised.at] = 0;
            buffer.set_filled(start + raised.at + 1);
            self.ahead = BLANK;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
