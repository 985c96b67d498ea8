//! What is lost with a log, and what is not; who lives, as its log shows.

use bytes::Bytes;

use super::single::{ME, OTHER, Single, batch, entry, here, takeover};
use crate::base::clock::UnixTime;
use crate::base::limits::CLUSTER_HERE;
use crate::cluster::engine::{AppendOutcome, FetchFrom, Input, Outcome, Output};
use crate::cluster::here::Here;
use crate::cluster::message::{AskKind, Message, MessageContent};
use crate::cluster::record::{Content, Record};
use crate::cluster::{Epoch, HashSlot, Number, Sequence};

/// Goal: times do not go back where a log has nothing any more, by age or because brokers lost it: a node that never read
/// it goes on behind the newest time that any node has told. Method: a node that has just begun, whose clock is behind.
#[test]
fn send_times_outlive_their_log() {
    let mut single = Single::new(&[], &[]);
    let late = UnixTime::from_secs(9_000);
    let told = Here {
        sent: late,
        ..Here::decode(&here(OTHER, single.now)).expect("ours")
    };
    single.input(Input::Here(told.encode()));
    single.pass(6_000);
    let append = single.take().into_iter().find_map(|output| match output {
        Output::Append {
            attempt, payload, ..
        } => Some((attempt, payload)),
        _ => None,
    });
    let (attempt, payload) = append.expect("nobody else is there");
    assert_eq!(Record::decode(&payload).expect("ours").sent, late);
    single.appended(attempt, AppendOutcome::Ok(Sequence(10)));
    single.ask(1);
    assert_eq!(single.author()[0].not_before, late);
}

/// Goal: a node tells the newest time that it has read, of whichever log.
#[test]
fn a_node_tells_the_newest_time() {
    let mut single = Single::new(&[], &[OTHER]);
    single.record(9, takeover(OTHER, 0));
    single.now.tick = single.now.tick.after(CLUSTER_HERE);
    single.engine.input(Input::Tick, single.now);
    let heres =
        std::iter::from_fn(|| single.engine.next_output()).filter_map(|output| match output {
            Output::Here(payload) => Some(Here::decode(&payload).expect("ours").sent),
            _ => None,
        });
    assert_eq!(heres.collect::<Vec<_>>(), [UnixTime::from_secs(3)]);
}

/// Goal: a log that was lost is read from where it began anew: its new home's records are delivered, whatever came when.
/// Method: the leader says for long that the log is empty; the last of these answers is old, for there is a new home,
/// which has appended two batches until the node reads again.
#[test]
fn a_log_that_began_anew_is_read_from_its_begin() {
    let mut single = Single::new(&[(36, takeover(OTHER, 3))], &[OTHER]);
    single.input(Input::Interrupted);
    let said = |at, before| batch(OTHER, 91, before, vec![entry(OTHER, at)]);
    let log = [
        (91, takeover(OTHER, 0)),
        (118, said(118, 91)),
        (119, said(119, 118)),
    ];
    let (mut is_lost, mut delivered) = (false, Vec::new());
    for _ in 0..200 {
        single.pass(100);
        for output in single.take() {
            match output {
                Output::Fetch {
                    from: FetchFrom::Last,
                    ..
                } => {
                    is_lost = true;
                    single.fetched(FetchFrom::Last, &log);
                }
                Output::Fetch { from, .. } => {
                    single.fetched(from, if is_lost { &log } else { &[] });
                }
                Output::Deliver { sequence, .. } => delivered.push(sequence.0),
                _ => {}
            }
        }
    }
    assert_eq!(delivered, [118, 119]);
    assert_eq!(single.home(), Some((OTHER, Epoch(91))));
}

