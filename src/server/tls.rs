//! Certificates: the operator's files, or a self-signed one for dev.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::StartError;
use super::certificate::Validity;
use super::pem::{self, fault};
use super::tickets::Tickets;
use crate::config::{DEV_CERTIFICATE, Mode, Settings, TlsFiles, TlsListeners};
use crate::durable::{self, Access, Survives, Watched};
use crate::exposition::{Exposition, Family};
use crate::net::tls::tell_secrets;
use crate::shard::handshake::HandshakeSettings;

/// TLS configurations of the two listeners, where they use TLS.
#[derive(Debug, Clone, Default)]
pub(super) struct Listeners {
    pub(super) messaging: Option<Arc<ServerConfig>>,
    pub(super) control: Option<Arc<ServerConfig>>,
    /// The certificate that both present.
    pub(super) certificate: Option<Arc<LiveCertificate>>,
    /// The tickets of both, kept also while no listener uses TLS.
    pub(super) tickets: Option<Arc<Tickets>>,
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

/// The certificate of the listeners, replaced while they run.
#[derive(Debug)]
pub(super) struct LiveCertificate {
    // The files to read again after a renewal; `None` for a self-signed certificate.
    files: Option<TlsFiles>,
    // Their state when they were first read, or just before.
    watched: Option<Watched<2>>,
    current: Arc<Current>,
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl LiveCertificate {
    /// Certificate and key file.
    pub(super) fn files(&self) -> Option<[&Path; 2]> {
        let files = self.files.as_ref()?;
        Some([&files.certificate, &files.key])
    }

    /// The same files, to be checked for changes since they were first read.
    pub(super) fn watched(&self) -> Option<Watched<2>> {
        self.watched.clone()
    }

    /// Reads the files again, with their state just before; `None` for a self-signed certificate.
    pub(super) fn read(&self) -> Result<Option<(CertifiedKey, Watched<2>)>, StartError> {
        let Some(files) = &self.files else {
            return Ok(None);
        };
        let watched = Watched::new([files.certificate.clone(), files.key.clone()]);
        let certified = pem::read(files, &provider())?;
        Ok(Some((certified, watched)))
    }

    /// New connections get this certificate.
    pub(super) fn present(&self, certified: CertifiedKey) {
        self.current.0.store(Arc::new(certified));
    }

    /// Names and dates of the current certificate.
    pub(super) fn validity(&self) -> Result<Validity, String> {
        Validity::of_chain(&self.current.0.load().cert)
    }

    /// Adds the end of the certificate's validity to `/metrics`, if the certificate says it.
    pub(super) fn render(&self, page: &mut Exposition) {
        if let Ok(validity) = self.validity() {
            page.single(&NOT_AFTER, validity.not_after().secs());
        }
    }
}

const NOT_AFTER: Family = Family::gauge(
    "uproar_tls_certificate_not_after_timestamp_seconds",
    "End of the TLS certificate's validity, in seconds since the Unix epoch.",
);

/// Reads or creates the certificate, if TLS is configured. Without `tickets` clients always shake hands in full.
pub(super) fn configure(
    settings: &Settings,
    tickets: Option<Arc<Tickets>>,
) -> Result<Listeners, StartError> {
    let provider = provider();
    let files = settings.tls.as_ref();
    let watched = files.map(|files| Watched::new([files.certificate.clone(), files.key.clone()]));
    let certified = match (&settings.tls, settings.mode) {
        (Some(files), _) => pem::read(files, &provider)?,
        (None, Mode::Dev { tls: true, .. }) => {
            self_signed(&settings.data_dir.join(DEV_CERTIFICATE), &provider)?
        }
        (None, Mode::Dev { tls: false, .. } | Mode::Serve) => {
            return Ok(Listeners {
                tickets,
                ..Listeners::default()
            });
        }
    };
    let current = Arc::new(Current(ArcSwap::from_pointee(certified)));
    // Viewers use WebSocket over HTTP/1.1; the API also allows HTTP/2.
    let mut messaging = build(&current, &provider)?;
    messaging.alpn_protocols = vec![b"http/1.1".to_vec()];
    tell_secrets(&mut messaging);
    let mut control = build(&current, &provider)?;
    control.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if let Some(tickets) = &tickets {
        tickets.serve(&mut messaging);
        tickets.serve(&mut control);
    }
    let only = settings.tls_listeners;
    Ok(Listeners {
        messaging: (only != TlsListeners::Control).then(|| Arc::new(messaging)),
        control: (only != TlsListeners::Messaging).then(|| Arc::new(control)),
        certificate: Some(Arc::new(LiveCertificate {
            files: settings.tls.clone(),
            watched,
            current,
        })),
        tickets,
    })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn build(
    current: &Arc<Current>,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, StartError> {
    let resolver: Arc<Current> = Arc::clone(current);
    let config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| fault(Path::new("TLS versions"), error))?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
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
