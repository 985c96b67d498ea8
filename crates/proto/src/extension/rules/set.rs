//! A set of rules ready for use, and what it finds in a message.

use std::cell::OnceCell;
use std::ops::Range;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use super::content::{Action, Kind, Rule, RuleFault};
use super::fold::{self, Fold};
use super::links::{self, Link};
use super::look::Look;
use super::reading::Reading;
use super::shape;
use super::text::Text;
use super::words::{FoundWords, Word, Words};
use crate::base::limits::{
    RULE_PATTERNS_MAX, RULE_REGEX_BYTES_MAX, RULE_REGEX_CACHE_BYTES, RULE_REGEX_CHARS_MAX,
    RULE_REGEX_RULES_MAX, RULES_PER_SET_MAX,
};

/// A set of rules, compiled.
#[derive(Debug)]
pub struct CompiledSet {
    rules: Vec<Rule>,
    words: Option<Words>,
    // The rule of each, and its expressions.
    regexes: Vec<(usize, Regex)>,
}

/// A message on its way through sets of rules: it is read once for all of them.
#[derive(Debug)]
pub struct Message<'a> {
    content: &'a str,
    fold: &'a Fold,
    text: OnceCell<Text>,
    // At words, and within them.
    looks: [OnceCell<Look>; 2],
    readings: OnceCell<Vec<Reading>>,
    plain: OnceCell<Plain>,
    // For expressions: absent, if it is the plain text.
    composed: OnceCell<Option<Plain>>,
}

/// A message's characters, folded or composed alone, for expressions and links.
#[derive(Debug)]
struct Plain {
    text: String,
    // Where each character begins, and the bytes of the message that it came from.
    starts: Vec<usize>,
    sources: Vec<Range<usize>>,
}

impl Plain {
    fn new(chars: impl Iterator<Item = (char, Range<usize>)>) -> Self {
        let (mut text, mut starts, mut sources) = (String::new(), Vec::new(), Vec::new());
        for (c, source) in chars {
            starts.push(text.len());
            text.push(c);
            sources.push(source);
        }
        Self {
            text,
            starts,
            sources,
        }
    }

    /// The bytes of the message that these of the text came from.
    fn source(&self, bytes: Range<usize>) -> Range<usize> {
        let first = self.starts.partition_point(|start| *start <= bytes.start);
        let behind = self.starts.partition_point(|start| *start < bytes.end);
        let of = |at: usize| self.sources.get(at.saturating_sub(1));
        of(first).map_or(0, |source| source.start)..of(behind).map_or(0, |source| source.end)
    }
}

/// What a rule has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The rule's number in its set.
    pub rule: usize,
    /// The bytes of the message.
    pub source: Range<usize>,
}

impl<'a> Message<'a> {
    /// Reads a message.
    pub fn new(content: &'a str, fold: &'a Fold) -> Self {
        Self {
            content,
            fold,
            text: OnceCell::new(),
            looks: Default::default(),
            readings: OnceCell::new(),
            plain: OnceCell::new(),
            composed: OnceCell::new(),
        }
    }

    /// The message as it was sent.
    pub fn content(&self) -> &'a str {
        self.content
    }

    fn text(&self) -> &Text {
        self.text.get_or_init(|| Text::new(self.content, self.fold))
    }

    /// What a look at it sees.
    fn look(&self, is_in_words: bool) -> &Look {
        let [words, in_words] = &self.looks;
        if is_in_words {
            in_words.get_or_init(|| self.looked::<true>())
        } else {
            words.get_or_init(|| self.looked::<false>())
        }
    }

    fn looked<const IN_WORDS: bool>(&self) -> Look {
        Look::at::<IN_WORDS>(self.content, self.fold)
            .unwrap_or_else(|| Look::at_symbols::<IN_WORDS>(self.text().symbols()))
    }

    fn readings(&self) -> &[Reading] {
        self.readings.get_or_init(|| Reading::all(self.text()))
    }

    fn plain(&self) -> &Plain {
        self.plain.get_or_init(|| {
            let symbols = self.text().symbols().iter();
            Plain::new(symbols.map(|symbol| (symbol.c, wide(symbol.from..symbol.to))))
        })
    }

    /// The texts that expressions see: folded, and as it is written.
    fn texts(&self) -> impl Iterator<Item = &Plain> {
        let composed = self.composed.get_or_init(|| {
            let is_other = self.content != self.plain().text;
            is_other.then(|| Plain::new(fold::composed(self.content).into_iter()))
        });
        std::iter::once(self.plain()).chain(composed)
    }
}