/// Goal: what a log lost before this node had read it is counted, also where the next record follows the newest one that was
/// read here. Method: a log that is found empty or shorter, filled anew and emptied again without a word to this node; its
/// next home tells how far it had read. The part whose loss was counted before is not counted again.
#[test]
fn a_loss_between_two_losses_is_counted() {
    let skipped = |single: &mut Single| {
        let skips = single.take().into_iter().filter_map(|output| match output {
            Output::Skipped { after, upto, .. } => Some((after.0, upto.0)),
            _ => None,
        });
        skips.collect::<Vec<_>>()
    };
    let anew = |known| {
        let mut record = Record::decode(&takeover(OTHER, 0)).expect("ours");
        if let Content::Takeover { known: told, .. } = &mut record.content {
            *told = Sequence(known);
        }
        record
    };
    for (known, lost) in [(36, vec![]), (119, vec![(0, 150)])] {
        let mut single = Single::new(&[(36, takeover(OTHER, 3))], &[OTHER]);
        single.input(Input::Interrupted);
        let mut counted = Vec::new();
        for _ in 0..200 {
            single.pass(100);
            for output in single.take() {
                match output {
                    Output::Fetch { from, .. } => single.fetched(from, &[]),
                    Output::Skipped { after, upto, .. } => counted.push((after.0, upto.0)),
                    _ => {}
                }
            }
        }
        assert_eq!(counted, [(36, 0)], "it was emptied");
        single.record(150, anew(known).encode());
        assert_eq!(skipped(&mut single), lost, "known: {known}");
        assert_eq!(single.home(), Some((OTHER, Epoch(150))));
    }
    let mut single = Single::new(&[(36, takeover(OTHER, 3))], &[OTHER]);
    let shorter = Record {
        previous: Sequence(36),
        ..anew(39)
    };
    single.record(37, shorter.encode());
    assert_eq!(skipped(&mut single), [(36, 37)], "it ended at 39");
}

/// Goal: a node whose brokers answer does not take them for mute because a log was emptied: its probe is asked again, and comes
/// back by the next home's record. Requests of others are not, for they may have been in what was lost.
#[test]
fn a_probe_outlives_its_log() {
    let log = [(9, takeover(OTHER, 3))];
    let mut single = Single::new(&log, &[OTHER]);
    let mut is_asked = false;
    while !is_asked {
        single.pass(100);
        for output in single.take() {
            match output {
                Output::Fetch { from, .. } => single.fetched(from, &log),
                Output::Send { payload, .. } => is_asked |= probe_in(&single, payload).is_some(),
                _ => {}
            }
        }
    }
    single.ask(1);
    single.take();
    assert_eq!(single.engine.status().probe, None);
    let log = [(150, takeover(OTHER, 0))];
    single.record(150, takeover(OTHER, 0));
    let from = single.take_fetch();
    single.fetched(from, &log);
    let (mut told, mut again) = (Vec::new(), None);
    for output in single.take() {
        match output {
            Output::Told {
                ticket, outcome, ..
            } => told.push((ticket.0, outcome)),
            Output::Send { payload, .. } => again = again.or(probe_in(&single, payload)),
            _ => {}
        }
    }
    assert_eq!(told, [(1, Outcome::Unknown)]);
    let mut entry = entry(ME, again.expect("asked again").0);
    entry.frame = Bytes::new();
    single.record(151, batch(OTHER, 150, 150, vec![entry]));
    assert!(single.engine.status().probe.is_some(), "it came back");
}

/// The number of the probe among these requests to the hash slot.
fn probe_in(single: &Single, message: Bytes) -> Option<Number> {
    let message = Message::decode(&message).expect("ours").content;
    let (first, requests) = match message {
        MessageContent::Requests {
            slot,
            first,
            requests,
            ..
        } if slot == single.slot => (first, requests),
        _ => return None,
    };
    let mut kinds = requests.iter().map(|ask| ask.as_ref().map(|ask| ask.kind));
    let at = kinds.position(|kind| kind == Some(AskKind::Probe))?;
    Some(Number(first.0 + u64::try_from(at).expect("few")))
}

/// Goal: a home lives as long as it appends, whatever becomes of its other signs of life: nodes that do not hear each other do
/// not take hash slots from one another without end. Method: a home that appends to this log or to another one, and is never
/// heard.
#[test]
fn a_home_that_appends_is_alive() {
    let mut single = Single::new(&[(9, takeover(OTHER, 3))], &[]);
    single.pass(6_000);
    let (attempt, ..) = single.take_append();
    single.appended(attempt, AppendOutcome::Ok(Sequence(10)));
    assert_eq!(single.home(), Some((ME, Epoch(10))));
    single.record(11, takeover(OTHER, 10));
    for at in 0..4 {
        single.pass(2_900);
        assert!(!single.is_append_wanted(), "it has just spoken");
        single.input(Input::Record {
            slot: HashSlot::new(single.slot.number() ^ 1),
            sequence: Sequence(20 + at),
            payload: batch(OTHER, 20, 19 + at, vec![]),
        });
    }
    single.pass(3_300);
    assert!(!single.is_append_wanted(), "not silent for long");
    single.pass(400);
    let (_, expected, content) = single.take_append();
    assert_eq!(expected, 11);
    assert!(matches!(content, Content::Takeover { home: ME, .. }));
}

