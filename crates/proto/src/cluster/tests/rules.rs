//! Rules of the cluster, one by one.

use super::single::{ME, OTHER, Single, ask, batch, entry, takeover};
use super::world::World;
use crate::base::clock::UnixTime;
use crate::cluster::engine::{AppendOutcome, FetchFrom, Input, Outcome, Output, SkipCause};
use crate::cluster::message::MessageContent;
use crate::cluster::record::{Content, Record};
use crate::cluster::{Epoch, HashSlot, Incarnation, Number, Sequence};

fn settled() -> (World, HashSlot, usize) {
    let mut world = World::new(1, 3);
    world.run(12_000);
    let slot = HashSlot::of(World::room(0));
    let home = world.home_node(slot).expect("every hash slot has a home");
    (world, slot, home)
}

/// A home in epoch 10, whose batch with its own request 1 is pending: its attempt.
fn home_with_batch() -> (Single, u64) {
    let mut single = Single::new(&[], &[]);
    single.become_home(10);
    single.ask(1);
    single.author();
    single.pass(100);
    let (attempt, expected, content) = single.take_append();
    assert_eq!(expected, 10);
    let Content::Batch(batch) = content else {
        panic!("a batch: {content:?}");
    };
    assert_eq!(batch.entries, [entry(ME, 1)]);
    (single, attempt)
}

/// Goal: nothing is delivered, and nobody told, before the record is in the log; one append at a time.
#[test]
fn nothing_takes_effect_before_it_is_in_the_log() {
    let (mut single, attempt) = home_with_batch();
    single.ask(2);
    single.author();
    single.pass(200);
    assert!(single.told().is_empty());
    assert!(!single.is_append_wanted(), "one is pending");
    single.appended(attempt, AppendOutcome::Ok(Sequence(12)));
    let delivered = |output: &Output| {
        matches!(
            output,
            Output::Deliver {
                sequence: Sequence(12),
                ..
            }
        )
    };
    let at = single
        .outputs
        .iter()
        .position(delivered)
        .expect("delivered");
    let told = |output: &Output| matches!(output, Output::Told { .. });
    assert!(
        single.outputs.iter().position(told) > Some(at),
        "first its rooms, then its sender"
    );
    assert_eq!(single.told(), [(1, Outcome::Committed)]);
    let (_, expected, _) = single.take_append();
    assert_eq!(expected, 12, "the next one follows");
}

/// Goal: a refused condition is no verdict. Without a quorum nothing has changed: the same record is tried again, under
/// the same condition.
#[test]
fn a_condition_refused_for_nothing_is_tried_again() {
    let (mut single, attempt) = home_with_batch();
    single.appended(attempt, AppendOutcome::WrongLast);
    assert_eq!(single.take_fetch(), FetchFrom::After(Sequence(10)));
    single.fetched(FetchFrom::After(Sequence(10)), &[(10, takeover(ME, 0))]);
    assert!(!single.is_append_wanted(), "not at once");
    single.pass(300);
    let (again, expected, content) = single.take_append();
    assert_eq!((again, expected), (attempt + 1, 10));
    assert!(matches!(content, Content::Batch(batch) if batch.entries.len() == 1));
    assert_eq!(single.engine.status().counts.conflicts_nothing, 1);
}

/// Goal: an answer that was lost is found in the log, where the record is once.
#[test]
fn a_lost_answer_is_found_in_the_log() {
    let (mut single, attempt) = home_with_batch();
    let payload = |single: &mut Single| {
        single.take().into_iter().find_map(|output| match output {
            Output::Append { payload, .. } => Some(payload),
            _ => None,
        })
    };
    single.appended(attempt, AppendOutcome::Unknown);
    single.pass(300);
    let payload = payload(&mut single).expect("tried again");
    single.appended(attempt + 1, AppendOutcome::WrongLast);
    assert_eq!(single.take_fetch(), FetchFrom::After(Sequence(10)));
    single.fetched(FetchFrom::After(Sequence(10)), &[(11, payload)]);
    assert_eq!(single.told(), [(1, Outcome::Committed)]);
    single.take();
    single.appended(attempt, AppendOutcome::Ok(Sequence(11)));
    assert_eq!(single.take(), [], "known");
    assert_eq!(single.engine.status().counts.conflicts_own, 1);
}

