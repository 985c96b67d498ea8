//! One member of a JSON object, read out of text that may be broken, cut off, or too long to keep.
//!
//! An ERROR must name the request that it answers, and a review handler's denial must hold, also when
//! the text around them is no JSON. A strict parser says nothing of such text; this scanner reads it
//! byte by byte, as it arrives, and keeps one string. It runs only where a strict parser has refused,
//! or has no say: never for a valid request.

mod structure;
mod surrogates;

use structure::Structure;
pub use surrogates::mend_lone_surrogates;

/// Scans for a top-level string member; its memory does not grow with the text.
///
/// The member is looked for where the object's structure says that a top-level key stands, keys in any
/// letter case. Of several the first counts that is accepted. Where the structure turns out to be broken
/// (a quote or a bracket too many or too few), position means nothing any more; then any `"key":"value"`
/// whose quotes are not escaped counts. Text inside a valid string never does: its quotes are escaped.
#[derive(Debug)]
pub struct Scan {
    wanted: &'static str,
    accept: fn(&str) -> bool,
    value_bytes_max: usize,
    structure: Structure,
    matching: Matching,
    // Where the candidate's key stands.
    place: Place,
    // The last byte was a backslash that escapes the next, wherever strings begin and end.
    escaped: bool,
    raw: Vec<u8>,
    certain: Option<String>,
    doubtful: Option<(Place, String)>,
}

/// How far a candidate has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Matching {
    Nothing,
    Key,
    Colon,
    Quote,
    Value,
}

/// Where a key stands, as far as the structure can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    Nested,
    Unknown,
}

impl Scan {
    /// Scans for `wanted`, whose value is at most `value_bytes_max` bytes as it is written and which
    /// `accept` takes.
    pub fn new(wanted: &'static str, value_bytes_max: usize, accept: fn(&str) -> bool) -> Self {
        Self {
            wanted,
            accept,
            value_bytes_max,
            structure: Structure::default(),
            matching: Matching::Nothing,
            place: Place::Unknown,
            escaped: false,
            raw: Vec::new(),
            certain: None,
            doubtful: None,
        }
    }

    /// Reads the next bytes of the text.
    pub fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.step(*byte);
        }
    }

    /// The member's value, if it can be read; call when the text ends.
    pub fn value(&self) -> Option<&str> {
        let doubtful = self
            .doubtful
            .as_ref()
            .filter(|_| self.structure.is_broken());
        self.certain
            .as_deref()
            .or(doubtful.map(|(_, value)| value.as_str()))
    }

    fn step(&mut self, byte: u8) {
        let place = self.structure.key_place();
        let escaped = std::mem::take(&mut self.escaped);
        self.escaped = byte == b'\\' && !escaped;
        let is_quote = byte == b'"' && !escaped;
        // Outside of strings a backslash escapes nothing: a fault, behind which a key may begin.
        let is_stray = byte == b'"' && escaped && !self.structure.is_in_string();
        match self.matching {
            Matching::Value if is_quote => {
                self.take_value();
                self.begin_key(place);
            }
            Matching::Key if is_quote => {
                let is_wanted =
                    unescaped(&self.raw).is_some_and(|key| key.eq_ignore_ascii_case(self.wanted));
                if is_wanted {
                    self.matching = Matching::Colon;
                } else {
                    // What ended one string may begin the next, if quotes are missing.
                    self.begin_key(place);
                }
            }
            Matching::Quote if is_quote => {
                self.raw.clear();
                self.matching = Matching::Value;
            }
            Matching::Nothing | Matching::Colon | Matching::Quote if is_quote => {
                self.begin_key(place);
            }
            Matching::Nothing | Matching::Key if is_stray => self.begin_key(place),
            Matching::Key => self.collect(byte, 6 * self.wanted.len()),
            Matching::Value => self.collect(byte, self.value_bytes_max),
            Matching::Colon if byte == b':' => self.matching = Matching::Quote,
            Matching::Colon | Matching::Quote if is_space(byte) => {}
            Matching::Colon | Matching::Quote | Matching::Nothing => {
                self.matching = Matching::Nothing;
            }
        }
        self.structure.step(byte);
    }

    fn begin_key(&mut self, place: Place) {
        self.raw.clear();
        self.place = place;
        self.matching = Matching::Key;
    }

    fn collect(&mut self, byte: u8, bytes_max: usize) {
        if self.raw.len() < bytes_max {
            self.raw.push(byte);
        } else {
            self.matching = Matching::Nothing;
        }
    }

    fn take_value(&mut self) {
        let Some(value) = unescaped(&self.raw).filter(|value| (self.accept)(value)) else {
            return;
        };
        match (self.place, &self.doubtful) {
            (Place::Top, _) => {
                self.certain.get_or_insert(value);
            }
            // Behind a break of the structure the first counts, in front of one the last: the break
            // is then a bracket that is missing.
            (_, Some((Place::Unknown, _))) => {}
            (place, _) => self.doubtful = Some((place, value)),
        }
    }
}

/// What a string means that is written so; `None` if it is no string.
fn unescaped(raw: &[u8]) -> Option<String> {
    if !raw.contains(&b'\\') {
        let text = std::str::from_utf8(raw).ok()?;
        return (!text.contains(|letter| letter < ' ')).then(|| text.to_owned());
    }
    let mut quoted = Vec::with_capacity(raw.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(raw);
    quoted.push(b'"');
    mend_lone_surrogates(&mut quoted);
    serde_json::from_slice(&quoted).ok()
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests;
