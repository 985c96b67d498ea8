//! Bodies and queries of API calls: what is accepted is within the API's bounds, every fault has a name, a page's
//! token means one place, and tag keys are those that an SDK escaped.
//!
//! Input: the body; or, behind `?`, tag keys as lines, which are escaped, and behind a zero byte the rest of a query.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use uproar::control::op::fuzzing::{Seen, see, tag_keys};

fuzz_target!(|data: &[u8]| match data.split_first() {
    Some((b'?', rest)) => query(rest),
    _ => body(data),
});

fn body(data: &[u8]) {
    let oracle: Option<Value> = serde_json::from_slice(data).ok();
    match see(data) {
        Ok(seen) => {
            assert!(data.is_empty() || oracle.as_ref().is_some_and(Value::is_object));
            within_bounds(seen);
        }
        Err(faults) => assert!(!faults.is_empty()),
    }
}

fn within_bounds(seen: Seen) {
    let chars = |text: &String| text.chars().count();
    assert!(seen.name.is_none_or(|name| chars(&name) <= 128));
    assert!(
        seen.message_rate
            .is_none_or(|rate| (1..=100).contains(&rate))
    );
    assert!(
        seen.message_length
            .is_none_or(|length| (1..=500).contains(&length))
    );
    let is_own = |name: &str| name.get(..4).is_some_and(|start| start == "aws:");
    assert!(seen.tags.is_none_or(|tags| {
        tags.len() <= 50 && tags.keys().all(|key| !is_own(key) && chars(key) <= 128)
    }));
    let bytes = |map: &BTreeMap<String, String>| {
        let pairs = map.iter();
        pairs
            .map(|(key, value)| key.len() + value.len())
            .sum::<usize>()
    };
    assert!(seen.attributes.is_none_or(|map| bytes(&map) <= 1024));
    assert!(
        seen.event_name
            .is_none_or(|name| !is_own(&name) && (1..=100).contains(&chars(&name)))
    );
    let is_id = |id: String| id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    assert!(seen.id.is_none_or(is_id));
    assert!(
        seen.user_id
            .is_none_or(|user| (1..=128).contains(&chars(&user)))
    );
    let known = ["SEND_MESSAGE", "DELETE_MESSAGE", "DISCONNECT_USER"];
    let named = seen.capabilities.into_iter().flatten();
    assert!(named.into_iter().all(|name| known.contains(&&*name)));
    if let Some(token) = seen.page {
        let body = serde_json::json!({"nextToken": &token}).to_string();
        let again = see(body.as_bytes()).expect("our own token").page;
        assert_eq!(again, Some(token));
    }
}

fn query(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let lines = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let keys: BTreeSet<String> = lines.lines().map(str::to_owned).collect();
    let mut escaped = String::new();
    for key in &keys {
        escaped.push_str("&tagKeys=");
        for byte in key.bytes() {
            write!(escaped, "%{byte:02X}").expect("memory");
        }
    }
    let are_good = keys.iter().all(|key| {
        let start = key.get(..4).unwrap_or_default();
        (1..=128).contains(&key.chars().count()) && !start.eq_ignore_ascii_case("aws:")
    });
    let read = tag_keys(escaped.trim_start_matches('&'));
    if are_good && (1..=50).contains(&keys.len()) {
        assert!(keys.iter().eq(read.as_ref().expect("good keys")));
    } else {
        assert!(read.is_err_and(|fault| !fault.is_empty()));
    }
    // What else is in a query, and how, takes nothing away.
    let rest = String::from_utf8_lossy(parts.next().unwrap_or_default());
    if let (Ok(more), Ok(_)) = (tag_keys(&format!("{rest}{escaped}")), tag_keys(&escaped)) {
        assert!(keys.iter().all(|key| more.contains(key)));
    }
}
