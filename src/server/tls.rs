//! Certificates: the operator's files, or a throw-away one for dev.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::StartError;
use crate::config::{Mode, Settings};

/// What the two listeners speak.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    pub(super) messaging: Option<Arc<ServerConfig>>,
    pub(super) control: Option<Arc<ServerConfig>>,
}

/// Reads or makes the certificate, if TLS is wanted.
pub(super) fn configure(settings: &Settings) -> Result<Listeners, StartError> {
    let (chain, key) = match (&settings.tls, settings.mode) {
        (Some(files), _) => {
            let chain = read_chain(&files.certificate)?;
            let key = PrivateKeyDer::from_pem_file(&files.key)
                .map_err(|error| fault(&files.key, error))?;
            (chain, key)
        }
        (None, Mode::Dev { tls: true }) => throw_away(&settings.data_dir.join("dev-cert.pem"))?,
        (None, Mode::Dev { tls: false } | Mode::Serve) => return Ok(Listeners::default()),
    };
    // Viewers speak WebSocket over HTTP/1.1, which has no ALPN here; the API also HTTP/2.
    let mut messaging = build(settings, chain.clone(), key.clone_key())?;
    messaging.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut control = build(settings, chain, key)?;
    control.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Listeners {
        messaging: Some(Arc::new(messaging)),
        control: Some(Arc::new(control)),
    })
}

type Chain = Vec<CertificateDer<'static>>;

fn build(
    settings: &Settings,
    chain: Chain,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, StartError> {
    let path = settings
        .tls
        .as_ref()
        .map_or(settings.data_dir.as_path(), |files| &files.certificate);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fault(path, error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| fault(path, error))
}

fn read_chain(path: &Path) -> Result<Chain, StartError> {
    let chain: Result<Chain, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| fault(path, error))?
        .collect();
    chain.map_err(|error| fault(path, error))
}

/// A certificate for loopback, whose PEM file clients can be told to trust.
fn throw_away(path: &Path) -> Result<(Chain, PrivateKeyDer<'static>), StartError> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| fault(path, error))?;
    fs::write(path, made.cert.pem()).map_err(|error| fault(path, error))?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    Ok((vec![made.cert.der().clone()], key.into()))
}

fn fault(path: &Path, cause: impl ToString) -> StartError {
    StartError::Tls {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}
