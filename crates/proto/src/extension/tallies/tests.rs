//! Tallies as their members and back ends see them.

use proptest::prelude::*;
use std::collections::HashMap;

use super::*;
use crate::extension::settings::Roles;
use crate::extension::tags;

fn at(millis: u64) -> Now {
    Now {
        tick: Tick::from_nanos(millis * 1_000_000),
        unix: UnixTime::from_millis(1_764_410_400_000 + millis),
    }
}

fn plan(id: &str, seconds: u32) -> TallyPlan {
    TallyPlan {
        id: id.into(),
        question: "Who wins?".into(),
        options: ["Red", "Blue"].map(Box::from).into(),
        seconds,
        roles: None,
        may_change: false,
    }
}

fn ballot(tally: &str, option: u8, voter: u64) -> Ballot {
    Ballot {
        tally: tally.into(),
        option,
        voter: Key::from_bits(voter),
        role: None,
    }
}

fn told(tallies: &mut Tallies, now: Now) -> Vec<(serde_json::Value, bool)> {
    let settings = tags::settings([("uproar:reactions", "heart+fire")]).expect("a tag");
    let events = tallies.take_due(&settings, now);
    let json = |event: TallyEvent| {
        let attributes = serde_json::from_str(&event.attributes_json).expect("JSON");
        (attributes, event.is_urgent)
    };
    events.into_iter().map(json).collect()
}

/// Goal: the event as clients know it; at once, each second while something changes, and at the end for the last time.
#[test]
fn a_tally_is_told() {
    let mut tallies = Tallies::default();
    let started = tallies.follow(&TallyOrder::Start(plan("p1", 10)), at(0));
    assert!(started.expect("started").is_open);
    assert_eq!(tallies.due(), Some(at(0).tick));
    let events = told(&mut tallies, at(0));
    let wanted = serde_json::json!({
        "Id": "p1", "State": "open", "Question": "Who wins?", "Options": "[\"Red\",\"Blue\"]",
        "Counts": "[0,0]", "Total": "0", "EndsAt": "2025-11-29T10:00:10Z",
    });
    assert_eq!(events, [(wanted, true)]);
    assert_eq!(tallies.due(), Some(at(10_000).tick), "nothing has changed");
    assert_eq!(
        tallies.vote(&ballot("p1", 2, 7), true, at(100).tick),
        Ok(Counted::First)
    );
    assert_eq!(tallies.due(), Some(at(1_000).tick));
    assert!(told(&mut tallies, at(999)).is_empty());
    let events = told(&mut tallies, at(1_000));
    assert_eq!(
        (&events[0].0["Counts"], events[0].1),
        (&"[0,1]".into(), false)
    );
    // After a second of silence the next change is told at once.
    assert!(
        tallies
            .vote(&ballot("p1", 1, 8), true, at(5_000).tick)
            .is_ok()
    );
    assert_eq!(told(&mut tallies, at(5_000)).len(), 1);
    // A vote in the last second is in the last event alone.
    assert!(
        tallies
            .vote(&ballot("p1", 1, 9), true, at(9_999).tick)
            .is_ok()
    );
    let late = tallies.vote(&ballot("p1", 1, 10), true, at(10_000).tick);
    assert_eq!(late, Err(VoteFault::NotOpen), "the end is not in it");
    let events = told(&mut tallies, at(10_000));
    let (last, is_urgent) = &events[0];
    assert_eq!((events.len(), *is_urgent), (1, true));
    assert_eq!(
        (&last["State"], &last["Counts"]),
        (&"closed".into(), &"[2,1]".into())
    );
    assert_eq!(
        (tallies.due(), tallies.open(), tallies.voters()),
        (None, 0, 0)
    );
    let kept = tallies.follow(&TallyOrder::Get("p1".into()), at(99_000));
    assert!(!kept.expect("it is kept").is_open);
}