/// Goal: an answer may come for an attempt before the newest: it was the same record.
#[test]
fn an_earlier_attempt_may_be_the_one() {
    let (mut single, attempt) = home_with_batch();
    single.appended(attempt, AppendOutcome::Unknown);
    single.pass(300);
    single.take();
    single.appended(attempt, AppendOutcome::Ok(Sequence(11)));
    assert_eq!(single.told(), [(1, Outcome::Committed)]);
    single.take();
    single.appended(attempt + 1, AppendOutcome::WrongLast);
    assert_eq!(
        single.take(),
        [],
        "that attempt was refused by our own record"
    );
}

/// Goal: a home that was replaced drops what it had, says so, and sends its own requests to the new one. What it
/// appended before is there, and is not sent again.
#[test]
fn a_replaced_home_is_fenced() {
    for is_in_log in [false, true] {
        let (mut single, attempt) = home_with_batch();
        single.appended(attempt, AppendOutcome::WrongLast);
        single.take();
        let mut log = Vec::new();
        if is_in_log {
            let mut own = batch(ME, 10, 10, vec![entry(ME, 1)]).to_vec();
            // Its number: the attempt's. Behind the version, the kind, a length, values of eight bytes.
            let at = 1 + 1 + 4 + 5 * 8;
            own[at..at + 8].copy_from_slice(&attempt.to_le_bytes());
            log.push((11, own.into()));
        }
        log.push((13, takeover(OTHER, if is_in_log { 11 } else { 10 })));
        single.fetched(FetchFrom::After(Sequence(10)), &log);
        let is_told = single.told() == [(1, Outcome::Committed)];
        assert_eq!(is_told, is_in_log);
        let fenced = |output: &Output| {
            matches!(
                output,
                Output::Fenced {
                    epoch: Epoch(10),
                    ..
                }
            )
        };
        assert_eq!(
            single
                .outputs
                .iter()
                .filter(|output| fenced(output))
                .count(),
            1
        );
        assert_eq!(single.home(), Some((OTHER, Epoch(13))));
        let sent = single.take_messages();
        assert_eq!(sent.len(), usize::from(!is_in_log), "{sent:?}");
        if let Some((to, content)) = sent.first() {
            let expected = MessageContent::Requests {
                slot: single.slot,
                epoch: Epoch(13),
                oldest: Number(1),
                first: Number(1),
                requests: vec![Some(ask())],
            };
            assert_eq!((*to, content), (OTHER, &expected));
        }
        // The answer to its append, far too late.
        single.appended(attempt, AppendOutcome::Ok(Sequence(11)));
        single.pass(1_000);
        assert!(!single.is_append_wanted(), "it is not the home");
    }
}

/// Goal: what shards decide after the end of the epoch is not appended.
#[test]
fn what_was_authored_for_an_old_epoch_is_dropped() {
    let (mut single, _) = home_with_batch();
    single.ask(2);
    single.record(12, takeover(OTHER, 10));
    single.others(&[OTHER]);
    single.author();
    single.pass(100);
    assert!(!single.is_append_wanted());
    assert_eq!(single.engine.status().authored_bytes, 0);
}

/// Goal: of two that take over at once, one does; the other reads so, and is content.
#[test]
fn of_two_takers_one_wins() {
    let mut single = Single::new(&[], &[OTHER]);
    single.pass(2_000);
    let (attempt, expected, _) = single.take_append();
    assert_eq!(expected, 0);
    single.appended(attempt, AppendOutcome::WrongLast);
    let from = single.take_fetch();
    single.fetched(from, &[(5, takeover(OTHER, 0))]);
    single.pass(5_000);
    assert_eq!(single.home(), Some((OTHER, Epoch(5))));
    assert!(!single.is_append_wanted(), "the home is healthy");
    assert_eq!(single.engine.status().counts.conflicts_foreign, 1);
}