fn wide(range: Range<u32>) -> Range<usize> {
    let wide = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
    wide(range.start)..wide(range.end)
}

impl CompiledSet {
    /// Compiles rules.
    ///
    /// # Errors
    ///
    /// What is wrong with the first of them that is not valid.
    pub fn compile(rules: Vec<Rule>, fold: &Fold) -> Result<Self, RuleFault> {
        let fault = |place: String, must: String| RuleFault { place, must };
        if rules.is_empty() || rules.len() > RULES_PER_SET_MAX {
            let must = format!("must be 1 to {RULES_PER_SET_MAX} rules");
            return Err(fault("rules".to_owned(), must));
        }
        let patterns: usize = rules.iter().map(Rule::pattern_count).sum();
        if patterns > RULE_PATTERNS_MAX {
            let must = format!(
                "must have at most {RULE_PATTERNS_MAX} patterns together; there are {patterns}"
            );
            return Err(fault("rules".to_owned(), must));
        }
        let expressions = rules.iter().filter(|rule| rule.kind == Kind::Regex);
        if expressions.count() > RULE_REGEX_RULES_MAX {
            let must = format!(
                "must have at most {RULE_REGEX_RULES_MAX} rules with expressions: join them"
            );
            return Err(fault("rules".to_owned(), must));
        }
        let (mut words, mut regexes) = (Vec::new(), Vec::new());
        for (at, rule) in rules.iter().enumerate() {
            if let Some((member, must)) = rule.check() {
                return Err(fault(format!("rules.{at}.{member}"), must));
            }
            if rules.iter().take(at).any(|other| other.id == rule.id) {
                let must = "must be another one: a rule has it already".to_owned();
                return Err(fault(format!("rules.{at}.id"), must));
            }
            match rule.kind {
                Kind::Words => {
                    for (member, patterns) in [("patterns", &rule.patterns), ("allow", &rule.allow)]
                    {
                        for (number, pattern) in patterns.iter().enumerate() {
                            let place = || format!("rules.{at}.{member}.{number}");
                            let word = Word::read(pattern, (at, member == "allow"), fold);
                            words.push(word.map_err(|must| fault(place(), must))?);
                        }
                    }
                }
                Kind::Regex => regexes.push((at, compile(at, &rule.patterns)?)),
                Kind::Links => {
                    if let Some(number) = rule.allow.iter().position(|host| !is_host(host)) {
                        let must = "must be the name of a host, as example.com".to_owned();
                        return Err(fault(format!("rules.{at}.allow.{number}"), must));
                    }
                }
                Kind::Caps | Kind::Repeats => {}
            }
        }
        let words = Words::compile(words).map_err(|must| fault("rules".to_owned(), must))?;
        Ok(Self {
            rules,
            words,
            regexes,
        })
    }

    /// Its rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What its rules find in a message.
    pub fn hits(&self, message: &Message<'_>) -> Vec<Hit> {
        let mut hits = Vec::new();
        if let Some(words) = &self.words
            && words.may_hit(message.look(words.is_in_words()))
        {
            hits.extend(read_words(words, message));
        }
        for (rule, regex) in &self.regexes {
            let texts = message.texts().flat_map(|text| {
                let found = regex.find_iter(&*text.text);
                found.map(|found| text.source(found.range()))
            });
            let mut sources: Vec<Range<usize>> = texts.collect();
            sources.sort_unstable_by_key(|source| (source.start, source.end));
            sources.dedup();
            let rule = *rule;
            hits.extend(sources.into_iter().map(|source| Hit { rule, source }));
        }
        self.shapes(message, &mut hits);
        hits
    }

    /// What its words find in a message that is read whether or not a look at it says that it may have some.
    pub fn word_hits(&self, message: &Message<'_>) -> Vec<Hit> {
        let words = self.words.iter();
        words.flat_map(|words| read_words(words, message)).collect()
    }

