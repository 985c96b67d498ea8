//! Four layers, lowest first: default, file, environment, flag. Each value keeps its source.

use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::defaults::defaults;
use super::error::ConfigError;
use super::flags::Flags;
use super::mode::Mode;
use super::raw::{Profile, Raw};
use super::schema::SCHEMA;
use super::source::{Source, Sources};
use super::{access_keys, names, types, variables};

/// One value of one layer.
struct Entry {
    key: String,
    value: Value,
    source: Source,
}

/// Merges the layers. Unknown names are refused in each of them.
pub(super) fn merge(
    mode: Mode,
    file: Option<(&Path, &str)>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &Flags,
) -> Result<(Raw, Sources), ConfigError> {
    let mut entries = match file {
        Some((path, text)) => from_file(path, text)?,
        None => Vec::new(),
    };
    for variable in environment {
        entries.extend(from_environment(variable)?);
    }
    entries.extend(flags.values().into_iter().map(|(key, flag, value)| Entry {
        key: key.to_owned(),
        value,
        source: Source::Flag(flag),
    }));

    for Entry { key, value, source } in &entries {
        types::check(key, value, source)?;
    }
    let highest = |key: &str| entries.iter().rev().find(|entry| entry.key == key);
    let profile = highest("quotas.profile").map(|entry| entry.value.as_str());
    let profile = match profile.flatten() {
        Some("open") => Profile::Open,
        _ => Profile::Aws,
    };
    let shards = highest("server.shards").and_then(|entry| entry.value.as_integer());
    let shards = shards.and_then(|count| usize::try_from(count).ok());
    let mut table = Table::try_from(defaults(mode, profile, shards))
        .expect("defaults are strings, numbers and lists");
    let mut sources = Sources::default();
    let has_access_key = put(entries, &mut table, &mut sources)?;
    let mut raw = Raw::deserialize(table).map_err(|error| {
        let detail = error.to_string().trim_end().replace('\n', " ");
        let blamed = sources.named_in(&detail);
        let plain = blamed.and_then(|(key, _)| types::too_large(&detail, key));
        ConfigError::Type {
            origin: blamed.map(|(_, source)| source.clone()),
            detail: plain.unwrap_or(detail),
        }
    })?;
    if let Some(last) = raw.keys.last_mut().filter(|_| has_access_key) {
        last.is_of_variables = true;
    }
    Ok((raw, sources))
}

/// Puts each value in its place. Says whether variables give an access key; it is the last one.
fn put(entries: Vec<Entry>, table: &mut Table, sources: &mut Sources) -> Result<bool, ConfigError> {
    let mut access_key = Table::new();
    for Entry { key, value, source } in entries {
        match key.split_once('.') {
            Some(("keys", name)) => {
                access_key.insert(name.to_owned(), value);
            }
            Some((section, name)) => {
                if let Some(Value::Table(section)) = table.get_mut(section) {
                    section.insert(name.to_owned(), value);
                }
            }
            None => {
                table.insert(key.clone(), value);
            }
        }
        sources.set(key, source);
    }
    let is_given = !access_key.is_empty();
    if is_given {
        add_access_key(table, access_key, sources)?;
    }
    Ok(is_given)
}

/// Adds the key that variables give to those of the file.
fn add_access_key(
    table: &mut Table,
    access_key: Table,
    sources: &Sources,
) -> Result<(), ConfigError> {
    for key in access_keys::VARIABLES {
        let origin = sources.of(key);
        if origin != Source::Default && !access_key.contains_key("id") {
            let required = "keys.id";
            return Err(ConfigError::Requires {
                key,
                origin,
                required,
            });
        }
    }
    // Anything else is refused as what it is.
    if let Some(Value::Array(keys)) = table.get_mut("keys") {
        keys.push(Value::Table(access_key));
    }
    Ok(())
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "tables are taken apart, values are kept"
)]
fn from_file(path: &Path, text: &str) -> Result<Vec<Entry>, ConfigError> {
    let source = Source::File(path.to_owned());
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| ConfigError::Syntax {
            origin: source.clone(),
            detail: error.to_string().trim_end().to_owned(),
        })?;
    let mut entries = Vec::new();
    for (section, value) in table {
        match value {
            Value::Table(values) => {
                if !matches!(SCHEMA.get(&section), Some(Value::Table(_))) {
                    return Err(names::unknown_section(&section, source));
                }
                for (name, value) in values {
                    entries.push(Entry {
                        key: format!("{section}.{name}"),
                        value,
                        source: source.clone(),
                    });
                }
            }
            value => entries.push(Entry {
                key: section,
                value,
                source: source.clone(),
            }),
        }
    }
    for entry in &entries {
        if !names::is_known(&entry.key) {
            return Err(names::unknown_key(&entry.key, source));
        }
    }
    Ok(entries)
}

/// `UPROAR_SECTION__KEY`.
fn from_environment((variable, text): (String, String)) -> Result<Option<Entry>, ConfigError> {
    let Some(key) = variables::key_of(&variable, &text)? else {
        return Ok(None);
    };
    let source = Source::Environment(variable);
    let value = match names::kind(&key).expect("a variable of ours has a key") {
        Value::String(_) => Value::String(text),
        Value::Array(_) => {
            let parts = text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty());
            Value::Array(parts.map(Value::from).collect())
        }
        Value::Integer(_)
        | Value::Boolean(_)
        | Value::Float(_)
        | Value::Datetime(_)
        | Value::Table(_) => match text.parse::<i64>() {
            Ok(number) => Value::Integer(number),
            // Neither: the type check refuses it by name.
            Err(_) => text.parse().map_or(Value::String(text), Value::Boolean),
        },
    };
    Ok(Some(Entry { key, value, source }))
}