/// Goal: a node that starts learns home and epoch from the newest record, whatever it is.
#[test]
fn a_node_that_starts_knows_the_home_from_the_last_record() {
    for (payload, epoch) in [
        (takeover(OTHER, 3), 9),
        (batch(OTHER, 4, 3, vec![entry(OTHER, 1)]), 4),
    ] {
        let mut single = Single::new(&[(9, payload)], &[OTHER]);
        assert_eq!(single.home(), Some((OTHER, Epoch(epoch))));
        single.ask(1);
        let sent = single.take_messages();
        assert!(
            matches!(&sent[..], [(OTHER, MessageContent::Requests { epoch: of, .. })] if of.0 == epoch)
        );
        single.pass(6_000);
        assert!(
            !single.is_append_wanted(),
            "nobody takes from a healthy home"
        );
    }
}

/// Goal: a silent home is replaced; but not by a node that does not hear itself, nor before it had time to hear others.
#[test]
fn silence_is_judged_by_who_hears_itself() {
    let mut single = Single::new(&[(9, takeover(OTHER, 3))], &[OTHER]);
    single.pass(1_000);
    // Cut off, or stopped: nothing is heard for long, then everything again.
    single.now.tick = single.now.tick.after(std::time::Duration::from_secs(30));
    single.input(Input::Tick);
    assert!(!single.is_append_wanted(), "it does not hear itself");
    single.pass(1_000);
    assert!(!single.is_append_wanted(), "the home is there");
    single.others(&[]);
    single.pass(2_900);
    assert!(!single.is_append_wanted(), "not silent for long");
    single.pass(1_200);
    let (_, expected, content) = single.take_append();
    assert_eq!(expected, 9);
    assert!(matches!(content, Content::Takeover { home: ME, .. }));
}

/// Goal: brokers' word that nobody takes a home's messages is shared, and acted on when its sign of life is overdue; a sign of
/// life refutes it.
#[test]
fn a_dead_process_is_noticed_by_its_silence_on_the_bus() {
    for is_alive in [false, true] {
        let mut single = Single::new(&[(9, takeover(OTHER, 3))], &[OTHER, Incarnation::new(3)]);
        single.pass(1_000);
        single.take();
        single.input(Input::NoResponders(OTHER));
        let suspect = MessageContent::Suspect { incarnation: OTHER };
        let expected = (Incarnation::new(3), suspect);
        assert_eq!(single.take_messages(), [expected], "to who is alive");
        single.input(Input::NoResponders(OTHER));
        assert_eq!(single.take_messages(), [], "once");
        if !is_alive {
            single.others(&[Incarnation::new(3)]);
        }
        single.pass(1_800);
        assert_eq!(single.is_append_wanted(), !is_alive);
    }
}

/// Goal: a node whose messages were not taken for a moment, while it connected to another broker, keeps its hash slots.
#[test]
fn a_node_that_reconnects_keeps_its_hash_slots() {
    let (mut world, slot, home) = settled();
    let me = world.nodes[home].engine.me();
    for _ in 0..20 {
        world.input((home + 1) % 3, Input::NoResponders(me));
        world.run(200);
        world.input(home, Input::Reconnected);
        world.run(333);
    }
    world.run(1_000);
    assert_eq!(world.home_node(slot), Some(home));
    assert!(world.nodes[home].fenced.is_empty());
}

/// Goal: a log that forgot everything by age is taken over anew, under the condition that it is empty, and by its home too.
#[test]
fn an_empty_log_is_taken_over_anew() {
    let (mut single, attempt) = home_with_batch();
    single.appended(attempt, AppendOutcome::WrongLast);
    let from = single.take_fetch();
    single.fetched(from, &[]);
    single.pass(100);
    let (attempt, expected, content) = single.take_append();
    assert_eq!(expected, 0);
    let known = Sequence(10);
    assert!(matches!(content, Content::Takeover { home: ME, known: said, .. } if said == known));
    single.appended(attempt, AppendOutcome::Ok(Sequence(40)));
    assert_eq!(single.home(), Some((ME, Epoch(40))));
    assert_eq!(
        single.told(),
        [(1, Outcome::Unknown)],
        "it may have been in the log"
    );
    single.take();
    single.ask(2);
    single.author();
    single.pass(100);
    assert_eq!(single.take_append().1, 40, "and goes on");
}