    fn shapes(&self, message: &Message<'_>, hits: &mut Vec<Hit>) {
        let content = message.content;
        let whole = |rule| Hit {
            rule,
            source: 0..content.len(),
        };
        for (at, rule) in self.rules.iter().enumerate() {
            match rule.kind {
                Kind::Links => {
                    let text = message.plain();
                    let is_allowed = |host| {
                        let host = content.get(text.source(host)).unwrap_or_default();
                        links::is_allowed(host, &rule.allow)
                    };
                    for Link { whole, .. } in links::links(&text.text, is_allowed) {
                        let source = text.source(whole);
                        hits.push(Hit { rule: at, source });
                    }
                }
                Kind::Caps if shape::is_loud(content) => hits.push(whole(at)),
                Kind::Repeats if shape::is_repetitive(message.text().symbols()) => {
                    hits.push(whole(at));
                }
                Kind::Words | Kind::Regex | Kind::Caps | Kind::Repeats => {}
            }
        }
    }

    /// The strictest action of these hits, and its first rule.
    pub(super) fn strictest(&self, hits: &[Hit]) -> Option<&Rule> {
        let rules = hits.iter().filter_map(|hit| self.rules.get(hit.rule));
        rules.min_by_key(|rule| std::cmp::Reverse(rule.action))
    }

    /// Those of these hits that are masked.
    pub(super) fn masked<'h>(
        &self,
        hits: &'h [Hit],
    ) -> impl Iterator<Item = Range<usize>> + use<'h, '_> {
        hits.iter().filter_map(|hit| {
            let rule = self.rules.get(hit.rule)?;
            (rule.action == Action::Mask).then(|| hit.source.clone())
        })
    }
}

/// Finds words in each reading of a message.
fn read_words(words: &Words, message: &Message<'_>) -> Vec<Hit> {
    let mut found = FoundWords::default();
    for reading in message.readings() {
        words.find(reading, &mut found);
    }
    let FoundWords { hits, allowed } = found;
    let is_hit = |(rule, source): &(usize, Range<u32>)| {
        let covers = |(other, by): &(usize, Range<u32>)| {
            other == rule && by.start <= source.start && source.end <= by.end
        };
        !allowed.iter().any(covers)
    };
    let hits = hits.into_iter().filter(is_hit);
    let hits = hits.map(|(rule, source)| Hit {
        rule,
        source: wide(source),
    });
    hits.collect()
}

/// Compiles the expressions of a rule into one. What they say is composed as messages are.
fn compile(at: usize, patterns: &[String]) -> Result<Regex, RuleFault> {
    let syntax = syntax::Config::new().case_insensitive(true).nest_limit(50);
    let composed = |pattern: &String| {
        fold::composed(pattern)
            .into_iter()
            .map(|(c, _)| c)
            .collect()
    };
    let composed: Vec<String> = patterns.iter().map(composed).collect();
    for (number, (pattern, composed)) in patterns.iter().zip(&composed).enumerate() {
        let place = format!("rules.{at}.patterns.{number}");
        if pattern.chars().count() > RULE_REGEX_CHARS_MAX {
            let must = format!("must have at most {RULE_REGEX_CHARS_MAX} characters");
            return Err(RuleFault { place, must });
        }
        let must = match syntax::parse_with(composed, &syntax) {
            Err(error) => format!(
                "must be a regular expression: {}",
                last_line(&error.to_string())
            ),
            Ok(parsed) => match parsed.properties().minimum_len() {
                None => "must match something".to_owned(),
                Some(0) => "must not match the empty text: it would hit every message".to_owned(),
                Some(_) => continue,
            },
        };
        return Err(RuleFault { place, must });
    }
    let config = Regex::config()
        .nfa_size_limit(Some(RULE_REGEX_BYTES_MAX))
        .hybrid_cache_capacity(RULE_REGEX_CACHE_BYTES);
    let built = Regex::builder()
        .configure(config)
        .syntax(syntax)
        .build_many(&composed);
    built.map_err(|error| RuleFault {
        place: format!("rules.{at}.patterns"),
        must: match error.size_limit() {
            Some(_) => format!(
                "must be smaller: compiled they may have {RULE_REGEX_BYTES_MAX} bytes together"
            ),
            None => format!(
                "must be regular expressions: {}",
                last_line(&error.to_string())
            ),
        },
    })
}

/// What an error says, without its picture.
fn last_line(text: &str) -> &str {
    let line = text.lines().next_back().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line)
}

fn is_host(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    (1..=253).contains(&name.len())
        && name.bytes().all(is_plain)
        && name.split('.').all(|label| !label.is_empty())
}
