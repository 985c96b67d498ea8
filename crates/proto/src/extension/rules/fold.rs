//! Characters as rules read them: small letters without marks, in their plain form, each look-alike as what it looks like.

use std::ops::Range;

use icu_normalizer::properties::{
    CanonicalCombiningClassMapBorrowed, CanonicalCompositionBorrowed,
};
use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};

use super::glyph::{Glyph, Glyphs};
use super::marks::Marks;

/// Characters below this are looked up; others are worked out each time.
const TABLE_CHARS: u32 = 0x3000;
/// It leaves nothing.
const DROPPED: u16 = 0;
/// It becomes several characters, or one beyond 16 bits.
const SEVERAL: u16 = 0xffff;

/// What each character becomes. It is made once, and shared by all sets of rules.
#[derive(Debug)]
pub struct Fold {
    // By code point. Invariant: `TABLE_CHARS` entries.
    table: Box<[u16]>,
    marks: Marks,
    glyphs: Glyphs,
}

impl Default for Fold {
    fn default() -> Self {
        let fold = |code| {
            let mut folded = Vec::new();
            let c = char::from_u32(code).unwrap_or('\0');
            fold_slowly(c, &mut |c| folded.push(c));
            match folded[..] {
                [] => DROPPED,
                [c] => u16::try_from(u32::from(c)).unwrap_or(SEVERAL),
                [..] => SEVERAL,
            }
        };
        let table = (0..TABLE_CHARS).map(fold).collect();
        let marks = Marks::default();
        let glyphs = Glyphs::new(|c, out| fold_slowly(c, &mut |c| out(c)), |c| marks.has(c));
        Self {
            table,
            marks,
            glyphs,
        }
    }
}

impl Fold {
    /// Gives `out` what a character becomes: nothing, one character or a few.
    #[inline]
    pub fn char(&self, c: char, out: &mut impl FnMut(char)) {
        let at = usize::try_from(u32::from(c)).unwrap_or(usize::MAX);
        match self.table.get(at) {
            Some(&DROPPED) => {}
            Some(&SEVERAL) => fold_slowly(c, out),
            Some(&code) => out(char::from_u32(code.into()).unwrap_or(c)),
            None if stays(c) => out(c),
            None => fold_slowly(c, out),
        }
    }

    /// Whether a folded character leaves nothing behind this one, since it is a mark of another script.
    pub(super) fn is_astray(&self, c: char, before: Option<char>) -> bool {
        !c.is_ascii() && !stays(c) && self.marks.is_astray(c, before)
    }

    /// What characters become to a look.
    pub(super) fn glyphs(&self) -> &Glyphs {
        &self.glyphs
    }

    /// What a character becomes to a look that becomes several; `None`: what is before it must be known.
    pub(super) fn glyphs_of(&self, c: char) -> Option<Vec<Glyph>> {
        let mut folded = Vec::new();
        self.char(c, &mut |c| folded.push(c));
        let is_whole = !folded.is_empty() && !folded.iter().any(|c| self.marks.has(*c));
        is_whole.then(|| folded.into_iter().map(Glyph::of_folded).collect())
    }

    /// A text as rules read it, with spaces and signs as they are.
    pub fn text(&self, text: &str) -> String {
        let mut folded = String::with_capacity(text.len());
        text.chars()
            .for_each(|c| self.char(c, &mut |c| folded.push(c)));
        folded
    }
}

/// A text as it is written, composed and without characters that have no width: each character with the bytes of the text
/// that it came from.
pub(super) fn composed(text: &str) -> Vec<(char, Range<usize>)> {
    let compose = ComposingNormalizerBorrowed::new_nfc();
    let classes = CanonicalCombiningClassMapBorrowed::new();
    let is_colour = |c| matches!(c, '\u{1f3fb}'..='\u{1f3ff}');
    let mut composed = Vec::with_capacity(text.len());
    let mut chars = text.char_indices().peekable();
    while let Some((from, first)) = chars.next() {
        let mut to = from + first.len_utf8();
        let is_alone = chars.peek().is_none_or(|(_, c)| !is_mark(*c));
        if is_alone && (first.is_ascii_graphic() || first == ' ') {
            composed.push((first, from..to));
            continue;
        }
        let mut letter = vec![first];
        while let Some((at, mark)) = chars.next_if(|(_, c)| is_mark(*c) && !is_colour(*c)) {
            letter.push(mark);
            to = at + mark.len_utf8();
        }
        let has_width = |c: &char| !is_mark(*c) || is_colour(*c) || classes.get_u8(*c) != 0;
        letter.retain(has_width);
        let whole = compose.normalize_iter(letter.into_iter());
        composed.extend(whole.map(|c| (c, from..to)));
    }
    composed
}

