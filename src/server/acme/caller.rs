//! Calls of the authority: HTTPS alone, no redirects, bounded answers, a deadline.

use std::error::Error as StdError;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read as _};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::RETRY_AFTER;
use hyper::{Request, Response, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::logging::with_causes;
use uproar_proto::base::limits::{
    ACME_ANSWER_BYTES_MAX, ACME_CALL_TIMEOUT, ACME_RETRY_AFTER_MAX, WATCHED_FILE_BYTES_MAX,
};

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallFault {
    /// The connection failed or broke.
    #[error("{0}")]
    Connection(String),
    /// No whole answer in time.
    #[error("no answer within {} s", ACME_CALL_TIMEOUT.as_secs())]
    Timeout,
    /// Its answer sends us elsewhere, or it is out of service.
    #[error("it answers {0}")]
    Status(StatusCode),
}

/// Makes calls for one attempt, and hears when to come back.
#[derive(Clone)]
pub(super) struct Caller {
    http: legacy::Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    retry_after: Arc<Mutex<Option<Duration>>>,
}

impl Caller {
    /// Trusts who signed the certificates in `root`, or the system's roots. Reads files, so it blocks.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or has no certificate.
    pub(super) fn new(root: Option<&Path>) -> io::Result<Self> {
        let builder = HttpsConnectorBuilder::new();
        let builder = match root {
            None => builder.with_provider_and_native_roots(default_provider())?,
            Some(path) => {
                let config = rustls::ClientConfig::builder_with_provider(default_provider().into())
                    .with_safe_default_protocol_versions()
                    .map_err(io::Error::other)?
                    .with_root_certificates(roots(path)?)
                    .with_no_client_auth();
                builder.with_tls_config(config)
            }
        };
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(1)
            .build(builder.https_only().enable_http1().build());
        Ok(Self {
            http,
            retry_after: Arc::default(),
        })
    }

    /// When the authority wants to be called again, as it has said it last in a refusal.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        *self
            .retry_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, response: &Response<Incoming>) {
        let is_refusal = response.status().is_client_error() || response.status().is_server_error();
        let seconds = response.headers().get(RETRY_AFTER);
        // Dates are left to the library, which waits by them within an order.
        let seconds = seconds.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        if let Some(seconds) = seconds.filter(|_| is_refusal) {
            let asked = Duration::from_secs(seconds).min(ACME_RETRY_AFTER_MAX);
            let mut heard = self
                .retry_after
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *heard = Some(asked);
        }
    }

    async fn exchange(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<BytesResponse, CallFault> {
        let broken = |error: &dyn StdError| CallFault::Connection(with_causes(error));
        let response = self.http.request(request).await;
        let response = response.map_err(|error| broken(&error))?;
        self.hear(&response);
        let status = response.status();
        if status.is_redirection() || status.is_server_error() {
            return Err(CallFault::Status(status));
        }
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ACME_ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| broken(&*error))?.to_bytes();
        Ok(BytesResponse {
            parts,
            body: Box::new(body),
        })
    }
}

impl HttpClient for Caller {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let caller = self.clone();
        Box::pin(async move {
            let exchanged = tokio::time::timeout(ACME_CALL_TIMEOUT, caller.exchange(request)).await;
            exchanged
                .unwrap_or(Err(CallFault::Timeout))
                .map_err(|fault| Error::Other(Box::new(fault)))
        })
    }
}

fn roots(path: &Path) -> io::Result<rustls::RootCertStore> {
    let fault =
        |cause: &dyn std::fmt::Display| io::Error::other(format!("{}: {cause}", path.display()));
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| fault(&error))?;
    file.take(WATCHED_FILE_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(|error| fault(&error))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| fault(&error))?;
        roots.add(certificate).map_err(|error| fault(&error))?;
    }
    if roots.is_empty() {
        return Err(fault(&"there is no -----BEGIN CERTIFICATE----- in it"));
    }
    Ok(roots)
}
