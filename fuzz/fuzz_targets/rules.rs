//! Rules: whatever operators write is refused or compiled, and whatever members write is judged; what is masked is shorter, and
//! what was not hit stays.
//!
//! Input: lines; the first is a kind and an action as two letters, the second a pattern, the third what is allowed, the rest a
//! message.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use uproar_proto::extension::rules::{Action, CompiledSet, Fold, Kind, Message, Rule, judge};

static FOLD: LazyLock<Fold> = LazyLock::new(Fold::default);

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(4, |byte| *byte == b'\n');
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default());
    let (letters, pattern, allowed, message) = (text(), text(), text(), text());
    let mut letters = letters.bytes().map(usize::from);
    let mut chosen = |count: usize| letters.next().unwrap_or(0) % count;
    let kind = Kind::ALL[chosen(Kind::ALL.len())];
    let action = Action::ALL[chosen(Action::ALL.len())];
    let list = |text: &str| -> Vec<String> {
        let words = text.split('\t').filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    };
    let rule = Rule {
        id: "r".to_owned(),
        kind,
        patterns: list(&pattern),
        allow: list(&allowed),
        action,
        seconds: (action == Action::Timeout).then_some(60),
        reason: String::new(),
    };
    let Ok(set) = CompiledSet::compile(vec![rule], &FOLD) else {
        return;
    };
    let whole = Message::new(&message, &FOLD);
    let hits = set.hits(&whole);
    if kind == Kind::Words {
        assert_eq!(hits, set.word_hits(&whole), "a look sees no less");
    }
    for hit in &hits {
        let found = message
            .get(hit.source.clone())
            .expect("a part of the message");
        assert!(!found.is_empty(), "a hit is of something");
    }
    let Some(finding) = judge([&set], &message, &FOLD) else {
        assert!(hits.is_empty(), "what is hit is found");
        return;
    };
    assert_eq!((finding.set, finding.rule.action), (0, action));
    if let Some(masked) = finding.masked {
        assert!(masked.len() <= message.len() && masked.contains('*'));
        assert!(masked.chars().count() <= message.chars().count());
    }
    if kind == Kind::Words && allowed.is_empty() {
        // The word itself is found, too.
        for pattern in list(&pattern)
            .iter()
            .filter(|pattern| !pattern.contains('*'))
        {
            assert!(judge([&set], pattern, &FOLD).is_some(), "{pattern:?}");
        }
    }
});
