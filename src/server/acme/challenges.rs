//! What the authority is shown while an order runs: certificates by name, answers by token.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::fault::Fault;
pub(in crate::server) use crate::net::tls::ACME_TLS;

/// Shown now. Read by every thread that shakes hands, changed by the control thread; nothing is shown between orders.
#[derive(Debug, Default)]
pub(in crate::server) struct Challenges(ArcSwap<Shown>);

#[derive(Debug, Clone, Default)]
struct Shown {
    certificates: HashMap<String, Arc<CertifiedKey>>,
    answers: HashMap<String, String>,
}

impl Challenges {
    /// Shows what is added to it until it is dropped.
    pub(super) fn show(self: &Arc<Self>) -> Showing {
        Showing(Arc::clone(self))
    }

    /// The certificate for a name, while it is asked for (TLS-ALPN-01).
    fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let shown = self.0.load();
        shown.certificates.get(&name.to_ascii_lowercase()).cloned()
    }

    /// The answer to a token, while it is asked for (HTTP-01).
    pub(super) fn answer(&self, token: &str) -> Option<String> {
        self.0.load().answers.get(token).cloned()
    }
}

/// What one order shows; nothing is shown once it is dropped.
pub(super) struct Showing(Arc<Challenges>);

impl Showing {
    /// Shows a certificate for `domain` with `digest`, the SHA-256 of the key authorization (RFC 8737, 3).
    ///
    /// # Errors
    ///
    /// The certificate cannot be made.
    pub(super) fn certificate(
        &self,
        domain: &str,
        digest: &[u8],
        provider: &CryptoProvider,
    ) -> Result<(), Fault> {
        let certified = Arc::new(made(domain, digest, provider)?);
        let mut shown = Shown::clone(&self.0.0.load());
        shown.certificates.insert(domain.to_owned(), certified);
        self.0.0.store(Arc::new(shown));
        Ok(())
    }

    /// Shows `authorization` to whoever asks for `token`.
    pub(super) fn answer(&self, token: &str, authorization: &str) {
        let mut shown = Shown::clone(&self.0.0.load());
        shown
            .answers
            .insert(token.to_owned(), authorization.to_owned());
        self.0.0.store(Arc::new(shown));
    }
}

impl Drop for Showing {
    fn drop(&mut self) {
        self.0.0.store(Arc::default());
    }
}

fn made(domain: &str, digest: &[u8], provider: &CryptoProvider) -> Result<CertifiedKey, Fault> {
    let failed = |error: rcgen::Error| Fault::here(format!("a challenge's certificate: {error}"));
    if digest.len() != 32 {
        return Err(Fault::here("a challenge's digest is no SHA-256"));
    }
    let mut params = CertificateParams::new([domain.to_owned()]).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    let secret = PrivatePkcs8KeyDer::from(key.serialize_der());
    let signer = provider.key_provider.load_private_key(secret.into());
    let signer = signer.map_err(|error| Fault::here(format!("a challenge's key: {error}")))?;
    // Unchecked: the check knows no critical extension, and this certificate is about one.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], signer))
}

/// Chooses between what the authority is shown and what everybody else is.
#[derive(Debug)]
pub(in crate::server) struct Questioned {
    pub(in crate::server) challenges: Arc<Challenges>,
    pub(in crate::server) usual: Arc<dyn ResolvesServerCert>,
}

impl ResolvesServerCert for Questioned {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut offered = hello.alpn().into_iter().flatten();
        let (first, more) = (offered.next(), offered.next());
        let is_question = |protocol: Option<&[u8]>| protocol == Some(ACME_TLS);
        if is_question(first) && more.is_none() {
            return self.challenges.certificate(hello.server_name()?);
        }
        // The authority offers nothing beside it (RFC 8737, 3). Others must not have it chosen, and then be cut.
        if is_question(first) || is_question(more) || offered.any(|other| other == ACME_TLS) {
            return None;
        }
        self.usual.resolve(hello)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::CertificateDer;
    use x509_parser::prelude::{FromDer, X509Certificate};

    /// Goal: what is shown is gone with the order, and the certificate is that of RFC 8737: the name alone, and a
    /// critical extension with the digest.
    #[test]
    fn a_challenge_is_shown_as_long_as_its_order_runs() {
        let challenges = Arc::new(Challenges::default());
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let showing = challenges.show();
        let digest = [7; 32];
        showing
            .certificate("chat.example", &digest, &provider)
            .expect("made");
        showing.answer("token", "token.thumb");
        assert!(challenges.certificate("other.example").is_none());
        let shown = challenges.certificate("Chat.Example").expect("shown");
        let der: &CertificateDer<'_> = &shown.cert[0];
        let (_, parsed) = X509Certificate::from_der(der).expect("X.509");
        let extension = parsed
            .extensions()
            .iter()
            .find(|found| found.oid.to_id_string() == "1.3.6.1.5.5.7.1.31")
            .expect("acmeIdentifier");
        assert!(extension.critical);
        assert_eq!(extension.value, [&[4, 32][..], &digest].concat());
        assert_eq!(challenges.answer("token").as_deref(), Some("token.thumb"));
        assert!(challenges.answer("tok").is_none());
        assert!(
            showing
                .certificate("chat.example", &[7; 31], &provider)
                .is_err()
        );
        drop(showing);
        assert!(challenges.certificate("chat.example").is_none());
        assert!(challenges.answer("token").is_none());
    }
}
