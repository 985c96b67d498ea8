//! One TLS connection as a state machine between ciphertext and plaintext buffers (RFC 8446).
//!
//! rustls shakes hands. From then on records of TLS 1.3 are our own; those of TLS 1.2 stay rustls', whose unbuffered API
//! keeps no plaintext queues either: memory is the connection's keys and, only while a record is incomplete, its
//! ciphertext. Plaintext to send is encrypted when its send goes out.

use std::mem;
use std::sync::Arc;

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig};

use super::records::{RecordFault, Records, has_record};
pub use super::traffic::tell_secrets;
use super::traffic::{Secrets, Suite, Traffic};
use uproar_proto::base::limits::{TLS_INCOMING_BYTES_MAX, TLS_RECORD_OVERHEAD_BYTES};
use uproar_proto::tagged::{Fault, Fields, Tagged};
use zeroize::Zeroizing;

// The fields of a connection on its way to another process.
const RECORDS: u32 = 1;
/// The beginning of a record whose rest is still to come.
const INCOMING: u32 = 2;
/// Records that go out first.
const QUEUED: u32 = 3;

/// The protocol in which a certificate authority asks whether a name is ours (RFC 8737). Nothing is said in it: the handshake is
/// the answer.
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// Why a TLS connection failed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The peer broke the protocol, or offers no parameters that we accept.
    #[error("TLS: {0}")]
    Protocol(#[from] rustls::Error),
    /// The peer sent more ciphertext than any record or handshake needs.
    #[error("TLS: {TLS_INCOMING_BYTES_MAX} bytes received without a complete record")]
    TooLong,
    /// The peer's records are not taken any more.
    #[error("TLS: {0}")]
    Record(#[from] RecordFault),
    /// Encryption is not possible in this state.
    #[error("TLS: cannot encrypt: {0}")]
    Encrypt(&'static str),
}

/// The connection's state after some ciphertext was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The handshake needs more bytes from the peer.
    Handshaking,
    /// Application data may flow.
    Established,
    /// The peer sent `close_notify`.
    Closed,
}

/// One server-side connection.
pub struct Tls {
    state: State,
    // Ciphertext of an incomplete record; empty otherwise.
    incoming: Vec<u8>,
    // Records that were made without being asked for (alerts, key updates); they go out before later sealed data.
    queued: Vec<u8>,
    // Whether its handshake went on with the session of an earlier connection. `None`: it is not done yet.
    resumed: Option<bool>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "the large one is what a connection nearly always is"
)]
enum State {
    /// The handshake, and all of TLS 1.2.
    Handshake(Box<Handshake>),
    /// An established connection of TLS 1.3.
    Records(Records),
    /// It failed.
    Failed,
}

struct Handshake {
    connection: UnbufferedServerConnection,
    secrets: Secrets,
}

