//! Fairness: rooms of all sizes share a shard's turns.

use std::collections::HashMap;
use std::time::Duration;

use uproar::net::io::{Key, Queued};
use uproar::shard::command::Command;
use uproar::shard::times::Observed;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{SEND_STALL_MAX, SENDS_PER_TURN_MAX};

use uproar_testing::client::{self, request};
use uproar_testing::single_shard::SingleShard;

/// A send: the connection and its room.
type Send = (Key, usize);

/// Returns the sends of each turn; before each turn one member of every room sends a message.
fn turns(sizes: &[usize], count: usize) -> Vec<Vec<Send>> {
    turns_with(sizes, count, 0)
}

/// Does the same; the members of the first `slow` rooms read slowly.
fn turns_with(sizes: &[usize], count: usize, slow: usize) -> Vec<Vec<Send>> {
    let mut shard = SingleShard::new(sizes[0], 0);
    let mut room_of = HashMap::new();
    let mut senders = Vec::new();
    for (index, members) in sizes.iter().enumerate() {
        if index > 0 {
            let room = RoomId::parse(&format!("abcdefghi{index:03}")).unwrap();
            shard.fill(room, *members, 0);
        }
        let keys = &shard.core.io().receives[room_of.len()..];
        senders.push(keys[0]);
        room_of.extend(keys.iter().map(|key| (*key, index)));
    }
    let readers = room_of.iter().filter(|(_, room)| **room < slow);
    shard.core.io_mut().slow = readers.map(|(key, _)| *key).collect();
    let frame = client::text(request().as_bytes());
    let turn = |_| {
        for sender in &senders {
            shard.receive(*sender, &frame);
        }
        let mut turn = Vec::new();
        shard.step(|key| turn.push((key, room_of[&key])));
        turn
    };
    (0..count).map(turn).collect()
}

/// Returns the number of turns that serve rooms of these sizes once.
fn turns_of_a_round(sizes: &[usize]) -> usize {
    let (mut turns, mut left) = (1, SENDS_PER_TURN_MAX);
    for size in sizes {
        if *size > left {
            (turns, left) = (turns + 1, SENDS_PER_TURN_MAX);
        }
        left -= size;
    }
    turns
}

/// Goal: with rooms that fit into a turn, no member waits longer than one round over all rooms, however their
/// sizes add up to turns. Method: every room has messages all the time; count the turns between two sends to
/// a member.
#[test]
fn no_member_waits_longer_than_a_round() {
    for sizes in [&[100; 9][..], &[128, 1, 127, 2, 100, 28, 64, 65], &[3; 90]] {
        // A round may begin in the middle of a turn.
        let most = turns_of_a_round(&sizes.repeat(2)).div_ceil(2) + 1;
        let turns = turns(sizes, 20 * most);
        let mut last = HashMap::new();
        for (now, turn) in turns.iter().enumerate() {
            for (member, room) in turn {
                let waited = now - last.insert(member, now).unwrap_or(now);
                assert!(
                    waited <= most,
                    "{waited} turns, not {most}: room {room} of {sizes:?}"
                );
            }
        }
        assert_eq!(last.len(), sizes.iter().sum::<usize>());
    }
}

/// Goal: messages right behind a deletion do not hold it up, nor its figure: it is told once the last member has it. Method: a
/// message in each turn from the second one on.
#[test]
fn messages_behind_a_deletion_do_not_hold_it_up() {
    let mut shard = SingleShard::new(2_000, 0);
    let sender = shard.core.io().receives[0];
    let frame = client::text(request().as_bytes());
    let (answer, _answered) = tokio::sync::oneshot::channel();
    shard.core.command(Command::DeleteMessage {
        room: shard.room,
        id: "M2YcHkgffEvU".into(),
        reason: "rude".into(),
        answer,
    });
    let mut served = HashMap::new();
    for turn in 1..=3 * 2_000 / SENDS_PER_TURN_MAX {
        shard.core.settle();
        let nothing = Queued { sends: 0, bytes: 0 };
        shard.core.note_cost(nothing, Duration::ZERO);
        let told: u64 = Observed::of([&shard.metrics.moderation])
            .counts
            .iter()
            .sum();
        for (key, outgoing) in std::mem::take(&mut shard.core.io_mut().sends) {
            served.entry(key).or_insert(turn);
            let len = outgoing.remaining();
            shard.core.begin(shard.now);
            shard.core.sent(key, outgoing, &Ok(len));
        }
        assert_eq!(told, u64::from(served.len() == 2_000), "in turn {turn}");
        shard.receive(sender, &frame);
    }
    let last = served.values().max();
    assert_eq!(last, Some(&2_000_usize.div_ceil(SENDS_PER_TURN_MAX)));
}

/// Goal: a room of three beside one of 2,000 waits for a slice of it, not for all of it.
#[test]
fn a_small_room_waits_for_a_slice_of_a_huge_one() {
    for turn in turns(&[2000, 3], 60) {
        assert_eq!(turn.iter().filter(|send| send.1 == 1).count(), 3);
    }
}

/// Goal: however many members read slowly, a turn ends and the others are served in it. Method: 2,000 members
/// whose sockets take a quarter of a frame at a time, and are all writable before each turn.
#[test]
fn slow_readers_have_their_share_of_a_turn() {
    let turns = turns_with(&[2000, 3], 200, 1);
    for turn in &turns {
        assert!(turn.len() <= 2 * SENDS_PER_TURN_MAX, "{} sends", turn.len());
        assert_eq!(turn.iter().filter(|send| send.1 == 1).count(), 3);
    }
    let slow = turns.iter().flatten().filter(|send| send.1 == 0).count();
    assert!(
        slow >= turns.len() * SENDS_PER_TURN_MAX / 2,
        "{slow} sends to slow readers"
    );
}

/// Goal: a member that waits because the server has more to send than it can is not taken for a client that
/// does not read. Method: 2,000 members that read at once, a bit at a time, in turns so long that each waits
/// for half a minute.
#[test]
fn the_servers_own_backlog_counts_as_no_stall() {
    let mut shard = SingleShard::new(2_000, 0);
    let keys = shard.core.io().receives.clone();
    shard.core.io_mut().slow = keys.iter().copied().collect();
    let frame = client::text(request().as_bytes());
    for turn in 0..55 {
        if turn < 3 {
            shard.receive(keys[0], &frame);
        }
        // By then every member is queued.
        let long = u32::from(turn >= 40);
        shard.now.tick = shard.now.tick.after(SEND_STALL_MAX / 6 * long);
        shard.step(|_| ());
    }
    assert_eq!(shard.core.io().cut, 0);
}
