//! A process takes over from the one that was this node.

use super::single::{ME, OTHER, Single, batch, entry, takeover};
use crate::base::limits::HASH_SLOTS;
use crate::cluster::engine::{AppendOutcome, FetchFrom, LogsEstate, Output};
use crate::cluster::record::Content;
use crate::cluster::{HashSlot, Incarnation, Sequence};
use crate::tagged::{Fault, Fields};

const NEXT: Incarnation = Incarnation::new(9);

fn delivered(single: &mut Single) -> Vec<u64> {
    let outputs = single.take().into_iter();
    let sequences = outputs.filter_map(|output| match output {
        Output::Deliver { sequence, .. } => Some(sequence.0),
        _ => None,
    });
    sequences.collect()
}

/// Goal: what was appended after the process stopped reaches members once, what came before does not again; what is
/// published out of order waits for what is missing. Method: a log of another home.
#[test]
fn each_log_is_read_on_from_where_it_was_given() {
    let frames = |number| vec![entry(OTHER, number)];
    let log = [
        (10, takeover(OTHER, 0)),
        (12, batch(OTHER, 10, 10, frames(1))),
        (15, batch(OTHER, 10, 12, frames(2))),
        (16, batch(OTHER, 10, 15, frames(3))),
    ];
    let mut old = Single::new(&log[..1], &[OTHER]);
    old.record(12, log[1].1.clone());
    assert_eq!(delivered(&mut old), [12]);
    let mut next = old.succeeded_by(NEXT, 15);
    let from = next.take_fetch();
    assert_eq!(from, FetchFrom::After(Sequence(12)), "15 was heard of");
    next.record(12, log[1].1.clone());
    next.record(16, log[3].1.clone());
    assert!(delivered(&mut next).is_empty());
    next.fetched(from, &log[..3]);
    assert_eq!(delivered(&mut next), [15, 16]);
    assert_eq!(
        next.engine
            .home_of(super::single::room())
            .map(|(home, _)| home),
        Some(OTHER)
    );
}

/// Goal: what the process before was home of, its successor takes over at once, and behind all that it had appended once that
/// is read. A node that does not hear itself takes nothing. Method: an append of the
/// old process is in the log, and it stopped before it knew.
#[test]
fn a_successor_takes_over_its_own_slots() {
    let mut old = Single::new(&[], &[]);
    old.become_home(10);
    let mut next = old.succeeded_by(NEXT, 0);
    assert!(!next.is_append_wanted(), "it does not hear itself");
    next.hear();
    let (attempt, expected, content) = next.take_append();
    assert_eq!(expected, 10);
    assert!(
        matches!(content, Content::Takeover { home: NEXT, .. }),
        "{content:?}"
    );
    let last = batch(ME, 10, 10, vec![entry(OTHER, 1)]);
    next.appended(attempt, AppendOutcome::WrongLast);
    let from = next.take_fetch();
    next.fetched(from, &[(10, takeover(ME, 0)), (11, last)]);
    let outputs = next.take();
    let is_delivered = |output: &Output| {
        matches!(
            output,
            Output::Deliver {
                sequence: Sequence(11),
                ..
            }
        )
    };
    assert!(outputs.iter().any(is_delivered), "{outputs:?}");
    // That record says that its home is the process before, which is silent from now on.
    next.pass(5_000);
    let (_, expected, content) = next.take_append();
    assert_eq!(expected, 11);
    assert!(
        matches!(content, Content::Takeover { home: NEXT, .. }),
        "{content:?}"
    );
}

/// Goal: a process that has not found every log's end has nothing to hand over, and a successor refuses what would let
/// members miss something.
#[test]
fn an_estate_has_every_log_once() {
    let mut whole = Single::new(&[(10, takeover(OTHER, 0))], &[OTHER]);
    assert_eq!(whole.engine.estate(), None, "one log's end is known");
    whole.find_other_ends();
    let estate = whole.engine.estate().expect("every log is read");
    assert_eq!(
        (estate.process(), estate.read(whole.slot)),
        (ME, Some(Sequence(10)))
    );
    let encoded = estate.encode();
    assert_eq!(LogsEstate::decode(&encoded), Ok(estate));
    let mut lacking = Fields::default();
    lacking.number(1, 7);
    let log = |fields: &mut Fields, slot: HashSlot| {
        fields.number(1, slot.number().into());
        fields.number(2, 5);
    };
    for slot in HashSlot::all().skip(1) {
        lacking.nested(2, |fields| log(fields, slot));
    }
    let mut twice = Fields::default();
    twice.number(1, 7);
    for number in 0..HASH_SLOTS {
        let number = u8::try_from(number.max(1)).expect("a byte");
        twice.nested(2, |fields| log(fields, HashSlot::new(number)));
    }
    for bytes in [lacking.into_bytes(), twice.into_bytes()] {
        assert_eq!(LogsEstate::decode(&bytes), Err(Fault::Value(2)));
    }
    assert!(LogsEstate::decode(&encoded[..encoded.len() - 1]).is_err());
}
