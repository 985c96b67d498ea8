//! Known names, and suggestions for unknown ones.

use toml::Value;

use super::access_keys;
use super::error::ConfigError;
use super::schema::SCHEMA;
use super::source::Source;

/// Below this likeness (Jaro) a suggestion would only confuse.
const LIKENESS_MIN: f64 = 0.75;
/// Keys of a section that are suggested for the section's name alone.
const KEYS_NAMED_MAX: usize = 3;

/// Every key by its full name, as in `server.shards`.
pub(super) fn keys() -> impl Iterator<Item = String> {
    SCHEMA.iter().flat_map(|(section, value)| match value {
        Value::Table(values) => values
            .keys()
            .map(|name| format!("{section}.{name}"))
            .collect(),
        Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Array(_) => vec![section.clone()],
    })
}

pub(super) fn is_known(key: &str) -> bool {
    key == "keys" || kind(key).is_some()
}

/// A value of a key's type.
pub(super) fn kind(key: &str) -> Option<&'static Value> {
    let (section, name) = key.split_once('.')?;
    let section = SCHEMA.get(section)?;
    // Of `[[keys]]` the sample has one.
    let one = section.as_array().and_then(|all| all.first());
    one.unwrap_or(section).as_table()?.get(name)
}

pub(super) fn unknown_key(key: &str, source: Source) -> ConfigError {
    ConfigError::Unknown {
        name: key.to_owned(),
        nearest: nearest(key, keys()),
        origin: source,
    }
}

pub(super) fn unknown_section(section: &str, origin: Source) -> ConfigError {
    ConfigError::Unknown {
        name: format!("[{section}]"),
        nearest: nearest(section, SCHEMA.keys().cloned()).map(|name| format!("[{name}]")),
        origin,
    }
}

/// `path` is the part after `UPROAR_`. A section alone, as in `UPROAR_LOG`, means one of its keys.
pub(super) fn unknown_variable(variable: &str, path: &str, source: Source) -> ConfigError {
    let section = format!("{path}__");
    let of_section: Vec<_> = variables()
        .filter(|known| known.starts_with(&section))
        .collect();
    let guess = if of_section.is_empty() {
        nearest(path, variables()).map(|name| format!("UPROAR_{name}"))
    } else {
        let named = of_section.iter().take(KEYS_NAMED_MAX);
        let named: Vec<_> = named.map(|name| format!("UPROAR_{name}")).collect();
        let more = of_section.len() > KEYS_NAMED_MAX;
        Some(named.join(", ") + if more { ", …" } else { "" })
    };
    ConfigError::Unknown {
        name: variable.to_owned(),
        nearest: guess,
        origin: source,
    }
}

/// Variables without their `UPROAR_`.
fn variables() -> impl Iterator<Item = String> {
    // A variable cannot hold a list of tables: three of them give one.
    keys()
        .filter(|key| key.contains('.'))
        .chain(access_keys::VARIABLES.map(str::to_owned))
        .map(|key| key.replace('.', "__").to_ascii_uppercase())
}

/// The most similar of `known`; the same key of another section counts as very similar.
pub(super) fn nearest(wrong: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let likeness = |name: &str| {
        let whole = strsim::jaro(name, wrong);
        if last(name) == last(wrong) {
            whole.max(0.9)
        } else {
            whole
        }
    };
    known
        .map(|name| (likeness(&name), name))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}
