//! Hashes of words and of their parts, by the classes of their letters.

/// Odd, with bits all over: 2^64 over the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
/// Letters that a part of a word is known by, at most: one byte of a number each.
pub(super) const PART_LETTERS_MAX: u32 = 8;

/// What a hash is of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of {
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

/// Letters of a word, one after the other, each once however often it is repeated.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Word {
    pub(super) hash: u64,
    last: u32,
    pub(super) count: u32,
    // The last eight, a byte each.
    pub(super) letters: u64,
}

impl Word {
    /// Adds a letter; `false`: it is the same again.
    #[inline]
    pub(super) fn add(&mut self, class: u32) -> bool {
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

/// The hash of one character of a script without spaces.
pub(super) fn one(class: u32) -> u64 {
    key(u64::from(class), Of::One, 0)
}

/// The hash of two of them.
pub(super) fn two(before: u32, class: u32) -> u64 {
    key(u64::from(before) << 32 | u64::from(class), Of::Two, 0)
}

/// A hash of this kind.
#[inline]
pub(super) fn key(hash: u64, of: Of, more: u32) -> u64 {
    let of = match of {
        Of::Word => 1,
        Of::Beginning => 2,
        Of::One => 3,
        Of::Two => 4,
        Of::Part => 8 + u64::from(more),
    };
    (hash ^ of << 56).wrapping_mul(SPREAD)
}

/// The last `count` letters of a word.
#[inline]
pub(super) fn last_letters(letters: u64, count: u32) -> u64 {
    letters & (u64::MAX >> (64 - 8 * count))
}