/// Goal: an event that is lost is told again a second later, the last one with the same counts until it is told, another process
/// goes on with it, and it is given up after a minute; who asks gets the counts meanwhile. The id is free at once.
#[test]
fn a_lost_event_is_told_again() {
    let mut tallies = Tallies::default();
    let start = TallyOrder::Start(plan("p1", 10));
    let settings = Settings::default();
    let lose = |tallies: &mut Tallies, millis| {
        let event = tallies.take_due(&settings, at(millis)).pop();
        let event = event.expect("it is due");
        let told_tally = event.tally.expect("of a tally");
        tallies.told(&told_tally, false, at(millis).tick);
        (told_tally, event.attributes_json)
    };
    assert!(tallies.follow(&start, at(0)).is_ok());
    let (beginning, _) = lose(&mut tallies, 0);
    assert!(!beginning.is_last);
    assert_eq!(tallies.due(), Some(at(1_000).tick));
    tallies.take_due(&settings, at(1_000));
    tallies.told(&beginning, true, at(1_001).tick);
    assert_eq!(tallies.due(), Some(at(10_000).tick));
    assert!(
        tallies
            .vote(&ballot("p1", 2, 7), true, at(9_999).tick)
            .is_ok()
    );
    let (last, counted) = lose(&mut tallies, 10_000);
    assert!(last.is_last && counted.contains("[0,1]") && counted.contains("closed"));
    assert_eq!(tallies.due(), Some(at(11_000).tick));
    let carried = tallies.carry();
    let inherited = Tallies::inherit(&carried, Shift::default(), &settings, at(10_500).tick);
    let mut tallies = inherited.expect("fields");
    assert_eq!(lose(&mut tallies, 10_500), (last.clone(), counted.clone()));
    let view = tallies.follow(&TallyOrder::Get("p1".into()), at(10_600));
    assert!(!view.expect("it is kept").is_open);
    for second in 1..60 {
        let (_, again) = lose(&mut tallies, 10_500 + 1_000 * second);
        assert_eq!(again, counted);
    }
    assert_eq!(tallies.due(), None, "it is given up");
    assert!(tallies.follow(&start, at(80_000)).is_ok());
    told(&mut tallies, at(90_000));
    assert!(
        tallies.follow(&start, at(90_000)).is_ok(),
        "the end is on its way"
    );
    tallies.told(&last, false, at(90_000).tick);
    assert_eq!(told(&mut tallies, at(90_000))[0].0["State"], "open");
}

/// Goal: each way to be wrong has its code and counts for nothing.
#[test]
fn wrong_votes_do_not_count() {
    let mut tallies = Tallies::default();
    let mut asked = plan("p1", 10);
    asked.roles = Roles::parse("sub+vip");
    assert!(tallies.follow(&TallyOrder::Start(asked), at(0)).is_ok());
    let sub = |option, voter| Ballot {
        role: Some("sub".into()),
        ..ballot("p1", option, voter)
    };
    for (ballot, has_room, code) in [
        (ballot("p2", 1, 1), true, 404),
        (sub(0, 1), true, 400),
        (sub(3, 1), true, 400),
        (sub(255, 1), true, 400),
        (ballot("p1", 1, 1), true, 403),
        (sub(1, 1), false, 429),
    ] {
        let fault = tallies
            .vote(&ballot, has_room, at(1).tick)
            .expect_err("it is wrong");
        assert_eq!(fault.refusal().0.number(), code, "{ballot:?}");
    }
    assert_eq!(
        tallies.vote(&sub(1, 1), true, at(1).tick),
        Ok(Counted::First)
    );
    assert_eq!(
        tallies.vote(&sub(2, 1), true, at(1).tick),
        Err(VoteFault::Voted)
    );
    assert_eq!(
        tallies.vote(&sub(2, 1), false, at(1).tick),
        Err(VoteFault::Voted)
    );
    let view = tallies
        .follow(&TallyOrder::Get("p1".into()), at(1))
        .expect("open");
    assert_eq!(*view.counts, [1, 0]);
}

/// Goal: a stop ends it at that instant, again tells the same, and the id is free again; four may be open.
#[test]
fn tallies_are_stopped_and_bounded() {
    let mut tallies = Tallies::default();
    for id in ["a", "b", "c", "d"] {
        assert!(
            tallies
                .follow(&TallyOrder::Start(plan(id, 60)), at(0))
                .is_ok()
        );
    }
    let start = |id| TallyOrder::Start(plan(id, 60));
    assert_eq!(tallies.follow(&start("e"), at(0)), Err(TallyFault::TooMany));
    assert_eq!(tallies.follow(&start("a"), at(0)), Err(TallyFault::IsOpen));
    let stop = TallyOrder::Stop("a".into());
    let stopped = tallies.follow(&stop, at(500)).expect("it is open");
    assert_eq!(
        (stopped.is_open, stopped.ends_ms),
        (false, at(500).unix.millis())
    );
    assert_eq!(
        tallies.vote(&ballot("a", 1, 1), true, at(500).tick),
        Err(VoteFault::NotOpen)
    );
    assert_eq!(tallies.follow(&stop, at(600)), Ok(stopped.clone()));
    assert_eq!(told(&mut tallies, at(600)).len(), 4);
    assert_eq!(tallies.follow(&stop, at(700)), Ok(stopped));
    assert!(tallies.follow(&start("a"), at(800)).expect("free").is_open);
    let unknown = TallyOrder::Get("x".into());
    assert_eq!(tallies.follow(&unknown, at(0)), Err(TallyFault::Unknown));
}

