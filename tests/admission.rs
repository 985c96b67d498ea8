//! Admission: the limit of all shards together, tokens whose use could not be recorded, and sessions under a
//! wall clock that steps.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use uproar::shard::command::{AdmitError, Command};
use uproar::shard::core::{Core, Parts};
use uproar::shard::doorbell::Doorbell;
use uproar::shard::inbox::{Ends, Inbox, Mailboxes};
use uproar::shard::journal::{Record, TokenUse};
use uproar::shard::settings::{ShardSettings, SharedBudgets};
use uproar_proto::base::clock::{Now, UnixTime};
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::MAILBOX_COMMANDS;
use uproar_testing::io::FakeIo;
use uproar_testing::parts::{alone, pending, room_settings, start};

const SHARDS: usize = 2;

/// A journal on a disk that is full while the flag is set.
struct Disk(Arc<AtomicBool>);

impl Record for Disk {
    fn record(&mut self, uses: &[TokenUse]) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) && !uses.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

struct Shard {
    core: Core<FakeIo>,
    inbox: Inbox<()>,
    rejected: Vec<AdmitError>,
}

struct World {
    shards: Vec<Shard>,
    now: Now,
    full: Arc<AtomicBool>,
    tokens: u64,
}

impl World {
    fn new(connections_max: usize) -> Self {
        let settings = ShardSettings {
            stripe_members_min: 1,
            connections_max,
            ..ShardSettings::open(SHARDS)
        };
        let now = start();
        let (full, budgets) = (Arc::<AtomicBool>::default(), SharedBudgets::default());
        let bell = || Arc::new(Doorbell::new().unwrap());
        let bells: Vec<_> = (0..SHARDS).map(|_| bell()).collect();
        let mailboxes = Mailboxes::new(&bells, MAILBOX_COMMANDS);
        let shard = |(id, ends)| {
            let Ends {
                mailboxes,
                requests,
                inbox,
            } = ends;
            let parts = Parts {
                id,
                settings: settings.clone(),
                mailboxes,
                requests,
                record: Box::new(Disk(Arc::clone(&full))),
                budgets: Arc::clone(&budgets),
                ..alone(FakeIo::default())
            };
            let (core, rejected) = (Core::new(parts, now), Vec::new());
            Shard {
                core,
                inbox,
                rejected,
            }
        };
        let shards = mailboxes
            .shards
            .into_iter()
            .enumerate()
            .map(shard)
            .collect();
        let mut world = Self {
            shards,
            now,
            full,
            tokens: 0,
        };
        for home in 0..SHARDS {
            let (answer, _answered) = tokio::sync::oneshot::channel();
            let put = Command::PutRoom(room_of(home), room_settings(), answer);
            world.shards[home].core.command(put);
        }
        world
    }

    /// Presents a token for a room of shard `home`.
    fn present(&mut self, token: u64, home: usize, session: Duration) {
        let mut pending = pending((), room_of(home), token, self.now);
        pending.grant.ends = self.now.tick.after(session);
        self.shards[home].core.enter(pending);
    }

    fn present_new(&mut self, count: usize, home: usize) {
        for _ in 0..count {
            self.tokens += 1;
            self.present(self.tokens, home, Duration::from_hours(1));
        }
    }

    fn turn(&mut self, shard: usize) {
        let Shard {
            core,
            inbox,
            rejected,
        } = &mut self.shards[shard];
        core.begin(self.now);
        inbox.take(core);
        for (key, outgoing) in std::mem::take(&mut core.io_mut().sends) {
            let len = outgoing.remaining();
            core.sent(key, outgoing, &Ok(len));
        }
        let _plan = core.settle();
        while let Some((_pending, why)) = core.next_rejected() {
            rejected.push(why);
        }
        core.flush_mailboxes();
    }

    /// Ends all connections.
    fn leave(&mut self) {
        for Shard { core, .. } in &mut self.shards {
            core.begin(self.now);
            for key in std::mem::take(&mut core.io_mut().receives) {
                core.received(key, None, &Ok(0), false);
            }
        }
    }

    fn connections(&self) -> usize {
        let counts = self
            .shards
            .iter()
            .map(|shard| shard.core.connection_count());
        counts.sum()
    }
}

/// Returns a room whose home is shard `home`.
fn room_of(home: usize) -> RoomId {
    let settings = ShardSettings::open(SHARDS);
    let mut rooms = (0..).map(|seed| RoomId::from_random(seed << 40));
    rooms.find(|room| settings.home(*room) == home).unwrap()
}

/// Goal: the limit is exact: in one turn of all shards, and while pending connections move from one shard to
/// another. Reservations are given back.
#[test]
fn the_limit_holds_within_a_turn_and_between_shards() {
    let mut world = World::new(10);
    for _ in 0..2 {
        for home in 0..SHARDS {
            world.present_new(8, home);
        }
        // No shard takes its mailboxes before all have decided, twice.
        for home in 0..SHARDS {
            world.turn(home);
        }
        world.present_new(8, 0);
        world.turn(0);
        for _ in 0..4 {
            for shard in 0..SHARDS {
                world.turn(shard);
            }
        }
        assert_eq!(world.connections(), 10);
        let rejected = world
            .shards
            .iter_mut()
            .flat_map(|shard| shard.rejected.drain(..));
        let rejected: Vec<AdmitError> = rejected.collect();
        assert_eq!(rejected, [AdmitError::TooManyConnections; 14]);
        world.leave();
        for _ in 0..4 {
            for shard in 0..SHARDS {
                world.turn(shard);
            }
        }
        assert_eq!(world.connections(), 0);
    }
}

/// Goal: a token whose use could not be recorded is not used: it opens a connection once the disk works.
#[test]
fn a_use_that_was_not_recorded_did_not_happen() {
    let mut world = World::new(10);
    world.full.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        world.present(1, 0, Duration::from_hours(1));
        world.turn(0);
        assert_eq!(
            world.shards[0].rejected.pop(),
            Some(AdmitError::NotRecorded)
        );
    }
    world.full.store(false, Ordering::Relaxed);
    world.present(1, 0, Duration::from_hours(1));
    world.turn(0);
    assert!(world.shards[0].rejected.is_empty());
    world.present(1, 0, Duration::from_hours(1));
    world.turn(0);
    assert_eq!(world.shards[0].rejected.pop(), Some(AdmitError::TokenUsed));
}

/// Goal: a session lasts as long as its token grants, whatever the wall clock does meanwhile.
#[test]
fn a_wall_clock_that_steps_ends_no_session_and_prolongs_none() {
    for stepped in [1_000_000_000, 1_800_000_000 + 30 * 86_400] {
        let mut world = World::new(10);
        world.present(1, 0, Duration::from_secs(10));
        world.turn(0);
        world.now.unix = UnixTime::from_secs(stepped);
        for (passed_secs, connections) in [(1, 1), (8, 1), (2, 0)] {
            world.now.tick = world.now.tick.after(Duration::from_secs(passed_secs));
            world.turn(0);
            world.turn(0);
            if connections == 0 {
                // ERROR 401 and Close went out; the peer has time to answer.
                world.now.tick = world.now.tick.after(Duration::from_secs(30));
                world.turn(0);
                world.leave();
                world.turn(0);
            }
            assert_eq!(
                world.connections(),
                connections,
                "after a step to {stepped}"
            );
        }
    }
}
