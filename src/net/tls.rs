//! One TLS connection as a state machine between ciphertext and plaintext buffers (RFC 8446).
//!
//! rustls' unbuffered API keeps no plaintext queues: memory is the connection's keys and, only while
//! a record is incomplete, its ciphertext. Plaintext to send is encrypted when its send goes out.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};

use uproar_proto::base::limits::{TLS_INCOMING_BYTES_MAX, TLS_RECORD_OVERHEAD_BYTES};

/// Why a TLS connection failed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The peer broke the protocol, or offers no parameters that we accept.
    #[error("TLS: {0}")]
    Protocol(#[from] rustls::Error),
    /// The peer sent more ciphertext than any record or handshake needs.
    #[error("TLS: {TLS_INCOMING_BYTES_MAX} bytes received without a complete record")]
    TooLong,
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
    connection: UnbufferedServerConnection,
    // Ciphertext of an incomplete record; empty otherwise.
    incoming: Vec<u8>,
    // Records that rustls made by itself (alerts, key updates); they go out before later sealed data.
    queued: Vec<u8>,
}

impl Tls {
    /// Makes a connection that waits for its ClientHello.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self {
            connection,
            incoming: Vec::new(),
            queued: Vec::new(),
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
        if self.incoming.is_empty() {
            let (progress, used) = drive(&mut self.connection, ciphertext, plain, out)?;
            self.incoming.extend_from_slice(&ciphertext[used..]);
            return Ok(progress);
        }
        if self.incoming.len() + ciphertext.len() > TLS_INCOMING_BYTES_MAX {
            return Err(TlsError::TooLong);
        }
        self.incoming.extend_from_slice(ciphertext);
        let (progress, used) = drive(&mut self.connection, &mut self.incoming, plain, out)?;
        if used == self.incoming.len() {
            self.incoming = Vec::new();
        } else {
            self.incoming.drain(..used);
        }
        Ok(progress)
    }

    /// Keeps records that rustls made by itself until the next send.
    pub fn queue(&mut self, records: &[u8]) {
        self.queued.extend_from_slice(records);
    }

    /// Takes the records kept by [`Tls::queue`].
    pub fn take_queued(&mut self) -> Option<Vec<u8>> {
        (!self.queued.is_empty()).then(|| std::mem::take(&mut self.queued))
    }

    /// Appends `plain` to `out` as records of up to 16 KiB.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        // Includes the kept bytes of an incomplete message: rustls has noted how far it parsed them.
        let UnbufferedStatus { state, .. } =
            self.connection.process_tls_records(&mut self.incoming);
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

    /// Appends a `close_notify` alert.
    pub fn seal_close(&mut self, out: &mut Vec<u8>) {
        let UnbufferedStatus { state, .. } =
            self.connection.process_tls_records(&mut self.incoming);
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
mod tests {
    use super::*;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use std::io::{Read, Write};

    fn pair() -> (Tls, ClientConnection) {
        pair_with(|_| {})
    }

    fn pair_with(adjust: impl FnOnce(&mut ClientConfig)) -> (Tls, ClientConnection) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("made");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has both versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("the pair matches");
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a valid certificate");
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has both versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        adjust(&mut client);
        let name = ServerName::try_from("localhost").expect("a DNS name");
        (
            Tls::new(Arc::new(server)).expect("a valid configuration"),
            ClientConnection::new(Arc::new(client), name).expect("a valid configuration"),
        )
    }

    fn exchange(server: &mut Tls, client: &mut ClientConnection, chunk: usize) -> Vec<u8> {
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            let mut sent = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut sent).expect("a vector takes all");
            }
            for part in sent.chunks_mut(chunk) {
                server
                    .receive(part, &mut plain, &mut out)
                    .expect("an honest client");
            }
            let mut received = &out[..];
            while !received.is_empty() {
                client.read_tls(&mut received).expect("a slice gives all");
                client.process_new_packets().expect("an honest server");
            }
            out.clear();
        }
        plain
    }

    /// Goal: handshake and data work however the ciphertext is split; sealed data arrives whole.
    #[test]
    fn data_flows_both_ways_in_any_chunks() {
        for chunk in [1, 7, 1000, 1 << 20] {
            let (mut server, mut client) = pair();
            exchange(&mut server, &mut client, chunk);
            client.writer().write_all(b"hello").expect("buffered");
            assert_eq!(exchange(&mut server, &mut client, chunk), b"hello");
            assert!(
                server.incoming.capacity() == 0,
                "nothing is kept between records"
            );
            let sent = vec![7; 100_000];
            let mut sealed = Vec::new();
            server.seal(&sent, &mut sealed).expect("established");
            let mut sealed = &sealed[..];
            let mut got = Vec::new();
            while !sealed.is_empty() {
                client.read_tls(&mut sealed).expect("a slice gives all");
                client.process_new_packets().expect("an honest server");
                let _would_block = client.reader().read_to_end(&mut got);
            }
            assert!(got == sent, "{} of {}", got.len(), sent.len());
        }
    }

    /// Goal: an error after the first half of a handshake message is reported. rustls indexes out of range if it
    /// is then asked for its alert with an empty slice.
    #[test]
    fn half_a_hello_before_noise_is_refused() {
        let (mut server, mut client) = pair();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).expect("a vector takes all");
        let (half, rest) = hello[5..].split_at(100);
        let record = |kind: u8, body: &[u8]| {
            let length = u16::try_from(body.len()).expect("a short record");
            [&[kind, 3, 1][..], &length.to_be_bytes(), body].concat()
        };
        for noise in [record(22, &rest[..1]), record(99, rest), record(23, rest)] {
            let (mut plain, mut out) = (Vec::new(), Vec::new());
            let mut stream = [record(22, half), noise].concat();
            stream.extend([0xff; 32]);
            assert!(server.receive(&mut stream, &mut plain, &mut out).is_err());
            assert!(plain.is_empty());
            server = pair().0;
        }
    }

    /// Goal: a viewer that has sent half of a KeyUpdate message is served like others, and its other half takes
    /// effect. Method: records made with the client's own traffic keys, as no client splits such a message.
    #[test]
    fn half_a_key_update_does_not_hinder_sealing() {
        use aes_gcm::aead::{Aead, KeyInit, Payload};
        use aes_gcm::{Aes256Gcm, Nonce};

        let (mut server, mut client) = pair_with(|config| config.enable_secret_extraction = true);
        exchange(&mut server, &mut client, 1 << 20);
        let secrets = client.dangerous_extract_secrets().expect("established");
        let (mut sequence, keys) = secrets.tx;
        let rustls::ConnectionTrafficSecrets::Aes256Gcm { key, iv } = keys else {
            panic!("ring prefers AES-256");
        };
        let cipher = Aes256Gcm::new_from_slice(key.as_ref()).expect("32 bytes");
        let mut handshake = |part: &[u8]| {
            let mut nonce = [0; 12];
            nonce.copy_from_slice(iv.as_ref());
            for (byte, count) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
                *byte ^= count;
            }
            sequence += 1;
            let inner = [part, &[22]].concat();
            let length = u16::try_from(inner.len() + 16).expect("a short record");
            let head = [&[23, 3, 3][..], &length.to_be_bytes()].concat();
            let payload = Payload {
                msg: &inner,
                aad: &head,
            };
            let sealed = cipher.encrypt(&Nonce::from(nonce), payload);
            [head, sealed.expect("short")].concat()
        };
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        // KeyUpdate (24), one byte long: update not requested.
        let mut first = handshake(&[24, 0]);
        let progress = server.receive(&mut first, &mut plain, &mut out);
        assert_eq!(progress.expect("half a message"), Progress::Established);
        server.seal(b"meanwhile", &mut out).expect("established");
        let mut second = handshake(&[0, 1, 0]);
        let progress = server.receive(&mut second, &mut plain, &mut out);
        assert_eq!(progress.expect("the other half"), Progress::Established);
        server.seal(b"afterwards", &mut out).expect("established");
        server.seal_close(&mut out);
        assert!(plain.is_empty());
    }

    /// Goal: noise is refused with an error, and an alert goes out.
    #[test]
    fn noise_is_refused() {
        let (mut server, _client) = pair();
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        let mut noise = *b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        assert!(server.receive(&mut noise, &mut plain, &mut out).is_err());
        assert!(plain.is_empty());
    }
}
