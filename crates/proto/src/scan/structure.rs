//! Tracks the position in a JSON text, and whether its structure is intact.

/// The position of a key, as far as the structure shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Top,
    Nested,
    Unknown,
}

/// Depth, strings, and the last byte. Kinds of nested brackets are not distinguished.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub(super) struct Structure {
    depth: u32,
    // The bracket that began the text's one value.
    top: u8,
    in_string: bool,
    escaped: bool,
    // Between the colon and the comma of a member at the top.
    after_colon: bool,
    // The last byte that is neither space nor inside a string; 0: none.
    last: u8,
    position: usize,
    broken: bool,
}

impl Structure {
    pub(super) fn is_in_string(&self) -> bool {
        self.in_string
    }

    /// Whether quotes or brackets do not match, so far or because the text ends here.
    pub(super) fn is_broken(&self) -> bool {
        self.broken || self.depth > 0 || self.in_string
    }

    /// Returns the position of a key whose opening quote is the next byte.
    pub(super) fn key_place(&self) -> Place {
        if self.broken {
            return Place::Unknown;
        }
        let is_key = !self.in_string && matches!(self.last, b'{' | b',');
        if is_key && self.depth == 1 && self.top == b'{' {
            Place::Top
        } else {
            Place::Nested
        }
    }

    pub(super) fn step(&mut self, byte: u8) {
        let position = self.position;
        self.position += 1;
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => {
                    self.in_string = false;
                    self.last = b'"';
                }
                _ => {}
            }
            return;
        }
        if is_space(byte) || b"\xEF\xBB\xBF".get(position) == Some(&byte) {
            return;
        }
        // A comma or a colon must separate two values.
        let is_key_due = self.depth == 1 && self.top == b'{' && matches!(self.last, b'{' | b',');
        self.broken |= is_key_due && !matches!(byte, b'"' | b'}');
        let is_separated = matches!(self.last, 0 | b'{' | b'[' | b',' | b':');
        match byte {
            b'"' => {
                self.broken |= !is_separated;
                self.in_string = true;
            }
            b'{' | b'[' => {
                self.broken |= !is_separated;
                if self.depth == 0 {
                    self.top = byte;
                }
                self.depth += 1;
            }
            b'}' | b']' => {
                let opening = if byte == b'}' { b'{' } else { b'[' };
                self.broken |= self.depth == 0 || (self.depth == 1 && self.top != opening);
                self.depth = self.depth.saturating_sub(1);
            }
            b':' => {
                let is_second = self.depth == 1 && self.after_colon;
                self.broken |= self.last != b'"' || is_second;
                self.after_colon |= self.depth == 1;
            }
            b',' => {
                self.broken |= is_separated;
                self.after_colon &= self.depth != 1;
            }
            // Numbers and words: their form does not matter, but they must not touch a string.
            _ => self.broken |= matches!(self.last, b'"' | b'}' | b']'),
        }
        self.broken |= self.depth == 0 && !matches!(byte, b'}' | b']');
        self.last = byte;
    }
}

/// Whether a byte is white space of JSON.
pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}
