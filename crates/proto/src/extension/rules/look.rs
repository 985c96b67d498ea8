//! A look at a message before it is read: which words it may have, and beginnings and parts of words, by their hashes. Most
//! messages have none of a set's words and are read no further.
//!
//! It may take a message for more than it is, never for less. Letters, and digits and signs that are read as them, are one class
//! each, so that one pass stands for all readings; what it cannot tell it calls unsure.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use super::fold::{self, Fold};
use super::text::{SIGNS_MAX, Sort, Symbol, as_letter, sort};

/// Letters that stand alone one after the other, from which on they may spell a word.
const SPELLED_MIN: usize = super::reading::SPELLED_MIN;
/// Odd, with bits all over: 2^64 over the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
/// Bits of a filter for each hash that it has: one look in sixteen goes on to the hashes themselves.
const BITS_PER_HASH: usize = 16;
/// Letters that a part of a word is known by, at most: one byte of a number each.
const PART_LETTERS_MAX: u32 = 8;

/// What a hash is of.
#[derive(Debug, Clone, Copy)]
enum Of {
    /// A whole word.
    Word,
    /// The beginning of a word.
    Beginning,
    /// The last letters of a part of a word; their number is added.
    Part,
    /// A character of a script without spaces, or an emoji.
    One,
    /// Two of them.
    Two,
}

/// What a character is to a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It leaves nothing.
    Nothing,
    /// It takes folding to say so.
    Unread,
    Letter,
    /// A digit, or another part of a word that is no letter.
    Digit,
    /// A sign that is read as a letter in a word, at its ends, and alone.
    SignLetter,
    /// A sign that is read as a letter within a word.
    InnerLetter,
    Apostrophe,
    Sign,
    Space,
    Script,
    Emblem,
    /// It may be read as a letter, and is an emblem.
    Unsure,
}

impl Kind {
    /// Whether it may be part of a word, as a letter or in place of one.
    fn is_part(self) -> bool {
        matches!(
            self,
            Self::Letter | Self::Digit | Self::SignLetter | Self::InnerLetter
        )
    }
}

/// A character as a look sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Glyph {
    // The same of all that some reading takes for each other; never 0 of a letter.
    class: u32,
    kind: Kind,
}

impl Glyph {
    const NOTHING: Self = Self {
        class: 0,
        kind: Kind::Nothing,
    };
    const UNREAD: Self = Self {
        class: 0,
        kind: Kind::Unread,
    };

    /// That of a folded character.
    pub(super) fn of_folded(c: char) -> Self {
        Self::of(c, sort(c))
    }

    fn of(c: char, sort: Sort) -> Self {
        let read = as_letter(c, 'i');
        let class = match read.unwrap_or(c) {
            // A one is read as both.
            'l' => 'i',
            c => c,
        };
        let kind = match sort {
            Sort::Letter if c.is_alphabetic() => Kind::Letter,
            Sort::Letter => Kind::Digit,
            Sort::Space => Kind::Space,
            Sort::Script => Kind::Script,
            Sort::Emblem if read.is_some() => Kind::Unsure,
            Sort::Emblem => Kind::Emblem,
            Sort::Sign if matches!(c, '!' | '|' | '+' | '(') => Kind::InnerLetter,
            Sort::Sign if read.is_some() => Kind::SignLetter,
            Sort::Sign if matches!(c, '\'' | '`' | '\u{2018}' | '\u{2019}') => Kind::Apostrophe,
            Sort::Sign => Kind::Sign,
        };
        let class = class.into();
        Self { class, kind }
    }
}

/// Emojis, for the most part.
const PICTURES: RangeInclusive<char> = '\u{1f000}'..='\u{1ffff}';

/// What characters become to a look, made once: of the scripts with letters, and of emojis.
#[derive(Debug)]
pub(super) struct Glyphs {
    // By code point, those below `END`.
    low: Box<[Glyph]>,
    // Those of `PICTURES`.
    pictures: Box<[Glyph]>,
}

/// Characters below this are looked up, as those of `PICTURES` are.
const END: char = '\u{3000}';