/// A Japanese letter with the sign of its voice that comes behind it, which is another letter.
pub(super) fn voiced(letter: char, sign: char) -> Option<char> {
    let sign = match sign {
        '\u{3099}' | '\u{ff9e}' => '\u{3099}',
        '\u{309a}' | '\u{ff9f}' => '\u{309a}',
        _ => return None,
    };
    CanonicalCompositionBorrowed::new().compose(letter, sign)
}

/// Whether a character beyond the table is of a script whose characters have no other form: most Chinese, Japanese and
/// Korean text. Syllables of Korean are left whole, since their parts are letters of other words.
pub(super) fn stays(c: char) -> bool {
    matches!(c, '\u{3041}'..='\u{3096}' | '\u{30a0}'..='\u{30fe}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}')
}

fn fold_slowly(c: char, out: &mut impl FnMut(char)) {
    if stays(c) {
        return out(c);
    }
    if let Some(letter) = in_a_box(c) {
        return out(letter);
    }
    // Unicode's own tables make a sigma of it, and letters of the word before of these signs.
    match c {
        'ϲ' | 'Ϲ' => return out('c'),
        '™' | '℠' => return out(c),
        _ => {}
    }
    let compatible = DecomposingNormalizerBorrowed::new_nfkd();
    for part in compatible.normalize_iter(std::iter::once(c)) {
        for small in part.to_lowercase() {
            if !is_mark(small) {
                look_alike(small, out);
            }
        }
    }
}

/// Letters in boxes and flags, which have no plain form in Unicode's own tables.
fn in_a_box(c: char) -> Option<char> {
    let first = match c {
        '\u{1f150}'..='\u{1f169}' => 0x1f150,
        '\u{1f170}'..='\u{1f189}' => 0x1f170,
        '\u{1f1e6}'..='\u{1f1ff}' => 0x1f1e6,
        _ => return None,
    };
    char::from_u32(u32::from('a') + u32::from(c) - first)
}

