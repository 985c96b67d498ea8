//! Rights of an access key: operations, and their resources.

use std::collections::BTreeSet;

use crate::control::operation::Operation;

/// Rights of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// `None`: every operation.
    operations: Option<BTreeSet<Operation>>,
    /// ARN patterns; none: every resource, and calls without a single resource.
    resources: Vec<String>,
    // Whether attributes of tokens may be the server's.
    token_attributes: bool,
}

/// What a key is granted beside operations: attributes `uproar:` of chat tokens, which back ends that copy what a browser
/// sent must not give.
pub const TOKEN_ATTRIBUTES: &str = "TokenAttributes";

impl Grant {
    /// Everything.
    pub const ALL: Self = Self {
        operations: None,
        resources: Vec::new(),
        token_attributes: true,
    };

    /// These operations (`None`: all), on resources whose ARN one of the patterns matches (none:
    /// all). In a pattern `*` stands for any text and `?` for one character, as in IAM policies.
    pub fn new(operations: Option<BTreeSet<Operation>>, resources: Vec<String>) -> Self {
        Self {
            token_attributes: operations.is_none(),
            operations,
            resources,
        }
    }

    /// Grants attributes `uproar:` of chat tokens, too.
    #[must_use]
    pub fn with_token_attributes(mut self, granted: bool) -> Self {
        self.token_attributes |= granted;
        self
    }

    /// Whether chat tokens may have attributes `uproar:`.
    pub fn allows_token_attributes(&self) -> bool {
        self.token_attributes
    }

    /// Whether the operation may be called at all.
    pub fn allows(&self, operation: Operation) -> bool {
        let operations = self.operations.as_ref();
        operations.is_none_or(|operations| operations.contains(&operation))
    }

    /// Whether a call may concern this resource. Listings and creations have none: a key that is
    /// limited to some resources may not make them.
    pub fn covers(&self, arn: Option<&str>) -> bool {
        let mut patterns = self.resources.iter();
        self.resources.is_empty()
            || arn.is_some_and(|arn| patterns.any(|pattern| matches(pattern, arn)))
    }
}

/// Whether `text` matches `pattern`; on a mismatch only the last `*` takes one more character, so
/// the cost is at most the product of the lengths.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, from));
                at += 1;
            }
            Some(b'?') => (at, from) = (at + 1, from + 1),
            Some(byte) if *byte == text[from] => (at, from) = (at + 1, from + 1),
            _ => {
                let Some((after, taken)) = star else {
                    return false;
                };
                star = Some((after, taken + 1));
                (at, from) = (after, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Goal: patterns mean what they mean in IAM.
    #[test]
    fn patterns_match_as_in_iam() {
        let arn = "arn:aws:ivschat:us-west-2:123456789012:room/TC6fLHr7ycLt";
        for pattern in [
            "*",
            arn,
            "arn:aws:ivschat:*:*:room/*",
            "arn:aws:ivschat:us-west-2:123456789012:room/TC6fLHr7yc??",
            "*TC6*",
            "**Lt*",
        ] {
            assert!(matches(pattern, arn), "{pattern}");
        }
        for pattern in [
            "",
            "?",
            "arn:aws:ivschat:*:*:logging-configuration/*",
            "arn:aws:ivschat:us-west-2:123456789012:room/TC6fLHr7ycL",
            "*x",
            "ARN:*",
        ] {
            assert!(!matches(pattern, arn), "{pattern}");
        }
        assert!(matches("", ""));
        assert!(!matches(&"*a".repeat(64), &"a".repeat(63)));
    }

    /// The definition, implemented directly.
    fn slowly(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => (0..=text.len()).any(|taken| slowly(rest, &text[taken..])),
            (Some((one, rest)), Some((byte, after))) => {
                (*one == b'?' || one == byte) && slowly(rest, after)
            }
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    proptest! {
        /// Goal: the fast match agrees with the definition.
        #[test]
        fn quick_and_slow_agree(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            prop_assert_eq!(matches(&pattern, &text), slowly(pattern.as_bytes(), text.as_bytes()));
        }
    }

    /// Goal: a limited key reaches its resources, and neither others nor listings.
    #[test]
    fn grants_limit_operations_and_resources() {
        let mint = BTreeSet::from([Operation::CreateChatToken]);
        let grant = Grant::new(Some(mint), vec!["*:room/A*".into(), "*:room/B".into()]);
        assert!(grant.allows(Operation::CreateChatToken));
        assert!(!grant.allows(Operation::CreateRoom));
        assert!(grant.covers(Some("arn:room/AAAA")) && grant.covers(Some("arn:room/B")));
        assert!(!grant.covers(Some("arn:room/BB")) && !grant.covers(None));
        assert!(Grant::ALL.covers(None) && Grant::ALL.allows(Operation::CreateRoom));
    }
}
