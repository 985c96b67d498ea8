//! Sets of rules that all shards look at: compiled and swapped by the control thread.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use uproar_proto::extension::rules::{Action, CompiledSet, Fold, judge};
use uproar_proto::extension::settings::Roles;

/// All sets of rules, by their names.
pub type RuleSets = HashMap<Box<str>, LiveSet>;

/// A set of rules in use.
#[derive(Debug, Clone)]
pub struct LiveSet {
    /// Its rules.
    pub compiled: Arc<CompiledSet>,
    /// Messages of which it has decided, by the action, as long as there is a set of its name.
    pub hits: Arc<[AtomicU64; Action::ALL.len()]>,
}

/// The sets of rules, shared by all threads. Without any a shard pays one look.
#[derive(Debug, Default)]
pub struct SharedRules {
    sets: ArcSwap<RuleSets>,
    // Made with the first set.
    fold: OnceLock<Fold>,
}

/// What a room's rules make of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// What becomes of it.
    pub action: Action,
    /// The rule that decides, with its set, as `house/slurs`.
    pub rule: Box<str>,
    /// What the sender is told; empty: a text of the server's.
    pub reason: Box<str>,
    /// Seconds of a time-out.
    pub seconds: Option<u32>,
    /// The message with asterisks, if it has some.
    pub masked: Option<Box<str>>,
}

impl Ruling {
    /// What a shadow ban makes of a message that these rules were asked about: where others' is said, its user alone gets it.
    pub fn in_shadow(ruling: Option<Self>) -> Self {
        let said = ruling.unwrap_or_else(|| Self {
            action: Action::Shadow,
            rule: "".into(),
            reason: "".into(),
            seconds: None,
            masked: None,
        });
        let action = match said.action {
            Action::Mask | Action::Shadow => Action::Shadow,
            // What waits for a moderator waits; what is refused is refused.
            Action::Hold | Action::Reject | Action::Timeout => said.action,
        };
        Self { action, ..said }
    }
}

impl SharedRules {
    /// What folds texts.
    pub fn fold(&self) -> &Fold {
        self.fold.get_or_init(Fold::default)
    }

    /// Puts a set in force, in place of the one of its name; what was counted goes on. For the control thread alone.
    pub fn put(&self, name: &str, compiled: CompiledSet) {
        self.fold();
        self.change(|sets| {
            let before = sets.get(name);
            let hits = before.map_or_else(Arc::default, |set| Arc::clone(&set.hits));
            let compiled = Arc::new(compiled);
            sets.insert(name.into(), LiveSet { compiled, hits });
        });
    }

    /// Takes a set out of force.
    pub fn remove(&self, name: &str) {
        self.change(|sets| drop(sets.remove(name)));
    }

    /// Takes all out of force.
    pub fn clear(&self) {
        self.change(RuleSets::clear);
    }

    fn change(&self, change: impl FnOnce(&mut RuleSets)) {
        let mut sets = RuleSets::clone(&self.sets.load());
        change(&mut sets);
        self.sets.store(Arc::new(sets));
    }

    /// Looks at all of them.
    pub fn look<T>(&self, look: impl FnOnce(&RuleSets) -> T) -> T {
        look(&self.sets.load())
    }

    /// Asks the sets of these names about a message, and counts the one that decides; `None`: it passes. A name without a
    /// set asks for nothing.
    pub fn judge(&self, names: &Roles, content: &str) -> Option<Ruling> {
        let sets = self.sets.load();
        if sets.is_empty() {
            return None;
        }
        let named = || names.iter().filter_map(|name| sets.get_key_value(name));
        let asked = named().map(|(_, set)| &*set.compiled);
        let finding = judge(asked, content, self.fold.get()?)?;
        let (name, set) = named().nth(finding.set)?;
        let action = finding.rule.action;
        let at = Action::ALL.iter().position(|other| *other == action);
        if let Some(hits) = at.and_then(|at| set.hits.get(at)) {
            hits.fetch_add(1, Ordering::Relaxed);
        }
        Some(Ruling {
            action,
            rule: format!("{name}/{}", finding.rule.id).into(),
            reason: finding.rule.reason.as_str().into(),
            seconds: finding.rule.seconds,
            masked: finding.masked.map(String::into_boxed_str),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uproar_proto::extension::rules::{Kind, Rule};

    fn set(rules: &SharedRules, word: &str, action: Action) -> CompiledSet {
        let rule = Rule {
            id: "r".to_owned(),
            kind: Kind::Words,
            patterns: vec![word.to_owned()],
            allow: Vec::new(),
            action,
            seconds: None,
            reason: "no".to_owned(),
        };
        CompiledSet::compile(vec![rule], rules.fold()).expect("valid")
    }

    fn hits(rules: &SharedRules, name: &str) -> Option<Vec<u64>> {
        let of = |set: &LiveSet| {
            set.hits
                .iter()
                .map(|hits| hits.load(Ordering::Relaxed))
                .collect()
        };
        rules.look(|sets| sets.get(name).map(of))
    }

    /// Goal: a room has the sets that it names, as they are now; a replaced set counts on, a removed one is forgotten.
    #[test]
    fn sets_are_swapped() {
        let rules = SharedRules::default();
        let names = Roles::parse("none+house+de").expect("names");
        assert_eq!(rules.judge(&names, "bad"), None);
        rules.put("house", set(&rules, "bad", Action::Mask));
        rules.put("other", set(&rules, "good", Action::Reject));
        let ruling = rules.judge(&names, "so bad, good").expect("a hit");
        assert_eq!((&*ruling.rule, ruling.action), ("house/r", Action::Mask));
        assert_eq!(ruling.masked.as_deref(), Some("so ***, good"));
        rules.put("de", set(&rules, "bad", Action::Reject));
        let ruling = rules.judge(&names, "bad").expect("a hit");
        assert_eq!((&*ruling.rule, &*ruling.reason), ("de/r", "no"));
        rules.put("house", set(&rules, "bad", Action::Shadow));
        rules.remove("de");
        assert_eq!(
            rules.judge(&names, "bad").map(|ruling| ruling.action),
            Some(Action::Shadow)
        );
        assert_eq!(hits(&rules, "house"), Some(vec![1, 0, 1, 0, 0]));
        assert_eq!(hits(&rules, "de"), None);
        rules.clear();
        assert_eq!(rules.judge(&names, "bad"), None);
    }
}