/// Whether a character leaves nothing: marks above and below letters, characters without width, parts of emojis. Signs of
/// vowels that are letters of their word, as in Hindi, stay.
fn is_mark(c: char) -> bool {
    matches!(c,
        '\0'..='\u{8}' | '\u{e}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}'
        | '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}'
        | '\u{591}'..='\u{5bd}' | '\u{5bf}' | '\u{5c1}' | '\u{5c2}' | '\u{5c4}' | '\u{5c5}' | '\u{5c7}'
        | '\u{610}'..='\u{61c}' | '\u{640}' | '\u{64b}'..='\u{65f}' | '\u{670}' | '\u{6d6}'..='\u{6dc}'
        | '\u{6df}'..='\u{6e8}' | '\u{6ea}'..='\u{6ed}'
        | '\u{951}'..='\u{954}' | '\u{302a}'..='\u{302f}' | '\u{3099}' | '\u{309a}'
        | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{20d0}'..='\u{20ff}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{fe20}'..='\u{fe2f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
        | '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0000}'..='\u{e0fff}')
}

/// Gives what a small letter looks like, if that is another one. Small and capital forms of a letter agree, so that words of
/// these scripts are found as they are written.
fn look_alike(c: char, out: &mut impl FnMut(char)) {
    let one = match c {
        // Cyrillic, Greek, Armenian, phonetic signs and small capitals.
        'а' | 'α' | 'ɑ' | 'ᴀ' => 'a',
        'в' | 'ь' | 'β' | 'ʙ' | 'ƀ' | 'ɓ' => 'b',
        'с' | 'ᴄ' | 'ϲ' | 'ƈ' | '¢' => 'c',
        'ԁ' | 'ᴅ' | 'đ' | 'ɗ' | 'ɖ' => 'd',
        'е' | 'ε' | 'ᴇ' | 'ɛ' | 'ə' | 'ҽ' | 'є' => 'e',
        'ƒ' | 'ꜰ' => 'f',
        'ɡ' | 'ɢ' | 'ɠ' => 'g',
        'н' | 'һ' | 'ħ' | 'ʜ' | 'ɦ' => 'h',
        'і' | 'ι' | 'ı' | 'ɪ' | 'ɩ' => 'i',
        'ј' | 'ᴊ' => 'j',
        'к' | 'κ' | 'ᴋ' | 'ƙ' => 'k',
        'ʟ' | 'ł' | 'ƚ' | 'ӏ' | 'ɭ' => 'l',
        'м' | 'ᴍ' => 'm',
        'ɴ' | 'ɲ' | 'ŋ' | 'ո' => 'n',
        'о' | 'ο' | 'ø' | 'ᴏ' | 'ɔ' | 'օ' => 'o',
        'р' | 'ρ' | 'ᴘ' | 'ƥ' => 'p',
        'ԛ' => 'q',
        'ʀ' | 'ɾ' => 'r',
        'ѕ' | 'ꜱ' | 'ʂ' => 's',
        'т' | 'τ' | 'ᴛ' | 'ŧ' | 'ƭ' => 't',
        'υ' | 'ᴜ' | 'ս' => 'u',
        'ν' | 'ᴠ' | 'ѵ' => 'v',
        'ԝ' | 'ᴡ' => 'w',
        'х' | 'χ' => 'x',
        'у' | 'ʏ' | 'ү' => 'y',
        'ᴢ' | 'ʐ' => 'z',
        // At the end of a word.
        'ς' => 'σ',
        // The full stop of names on the Internet.
        '\u{3002}' => '.',
        'ß' => return "ss".chars().for_each(out),
        'æ' => return "ae".chars().for_each(out),
        'œ' => return "oe".chars().for_each(out),
        other => other,
    };
    out(one);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Goal: what people write to pass a word list is read as the word; what is no disguise stays.
    #[test]
    fn disguises_fall() {
        let fold = Fold::default();
        for (text, wanted) in [
            ("BAD", "bad"),
            ("bàd", "bad"),
            ("b\u{300}\u{301}a\u{489}d", "bad"),
            ("ｂａｄ", "bad"),
            ("𝓫𝓪𝓭 𝔟𝔞𝔡 ⓑⓐⓓ 🅑🅐🅓 🅱🅰🅳 🇧🇦🇩", "bad bad bad bad bad bad"),
            ("b\u{200b}a\u{200d}\u{feff}d\u{ad}", "bad"),
            ("bаd", "bad"),
            ("ʙᴀᴅ", "bad"),
            ("ﬁne Straße Æon", "fine strasse aeon"),
            ("дурак", "дypak"),
            ("ДУРАК", "дypak"),
            ("ё", "e"),
            ("ΜΑΛΑΚΑΣ μαλάκας λόγοσ", "μaλakaσ μaλakaσ λoγoσ"),
            ("Ьad ϲunt bad™", "bad cunt bad™"),
            ("한국어 カタカナ 漢字", "한국어 カタカナ 漢字"),
            ("हिन्दी", "हिन्दी"),
            ("👍🏽\u{fe0f}", "👍"),
            ("b4d $ 1", "b4d $ 1"),
            ("example\u{3002}com", "example.com"),
            ("a\u{e0061}", "a"),
            ("", ""),
            ("\u{200b}\u{301}", ""),
        ] {
            assert_eq!(fold.text(text), wanted, "{text}");
        }
    }

    /// Goal: expressions see letters with their marks as one character, and none without width.
    #[test]
    fn letters_are_composed() {
        for (text, wanted) in [
            ("e\u{301}\u{200b}é", "éé"),
            ("Дура\u{ad}к й", "Дурак й"),
            ("\u{200b}\u{301}x", "\u{301}x"),
            ("Ｘß👍🏽\u{fe0f} b4d", "Ｘß👍🏽 b4d"),
            ("", ""),
        ] {
            let composed = composed(text);
            let read: String = composed.iter().map(|(c, _)| *c).collect();
            assert_eq!(read, wanted, "{text}");
            let ends = composed.iter().map(|(_, from)| from.end);
            assert_eq!(ends.max().unwrap_or(0), text.len(), "{text}");
        }
    }

    proptest! {
        /// Goal: what is folded is as it will be, and the table is what is worked out slowly.
        #[test]
        fn folding_again_changes_nothing(text in "\\PC{0,40}", any in proptest::collection::vec(any::<char>(), 0..40)) {
            static FOLD: std::sync::LazyLock<Fold> = std::sync::LazyLock::new(Fold::default);
            let fold = &FOLD;
            for text in [text, any.iter().collect::<String>()] {
                let folded = fold.text(&text);
                let mut slowly = String::new();
                text.chars().for_each(|c| fold_slowly(c, &mut |c| slowly.push(c)));
                prop_assert_eq!(&folded, &slowly);
                prop_assert_eq!(fold.text(&folded), folded);
            }
        }
    }
}
