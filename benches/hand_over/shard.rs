//! From freeze to resume: one core to another, with what the rings do.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use uproar::clock::Clock;
use uproar::net::pass::Connection;
use uproar::net::rings::Rings;
use uproar::shard::carry::receive_viewers;
use uproar::shard::core::Core;
use uproar::shard::estate::{Inherited, RoomsEstate, merge_rooms};
use uproar::shard::export::{complete, export};
use uproar_proto::base::clock::Shift;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::DESCRIPTORS_A_MESSAGE_MAX;
use uproar_testing::parts::{alone, room_settings};
use uproar_testing::single_shard::viewer;

use super::{Best, RUNS, since, spent};

fn core(clock: Clock, room: RoomId) -> Core<Rings> {
    let parts = alone(Rings::new().expect("io_uring is allowed"));
    let mut core = Core::new(parts, clock.now());
    core.load(vec![(room, room_settings())]);
    core.begin(clock.now());
    core
}

fn turn(core: &mut Core<Rings>, clock: Clock) {
    core.settle();
    core.io_mut().enter().expect("the ring works");
    core.flush_mailboxes();
    core.begin(clock.now());
    while let Some(completion) = core.io_mut().next_completion() {
        complete(core, completion);
    }
}

/// A shard hands its viewers over, and gets them back from the next one: rings belong to one thread.
fn successor(clock: Clock, room: RoomId, rooms: Vec<u8>, stream: &Connection) -> [Duration; 2] {
    let mut core = core(clock, room);
    let start = spent();
    let rooms = RoomsEstate::parse(rooms, Shift::between(0, 0)).expect("ours");
    core.inherit_rooms(&Arc::new(rooms));
    let deliver = |batch: Vec<(OwnedFd, Vec<u8>)>| {
        let viewers = batch.into_iter().map(|(socket, record)| Inherited {
            socket,
            record,
            share: None,
        });
        core.inherit(viewers.collect());
        Ok(())
    };
    let deadline = Instant::now() + Duration::from_mins(1);
    receive_viewers(stream, deliver, deadline).expect("no fault");
    let inherited = since(start);
    let start = spent();
    core.resume();
    turn(&mut core, clock);
    [inherited, since(start)]
}

pub(super) fn measure(sockets: Vec<OwnedFd>) {
    let count = sockets.len();
    let clock = Clock::start();
    let room = RoomId::parse("abcdefghijkl").expect("twelve letters");
    let mut core = core(clock, room);
    for (index, socket) in sockets.into_iter().enumerate() {
        core.enter(viewer(socket, room, index, clock.now(), false));
    }
    for _ in 0..10 {
        turn(&mut core, clock);
    }
    let mut best = Best::of([
        "old: frozen",
        "old: records made and all sent",
        "new: all received and inherited",
        "new: resumed",
    ]);
    for _ in 0..RUNS {
        let (answer, _answered) = oneshot::channel();
        let start = spent();
        core.freeze(answer);
        while !core.is_frozen() {
            turn(&mut core, clock);
        }
        let frozen = since(start);
        let rooms = merge_rooms(&[core.rooms_estate()], None).expect("ours");
        let (here, there) = Connection::pair().expect("descriptors");
        let new = std::thread::spawn(move || successor(clock, room, rooms, &there));
        let start = spent();
        let most = DESCRIPTORS_A_MESSAGE_MAX;
        let carried = export(&mut core, &here, most, || ()).expect("no fault");
        let exported = since(start);
        assert_eq!(carried.viewers, count as u64);
        // The successor ends with its thread, and closes nothing that this shard has.
        let [inherited, resumed] = new.join().expect("no panic");
        best.note([frozen, exported, inherited, resumed]);
        core.thaw();
        turn(&mut core, clock);
    }
    best.print(count);
}
