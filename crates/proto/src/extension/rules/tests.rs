use proptest::prelude::*;

use super::*;
use crate::base::limits::{RULE_PATTERNS_MAX, RULES_PER_SET_MAX};

/// Made once: it is worked out from Unicode's tables.
fn fold() -> &'static Fold {
    static FOLD: std::sync::LazyLock<Fold> = std::sync::LazyLock::new(Fold::default);
    &FOLD
}

fn rule(kind: Kind, patterns: &[&str], allow: &[&str], action: Action) -> Rule {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Rule {
        id: "r".to_owned(),
        kind,
        patterns: texts(patterns),
        allow: texts(allow),
        action,
        seconds: (action == Action::Timeout).then_some(60),
        reason: String::new(),
    }
}

fn words(patterns: &[&str], allow: &[&str]) -> Rule {
    rule(Kind::Words, patterns, allow, Action::Mask)
}

fn compile(rules: Vec<Rule>) -> CompiledSet {
    CompiledSet::compile(rules, fold()).expect("valid rules")
}

/// What a message becomes.
fn masked(set: &CompiledSet, content: &str) -> String {
    let found = judge([set], content, fold());
    let masked = found.and_then(|finding| finding.masked);
    masked.unwrap_or_else(|| content.to_owned())
}

/// Goal: a word is found as people disguise it, and masked where it stands; other words are not.
#[test]
fn words_are_found_however_they_are_disguised() {
    let set = compile(vec![words(&["bad", "two words", "👎", "坏"], &[])]);
    for (text, wanted) in [
        ("bad", "***"),
        ("so BAD!", "so ***!"),
        ("b a d", "***"),
        ("b  a . d now", "*** now"),
        ("I am b a d you see", "I am *** you see"),
        ("bàd bád", "*** ***"),
        ("b4d", "***"),
        ("b@d 8ad", "*** ***"),
        ("baaaad bbaadd", "*** ***"),
        ("b.a.d b-a-d b_a_d ba.d b*a*d", "*** *** *** *** ***"),
        ("b 4 d", "***"),
        ("b🔥a🔥d", "***"),
        ("bаd (with a Cyrillic a)", "*** (with a Cyrillic a)"),
        ("ｂａｄ 𝐛𝐚𝐝", "*** ***"),
        ("b\u{200b}ad", "***"),
        ("two  words, TWO-WORDS", "***, ***"),
        ("no 👎🏽!", "no **!"),
        ("很坏的", "很*的"),
        ("badge", "badge"),
        ("a badly abad", "a badly abad"),
        ("bd b d ba d b ad", "bd b d ba d b ad"),
        ("two, three words", "two, three words"),
        ("455 8008 $$$ 84", "455 8008 $$$ 84"),
        ("", ""),
        ("b", "b"),
    ] {
        assert_eq!(masked(&set, text), wanted, "{text}");
    }
}

/// Goal: a star opens a word at its end, what is allowed is no hit, and a doubled letter is asked for only where the pattern
/// has one.
#[test]
fn stars_exceptions_and_doubled_letters() {
    let set = compile(vec![words(
        &["bad*", "*shit*", "ass", "1337"],
        &["badge", "shitake"],
    )]);
    for (text, wanted) in [
        ("badass badges badge", "*** *** badge"),
        ("B A D G E", "B A D G E"),
        ("bullshitter", "***"),
        ("shitake", "shitake"),
        ("sh!t $h1t", "*** ***"),
        ("as ass asss a$$", "as *** *** ***"),
        ("class assets", "class assets"),
        ("1337 leet", "*** leet"),
    ] {
        assert_eq!(masked(&set, text), wanted, "{text}");
    }
    let one = compile(vec![
        words(&["l"], &[]),
        Rule {
            id: "q".into(),
            ..words(&["kill"], &[])
        },
    ]);
    assert_eq!(masked(&one, "k1ll kil I"), "*** kil I");
}

/// Goal: a short form is another word than it would be without its apostrophe, and numbers are no words though each digit
/// stands alone.
#[test]
fn short_forms_and_numbers_are_no_disguise() {
    let set = compile(vec![words(&["hell", "ill", "ass", "cant"], &[])]);
    for text in [
        "he'll he’ll He`ll be",
        "I'll",
        "can't",
        "4 5 5",
        "I have 4, 5, 5",
        "it is 4.5.5",
        "IP 4.5.5.1",
        "4-5-5",
    ] {
        assert_eq!(masked(&set, text), text, "{text}");
    }
    for (text, wanted) in [
        ("he'l'l h'e'l'l", "*** ***"),
        ("h'ell hell's", "*** ***'s"),
        ("a 5 5", "***"),
        ("4 s 5", "***"),
        ("a55 45s", "*** ***"),
    ] {
        assert_eq!(masked(&set, text), wanted, "{text}");
    }
}

