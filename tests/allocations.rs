//! What the delivery path and an idle connection cost in heap memory, by a counting allocator.
//!
//! The shard's core runs unchanged on a wire that completes every send whole. Own binary: the
//! allocator is global.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_wrap,
    clippy::unnecessary_box_returns,
    missing_docs,
    reason = "an allocator is unsafe to implement; a test may stop at its first surprise"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use uproar::base::clock::{Now, Tick, UnixTime};
use uproar::base::id::RoomId;
use uproar::net::wire::{Key, Outgoing, Shutdown, Wire};
use uproar::protocol::chat::encode;
use uproar::protocol::extension::Offers;
use uproar::protocol::token::{Capabilities, Capability, TOKEN_ID_BYTES, TokenId};
use uproar::room::{ArchiveTargets, RoomSettings};
use uproar::session::Grant;
use uproar::shard::command::{Command, Newcomer};
use uproar::shard::core::{Core, Parts, user_hash};
use uproar::shard::doorbell::Doorbell;
use uproar::shard::journal::NoRecord;
use uproar::shard::mailbox::mailbox;
use uproar::shard::metrics::ShardMetrics;
use uproar::shard::settings::ShardSettings;
use uproar::shard::tokens::UsedTokens;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

fn count(allocations: u64, bytes: i64) {
    // Not there any more while a thread ends: nothing is measured then.
    let _ended = ALLOCATIONS.try_with(|cell| cell.set(cell.get() + allocations));
    let _ended = LIVE_BYTES.try_with(|cell| cell.set(cell.get() + bytes));
}

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: as promised to us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: as promised to us.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        // SAFETY: as promised to us.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Completes every send whole, when asked.
#[derive(Default)]
struct Kernel {
    sends: Vec<(Key, Outgoing)>,
    receives: Vec<Key>,
}

impl Wire for Kernel {
    type Socket = ();

    fn receive(&mut self, (): &(), key: Key) {
        self.receives.push(key);
    }

    fn send(&mut self, (): &(), key: Key, outgoing: Outgoing) {
        self.sends.push((key, outgoing));
    }

    fn peer(&self, (): &()) -> Option<std::net::IpAddr> {
        None
    }

    fn shutdown(&mut self, (): &(), _: Shutdown) {}
}

struct World {
    core: Core<Kernel>,
    now: Now,
    done: Vec<(Key, Outgoing)>,
    delivered_bytes: usize,
}

impl World {
    /// One shard, one room, `members` members who have got their greeting; the first `deflated` of
    /// every ten take compressed messages.
    fn new(members: usize, deflated: usize) -> Self {
        let room = RoomId::parse("abcdefghijkl").unwrap();
        let now = Now {
            tick: Tick::from_nanos(3_600_000_000_000),
            unix: UnixTime::from_secs(1_800_000_000),
        };
        let metrics: Arc<ShardMetrics> = Arc::default();
        let bell = Arc::new(Doorbell::new().unwrap());
        let (post, _mail) = mailbox(&bell);
        let parts = Parts {
            id: 0,
            settings: ShardSettings {
                pace_ceiling: Duration::ZERO,
                ..ShardSettings::open(1)
            },
            wire: Kernel::default(),
            posts: vec![post],
            reviews: mailbox(&bell).0,
            archive: None,
            record: Box::new(NoRecord),
            used: UsedTokens::default(),
            metrics: Arc::clone(&metrics),
            all_metrics: vec![metrics],
            budgets: Arc::default(),
            seed: 1,
        };
        let mut world = Self {
            core: Core::new(parts, now),
            now,
            done: Vec::new(),
            delivered_bytes: 0,
        };
        let limits = RoomSettings {
            content_chars_max: 500,
            messages_per_second: 100,
            review: None,
            archive: ArchiveTargets::default(),
        };
        let (answer, _answered) = tokio::sync::oneshot::channel();
        world.core.command(Command::PutRoom(room, limits, answer));
        for index in 0..members {
            world
                .core
                .enter(newcomer(room, index, now, index % 10 < deflated));
            if index % 100 == 0 {
                world.turn();
            }
        }
        world.turn();
        world
    }

