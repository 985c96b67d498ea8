//! Which names there are, and which one was meant.

use toml::Value;

use super::ConfigError;
use super::layers::{SCHEMA, Source};

/// Below this likeness (Jaro) a guess would only confuse.
const LIKENESS_MIN: f64 = 0.75;
/// A variable without `__` this near to one of ours is a slip of the pen.
const SLIPS_MAX: usize = 2;

/// Every key by its full name, as in `server.shards`.
pub(super) fn keys() -> impl Iterator<Item = String> {
    SCHEMA.iter().flat_map(|(section, value)| match value {
        Value::Table(values) => values
            .keys()
            .map(|name| format!("{section}.{name}"))
            .collect(),
        _ => vec![section.clone()],
    })
}

pub(super) fn is_known(key: &str) -> bool {
    key == "keys" || kind(key).is_some()
}

/// A value of a key's type.
pub(super) fn kind(key: &str) -> Option<&'static Value> {
    let (section, name) = key.split_once('.')?;
    SCHEMA.get(section)?.as_table()?.get(name)
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

pub(super) fn unknown_variable(variable: &str, source: Source) -> ConfigError {
    ConfigError::Unknown {
        name: variable.to_owned(),
        nearest: nearest(variable, variables()),
        origin: source,
    }
}

/// `UPROAR_SERVER_SHARDS` is one of ours with a slip; `UPROAR_BIN` belongs to somebody else.
pub(super) fn refuse_near_variable(variable: &str, source: Source) -> Result<(), ConfigError> {
    let near = variables().any(|known| strsim::damerau_levenshtein(&known, variable) <= SLIPS_MAX);
    if near {
        Err(unknown_variable(variable, source))
    } else {
        Ok(())
    }
}

fn variables() -> impl Iterator<Item = String> {
    // Lists of tables have no place in a variable.
    keys()
        .filter(|key| key.contains('.'))
        .map(|key| format!("UPROAR_{}", key.replace('.', "__").to_ascii_uppercase()))
}

/// The most alike of `known`; the same key of another section counts as very alike.
fn nearest(wrong: &str, known: impl Iterator<Item = String>) -> Option<String> {
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