/// Goal: words of other scripts are found as they are written, and in capitals; a look-alike is read both ways.
#[test]
fn other_scripts() {
    let set = compile(vec![words(
        &["дурак", "καλά", "ばか", "बुरा", "바보", "أحمق"],
        &[],
    )]);
    for (text, wanted) in [
        ("ДУРАК дурак дуурак", "*** *** ***"),
        ("ΚΑΛΆ", "***"),
        ("おばかさん", "お**さん"),
        ("बुरा", "***"),
        ("바보야", "**야"),
        ("أَحْمَق", "***"),
        ("дуракам", "дуракам"),
    ] {
        assert_eq!(masked(&set, text), wanted, "{text}");
    }
}

/// Goal: expressions see folded text with its signs, and the text as it is written; the place that they hit is the message's.
#[test]
fn expressions_see_folded_text() {
    for (pattern, text) in [
        ("дурак", "ДУРАК"),
        ("д.рак", "ду\u{200b}рак"),
        ("[а-я]+ок", "прок"),
        ("é", "e\u{301}"),
        ("e\u{301}", "É"),
        ("ß", "ß"),
        ("Ｘ", "Ｘ"),
        (r"\p{Greek}{3}", "καλ"),
        ("x", "Ｘ"),
        ("(?-i)[A-Z]+", "LOUD"),
    ] {
        let set = compile(vec![rule(Kind::Regex, &[pattern], &[], Action::Mask)]);
        let hits = set.hits(&Message::new(text, fold()));
        assert_eq!(hits.len(), 1, "{pattern} {hits:?}");
        assert_eq!(
            hits.first().map(|hit| hit.source.clone()),
            Some(0..text.len()),
            "{pattern}"
        );
    }
    let set = compile(vec![rule(
        Kind::Regex,
        &[r"\b\d{3}-\d{4}\b", r"free\s+MONEY", "ß+x"],
        &[],
        Action::Mask,
    )]);
    for (text, wanted) in [
        ("call 555-1234!", "call ***!"),
        ("ＦＲＥＥ   Monéy", "***"),
        ("555-12345", "555-12345"),
        ("ﬁ 555-1234", "ﬁ ***"),
    ] {
        assert_eq!(masked(&set, text), wanted, "{text}");
    }
    let all = compile(vec![rule(Kind::Regex, &["(?s)."], &[], Action::Mask)]);
    assert_eq!(masked(&all, "a ü𝓫\n"), "*****");
}

/// Goal: links are hit unless their host is allowed letter by letter; capitals and repetitions are hit from their bounds on.
#[test]
fn links_capitals_and_repetitions() {
    let links = compile(vec![rule(Kind::Links, &[], &["youtube.com"], Action::Mask)]);
    for (text, wanted) in [
        ("see https://evil.example/x now", "see *** now"),
        (
            "see https://youtube.com/x and m.youtube.com",
            "see https://youtube.com/x and m.youtube.com",
        ),
        ("yоutube.com", "***"),
        ("ｅｖｉｌ．ｃｏｍ", "***"),
        ("nothing. here", "nothing. here"),
        ("so https://youtube.com:443@evil.zz/ no", "so *** no"),
        ("youtube.com,https://evil.zz", "youtube.com,***"),
    ] {
        assert_eq!(masked(&links, text), wanted, "{text}");
    }
    let set = compile(vec![
        Rule {
            id: "c".into(),
            ..rule(Kind::Caps, &[], &[], Action::Reject)
        },
        rule(Kind::Repeats, &[], &[], Action::Shadow),
    ]);
    let hit = |text: &str| judge([&set], text, fold()).map(|finding| finding.rule.kind);
    for (text, wanted) in [
        ("THIS IS LOUD", Some(Kind::Caps)),
        ("WOW 1234567890", None),
        ("This is not LOUD", None),
        ("!!!!!!!!!!", Some(Kind::Repeats)),
        ("!!!!!!!!!", None),
        ("          ", None),
        ("go Go GO go gó", Some(Kind::Repeats)),
        ("go go go go", None),
        ("НЕ КРИЧИ НА МЕНЯ", Some(Kind::Caps)),
    ] {
        assert_eq!(hit(text), wanted, "{text}");
    }
}

