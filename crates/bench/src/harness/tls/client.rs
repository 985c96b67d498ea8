//! What all handshakes with a server share: suites, tickets, and what was agreed.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientConfig, ClientConnection, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{CipherSuite, DigitallySignedStruct, Error, NamedGroup, SignatureScheme};

use crate::harness::error::BenchError;

/// Tickets that are kept: more than handshakes are ever in progress at once.
const TICKETS_MAX: usize = 8192;

/// Viewers' side of TLS.
#[derive(Debug, Clone)]
pub(crate) struct TlsClient {
    config: Arc<ClientConfig>,
    agreed: Arc<Agreed>,
}

/// What handshakes agreed on.
#[derive(Debug, Default)]
pub(super) struct Agreed {
    /// The suite of the last one, by RFC 8446, appendix B.4; 0 before the first.
    suite: AtomicU16,
    /// Handshakes that used a ticket.
    resumed: AtomicU64,
    /// Those that did not.
    full: AtomicU64,
}

/// Handshakes so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kinds {
    /// Those that used a ticket.
    pub(crate) resumed: u64,
    /// Those that did not.
    pub(crate) full: u64,
}

impl TlsClient {
    /// Makes a client of TLS 1.3 alone, that offers suites in the browsers' order. With `resume`
    /// each handshake uses a ticket of an earlier one, if there is one.
    ///
    /// Nobody checks certificates and signatures: the server makes a signature all the same, and
    /// the tool's processor is not to be the bound.
    pub(crate) fn new(resume: bool) -> Self {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ];
        let schemes = provider
            .signature_verification_algorithms
            .supported_schemes();
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has suites of TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustsAnyone(schemes)))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.enable_secret_extraction = true;
        config.resumption = if resume {
            Resumption::store(Arc::new(Tickets::default()))
        } else {
            Resumption::disabled()
        };
        Self {
            config: Arc::new(config),
            agreed: Arc::default(),
        }
    }

    /// Begins a handshake.
    pub(super) fn begin(&self) -> io::Result<(ClientConnection, Arc<Agreed>)> {
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(Arc::clone(&self.config), name);
        let session = session.map_err(io::Error::other)?;
        Ok((session, Arc::clone(&self.agreed)))
    }

    /// Returns the suite of the last handshake; `None` before the first.
    pub(crate) fn suite(&self) -> Option<CipherSuite> {
        let number = self.agreed.suite.load(Ordering::Relaxed);
        (number != 0).then(|| CipherSuite::from(number))
    }

    /// Returns how many handshakes are over, of each kind.
    pub(crate) fn kinds(&self) -> Kinds {
        Kinds {
            resumed: self.agreed.resumed.load(Ordering::Relaxed),
            full: self.agreed.full.load(Ordering::Relaxed),
        }
    }
}

impl Kinds {
    /// Returns those since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            resumed: self.resumed - before.resumed,
            full: self.full - before.full,
        }
    }

    /// Checks that a server resumed sessions.
    ///
    /// # Errors
    ///
    /// All handshakes were full.
    pub(crate) fn must_resume(self) -> Result<(), BenchError> {
        if self.resumed > 0 || self.full == 0 {
            return Ok(());
        }
        let text =
            "it resumed no session: it sends no tickets, or refuses them; measure without --resume";
        Err(BenchError::Server(text.to_owned()))
    }
}

impl Agreed {
    /// Notes a handshake that is over.
    pub(super) fn note(&self, suite: CipherSuite, resumed: bool) {
        self.suite.store(suite.into(), Ordering::Relaxed);
        let counter = if resumed { &self.resumed } else { &self.full };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns a suite's name for people.
pub(crate) fn suite_name(suite: CipherSuite) -> String {
    suite.as_str().unwrap_or("unknown").to_owned()
}

/// Tickets of all viewers together, each used once, the newest first: a server that remembers its
/// sessions forgets the oldest.
#[derive(Default)]
struct Tickets(Mutex<VecDeque<Tls13ClientSessionValue>>);

impl Tickets {
    fn with<T>(&self, with: impl FnOnce(&mut VecDeque<Tls13ClientSessionValue>) -> T) -> T {
        with(
            &mut self
                .0
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kept = self.with(|all| all.len());
        f.debug_tuple("Tickets").field(&kept).finish()
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.with(|all| {
            all.push_back(ticket);
            if all.len() > TICKETS_MAX {
                all.pop_front();
            }
        });
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.with(VecDeque::pop_back)
    }
}

/// Takes every certificate and signature for valid.
#[derive(Debug)]
struct TrustsAnyone(Vec<SignatureScheme>);

impl ServerCertVerifier for TrustsAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only a server that shook hands and never resumed is an error.
    #[test]
    fn a_server_that_resumes_nothing_is_told() {
        let kinds = |resumed, full| Kinds { resumed, full }.must_resume().is_ok();
        assert!(kinds(1, 9) && kinds(9, 0) && kinds(0, 0));
        assert!(!kinds(0, 9));
    }
}
