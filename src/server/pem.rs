//! Certificate and key files: read within a bound, with errors in the operator's terms.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use super::StartError;
use crate::config::TlsFiles;
use uproar_proto::base::limits::WATCHED_FILE_BYTES_MAX;

/// Reads a chain and the key of its first certificate.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library words the rest")]
pub(super) fn read(
    files: &TlsFiles,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, StartError> {
    let (certificate, key) = (&files.certificate, &files.key);
    let text = bytes(certificate).map_err(|error| fault(certificate, error))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| fault(certificate, error))?;
    if chain.is_empty() {
        return Err(fault(certificate, no_certificate(&text)));
    }
    let text = zeroize::Zeroizing::new(bytes(key).map_err(|error| fault(key, error))?);
    let secret =
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| fault(key, no_key(&text, &error)))?;
    CertifiedKey::from_der(chain, secret, provider).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => fault(
            key,
            format!(
                "it is not the key of the first certificate in {}",
                certificate.display()
            ),
        ),
        Error::InvalidCertificate(_) => fault(certificate, error),
        error => fault(key, error),
    })
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let file = File::open(path)?;
    file.take(WATCHED_FILE_BYTES_MAX + 1)
        .read_to_end(&mut text)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > WATCHED_FILE_BYTES_MAX {
        return Err(io::Error::other(format!(
            "it is longer than {WATCHED_FILE_BYTES_MAX} bytes"
        )));
    }
    Ok(text)
}

/// Why a file has no usable certificate.
fn no_certificate(text: &[u8]) -> &'static str {
    if is_der(text) {
        "it is DER, not PEM: `openssl x509 -inform der -in FILE -out FILE.pem` converts it"
    } else if has(text, "PRIVATE KEY-----") {
        "it holds a private key and no certificate: are tls.certificate and tls.key exchanged?"
    } else {
        "there is no -----BEGIN CERTIFICATE----- in it"
    }
}

/// Why a file has no usable key.
fn no_key(text: &[u8], error: &rustls::pki_types::pem::Error) -> String {
    let known = if has(text, "BEGIN ENCRYPTED PRIVATE KEY") || has(text, "Proc-Type: 4,ENCRYPTED") {
        "it is encrypted, and nobody is there to type its password: `openssl pkey -in FILE -out NEW` decrypts it"
    } else if is_der(text) {
        "it is DER, not PEM: `openssl pkey -inform der -in FILE -out FILE.pem` converts it"
    } else if has(text, "PRIVATE KEY-----") {
        return error.to_string();
    } else if has(text, "BEGIN CERTIFICATE-----") {
        "it holds a certificate and no private key: are tls.certificate and tls.key exchanged?"
    } else {
        "there is no -----BEGIN PRIVATE KEY----- in it"
    };
    known.to_owned()
}

/// A long ASN.1 sequence.
fn is_der(text: &[u8]) -> bool {
    matches!(text, [0x30, 0x81..=0x84, ..])
}

fn has(text: &[u8], words: &str) -> bool {
    text.windows(words.len())
        .any(|window| window == words.as_bytes())
}

pub(super) fn fault(path: &Path, cause: impl ToString) -> StartError {
    StartError::Tls {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::faults::Scratch;
    use std::fs;

    /// Goal: each mistake has its own message, with the file at fault.
    #[test]
    fn mistakes_are_named() {
        let scratch = Scratch::new();
        let dir = &scratch.0;
        let made = |name: &str| {
            let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("made");
            let key = made.signing_key.serialize_pem();
            (made.cert.pem(), key, made.cert.der().to_vec())
        };
        let ((certificate, key, der), (_, other, _)) = (made("a.example"), made("b.example"));
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let long = "\n".repeat(1024 * 1024 + 1);
        let cases: &[(&[u8], &str, &str, &str)] = &[
            (
                b"no certificate",
                &key,
                "cert.pem",
                "there is no -----BEGIN CERTIFICATE-----",
            ),
            (
                b"",
                &key,
                "cert.pem",
                "there is no -----BEGIN CERTIFICATE-----",
            ),
            (key.as_bytes(), &certificate, "cert.pem", "exchanged?"),
            (&der, &key, "cert.pem", "openssl x509 -inform der"),
            (
                certificate.as_bytes(),
                &certificate,
                "key.pem",
                "exchanged?",
            ),
            (
                certificate.as_bytes(),
                "",
                "key.pem",
                "there is no -----BEGIN PRIVATE KEY-----",
            ),
            (
                certificate.as_bytes(),
                encrypted,
                "key.pem",
                "openssl pkey -in",
            ),
            (
                certificate.as_bytes(),
                &other,
                "key.pem",
                "not the key of the first certificate",
            ),
            (
                long.as_bytes(),
                &key,
                "cert.pem",
                "longer than 1048576 bytes",
            ),
        ];
        let files = TlsFiles {
            certificate: dir.join("cert.pem"),
            key: dir.join("key.pem"),
        };
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        for (text, secret, blamed, words) in cases {
            fs::write(&files.certificate, text).expect("written");
            fs::write(&files.key, secret).expect("written");
            let error = read(&files, &provider).expect_err(words);
            let text = error.to_string();
            assert!(text.contains(words) && text.contains(blamed), "{text}");
            assert_eq!(error.exit_code(), 2, "{text}");
        }
        fs::write(&files.certificate, &certificate).expect("written");
        fs::write(&files.key, &key).expect("written");
        read(&files, &provider).expect("a pair");
        fs::remove_dir_all(dir).expect("removed");
        let error = read(&files, &provider).expect_err("no file");
        assert_eq!(error.exit_code(), 2, "{error}");
    }
}
