//! Records of TLS 1.3 (RFC 8446 §5), sealed and opened by aws-lc-rs, as the server under test does it.

use std::io;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::{CipherSuite, ConnectionTrafficSecrets};
use zeroize::Zeroizing;

use super::records::{APPLICATION_DATA, CONTENT_MAX, HEADER, OVERHEAD, whole};

/// The type of a handshake message in a sealed record.
const HANDSHAKE: u8 = 22;
/// The type of an alert in a sealed record.
const ALERT: u8 = 21;
/// A handshake message that brings a ticket, which a measurement may ignore.
const NEW_SESSION_TICKET: u8 = 4;

/// One direction's key, and the number of its next record.
pub(crate) struct RecordKey {
    algorithm: &'static Algorithm,
    /// As long as the algorithm's, then zeros.
    key: Zeroizing<[u8; 32]>,
    iv: [u8; 12],
    sequence: u64,
}

/// A [`RecordKey`] whose schedule, half a kilobyte, is kept.
pub(crate) struct ReadyKey {
    record_key: RecordKey,
    schedule: LessSafeKey,
}

/// What opened records had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Opened {
    /// Bytes of whole records.
    pub(super) used: usize,
    /// The server says nothing more.
    pub(super) is_closed: bool,
}

impl RecordKey {
    /// Returns the key of rustls' `secrets`, from record number `sequence` on.
    pub(super) fn of((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> io::Result<Self> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(io::Error::other("a suite that nobody asked for")),
        };
        let (bytes, iv) = (key.as_ref(), iv.as_ref());
        let mut made = Self::zero(algorithm, sequence);
        made.key[..bytes.len()].copy_from_slice(bytes);
        made.iv.copy_from_slice(iv);
        Ok(made)
    }

    /// Returns a key of one's own for `suite`, by chance; AES-128-GCM for a suite that is not known.
    pub(crate) fn random(suite: CipherSuite) -> io::Result<Self> {
        let algorithm = if suite == CipherSuite::TLS13_AES_256_GCM_SHA384 {
            &AES_256_GCM
        } else if suite == CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 {
            &CHACHA20_POLY1305
        } else {
            &AES_128_GCM
        };
        let mut made = Self::zero(algorithm, 0);
        getrandom::fill(&mut made.key[..algorithm.key_len()])?;
        getrandom::fill(&mut made.iv)?;
        Ok(made)
    }

    fn zero(algorithm: &'static Algorithm, sequence: u64) -> Self {
        Self {
            algorithm,
            key: Zeroizing::new([0; 32]),
            iv: [0; 12],
            sequence,
        }
    }

    fn schedule(&self) -> LessSafeKey {
        let key = &self.key[..self.algorithm.key_len()];
        let key = UnboundKey::new(self.algorithm, key).expect("as long as the algorithm's");
        LessSafeKey::new(key)
    }

    pub(crate) fn ready(self) -> ReadyKey {
        let schedule = self.schedule();
        ReadyKey {
            record_key: self,
            schedule,
        }
    }

    /// Appends `content` as records, for who does so rarely and keeps no schedule.
    pub(crate) fn seal(&mut self, content: &[u8], out: &mut Vec<u8>) {
        let schedule = self.schedule();
        self.seal_with(&schedule, content, out);
    }

    fn seal_with(&mut self, schedule: &LessSafeKey, content: &[u8], out: &mut Vec<u8>) {
        for content in content.chunks(CONTENT_MAX) {
            let start = out.len();
            let body = u16::try_from(content.len() + OVERHEAD).expect("at most 16 KiB and 17");
            let [high, low] = body.to_be_bytes();
            let header = [APPLICATION_DATA, 3, 3, high, low];
            out.extend_from_slice(&header);
            out.extend_from_slice(content);
            out.push(APPLICATION_DATA);
            let nonce = self.next_nonce();
            let inner = &mut out[start + HEADER..];
            let tag = schedule.seal_in_place_separate_tag(nonce, Aad::from(header), inner);
            let tag = tag.expect("far below what a key seals at once");
            out.extend_from_slice(tag.as_ref());
        }
    }

    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, count) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= count;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

impl ReadyKey {
    /// Appends `content` as records of up to 16 KiB.
    pub(crate) fn seal(&mut self, content: &[u8], out: &mut Vec<u8>) {
        self.record_key.seal_with(&self.schedule, content, out);
    }

    /// Opens the whole records of `sealed`, in place, and appends their content to `plain`.
    ///
    /// # Errors
    ///
    /// `InvalidData` for a record that is not the server's, for an alert, and for a new key, which
    /// a server sends after millions of records only.
    pub(super) fn open(&mut self, sealed: &mut [u8], plain: &mut Vec<u8>) -> io::Result<Opened> {
        let mut opened = Opened::default();
        while let Some(end) = whole(&sealed[opened.used..])? {
            let (header, body) = sealed[opened.used..][..end].split_at_mut(HEADER);
            let nonce = self.record_key.next_nonce();
            let inner = self.schedule.open_in_place(nonce, Aad::from(header), body);
            let inner = inner.map_err(|_| invalid("a record is not the server's"))?;
            opened.used += end;
            let last = inner.iter().rposition(|byte| *byte != 0);
            match last.map(|last| (inner[last], &inner[..last])) {
                Some((APPLICATION_DATA, content)) => plain.extend_from_slice(content),
                Some((HANDSHAKE, [NEW_SESSION_TICKET, ..])) => {}
                Some((HANDSHAKE, _)) => return Err(invalid("the server took a new key")),
                Some((ALERT, [_, 0])) => opened.is_closed = true,
                Some((ALERT, _)) => return Err(invalid("the server sent an alert")),
                Some(_) | None => return Err(invalid("a record of a type that nobody knows")),
            }
        }
        Ok(opened)
    }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl std::fmt::Debug for ReadyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.record_key.fmt(f)
    }
}

impl std::fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordKey")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn twin(key: &RecordKey) -> RecordKey {
        RecordKey {
            algorithm: key.algorithm,
            key: key.key.clone(),
            iv: key.iv,
            sequence: key.sequence,
        }
    }

    /// Goal: what one end seals the other opens, whole, in order and unchanged, with each suite;
    /// a changed byte is refused.
    #[test]
    fn what_is_sealed_is_opened() {
        for suite in [
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            CipherSuite::TLS13_AES_256_GCM_SHA384,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        ] {
            let mut sealing = RecordKey::random(suite).expect("randomness");
            let mut opening = twin(&sealing).ready();
            let content: Vec<u8> = (0..40_000_u32).map(|each| each as u8).collect();
            let (mut wire, mut plain) = (Vec::new(), Vec::new());
            sealing.seal(&content, &mut wire);
            assert_eq!(wire.len(), content.len() + 3 * (HEADER + OVERHEAD));
            let cut = wire.len() - 1;
            let used = opening.open(&mut wire[..cut], &mut plain).expect("its own");
            assert_eq!(plain.len(), 2 * CONTENT_MAX);
            let more = opening
                .open(&mut wire[used.used..], &mut plain)
                .expect("the rest");
            assert_eq!(used.used + more.used, wire.len());
            assert_eq!(plain, content);
            let mut forged = Vec::new();
            sealing.seal(b"pong", &mut forged);
            forged[HEADER] ^= 1;
            assert!(opening.open(&mut forged, &mut plain).is_err());
        }
    }
}
