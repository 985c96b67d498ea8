//! One TLS handshake with the upgrade behind it, up to the end of the answer's head. On a blocking
//! socket it runs through, on a non-blocking one as far as the kernel allows.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::ClientConnection;
use rustls::{ExtractedSecrets, HandshakeKind};

use super::client::{Agreed, TlsClient};
use super::keys::RecordKey;
use super::records::whole;

/// A handshake in progress.
pub(crate) struct Opening {
    session: ClientConnection,
    agreed: Arc<Agreed>,
    /// Records that came and were not looked at.
    incoming: Vec<u8>,
    /// What came of the answer to the upgrade.
    answer: Vec<u8>,
    answer_max: usize,
}

/// What an established connection goes on with.
#[derive(Debug)]
pub(crate) struct Established {
    /// The answer to the upgrade, to the end of its head.
    pub(crate) answer: Vec<u8>,
    pub(crate) sealing: RecordKey,
    pub(crate) opening: RecordKey,
    /// Content behind the answer, in the same record.
    pub(crate) plain: Vec<u8>,
    /// Records behind the answer that came with it.
    pub(crate) incoming: Vec<u8>,
}

impl Opening {
    /// Begins: `request` follows the handshake at once. An answer whose head is longer than
    /// `answer_max` bytes is refused.
    pub(crate) fn new(client: &TlsClient, request: &str, answer_max: usize) -> io::Result<Self> {
        let (mut session, agreed) = client.begin()?;
        session.writer().write_all(request.as_bytes())?;
        Ok(Self {
            session,
            agreed,
            incoming: Vec::new(),
            answer: Vec::new(),
            answer_max,
        })
    }

    /// Goes on until the answer's head is there, or a non-blocking socket has nothing more.
    /// Returns whether it is there.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the server ended it, `InvalidData` for what is not TLS 1.3, the kernel's.
    pub(crate) fn step(&mut self, socket: &mut TcpStream) -> io::Result<bool> {
        loop {
            while self.session.wants_write() {
                match self.session.write_tls(socket) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
            if self.head().is_some() {
                return Ok(true);
            }
            let mut part = [0; 4096];
            match socket.read(&mut part) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => self.incoming.extend_from_slice(&part[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
            let taken = self.take_records();
            if let Err(error) = taken {
                // The alert that says why.
                let _best_effort = self.session.write_tls(socket);
                return Err(error);
            }
        }
    }

    /// Takes record after record, so that none behind the answer is opened here.
    fn take_records(&mut self) -> io::Result<()> {
        let mut used = 0;
        while self.head().is_none()
            && let Some(end) = whole(&self.incoming[used..])?
        {
            let mut record = &self.incoming[used..used + end];
            while !record.is_empty() {
                self.session.read_tls(&mut record)?;
                let processed = self.session.process_new_packets();
                processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            }
            used += end;
            let mut part = [0; 1024];
            // Errors say that there is no more.
            while let Ok(len @ 1..) = self.session.reader().read(&mut part) {
                self.answer.extend_from_slice(&part[..len]);
            }
            if self.answer.len() > self.answer_max && self.head().is_none() {
                return Err(io::Error::other("the answer to the upgrade is too long"));
            }
        }
        self.incoming.drain(..used);
        Ok(())
    }

    /// Returns where the answer's head ends.
    fn head(&self) -> Option<usize> {
        let at = self.answer.windows(4).position(|four| four == b"\r\n\r\n");
        at.map(|at| at + 4)
    }

    /// Takes the records over from rustls, once [`Opening::step`] returned `true`.
    pub(crate) fn finish(mut self) -> io::Result<Established> {
        let suite = self.session.negotiated_cipher_suite();
        let kind = self.session.handshake_kind();
        let (Some(suite), Some(kind), Some(head)) = (suite, kind, self.head()) else {
            return Err(io::Error::other("the handshake is not over"));
        };
        self.agreed
            .note(suite.suite(), kind == HandshakeKind::Resumed);
        let secrets = self.session.dangerous_extract_secrets();
        let ExtractedSecrets { tx, rx } = secrets.map_err(io::Error::other)?;
        let plain = self.answer.split_off(head);
        Ok(Established {
            answer: self.answer,
            sealing: RecordKey::of(tx)?,
            opening: RecordKey::of(rx)?,
            plain,
            incoming: self.incoming,
        })
    }
}
