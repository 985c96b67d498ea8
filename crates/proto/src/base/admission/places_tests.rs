use proptest::prelude::*;

use super::*;

fn holder(number: u8) -> Holder {
    Holder::V4([10, 0, 0, number])
}

/// A place in the plain model.
#[derive(Debug, Clone)]
struct Known {
    place: Place,
    holder: Option<Holder>,
    // `None`: busy. Idle ones come last, the oldest first.
    since: Option<(bool, usize)>,
    handle: usize,
}

/// The connection to displace, found by a full search.
fn victim(all: &[Known], share_max: usize) -> Option<usize> {
    let count = |holder| all.iter().filter(|known| known.holder == holder).count();
    let waiting = || all.iter().filter(|known| known.since.is_some());
    let heaviest = waiting()
        .filter(|known| known.holder.is_some() && count(known.holder) > share_max)
        .map(|known| count(known.holder))
        .max();
    waiting()
        .filter(|known| {
            heaviest.is_none_or(|most| known.holder.is_some() && count(known.holder) == most)
        })
        .min_by_key(|known| known.since)
        .map(|known| known.handle)
}

/// Goal: with another share another connection is displaced.
#[test]
fn the_share_can_change() {
    let mut places = Places::new(4, 2);
    // The oldest is of 1; 2 has two of four.
    for (name, number) in [("old", 1), ("a", 2), ("b", 2), ("c", 3)] {
        let entered = places.enter(Some(holder(number)), name);
        assert!(matches!(entered, Entered::Placed(_)), "a place is free");
    }
    let displaced = |places: &mut Places<&'static str>| match places.enter(None, "new") {
        Entered::Displaced(_, name) => name,
        entered => panic!("all are taken: {entered:?}"),
    };
    places.set_share_max(1);
    assert_eq!(displaced(&mut places), "a", "2 has more than its share");
    places.set_share_max(2);
    assert_eq!(displaced(&mut places), "old");
}

proptest! {
    /// Goal: the tables agree with a plain model in any order of operations, no bound is ever
    /// exceeded, and the right connection is displaced. Among holders with equally many either is
    /// right.
    #[test]
    fn places_agree_with_a_plain_model(
        steps in prop::collection::vec((0_u8..6, any::<u8>(), any::<u8>()), 1..400),
        places_max in 1_usize..12,
        share_max in 1_usize..6,
    ) {
        let mut places = Places::new(places_max, share_max);
        let mut all: Vec<Known> = Vec::new();
        for (step, (what, which, whose)) in steps.into_iter().enumerate() {
            let picked = (!all.is_empty()).then(|| usize::from(which) % all.len());
            match (what, picked) {
                (0 | 1, _) | (_, None) => {
                    let holder = (whose % 5 > 0).then(|| holder(whose % 5));
                    let full = all.len() == places_max;
                    let expected = victim(&all, share_max);
                    let place = match places.enter(holder, step) {
                        Entered::Placed(place) => {
                            prop_assert!(!full);
                            Some(place)
                        }
                        Entered::Displaced(place, handle) => {
                            prop_assert!(full);
                            let gone = all.iter().position(|known| known.handle == handle);
                            let gone = all.remove(gone.expect("was inside"));
                            prop_assert!(gone.since.is_some(), "a busy one was given up");
                            let count = |of: Option<Holder>| {
                                all.iter().filter(|known| known.holder == of).count()
                            };
                            if expected != Some(handle) {
                                // Two holders had equally many.
                                let other = all.iter().find(|known| Some(known.handle) == expected);
                                let other = other.expect("still inside");
                                prop_assert_eq!(count(gone.holder) + 1, count(other.holder));
                                prop_assert!(count(other.holder) > share_max);
                            }
                            prop_assert!(!places.leave(gone.place), "it left before");
                            Some(place)
                        }
                        Entered::Full => {
                            prop_assert!(full && expected.is_none());
                            None
                        }
                    };
                    if let Some(place) = place {
                        let since = Some((false, step));
                        all.push(Known { place, holder, since, handle: step });
                    }
                }
                (2, Some(picked)) => {
                    all[picked].holder = Some(holder(whose % 5));
                    places.identify(all[picked].place, holder(whose % 5));
                }
                (3, Some(picked)) => {
                    all[picked].since = None;
                    places.busy(all[picked].place);
                }
                (4, Some(picked)) => {
                    all[picked].since = Some((true, step));
                    places.idle(all[picked].place);
                }
                (_, Some(picked)) => {
                    let gone = all.remove(picked);
                    prop_assert!(places.leave(gone.place));
                    prop_assert!(!places.leave(gone.place));
                }
            }
            prop_assert_eq!(places.len(), all.len());
            prop_assert!(places.len() <= places_max);
        }
        for known in all {
            prop_assert!(places.leave(known.place));
        }
        prop_assert!(places.is_empty() && places.by_age.is_empty() && places.by_holder.is_empty());
        prop_assert!(places.counts.is_empty() && places.heavy.is_empty());
    }
}

/// Goal: a flood from one address displaces only itself. Method: honest connections among ten times
/// as many of the flood, each staying for a while.
#[test]
fn a_flood_of_one_address_displaces_only_itself() {
    let mut places = Places::new(100, 12);
    let mut honest = std::collections::VecDeque::new();
    for number in 0..10_000_usize {
        let is_honest = number % 10 == 0;
        let whose = if is_honest { 1 } else { 2 };
        let entered = places.enter(Some(holder(whose)), is_honest);
        let place = match entered {
            Entered::Placed(place) => place,
            Entered::Displaced(place, displaced) => {
                assert!(!displaced, "an honest one was displaced");
                place
            }
            Entered::Full => panic!("nobody is busy"),
        };
        if is_honest {
            honest.push_back(place);
            if honest.len() > 10 {
                assert!(places.leave(honest.pop_front().expect("eleven")));
            }
        }
    }
}

/// Goal: a flood with one connection per address displaces its oldest. Method: as above; the honest
/// connections share one address and have more than any of the flood, yet less than their share.
#[test]
fn a_flood_of_many_addresses_displaces_the_oldest() {
    let mut places = Places::new(100, 12);
    let mut honest = std::collections::VecDeque::new();
    for number in 0..10_000_u32 {
        let is_honest = number % 10 == 0;
        let whose = if is_honest { 0 } else { number };
        match places.enter(Some(Holder::V4(whose.to_be_bytes())), is_honest) {
            Entered::Placed(place) | Entered::Displaced(place, false) => {
                if is_honest {
                    honest.push_back(place);
                }
            }
            Entered::Displaced(_, true) => panic!("an honest one was displaced"),
            Entered::Full => panic!("nobody is busy"),
        }
        if honest.len() > 5 {
            assert!(places.leave(honest.pop_front().expect("six")));
        }
    }
}
