use super::*;
use proptest::prelude::*;

fn scan(json: &[u8], chunk: usize) -> Option<String> {
    let mut scan = Scan::new("RequestId", 64, |_| true);
    json.chunks(chunk.max(1)).for_each(|part| scan.feed(part));
    scan.value().map(str::to_owned)
}

/// Goal: a member at the top is found, one that is nested or inside a string is not, and broken
/// text is read as far as possible.
#[test]
fn a_member_is_found_at_the_top_only() {
    let long = format!(r#"{{"RequestId":"{}"}}"#, "r".repeat(65));
    let cases: &[(&str, Option<&str>)] = &[
        (r#"{"RequestId":"r"}"#, Some("r")),
        (r#" { "REQUESTID" : "r" } "#, Some("r")),
        ("\u{feff}{\"requestId\":\"r\"}", Some("r")),
        (
            r#"{"\u0052equestId":"a\"b\u00e9\ud83d"}"#,
            Some("a\"bé\u{fffd}"),
        ),
        (r#"{"A":{"RequestId":"x"},"RequestId":"r"}"#, Some("r")),
        (
            r#"{"RequestId":"first","RequestId":"second"}"#,
            Some("first"),
        ),
        (r#"{"RequestId":7,"requestid":"r"}"#, Some("r")),
        (r#"{"A":{"RequestId":"x"}}"#, None),
        (r#"{"A":["RequestId","x"],"B":"RequestId"}"#, None),
        (r#"{"A":"\"RequestId\":\"x\""}"#, None),
        (
            r#"{"A":"{\"RequestId\":\"x\"}","RequestId":"r"}"#,
            Some("r"),
        ),
        (r#"["RequestId","x"]"#, None),
        (r#"{"RequestId":"cut"#, None),
        (&long, None),
        // Text that is broken before or after the member.
        (r#"{"A":1e999,"RequestId":"r"}"#, Some("r")),
        (r#"{"A":"\ud83d","RequestId":"r"}"#, Some("r")),
        (r#"{"A":"\q","RequestId":"r"}"#, Some("r")),
        (r#"{"A:"x","RequestId":"r"}"#, Some("r")),
        (r#"{A":"x","RequestId":"r"}"#, Some("r")),
        (r#"{"A":"x,"RequestId":"r"}"#, Some("r")),
        (r#"{"A":"x\","RequestId":"r"}"#, Some("r")),
        (r#"{"A":"x"\,"RequestId":"r"}"#, Some("r")),
        (r#"{"A":{"a":"1","RequestId":"r"}"#, Some("r")),
        (r#"{"A":{"a":"1"}},"RequestId":"r"}"#, Some("r")),
        (r#""A":"x","RequestId":"r"}"#, Some("r")),
        (r#"{"RequestId":"r","A":"#, Some("r")),
        (r#"{"RequestId":"r"} and more"#, Some("r")),
        (r#"{"A":"x""RequestId":"r"}"#, Some("r")),
        (r#"{"A":"x":"RequestId":"r"}"#, Some("r")),
        (r#"{"A","x","RequestId":"r"}"#, Some("r")),
    ];
    for (json, expected) in cases {
        for chunk in [1, 3, usize::MAX] {
            assert_eq!(scan(json.as_bytes(), chunk).as_deref(), *expected, "{json}");
        }
    }
    let deep = format!(
        r#"{{"A":{}{},"RequestId":"r"}}"#,
        "[".repeat(9000),
        "]".repeat(9000)
    );
    assert_eq!(scan(deep.as_bytes(), 4096).as_deref(), Some("r"));
    assert_eq!(
        scan(b"{\"A\":\"\xff\xc3\",\"RequestId\":\"r\"}", 7).as_deref(),
        Some("r")
    );
}

/// Goal: whole surrogate pairs stay unchanged, halves become U+FFFD.
#[test]
fn halves_of_surrogate_pairs_are_replaced() {
    for (json, expected) in [
        (r#""\ud83d""#, Some("\u{fffd}")),
        (r#""a\uD83D\u0041""#, Some("a\u{fffd}A")),
        (r#""\udd25\ud83d\udd25\ud83d""#, Some("\u{fffd}🔥\u{fffd}")),
        (r#""\\ud83d""#, None),
        (r#""\ud83d\udd25""#, None),
        (r#""\u+83d""#, None),
        (r#""\ud83"#, None),
        (r#""\"#, None),
    ] {
        let mut mended = json.as_bytes().to_vec();
        assert_eq!(
            mend_lone_surrogates(&mut mended),
            expected.is_some(),
            "{json}"
        );
        match expected {
            Some(text) => assert_eq!(
                serde_json::from_slice::<String>(&mended).ok().as_deref(),
                Some(text)
            ),
            None => assert_eq!(mended, json.as_bytes()),
        }
    }
}

proptest! {
    /// Goal: in valid JSON the scanner reads what serde_json reads, however the text is cut.
    #[test]
    fn valid_text_agrees_with_serde_json(
        texts in prop::collection::vec("[\\x00-\\x7f\"\\\\{}:,é🔥]{0,12}", 3),
        id in "[\\x20-\\x7f\"\\\\é🔥]{0,20}",
        rotate in 0_usize..4,
        chunk in 1_usize..9,
        has_id in any::<bool>(),
        pretty in any::<bool>(),
    ) {
        let mut members = vec![
            ("A".to_owned(), serde_json::json!(texts[0])),
            (texts[1].clone(), serde_json::json!({"RequestId": texts[2], "x": ["RequestId", "y"]})),
        ];
        if has_id {
            members.push(("RequestId".to_owned(), serde_json::json!(id)));
        }
        let len = members.len();
        members.rotate_left(rotate % len);
        let object: serde_json::Map<_, _> = members.into_iter().collect();
        let json = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) };
        let found = scan(json.expect("JSON").as_bytes(), chunk);
        prop_assert_eq!(found, has_id.then_some(id));
    }

    /// Goal: no bytes make the scanner panic or keep more than its bound.
    #[test]
    fn any_bytes_are_scanned(bytes in prop::collection::vec(
        prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), Just(b'{'), Just(b'}')], 0..400,
    )) {
        let mut scan = Scan::new("RequestId", 64, |_| true);
        scan.feed(b"{\"RequestId\":\"");
        scan.feed(&bytes);
        prop_assert!(scan.raw.capacity() <= 128);
        let _ = mend_lone_surrogates(&mut bytes.clone());
    }
}
