//! The keys that seal and open tokens, with their precomputed schedules.

#![expect(
    clippy::indexing_slicing,
    reason = "a digest and a head are longer than what is taken of them"
)]

use std::fmt;
use std::time::Duration;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{
    Claims, KEY_BYTES, KEY_ID_BYTES, KeyId, NONCE_BYTES, Opened, PREFIX_BYTES, TAG_BYTES,
    TOKEN_ID_BYTES, TokenError, TokenId, VERSION,
};
use crate::base::clock::UnixTime;
use crate::base::limits::TOKEN_BYTES_MAX;

/// One sealing key. The bytes come from the caller's random source.
pub struct Key {
    // The secret, for the key file.
    bytes: Zeroizing<[u8; KEY_BYTES]>,
    // Seconds matter only; a key counts as replaced when the next one was made.
    created: UnixTime,
    // The start of a hash of the secret; it stands in each token that the key sealed.
    id: KeyId,
    // The key schedule of `bytes`.
    cipher: Aes256Gcm,
}

impl Key {
    /// Makes a key of 32 random bytes.
    pub fn new(bytes: [u8; KEY_BYTES], created: UnixTime) -> Self {
        let bytes = Zeroizing::new(bytes);
        let digest = Sha256::new()
            .chain_update(b"uproar token key id")
            .chain_update(&bytes[..])
            .finalize();
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&digest[..KEY_ID_BYTES]);
        let cipher = Aes256Gcm::new((&*bytes).into());
        Self {
            bytes,
            created,
            id,
            cipher,
        }
    }

    /// Returns what names it in the tokens that it sealed.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Returns when it was made.
    pub fn created(&self) -> UnixTime {
        self.created
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:02x?})", self.id)
    }
}

/// Why a key file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// A line is not `<key> <created>`.
    #[error(
        "line {line}: expected 43 characters of base64url and a Unix time, as in `<key> <created>`"
    )]
    Line {
        /// The line's number, counted from 1.
        line: usize,
    },
    /// The file has no key.
    #[error("no key in the file")]
    Empty,
}

/// Keys that open tokens; the last one seals. Rotation adds a key at the end; a key may be removed
/// once every token it sealed has expired.
#[derive(Debug, Default)]
pub struct Keyring {
    // In the order of rotation; the last one seals. Not empty while in use.
    keys: Vec<Key>,
}

impl Keyring {
    /// Returns the names of all keys.
    pub fn key_ids(&self) -> Vec<KeyId> {
        self.keys.iter().map(Key::id).collect()
    }

    /// Adds a key, which seals from now on.
    pub fn push(&mut self, key: Key) {
        self.keys.push(key);
    }

    /// Adds a key that only opens tokens at first: the last one still seals until
    /// [`Keyring::promote`].
    pub fn push_behind(&mut self, key: Key) {
        let place = self.keys.len().saturating_sub(1);
        self.keys.insert(place, key);
    }

    /// Makes the key added by [`Keyring::push_behind`] the sealing one.
    pub fn promote(&mut self) {
        if let [.., added, sealing] = &mut *self.keys {
            std::mem::swap(added, sealing);
        }
    }

    /// Drops keys replaced longer than `life_max` ago: their tokens have expired.
    pub fn retire(&mut self, now: UnixTime, life_max: Duration) {
        // A key was replaced when the next one was made.
        let replaced: Vec<UnixTime> = self.keys.iter().skip(1).map(Key::created).collect();
        let gone = replaced
            .iter()
            .take_while(|time| now.since(**time) > life_max)
            .count();
        self.keys.drain(..gone);
    }

