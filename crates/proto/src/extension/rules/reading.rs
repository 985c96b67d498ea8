//! The ways to read a message's letters as words: as they stand, spelled out letter by letter, and cut by signs.

use std::cell::Cell;
use std::ops::Range;

use super::sort::Sort;
use super::text::{Break, Letter, Text};

/// One way to read a message.
#[derive(Debug)]
pub(super) struct Reading {
    /// Its letters, with a space for whatever is between two words.
    pub(super) text: String,
    // The letters, and where each begins in `text`.
    letters: Vec<Letter>,
    starts: Vec<usize>,
    edges: Edges,
    // The word that was looked for last.
    last_word: Cell<(usize, usize)>,
}

/// Where a word may begin and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edges {
    /// Where the message's own words do.
    Words,
    /// Everywhere: each letter stood alone.
    Anywhere,
    /// At the ends of the reading.
    Whole,
}

/// Letters of a reading.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// The letters.
    pub(super) letters: &'a [Letter],
    /// Whether no word goes on before them, and behind them.
    pub(super) is_edge: [bool; 2],
    // Which of the reading's they are.
    place: Range<usize>,
}

/// Letters that stand alone one after the other, from which on they spell a word.
pub(super) const SPELLED_MIN: usize = 3;

impl Reading {
    /// All ways to read a message.
    pub(super) fn all(text: &Text) -> Vec<Self> {
        let mut all = Vec::with_capacity(2);
        for letters in text.readings().filter_map(|digits| text.letters(digits)) {
            let tokens = tokens(&letters);
            for spelled in groups(&tokens, |token| token.is_single, |_| true) {
                if spelled.len() >= SPELLED_MIN {
                    all.push(Self::joined(&letters, spelled, Edges::Anywhere));
                }
            }
            for cut in groups(&tokens, |token| token.is_word, |token| token.is_cut) {
                if cut.len() > 1 {
                    all.push(Self::joined(&letters, cut, Edges::Whole));
                }
            }
            all.push(Self::new(letters, Edges::Words));
        }
        all
    }

    /// What a pattern is: read plainly.
    pub(super) fn plain(letters: Vec<Letter>) -> Self {
        Self::new(letters, Edges::Words)
    }

    fn new(letters: Vec<Letter>, edges: Edges) -> Self {
        let mut text = String::with_capacity(2 * letters.len());
        let mut starts = Vec::with_capacity(letters.len());
        for letter in &letters {
            if letter.before != Break::None && !text.is_empty() {
                text.push(' ');
            }
            starts.push(text.len());
            text.push(letter.c);
        }
        Self {
            text,
            letters,
            starts,
            edges,
            last_word: Cell::default(),
        }
    }

    fn joined(letters: &[Letter], tokens: &[Token], edges: Edges) -> Self {
        let mut joined: Vec<Letter> = Vec::new();
        let of = |token: &Token| letters.get(token.letters.clone()).unwrap_or_default();
        for letter in tokens.iter().flat_map(of) {
            match joined.last_mut() {
                Some(last) if last.c == letter.c => {
                    last.run += letter.run;
                    last.to = letter.to;
                    last.is_of_digits &= letter.is_of_digits;
                }
                _ => joined.push(Letter {
                    before: Break::None,
                    ..*letter
                }),
            }
        }
        Self::new(joined, edges)
    }

    /// How often each letter follows itself.
    pub(super) fn runs(&self) -> Box<[u32]> {
        self.letters.iter().map(|letter| letter.run).collect()
    }

