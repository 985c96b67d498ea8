use proptest::prelude::*;

use super::*;
use crate::base::clock::UnixTime;
use crate::chat::encode::sender_json;
use crate::extension::tags;
use crate::token::Capability;

const EPOCH: u64 = 1_800_000_000;

fn at(seconds: f64) -> Now {
    let passed = Duration::from_secs_f64(seconds);
    Now {
        tick: Tick::from_nanos(7).after(passed),
        unix: UnixTime::from_secs(EPOCH).after(passed),
    }
}

fn settings(tagged: &[(&str, &str)]) -> Settings {
    let tagged: Vec<_> = tagged
        .iter()
        .map(|(name, value)| (format!("uproar:{name}"), *value))
        .collect();
    for (key, value) in &tagged {
        assert_eq!(tags::check(key, value), Ok(()));
    }
    let found = tags::settings(tagged.iter().map(|(key, value)| (&**key, *value)));
    found.expect("some tag")
}

fn crew(capability: Capability) -> Speaker {
    Speaker::of(
        [Capability::SendMessage, capability].into_iter().collect(),
        None,
    )
}

/// A room that says what a user's message gets at some time.
struct Room {
    modes: Modes,
    settings: Settings,
}

impl Room {
    fn new(tagged: &[(&str, &str)]) -> Self {
        let mut room = Self {
            modes: Modes::default(),
            settings: settings(tagged),
        };
        room.modes.follow(&room.settings);
        room
    }

    fn retag(&mut self, tagged: &[(&str, &str)]) {
        self.settings = settings(tagged);
        self.modes.follow(&self.settings);
    }

    fn say_as(&mut self, sender_json: &str, speaker: Speaker, content: &str, now: f64) -> String {
        let speech = Speech {
            content,
            sender_json,
            speaker,
        };
        let judged = self.modes.judge(&self.settings, &speech, at(now));
        let judged = judged.and_then(|judged| judge_text(&self.settings, &speech).map(|()| judged));
        match judged {
            Ok(judged) => {
                self.modes.note(judged, at(now).tick);
                "said".to_owned()
            }
            Err(fault) => {
                let (code, text) = fault.refusal();
                format!("{} {text}", code.number())
            }
        }
    }

    fn say(&mut self, user: &str, content: &str, now: f64) -> String {
        self.say_as(&sender_json(user, []), Speaker::default(), content, now)
    }
}

/// Goal: one message a user and cool-down, to the instant; the wait that is told is enough, and a refusal does not prolong it.
#[test]
fn slow_mode_holds_each_user_back() {
    let mut room = Room::new(&[("slow", "10")]);
    for (user, now, wanted) in [
        ("a", 0.0, "said"),
        ("a", 0.0, "429 slow mode: wait 10 s"),
        ("b", 0.5, "said"),
        ("a", 3.5, "429 slow mode: wait 7 s"),
        ("a", 9.999, "429 slow mode: wait 1 s"),
        ("a", 10.0, "said"),
        ("b", 10.4, "429 slow mode: wait 1 s"),
        ("b", 10.5, "said"),
    ] {
        assert_eq!(room.say(user, "x", now), wanted, "{user} at {now}");
    }
}

/// Goal: another time counts from the same instant, and no time forgets.
#[test]
fn a_changed_time_counts_from_the_same_instant() {
    let mut room = Room::new(&[("slow", "10")]);
    assert_eq!(room.say("a", "x", 0.0), "said");
    room.retag(&[("slow", "60")]);
    assert_eq!(room.say("a", "x", 20.0), "429 slow mode: wait 40 s");
    room.retag(&[("slow", "5")]);
    assert_eq!(room.say("a", "x", 4.0), "429 slow mode: wait 1 s");
    assert_eq!(room.say("a", "x", 5.0), "said");
    room.retag(&[("emotes", "only")]);
    assert!(room.modes.is_empty());
    room.retag(&[("slow", "60")]);
    assert_eq!(room.say("a", "x", 6.0), "said");
}

