//! An operation's input, member by member. The SDKs check little (boto3 no patterns and no maxima,
//! JavaScript nothing), so everything is checked here, and all faults of a request are reported at
//! once.

mod json;
pub(super) mod pattern;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use json::Json;
use pattern::Pattern;

use super::fault::{Fault, FieldFault};
use crate::logging::bounded;
use uproar_proto::base::limits::ATTRIBUTES_BYTES_MAX;

/// A JSON object being read. `null` is the same as absent; unknown members are ignored.
#[derive(Debug)]
pub(super) struct Input {
    members: Map<String, Value>,
    faults: Vec<FieldFault>,
}

impl Input {
    /// Parses a body; an empty one is an empty object.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Fault> {
        let members = if body.is_empty() {
            Map::new()
        } else {
            match serde_json::from_slice(body) {
                Ok(Json(Value::Object(members))) => members,
                Ok(Json(_)) => return Err(Fault::Body("Request body must be a JSON object")),
                Err(_) => return Err(Fault::Body("Request body is not valid JSON")),
            }
        };
        Ok(Self {
            members,
            faults: Vec::new(),
        })
    }

    /// A string member, not consumed.
    pub(super) fn peek(&self, name: &str) -> Option<&str> {
        self.members.get(name).and_then(Value::as_str)
    }

    /// A string of a nested object, not consumed.
    pub(super) fn peek_in(&self, object: &str, name: &str) -> Option<&str> {
        self.members.get(object)?.get(name)?.as_str()
    }

    /// A member that is a string, or strings with a space between each two, not consumed.
    pub(super) fn peek_all(&self, name: &str) -> Option<String> {
        match self.members.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Array(texts) => {
                let texts = texts.iter().filter_map(Value::as_str);
                Some(texts.collect::<Vec<_>>().join(" "))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
        }
    }

    /// The strings of a nested object, not consumed.
    pub(super) fn peek_pairs(&self, object: &str) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.members.get(object).and_then(Value::as_object);
        let pairs = pairs.into_iter().flatten();
        pairs.map(|(key, value)| (&**key, value.as_str().unwrap_or_default()))
    }

    /// A string with a number of code points in `chars` that matches a pattern.
    pub(super) fn text(
        &mut self,
        name: &str,
        chars: RangeInclusive<usize>,
        pattern: Pattern,
    ) -> Option<String> {
        let Value::String(text) = self.take(name)? else {
            self.fault(name, "must be a string");
            return None;
        };
        let (least, most) = (chars.start(), chars.end());
        if !chars.contains(&text.chars().count()) {
            self.fault(name, format!("must have {least} to {most} characters"));
        } else if !(pattern.admits)(&text) {
            self.fault(name, format!("must match {}", pattern.text));
        } else {
            return Some(text);
        }
        None
    }

    /// Like [`Input::text`], for a required member. Returns the empty string after a fault.
    pub(super) fn required_text(
        &mut self,
        name: &str,
        chars: RangeInclusive<usize>,
        pattern: Pattern,
    ) -> String {
        if !self.has(name) {
            self.fault(name, "is required");
            return String::new();
        }
        self.text(name, chars, pattern).unwrap_or_default()
    }

    /// Whether a member is present.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|value| !value.is_null())
    }

    /// An integer in a range.
    pub(super) fn integer(&mut self, name: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.take(name)?;
        let integer = value.as_u64().and_then(|value| u32::try_from(value).ok());
        if integer.is_none_or(|integer| !range.contains(&integer)) {
            let (least, most) = (range.start(), range.end());
            self.fault(name, format!("must be an integer from {least} to {most}"));
            return None;
        }
        integer
    }

    /// True or false.
    pub(super) fn boolean(&mut self, name: &str) -> Option<bool> {
        let value = self.take(name)?.as_bool();
        if value.is_none() {
            self.fault(name, "must be true or false");
        }
        value
    }

    /// A map of strings; bounds the code points of each key and value, the number of pairs and
    /// their total bytes.
    pub(super) fn map(
        &mut self,
        name: &str,
        key_chars: RangeInclusive<usize>,
        value_chars: RangeInclusive<usize>,
        (count_max, bytes_max): (usize, usize),
    ) -> Option<BTreeMap<String, String>> {
        let Value::Object(object) = self.take(name)? else {
            self.fault(name, "must be an object of strings");
            return None;
        };
        if object.len() > count_max {
            self.fault(name, too_many(count_max, "entries", object.len()));
            return None;
        }
        let mut map = BTreeMap::new();
        let mut bytes = 0;
        for (key, value) in object {
            let Value::String(value) = value else {
                self.fault(name, "must be an object of strings");
                return None;
            };
            for (text, chars, what) in
                [(&key, &key_chars, "keys"), (&value, &value_chars, "values")]
            {
                let (least, most) = (chars.start(), chars.end());
                let found = text.chars().count();
                if !chars.contains(&found) {
                    let must = format!("{what} must have {least} to {most} characters");
                    self.fault(name, format!("{must}; one has {found}"));
                    return None;
                }
            }
            bytes += key.len() + value.len();
            map.insert(key, value);
        }
        if bytes > bytes_max {
            let what = "bytes, keys and values together";
            self.fault(name, too_many(bytes_max, what, bytes));
            return None;
        }
        Some(map)
    }

    /// Attributes of a token or an event: 1 KB together.
    pub(super) fn attributes(&mut self, name: &str) -> Option<BTreeMap<String, String>> {
        let any = 0..=usize::MAX;
        self.map(name, any.clone(), any, (usize::MAX, ATTRIBUTES_BYTES_MAX))
    }

    /// A list of strings that match a pattern.
    pub(super) fn list(
        &mut self,
        name: &str,
        count_max: usize,
        pattern: Pattern,
    ) -> Option<Vec<String>> {
        let Value::Array(values) = self.take(name)? else {
            self.fault(name, "must be a list of strings");
            return None;
        };
        if values.len() > count_max {
            self.fault(name, too_many(count_max, "entries", values.len()));
            return None;
        }
        let mut texts = Vec::with_capacity(values.len());
        for value in values {
            match value {
                Value::String(text) if (pattern.admits)(&text) => texts.push(text),
                Value::String(_) => {
                    self.fault(name, format!("entries must match {}", pattern.text));
                    return None;
                }
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::Array(_)
                | Value::Object(_) => {
                    self.fault(name, "must be a list of strings");
                    return None;
                }
            }
        }
        Some(texts)
    }

    /// A list of objects, each to be read and finished by itself.
    pub(super) fn objects(&mut self, name: &str, count_max: usize) -> Option<Vec<Self>> {
        let must = "must be a list of objects";
        let Value::Array(values) = self.take(name)? else {
            self.fault(name, must);
            return None;
        };
        if values.len() > count_max {
            self.fault(name, too_many(count_max, "entries", values.len()));
            return None;
        }
        let object = |value| match value {
            Value::Object(members) => Some(Self {
                members,
                faults: Vec::new(),
            }),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => None,
        };
        let objects: Option<Vec<Self>> = values.into_iter().map(object).collect();
        if objects.is_none() {
            self.fault(name, must);
        }
        objects
    }

    /// A nested object; its faults are reported under `name.`.
    pub(super) fn object<T>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let Value::Object(members) = self.take(name)? else {
            self.fault(name, "must be an object");
            return None;
        };
        let mut nested = Self {
            members,
            faults: Vec::new(),
        };
        let value = read(&mut nested);
        self.faults
            .extend(nested.faults.into_iter().map(|fault| FieldFault {
                name: format!("{name}.{}", fault.name),
                message: fault.message,
            }));
        Some(value)
    }

    /// Adds a fault found elsewhere.
    pub(super) fn fault(&mut self, name: &str, message: impl Into<String>) {
        self.faults.push(FieldFault {
            name: name.to_owned(),
            message: message.into(),
        });
    }

    /// Whether a fault was found.
    pub(super) fn is_faulty(&self) -> bool {
        !self.faults.is_empty()
    }

    /// All faults at once.
    pub(super) fn finish(self) -> Result<(), Fault> {
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(Fault::Fields(self.faults))
        }
    }

    /// Like [`Input::finish`], and refuses members that nobody has read: of an act on a whole server a misspelt
    /// member must not be left out.
    pub(super) fn finish_known(mut self) -> Result<(), Fault> {
        let unread = std::mem::take(&mut self.members);
        for (name, value) in &unread {
            if !value.is_null() {
                self.fault(&bounded(name), "is unknown here");
            }
        }
        self.finish()
    }

    /// Like [`Input::finish`], with a required member.
    pub(super) fn finish_with<T>(mut self, name: &str, value: Option<T>) -> Result<T, Fault> {
        let Some(value) = value else {
            let explained = |fault: &FieldFault| fault.name.starts_with(name);
            if !self.faults.iter().any(explained) {
                self.fault(name, "is required");
            }
            return Err(Fault::Fields(self.faults));
        };
        self.finish().map(|()| value)
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name).filter(|value| !value.is_null())
    }
}

/// The message about more of something than there may be.
pub(super) fn too_many(most: usize, what: &str, found: usize) -> String {
    format!("must have at most {most} {what}; there are {found}")
}