impl Tls {
    /// Makes a connection that waits for its ClientHello. Of a configuration that was not given to [`tell_secrets`] all
    /// records stay rustls'.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        let connection = UnbufferedServerConnection::new(config)?;
        let secrets = Secrets::default();
        Ok(Self {
            state: State::Handshake(Box::new(Handshake {
                connection,
                secrets,
            })),
            incoming: Vec::new(),
            queued: Vec::new(),
            resumed: None,
        })
    }

    /// Takes ciphertext; appends application data to `plain` and records to send to `out`.
    /// On an error `out` may hold an alert, which should be sent.
    pub fn receive(
        &mut self,
        ciphertext: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Progress, TlsError> {
        let progress = if self.incoming.is_empty() {
            let (progress, used) = self.state.receive(ciphertext, plain, out)?;
            self.incoming.extend_from_slice(&ciphertext[used..]);
            progress
        } else {
            if self.incoming.len() + ciphertext.len() > TLS_INCOMING_BYTES_MAX {
                return Err(TlsError::TooLong);
            }
            self.incoming.extend_from_slice(ciphertext);
            let (progress, used) = self.state.receive(&mut self.incoming, plain, out)?;
            if used == self.incoming.len() {
                self.incoming = Vec::new();
            } else {
                self.incoming.drain(..used);
            }
            progress
        };
        if progress == Progress::Established && self.state.is_question() {
            self.seal_close(out);
            return Ok(Progress::Closed);
        }
        // A whole record that rustls has kept is half a handshake message, which it has opened already.
        if progress == Progress::Established && !has_record(&self.incoming) {
            self.resumed = self.state.has_resumed().or(self.resumed);
            self.state.establish()?;
        }
        Ok(progress)
    }

    /// Whether the handshake went on with the session of an earlier connection, by a ticket. `None`: it is not done yet, or
    /// another process did it.
    pub fn is_resumed(&self) -> Option<bool> {
        self.resumed
    }

    /// Whether another process can go on with it: an established connection of TLS 1.3.
    pub fn is_carried(&self) -> bool {
        matches!(self.state, State::Records(_))
    }

    /// What another process needs to go on; this one must not seal any more then. `None`: it cannot be carried.
    /// It has the connection's secrets.
    pub fn carry(&self) -> Option<Zeroizing<Vec<u8>>> {
        let State::Records(records) = &self.state else {
            return None;
        };
        let mut fields = Fields::default();
        fields.nested(RECORDS, |inner| records.carry(inner));
        fields.bytes(INCOMING, &self.incoming);
        fields.bytes(QUEUED, &self.queued);
        Some(fields.into_bytes().into())
    }

    /// Goes on where another process was.
    ///
    /// # Errors
    ///
    /// What is missing, or has a value that no connection has.
    pub fn inherit(fields: &[u8]) -> Result<Self, Fault> {
        let fields = Tagged::parse(fields)?;
        let records = fields.nested(RECORDS)?.ok_or(Fault::Missing(RECORDS))?;
        let incoming = fields.get(INCOMING).unwrap_or_default();
        if incoming.len() > TLS_INCOMING_BYTES_MAX {
            return Err(Fault::Value(INCOMING));
        }
        Ok(Self {
            state: State::Records(Records::inherit(records)?),
            incoming: incoming.to_vec(),
            queued: fields.get(QUEUED).unwrap_or_default().to_vec(),
            resumed: None,
        })
    }

    /// Keeps records that were made without being asked for until the next send.
    pub fn queue(&mut self, records: &[u8]) {
        self.queued.extend_from_slice(records);
    }

    /// Takes the records kept by [`Tls::queue`].
    pub fn take_queued(&mut self) -> Option<Vec<u8>> {
        (!self.queued.is_empty()).then(|| mem::take(&mut self.queued))
    }

    /// Appends `plain` to `out` as records of up to 16 KiB.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        match &mut self.state {
            State::Records(records) => {
                let mut writer = records.writer(out);
                writer.write(plain);
                Ok(writer.finish()?)
            }
            State::Handshake(handshake) => handshake.seal(&mut self.incoming, plain, out),
            State::Failed => Err(TlsError::Encrypt("the connection has failed")),
        }
    }

    /// Appends what `fill` writes to `out` as records of up to 16 KiB, which it is sealed in; `gathered` is room for it
    /// where that is not possible.
    pub fn seal_from<T>(
        &mut self,
        gathered: &mut Vec<u8>,
        out: &mut Vec<u8>,
        fill: impl FnOnce(&mut dyn FnMut(&[u8])) -> T,
    ) -> Result<T, TlsError> {
        if let State::Records(records) = &mut self.state {
            let mut writer = records.writer(out);
            let filled = fill(&mut |content| writer.write(content));
            writer.finish()?;
            return Ok(filled);
        }
        gathered.clear();
        let filled = fill(&mut |content| gathered.extend_from_slice(content));
        self.seal(gathered, out)?;
        Ok(filled)
    }

    /// Appends a `close_notify` alert.
    pub fn seal_close(&mut self, out: &mut Vec<u8>) {
        match &mut self.state {
            State::Records(records) => records.close(out),
            State::Handshake(handshake) => handshake.close(&mut self.incoming, out),
            State::Failed => {}
        }
    }
}

impl State {
    /// Takes whole records; returns how many bytes they had.
    fn receive(
        &mut self,
        ciphertext: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(Progress, usize), TlsError> {
        match self {
            Self::Records(records) => {
                let opened = records.open(ciphertext, plain, out)?;
                let progress = if opened.is_closed {
                    Progress::Closed
                } else {
                    Progress::Established
                };
                Ok((progress, opened.used))
            }
            Self::Handshake(handshake) => {
                let Handshake {
                    connection,
                    secrets,
                } = &mut **handshake;
                secrets.hear(|| drive(connection, ciphertext, plain, out))
            }
            Self::Failed => Err(TlsError::Encrypt("the connection has failed")),
        }
    }

    /// See [`Tls::is_resumed`]. `None` as well once records are ours.
    fn has_resumed(&self) -> Option<bool> {
        let Self::Handshake(handshake) = self else {
            return None;
        };
        let kind = handshake.connection.handshake_kind()?;
        Some(kind == HandshakeKind::Resumed)
    }

    /// Whether an authority has got its answer.
    fn is_question(&self) -> bool {
        match self {
            Self::Handshake(handshake) => handshake.connection.alpn_protocol() == Some(ACME_TLS),
            Self::Records(_) | Self::Failed => false,
        }
    }

    /// Takes the records of an established connection over from rustls, if it tells what they are made with.
    fn establish(&mut self) -> Result<(), TlsError> {
        let Self::Handshake(handshake) = self else {
            return Ok(());
        };
        let connection = &handshake.connection;
        let suite =
            (connection.negotiated_cipher_suite()).and_then(|suite| Suite::of(suite.suite()));
        let (Some(suite), Some(client), Some(server)) = (
            suite.filter(|_| connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)),
            handshake.secrets.client.take(),
            handshake.secrets.server.take(),
        ) else {
            return Ok(());
        };
        let Self::Handshake(handshake) = mem::replace(self, Self::Failed) else {
            return Ok(());
        };
        let (counts, _told) = handshake.connection.dangerous_into_kernel_connection()?;
        let sent = Traffic::new(suite, &server, counts.tx.0);
        let received = Traffic::new(suite, &client, counts.rx.0);
        let (Some(sent), Some(received)) = (sent, received) else {
            return Err(TlsError::Encrypt("a secret is not as long as its hash"));
        };
        *self = Self::Records(Records::new(sent, received));
        Ok(())
    }
}

