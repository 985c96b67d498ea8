//! Characters as a look at a message sees them: those that some reading takes for each other are one class.

use std::ops::RangeInclusive;

use super::sort::{Sort, as_letter, sort};

/// What a character is to a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
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
    pub(super) fn is_part(self) -> bool {
        matches!(
            self,
            Self::Letter | Self::Digit | Self::SignLetter | Self::InnerLetter
        )
    }
}

/// A character as a look sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Glyph {
    /// The same of all that some reading takes for each other; never 0 of a letter.
    pub(super) class: u32,
    /// What it is.
    pub(super) kind: Kind,
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

    /// That of a folded character of this sort.
    pub(super) fn of(c: char, sort: Sort) -> Self {
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

    /// That of a byte of ASCII.
    #[inline]
    pub(super) fn of_ascii(&self, byte: u8) -> Glyph {
        let glyph = self.low.get(usize::from(byte));
        glyph.copied().unwrap_or(Glyph::UNREAD)
    }

    /// That of a character; `stays`: whether a character has no other form.
    pub(super) fn of(&self, c: char, stays: impl Fn(char) -> bool) -> Glyph {
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
