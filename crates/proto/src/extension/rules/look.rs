//! A look at a message before it is read: which words it may have, and beginnings and parts of words, by their hashes. Most
//! messages have none of a set's words and are read no further.
//!
//! It may take a message for more than it is, never for less. Letters, and digits and signs that are read as them, are one class
//! each, so that one pass stands for all readings; what it cannot tell it calls unsure.

use super::fold::{self, Fold};
use super::glyph::{Glyph, Kind};
use super::hash::{Word, one, two};
use super::text::{SIGNS_MAX, Symbol};

/// Letters that stand alone one after the other, from which on they may spell a word.
const SPELLED_MIN: usize = super::reading::SPELLED_MIN;
/// What a look at a message has seen.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) words: Vec<u64>,
    // Behind each letter of each word, if asked for: the word up to it, and its last letters.
    pub(super) letters: Vec<(u64, u64)>,
    // Characters of scripts without spaces and emojis, and pairs of them.
    pub(super) singles: Vec<u64>,
    // It may have words that were not seen.
    pub(super) is_unsure: bool,
}

impl Look {
    /// Looks at a text; `IN_WORDS`: within words, too. `None`: it must be folded first.
    pub(super) fn at<const IN_WORDS: bool>(text: &str, fold: &Fold) -> Option<Self> {
        let glyphs = fold.glyphs();
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            let of = |byte| glyphs.of_ascii(byte);
            return Some(Looking::<IN_WORDS>::at(text.as_bytes(), of));
        }
        let mut all = Vec::with_capacity(text.len());
        for c in text.chars() {
            match glyphs.of(c, fold::stays) {
                Glyph {
                    kind: Kind::Nothing,
                    ..
                } => {}
                Glyph {
                    kind: Kind::Unread, ..
                } => all.extend(fold.glyphs_of(c)?),
                glyph => all.push(glyph),
            }
        }
        Some(Looking::<IN_WORDS>::at(&all, |glyph| glyph))
    }

    /// Looks at folded characters.
    pub(super) fn at_symbols<const IN_WORDS: bool>(symbols: &[Symbol]) -> Self {
        Looking::<IN_WORDS>::at(symbols, |symbol| Glyph::of(symbol.c, symbol.sort()))
    }
}

/// A look that goes on.
#[derive(Debug, Default)]
struct Looking<const IN_WORDS: bool> {
    seen: Look,
    // Words of one letter since the last longer one.
    alone: usize,
}

/// What is between two spaces.
#[derive(Debug, Default, Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
struct Token {
    words: u32,
    // Whether signs came behind its last word.
    has_gap: bool,
    // Whether the last character is a sign that may be read as a letter, and whether that stands behind a word.
    is_behind_sign: bool,
    is_behind_inner: bool,
    has_apostrophe: bool,
    has_script: bool,
    // Whether some sign may be read as a letter, and whether that or a sign between words asks for a second look.
    has_signs: bool,
    is_mixed: bool,
}

impl<const IN_WORDS: bool> Looking<IN_WORDS> {
    fn at<T: Copy>(items: &[T], glyph: impl Fn(T) -> Glyph + Copy) -> Look {
        let mut all = Self::default();
        // Some five letters to a word.
        all.seen.words.reserve(items.len() / 4 + 4);
        if IN_WORDS {
            all.seen.letters.reserve(items.len() + 8);
        }
        let (mut word, mut token, mut from) = (Word::default(), Token::default(), 0);
        // The script's character, or emoji, directly before.
        let mut single = None;
        for (at, item) in items.iter().enumerate() {
            let Glyph { class, kind } = glyph(*item);
            match kind {
                Kind::Letter | Kind::Digit => {
                    if word.count == 0 {
                        token.begin_word();
                        single = None;
                    }
                    all.letter(&mut word, class);
                }
                Kind::Space => {
                    single = None;
                    all.end_word(&mut word);
                    if token.is_mixed {
                        all.look_again(items.get(from..at).unwrap_or_default(), glyph, token);
                    }
                    (token, from) = (Token::default(), at + 1);
                }
                other @ (Kind::Nothing
                | Kind::Unread
                | Kind::SignLetter
                | Kind::InnerLetter
                | Kind::Apostrophe
                | Kind::Sign
                | Kind::Script
                | Kind::Emblem
                | Kind::Unsure) => {
                    token.is_behind_inner =
                        other == Kind::InnerLetter && (word.count > 0 || token.is_behind_inner);
                    all.end_word(&mut word);
                    token.end_word(other);
                    if matches!(other, Kind::Script | Kind::Emblem | Kind::Unsure) {
                        all.single(class, single);
                        single = Some(class);
                    } else {
                        single = None;
                    }
                    all.seen.is_unsure |= matches!(other, Kind::Unsure | Kind::Unread);
                }
            }
        }
        all.end_word(&mut word);
        if token.is_mixed {
            all.look_again(items.get(from..).unwrap_or_default(), glyph, token);
        }
        all.seen
    }