    /// Parses the key file: one key a line, `<base64url> <created, Unix seconds>`; `#` starts a
    /// comment.
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        let mut ring = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = parse_line(line).ok_or(KeyringError::Line { line: index + 1 })?;
            ring.push(key);
        }
        if ring.keys.is_empty() {
            Err(KeyringError::Empty)
        } else {
            Ok(ring)
        }
    }

    /// Returns the key file's text, which is secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::from(
            "# Keys that seal chat tokens: key, creation time. The last one seals, all of them open.\n",
        ));
        for key in &self.keys {
            let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(&key.bytes[..]));
            text.push_str(&encoded);
            text.extend([" ", &key.created.secs().to_string(), "\n"]);
        }
        text
    }

    /// Seals `claims` with the last key. `nonce` must be random: up to 2^32 tokens of one key keep
    /// the probability of a repeated nonce below 2^-32 (NIST SP 800-38D §8.3).
    ///
    /// # Panics
    ///
    /// If the ring is empty, which no constructor from a file returns.
    pub fn seal(&self, claims: &Claims, nonce: [u8; NONCE_BYTES]) -> String {
        let key = self.keys.last().expect("a keyring in use has a key");
        let mut token = Vec::with_capacity(256);
        token.push(VERSION);
        token.extend_from_slice(&key.id);
        token.extend_from_slice(&nonce);
        let start = token.len();
        claims.write(&mut token);
        let (head, body) = token.split_at_mut(start);
        let tag = key
            .cipher
            .encrypt_inout_detached(&Nonce::from(nonce), &head[..PREFIX_BYTES], body.into())
            .expect("claims are far below AES-GCM's 64 GiB");
        token.extend_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(&token)
    }

    /// Opens `token`, and decrypts it in `scratch`: 0.3-0.5 µs and, once `scratch` has grown, no
    /// allocation. A token whose session is over counts as expired.
    pub fn open<'s>(
        &self,
        token: &str,
        scratch: &'s mut Vec<u8>,
        now: UnixTime,
    ) -> Result<Opened<'s>, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        scratch.clear();
        // Strict: no padding, and the unused bits of the last character are zero.
        URL_SAFE_NO_PAD
            .decode_vec(token, scratch)
            .map_err(|_| TokenError::Encoding)?;
        let (prefix, rest) = scratch
            .split_first_chunk_mut::<PREFIX_BYTES>()
            .ok_or(TokenError::Encoding)?;
        let (nonce, rest) = rest
            .split_first_chunk_mut::<NONCE_BYTES>()
            .ok_or(TokenError::Encoding)?;
        let (body, tag) = rest
            .split_last_chunk_mut::<TAG_BYTES>()
            .ok_or(TokenError::Encoding)?;
        let [version, id @ ..] = *prefix;
        if version != VERSION {
            return Err(TokenError::Version);
        }
        let key = self
            .keys
            .iter()
            .find(|key| key.id == id)
            .ok_or(TokenError::UnknownKey)?;
        key.cipher
            .decrypt_inout_detached(
                &Nonce::from(*nonce),
                &prefix[..],
                (&mut *body).into(),
                &Tag::from(*tag),
            )
            .map_err(|_| TokenError::Seal)?;
        let mut token_id = [0; TOKEN_ID_BYTES];
        token_id[..KEY_ID_BYTES].copy_from_slice(&id);
        token_id[KEY_ID_BYTES..].copy_from_slice(nonce);
        let opened = Opened::read(TokenId::from_bytes(token_id), body)?;
        let last = opened.expires().min(opened.session_end());
        if now > last {
            return Err(TokenError::Expired {
                by_secs: now.since(last).as_secs(),
            });
        }
        Ok(opened)
    }
}

fn parse_line(line: &str) -> Option<Key> {
    let mut words = line.split_ascii_whitespace();
    let decoded = Zeroizing::new(URL_SAFE_NO_PAD.decode(words.next()?).ok()?);
    let bytes: [u8; KEY_BYTES] = decoded.as_slice().try_into().ok()?;
    let created = UnixTime::from_secs(words.next()?.parse().ok()?);
    words.next().is_none().then(|| Key::new(bytes, created))
}

#[cfg(test)]
mod tests {
    use super::super::{Capabilities, Capability};
    use super::*;
    use crate::base::id::RoomId;
    use proptest::prelude::*;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn ring() -> Keyring {
        let mut ring = Keyring::default();
        ring.push(Key::new([7; KEY_BYTES], NOW));
        ring
    }

    fn claims(user_id: &str, attributes: &[(&str, &str)]) -> Claims {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Claims {
            room: RoomId::parse("TC6fLHr7ycLt").expect("an id"),
            user_id: user_id.to_owned(),
            attributes: attributes.iter().map(own).collect(),
            capabilities: [Capability::SendMessage].into_iter().collect(),
            expires: UnixTime::from_secs(NOW.secs() + 3600),
            session_end: UnixTime::from_secs(NOW.secs() + 7200),
        }
    }

    fn refused(ring: &Keyring, token: &str) -> TokenError {
        ring.open(token, &mut Vec::new(), NOW)
            .map(|_| ())
            .expect_err(token)
    }

    proptest! {
        /// Goal: sealed claims are read back, and none of them can be read in the token.
        #[test]
        fn claims_survive_sealing(
            user in ".{1,128}",
            attributes in prop::collection::vec((".{0,20}", ".{0,20}"), 0..8),
            nonce in any::<[u8; NONCE_BYTES]>(),
            bits in 0_u8..8,
        ) {
            let pairs: Vec<_> = attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let mut sealed = claims(&user, &pairs);
            sealed.capabilities = Capabilities::from_bits(bits).expect("three bits");
            let ring = ring();
            let token = ring.seal(&sealed, nonce);
            prop_assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            let mut scratch = Vec::new();
            let opened = ring.open(&token, &mut scratch, NOW).expect("genuine");
            prop_assert_eq!(opened.user_id(), &user);
            prop_assert_eq!(opened.attributes().collect::<Vec<_>>(), pairs);
            prop_assert_eq!(opened.capabilities(), sealed.capabilities);
            prop_assert_eq!(opened.room(), sealed.room);
            prop_assert_eq!((opened.expires(), opened.session_end()), (sealed.expires, sealed.session_end));
        }

        /// Goal: no text panics or opens.
        #[test]
        fn any_text_is_refused(text in "[A-Za-z0-9_-]{0,200}") {
            refused(&ring(), &text);
        }
    }

