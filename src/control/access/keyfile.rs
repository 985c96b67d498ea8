//! Access keys in the data directory: `access-keys`, secrets sealed under `master-key`.
//!
//! SigV4 needs the secret itself, so it cannot be a hash. Two things protect it: both files are
//! readable for their owner alone, and a copy of `access-keys` is worthless without `master-key`.
//! The seal binds a key's rights to its secret, so that nobody without the master key can widen
//! them.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::caller::AccessKey;
use super::error::KeyFileError;
use super::grant::{Grant, TOKEN_ATTRIBUTES};
use super::private;
use crate::control::operation::Operation;
use crate::durable::Watched;
use crate::random;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::limits::ACCESS_KEYS_MAX;

const MASTER_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
/// Length of a secret: 240 random bits, 40 characters.
const SECRET_BYTES: usize = 30;
const ID_PREFIX: &str = "AKUP";
const ID_ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A key without its secret: listed to the operator, and bound by the seal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Access key id.
    pub id: String,
    /// A name for people.
    pub name: String,
    /// Unix seconds.
    pub created: u64,
    /// Names of operations; empty: all.
    pub operations: Vec<String>,
    /// ARN patterns; empty: every resource.
    pub resources: Vec<String>,
}

impl KeyRecord {
    fn grant(&self) -> Result<Grant, String> {
        let parse = |name: &String| Operation::parse(name).ok_or_else(|| name.clone());
        let (rights, operations): (Vec<&String>, Vec<&String>) = self
            .operations
            .iter()
            .partition(|name| *name == TOKEN_ATTRIBUTES);
        let operations: BTreeSet<Operation> = operations
            .into_iter()
            .map(parse)
            .collect::<Result<_, _>>()?;
        let operations = (!self.operations.is_empty()).then_some(operations);
        let grant = Grant::new(operations, self.resources.clone());
        Ok(grant.with_token_attributes(!rights.is_empty()))
    }
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    #[serde(flatten)]
    record: KeyRecord,
    /// Nonce and sealed secret, base64url.
    secret: String,
}

/// A key's id, and the whole key as JSON.
pub type ExportedKey = (String, Zeroizing<Vec<u8>>);

/// A key as nodes of a cluster give it to each other, sealed.
#[derive(Serialize, Deserialize)]
struct Plain {
    #[serde(flatten)]
    record: KeyRecord,
    secret: String,
}

impl Plain {
    fn to_json(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(serde_json::to_vec(self).expect("strings and numbers"))
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Document {
    keys: Vec<Sealed>,
}

/// The two files.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
    master_path: PathBuf,
}

impl KeyFile {
    /// The files of a data directory; nothing is read yet.
    pub fn of(data_dir: &Path) -> Self {
        Self {
            path: data_dir.join("access-keys"),
            master_path: data_dir.join("master-key"),
        }
    }

    /// Whether there are keys, or were.
    ///
    /// # Errors
    ///
    /// This user may not look.
    pub fn exists(&self) -> io::Result<bool> {
        self.path.try_exists()
    }

    /// The file of the keys, to be checked for changes.
    pub fn watched(&self) -> Watched<1> {
        Watched::new([self.path.clone()])
    }

    /// Every key, without secrets; needs no master key.
    pub fn list(&self) -> Result<Vec<KeyRecord>, KeyFileError> {
        let document = self.read()?;
        Ok(document.keys.into_iter().map(|key| key.record).collect())
    }

    /// Every key with its secret and rights.
    pub fn open(&self) -> Result<Vec<(AccessKey, Grant)>, KeyFileError> {
        let document = self.read()?;
        if document.keys.is_empty() {
            return Ok(Vec::new());
        }
        let cipher = self.master()?;
        let open = |key: Sealed| {
            let grant = key.record.grant().map_err(|name| {
                damaged(
                    &self.path,
                    format!("key {} names an unknown operation, {name}", key.record.id),
                )
            })?;
            let secret = unseal(&cipher, &key).ok_or_else(|| KeyFileError::Seal {
                path: self.path.clone(),
                id: key.record.id.clone(),
            })?;
            let id = key.record.id;
            Ok((AccessKey { id, secret }, grant))
        };
        document.keys.into_iter().map(open).collect()
    }

    /// Creates a key and returns its id and secret; sets id and creation time of `record`.
    pub fn create(&self, record: KeyRecord, now: UnixTime) -> Result<AccessKey, KeyFileError> {
        let _alone = private::lock(&self.path)?;
        let mut document = self.read()?;
        if document.keys.len() >= ACCESS_KEYS_MAX {
            return Err(KeyFileError::Full);
        }
        let cipher = self.master()?;
        let Plain { record, secret } = self.made(record, now)?;
        let nonce = self.random::<NONCE_BYTES>()?;
        let id = record.id.clone();
        let secret = Zeroizing::new(secret);
        document.keys.push(seal(&cipher, record, &secret, nonce));
        self.write(&document)?;
        Ok(AccessKey { id, secret })
    }

    /// Makes a key of a cluster, which does not go to this file: it comes back by [`KeyFile::put`]. Returns the key
    /// and what `put` takes.
    pub fn make(
        &self,
        record: KeyRecord,
        now: UnixTime,
    ) -> Result<(AccessKey, Zeroizing<Vec<u8>>), KeyFileError> {
        if self.read()?.keys.len() >= ACCESS_KEYS_MAX {
            return Err(KeyFileError::Full);
        }
        let plain = self.made(record, now)?;
        let json = plain.to_json();
        let (id, secret) = (plain.record.id, Zeroizing::new(plain.secret));
        Ok((AccessKey { id, secret }, json))
    }

