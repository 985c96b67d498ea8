//! An operation's input, member by member. The SDKs check little (boto3 no patterns and no maxima,
//! JavaScript nothing), so everything is checked here, and every fault of a request is reported at once.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::fault::{Fault, FieldFault};

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
                Ok(Value::Object(members)) => members,
                Ok(_) => return Err(Fault::Body("Request body must be a JSON object")),
                Err(_) => return Err(Fault::Body("Request body is not valid JSON")),
            }
        };
        Ok(Self {
            members,
            faults: Vec::new(),
        })
    }

    /// A string of so many code points, for which `valid` holds.
    pub(super) fn text(
        &mut self,
        name: &str,
        chars: RangeInclusive<usize>,
        valid: impl Fn(&str) -> bool,
    ) -> Option<String> {
        match self.take(name)? {
            Value::String(text) if chars.contains(&text.chars().count()) && valid(&text) => {
                return Some(text);
            }
            Value::String(_) => {
                let (least, most) = (chars.start(), chars.end());
                self.fault(
                    name,
                    format!("must have {least} to {most} characters of its pattern"),
                );
            }
            _ => self.fault(name, "must be a string"),
        }
        None
    }

    /// As [`Input::text`], and it must be there. The empty string stands in after a fault.
    pub(super) fn required_text(
        &mut self,
        name: &str,
        chars: RangeInclusive<usize>,
        valid: impl Fn(&str) -> bool,
    ) -> String {
        if !self.has(name) {
            self.fault(name, "is required");
            return String::new();
        }
        self.text(name, chars, valid).unwrap_or_default()
    }

    /// Whether a member is there.
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

    /// A map of strings, each pair valid, at most `count_max` pairs and `bytes_max` bytes together.
    pub(super) fn map(
        &mut self,
        name: &str,
        count_max: usize,
        bytes_max: usize,
        valid: impl Fn(&str, &str) -> bool,
    ) -> Option<BTreeMap<String, String>> {
        let Value::Object(object) = self.take(name)? else {
            self.fault(name, "must be an object of strings");
            return None;
        };
        let count = object.len();
        let mut map = BTreeMap::new();
        for (key, value) in object {
            match value {
                Value::String(value) if valid(&key, &value) => drop(map.insert(key, value)),
                _ => {
                    self.fault(
                        name,
                        "has a key or value that is not a string of its pattern",
                    );
                    return None;
                }
            }
        }
        let bytes: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
        if count > count_max || bytes > bytes_max {
            self.fault(
                name,
                format!("may have {count_max} entries and {bytes_max} bytes"),
            );
            return None;
        }
        Some(map)
    }

    /// A list of strings.
    pub(super) fn list(
        &mut self,
        name: &str,
        count_max: usize,
        valid: impl Fn(&str) -> bool,
    ) -> Option<Vec<String>> {
        let Value::Array(values) = self.take(name)? else {
            self.fault(name, "must be a list of strings");
            return None;
        };
        let texts: Option<Vec<String>> = values
            .into_iter()
            .map(|value| match value {
                Value::String(text) if valid(&text) => Some(text),
                _ => None,
            })
            .collect();
        match texts {
            Some(texts) if texts.len() <= count_max => return Some(texts),
            Some(_) => self.fault(name, format!("may have {count_max} entries")),
            None => self.fault(name, "has an entry that is not a string of its pattern"),
        }
        None
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

    /// Notes a fault found elsewhere.
    pub(super) fn fault(&mut self, name: &str, message: impl Into<String>) {
        self.faults.push(FieldFault {
            name: name.to_owned(),
            message: message.into(),
        });
    }

    /// Every fault at once.
    pub(super) fn finish(self) -> Result<(), Fault> {
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(Fault::Fields(self.faults))
        }
    }

    /// As [`Input::finish`], with a member that must be there.
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

/// Any text.
pub(super) fn any(_: &str) -> bool {
    true
}

/// `[a-zA-Z0-9-_]*`.
pub(super) fn name_pattern(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// `^$|^arn:aws:lambda:[a-z0-9-]+:[0-9]{12}:function:.+`.
pub(super) fn lambda_pattern(text: &str) -> bool {
    let arn = || {
        let rest = text.strip_prefix("arn:aws:lambda:")?;
        let (region, rest) = rest.split_once(':')?;
        let (account, rest) = rest.split_once(':')?;
        let name = rest.strip_prefix("function:")?;
        let region_ok = !region.is_empty()
            && region
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let account_ok = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        (region_ok && account_ok && !name.is_empty()).then_some(())
    };
    text.is_empty() || arn().is_some()
}

/// `[a-z0-9-.]+`, an S3 bucket.
pub(super) fn bucket_pattern(text: &str) -> bool {
    let admits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    text.bytes().all(admits)
}

/// `[\.\-_/#A-Za-z0-9]+`, a log group.
pub(super) fn log_group_pattern(text: &str) -> bool {
    let admits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_/#".contains(&byte);
    text.bytes().all(admits)
}

/// `[a-zA-Z0-9_.-]+`, a Firehose stream.
pub(super) fn stream_pattern(text: &str) -> bool {
    let admits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    text.bytes().all(admits)
}