/// Goal: who writes is who may, by role; others learn who may.
#[test]
fn talk_is_by_role() {
    let (fan, plain) = (
        sender_json("a", [("uproar:role", "sub")]),
        sender_json("a", [("role", "sub")]),
    );
    let host = Speaker {
        has_exempt_role: true,
        ..Speaker::default()
    };
    for (talk, sender, wanted) in [
        ("all", &plain, "said"),
        ("none", &fan, "403 chat is closed"),
        ("vip+sub", &fan, "said"),
        ("vip+sub", &plain, "403 chat is open to: vip, sub"),
        ("vip", &fan, "403 chat is open to: vip"),
    ] {
        let mut room = Room::new(&[("talk", talk)]);
        assert_eq!(
            room.say_as(sender, Speaker::default(), "x", 0.0),
            wanted,
            "{talk}"
        );
        assert_eq!(room.say_as(sender, host, "x", 0.0), "said");
    }
}

/// Goal: a user writes once known for long enough; one of whom nothing is known counts as new.
#[test]
fn age_counts_from_the_tokens_time() {
    let mut room = Room::new(&[("age", "600")]);
    let known = |since| Speaker {
        since,
        ..Speaker::default()
    };
    let sender = sender_json("a", []);
    for (since, wanted) in [
        (EPOCH - 600, "said"),
        (EPOCH - 120, "403 you may write in 480 s"),
        (EPOCH - 599, "403 you may write in 1 s"),
        (EPOCH + 60, "403 you may write in 660 s"),
        (0, "403 you may write in 600 s"),
        (1, "said"),
    ] {
        assert_eq!(
            room.say_as(&sender, known(since), "x", 0.9),
            wanted,
            "since {since}"
        );
    }
    let text = room.say_as(&sender, known(u64::MAX), "x", 0.0);
    assert!(text.starts_with("403 you may write in"), "{text}");
}

/// Goal: a text is said once a while, by the user or by all, whatever its case and space; not only the last one counts.
#[test]
fn texts_are_unique_for_their_time() {
    let mut room = Room::new(&[("unique", "user:60")]);
    for (user, text, now, wanted) in [
        ("a", "Hi all", 0.0, "said"),
        ("a", "other", 1.0, "said"),
        ("a", " hi  ALL", 2.0, "406 repeated message"),
        ("b", "hi all", 3.0, "said"),
        ("a", "hi all", 60.0, "said"),
    ] {
        assert_eq!(room.say(user, text, now), wanted, "{user}: {text}");
    }
    room.retag(&[("unique", "room:60")]);
    for (user, now, wanted) in [
        ("a", 61.0, "said"),
        ("b", 62.0, "406 repeated message"),
        ("b", 121.0, "said"),
    ] {
        assert_eq!(room.say(user, "hi all", now), wanted, "{user} at {now}");
    }
}

/// Goal: the modes are asked in their order, a refused message leaves nothing behind, and moderators pass them all.
#[test]
fn modes_are_asked_in_order_and_refusals_cost_nothing() {
    let tagged = &[
        ("talk", "sub"),
        ("age", "60"),
        ("slow", "10"),
        ("unique", "room:60"),
        ("emotes", "only"),
    ];
    let mut room = Room::new(tagged);
    let (fan, plain) = (
        sender_json("a", [("uproar:role", "sub")]),
        sender_json("b", []),
    );
    let (new, old) = (
        Speaker::default(),
        Speaker {
            since: 1,
            ..Speaker::default()
        },
    );
    assert_eq!(
        room.say_as(&plain, new, "words", 0.0),
        "403 chat is open to: sub"
    );
    assert_eq!(
        room.say_as(&fan, new, "words", 0.0),
        "403 you may write in 60 s"
    );
    assert_eq!(room.say_as(&fan, old, "words", 0.0), "406 only emotes");
    assert!(room.modes.is_empty(), "nothing was said");
    assert_eq!(room.say_as(&fan, old, ":hi:", 0.0), "said");
    assert_eq!(room.modes.len(), 2);
    assert_eq!(
        room.say_as(&fan, old, ":hi:", 0.0),
        "429 slow mode: wait 10 s"
    );
    assert_eq!(room.say_as(&fan, old, ":HI:", 10.0), "406 repeated message");
    for speaker in [
        crew(Capability::DeleteMessage),
        crew(Capability::DisconnectUser),
        Speaker {
            has_exempt_role: true,
            ..Speaker::default()
        },
    ] {
        assert_eq!(room.say_as(&plain, speaker, "words", 10.0), "said");
    }
    assert_eq!(room.modes.len(), 2, "moderators leave nothing");
    room.modes.expire(&room.settings, at(60.0).tick);
    assert!(room.modes.is_empty());
}

