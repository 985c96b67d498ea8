//! Reads one member of a JSON object from text that may be broken, cut off, or too long to keep.
//!
//! An ERROR must name the request that it answers, and a review handler's denial must hold, even if
//! the text around them is not JSON. A strict parser gives no result for such text; this scanner
//! reads it byte by byte, as it arrives, and keeps one string. It runs only where a strict parser
//! has refused or cannot run: never for a valid request.

mod structure;
mod surrogates;

use structure::{Place, Structure, is_space};
pub use surrogates::mend_lone_surrogates;

/// Scans for a top-level string member; its memory does not grow with the text.
///
/// The scanner looks for the member where the object's structure has a top-level key, in any letter
/// case. Of several members the first accepted one is used. Where the structure is broken (a quote
/// or a bracket too many or too few), positions have no meaning; then any `"key":"value"` whose
/// quotes are not escaped is used. Text inside a valid string never is, because its quotes are
/// escaped.
#[derive(Debug)]
pub struct Scan {
    wanted: &'static str,
    accept: fn(&str) -> bool,
    value_bytes_max: usize,
    structure: Structure,
    matching: Matching,
    // The position of the candidate's key.
    place: Place,
    // The last byte was a backslash that escapes the next, inside or outside strings.
    escaped: bool,
    raw: Vec<u8>,
    certain: Option<String>,
    doubtful: Option<(Place, String)>,
}

/// The progress of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Matching {
    Nothing,
    Key,
    Colon,
    Quote,
    Value,
}

impl Scan {
    /// Makes a scan for `wanted`, whose value has at most `value_bytes_max` bytes with its escapes,
    /// and which `accept` takes.
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

    /// Returns the member's value, if it could be read; call it when the text ends.
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
        // A backslash outside strings is a fault, after which a key may begin.
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
                    // If quotes are missing, the end of one string may be the beginning of the
                    // next.
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
            // After a break of the structure the first member is used, before one the last: the
            // break is then a missing bracket.
            (_, Some((Place::Unknown, _))) => {}
            (place, _) => self.doubtful = Some((place, value)),
        }
    }
}

/// Unescapes a string; `None` if it is not a valid one.
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

#[cfg(test)]
mod tests;
