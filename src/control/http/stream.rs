//! One connection of the control listener. Bytes read before HTTP begins come first, and any copy
//! can decide how the connection ends.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::net::socket;
use uproar_proto::base::limits::{LINGER_BYTES_MAX, LINGER_MAX};

const LINGER_READ_BYTES: usize = 16 * 1024;

/// A connection; clones share one socket, and the last one closes it.
#[derive(Debug, Clone)]
pub(super) struct SharedStream {
    socket: Rc<TcpStream>,
    ahead: Bytes,
}

impl SharedStream {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self {
            socket: Rc::new(socket),
            ahead: Bytes::new(),
        }
    }

    /// Puts bytes back: they are read before those of the socket.
    pub(super) fn put_back(&mut self, bytes: Bytes) {
        self.ahead = bytes;
    }

    /// Shuts down the write side and waits for the client's end, so that no reset discards an
    /// answer. Bytes the client still sends are read and dropped, within bounds.
    pub(super) async fn linger(&self) {
        // Done before, unless the HTTP library gave up. A failure means that the client closed
        // first.
        let _gone = socket::end_writing(&*self.socket);
        let _elapsed = tokio::time::timeout(LINGER_MAX, self.discard(LINGER_BYTES_MAX)).await;
    }

    async fn discard(&self, bytes_max: usize) {
        let mut scratch = vec![0; LINGER_READ_BYTES];
        let mut left = bytes_max;
        while left > 0 && self.socket.readable().await.is_ok() {
            match self.socket.try_read(&mut scratch) {
                Ok(0) => return,
                Ok(len) => left = left.saturating_sub(len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_gone) => return,
            }
        }
    }

    /// The first unread byte, which stays unread; `None` at the end.
    pub(super) async fn first_byte(&self) -> io::Result<Option<u8>> {
        if let Some(first) = self.ahead.first() {
            return Ok(Some(*first));
        }
        let mut first = [0];
        let peeked = self.socket.peek(&mut first).await?;
        Ok((peeked > 0).then_some(first[0]))
    }

    /// Whether bytes have arrived that nobody has read yet.
    pub(super) fn has_unread(&self) -> bool {
        !self.ahead.is_empty() || socket::has_unread(&*self.socket)
    }

    /// If the client has still not read everything, no more can be delivered: a reset discards the
    /// rest, so that the kernel does not keep it for minutes.
    pub(super) fn reset_if_unread(&self) {
        if socket::has_unsent(&*self.socket) {
            // A failure means that the client closed first.
            let _gone = socket::reset_at_close(&*self.socket);
        }
    }
}

impl AsyncRead for SharedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let len = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead.split_to(len));
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            match self.socket.try_read(buffer.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => {
                    buffer.advance(read?);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for SharedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match self.socket.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match self.socket.try_write_vectored(pieces) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket::end_writing(&*self.socket))
    }
}
