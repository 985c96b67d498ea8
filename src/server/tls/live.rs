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

/// A first certificate that the server has of itself.
pub(in crate::server) enum Own {
    /// Made at the start.
    SelfSigned(CertifiedKey),
    /// Ordered from an authority, and kept in these files; there may be none yet.
    Ordered(TlsFiles),
}

/// Where one comes from.
#[derive(Debug, Default)]
struct Place {
    // The files to read again after a renewal; `None` for a self-signed certificate.
    files: Option<TlsFiles>,
    // Their state when they were first read, or just before.
    watched: Option<Watched<2>>,
    // Whether the server orders what they hold: they may be missing.
    is_ordered: bool,
}

impl Place {
    fn of(files: TlsFiles, watched: Watched<2>, is_ordered: bool) -> Self {
        Self {
            files: Some(files),
            watched: Some(watched),
            is_ordered,
        }
    }
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
    /// Reads all of them; `own` comes first, if it is there.
    ///
    /// # Errors
    ///
    /// A file of one cannot be used. Of one that is ordered, this is no error: there is none then.
    pub(super) fn read(
        own: Option<Own>,
        files: impl IntoIterator<Item = TlsFiles>,
        provider: &CryptoProvider,
    ) -> Result<Self, StartError> {
        let (mut places, mut all) = (Vec::new(), Vec::new());
        match own {
            None => {}
            Some(Own::SelfSigned(certified)) => {
                places.push(Place::default());
                all.push(Some(Arc::new(certified)));
            }
            Some(Own::Ordered(files)) => {
                let watched = watch(&files);
                all.push(kept(&files, provider).map(Arc::new));
                places.push(Place::of(files, watched, true));
            }
        }
        for files in files {
            let (certified, watched) = read(&files, all.is_empty(), provider)?;
            places.push(Place::of(files, watched, false));
            all.push(Some(Arc::new(certified)));
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

    /// Reads the files of one again; `None` for a self-signed certificate, and for one that is not issued yet.
    ///
    /// # Errors
    ///
    /// One of them cannot be used.
    pub(in crate::server) fn read_again(&self, place: usize) -> Result<Option<Read>, StartError> {
        let Some(one) = self.places.get(place) else {
            return Ok(None);
        };
        let is_there = |files: &&TlsFiles| !one.is_ordered || files.certificate.exists();
        let Some(files) = one.files.as_ref().filter(is_there) else {
            return Ok(None);
        };
        match read(files, place == 0, &super::provider()) {
            // Another one is being ordered.
            Err(_damaged) if one.is_ordered && self.current(place).is_none() => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// What new connections get of this place; `None` before it is issued.
    pub(in crate::server) fn current(&self, place: usize) -> Option<Arc<CertifiedKey>> {
        self.current.0.load().at(place).cloned()
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
    /// They cannot be read, or it is not issued yet.
    pub(in crate::server) fn validity(&self, place: usize) -> Result<Validity, String> {
        let current = self.current(place);
        let current = current.ok_or("there is none yet: it is being ordered")?;
        Validity::of_chain(&current.cert)
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

/// To be called before they are read, so that no change is missed.
fn watch(files: &TlsFiles) -> Watched<2> {
    Watched::new([files.certificate.clone(), files.key.clone()])
}

/// The certificate that was ordered, if there is one that can be used; else another one will be.
fn kept(files: &TlsFiles, provider: &CryptoProvider) -> Option<CertifiedKey> {
    if !files.certificate.exists() {
        return None;
    }
    pem::read(files, provider)
        .inspect_err(|error| tracing::warn!(%error, "TLS: another certificate is ordered"))
        .ok()
}

/// Reads one pair. All but the first need names: clients would never get them.
fn read(files: &TlsFiles, is_first: bool, provider: &CryptoProvider) -> Result<Read, StartError> {
    let watched = watch(files);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::faults::Scratch;
    use std::fs;

    /// Goal: an ordered certificate may be missing or damaged before it is issued, and nothing fails for it; once there is
    /// one, a damaged file is an error, and the one in use stays.
    #[test]
    fn an_ordered_one_may_be_missing() {
        let scratch = Scratch::new();
        let path = scratch.0.join("certificate.pem");
        let files = TlsFiles {
            certificate: path.clone(),
            key: path.clone(),
        };
        let provider = super::super::provider();
        let started = || {
            let own = Some(Own::Ordered(files.clone()));
            LiveCertificates::read(own, [], &provider).expect("no error")
        };
        let certificates = started();
        assert_eq!(certificates.count(), 1);
        for text in [None, Some("damaged")] {
            if let Some(text) = text {
                fs::write(&path, text).expect("written");
            }
            assert!(started().current(0).is_none(), "{text:?}");
            let read = certificates.read_again(0).expect("no error");
            assert!(read.is_none(), "{text:?}");
            assert!(certificates.validity(0).is_err(), "{text:?}");
        }
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("made");
        let pem = made.cert.pem() + &made.signing_key.serialize_pem();
        fs::write(&path, &pem).expect("written");
        assert!(started().current(0).is_some());
        let (certified, _watched) = certificates.read_again(0).expect("read").expect("there");
        certificates.present(0, certified);
        certificates.validity(0).expect("dates");
        fs::write(&path, "damaged").expect("written");
        assert!(certificates.read_again(0).is_err());
        assert!(certificates.current(0).is_some());
        fs::remove_file(&path).expect("removed");
        let own = LiveCertificates::read(None, [files], &provider);
        assert!(own.is_err(), "an operator's file must be there");
    }
}