impl Glyphs {
    /// That of what folding makes of them; marks may be nothing, and are read.
    pub(super) fn new(
        fold: impl Fn(char, &mut dyn FnMut(char)),
        is_mark: impl Fn(char) -> bool,
    ) -> Self {
        let glyph = |c: char| {
            let (mut found, mut count) = (None, 0);
            fold(c, &mut |c| (found, count) = (Some(c), count + 1));
            match found {
                None => Glyph::NOTHING,
                Some(c) if count == 1 && !is_mark(c) => Glyph::of(c, sort(c)),
                Some(_) => Glyph::UNREAD,
            }
        };
        Self {
            low: ('\0'..END).map(glyph).collect(),
            pictures: PICTURES.map(glyph).collect(),
        }
    }

    #[inline]
    fn of_ascii(&self, byte: u8) -> Glyph {
        let glyph = self.low.get(usize::from(byte));
        glyph.copied().unwrap_or(Glyph::UNREAD)
    }

    /// `stays`: whether a character has no other form.
    fn of(&self, c: char, stays: impl Fn(char) -> bool) -> Glyph {
        let at = |first: char| usize::try_from(u32::from(c) - u32::from(first)).ok();
        let known = if c < END {
            at('\0').and_then(|at| self.low.get(at))
        } else if PICTURES.contains(&c) {
            at(*PICTURES.start()).and_then(|at| self.pictures.get(at))
        } else if stays(c) {
            return Glyph::of(c, sort(c));
        } else {
            None
        };
        known.copied().unwrap_or(Glyph::UNREAD)
    }
}

/// What a look at a message has seen.
#[derive(Debug, Default)]
pub(super) struct Look {
    words: Vec<u64>,
    // Behind each letter of each word, if asked for: the word up to it, and its last letters.
    letters: Vec<(u64, u64)>,
    // Characters of scripts without spaces and emojis, and pairs of them.
    singles: Vec<u64>,
    // It may have words that were not seen.
    is_unsure: bool,
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

/// Letters of a word, one after the other, each once however often it is repeated.
#[derive(Debug, Clone, Copy, Default)]
struct Word {
    hash: u64,
    last: u32,
    count: u32,
    // The last eight, a byte each.
    letters: u64,
}

impl Word {
    /// Adds a letter; `false`: it is the same again.
    #[inline]
    fn add(&mut self, class: u32) -> bool {
        if class == self.last {
            return false;
        }
        self.last = class;
        self.count += 1;
        self.hash = (self.hash.rotate_left(5) ^ u64::from(class)).wrapping_mul(SPREAD);
        self.letters = self.letters << 8 | u64::from((class ^ class >> 8) & 0xff);
        true
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

fn one(class: u32) -> u64 {
    key(u64::from(class), Of::One, 0)
}

fn two(before: u32, class: u32) -> u64 {
    key(u64::from(before) << 32 | u64::from(class), Of::Two, 0)
}

#[inline]
fn key(hash: u64, of: Of, more: u32) -> u64 {
    let of = match of {
        Of::Word => 1,
        Of::Beginning => 2,
        Of::One => 3,
        Of::Two => 4,
        Of::Part => 8 + u64::from(more),
    };
    (hash ^ of << 56).wrapping_mul(SPREAD)
}

/// The last letters of a word, so many of them.
#[inline]
fn last_letters(letters: u64, count: u32) -> u64 {
    letters & (u64::MAX >> (64 - 8 * count))
}

/// What messages with a set's words have.
#[derive(Debug)]
pub(super) struct Filter {
    // One bit for each hash, at its first bits. Invariant: 2^(64 - `shift`) of them.
    bits: Box<[u64]>,
    shift: u32,
    hashes: HashSet<u64>,
    has_beginnings: bool,
    // Bit n: some part of a word is known by its last n letters.
    parts: u16,
}

impl Filter {
    /// That of words and phrases: their letters with a space between words, and whether each end is open.
    pub(super) fn new<'a>(words: impl Iterator<Item = (&'a str, [bool; 2])>) -> Self {
        let (mut has_beginnings, mut parts) = (false, 0);
        let hashes: HashSet<u64> = words
            .map(|(text, is_open)| {
                let trait_ = Trait::of(text, is_open);
                has_beginnings |= matches!(trait_, Trait::Beginning(_));
                if let Trait::Part(_, count) = trait_ {
                    parts |= 1 << count;
                }
                trait_.key()
            })
            .collect();
        let count = (hashes.len() * BITS_PER_HASH).next_power_of_two().max(64);
        let shift = 64 - count.ilog2();
        let mut bits = vec![0; count / 64].into_boxed_slice();
        for hash in &hashes {
            let (at, bit) = place(hash >> shift);
            if let Some(word) = bits.get_mut(at) {
                *word |= bit;
            }
        }
        Self {
            bits,
            shift,
            hashes,
            has_beginnings,
            parts,
        }
    }