    /// Settles, completes what that sent, until nothing is sent any more.
    fn turn(&mut self) {
        loop {
            // Slow enough for the window to fill, fast enough for nobody to be taken for dead.
            self.now.tick = self.now.tick.after(Duration::from_micros(200));
            self.core.begin(self.now);
            self.core.settle();
            std::mem::swap(&mut self.core.wire.sends, &mut self.done);
            if self.done.is_empty() {
                return;
            }
            for (key, outgoing) in self.done.drain(..) {
                let len = outgoing.remaining();
                self.delivered_bytes += len;
                self.core.sent(key, outgoing, &Ok(len));
            }
        }
    }

    /// Member `key` says `frame`.
    fn say(&mut self, key: Key, frame: &[u8], buffer: &mut [u8]) {
        buffer[..frame.len()].copy_from_slice(frame);
        self.core.begin(self.now);
        self.core
            .received(key, Some((buffer, frame.len())), &Ok(frame.len()), true);
    }
}

fn newcomer(room: RoomId, index: usize, now: Now, deflated: bool) -> Box<Newcomer<()>> {
    let mut offers = Offers::default();
    if deflated {
        offers.read(b"permessage-deflate");
    }
    // 40 bytes, as identity providers make them.
    let user = format!("{index:040}");
    let mut token = [0; TOKEN_ID_BYTES];
    token[..8].copy_from_slice(&index.to_le_bytes());
    let mut capabilities = Capabilities::default();
    capabilities.insert(Capability::SendMessage);
    Box::new(Newcomer {
        socket: (),
        tls: None,
        greeting: b"HELLO\n".to_vec(),
        leftover: Vec::new(),
        grant: Grant {
            sender_json: encode::sender_json(&user, std::iter::empty()).into_boxed_str(),
            capabilities,
            ends: now.unix.after(Duration::from_hours(24)),
        },
        room,
        token: TokenId::from_bytes(token),
        token_expires: now.unix.after(Duration::from_hours(1)),
        user_hash: user_hash(&user),
        agreement: offers.agree(12, 12),
    })
}

fn message(deflated: bool) -> Vec<u8> {
    let text = format!(
        r#"{{"Action":"SEND_MESSAGE","RequestId":"0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f","Content":"{}"}}"#,
        "x".repeat(200)
    );
    let mask = [1, 2, 3, 4];
    let mut text = text.into_bytes();
    let mut frame = vec![0x81, 0x80 | 0x7E];
    if deflated {
        let fast = flate2::Compression::fast();
        let mut writer = flate2::write::DeflateEncoder::new(Vec::new(), fast);
        writer.write_all(&text).unwrap();
        text = writer.finish().unwrap();
        // RFC 7692 §7.2.3.4: a stream that ends, and the empty block behind it.
        text.push(0);
        frame = vec![0xC1, 0x80 | 0x7E];
    }
    frame.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
    frame.extend(mask);
    frame.extend(text.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
    frame
}

/// Goal: in steady state nothing is allocated per delivery, and nothing per received message.
/// Method: 500 members, one of whom speaks; count allocations over 2,000 messages after a warm-up
/// longer than the log's window, one message a turn and sixteen a turn; without compression, and with
/// seven members in ten who take it, the speaker among them.
#[test]
fn steady_state_allocates_nothing() {
    for deflated in [0, 7] {
        allocates_nothing(deflated);
    }
}

fn allocates_nothing(deflated: usize) {
    let members = 500;
    let mut world = World::new(members, deflated);
    let speaker = world.core.wire.receives[0];
    let frame = message(deflated > 0);
    let mut buffer = vec![0; 4096];
    for burst in [1, 16] {
        let mut round = |world: &mut World, messages: usize| {
            for _ in 0..messages / burst {
                for _ in 0..burst {
                    world.say(speaker, &frame, &mut buffer);
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
    let world = World::new(members, 5);
    let each = (LIVE_BYTES.get() - before) / i64::try_from(members).unwrap();
    println!("{each} bytes of live heap a connection");
    assert!(each <= 700, "{each} bytes");
    drop(world);
}