/// Goal: of several rules the strictest decides, of several sets the first with it; what is held is masked, too.
#[test]
fn the_strictest_decides() {
    let rules = [
        ("m", "mild", Action::Mask),
        ("h", "wait", Action::Hold),
        ("s", "odd", Action::Shadow),
        ("r", "bad", Action::Reject),
        ("t", "worst", Action::Timeout),
    ];
    let made = |name: &str| {
        let of = |(id, word, action): (&str, &str, Action)| Rule {
            id: format!("{id}{name}"),
            ..rule(Kind::Words, &[word], &[], action)
        };
        compile(rules.map(of).to_vec())
    };
    let sets = [made("1"), made("2")];
    let fold = fold();
    for (text, wanted) in [
        ("mild", Some(("m1", Some("***")))),
        ("mild wait", Some(("h1", Some("*** wait")))),
        ("wait", Some(("h1", None))),
        ("mild odd wait", Some(("s1", None))),
        ("bad mild odd", Some(("r1", None))),
        ("bad worst", Some(("t1", None))),
        ("good", None),
    ] {
        let found = judge(&sets, text, fold);
        let found = found
            .as_ref()
            .map(|finding| (&*finding.rule.id, finding.masked.as_deref()));
        assert_eq!(found, wanted, "{text}");
    }
}

/// Goal: what is not valid is refused by its place, and what would hit everything by mistake is not taken.
#[test]
fn what_is_wrong_is_named() {
    use Action::{Mask, Reject, Timeout};
    use Kind::{Caps, Links, Regex, Repeats};
    let long = "x".repeat(65);
    let nested = format!("{}a{}", "(".repeat(60), ")".repeat(60));
    let of = |rule: Rule| CompiledSet::compile(vec![rule], fold()).map_err(|fault| fault.place);
    for (wrong, place) in [
        (
            Rule {
                id: String::new(),
                ..words(&["a"], &[])
            },
            "rules.0.id",
        ),
        (
            Rule {
                id: "a b".into(),
                ..words(&["a"], &[])
            },
            "rules.0.id",
        ),
        (words(&[], &[]), "rules.0.patterns"),
        (words(&["ok", ""], &[]), "rules.0.patterns.1"),
        (words(&["ok", "*"], &[]), "rules.0.patterns.1"),
        (words(&["!?"], &[]), "rules.0.patterns.0"),
        (words(&["c++"], &[]), "rules.0.patterns.0"),
        (words(&["bad", "$"], &[]), "rules.0.patterns.1"),
        (words(&["\u{200b}\u{301}"], &[]), "rules.0.patterns.0"),
        (words(&["f*ck"], &[]), "rules.0.patterns.0"),
        (words(&[&long], &[]), "rules.0.patterns.0"),
        (words(&["a"], &["  "]), "rules.0.allow.0"),
        (rule(Regex, &["("], &[], Mask), "rules.0.patterns.0"),
        (rule(Regex, &["x", ".*"], &[], Mask), "rules.0.patterns.1"),
        (rule(Regex, &[r"\b"], &[], Mask), "rules.0.patterns.0"),
        (rule(Regex, &[r"[a&&b]"], &[], Mask), "rules.0.patterns.0"),
        (rule(Regex, &[r"(a)\1"], &[], Mask), "rules.0.patterns.0"),
        (rule(Regex, &[&nested], &[], Mask), "rules.0.patterns.0"),
        (
            rule(Regex, &["(((a{9}){9}){9}){9}"], &[], Mask),
            "rules.0.patterns",
        ),
        (rule(Regex, &[r"\pL{200}"], &[], Mask), "rules.0.patterns"),
        (rule(Regex, &["a"], &["b"], Mask), "rules.0.allow"),
        (rule(Links, &["a"], &[], Mask), "rules.0.patterns"),
        (rule(Links, &[], &["a b"], Mask), "rules.0.allow.0"),
        (rule(Caps, &[], &[], Mask), "rules.0.action"),
        (rule(Repeats, &[], &["x"], Reject), "rules.0.allow"),
        (
            Rule {
                seconds: None,
                ..rule(Caps, &[], &[], Timeout)
            },
            "rules.0.seconds",
        ),
        (
            Rule {
                seconds: Some(0),
                ..rule(Caps, &[], &[], Timeout)
            },
            "rules.0.seconds",
        ),
        (
            Rule {
                seconds: Some(1),
                ..rule(Caps, &[], &[], Reject)
            },
            "rules.0.seconds",
        ),
        (
            Rule {
                reason: "x".repeat(257),
                ..words(&["a"], &[])
            },
            "rules.0.reason",
        ),
    ] {
        let text = format!("{wrong:?}");
        assert_eq!(of(wrong).expect_err(&text), place, "{text}");
    }
    let both = CompiledSet::compile(vec![words(&["a"], &[]), words(&["b"], &[])], fold());
    assert_eq!(both.expect_err("the same id twice").place, "rules.1.id");
    let none = CompiledSet::compile(Vec::new(), fold());
    assert_eq!(none.expect_err("no rule").place, "rules");
    let many = (0..=RULES_PER_SET_MAX).map(|number| Rule {
        id: number.to_string(),
        ..words(&["a"], &[])
    });
    let many = CompiledSet::compile(many.collect(), fold());
    assert_eq!(many.expect_err("too many rules").place, "rules");
    let expressions = (0..9).map(|number| Rule {
        id: number.to_string(),
        ..rule(Regex, &["a"], &[], Mask)
    });
    let expressions = CompiledSet::compile(expressions.collect(), fold());
    assert_eq!(expressions.expect_err("too many").place, "rules");
}

