//! The value of each key, to be compared with a later one and shown beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sha2::{Digest, Sha256};
use toml::{Table, Value};

use super::raw::{Key, Raw};
use super::reloading::{self, Reloading};
use super::source::{Source, Sources};

/// The value of each key, all layers merged. Of a secret it has the hash alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Values {
    all: BTreeMap<String, Shown>,
    // Keys that file, environment or flags set.
    given: BTreeSet<String>,
}

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
    pub(super) fn of(raw: &Raw, sources: &Sources) -> Self {
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
        let secret = |key: &Key| hash(key.secret.as_deref().unwrap_or_default());
        let keys = keys.map(|key| (key.id.clone(), secret(key)));
        values.insert("keys".to_owned(), Shown::Keys(keys.collect()));
        let given = values
            .keys()
            .filter(|key| sources.of(key) != Source::Default);
        Self {
            given: given.cloned().collect(),
            all: values,
        }
    }

    /// The keys whose values differ in `new`, by name. A default that the machine decides, such as the number of
    /// shards, is no change: it was decided at the start.
    pub(super) fn changes(&self, new: &Self) -> Vec<Change> {
        let mut keys: Vec<_> = self.all.keys().chain(new.all.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        let values = keys
            .into_iter()
            .map(|key| (key, self.all.get(key), new.all.get(key)));
        let is_given = |key: &String| self.given.contains(key) || new.given.contains(key);
        let counts = |key: &String| is_given(key) || reloading::of(key) == Reloading::Live;
        let changed = values.filter(|(key, old, new)| old != new && counts(key));
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
            "tls.acme_account_secret",
            raw.tls.acme_account_secret.as_deref(),
        ),
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

#[cfg(test)]
mod tests {
    use super::super::reloading::KEYS;
    use super::super::{Flags, Mode, layers};
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write;
    use std::path::Path;

    fn values(text: &str) -> Values {
        let file = Some((Path::new("uproar.toml"), text));
        let flags = Flags::default();
        let (raw, sources) =
            layers::merge(Mode::Serve, file, std::iter::empty(), &flags).expect(text);
        Values::of(&raw, &sources)
    }

    /// Another value than the default of each key, and one more.
    const SETTINGS: &[(&str, &str, &str)] = &[
        ("server.region", "\"eu-west-1\"", "\"eu-west-2\""),
        ("server.shards", "1000", "1001"),
        ("messaging.listen", "\"[::1]:1\"", "\"[::1]:2\""),
        ("messaging.origins", "[\"a\"]", "[\"b\", \"a\"]"),
        ("messaging.compression", "true", "true"),
        ("quotas.connections", "7", "8"),
        ("quotas.profile", "\"open\"", "\"open\""),
        (
            "review.functions",
            "[\"f=http://a/?secret1\"]",
            "[\"f=http://a/?secret2\"]",
        ),
        ("review.lambda_session_token", "\"secret3\"", "\"secret4\""),
        ("logging.secret_access_key", "\"secret5\"", "\"secret6\""),
        ("tokens.life_minutes", "5", "6"),
    ];

    /// A file with some of them: `None` leaves a key out.
    fn text(chosen: &[Option<bool>]) -> String {
        let mut text = String::new();
        let settings = SETTINGS.iter().zip(chosen);
        for ((key, first, second), chosen) in settings {
            let (section, name) = key.split_once('.').expect("a full name");
            let value = chosen.map(|other| if other { second } else { first });
            if let Some(value) = value {
                // Dotted, as a section may stand once.
                let _infallible = writeln!(text, "{section}.{name} = {value}");
            }
        }
        text
    }

    /// The keys that `quotas.profile` decides.
    const OF_PROFILE: [&str; 5] = [
        "quotas.account_moderations",
        "quotas.account_sends",
        "quotas.api_rates",
        "quotas.connection_requests",
        "quotas.room_rates",
    ];

    proptest! {
        /// Goal: of any two files, the changes are the keys whose values differ, and no others; they are the same
        /// the other way round; and no secret is shown.
        #[test]
        fn changes_are_what_differs(
            old in prop::collection::vec(any::<Option<bool>>(), SETTINGS.len()),
            new in prop::collection::vec(any::<Option<bool>>(), SETTINGS.len()),
        ) {
            let mut expected: Vec<&str> = Vec::new();
            for (place, (key, first, second)) in SETTINGS.iter().enumerate() {
                let value = |chosen: &[Option<bool>]| {
                    chosen[place].map(|other| if other { *second } else { *first })
                };
                if value(&old) != value(&new) {
                    expected.push(key);
                    if *key == "quotas.profile" {
                        expected.extend(OF_PROFILE);
                    }
                }
            }
            // Whether shards are pinned depends on their number, and is not given.
            expected.sort_unstable();
            let (old, new) = (values(&text(&old)), values(&text(&new)));
            let keys = |changes: &[Change]| {
                changes.iter().map(|change| change.key.clone()).collect::<Vec<_>>()
            };
            let changes = old.changes(&new);
            prop_assert_eq!(keys(&changes), expected);
            prop_assert_eq!(keys(&new.changes(&old)), keys(&changes));
            prop_assert!(old.changes(&old).is_empty());
            let shown: String = changes.iter().map(ToString::to_string).collect();
            prop_assert!(!shown.contains("secret1") && !shown.contains("secret2"), "{}", shown);
            prop_assert!((3..=6).all(|n| !shown.contains(&format!("secret{n}"))), "{}", shown);
        }
    }

    /// Goal: every key whose name says that it is a secret is treated as one.
    #[test]
    fn secrets_are_known_by_name() {
        let mut given = values("");
        let named = KEYS.iter().map(|(key, _)| *key);
        // The name of a file is no secret.
        let named = named.filter(|key| !key.ends_with("_file"));
        let named = named.filter(|key| key.contains("secret") || key.ends_with("session_token"));
        let mut file = String::new();
        for key in named.clone() {
            let _infallible = writeln!(file, "{key} = \"topmost\"");
        }
        let with = values(&file);
        for change in given.changes(&with) {
            assert_eq!(change.text, "changed", "{change}");
        }
        assert_eq!(given.changes(&with).len(), named.count());
        given.all.clear();
        assert!(!format!("{with:?}").contains("topmost"));
    }

    #[test]
    fn access_keys_are_compared_by_id() {
        let keys = |all: &[(&str, &str)]| {
            let entry = |(id, secret): &(&str, &str)| {
                format!("[[keys]]\nid = \"{id}\"\nsecret = \"{secret}\"\n")
            };
            values(&all.iter().map(entry).collect::<String>())
        };
        let old = keys(&[("A", "1"), ("B", "2"), ("C", "3")]);
        assert!(
            old.changes(&keys(&[("C", "3"), ("A", "1"), ("B", "2")]))
                .is_empty()
        );
        let changes = old.changes(&keys(&[("D", "4"), ("A", "1"), ("B", "7")]));
        let shown: Vec<_> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["keys: added D; removed C; new secret of B"]);
    }
}
