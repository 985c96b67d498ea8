//! Marks of all scripts, as Unicode's categories say: signs above, below and within letters, and characters for formats.

use regex_automata::meta::Regex;

/// Where marks are; those of the planes behind leave nothing in any case.
const FIRST: char = '\u{300}';
const LAST: char = '\u{1ffff}';
/// Characters with the same number beyond these bits are of the same scripts.
const SCRIPT_BITS: u32 = 8;

/// All marks, those included that are letters of their words, as vowels of Hindi and Thai are.
#[derive(Debug)]
pub(super) struct Marks {
    // The first and last of each range, in order.
    ranges: Box<[(char, char)]>,
}

impl Default for Marks {
    fn default() -> Self {
        let all: String = (FIRST..=LAST).collect();
        // The tables of expressions have the categories; there are some 300 ranges.
        let ranges = Regex::new(r"[\p{Mn}\p{Me}\p{Cf}]+").map(|marks| {
            let found = marks.find_iter(&all).filter_map(|range| {
                let mut range = all.get(range.range())?.chars();
                let first = range.next()?;
                Some((first, range.next_back().unwrap_or(first)))
            });
            found.collect()
        });
        Self {
            ranges: ranges.unwrap_or_default(),
        }
    }
}

impl Marks {
    /// Whether a character is a mark behind what no such mark stands on: a character of another script, or nothing.
    pub(super) fn is_astray(&self, c: char, before: Option<char>) -> bool {
        let script = |c: char| u32::from(c) >> SCRIPT_BITS;
        self.has(c) && before.is_none_or(|before| script(before) != script(c))
    }

    pub(super) fn has(&self, c: char) -> bool {
        if c < FIRST {
            return false;
        }
        let at = self.ranges.partition_point(|(_, last)| *last < c);
        self.ranges.get(at).is_some_and(|(first, _)| *first <= c)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fold::Fold;
    use super::super::text::Text;
    use super::*;

    fn read(text: &str, fold: &Fold) -> String {
        let text = Text::new(text, fold);
        text.symbols().iter().map(|symbol| symbol.c).collect()
    }

    /// Goal: no mark of any script, and no character that is not seen, splits a word; vowels of a script stay in it.
    #[test]
    fn no_mark_splits_a_word() {
        let (fold, marks) = (Fold::default(), Marks::default());
        let controls = ('\0'..='\u{9f}').filter(|c| c.is_control() && !matches!(c, '\t'..='\r'));
        let all = (FIRST..=LAST).filter(|c| marks.has(*c));
        let mut count = 0;
        for mark in all.chain(controls) {
            let split = format!("ba{mark}d");
            assert_eq!(read(&split, &fold), "bad", "{:x}", u32::from(mark));
            count += 1;
        }
        assert!(count > 1900, "the tables have {count} marks");
        for text in ["हिन्दी", "बुरा", "ดีเป็น", "မြန်မာ", "ខ្មែរ", "བོད"]
        {
            assert_eq!(read(text, &fold), text);
        }
        for (text, wanted) in [
            ("坏\u{302a}的", "坏的"),
            ("は\u{3099}か", "ばか"),
            ("ﾊﾞｶ", "バカ"),
            ("\u{e47}a", "a"),
            ("あ\u{3099}", "あ"),
        ] {
            assert_eq!(read(text, &fold), wanted, "{text}");
        }
    }
}
