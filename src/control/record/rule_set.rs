//! A set of rules as the control plane stores it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ResourceHeader;
use crate::control::store::Table;
use uproar_proto::base::id::RuleSetId;
use uproar_proto::extension::rules::Rule;

/// A set of rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSetRecord {
    /// Id, name and times.
    #[serde(flatten)]
    pub header: ResourceHeader,
    /// Its rules, as they were written: a later version may know further kinds.
    pub rules: Vec<Value>,
}

impl RuleSetRecord {
    /// Its name.
    pub fn name(&self) -> &str {
        self.header.name.as_deref().unwrap_or_default()
    }

    /// The rules that this version knows, and how many it does not.
    pub fn known(&self) -> (Vec<Rule>, usize) {
        let known = self
            .rules
            .iter()
            .map(|rule| serde_json::from_value(rule.clone()));
        let known: Vec<Rule> = known.filter_map(Result::ok).collect();
        let unknown = self.rules.len() - known.len();
        (known, unknown)
    }
}

stored!(RuleSetRecord, RuleSetId, Table::RuleSets);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Goal: what is stored is what is in force; a rule of a later version is kept, and the others hold.
    #[test]
    fn rules_of_later_versions_are_left_out() {
        let mut header = ResourceHeader::new(RuleSetId::of("house"), 1_000);
        header.name = Some("house".to_owned());
        let rules = vec![
            json!({"id": "a", "kind": "words", "patterns": ["bad"], "action": "reject"}),
            json!({"id": "b", "kind": "moods", "action": "reject"}),
        ];
        let record = RuleSetRecord { header, rules };
        let text = serde_json::to_string(&record).expect("JSON");
        assert_eq!(
            serde_json::from_str::<RuleSetRecord>(&text).expect("as written"),
            record
        );
        let (known, unknown) = record.known();
        assert_eq!((record.name(), known.len(), unknown), ("house", 1, 1));
    }
}
