//! Heap memory of the delivery path and of an idle connection, by a counting allocator.
//!
//! The shard's core runs unchanged on an `Io` that completes every send whole. Its own binary, because the
//! allocator is global.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_wrap,
    clippy::as_conversions,
    missing_docs,
    reason = "an allocator is unsafe to implement; a test may stop at its first surprise"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;

use uproar_testing::client::{self, request};
use uproar_testing::single_shard::SingleShard;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

fn count(allocations: u64, bytes: i64) {
    // The counter is gone while a thread ends; allocations are not measured then.
    let _ended = ALLOCATIONS.try_with(|cell| cell.set(cell.get() + allocations));
    let _ended = LIVE_BYTES.try_with(|cell| cell.set(cell.get() + bytes));
}

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller keeps the allocator's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: the caller keeps the allocator's contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        // SAFETY: the caller keeps the allocator's contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The sender's message, compressed or not.
fn message(deflated: bool) -> Vec<u8> {
    if !deflated {
        return client::text(request().as_bytes());
    }
    let fast = flate2::Compression::fast();
    let mut writer = flate2::write::DeflateEncoder::new(Vec::new(), fast);
    writer.write_all(request().as_bytes()).unwrap();
    let mut payload = writer.finish().unwrap();
    // RFC 7692 §7.2.3.4: a stream that ends, and the empty block after it.
    payload.push(0);
    let mut frame = client::text(&payload);
    frame[0] |= 0x40;
    frame
}

/// Goal: in steady state neither a delivery nor a received message allocates.
/// Method: 500 members, one of which sends; count allocations over 2,000 messages after a warm-up
/// longer than the log's window, one message a turn and sixteen a turn; without compression, and with
/// seven members in ten that take it, the sender among them.
#[test]
fn steady_state_allocates_nothing() {
    for deflated in [0, 7] {
        allocates_nothing(deflated);
    }
}

fn allocates_nothing(deflated: usize) {
    let members = 500;
    let mut world = SingleShard::new(members, deflated);
    let sender = world.core.io().receives[0];
    let frame = message(deflated > 0);
    for burst in [1, 16] {
        let round = |world: &mut SingleShard, messages: usize| {
            for _ in 0..messages / burst {
                for _ in 0..burst {
                    world.receive(sender, &frame);
                }
                world.turn();
            }
        };
        round(&mut world, 20_000);
        world.delivered_bytes = 0;
        let before = ALLOCATIONS.get();
        round(&mut world, 2_000);
        let allocations = ALLOCATIONS.get() - before;
        let least = 2_000 * members * if deflated > 0 { 150 } else { 200 };
        assert!(world.delivered_bytes > least, "{}", world.delivered_bytes);
        println!(
            "{burst} messages a turn: {allocations} allocations, 2,000 messages, {members} members, \
             {deflated} of 10 with compression, {} bytes",
            world.delivered_bytes
        );
        assert_eq!(allocations, 0, "{burst} messages a turn");
    }
}

/// Goal: an idle connection is small. Method: live heap bytes of 20,000 members with 40-byte user ids,
/// spare room of growing tables included.
#[test]
fn an_idle_connection_is_small() {
    let members = 20_000;
    let before = LIVE_BYTES.get();
    let world = SingleShard::new(members, 5);
    let each = (LIVE_BYTES.get() - before) / i64::try_from(members).unwrap();
    println!("{each} bytes of live heap a connection");
    assert!(each <= 700, "{each} bytes");
    drop(world);
}