/// Goal: an archive takes a log in order, so that one sequence says how far it is: what this home writes waits for what homes
/// before it may not have archived. Members wait for nothing.
#[test]
fn an_archive_takes_a_log_in_order() {
    let noted = |home, epoch, previous: u64, entries| {
        let mut record = Record::decode(&batch(home, epoch, previous, entries)).expect("ours");
        if let Content::Batch(batch) = &mut record.content {
            batch.archived = Sequence(5);
        }
        record.encode()
    };
    let mut log = vec![
        (6, noted(OTHER, 3, 5, vec![entry(OTHER, 1)])),
        (9, noted(OTHER, 3, 6, vec![entry(OTHER, 2)])),
    ];
    let mut single = Single::new(&log, &[]);
    single.pass(6_000);
    let (attempt, ..) = single.take_append();
    single.appended(attempt, AppendOutcome::Ok(Sequence(10)));
    let from = single.take_fetch();
    assert_eq!(from, FetchFrom::After(Sequence(5)));
    let say = |single: &mut Single, ticket, sequence| {
        single.ask(ticket);
        single.author();
        single.pass(100);
        let (attempt, ..) = single.take_append();
        single.appended(attempt, AppendOutcome::Ok(Sequence(sequence)));
        single.take().into_iter().find_map(|output| match output {
            Output::Deliver { is_home_here, .. } => Some(is_home_here),
            _ => None,
        })
    };
    assert_eq!(say(&mut single, 1, 11), Some(false), "members have it");
    log.push((10, takeover(ME, 9)));
    log.push((11, noted(ME, 10, 10, vec![entry(ME, 1)])));
    single.fetched(from, &log);
    let unarchived = single.take().into_iter().filter_map(|output| match output {
        Output::Unarchived { sequence, .. } => Some(sequence.0),
        _ => None,
    });
    assert_eq!(unarchived.collect::<Vec<_>>(), [6, 9, 11]);
    assert_eq!(say(&mut single, 2, 12), Some(true), "in its turn");
}

/// The same record, with a note of how far frames are in archives.
fn noting(payload: &Bytes, noted: u64) -> Bytes {
    let mut record = Record::decode(payload).expect("ours");
    match &mut record.content {
        Content::Batch(batch) => batch.archived = Sequence(noted),
        Content::Takeover { archived, .. } | Content::Release { archived, .. } => {
            *archived = Sequence(noted);
        }
    }
    record.encode()
}

