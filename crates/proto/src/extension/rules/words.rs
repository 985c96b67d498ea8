//! Words and phrases of a set: all of them found in one pass over each reading of a message.

use std::collections::HashMap;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::filter::Filter;
use super::fold::Fold;
use super::look::Look;
use super::reading::Reading;
use super::text::{Digits, Text};
use crate::base::limits::RULE_WORD_CHARS_MAX;

/// The words of all rules of a set.
#[derive(Debug)]
pub(super) struct Words {
    // Finds texts; each stands for the words of `by_text` at its number.
    automaton: AhoCorasick,
    by_text: Vec<Vec<Word>>,
    // What messages with a word that is not allowed have.
    filter: Filter,
}

/// A word or phrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    // Its letters, each once, and how often each follows itself.
    text: String,
    runs: Box<[u32]>,
    // Whether it may go on before, and behind.
    is_open: [bool; 2],
    rule: usize,
    is_allowed: bool,
}

/// Words of one message.
#[derive(Debug, Default)]
pub(super) struct FoundWords {
    /// The rule, and the bytes of the message.
    pub(super) hits: Vec<(usize, Range<u32>)>,
    /// What is no hit of that rule.
    pub(super) allowed: Vec<(usize, Range<u32>)>,
}

impl Word {
    /// Reads a pattern: a word or a phrase, with `*` at its ends where it may be part of a longer word.
    ///
    /// # Errors
    ///
    /// What it must be.
    pub(super) fn read(
        pattern: &str,
        (rule, is_allowed): (usize, bool),
        fold: &Fold,
    ) -> Result<Self, String> {
        if pattern.chars().count() > RULE_WORD_CHARS_MAX {
            return Err(format!(
                "must have at most {RULE_WORD_CHARS_MAX} characters"
            ));
        }
        let trimmed = pattern.trim();
        let inner = trimmed.trim_matches('*');
        if inner.contains('*') {
            return Err("must have * at its beginning and its end alone".to_owned());
        }
        let letters = Text::new(inner, fold).letters(Digits::Plain);
        let reading = Reading::plain(letters.unwrap_or_default());
        if reading.text.is_empty() {
            let must = "must have a letter, a digit or an emoji; signs are for regular expressions";
            return Err(must.to_owned());
        }
        let has_signs = inner.chars().any(|c| c.is_ascii_punctuation());
        if has_signs && reading.text.chars().count() == 1 {
            return Err(format!(
                "must have more than one letter or digit beside signs: messages are read without signs, and it would hit each \
                 {} that stands alone",
                reading.text
            ));
        }
        Ok(Self {
            runs: reading.runs(),
            text: reading.text,
            is_open: [trimmed.starts_with('*'), trimmed.ends_with('*')],
            rule,
            is_allowed,
        })
    }
}

impl Words {
    /// Compiles them; `None`: there are none.
    ///
    /// # Errors
    ///
    /// The automaton would be too large: not within the limits of a set.
    pub(super) fn compile(words: Vec<Word>) -> Result<Option<Self>, String> {
        if words.is_empty() {
            return Ok(None);
        }
        let forbidden = words.iter().filter(|word| !word.is_allowed);
        let filter = Filter::new(forbidden.map(|word| (&*word.text, word.is_open)));
        let mut numbers: HashMap<String, usize> = HashMap::new();
        let (mut texts, mut by_text): (Vec<String>, Vec<Vec<Word>>) = (Vec::new(), Vec::new());
        for word in words {
            let number = *numbers.entry(word.text.clone()).or_insert(texts.len());
            if number == texts.len() {
                texts.push(word.text.clone());
                by_text.push(Vec::new());
            }
            if let Some(same) = by_text.get_mut(number).filter(|same| !same.contains(&word)) {
                same.push(word);
            }
        }
        let mut builder = AhoCorasick::builder();
        // A table of all transitions would take a hundred times the memory.
        builder.kind(Some(AhoCorasickKind::ContiguousNFA));
        let automaton = builder.build(&texts).map_err(|error| error.to_string())?;
        Ok(Some(Self {
            automaton,
            by_text,
            filter,
        }))
    }

    /// Whether a look must go into words.
    pub(super) fn is_in_words(&self) -> bool {
        self.filter.is_in_words()
    }

    /// Whether a message may have one of them.
    pub(super) fn may_hit(&self, look: &Look) -> bool {
        self.filter.may_hit(look)
    }

    /// Adds the words of one reading.
    pub(super) fn find(&self, reading: &Reading, found: &mut FoundWords) {
        for hit in self.automaton.find_overlapping_iter(&reading.text) {
            let words = self.by_text.get(hit.pattern().as_usize());
            let Some(at) = reading.at(hit.range()) else {
                continue;
            };
            if at.letters.iter().all(|letter| letter.is_of_digits) {
                // A number that is spelled out.
                continue;
            }
            for word in words.into_iter().flatten() {
                let fits = |(is_edge, is_open): (&bool, &bool)| *is_edge || *is_open;
                let mut runs = at.letters.iter().zip(&word.runs);
                if at.is_edge.iter().zip(&word.is_open).all(fits)
                    && runs.all(|(letter, run)| letter.run >= *run)
                {
                    let list = if word.is_allowed {
                        &mut found.allowed
                    } else {
                        &mut found.hits
                    };
                    let hit = (word.rule, reading.source(&at, word.is_open));
                    if list.last() != Some(&hit) {
                        list.push(hit);
                    }
                }
            }
        }
    }
}