/// Goal: the home does not believe that its log went back before a quorum does: the leader's answer may be old.
#[test]
fn an_old_answer_costs_no_request() {
    let (mut single, attempt) = home_with_batch();
    single.appended(attempt, AppendOutcome::WrongLast);
    let from = single.take_fetch();
    single.fetched(from, &[]);
    single.pass(100);
    let (attempt, expected, _) = single.take_append();
    assert_eq!(expected, 0);
    single.appended(attempt, AppendOutcome::WrongLast);
    let from = single.take_fetch();
    single.fetched(from, &[(10, takeover(ME, 0))]);
    single.pass(100);
    let (attempt, expected, _) = single.take_append();
    assert_eq!(expected, 10, "the log is as it was");
    single.appended(attempt, AppendOutcome::Ok(Sequence(11)));
    assert!(single.told().is_empty());
    single.author();
    single.pass(100);
    let (attempt, ..) = single.take_append();
    single.appended(attempt, AppendOutcome::Ok(Sequence(12)));
    assert_eq!(single.told(), [(1, Outcome::Committed)]);
}

/// Goal: readers follow a log that was made anew from the `Takeover` that says so, once.
#[test]
fn a_log_made_anew_is_followed() {
    let mut single = Single::new(&[(812, takeover(OTHER, 3))], &[OTHER]);
    single.ask(1);
    single.take();
    let content = Content::Takeover {
        home: OTHER,
        archived: Sequence(0),
        known: Sequence(812),
    };
    let previous = Sequence(0);
    let anew = Record {
        previous,
        sent: UnixTime::default(),
        content,
    }
    .encode();
    single.record(6, anew.clone());
    assert!(matches!(
        single.outputs.first(),
        Some(Output::Skipped {
            cause: SkipCause::WentBack,
            ..
        })
    ));
    assert_eq!(single.home(), Some((OTHER, Epoch(6))));
    assert_eq!(
        single.told(),
        [(1, Outcome::Unknown)],
        "it may have been in the lost part"
    );
    single.take();
    single.record(7, batch(OTHER, 6, 6, vec![entry(OTHER, 1)]));
    single.record(6, anew);
    single.record(8, batch(OTHER, 6, 7, vec![entry(OTHER, 2)]));
    let delivered = single.take().into_iter();
    let delivered = delivered.filter(|output| matches!(output, Output::Deliver { .. }));
    assert_eq!(delivered.count(), 2);
    assert_eq!(single.engine.status().counts.regressions, 1);
}

/// Goal: who missed even that reads on from the log's end, once its leader has said for long that it is shorter.
#[test]
fn a_log_that_went_back_is_believed_in_the_end() {
    let mut single = Single::new(&[(812, takeover(OTHER, 3))], &[OTHER]);
    let log = [(6, takeover(OTHER, 0)), (7, batch(OTHER, 6, 6, vec![]))];
    single.record(7, log[1].1.clone());
    for second in 0..14 {
        single.pass(1_000);
        for from in single.take_fetches() {
            single.fetched(from, &log);
        }
        let is_believed = single.home() == Some((OTHER, Epoch(6)));
        assert!(is_believed || second < 13, "after {second} s");
        assert!(!is_believed || second > 10, "after {second} s");
    }
}

/// Goal: answers of a deposed leader far apart, and silence in between, are no proof that a log went back. Method: world
/// 608 of the simulation, which delivered records again for two such answers 15 s apart.
#[test]
fn a_log_is_not_shorter_for_two_answers_far_apart() {
    let mut single = Single::new(&[(812, takeover(OTHER, 3))], &[OTHER]);
    let old = [(7, batch(OTHER, 6, 6, vec![]))];
    single.record(7, old[0].1.clone());
    for second in 0..40 {
        single.pass(1_000);
        for from in single.take_fetches() {
            if second % 15 == 1 {
                single.fetched(from, &old);
            } else {
                single.unanswered(from);
            }
        }
        assert_eq!(single.engine.status().counts.regressions, 0, "{second} s");
    }
}

