//! Certificates: the operator's files, or a self-signed one for dev.

mod choice;
mod live;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;

pub(super) use self::live::{LiveCertificates, Own, Read};
use super::StartError;
use super::acme::{ACME_TLS, Challenges, Questioned};
use super::pem::fault;
use super::tickets::Tickets;
use crate::config::{AcmeChallenge, DEV_CERTIFICATE, Mode, Settings, TlsListeners};
use crate::durable::{self, Access, Survives};
use crate::net::tls::tell_secrets;
use crate::shard::handshake::HandshakeSettings;

/// TLS configurations of the two listeners, where they use TLS.
#[derive(Debug, Clone, Default)]
pub(super) struct Listeners {
    pub(super) messaging: Option<Arc<ServerConfig>>,
    pub(super) control: Option<Arc<ServerConfig>>,
    /// The certificates that both present.
    pub(super) certificates: Option<Arc<LiveCertificates>>,
    /// The tickets of both, kept also while no listener uses TLS.
    pub(super) tickets: Option<Arc<Tickets>>,
    /// What a certificate authority is shown, if the server orders its certificate itself.
    pub(super) challenges: Option<Arc<Challenges>>,
}

impl Listeners {
    /// The settings of viewers' handshakes, at a start and at a reload.
    pub(super) fn handshake_settings(&self, settings: &Settings) -> HandshakeSettings {
        HandshakeSettings {
            tls: self.messaging.clone(),
            origins: settings.origins.clone().into(),
            compression: settings.compression,
            limits: Arc::new(settings.accept.clone()),
        }
    }
}

/// The configurations that new connections get, replaced while the listeners run. For the control thread.
pub(super) type LiveTls = Rc<RefCell<Listeners>>;

/// Reads or creates the certificates, if TLS is configured. Without `tickets` clients always shake hands in full.
/// `challenges` are those of the listeners before, if there are any.
pub(super) fn configure(
    settings: &Settings,
    tickets: Option<Arc<Tickets>>,
    challenges: Option<Arc<Challenges>>,
) -> Result<Listeners, StartError> {
    let provider = provider();
    let is_ordered = settings.acme.is_some();
    let own = match (&settings.tls, settings.mode) {
        (Some(files), _) if is_ordered => Some(Own::Ordered(files.clone())),
        (Some(_), _) => None,
        (None, Mode::Dev { tls: true, .. }) => {
            let path = settings.data_dir.join(DEV_CERTIFICATE);
            Some(Own::SelfSigned(self_signed(&path, &provider)?))
        }
        (None, Mode::Dev { tls: false, .. } | Mode::Serve) => {
            return Ok(Listeners {
                tickets,
                ..Listeners::default()
            });
        }
    };
    let named = settings.tls.iter().filter(|_| !is_ordered);
    let files = named.chain(&settings.more_certificates);
    let certificates = LiveCertificates::read(own, files.cloned(), &provider)?;
    let challenges = challenges.or_else(|| is_ordered.then(Arc::default));
    let usual = certificates.resolver();
    let resolver = match &challenges {
        None => usual,
        Some(challenges) => Arc::new(Questioned {
            challenges: Arc::clone(challenges),
            usual,
        }),
    };
    // The authority's protocol, last: it is chosen if nothing else is offered, and then refused unless an order runs.
    let acme = settings.acme.as_ref().map(|acme| acme.challenge);
    let asked = (acme == Some(AcmeChallenge::TlsAlpn01)).then_some(ACME_TLS);
    let protocols = |usual: &[&[u8]]| -> Vec<Vec<u8>> {
        let all = usual.iter().copied().chain(asked);
        all.map(<[u8]>::to_vec).collect()
    };
    // Viewers use WebSocket over HTTP/1.1; the API also allows HTTP/2.
    let mut messaging = build(&resolver, &provider)?;
    messaging.alpn_protocols = protocols(&[b"http/1.1"]);
    tell_secrets(&mut messaging);
    let mut control = build(&resolver, &provider)?;
    control.alpn_protocols = protocols(&[b"h2", b"http/1.1"]);
    if let Some(tickets) = &tickets {
        tickets.serve(&mut messaging);
        tickets.serve(&mut control);
    }
    let only = settings.tls_listeners;
    Ok(Listeners {
        messaging: (only != TlsListeners::Control).then(|| Arc::new(messaging)),
        control: (only != TlsListeners::Messaging).then(|| Arc::new(control)),
        certificates: Some(Arc::new(certificates)),
        tickets,
        challenges,
    })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn build(
    resolver: &Arc<dyn ResolvesServerCert>,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, StartError> {
    let config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| fault(Path::new("TLS versions"), error))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(resolver));
    Ok(config)
}

/// A certificate for loopback, as a PEM file that clients can trust.
fn self_signed(path: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, StartError> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| fault(path, error))?;
    let pem = made.cert.pem();
    durable::replace(path, pem.as_bytes(), Access::PUBLIC, Survives::Kill).map_err(|cause| {
        StartError::Directory {
            path: path.to_owned(),
            cause,
        }
    })?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let chain = vec![made.cert.der().clone()];
    CertifiedKey::from_der(chain, key.into(), provider).map_err(|error| fault(path, error))
}
