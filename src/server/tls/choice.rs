//! Which certificate a client gets: by the host that it asks for (SNI), and by the signatures that it can check.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Certificates in their order of preference; the first is for clients that ask for no name, or for one that none has.
#[derive(Debug, Clone)]
pub(super) struct Certificates {
    // `None`: it is still to be issued, and nobody gets it.
    all: Vec<Option<Arc<CertifiedKey>>>,
    // In lower case, `*.` in front of a domain stands for one label; the positions in `all` that have it.
    names: HashMap<String, Vec<usize>>,
}

impl Certificates {
    /// Finds them by the DNS names in each. One without names is found only as the first.
    pub(super) fn new(all: Vec<Option<Arc<CertifiedKey>>>) -> Self {
        let mut names: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, certified) in all.iter().enumerate() {
            let own = certified.as_ref().and_then(|one| one.cert.first());
            for name in own.map(dns_names).unwrap_or_default() {
                names.entry(name).or_default().push(place);
            }
        }
        Self { all, names }
    }

    /// The one at this place; `None` before it is issued.
    pub(super) fn at(&self, place: usize) -> Option<&Arc<CertifiedKey>> {
        self.all.get(place)?.as_ref()
    }

    /// The same with another certificate at this place.
    pub(super) fn with(&self, place: usize, certified: CertifiedKey) -> Self {
        let mut all = self.all.clone();
        if let Some(at) = all.get_mut(place) {
            *at = Some(Arc::new(certified));
        }
        Self::new(all)
    }

    /// The first with this name whose key makes a signature that the client can check; a whole name comes before a
    /// wildcard, and any certificate before none. If no key does, the first one: the handshake fails, and says why. `None`: none
    /// is issued.
    pub(super) fn choose(
        &self,
        name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<&Arc<CertifiedKey>> {
        let name = name.map(str::to_ascii_lowercase);
        let of = |name: &str| self.names.get(name).map_or(&[][..], Vec::as_slice);
        let whole = name.as_deref().map_or(&[][..], of);
        let wildcard = name
            .as_deref()
            .and_then(|name| name.split_once('.'))
            .map_or(&[][..], |(_label, domain)| of(&format!("*.{domain}")));
        let named = whole.iter().chain(wildcard);
        let named = named.filter_map(|place| self.at(*place));
        let can_sign = |certified: &&Arc<CertifiedKey>| {
            let signer = certified.key.choose_scheme(schemes);
            signer.is_some()
        };
        named
            .chain(self.all.iter().flatten())
            .find(can_sign)
            .or_else(|| self.all.iter().flatten().next())
    }
}

/// The DNS names in a certificate, in lower case.
pub(super) fn dns_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = extension.value.general_names.iter();
    let mut dns = Vec::new();
    for name in names {
        if let GeneralName::DNSName(name) = name {
            dns.push(name.to_ascii_lowercase());
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::PrivatePkcs8KeyDer;

    const ECDSA: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;
    const ED25519: SignatureScheme = SignatureScheme::ED25519;

    fn made(names: &[&str], algorithm: &'static rcgen::SignatureAlgorithm) -> Arc<CertifiedKey> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let params = CertificateParams::new(names).expect("valid names");
        let certificate = params.self_signed(&key).expect("signed");
        let der = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let certified =
            CertifiedKey::from_der(vec![certificate.der().clone()], der.into(), &provider);
        Arc::new(certified.expect("a pair"))
    }

    /// Goal: a whole name before a wildcard, whatever the case and the order; a wildcard for one label alone; the first
    /// for no name and for a foreign one; of one name, the key that the client can check.
    #[test]
    fn each_client_gets_its_certificate() {
        let p256 = &rcgen::PKCS_ECDSA_P256_SHA256;
        let all = [
            made(&["main.example"], p256),
            made(&["*.chat.example", "chat.example"], p256),
            made(&["Eu.Chat.Example"], p256),
            made(&["eu.chat.example", "main.example"], &rcgen::PKCS_ED25519),
            made(&[], p256),
        ];
        let certificates = Certificates::new(all.iter().cloned().map(Some).collect());
        let chosen = |name, schemes: &[SignatureScheme]| {
            let chosen = certificates.choose(name, schemes).expect("there is one");
            let same = |one: &Arc<CertifiedKey>| Arc::ptr_eq(one, chosen);
            all.iter().position(same).expect("of these")
        };
        let both = [ED25519, ECDSA];
        for (name, schemes, place) in [
            (None, &both[..], 0),
            (Some("other.example"), &both, 0),
            (Some("main.example"), &both, 0),
            (Some("MAIN.example"), &[ED25519], 3),
            (Some("chat.example"), &both, 1),
            (Some("us.chat.example"), &both, 1),
            (Some("eu.chat.example"), &both, 2),
            (Some("eu.chat.EXAMPLE"), &[ED25519], 3),
            (Some("eu.chat.example"), &[ECDSA], 2),
            (Some("a.us.chat.example"), &both, 0),
            (Some("*.chat.example"), &both, 1),
            (Some(".chat.example"), &both, 1),
            (Some(""), &both, 0),
            (None, &[ED25519], 3),
            (Some("us.chat.example"), &[ED25519], 3),
            (Some("main.example"), &[], 0),
        ] {
            assert_eq!(chosen(name, schemes), place, "{name:?} {schemes:?}");
        }
        let renewed = certificates.with(2, CertifiedKey::clone(&all[1]));
        let chosen = renewed.choose(Some("eu.chat.example"), &[ECDSA]);
        assert!(!Arc::ptr_eq(chosen.expect("the wildcard"), &all[2]));
    }

    /// Goal: before it is issued a certificate is nobody's, and afterwards it is found by its names.
    #[test]
    fn what_is_not_issued_is_not_chosen() {
        let p256 = &rcgen::PKCS_ECDSA_P256_SHA256;
        let (own, other) = (made(&["main.example"], p256), made(&["b.example"], p256));
        let alone = Certificates::new(vec![None]);
        for name in [None, Some("main.example")] {
            assert!(alone.choose(name, &[ECDSA]).is_none(), "{name:?}");
            assert!(alone.choose(name, &[]).is_none(), "{name:?}");
        }
        let waiting = Certificates::new(vec![None, Some(Arc::clone(&other))]);
        let chosen = waiting.choose(Some("main.example"), &[ECDSA]);
        assert!(Arc::ptr_eq(chosen.expect("the other"), &other));
        let issued = waiting.with(0, CertifiedKey::clone(&own));
        let chosen = issued.choose(Some("main.example"), &[ECDSA]);
        assert_eq!(chosen.expect("its own").cert, own.cert);
    }
}