/// Goal: records that come again are dropped; a gap is read, and what came behind it counts without another read.
#[test]
fn records_count_once_and_in_order() {
    let log: Vec<_> = (5..9)
        .map(|at| (at, batch(OTHER, 4, at - 1, vec![entry(OTHER, at)])))
        .collect();
    let mut single = Single::new(&[(4, takeover(OTHER, 0))], &[OTHER]);
    let record = |single: &mut Single, at: usize| single.record(log[at].0, log[at].1.clone());
    record(&mut single, 0);
    record(&mut single, 0);
    record(&mut single, 2);
    let delivered = |single: &Single| {
        let all = single.outputs.iter().filter_map(|output| match output {
            Output::Deliver { sequence, .. } => Some(sequence.0),
            _ => None,
        });
        all.collect::<Vec<_>>()
    };
    assert_eq!(delivered(&single), [5]);
    assert_eq!(single.take_fetch(), FetchFrom::After(Sequence(5)));
    record(&mut single, 3);
    single.fetched(FetchFrom::After(Sequence(5)), &log[..2]);
    assert_eq!(delivered(&single), [6, 7, 8]);
    assert_eq!(single.engine.status().counts.gaps_filled, 1);
}

/// Goal: a message for an epoch that was not read yet waits for it; one for an old epoch is answered with the new one.
#[test]
fn messages_belong_to_an_epoch() {
    let mut single = Single::new(&[], &[OTHER]);
    single.pass(2_000);
    let (attempt, ..) = single.take_append();
    let slot = single.slot;
    let requests = |epoch: u64| MessageContent::Requests {
        slot,
        epoch: Epoch(epoch),
        oldest: Number(1),
        first: Number(1),
        requests: vec![Some(ask())],
    };
    single.message(OTHER, requests(10));
    assert_eq!(
        single.take(),
        [],
        "our Takeover is not known to be in the log"
    );
    single.appended(attempt, AppendOutcome::Ok(Sequence(10)));
    let keys = single.author();
    assert_eq!(keys.len(), 1);
    assert_eq!((keys[0].origin, keys[0].epoch), (OTHER, Epoch(10)));
    single.record(12, takeover(OTHER, 10));
    single.take();
    single.message(Incarnation::new(3), requests(10));
    let epoch = Epoch(12);
    let answer = (Incarnation::new(3), MessageContent::NotHome { slot, epoch });
    assert_eq!(single.take_messages(), [answer]);
    single.message(
        OTHER,
        MessageContent::NotHome {
            slot,
            epoch: Epoch(20),
        },
    );
    assert_eq!(
        single.take_fetch(),
        FetchFrom::After(Sequence(12)),
        "it is behind"
    );
}

/// Goal: what an origin asked for before it died is done, once.
#[test]
fn requests_of_a_dead_origin_are_done() {
    let (mut world, slot, home) = settled();
    let origin = (home + 1) % 3;
    world.ask(origin, 0).expect("awake");
    world.run(3);
    world.kill(origin);
    world.run(2_000);
    assert_eq!(world.frames(slot).len(), 1);
}

/// Goal: a stopped home wakes, finds itself replaced, and its requests are done once, by the new home.
#[test]
fn a_stopped_home_wakes_as_another_ones_origin() {
    let (mut world, slot, home) = settled();
    let mine = world.ask(home, 0).expect("awake");
    world.stop(home, 20_000);
    let other = (home + 1) % 3;
    let theirs = world.ask(other, 0).expect("awake");
    world.run(10_000);
    assert_eq!(world.told.get(&theirs), Some(&Outcome::Committed));
    assert_ne!(world.home_node(slot), Some(home));
    world.run(11_000);
    assert!(world.nodes[home].fenced.iter().any(|(of, _)| *of == slot));
    let outcome = world.told.get(&mine).expect("told");
    let times = world.frames(slot).len();
    assert_eq!(times, 1 + usize::from(*outcome == Outcome::Committed));
    let seen = world.nodes[home]
        .delivered
        .get(&slot)
        .and_then(|seen| seen.last());
    assert_eq!(seen, world.frames(slot).last());
}

