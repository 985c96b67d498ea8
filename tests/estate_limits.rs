//! The limits of what one process hands over to another: at the bound it is decided who loses what, and counted.
//!
//! Each shard has an equal share of a limit, so a process of many shards has small ones.

use uproar::shard::estate::{Carried, NotCarried};
use uproar::shard::settings::ShardSettings;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{ESTATE_LOGS_BYTES_MAX, ESTATE_RESTS_BYTES_MAX};
use uproar_proto::room::audience::SlowPolicy;
use uproar_testing::client::{request, text};
use uproar_testing::parts::start;

use crate::estate::Process;

/// A shard with viewers that have not read the last messages.
fn stalled(shards: usize, viewers: usize, messages: usize) -> Process {
    let settings = ShardSettings::open(shards);
    let mut rooms = (1..).map(RoomId::from_random);
    let room = rooms.find(|room| settings.home(*room) == 0).unwrap();
    let mut process = Process::of(settings, room, start());
    process.admit(viewers, false);
    let sender = process.keys()[0];
    let message = text(request().as_bytes());
    // Its log has become that of a busy room when they cease to read.
    for most in [usize::MAX, 0] {
        process.most = most;
        for _ in 0..messages {
            process.receive(sender, &message);
            process.turns(1);
        }
        process.turns(2);
    }
    process
}

fn refused(carried: &Carried) -> Vec<(NotCarried, u64)> {
    let counts = carried.not_carried();
    counts.filter(|(_, count)| *count > 0).collect()
}

/// Goal: of room logs beyond the limit the oldest batches are left out, as if the window had moved past them: viewers
/// that need them go on behind the gap, or are cut if that is the policy, and the frames are counted. Method: three
/// viewers that have not read 1,200 KiB of a limit of 1 MiB, in a process of 256 shards.
#[test]
fn logs_beyond_the_limit_lose_their_oldest_batches() {
    let share = ESTATE_LOGS_BYTES_MAX / 256;
    let mut old = stalled(256, 3, 2_800);
    old.freeze();
    let (rooms, records, carried) = old.exported();
    assert_eq!((carried.viewers, refused(&carried)), (3, Vec::new()));
    assert!(rooms.len() < share + share / 8, "{}", rooms.len());
    for slow_policy in [SlowPolicy::Skip, SlowPolicy::Disconnect] {
        let settings = ShardSettings {
            slow_policy,
            ..ShardSettings::open(1)
        };
        let mut new = old.succeeded(settings, rooms.clone(), records.clone());
        new.turns(20);
        if slow_policy == SlowPolicy::Disconnect {
            assert_eq!(new.core.io().cut, 3);
            continue;
        }
        let skipped = new.metrics.frames_skipped.get();
        assert!(skipped > 0 && skipped.is_multiple_of(3), "{skipped}");
        for key in new.keys() {
            let got = new.got(key);
            assert!(got.len() > share - 2_048 && got.len() <= share + 1_024);
            // The rest of a send, then whole frames: each message once.
            let messages = String::from_utf8_lossy(got).matches("\"Type\"").count();
            assert_eq!(messages as u64 + skipped / 3, 2_800);
        }
    }
}

/// Goal: of unfinished sends as many are handed over as the limit has place for; further viewers are not, and are counted;
/// a thaw goes on with all of them. Method: seven viewers in whose sockets the beginning of a long send found place, in a process of 64 shards, whose share is 1 MiB.
#[test]
fn sends_beyond_the_limit_are_not_carried() {
    let share = ESTATE_RESTS_BYTES_MAX / 64;
    let mut old = stalled(64, 7, 1_200);
    // The first send, of one message, is over; the next one has as much as a send may have.
    old.most = 1_024;
    old.turns(3);
    old.most = 0;
    old.freeze();
    let (rooms, records, carried) = old.exported();
    // All viewers have the same.
    let rest = records[0].len();
    assert!(rest > share / 7, "{rest}");
    let fit = share / rest;
    assert_eq!(carried.viewers, fit as u64);
    assert_eq!(refused(&carried), [(NotCarried::Backlog, 7 - fit as u64)]);
    let before: Vec<usize> = old.keys()[..7]
        .iter()
        .map(|key| old.got(*key).len())
        .collect();
    let mut new = old.succeeded(ShardSettings::open(1), rooms, records);
    new.turns(20);
    let keys = new.keys();
    assert_eq!(keys.len(), fit);
    old.most = usize::MAX;
    old.core.thaw();
    old.turns(20);
    let whole = old.got(old.keys()[0]).len();
    for (viewer, before) in before.into_iter().enumerate() {
        assert_eq!(old.got(old.keys()[viewer]).len(), whole, "thawed");
        if let Some(key) = keys.get(viewer) {
            assert_eq!(before + new.got(*key).len(), whole, "carried");
        }
    }
}