/// Goal: every refusal is read as what it is, and no other text is.
#[test]
fn refusals_are_read_by_code_and_text() {
    for (fault, mode, wait) in [
        (ModeFault::Closed, Mode::Talk, None),
        (ModeFault::Roles("a, b".to_owned()), Mode::Talk, None),
        (ModeFault::Age(u64::MAX), Mode::Age, Some(u64::MAX)),
        (ModeFault::Slow(7), Mode::Slow, Some(7)),
        (ModeFault::Repeated, Mode::Unique, None),
        (ModeFault::Emotes, Mode::Emotes, None),
    ] {
        let (code, text) = fault.refusal();
        assert_eq!(read_refusal(code, &text), Some((mode, wait)));
        assert_eq!(read_refusal(ErrorCode::BadRequest, &text), None);
    }
    for (code, text) in [
        (ErrorCode::TooManyRequests, crate::chat::texts::RATE),
        (ErrorCode::Forbidden, crate::chat::texts::CAPABILITY),
        (ErrorCode::NotAcceptable, crate::chat::texts::DENIED),
        (ErrorCode::TooManyRequests, "slow mode: wait x s"),
    ] {
        assert_eq!(read_refusal(code, text), None);
    }
}

/// Goal: notes cross to another process.
#[test]
fn notes_are_inherited() {
    let mut before = Room::new(&[("slow", "10"), ("unique", "room:60")]);
    assert_eq!(before.say("a", "x", 0.0), "said");
    let mut after = Room::new(&[("slow", "10"), ("unique", "room:60")]);
    after.modes.inherit(before.modes.notes().map(Recent::notes));
    assert_eq!(after.say("a", "y", 4.0), "429 slow mode: wait 6 s");
    assert_eq!(after.say("b", "x", 4.0), "406 repeated message");
}

proptest! {
    /// Goal: whatever users say and whenever, two accepted messages of one user are at least the slow time apart, the same
    /// text of a room at least the unique time, and a refused one would have been too early. Oracle: all accepted messages.
    #[test]
    fn what_is_accepted_keeps_its_distance(
        steps in proptest::collection::vec((0..4_u32, 0..3_u8, 0..3_u8, any::<bool>()), 1..60), slow in 1..8_u32, unique in 1..12_u32,
    ) {
        let (slow_text, unique_text) = (slow.to_string(), format!("room:{unique}"));
        let mut room = Room::new(&[("slow", &slow_text), ("unique", &unique_text)]);
        let mut accepted: Vec<(u32, u8, u8)> = Vec::new();
        let mut now = 0;
        for (pause, user, text, expires) in steps {
            now += pause;
            if expires {
                room.modes.expire(&room.settings, at(now.into()).tick);
            }
            let said = room.say(&format!("u{user}"), &format!("t{text}"), now.into());
            let is_early = accepted.iter().any(|(when, by, what)| {
                (*by == user && now - when < slow) || (*what == text && now - when < unique)
            });
            prop_assert_eq!(said == "said", !is_early);
            if !is_early {
                accepted.push((now, user, text));
            }
        }
    }
}
