//! Answers of review handlers: a denial that can be read counts, and what is allowed is what the answer says.
//!
//! Input: the body of an answer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use uproar_proto::chat::review::{Verdict, read_answer};

const CONTENT_CHARS_MAX: usize = 100;

fuzz_target!(|data: &[u8]| {
    let verdict = read_answer(data, CONTENT_CHARS_MAX);
    if let Ok(Verdict::Allow(rewrite)) = &verdict {
        assert!((1..=CONTENT_CHARS_MAX).contains(&rewrite.content.chars().count()));
        if let Some(attributes) = &rewrite.attributes_json {
            let attributes: Map<String, Value> = serde_json::from_str(attributes).expect("JSON");
            assert!(attributes.values().all(Value::is_string));
        }
    }
    let Ok(Value::Object(oracle)) = serde_json::from_slice(data) else {
        return;
    };
    let results: Vec<_> = oracle
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("ReviewResult"))
        .map(|(_, value)| value.as_str().unwrap_or_default())
        .collect();
    match results[..] {
        ["DENY"] => assert!(matches!(verdict, Ok(Verdict::Deny(_))), "{verdict:?}"),
        ["ALLOW"] => assert!(!matches!(verdict, Ok(Verdict::Deny(_))) || said_twice(data)),
        [] => assert!(!matches!(verdict, Ok(Verdict::Allow(_)))),
        _ => {}
    }
});

/// The oracle keeps the last of several members of one name; a denial among them may count.
fn said_twice(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data).to_ascii_lowercase();
    text.matches("result").count() > 1 || text.contains("\\u")
}