/// Goal: a wall clock that steps changes nothing but what others see of it.
#[test]
fn a_clock_that_steps_decides_nothing() {
    let (mut single, attempt) = home_with_batch();
    single.appended(attempt, AppendOutcome::Ok(Sequence(11)));
    single.take();
    for unix in [0, u64::MAX / 2_000_000_000] {
        single.now.unix = UnixTime::from_secs(unix);
        single.pass(500);
        single.ask(2);
        assert_eq!(single.author().len(), 1);
        let (attempt, expected, _) = single.take_append();
        single.appended(attempt, AppendOutcome::Ok(Sequence(expected + 1)));
        assert_eq!(single.told(), [(2, Outcome::Committed)]);
        single.take();
    }
}

/// Goal: a node that leaves hands its hash slots over, a few at a time, and a message meanwhile waits for a moment.
#[test]
fn a_node_that_leaves_hands_over() {
    let (mut world, slot, home) = settled();
    world.input(home, Input::Drain(true));
    world.run(1);
    let ticket = world.ask((home + 1) % 3, 0).expect("awake");
    world.run(1_000);
    assert_eq!(world.told.get(&ticket), Some(&Outcome::Committed));
    assert_ne!(world.home_node(slot), Some(home));
    world.run(2_000);
    let status = world.nodes[home].engine.status();
    let me = world.nodes[home].engine.me();
    assert!(status.slots.iter().all(|slot| slot.home != Some(me)));
    let planned: u64 = (world.nodes.iter())
        .map(|node| node.engine.status().counts.takeovers_planned)
        .sum();
    assert!(planned >= 60, "{planned} planned moves");
    let failed = world
        .nodes
        .iter()
        .map(|node| node.engine.status().counts.fenced)
        .sum::<u64>();
    assert_eq!(failed, 0, "all were asked for");
}

/// Goal: nodes share the hash slots, by name: a restarted node gets its own back.
#[test]
fn hash_slots_come_back_to_a_restarted_node() {
    let (mut world, slot, home) = settled();
    let share = |world: &World| {
        let status = world.nodes[0].engine.status();
        let homes = status
            .slots
            .into_iter()
            .map(|slot| slot.home.map(Incarnation::bits));
        homes.collect::<Vec<_>>()
    };
    let before = share(&world);
    assert!(before.iter().all(Option::is_some));
    world.kill(home);
    world.run(5_000);
    assert_ne!(world.home_node(slot), Some(home));
    world.restart(home);
    world.run(10_000);
    assert_eq!(world.home_node(slot), Some(home));
    let moved = share(&world)
        .iter()
        .zip(&before)
        .filter(|(now, then)| now != then)
        .count();
    let of_home = before
        .iter()
        .filter(|of| **of == before[slot.index()])
        .count();
    assert_eq!(moved, of_home, "nobody else's moved");
}

/// Goal: an operator's move holds, against the shares, until the cluster is balanced.
#[test]
fn an_operators_move_holds_until_the_balance() {
    let (mut world, slot, home) = settled();
    let (other, third) = ((home + 1) % 3, (home + 2) % 3);
    let to = world.nodes[other].engine.me();
    world.input(third, Input::Move { slot, to });
    world.run(8_000);
    assert_eq!(world.home_node(slot), Some(other));
    assert!(world.nodes[other].engine.status().slots[slot.index()].is_pinned);
    world.input(third, Input::Balance);
    world.run(2_000);
    assert_eq!(world.home_node(slot), Some(home));
}

/// Goal: a new home archives what the one before may not have.
#[test]
fn a_new_home_archives_what_is_not_noted() {
    let (mut world, slot, home) = settled();
    let other = (home + 1) % 3;
    let ticket = world.ask(other, 0).expect("awake");
    world.run(100);
    assert_eq!(world.told.get(&ticket), Some(&Outcome::Committed));
    let sequence = world.frames(slot)[0].0;
    world.kill(home);
    world.run(5_000);
    let archiving = world.home_node(slot).expect("taken over");
    assert!(
        world.nodes[archiving]
            .unarchived
            .contains(&(slot, sequence))
    );
}

