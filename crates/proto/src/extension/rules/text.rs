//! A message as rules read it: its letters, each once however often it is repeated, and where they came from.

use super::fold::{Fold, voiced};
use super::sort::{Sort, as_letter, sort};

/// A message, folded once for all rules.
#[derive(Debug)]
pub(super) struct Text {
    // One for each character that folding leaves.
    symbols: Vec<Symbol>,
    // Whether a digit or a sign may stand for a letter, and whether one of them may stand for two.
    has_digits: bool,
    has_ones: bool,
    // For each symbol whether its word, digits and signs included, has a letter; empty without any digit.
    in_words: Vec<bool>,
}

/// A folded character, and the bytes of the message that it came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbol {
    pub(super) c: char,
    pub(super) from: u32,
    pub(super) to: u32,
    sort: Sort,
}

impl Symbol {
    pub(super) fn sort(&self) -> Sort {
        self.sort
    }
}

/// What is between a letter and the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Break {
    None,
    /// An apostrophe.
    Apostrophe,
    /// Up to three signs or emojis.
    Signs,
    Space,
}

/// A letter, and how often it follows itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Letter {
    pub(super) c: char,
    pub(super) run: u32,
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) sort: Sort,
    pub(super) before: Break,
    /// Whether all of it are digits that are read as letters.
    pub(super) is_of_digits: bool,
}

/// As which letters digits and signs are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Digits {
    /// As they are.
    Plain,
    /// As letters that they look like; a one as this letter.
    Letters(char),
}

/// Signs between two letters of one word, at most: more are a pause.
pub(super) const SIGNS_MAX: u32 = 3;

impl Text {
    /// Folds a message.
    pub(super) fn new(content: &str, fold: &Fold) -> Self {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(content.len());
        let (mut has_digits, mut has_ones) = (false, false);
        let mut from = 0;
        for source in content.chars() {
            let to = from + u32::try_from(source.len_utf8()).unwrap_or(4);
            let before = symbols.len();
            fold.char(source, &mut |c| {
                if fold.is_astray(c, symbols.last().map(|last| last.c)) {
                    return;
                }
                let sort = sort(c);
                if c.is_ascii() && sort != Sort::Space && !c.is_ascii_alphabetic() {
                    has_digits |= as_letter(c, 'i').is_some();
                    has_ones |= matches!(c, '1' | '!' | '|');
                }
                symbols.push(Symbol { c, from, to, sort });
            });
            if before == symbols.len()
                && let Some(last) = symbols.last_mut()
            {
                // A mark belongs to what it stands on.
                last.to = to;
                last.c = voiced(last.c, source).unwrap_or(last.c);
            }
            from = to;
        }
        let in_words = if has_digits {
            in_words(&symbols)
        } else {
            Vec::new()
        };
        Self {
            symbols,
            has_digits,
            has_ones,
            in_words,
        }
    }

    /// The ways to read its digits.
    pub(super) fn readings(&self) -> impl Iterator<Item = Digits> {
        let all = [
            (true, Digits::Plain),
            (self.has_digits, Digits::Letters('i')),
            (self.has_ones, Digits::Letters('l')),
        ];
        all.into_iter()
            .filter_map(|(is_there, digits)| is_there.then_some(digits))
    }

    /// Its folded characters.
    pub(super) fn symbols(&self) -> &[Symbol] {
        &self.symbols
    }

    /// Its letters, read so; `None`: no digit is read as a letter.
    pub(super) fn letters(&self, digits: Digits) -> Option<Vec<Letter>> {
        let mut letters: Vec<Letter> = Vec::with_capacity(self.symbols.len());
        let mut between = Between::default();
        let mut has_read = digits == Digits::Plain;
        for (at, symbol) in self.symbols.iter().enumerate() {
            let mut symbol = *symbol;
            let mut is_of_digits = false;
            if let Digits::Letters(one) = digits
                && !symbol.c.is_ascii_alphabetic()
                && let Some(c) = as_letter(symbol.c, one)
                && self.stands_for_letter(at)
            {
                is_of_digits = symbol.c.is_ascii_digit();
                (symbol.c, symbol.sort, has_read) = (c, Sort::Letter, true);
            }
            if between.takes(&symbol) {
                continue;
            }
            let before = between.end();
            match letters.last_mut() {
                Some(last) if last.c == symbol.c && before == Break::None => {
                    last.run += 1;
                    last.to = symbol.to;
                    last.is_of_digits &= is_of_digits;
                }
                _ => letters.push(Letter {
                    c: symbol.c,
                    run: 1,
                    from: symbol.from,
                    to: symbol.to,
                    sort: symbol.sort,
                    before,
                    is_of_digits,
                }),
            }
        }
        has_read.then_some(letters)
    }

    /// Whether the digit or sign at this place is part of a word with letters, or stands alone. Numbers are no words, and what
    /// is found in digits that stand alone must have a letter beside them.
    fn stands_for_letter(&self, at: usize) -> bool {
        let of = |at: usize| self.symbols.get(at);
        let neighbours = [at.checked_sub(1).and_then(of), of(at + 1)];
        let in_word = neighbours.map(|symbol| symbol.is_some_and(is_part));
        let is_sign = of(at).is_some_and(|symbol| matches!(symbol.c, '!' | '|' | '+' | '('));
        match in_word {
            [false, false] => !is_sign,
            [true, true] => self.in_words.get(at).is_some_and(|in_word| *in_word),
            // At the end of a word these are signs.
            _ => !is_sign && self.in_words.get(at).is_some_and(|in_word| *in_word),
        }
    }
}

/// Whether a character may be part of a word, as a letter or in place of one.
fn is_part(symbol: &Symbol) -> bool {
    symbol.sort == Sort::Letter || as_letter(symbol.c, 'i').is_some()
}

fn in_words(symbols: &[Symbol]) -> Vec<bool> {
    let mut in_words = Vec::with_capacity(symbols.len());
    for word in symbols.chunk_by(|a, b| is_part(a) == is_part(b)) {
        let has_letter = word.iter().any(|symbol| symbol.c.is_alphabetic());
        in_words.extend(std::iter::repeat_n(has_letter, word.len()));
    }
    in_words
}

/// Signs and spaces since the last letter.
#[derive(Default)]
struct Between {
    signs: u32,
    has_space: bool,
    has_apostrophe: bool,
}

impl Between {
    /// Takes what is no letter.
    fn takes(&mut self, symbol: &Symbol) -> bool {
        match symbol.sort {
            Sort::Letter | Sort::Script | Sort::Emblem => return false,
            Sort::Sign => {
                self.signs += 1;
                self.has_apostrophe |= matches!(symbol.c, '\'' | '`' | '\u{2018}' | '\u{2019}');
            }
            Sort::Space => self.has_space = true,
        }
        true
    }

    fn end(&mut self) -> Break {
        let Self {
            signs,
            has_space,
            has_apostrophe,
        } = std::mem::take(self);
        match signs {
            1 if has_apostrophe && !has_space => Break::Apostrophe,
            0 if !has_space => Break::None,
            1..=SIGNS_MAX if !has_space => Break::Signs,
            _ => Break::Space,
        }
    }
}
