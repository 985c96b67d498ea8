//! A set of rules as it is written: what each rule looks for, and what it does.

use serde::{Deserialize, Serialize};

use crate::base::limits::{BAN_SECONDS_MAX, REASON_CHARS_MAX, RULE_NAME_CHARS_MAX};

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name within the set.
    pub id: String,
    /// What it looks for.
    pub kind: Kind,
    /// Words, phrases or regular expressions, as the kind says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<String>,
    /// What is no hit: words, or names of hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// What becomes of a message that it hits.
    pub action: Action,
    /// Seconds of a time-out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
    /// What the sender is told; empty: a text of the server's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What a rule looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Words and phrases, however they are disguised.
    Words,
    /// Regular expressions.
    Regex,
    /// Links, but to the hosts that are allowed.
    Links,
    /// Messages in capitals.
    Caps,
    /// The same character or word, many times.
    Repeats,
}

/// What becomes of a message, the mildest first: of several the strictest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// What was hit becomes asterisks.
    Mask,
    /// It waits for a moderator.
    Hold,
    /// Its sender alone gets it.
    Shadow,
    /// It is refused.
    Reject,
    /// It is refused, and its sender timed out.
    Timeout,
}

/// What is wrong with a set of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFault {
    /// Where: `rules.3.patterns.17`.
    pub place: String,
    /// What it must be.
    pub must: String,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Words,
        Self::Regex,
        Self::Links,
        Self::Caps,
        Self::Repeats,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Words => "words",
            Self::Regex => "regex",
            Self::Links => "links",
            Self::Caps => "caps",
            Self::Repeats => "repeats",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    const fn has_patterns(self) -> bool {
        matches!(self, Self::Words | Self::Regex)
    }

    const fn has_exceptions(self) -> bool {
        matches!(self, Self::Words | Self::Links)
    }
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 5] = [
        Self::Mask,
        Self::Hold,
        Self::Shadow,
        Self::Reject,
        Self::Timeout,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mask => "mask",
            Self::Hold => "hold",
            Self::Shadow => "shadow",
            Self::Reject => "reject",
            Self::Timeout => "timeout",
        }
    }

    /// The action of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}

/// Whether a text is the name of a set or the id of a rule: letters, digits, `-` and `_`.
pub fn is_rule_name(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=RULE_NAME_CHARS_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

impl Rule {
    /// What is wrong with it, beside its patterns.
    pub(super) fn check(&self) -> Option<(&'static str, String)> {
        if !is_rule_name(&self.id) {
            let must = format!(
                "must be 1 to {RULE_NAME_CHARS_MAX} letters, digits, dashes and underscores"
            );
            return Some(("id", must));
        }
        let kind = self.kind.name();
        if self.kind.has_patterns() && self.patterns.is_empty() {
            return Some((
                "patterns",
                format!("must have at least one: the kind is {kind}"),
            ));
        }
        if !self.kind.has_patterns() && !self.patterns.is_empty() {
            return Some(("patterns", format!("must be absent: the kind is {kind}")));
        }
        if !self.kind.has_exceptions() && !self.allow.is_empty() {
            return Some(("allow", format!("must be absent: the kind is {kind}")));
        }
        let is_whole = matches!(self.kind, Kind::Caps | Kind::Repeats);
        if is_whole && self.action == Action::Mask {
            let must = format!("must be another one: {kind} has no words to mask");
            return Some(("action", must));
        }
        match self.seconds {
            None if self.action == Action::Timeout => {
                return Some(("seconds", "is required: the action is timeout".to_owned()));
            }
            Some(_) if self.action != Action::Timeout => {
                let must = format!("must be absent: the action is {}", self.action.name());
                return Some(("seconds", must));
            }
            Some(seconds) if !(1..=BAN_SECONDS_MAX).contains(&seconds) => {
                return Some(("seconds", format!("must be from 1 to {BAN_SECONDS_MAX}")));
            }
            Some(_) | None => {}
        }
        (self.reason.chars().count() > REASON_CHARS_MAX).then(|| {
            (
                "reason",
                format!("must have at most {REASON_CHARS_MAX} characters"),
            )
        })
    }
}