fn numbered(count: usize) -> Vec<String> {
    let letters = |mut number: usize| {
        let mut word = "w".to_owned();
        while number > 0 {
            word.extend(char::from_u32(
                u32::from('a') + u32::try_from(number % 26).expect("a letter"),
            ));
            number /= 26;
        }
        word
    };
    (0..count).map(letters).collect()
}

/// Goal: as many words as may be are found, and one more is refused.
#[test]
fn as_many_words_as_may_be() {
    let mut all = words(&[], &[]);
    all.patterns = numbered(RULE_PATTERNS_MAX);
    let last = all.patterns.last().expect("many").clone();
    let set = compile(vec![all.clone()]);
    assert_eq!(masked(&set, &format!("x {last} y")), "x *** y");
    all.allow.push("z".to_owned());
    let refused = CompiledSet::compile(vec![all], fold());
    assert_eq!(refused.expect_err("one too many").place, "rules");
}

proptest! {
    /// Goal: no pattern and no message panics; a word is found in itself, with anything around it that ends a word; what is
    /// masked has no more characters or bytes, and the rest is as it was.
    #[test]
    fn words_find_themselves(
        pattern in "\\PC{1,12}|[a-z]{1,8}|[a-z]{1,4} [a-z]{1,4}",
        before in "\\PC{0,8}", after in "\\PC{0,8}",
        any in proptest::collection::vec(any::<char>(), 0..30),
    ) {
        let fold = fold();
        let any: String = any.into_iter().collect();
        for pattern in [&pattern, &any] {
            let Ok(set) = CompiledSet::compile(vec![words(&[pattern], &[])], fold) else {
                continue;
            };
            if !pattern.contains('*') {
                let found = judge([&set], pattern, fold);
                prop_assert!(found.is_some(), "{:?} is not found", pattern);
                let around = format!("{before} {pattern} {after}");
                prop_assert!(judge([&set], &around, fold).is_some(), "{:?} in {:?}", pattern, around);
            }
            for content in [&before, &after, &any] {
                let hits = set.hits(&Message::new(content, fold));
                for hit in &hits {
                    prop_assert!(content.get(hit.source.clone()).is_some_and(|text| !text.is_empty()));
                }
                let masked = masked(&set, content);
                prop_assert!(masked.len() <= content.len() && masked.chars().count() <= content.chars().count());
                if hits.is_empty() {
                    prop_assert_eq!(&masked, content);
                }
            }
        }
    }

    /// Goal: a look never takes a message for less than it is: what reading it finds, a look lets through. Method: few
    /// letters, with digits, signs, marks, scripts and spaces that are read in several ways, so that words are found often.
    #[test]
    fn a_look_sees_no_less_than_a_reading(
        patterns in proptest::collection::vec("[*]?[abil]{1,4}[*]?|[*]?[abtsd1]{1,3}[ .'][abt04]{1,3}[*]?|[*]?[a坏人👍]{1,3}[*]?", 1..4),
        contents in proptest::collection::vec("[abil1! ]{1,12}|[abtsd0457@$(+'’.\\- \u{1}]{1,16}|[ab坏人👍\u{301}\u{200b}€@. ]{1,10}|([a-d@!.] ?){2,8}|[ab.]{1,3}[.]{0,5}[ab'.t]{1,6}", 1..6),
    ) {
        let fold = fold();
        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
        if let Ok(set) = CompiledSet::compile(vec![words(&patterns, &[])], fold) {
            for content in contents.iter().chain([&contents.join(" "), &contents.concat()]) {
                let message = Message::new(content, fold);
                prop_assert_eq!(set.hits(&message), set.word_hits(&message), "{:?} in {:?}", patterns, content);
            }
        }
    }

    /// Goal: whatever an expression is, it is refused or it ends, and its hits are parts of the message.
    #[test]
    fn expressions_end(pattern in "\\PC{0,16}|[ab(|)*+?.{}0-9\\\\\\[\\]^$-]{1,16}", content in "[ab]{0,60}|\\PC{0,60}") {
        let fold = fold();
        let made = CompiledSet::compile(vec![rule(Kind::Regex, &[&pattern], &[], Action::Mask)], fold);
        if let Ok(set) = made {
            for hit in set.hits(&Message::new(&content, fold)) {
                prop_assert!(content.get(hit.source).is_some());
            }
            let masked = masked(&set, &content);
            prop_assert!(masked.chars().count() <= content.chars().count());
        }
    }
}
