//! What characters are to words, and which letters signs look like.

/// What a character is to a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// A letter or digit of a word that has its end at a space or sign.
    Letter,
    /// A character of a script without spaces between words.
    Script,
    /// An emoji, or another sign that means something.
    Emblem,
    /// A sign between words.
    Sign,
    /// White space.
    Space,
}

/// Which letter a digit or sign looks like.
pub(super) fn as_letter(c: char, one: char) -> Option<char> {
    Some(match c {
        '0' => 'o',
        '1' | '!' | '|' => one,
        '3' | '€' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' | '+' => 't',
        '8' => 'b',
        '9' => 'g',
        '(' => 'c',
        _ => return None,
    })
}

/// What a folded character is.
pub(super) fn sort(c: char) -> Sort {
    if c.is_ascii() {
        return if c.is_ascii_alphanumeric() {
            Sort::Letter
        } else if c.is_ascii_whitespace() || c.is_ascii_control() {
            Sort::Space
        } else {
            Sort::Sign
        };
    }
    match c {
        '\u{2010}'..='\u{2027}'
        | '\u{2030}'..='\u{205e}'
        | '\u{3001}'..='\u{3003}'
        | '\u{3008}'..='\u{3020}'
        | '\u{3030}'
        | '\u{30fb}'
        | '\u{964}'
        | '\u{965}'
        | '\u{a1}'
        | '\u{a6}'..='\u{a9}'
        | '\u{ab}'..='\u{b7}'
        | '\u{bb}'
        | '\u{bf}' => Sort::Sign,
        // Thai, Lao, Burmese, Khmer; Chinese, Japanese, Korean.
        '\u{e00}'..='\u{eff}'
        | '\u{1000}'..='\u{109f}'
        | '\u{1780}'..='\u{17ff}'
        | '\u{2e80}'..='\u{2fdf}'
        | '\u{3005}'..='\u{3007}'
        | '\u{3021}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}' => Sort::Script,
        // Indian scripts, whose signs of vowels are no letters to Unicode.
        '\u{900}'..='\u{dff}' => Sort::Letter,
        c if c.is_whitespace() || c.is_control() => Sort::Space,
        c if c.is_alphanumeric() => Sort::Letter,
        _ => Sort::Emblem,
    }
}