/// Goal: a wall clock that goes back neither ends a tally nor prolongs it.
#[test]
fn the_wall_clock_may_go_back() {
    let mut tallies = Tallies::default();
    assert!(
        tallies
            .follow(&TallyOrder::Start(plan("p", 10)), at(0))
            .is_ok()
    );
    told(&mut tallies, at(0));
    let back = |millis| Now {
        unix: UnixTime::from_secs(5),
        ..at(millis)
    };
    assert!(
        tallies
            .vote(&ballot("p", 1, 1), true, back(9_000).tick)
            .is_ok()
    );
    assert_eq!(told(&mut tallies, back(9_000))[0].0["State"], "open");
    assert_eq!(told(&mut tallies, back(10_000))[0].0["State"], "closed");
}

/// Goal: texts that look like JSON stay texts.
#[test]
fn options_are_texts() {
    let mut tallies = Tallies::default();
    let tricky = ["\",\"Total\":\"9", "[1,2]", "\u{1}\\\"", "}"];
    let asked = TallyPlan {
        options: tricky.map(Box::from).into(),
        ..plan("p", 1)
    };
    assert!(tallies.follow(&TallyOrder::Start(asked), at(0)).is_ok());
    let (event, _) = told(&mut tallies, at(0)).remove(0);
    let options: Vec<String> =
        serde_json::from_str(event["Options"].as_str().expect("text")).expect("a list");
    assert_eq!(options, tricky);
    assert_eq!(event["Total"], "0");
}

/// Goal: taps of a window are one event, not urgent; nothing came: nothing is told.
#[test]
fn reactions_are_summed() {
    let settings = tags::settings([
        ("uproar:reactions", "heart+fire"),
        ("uproar:reactions-ms", "250"),
    ]);
    let settings = settings.expect("two tags");
    let mut tallies = Tallies::default();
    let add = |tallies: &mut Tallies, key, count, millis| {
        tallies
            .reactions
            .add(key, count, &settings, at(millis).tick)
    };
    assert!(!add(&mut tallies, "clap", 1, 0) && tallies.is_empty());
    assert!(add(&mut tallies, "heart", 7, 10) && add(&mut tallies, "heart", 50, 200));
    assert!(add(&mut tallies, "fire", 1, 259));
    assert_eq!(tallies.due(), Some(at(260).tick));
    let events = tallies.take_due(&settings, at(260));
    assert_eq!(
        events,
        [TallyEvent {
            name: "uproar:reactions",
            attributes_json: r#"{"fire":"1","heart":"57","WindowMs":"250"}"#.to_owned(),
            is_urgent: false,
            tally: None,
        }]
    );
    assert_eq!(
        (tallies.due(), tallies.take_due(&settings, at(900))),
        (None, vec![])
    );
}

proptest! {
    /// Goal: one vote a member, whatever comes in which order, and another process goes on where one has stopped.
    /// Oracle: a map of voters.
    #[test]
    fn votes_are_counted_once(
        votes in proptest::collection::vec((0..4_u8, 0..6_u64), 0..40), may_change: bool, cut in 0..40_usize,
    ) {
        let settings = tags::settings([("uproar:reactions", "heart")]).expect("a tag");
        let mut tallies = Tallies::default();
        let asked = TallyPlan { may_change, ..plan("p", 60) };
        tallies.follow(&TallyOrder::Start(asked), at(0)).expect("started");
        tallies.reactions.add("heart", 3, &settings, at(0).tick);
        let mut wanted: HashMap<u64, u8> = HashMap::new();
        for (index, (option, voter)) in votes.into_iter().enumerate() {
            if index == cut {
                let shift = Shift::between(0, 5);
                let carried = tallies.carry();
                tallies = Tallies::inherit(&carried, shift, &settings, at(0).tick).expect("fields");
            }
            let counts = (1..=2).contains(&option) && (may_change || !wanted.contains_key(&voter));
            let vote = tallies.vote(&ballot("p", option, voter), true, at(1).tick);
            prop_assert_eq!(vote.is_ok(), counts);
            if counts {
                let before = wanted.insert(voter, option);
                prop_assert_eq!(vote == Ok(Counted::Changed), before.is_some());
            }
        }
        let view = tallies.follow(&TallyOrder::Get("p".into()), at(1)).expect("open");
        let of = |option| wanted.values().filter(|value| **value == option).count();
        prop_assert_eq!(&*view.counts, &[of(1), of(2)].map(|count| u64::try_from(count).expect("few")));
        prop_assert_eq!(tallies.voters(), wanted.len());
        prop_assert_eq!(tallies.reactions.sums().collect::<Vec<_>>(), [("heart", 3)]);
    }

    /// Goal: whatever another process wrote is read, or left out.
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _read = Tallies::inherit(&bytes, Shift::default(), &Settings::default(), Tick::default());
    }
}
