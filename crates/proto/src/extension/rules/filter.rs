//! What messages with a set's words have, by hashes: what a look at a message is asked for.

use std::collections::HashSet;

use super::glyph::{Glyph, Kind};
use super::hash::{Of, PART_LETTERS_MAX, Word, key, last_letters, one, two};
use super::look::Look;
use super::sort::sort;

/// Bits of a filter for each hash that it has: one look in sixteen goes on to the hashes themselves.
const BITS_PER_HASH: usize = 16;

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
