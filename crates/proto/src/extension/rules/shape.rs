//! Messages that are too loud, whatever they say: in capitals, or the same again and again.

use super::sort::Sort;
use super::text::Symbol;
use crate::base::limits::{CAPS_LETTERS_MIN, CAPS_PERCENT_MAX, REPEATED_CHARS, REPEATED_WORDS};

/// Whether a message is in capitals.
pub(super) fn is_loud(content: &str) -> bool {
    let (mut capitals, mut small) = (0_usize, 0_usize);
    for c in content.chars() {
        capitals += usize::from(c.is_uppercase());
        small += usize::from(c.is_lowercase());
    }
    let letters = capitals + small;
    letters >= CAPS_LETTERS_MIN && capitals * 100 > letters * CAPS_PERCENT_MAX
}

/// Whether a character or a word follows itself too often.
pub(super) fn is_repetitive(symbols: &[Symbol]) -> bool {
    let is_same = |a: &Symbol, b: &Symbol| a.c == b.c && a.sort() != Sort::Space;
    let mut runs = symbols.chunk_by(is_same);
    if runs.any(|run| run.len() >= REPEATED_CHARS) {
        return true;
    }
    let words = symbols.split(|symbol| symbol.sort() == Sort::Space);
    let (mut last, mut count): (&[Symbol], usize) = (&[], 0);
    for word in words.filter(|word| !word.is_empty()) {
        let is_same = word.len() == last.len() && word.iter().zip(last).all(|(a, b)| a.c == b.c);
        count = if is_same { count + 1 } else { 1 };
        last = word;
        if count >= REPEATED_WORDS {
            return true;
        }
    }
    false
}