    /// Goal: no other spelling and no other bits are accepted for the token.
    #[test]
    fn every_change_is_refused() {
        let ring = ring();
        let token = ring.seal(&claims("u", &[("a", "b")]), [9; NONCE_BYTES]);
        let raw = URL_SAFE_NO_PAD.decode(&token).expect("our own");
        for bit in 0..raw.len() * 8 {
            let mut changed = raw.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            refused(&ring, &URL_SAFE_NO_PAD.encode(changed));
        }
        for end in 0..token.len() {
            refused(&ring, &token[..end]);
        }
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=!# ";
        for other in alphabet.chars() {
            refused(&ring, &format!("{token}{other}"));
            let last = &token[token.len() - 1..];
            if !last.starts_with(other) {
                refused(&ring, &format!("{}{other}", &token[..token.len() - 1]));
            }
        }
        assert!(
            ring.open(&token, &mut Vec::new(), NOW).is_ok(),
            "the genuine one still opens"
        );
    }

    /// Goal: time, key and length decide as documented.
    #[test]
    fn expiry_key_and_length_are_checked() {
        let ring = ring();
        let token = ring.seal(&claims("u", &[]), [1; NONCE_BYTES]);
        let late = UnixTime::from_secs(NOW.secs() + 3601);
        let error = ring
            .open(&token, &mut Vec::new(), late)
            .map(|_| ())
            .expect_err("expired");
        assert_eq!(error, TokenError::Expired { by_secs: 1 });
        let mut other = Keyring::default();
        other.push(Key::new([8; KEY_BYTES], NOW));
        assert_eq!(refused(&other, &token), TokenError::UnknownKey);
        assert_eq!(
            refused(&ring, &"a".repeat(TOKEN_BYTES_MAX + 1)),
            TokenError::TooLong
        );
        let user = "🔥".repeat(128);
        let value = "v".repeat(1023);
        let largest = ring.seal(&claims(&user, &[("k", &value)]), [2; NONCE_BYTES]);
        assert!(
            largest.len() <= TOKEN_BYTES_MAX,
            "{} characters",
            largest.len()
        );
    }

    /// Goal: a rotated ring opens old tokens, seals with the new key, and survives its file.
    #[test]
    fn rotation_keeps_old_tokens_valid() {
        let mut ring = ring();
        let old = ring.seal(&claims("u", &[]), [1; NONCE_BYTES]);
        ring.push(Key::new([8; KEY_BYTES], NOW));
        let new = ring.seal(&claims("u", &[]), [1; NONCE_BYTES]);
        assert_ne!(old[..10], new[..10], "another key id");
        let ring = Keyring::parse(&ring.to_text()).expect("our own file");
        assert!(ring.open(&old, &mut Vec::new(), NOW).is_ok());
        assert!(ring.open(&new, &mut Vec::new(), NOW).is_ok());
        assert_eq!(
            Keyring::parse("# x\nshort 1").expect_err("short"),
            KeyringError::Line { line: 2 }
        );
        assert_eq!(
            Keyring::parse("# x\n").expect_err("empty"),
            KeyringError::Empty
        );
    }

    /// Goal: through a rotation every token stays valid until its key's time is over.
    #[test]
    fn rotation_refuses_no_valid_token() {
        let day = Duration::from_hours(24);
        let made = |seed: u8, at: u64| Key::new([seed; KEY_BYTES], UnixTime::from_secs(at));
        let opens = |ring: &Keyring, token: &str| {
            let mut scratch = Vec::new();
            ring.open(token, &mut scratch, UnixTime::from_secs(1))
                .is_ok()
        };
        let mut ring = Keyring::default();
        ring.push(made(1, 1_000));
        let first = ring.seal(&claims("u", &[]), [1; NONCE_BYTES]);
        ring.push_behind(made(2, 2_000));
        let between = ring.seal(&claims("u", &[]), [2; NONCE_BYTES]);
        assert_eq!(first[..7], between[..7], "the old key still seals");
        ring.promote();
        let second = ring.seal(&claims("u", &[]), [3; NONCE_BYTES]);
        assert_ne!(first[..7], second[..7], "the new key seals");
        let ring_then = Keyring::parse(&ring.to_text()).expect("our own");
        for token in [&first, &between, &second] {
            assert!(opens(&ring, token) && opens(&ring_then, token));
        }
        ring.retire(UnixTime::from_secs(2_000).after(day), day);
        assert!(opens(&ring, &first), "replaced exactly a day ago");
        ring.retire(UnixTime::from_secs(2_001).after(day), day);
        assert!(!opens(&ring, &first) && opens(&ring, &second));
        ring.retire(UnixTime::from_secs(9_000_000), day);
        assert!(opens(&ring, &second), "the sealing key stays");
    }
}