/// Goal: who was away longer than the log remembers skips what it missed, says so, and goes on.
#[test]
fn what_the_log_forgot_is_skipped_aloud() {
    let (mut world, slot, home) = settled();
    let away = (home + 1) % 3;
    world.isolate(away, true);
    for _ in 0..5 {
        let ticket = world.ask(home, 0).expect("awake");
        world.run(1_200);
        assert_eq!(world.told.get(&ticket), Some(&Outcome::Committed));
    }
    world.forget(slot, 2);
    world.isolate(away, false);
    world.run(2_000);
    assert_eq!(world.nodes[away].skipped, 1);
    let ticket = world.ask(away, 0).expect("awake");
    world.run(1_000);
    assert_eq!(world.told.get(&ticket), Some(&Outcome::Committed));
    let seen = world.nodes[away]
        .delivered
        .get(&slot)
        .and_then(|seen| seen.last());
    assert_eq!(seen, world.frames(slot).last());
}

/// Goal: too many requests without outcome are refused; those that wait for long are given up, each once.
#[test]
fn kept_requests_have_bounds() {
    let mut single = Single::new(&[(9, takeover(OTHER, 3))], &[OTHER]);
    let limit = crate::base::limits::CLUSTER_KEPT_BYTES_MAX;
    let mut asked = 0;
    while single.told().is_empty() {
        single.ask(asked);
        asked += 1;
        single
            .outputs
            .retain(|output| matches!(output, Output::Told { .. }));
    }
    assert!(matches!(&single.told()[..], [(_, Outcome::Refused(..))]));
    assert!(single.engine.status().kept_bytes <= limit);
    single.take();
    single.pass(16_000);
    let unknown = single
        .told()
        .into_iter()
        .filter(|(_, outcome)| *outcome == Outcome::Unknown);
    assert_eq!(unknown.count() as u64, asked - 1);
    let status = single.engine.status();
    assert!(status.kept_bytes < 10_000, "only probes are kept");
}

/// Goal: a new home whose clock is behind does not send earlier than the home before it; a node that starts knows the
/// time from the newest record, whatever it is.
#[test]
fn send_times_go_on_where_they_were() {
    let mut single = Single::new(&[(9, takeover(OTHER, 3))], &[]);
    single.pass(5_000);
    let (attempt, _, content) = single.take_append();
    assert!(matches!(content, Content::Takeover { home: ME, .. }));
    single.appended(attempt, AppendOutcome::Ok(Sequence(10)));
    single.ask(1);
    let keys = single.author();
    assert_eq!(
        keys[0].not_before,
        UnixTime::from_secs(3),
        "the record says so"
    );
    single.pass(100);
    let payload = single.take().into_iter().find_map(|output| match output {
        Output::Append { payload, .. } => Some(payload),
        _ => None,
    });
    let record = Record::decode(&payload.expect("appended")).expect("ours");
    assert_eq!(record.sent, UnixTime::from_secs(3), "its entry is earlier");
}

/// Goal: who got nothing from a log for longer than its home is silent reads its end: it may be the home itself, by a
/// `Takeover` that it gave up.
#[test]
fn a_silent_log_is_read() {
    let mut single = Single::new(&[(9, takeover(OTHER, 3))], &[OTHER]);
    single.pass(19_000);
    single.take();
    single.pass(1_500);
    let from = single.take_fetch();
    single.fetched(from, &[(9, takeover(OTHER, 3)), (12, takeover(ME, 9))]);
    assert_eq!(single.home(), Some((ME, Epoch(12))));
}

/// Goal: a log that stays empty has no home, whatever was read from it before.
#[test]
fn a_log_that_stays_empty_is_vacant() {
    let mut single = Single::new(&[(9, takeover(OTHER, 3))], &[OTHER]);
    let mut appends = Vec::new();
    for _ in 0..400 {
        single.pass(100);
        for output in single.take() {
            match output {
                Output::Fetch { from, .. } => single.fetched(from, &[]),
                Output::Append { expected, .. } => appends.push(expected.0),
                _ => {}
            }
        }
    }
    assert_eq!(appends.first(), Some(&0));
}