    fn made(&self, mut record: KeyRecord, now: UnixTime) -> Result<Plain, KeyFileError> {
        let letters = self.random::<16>()?;
        let letter = |byte: u8| char::from(ID_ALPHABET[usize::from(byte % 32)]);
        record.id = ID_PREFIX.chars().chain(letters.map(letter)).collect();
        record.created = now.secs();
        let bytes = Zeroizing::new(self.random::<SECRET_BYTES>()?);
        let secret = URL_SAFE_NO_PAD.encode(&bytes[..]);
        Ok(Plain { record, secret })
    }

    /// Every key with its secret, as [`KeyFile::put`] takes it, by its id.
    pub fn export(&self) -> Result<Vec<ExportedKey>, KeyFileError> {
        let document = self.read()?;
        if document.keys.is_empty() {
            return Ok(Vec::new());
        }
        let cipher = self.master()?;
        let export = |key: Sealed| {
            let secret = unseal(&cipher, &key).ok_or_else(|| KeyFileError::Seal {
                path: self.path.clone(),
                id: key.record.id.clone(),
            })?;
            let plain = Plain {
                record: key.record,
                secret: secret.to_string(),
            };
            Ok((plain.record.id.clone(), plain.to_json()))
        };
        document.keys.into_iter().map(export).collect()
    }

    /// Adds a key of a cluster, or replaces the one of the same id. Beyond the limit of a server alone, too: the
    /// cluster has it.
    pub fn put(&self, id: &str, plain: &[u8]) -> Result<(), KeyFileError> {
        let plain: Plain = serde_json::from_slice(plain)
            .map_err(|error| damaged(&self.path, format!("key {id} of the cluster: {error}")))?;
        let _alone = private::lock(&self.path)?;
        let mut document = self.read()?;
        let cipher = self.master()?;
        document.keys.retain(|key| key.record.id != id);
        let nonce = self.random::<NONCE_BYTES>()?;
        let secret = Zeroizing::new(plain.secret);
        let sealed = seal(&cipher, plain.record, &secret, nonce);
        document.keys.push(sealed);
        self.write(&document)
    }

    /// Removes a key; `false` if there is none with this id.
    pub fn revoke(&self, id: &str) -> Result<bool, KeyFileError> {
        let _alone = private::lock(&self.path)?;
        let mut document = self.read()?;
        let before = document.keys.len();
        document.keys.retain(|key| key.record.id != id);
        if document.keys.len() == before {
            return Ok(false);
        }
        self.write(&document)?;
        Ok(true)
    }

    fn read(&self) -> Result<Document, KeyFileError> {
        let Some(bytes) = private::read(&self.path)? else {
            return Ok(Document::default());
        };
        serde_json::from_slice(&bytes).map_err(|error| damaged(&self.path, error.to_string()))
    }

    fn write(&self, document: &Document) -> Result<(), KeyFileError> {
        let text = serde_json::to_string_pretty(document).expect("strings and numbers");
        private::replace(&self.path, text.as_bytes())
    }

    /// Reads the master key; creates it if there is none, unless keys are sealed under a lost one.
    fn master(&self) -> Result<Aes256Gcm, KeyFileError> {
        let text = match private::read(&self.master_path)? {
            Some(text) => Zeroizing::new(text),
            None if self.path.exists() => {
                let cause = io::Error::new(
                    io::ErrorKind::NotFound,
                    "the access keys are sealed under it",
                );
                return Err(KeyFileError::io(&self.master_path, cause));
            }
            None => {
                let bytes = Zeroizing::new(self.random::<MASTER_BYTES>()?);
                let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(&bytes[..]).into_bytes());
                private::replace(&self.master_path, &text)?;
                text
            }
        };
        let bytes = URL_SAFE_NO_PAD
            .decode(text.trim_ascii())
            .map(Zeroizing::new)
            .ok();
        let cipher = bytes.and_then(|bytes| Aes256Gcm::new_from_slice(&bytes).ok());
        cipher.ok_or_else(|| {
            damaged(
                &self.master_path,
                "expected 43 characters of base64url".to_owned(),
            )
        })
    }

    fn random<const N: usize>(&self) -> Result<[u8; N], KeyFileError> {
        random::bytes().map_err(|error| KeyFileError::io(&self.path, error))
    }
}

fn damaged(path: &Path, cause: String) -> KeyFileError {
    KeyFileError::Damaged {
        path: path.to_owned(),
        cause,
    }
}

/// The seal covers the record as associated data.
fn bound(record: &KeyRecord) -> Vec<u8> {
    serde_json::to_vec(record).expect("strings and numbers")
}

fn seal(cipher: &Aes256Gcm, record: KeyRecord, secret: &str, nonce: [u8; NONCE_BYTES]) -> Sealed {
    let aad = bound(&record);
    let payload = Payload {
        msg: secret.as_bytes(),
        aad: &aad,
    };
    let sealed = cipher
        .encrypt(&Nonce::from(nonce), payload)
        .expect("a secret is far below AES-GCM's 64 GiB");
    let secret = URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat());
    Sealed { record, secret }
}

fn unseal(cipher: &Aes256Gcm, key: &Sealed) -> Option<Zeroizing<String>> {
    let bytes = URL_SAFE_NO_PAD.decode(&key.secret).ok()?;
    let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
    let payload = Payload {
        msg: sealed,
        aad: &bound(&key.record),
    };
    let secret = cipher.decrypt(&Nonce::from(*nonce), payload).ok()?;
    String::from_utf8(secret).ok().map(Zeroizing::new)
}
