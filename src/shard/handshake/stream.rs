//! A connection during its handshake: plaintext with and without TLS.

use std::io;
use std::pin::pin;

use super::rejected::Rejected;
use crate::net::stream::Stream;
use crate::net::tls::{Progress, Tls};
use uproar_proto::base::limits::{HANDSHAKE_READ_BYTES, HANDSHAKE_TIMEOUT, LINGER_BYTES_MAX};

/// A connection during its handshake, which offers plaintext with and without TLS.
pub(super) struct HandshakeStream<'a, S> {
    stream: &'a S,
    // Set once the first bytes tell that the client speaks TLS.
    pub(super) tls: Option<Box<Tls>>,
    // Ciphertext received before TLS was set up.
    ahead: Vec<u8>,
    // All plaintext received so far.
    pub(super) plain: Vec<u8>,
}

impl<'a, S: Stream> HandshakeStream<'a, S> {
    pub(super) fn new(stream: &'a S, plain: Vec<u8>) -> Self {
        Self {
            stream,
            tls: None,
            ahead: Vec::new(),
            plain,
        }
    }

    /// Sets up TLS; the bytes received until now are ciphertext.
    pub(super) fn set_up_tls(&mut self, tls: Tls) {
        self.tls = Some(Box::new(tls));
        self.ahead = std::mem::take(&mut self.plain);
    }

    /// Reads until at least one more plaintext byte has arrived.
    ///
    /// # Errors
    ///
    /// The client's end of the stream, its TLS error, or the kernel's error.
    pub(super) async fn read(&mut self) -> Result<(), Rejected> {
        if self.tls.is_none() {
            let plain = std::mem::take(&mut self.plain);
            self.plain = read_more(self.stream, plain).await?;
            return Ok(());
        }
        let before = self.plain.len();
        while self.plain.len() == before {
            self.read_record().await?;
        }
        Ok(())
    }

    /// Reads ciphertext and answers what TLS must answer.
    async fn read_record(&mut self) -> Result<(), Rejected> {
        let mut ciphertext = std::mem::take(&mut self.ahead);
        if ciphertext.is_empty() {
            ciphertext = read_more(self.stream, ciphertext).await?;
        }
        let Some(tls) = &mut self.tls else {
            return Ok(());
        };
        let mut out = Vec::new();
        let progress = tls.receive(&mut ciphertext, &mut self.plain, &mut out);
        if !out.is_empty() {
            self.stream.write_all(out).await?;
        }
        match progress? {
            Progress::Closed => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Progress::Established | Progress::Handshaking => Ok(()),
        }
    }

    /// Sends `bytes`, which are the last: with TLS its end follows them.
    ///
    /// # Errors
    ///
    /// The client's TLS error, or the kernel's error.
    pub(super) async fn write(&mut self, bytes: Vec<u8>) -> Result<(), Rejected> {
        let bytes = match &mut self.tls {
            None => bytes,
            Some(tls) => {
                let mut sealed = Vec::new();
                tls.seal(&bytes, &mut sealed)?;
                tls.seal_close(&mut sealed);
                sealed
            }
        };
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Ends our side and waits for the client's end, so that a reset does not destroy the answer. Bytes that
    /// still arrive are read and dropped, up to a bound; the handshake deadline covers this too.
    pub(super) async fn end(&mut self) {
        self.stream.shutdown_write();
        let (mut left, mut dropped) = (LINGER_BYTES_MAX, Vec::new());
        while left > 0 {
            dropped.clear();
            let (result, buffer) = self.stream.read(dropped, HANDSHAKE_READ_BYTES).await;
            let (Ok(len @ 1..), buffer) = (result, buffer) else {
                return;
            };
            (left, dropped) = (left.saturating_sub(len), buffer);
        }
    }
}

/// Appends to `received` what arrives next.
///
/// # Errors
///
/// The end of the stream, or the kernel's error.
pub(super) async fn read_more(stream: &impl Stream, received: Vec<u8>) -> io::Result<Vec<u8>> {
    let (result, received) = stream.read(received, HANDSHAKE_READ_BYTES).await;
    match result? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(received),
    }
}

/// Runs `work` on `stream`, which is cut off when it takes longer than a handshake may. Returns the result, and
/// whether it was cut off.
pub(super) async fn within_deadline<T>(
    stream: &impl Stream,
    work: impl Future<Output = T>,
) -> (T, bool) {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        result = &mut work => (result, false),
        () = tokio::time::sleep(HANDSHAKE_TIMEOUT) => {
            // The pending operation completes with an error; dropping it would leak it.
            stream.abort();
            (work.await, true)
        }
    }
}
