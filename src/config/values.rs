//! The value of each key, to be compared with a later one and shown beside it.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};
use toml::{Table, Value};

use super::raw::{Key, Raw};
use super::reloading::{self, Reloading};

/// The value of each key, all layers merged. Of a secret it has the hash alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Values(BTreeMap<String, Shown>);

/// A value, and what people may see of it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shown {
    Text { shown: String, whole: Hash },
    // The hash of each secret, by id.
    Keys(BTreeMap<String, Hash>),
    Secret(Hash),
}

type Hash = [u8; 32];

/// A key whose value differs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// Its full name: `quotas.connections`.
    pub key: String,
    /// Old and new value; `changed` for a secret.
    pub text: String,
}

impl Change {
    /// What a reload does with it.
    pub fn reloading(&self) -> Reloading {
        reloading::of(&self.key)
    }
}

/// One line: `quotas.connections: 50000 → 7`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.text)
    }
}

impl Values {
    pub(super) fn of(raw: &Raw) -> Self {
        let table = Table::try_from(raw).expect("strings, numbers and lists");
        let mut values = BTreeMap::new();
        for (section, table) in table {
            let Value::Table(table) = table else { continue };
            for (name, value) in table {
                let key = format!("{section}.{name}");
                let (shown, whole) = (shown(&key, &value), hash(&value.to_string()));
                values.insert(key, Shown::Text { shown, whole });
            }
        }
        for (key, secret) in secrets(raw) {
            values.insert(key.to_owned(), Shown::Secret(hash(secret)));
        }
        let keys = raw.keys.iter();
        let keys = keys.map(|Key { id, secret }| (id.clone(), hash(secret)));
        values.insert("keys".to_owned(), Shown::Keys(keys.collect()));
        Self(values)
    }

    /// The keys whose values differ in `new`, by name.
    pub(super) fn changes(&self, new: &Self) -> Vec<Change> {
        let mut keys: Vec<_> = self.0.keys().chain(new.0.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        let values = keys
            .into_iter()
            .map(|key| (key, self.0.get(key), new.0.get(key)));
        let changed = values.filter(|(_, old, new)| old != new);
        let change = |(key, old, new): (&String, Option<&Shown>, Option<&Shown>)| Change {
            key: key.clone(),
            text: difference(old, new),
        };
        changed.map(change).collect()
    }
}

/// The secrets that are given, by key; those of `[[keys]]` are compared by id.
fn secrets(raw: &Raw) -> impl Iterator<Item = (&'static str, &str)> {
    let (review, logging) = (&raw.review, &raw.logging);
    let all = [
        (
            "review.lambda_secret_access_key",
            review.lambda_secret_access_key.as_deref(),
        ),
        (
            "review.lambda_session_token",
            review.lambda_session_token.as_deref(),
        ),
        (
            "logging.secret_access_key",
            logging.secret_access_key.as_deref(),
        ),
        ("logging.session_token", logging.session_token.as_deref()),
    ];
    all.into_iter()
        .filter_map(|(key, secret)| Some((key, secret?)))
}

fn hash(secret: &str) -> Hash {
    Sha256::digest(secret).into()
}

/// A value as in the file. The query of a handler's URL is left out: some put a password there.
fn shown(key: &str, value: &Value) -> String {
    let Some(pairs) = value.as_array().filter(|_| key == "review.functions") else {
        return value.to_string();
    };
    let bare = |pair: &Value| match pair.as_str().and_then(|pair| pair.split_once('?')) {
        Some((url, _query)) => Value::from(format!("{url}?…")).to_string(),
        None => pair.to_string(),
    };
    let bare: Vec<_> = pairs.iter().map(bare).collect();
    format!("[{}]", bare.join(", "))
}

fn difference(old: Option<&Shown>, new: Option<&Shown>) -> String {
    let text = |shown: Option<&Shown>| match shown {
        Some(Shown::Text { shown, .. }) => Some(shown.clone()),
        None => Some("not set".to_owned()),
        Some(Shown::Keys(_) | Shown::Secret(_)) => None,
    };
    match (old, new) {
        (Some(Shown::Keys(old)), Some(Shown::Keys(new))) => keys_difference(old, new),
        (old, new) => match (text(old), text(new)) {
            (Some(old), Some(new)) => format!("{old} → {new}"),
            _ => "changed".to_owned(),
        },
    }
}

fn keys_difference(old: &BTreeMap<String, Hash>, new: &BTreeMap<String, Hash>) -> String {
    let missing = |these: &BTreeMap<String, Hash>, those: &BTreeMap<String, Hash>| {
        let missing = these.keys().filter(|id| !those.contains_key(*id));
        missing.cloned().collect::<Vec<_>>()
    };
    let renewed = old.iter();
    let renewed = renewed.filter(|(id, hash)| new.get(*id).is_some_and(|other| other != *hash));
    let parts = [
        ("added", missing(new, old)),
        ("removed", missing(old, new)),
        ("new secret of", renewed.map(|(id, _)| id.clone()).collect()),
    ];
    let parts = parts.into_iter().filter(|(_, ids)| !ids.is_empty());
    let parts = parts.map(|(what, ids)| format!("{what} {}", ids.join(", ")));
    parts.collect::<Vec<_>>().join("; ")
}