/// Goal: what a node knows of the archive of a log that was lost says nothing of the one that took its place: records of that are
/// archived, and nobody notes that they were. Method: a home whose streams are made anew, in which another one has begun and
/// died; and a home that finds a note which is of a lost log.
#[test]
fn a_lost_logs_archive_says_nothing_of_the_next() {
    let old = noting(&batch(OTHER, 3, 4_999, vec![]), 4_990);
    let mut single = Single::new(&[(5_000, old.clone())], &[]);
    single.pass(6_000);
    let (attempt, ..) = single.take_append();
    single.appended(attempt, AppendOutcome::Ok(Sequence(5_001)));
    let from = single.take_fetch();
    single.fetched(from, &[(5_000, old), (5_001, takeover(ME, 5_000))]);
    single.ask(1);
    single.author();
    single.pass(100);
    let (attempt, ..) = single.take_append();
    single.appended(attempt, AppendOutcome::WrongLast);
    let log = [
        (290, takeover(OTHER, 0)),
        (300, batch(OTHER, 290, 290, vec![entry(OTHER, 1)])),
    ];
    let taken = loop {
        let found = single.take().into_iter().find_map(|output| match output {
            Output::Fetch { from, .. } => Some(Err(from)),
            Output::Append {
                attempt, payload, ..
            } => Some(Ok((attempt, Record::decode(&payload).expect("ours")))),
            _ => None,
        });
        match found {
            Some(Ok(taken)) => break taken,
            Some(Err(from)) => single.fetched(from, &log),
            None => single.pass(100),
        }
    };
    let (attempt, record) = taken;
    assert!(matches!(record.content, Content::Takeover { .. }));
    assert_eq!(
        (record.previous, record.archived()),
        (Sequence(300), Sequence(0))
    );
    single.appended(attempt, AppendOutcome::Ok(Sequence(301)));
    assert_eq!(single.take_fetch(), FetchFrom::After(Sequence(0)));
    single.fetched(FetchFrom::After(Sequence(0)), &log);
    let unarchived = single.take().into_iter().filter_map(|output| match output {
        Output::Unarchived {
            sequence, epoch, ..
        } => Some((sequence.0, epoch.0)),
        _ => None,
    });
    assert_eq!(unarchived.collect::<Vec<_>>(), [(300, 301)]);

    for (told, noted) in [(Epoch(5_001), 0), (Epoch(301), 300)] {
        single.input(Input::Archived {
            slot: single.slot,
            epoch: told,
            sequence: Sequence(300),
        });
        single.ask(2 + noted);
        single.author();
        single.pass(100);
        let (attempt, _, content) = single.take_append();
        let Content::Batch(batch) = content else {
            panic!("{content:?}");
        };
        assert_eq!(batch.archived.0, noted, "as told in epoch {told:?}");
        single.appended(attempt, AppendOutcome::Ok(Sequence(302 + noted)));
    }

    let foreign = noting(&takeover(OTHER, 0), 4_990);
    let mut next = Single::new(&[(7, foreign)], &[]);
    next.pass(6_000);
    let (attempt, ..) = next.take_append();
    next.appended(attempt, AppendOutcome::Ok(Sequence(8)));
    assert_eq!(next.take_fetch(), FetchFrom::After(Sequence(0)));
}

/// Goal: numbers of requests hold as long as their epoch, also where this node has lost its place in the log: the home knows those
/// that it has taken, and would pass over new ones with the same. Method: a log that the leader says is shorter for long, and
/// which is there after all; a record in the middle of an epoch that this version cannot read.
#[test]
fn an_epoch_that_is_found_again_goes_on_with_its_numbers() {
    let log = [(9, takeover(OTHER, 3))];
    let numbers = |single: &mut Single| {
        let sent = single.take_messages().into_iter();
        let sent = sent.filter_map(|(_, content)| match content {
            MessageContent::Requests {
                first, requests, ..
            } => Some((
                first.0,
                requests.iter().map(Option::is_some).collect::<Vec<_>>(),
            )),
            _ => None,
        });
        sent.last().expect("a request is sent")
    };
    let mut single = Single::new(&log, &[OTHER]);
    single.ask(1);
    assert_eq!(numbers(&mut single), (1, vec![true]));
    single.input(Input::Interrupted);
    let mut is_lost = false;
    while !is_lost {
        single.pass(100);
        for output in single.take() {
            match output {
                Output::Fetch {
                    from: FetchFrom::Last,
                    ..
                } => {
                    is_lost = true;
                    single.fetched(FetchFrom::Last, &log);
                }
                Output::Fetch { from, .. } => single.fetched(from, &[]),
                _ => {}
            }
        }
    }
    single.pass(100);
    for from in single.take_fetches() {
        single.fetched(from, &log);
    }
    assert_eq!(single.home(), Some((OTHER, Epoch(9))));
    single.ask(2);
    let (first, requests) = numbers(&mut single);
    assert_eq!(first + requests.len() as u64 - 1, 2, "behind the first");

    let mut single = Single::new(&log, &[OTHER]);
    single.ask(1);
    assert_eq!(numbers(&mut single), (1, vec![true]));
    let unreadable = Bytes::from_static(&[255; 40]);
    single.record(11, batch(OTHER, 9, 10, vec![]));
    let from = single.take_fetch();
    let whole = [
        (10, unreadable),
        (11, batch(OTHER, 9, 10, vec![entry(ME, 1)])),
    ];
    single.fetched(from, &whole);
    assert_eq!(single.home(), Some((OTHER, Epoch(9))));
    single.ask(2);
    let (first, requests) = numbers(&mut single);
    assert_eq!(first + requests.len() as u64 - 1, 2, "behind the first");
}