    /// Whether it must look within words.
    pub(super) fn is_in_words(&self) -> bool {
        self.has_beginnings || self.parts != 0
    }

    /// Whether a message may have one of the words.
    pub(super) fn may_hit(&self, look: &Look) -> bool {
        let has_word = || {
            let mut words = look.words.iter();
            words.any(|hash| self.has(key(*hash, Of::Word, 0)))
        };
        let begins = || {
            let mut letters = look.letters.iter();
            letters.any(|(hash, _)| self.has(key(*hash, Of::Beginning, 0)))
        };
        let has_part = || {
            let mut counts = (1..=PART_LETTERS_MAX).filter(|n| self.parts >> n & 1 != 0);
            counts.any(|n| {
                let mut letters = look.letters.iter();
                letters.any(|(_, letters)| self.has(key(last_letters(*letters, n), Of::Part, n)))
            })
        };
        look.is_unsure
            || has_word()
            || look.singles.iter().any(|key| self.has(*key))
            || (self.has_beginnings && begins())
            || (self.parts != 0 && has_part())
    }

    #[inline]
    fn has(&self, key: u64) -> bool {
        let (at, bit) = place(key >> self.shift);
        self.bits.get(at).is_some_and(|word| word & bit != 0) && self.hashes.contains(&key)
    }
}

#[inline]
fn place(bit: u64) -> (usize, u64) {
    let at = usize::try_from(bit >> 6).unwrap_or(usize::MAX);
    (at, 1 << (bit & 63))
}

/// What each message with a word or phrase has.
#[derive(Debug, Clone, Copy)]
enum Trait {
    One(u32),
    Two(u32, u32),
    Word(u64),
    Beginning(u64),
    // The last letters, and how many.
    Part(u64, u32),
}

impl Trait {
    fn of(text: &str, is_open: [bool; 2]) -> Self {
        let glyphs = || text.chars().map(|c| Glyph::of(c, sort(c)));
        let is_single =
            |glyph: &Glyph| matches!(glyph.kind, Kind::Script | Kind::Emblem | Kind::Unsure);
        if let Some(single) = glyphs().find(is_single) {
            let mut pairs = glyphs().zip(glyphs().skip(1));
            let pair = pairs.find(|(before, glyph)| is_single(before) && is_single(glyph));
            return pair.map_or(Self::One(single.class), |(before, glyph)| {
                Self::Two(before.class, glyph.class)
            });
        }
        let count = text.split(' ').count();
        let words = text.split(' ').enumerate().map(|(at, letters)| {
            let mut word = Word::default();
            for c in letters.chars() {
                word.add(Glyph::of(c, sort(c)).class);
            }
            let ends = [at == 0, at + 1 == count];
            let [before, behind] = [0, 1].map(|end: usize| {
                let of = |all: [bool; 2]| all.get(end).copied().unwrap_or_default();
                of(ends) && of(is_open)
            });
            (word, before, behind)
        });
        // Of a phrase the word that is rarest in chat: a long one, the whole of which is known.
        let rank = |(word, before, behind): &(Word, bool, bool)| {
            (word.count.min(4), !before, !behind, word.count)
        };
        let (word, before, behind) = words.max_by_key(rank).unwrap_or_default();
        match (before, behind) {
            (true, _) => {
                let count = word.count.clamp(1, PART_LETTERS_MAX);
                Self::Part(last_letters(word.letters, count), count)
            }
            (false, true) => Self::Beginning(word.hash),
            (false, false) => Self::Word(word.hash),
        }
    }

    fn key(self) -> u64 {
        match self {
            Self::One(class) => one(class),
            Self::Two(before, class) => two(before, class),
            Self::Word(hash) => key(hash, Of::Word, 0),
            Self::Beginning(hash) => key(hash, Of::Beginning, 0),
            Self::Part(letters, count) => key(letters, Of::Part, count),
        }
    }
}