impl Handshake {
    fn seal(
        &mut self,
        incoming: &mut [u8],
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        // Includes the kept bytes of an incomplete message: rustls has noted how far it parsed them.
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(incoming);
        let ConnectionState::WriteTraffic(mut traffic) = state? else {
            return Err(TlsError::Encrypt("the connection is not established"));
        };
        append(out, plain.len() + TLS_RECORD_OVERHEAD_BYTES, |space| {
            traffic.encrypt(plain, space).map_err(|error| match error {
                EncryptError::InsufficientSize(size) => Some(size),
                EncryptError::EncryptExhausted => None,
            })
        })
        .ok_or(TlsError::Encrypt("the keys are used up"))
    }

    fn close(&mut self, incoming: &mut [u8], out: &mut Vec<u8>) {
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(incoming);
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
            let _sealed = append(out, TLS_RECORD_OVERHEAD_BYTES, |space| {
                traffic
                    .queue_close_notify(space)
                    .map_err(|error| match error {
                        EncryptError::InsufficientSize(size) => Some(size),
                        EncryptError::EncryptExhausted => None,
                    })
            });
        }
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("incoming", &self.incoming.len())
            .finish_non_exhaustive()
    }
}

/// Runs the state machine until it needs more bytes; returns how many of `ciphertext` it used.
fn drive(
    connection: &mut UnbufferedServerConnection,
    ciphertext: &mut [u8],
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(Progress, usize), TlsError> {
    let mut used = 0;
    let mut closed = false;
    loop {
        let UnbufferedStatus { discard, state, .. } =
            connection.process_tls_records(&mut ciphertext[used..]);
        let mut after = discard;
        let outcome = step(state, &mut closed, &mut after, plain, out);
        used += after;
        match outcome {
            Ok(None) => {}
            Ok(Some(progress)) => return Ok((progress, used)),
            Err(error) => {
                // Gets an alert for the peer, if rustls prepared one. It must get the same bytes again: it has
                // noted how far it parsed a handshake message in several records, and would index an empty slice
                // there.
                let UnbufferedStatus { state, .. } =
                    connection.process_tls_records(&mut ciphertext[used..]);
                if let Ok(ConnectionState::EncodeTlsData(mut alert)) = state {
                    let _encoded = append(out, TLS_RECORD_OVERHEAD_BYTES, |space| {
                        alert.encode(space).map_err(insufficient)
                    });
                }
                return Err(error);
            }
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an open set of the library")]
fn step(
    state: Result<ConnectionState<'_, '_, ServerConnectionData>, rustls::Error>,
    closed: &mut bool,
    discard: &mut usize,
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<Option<Progress>, TlsError> {
    match state? {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record?;
                *discard += record.discard;
                plain.extend_from_slice(record.payload);
            }
            Ok(None)
        }
        ConnectionState::EncodeTlsData(mut data) => {
            let _encoded = append(out, TLS_RECORD_OVERHEAD_BYTES, |space| {
                data.encode(space).map_err(insufficient)
            });
            Ok(None)
        }
        ConnectionState::TransmitTlsData(data) => {
            // The caller sends `out` before later sealed data.
            data.done();
            Ok(None)
        }
        ConnectionState::BlockedHandshake => Ok(Some(Progress::Handshaking)),
        ConnectionState::WriteTraffic(_) => Ok(Some(if *closed {
            Progress::Closed
        } else {
            Progress::Established
        })),
        ConnectionState::PeerClosed => {
            *closed = true;
            Ok(None)
        }
        ConnectionState::Closed => Ok(Some(Progress::Closed)),
        // Early data is off in our configuration; new states of a later rustls end the connection.
        _ => Err(TlsError::Encrypt("unexpected state")),
    }
}

fn insufficient(error: EncodeError) -> Option<InsufficientSizeError> {
    match error {
        EncodeError::InsufficientSize(size) => Some(size),
        EncodeError::AlreadyEncoded => None,
    }
}

/// Lets `write` fill space at the end of `out`, grown as it asks; `None` if it fails for another reason.
fn append(
    out: &mut Vec<u8>,
    bytes_guess: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> Option<()> {
    let start = out.len();
    let mut space = bytes_guess;
    loop {
        out.resize(start + space, 0);
        match write(&mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return Some(());
            }
            Err(Some(InsufficientSizeError { required_size })) if required_size > space => {
                space = required_size;
            }
            Err(_) => {
                out.truncate(start);
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests;
