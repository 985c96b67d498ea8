//! Bodies of API calls: what is accepted is within the API's bounds, every fault has a name, and a page's token means
//! one place.
//!
//! Input: the body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use uproar::control::op::fuzzing::{Seen, see};

fuzz_target!(|data: &[u8]| {
    let oracle: Option<Value> = serde_json::from_slice(data).ok();
    match see(data) {
        Ok(Seen {
            name,
            message_rate,
            message_length,
            tags,
            attributes,
            page,
        }) => {
            assert!(data.is_empty() || oracle.as_ref().is_some_and(Value::is_object));
            assert!(name.is_none_or(|name| name.chars().count() <= 128));
            assert!(message_rate.is_none_or(|rate| (1..=100).contains(&rate)));
            assert!(message_length.is_none_or(|length| (1..=500).contains(&length)));
            assert!(tags.is_none_or(|tags| tags.len() <= 50));
            let bytes = |map: &std::collections::BTreeMap<String, String>| {
                map.iter()
                    .map(|(key, value)| key.len() + value.len())
                    .sum::<usize>()
            };
            assert!(attributes.is_none_or(|map| bytes(&map) <= 1024));
            if let Some(token) = page {
                let body = serde_json::json!({"nextToken": &token}).to_string();
                let again = see(body.as_bytes()).expect("our own token").page;
                assert_eq!(again, Some(token));
            }
        }
        Err(faults) => assert!(!faults.is_empty()),
    }
});