    /// The letters of these bytes of the text.
    pub(super) fn at(&self, bytes: Range<usize>) -> Option<Found<'_>> {
        let first = self.starts.binary_search(&bytes.start).ok()?;
        let behind = self.starts.partition_point(|start| *start < bytes.end);
        let is_edge = [first, behind].map(|at| self.ends_at(at));
        let letters = self.letters.get(first..behind)?;
        Some(Found {
            letters,
            is_edge,
            place: first..behind,
        })
    }

    /// The bytes of the message that letters came from; with the rest of their words, where the pattern is open.
    pub(super) fn source(&self, found: &Found<'_>, is_open: [bool; 2]) -> Range<u32> {
        let Range { mut start, mut end } = found.place.clone();
        let [before, behind] = is_open;
        if before {
            start = self.word_at(start).start;
        }
        if behind {
            end = self.word_at(end.saturating_sub(1)).end;
        }
        let letters = self.letters.get(start..end).unwrap_or_default();
        let (from, to) = (letters.first(), letters.last());
        from.map_or(0, |letter| letter.from)..to.map_or(0, |letter| letter.to)
    }

    /// The word that has the letter at this place. A word is looked for once, however many patterns hit it.
    fn word_at(&self, at: usize) -> Range<usize> {
        let (mut start, mut end) = self.last_word.get();
        if !(start..end).contains(&at) {
            (start, end) = (at, at + 1);
            while !self.ends_at(start) {
                start -= 1;
            }
            while !self.ends_at(end) {
                end += 1;
            }
            self.last_word.set((start, end));
        }
        start..end
    }

    /// Whether no word goes on across this place.
    fn ends_at(&self, at: usize) -> bool {
        match self.edges {
            Edges::Anywhere => true,
            Edges::Whole => at == 0 || at >= self.letters.len(),
            Edges::Words => self.is_edge(at),
        }
    }

    /// Whether a word ends, or begins, before the letter at this place.
    fn is_edge(&self, at: usize) -> bool {
        let before = at
            .checked_sub(1)
            .and_then(|before| self.letters.get(before));
        let (Some(before), Some(letter)) = (before, self.letters.get(at)) else {
            return true;
        };
        letter.before != Break::None || [before, letter].map(|side| side.sort) != [Sort::Letter; 2]
    }
}

/// Letters without a sign or space between them.
#[derive(Debug)]
struct Token {
    letters: Range<usize>,
    // Whether it is one letter, however often; whether it is of letters that have words.
    is_single: bool,
    is_word: bool,
    // Whether signs or emojis alone are between it and the one before, and it is no end of a short form.
    is_cut: bool,
}

/// Ends of short forms behind an apostrophe, as in "he'll": with what is before they are another word than without it.
const SHORT_FORMS: &[&str] = &["ll", "re", "ve", "s", "d", "m"];

/// Whether letters behind an apostrophe are a short form's end; also the "t" of "can't".
fn is_short_form(letters: &[Letter], before: Option<&Letter>) -> bool {
    if letters.iter().map(|letter| letter.run).sum::<u32>() > 2 {
        return false;
    }
    let of = |letter: &Letter| (0..letter.run).map(|_| letter.c).collect::<String>();
    let end: String = letters.iter().map(of).collect();
    SHORT_FORMS.contains(&&*end) || (end == "t" && before.is_some_and(|letter| letter.c == 'n'))
}

fn tokens(letters: &[Letter]) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let (mut is_open, mut has_space) = (false, true);
    for (at, letter) in letters.iter().enumerate() {
        has_space |= letter.before == Break::Space;
        if letter.sort == Sort::Emblem {
            is_open = false;
            continue;
        }
        let is_word = letter.sort == Sort::Letter;
        match tokens.last_mut() {
            Some(token) if is_open && letter.before == Break::None => {
                token.letters.end = at + 1;
                token.is_single = false;
                token.is_word &= is_word;
            }
            _ => tokens.push(Token {
                letters: at..at + 1,
                is_single: is_word,
                is_word,
                is_cut: !has_space,
            }),
        }
        (is_open, has_space) = (true, false);
    }
    for token in &mut tokens {
        let own = letters.get(token.letters.clone()).unwrap_or_default();
        let has_apostrophe = own
            .first()
            .is_some_and(|letter| letter.before == Break::Apostrophe);
        if has_apostrophe {
            let before = token.letters.start.checked_sub(1);
            let before = before.and_then(|before| letters.get(before));
            token.is_cut &= !is_short_form(own, before);
        }
    }
    tokens
}

/// Longest runs of tokens that are such, each but the first tied to the one before.
fn groups(
    tokens: &[Token],
    is_such: impl Fn(&Token) -> bool,
    is_tied: impl Fn(&Token) -> bool,
) -> impl Iterator<Item = &[Token]> {
    tokens.chunk_by(move |before, after| is_such(before) && is_such(after) && is_tied(after))
}
