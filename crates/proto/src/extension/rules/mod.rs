//! Rules that operators write: words, expressions, links, capitals and repetitions, and what becomes of messages with them.
//!
//! A set of rules is compiled once ([`CompiledSet::compile`]), and [`judge`] asks the sets of a room about each message. It
//! is text in, a finding out: no clock, no room, nobody to tell.

mod content;
mod filter;
mod fold;
mod glyph;
mod hash;
mod links;
mod look;
mod marks;
mod reading;
mod set;
mod shape;
mod sort;
#[cfg(test)]
mod tests;
mod text;
mod words;

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::base::id::RuleSetId;

pub use content::{Action, Kind, Rule, RuleFault, is_rule_name};
pub use fold::Fold;
pub use set::{CompiledSet, Hit, Message};

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding<'a> {
    /// The number of the set that decides, among those that were asked.
    pub set: usize,
    /// The rule that decides.
    pub rule: &'a Rule,
    /// The message with asterisks, if it is said or held and some rule masks.
    pub masked: Option<String>,
}

impl Rule {
    /// Number of its patterns, what it allows included.
    pub fn pattern_count(&self) -> usize {
        self.patterns.len() + self.allow.len()
    }
}

/// Asks sets of rules, in order, about a message; `None`: it passes. The strictest action counts, and of several rules with
/// it the first one.
pub fn judge<'a>(
    sets: impl IntoIterator<Item = &'a CompiledSet>,
    content: &str,
    fold: &Fold,
) -> Option<Finding<'a>> {
    let message = Message::new(content, fold);
    let mut decides: Option<(usize, &Rule)> = None;
    let mut masked = Vec::new();
    for (number, set) in sets.into_iter().enumerate() {
        let hits = set.hits(&message);
        masked.extend(set.masked(&hits));
        if let Some(rule) = set.strictest(&hits)
            && decides.is_none_or(|(_, before)| rule.action > before.action)
        {
            decides = Some((number, rule));
        }
    }
    let (set, rule) = decides?;
    let is_said = matches!(rule.action, Action::Mask | Action::Hold);
    let masked = (is_said && !masked.is_empty()).then(|| mask(content, masked));
    Some(Finding { set, rule, masked })
}

/// Puts asterisks in place of these parts of a text: three for each, or fewer for a shorter one, so that no text grows.
pub fn mask(content: &str, mut parts: Vec<Range<usize>>) -> String {
    parts.sort_unstable_by_key(|part| (part.start, part.end));
    let mut masked = String::with_capacity(content.len());
    let mut done = 0;
    let mut parts = parts.into_iter().peekable();
    while let Some(mut part) = parts.next() {
        while let Some(next) = parts.next_if(|next| next.start < part.end) {
            part.end = part.end.max(next.end);
        }
        masked.push_str(content.get(done..part.start).unwrap_or_default());
        let hidden = content.get(part.clone()).unwrap_or_default();
        hidden.chars().take(3).for_each(|_| masked.push('*'));
        done = part.end;
    }
    masked.push_str(content.get(done..).unwrap_or_default());
    masked
}

impl RuleSetId {
    /// The id of the set of this name: the same wherever it is made.
    pub fn of(name: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update("rule set\0");
        hash.update(name);
        let digest = hash.finalize();
        let bits = digest.first_chunk();
        Self::from_random(bits.map_or(0, |bits| u128::from_be_bytes(*bits)))
    }
}
