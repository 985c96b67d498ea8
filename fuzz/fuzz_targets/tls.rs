//! The TLS driver: however records are split and joined on their way, both sides read what the other wrote; and
//! of a stream that was changed, nothing is read but what was written before the change.
//!
//! Input: the version, and whether the server's side moves to another process with each piece, where which byte of the client's stream is changed (a place of zero: none is), eight
//! lengths of pieces, then what the client says, and behind a zero byte what the server says.

#![no_main]

use std::io::{Read, Write};
use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use uproar::net::tls::{Progress, Tls, tell_secrets};

type Configs = (Arc<ServerConfig>, [Arc<ClientConfig>; 2]);

fn configs() -> &'static Configs {
    static CONFIGS: OnceLock<Configs> = OnceLock::new();
    CONFIGS.get_or_init(|| {
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let certificate: CertificateDer<'static> = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a root");
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a configuration");
        tell_secrets(&mut server);
        let client = |version| {
            let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&[version])
                .expect("a version")
                .with_root_certificates(Arc::clone(&roots))
                .with_no_client_auth();
            Arc::new(config)
        };
        (Arc::new(server), [client(&TLS12), client(&TLS13)])
    })
}

fuzz_target!(|data: &[u8]| {
    let Some((head, rest)) = data.split_first_chunk::<12>() else {
        return;
    };
    let (mut said, mut answered) = (rest, &[][..]);
    if let Some(at) = rest.iter().position(|byte| *byte == 0) {
        (said, answered) = (&rest[..at], &rest[at + 1..]);
    }
    let (server, clients) = configs();
    let name = ServerName::try_from("localhost").expect("a name");
    let client = Arc::clone(&clients[usize::from(head[0] & 1)]);
    let mut wire = Wire {
        client: ClientConnection::new(client, name).expect("a client"),
        server: Tls::new(Arc::clone(server)).expect("a server"),
        progress: Progress::Handshaking,
        moves: head[0] & 2 != 0,
        lengths: head[4..]
            .iter()
            .map(|length| usize::from(*length) * 8 + 1)
            .collect(),
        turn: 0,
        sent: 0,
        change: usize::from(u16::from_le_bytes([head[1], head[2]])),
        changed_by: head[3],
        heard: Vec::new(),
    };
    let outcome = wire.run(said, answered);
    assert!(said.starts_with(&wire.heard), "nothing but what was said");
    if wire.is_unchanged() {
        assert_eq!(outcome.as_deref(), Ok(answered));
        assert_eq!(wire.heard, said);
        assert_eq!(wire.progress, Progress::Closed);
    }
});

struct Wire {
    client: ClientConnection,
    server: Tls,
    progress: Progress,
    moves: bool,
    lengths: Vec<usize>,
    turn: usize,
    sent: usize,
    change: usize,
    changed_by: u8,
    heard: Vec<u8>,
}

impl Wire {
    fn is_unchanged(&self) -> bool {
        self.change == 0 || self.changed_by == 0 || self.change > self.sent
    }

    fn piece(&mut self) -> usize {
        self.turn += 1;
        self.lengths[self.turn % self.lengths.len()]
    }

    /// A whole conversation; what the client read.
    fn run(&mut self, said: &[u8], answered: &[u8]) -> Result<Vec<u8>, String> {
        let mut read = Vec::new();
        for _ in 0..16 {
            if self.progress == Progress::Established && !self.client.is_handshaking() {
                break;
            }
            self.exchange(&mut read)?;
        }
        let mut out = Vec::new();
        self.server
            .seal(answered, &mut out)
            .map_err(|error| error.to_string())?;
        self.to_client(&out, &mut read)?;
        for part in said.chunks(self.piece()) {
            self.client.writer().write_all(part).expect("memory");
            self.exchange(&mut read)?;
        }
        self.client.send_close_notify();
        self.exchange(&mut read)?;
        Ok(read)
    }

    /// All that the client has to say, in pieces, and what comes of it.
    fn exchange(&mut self, read: &mut Vec<u8>) -> Result<(), String> {
        let mut stream = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut stream).expect("memory");
        }
        let mut rest = &mut stream[..];
        while !rest.is_empty() {
            let length = self.piece().min(rest.len());
            let (piece, later) = rest.split_at_mut(length);
            rest = later;
            if self.change > self.sent && self.change <= self.sent + length {
                piece[self.change - self.sent - 1] ^= self.changed_by;
            }
            self.sent += length;
            if self.moves
                && let Some(carried) = self.server.carry()
            {
                self.server = Tls::inherit(&carried).map_err(|fault| format!("{fault:?}"))?;
            }
            let (mut plain, mut out) = (Vec::new(), Vec::new());
            let progress = self.server.receive(piece, &mut plain, &mut out);
            self.heard.extend(plain);
            let sent = self.to_client(&out, read);
            self.progress = progress.map_err(|error| error.to_string())?;
            sent?;
        }
        Ok(())
    }

    fn to_client(&mut self, mut stream: &[u8], read: &mut Vec<u8>) -> Result<(), String> {
        while !stream.is_empty() {
            let length = self.piece().min(stream.len());
            let (mut piece, later) = stream.split_at(length);
            stream = later;
            while !piece.is_empty() {
                self.client
                    .read_tls(&mut piece)
                    .map_err(|error| error.to_string())?;
                self.client
                    .process_new_packets()
                    .map_err(|error| error.to_string())?;
                // "Would block" when there is no more.
                let _no_more = self.client.reader().read_to_end(read);
            }
        }
        Ok(())
    }
}
