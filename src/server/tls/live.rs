//! The certificates of the listeners, replaced while they run.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::super::StartError;
use super::super::certificate::Validity;
use super::super::pem::{self, fault};
use super::choice::{Certificates, dns_names};
use crate::config::TlsFiles;
use crate::durable::Watched;
use crate::exposition::{Exposition, Family};
use uproar_proto::base::clock::UnixTime;

const NOT_AFTER: Family = Family::gauge(
    "uproar_tls_certificate_not_after_timestamp_seconds",
    "End of the TLS certificate's validity, in seconds since the Unix epoch; of several, the first to end.",
);

/// A certificate with its key, as files have it, and the files' state just before they were read.
pub(in crate::server) type Read = (CertifiedKey, Watched<2>);

/// Certificates in their order: the first is for clients that ask for no name that another one has.
#[derive(Debug)]
pub(in crate::server) struct LiveCertificates {
    places: Vec<Place>,
    current: Arc<Current>,
}

/// Where one comes from.
#[derive(Debug)]
struct Place {
    // The files to read again after a renewal; `None` for a self-signed certificate.
    files: Option<TlsFiles>,
    // Their state when they were first read, or just before.
    watched: Option<Watched<2>>,
}

#[derive(Debug)]
struct Current(ArcSwap<Certificates>);

impl ResolvesServerCert for Current {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.0.load();
        // rustls has left out the schemes that the client's suites of TLS 1.2 cannot be used with.
        let chosen = certificates.choose(hello.server_name(), hello.signature_schemes());
        chosen.cloned()
    }
}

impl LiveCertificates {
    /// Reads all of them; `self_signed` comes first, if it is there.
    ///
    /// # Errors
    ///
    /// A file of one cannot be used.
    pub(super) fn read(
        self_signed: Option<CertifiedKey>,
        files: impl IntoIterator<Item = TlsFiles>,
        provider: &CryptoProvider,
    ) -> Result<Self, StartError> {
        let (mut places, mut all) = (Vec::new(), Vec::new());
        if let Some(certified) = self_signed {
            let (files, watched) = (None, None);
            places.push(Place { files, watched });
            all.push(Arc::new(certified));
        }
        for files in files {
            let (certified, watched) = read(&files, all.is_empty(), provider)?;
            let (files, watched) = (Some(files), Some(watched));
            places.push(Place { files, watched });
            all.push(Arc::new(certified));
        }
        let current = ArcSwap::from_pointee(Certificates::new(all));
        Ok(Self {
            places,
            current: Arc::new(Current(current)),
        })
    }

    /// What listeners ask.
    pub(super) fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::<Current>::clone(&self.current)
    }

    /// How many there are.
    pub(in crate::server) fn count(&self) -> usize {
        self.places.len()
    }

    /// Certificate and key file of one.
    pub(in crate::server) fn files(&self, place: usize) -> Option<[&Path; 2]> {
        let files = self.places.get(place)?.files.as_ref()?;
        Some([&files.certificate, &files.key])
    }

    /// The same files, to be checked for changes since they were first read.
    pub(in crate::server) fn watched(&self, place: usize) -> Option<Watched<2>> {
        self.places.get(place)?.watched.clone()
    }

    /// Reads the files of one again; `None` for a self-signed certificate.
    ///
    /// # Errors
    ///
    /// One of them cannot be used.
    pub(in crate::server) fn read_again(&self, place: usize) -> Result<Option<Read>, StartError> {
        let files = self.places.get(place).and_then(|one| one.files.as_ref());
        let read = files.map(|files| read(files, place == 0, &super::provider()));
        read.transpose()
    }

    /// New connections get this one in its place.
    pub(in crate::server) fn present(&self, place: usize, certified: CertifiedKey) {
        let next = self.current.0.load().with(place, certified);
        self.current.0.store(Arc::new(next));
    }

    /// Names and dates of one.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub(in crate::server) fn validity(&self, place: usize) -> Result<Validity, String> {
        let current = self.current.0.load();
        let certified = current.all().get(place);
        Validity::of_chain(certified.map_or(&[], |certified| &certified.cert))
    }

    /// Names and dates of the one that clients refuse first: one that cannot be read, else the first to end.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub(in crate::server) fn soonest(&self) -> Result<Validity, String> {
        let all = (0..self.count()).map(|place| self.validity(place));
        let end = |read: &Result<Validity, String>| match read {
            Ok(validity) => validity.not_after(),
            Err(_) => UnixTime::from_secs(0),
        };
        all.min_by_key(end)
            .unwrap_or_else(|| Err("there is none".to_owned()))
    }

    /// Adds the end of the certificates' validity to `/metrics`, if one says it.
    pub(in crate::server) fn render(&self, page: &mut Exposition) {
        let all = (0..self.count()).filter_map(|place| self.validity(place).ok());
        if let Some(end) = all.map(|validity| validity.not_after().secs()).min() {
            page.single(&NOT_AFTER, end);
        }
    }
}

/// Reads one pair. All but the first need names: clients would never get them.
fn read(files: &TlsFiles, is_first: bool, provider: &CryptoProvider) -> Result<Read, StartError> {
    let watched = Watched::new([files.certificate.clone(), files.key.clone()]);
    let certified = pem::read(files, provider)?;
    let is_found = certified
        .cert
        .first()
        .is_some_and(|own| !dns_names(own).is_empty());
    if !is_first && !is_found {
        let reason = "it has no DNS name among its subject alternative names, so no client would get it: take one that \
                      has, or leave it out of tls.more_certificates";
        return Err(fault(&files.certificate, reason));
    }
    Ok((certified, watched))
}