    #[inline]
    fn letter(&mut self, word: &mut Word, class: u32) {
        if word.add(class) && IN_WORDS {
            self.seen.letters.push((word.hash, word.letters));
        }
    }

    #[inline]
    fn end_word(&mut self, word: &mut Word) {
        let Word { hash, count, .. } = std::mem::take(word);
        if count == 0 {
            return;
        }
        self.seen.words.push(hash);
        if count == 1 {
            self.stands_alone(1);
        } else {
            self.alone = 0;
        }
    }

    fn stands_alone(&mut self, count: usize) {
        self.alone += count;
        self.seen.is_unsure |= self.alone >= SPELLED_MIN;
    }

    fn single(&mut self, class: u32, before: Option<u32>) {
        if before == Some(class) {
            return;
        }
        self.seen.singles.push(one(class));
        self.seen
            .singles
            .extend(before.map(|before| two(before, class)));
    }

    /// Looks at what is between two spaces once more: as it is read with signs for letters, and joined across signs.
    fn look_again<T: Copy>(
        &mut self,
        items: &[T],
        glyph: impl Fn(T) -> Glyph + Copy,
        token: Token,
    ) {
        let kind = |item: &T| glyph(*item).kind;
        let (mut plain, mut read) = (Joined::default(), Joined::default());
        let (mut word, mut alone, mut is_read) = (Word::default(), 0, false);
        for chunk in items.chunk_by(|a, b| kind(a).is_part() == kind(b).is_part()) {
            let has_letter = chunk.iter().any(|item| kind(item) == Kind::Letter);
            let last = chunk.len() - 1;
            for (at, item) in chunk.iter().enumerate() {
                let Glyph { class, kind } = glyph(*item);
                if matches!(kind, Kind::Letter | Kind::Digit) {
                    self.joined_letter(&mut plain, class);
                    if token.has_signs {
                        self.joined_letter(&mut read, class);
                        self.letter(&mut word, class);
                    }
                    continue;
                }
                self.joined_gap(&mut plain, kind);
                if !token.has_signs {
                    continue;
                }
                let is_inner = at > 0 && at < last;
                let stands = (kind == Kind::SignLetter && (has_letter || last == 0))
                    || (kind == Kind::InnerLetter && has_letter && is_inner);
                if stands {
                    is_read = true;
                    alone += usize::from(last == 0);
                    self.joined_letter(&mut read, class);
                    self.letter(&mut word, class);
                } else {
                    self.joined_gap(&mut read, kind);
                    self.end_read(&mut word);
                }
            }
            self.end_read(&mut word);
        }
        self.end_joined(&mut plain);
        self.end_joined(&mut read);
        // Ends of short forms are not joined; and whatever stands alone beside words may spell one with them.
        let has_parts = token.has_apostrophe && (token.words > 2 || is_read);
        self.seen.is_unsure |= token.has_script || has_parts || (alone > 0 && token.words > 0);
        self.stands_alone(alone);
    }

    /// Ends a word that is read with signs for letters: what stands alone is counted elsewhere.
    fn end_read(&mut self, word: &mut Word) {
        let Word { hash, count, .. } = std::mem::take(word);
        self.seen.words.extend((count > 0).then_some(hash));
    }

    fn joined_letter(&mut self, joined: &mut Joined, class: u32) {
        if joined.signs > SIGNS_MAX {
            self.end_joined(joined);
        }
        if joined.word.count == 0 || joined.has_gap {
            joined.words += 1;
        }
        (joined.signs, joined.has_gap) = (0, false);
        self.letter(&mut joined.word, class);
    }

    fn joined_gap(&mut self, joined: &mut Joined, kind: Kind) {
        joined.has_gap = true;
        if kind != Kind::Emblem {
            joined.signs += 1;
        } else if joined.signs > SIGNS_MAX {
            self.end_joined(joined);
        } else {
            joined.signs = 0;
        }
    }

    fn end_joined(&mut self, joined: &mut Joined) {
        let Joined { word, words, .. } = std::mem::take(joined);
        self.seen.words.extend((words > 1).then_some(word.hash));
    }
}

/// Words with signs between them, as one.
#[derive(Debug, Default)]
struct Joined {
    word: Word,
    words: u32,
    // Signs since the last letter, or emoji; whether there was any of either.
    signs: u32,
    has_gap: bool,
}

impl Token {
    fn begin_word(&mut self) {
        self.is_mixed |= self.is_behind_inner || (self.has_gap && self.words > 0);
        self.words += 1;
        self.has_gap = false;
        (self.is_behind_sign, self.is_behind_inner) = (false, false);
    }

    /// Takes what is no part of a word, or no letter of it.
    fn end_word(&mut self, kind: Kind) {
        let is_sign = matches!(kind, Kind::SignLetter | Kind::InnerLetter);
        self.has_signs |= is_sign;
        self.is_mixed |= kind == Kind::SignLetter || (is_sign && self.is_behind_sign);
        self.is_behind_sign = is_sign;
        self.has_apostrophe |= kind == Kind::Apostrophe;
        self.has_script |= kind == Kind::Script;
        self.has_gap |= kind != Kind::Script;
    }
}
