//! Traffic secrets of TLS 1.3 (RFC 8446 §7): what keys are made of, and the count of records under each.

use std::cell::RefCell;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Algorithm, CHACHA20_POLY1305};
use aws_lc_rs::hkdf::{HKDF_SHA256, HKDF_SHA384, KeyType, Prk};
use rustls::{CipherSuite, KeyLog, ServerConfig};
use zeroize::Zeroizing;

/// Records that one key seals; then the next one follows. AES-GCM keeps its promise for 2^24.5 (RFC 8446 §5.5).
pub(super) const SEAL_LIMIT: u64 = 1 << 23;
/// The longest hash of a suite, in bytes.
const SECRET_MAX: usize = 48;

/// What a connection is sealed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suite {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Suite {
    pub(super) fn of(suite: CipherSuite) -> Option<Self> {
        Self::numbered(u16::from(suite).into())
    }

    /// Its number in RFC 8446, appendix B.4.
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Aes128Gcm => 0x1301,
            Self::Aes256Gcm => 0x1302,
            Self::ChaCha20Poly1305 => 0x1303,
        }
    }

    pub(super) fn numbered(number: u64) -> Option<Self> {
        let all = [Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305];
        all.into_iter().find(|suite| suite.number() == number)
    }

    pub(super) fn aead(self) -> &'static Algorithm {
        match self {
            Self::Aes128Gcm => &AES_128_GCM,
            Self::Aes256Gcm => &AES_256_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }

    fn hash(self) -> (aws_lc_rs::hkdf::Algorithm, usize) {
        match self {
            Self::Aes128Gcm | Self::ChaCha20Poly1305 => (HKDF_SHA256, 32),
            Self::Aes256Gcm => (HKDF_SHA384, 48),
        }
    }
}

/// One direction's secret, and how many records were made under it.
#[derive(Clone)]
pub(super) struct Traffic {
    suite: Suite,
    secret: Zeroizing<[u8; SECRET_MAX]>,
    sequence: u64,
}

impl Traffic {
    /// Makes it of a secret after `sequence` records; `None` if the secret is not as long as the suite's hash.
    pub(super) fn new(suite: Suite, secret: &[u8], sequence: u64) -> Option<Self> {
        let (_, length) = suite.hash();
        let mut own = Zeroizing::new([0; SECRET_MAX]);
        (secret.len() == length).then(|| own[..length].copy_from_slice(secret))?;
        Some(Self {
            suite,
            secret: own,
            sequence,
        })
    }

    pub(super) fn suite(&self) -> Suite {
        self.suite
    }

    /// The secret, as long as the suite's hash.
    pub(super) fn secret(&self) -> &[u8] {
        let (_, length) = self.suite.hash();
        &self.secret[..length]
    }

    /// Records so far.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    #[cfg(test)]
    pub(super) fn use_up(&mut self) {
        self.sequence = SEAL_LIMIT;
    }

    /// Takes the next record's nonce: each is taken once. `None`: there is none left.
    pub(super) fn next_nonce(&mut self, iv: &[u8; 12]) -> Option<[u8; 12]> {
        let mut nonce = *iv;
        for (byte, count) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= count;
        }
        self.sequence = self.sequence.checked_add(1)?;
        Some(nonce)
    }

    /// Goes on to the next secret, under which nothing was sealed yet.
    pub(super) fn update(&mut self) {
        let mut next = Zeroizing::new([0; SECRET_MAX]);
        let (_, length) = self.suite.hash();
        self.expand(b"tls13 traffic upd", &mut next[..length]);
        self.secret = next;
        self.sequence = 0;
    }

    /// Key, as long as the suite's and zeros, and initial vector.
    pub(super) fn key_and_iv(&self) -> (Zeroizing<[u8; 32]>, [u8; 12]) {
        let (mut key, mut iv) = (Zeroizing::new([0; 32]), [0; 12]);
        let length = self.suite.aead().key_len();
        self.expand(b"tls13 key", &mut key[..length]);
        self.expand(b"tls13 iv", &mut iv);
        (key, iv)
    }

    /// HKDF-Expand-Label without a context.
    fn expand(&self, label: &[u8], out: &mut [u8]) {
        let (hash, length) = self.suite.hash();
        let secret = Prk::new_less_safe(hash, &self.secret[..length]);
        let wanted = u16::try_from(out.len()).expect("at most 48").to_be_bytes();
        let label_length = [u8::try_from(label.len()).expect("at most 17")];
        let info = [&wanted[..], &label_length, label, &[0]];
        let okm = secret.expand(&info, Length(out.len()));
        let okm = okm.expect("far fewer than 255 blocks");
        okm.fill(out).expect("as long as it was asked for");
    }
}

impl std::fmt::Debug for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            suite, sequence, ..
        } = self;
        let mut debug = f.debug_struct("Traffic");
        debug.field("suite", suite).field("sequence", sequence);
        debug.finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Secrets of both directions, as the handshake tells them.
#[derive(Default)]
pub(super) struct Secrets {
    pub(super) client: Option<Zeroizing<Vec<u8>>>,
    pub(super) server: Option<Zeroizing<Vec<u8>>>,
}

impl Secrets {
    /// Lets `step`, which is of one connection, tell its secrets to this.
    pub(super) fn hear<T>(&mut self, step: impl FnOnce() -> T) -> T {
        TOLD.take();
        let done = step();
        let Self { client, server } = TOLD.take();
        self.client = client.or(self.client.take());
        self.server = server.or(self.server.take());
        done
    }
}

thread_local! {
    /// What the step that runs on this thread has told. A step is synchronous.
    static TOLD: RefCell<Secrets> = RefCell::default();
}

/// Makes connections of this configuration tell their traffic secrets to [`Secrets::hear`].
pub fn tell_secrets(config: &mut ServerConfig) {
    config.enable_secret_extraction = true;
    config.key_log = std::sync::Arc::new(Teller);
}

#[derive(Debug)]
struct Teller;

const CLIENT: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER: &str = "SERVER_TRAFFIC_SECRET_0";

impl KeyLog for Teller {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        TOLD.with_borrow_mut(|told| match label {
            CLIENT => told.client = Some(secret.to_vec().into()),
            SERVER => told.server = Some(secret.to_vec().into()),
            _ => {}
        });
    }

    fn will_log(&self, label: &str) -> bool {
        [CLIENT, SERVER].contains(&label)
    }
}
