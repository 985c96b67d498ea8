//! One shard with a room and its members, more if wanted, on an `Io` that completes every send whole, or to
//! some members in small parts.
//!
//! The core runs unchanged. Shared by the benches, `tests/allocations.rs` and `tests/fairness.rs`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use uproar::net::io::{Io, Key, SendBuffer, Shutdown};
use uproar::shard::command::{Command, PendingConnection};
use uproar::shard::core::{Core, Parts, user_hash};
use uproar::shard::doorbell::Doorbell;
use uproar::shard::journal::NoRecord;
use uproar::shard::mailbox::mailbox;
use uproar::shard::settings::ShardSettings;
use uproar::shard::tokens::UsedTokens;
use uproar_proto::base::clock::{Now, Tick, UnixTime};
use uproar_proto::base::id::RoomId;
use uproar_proto::chat::encode;
use uproar_proto::room::{ArchiveTargets, RoomSettings};
use uproar_proto::session::Grant;
use uproar_proto::token::{Capabilities, Capability, TOKEN_ID_BYTES, TokenId};
use uproar_proto::ws::extension::Offers;

/// A quarter of a frame.
const SLOW_BYTES: usize = 100;

/// An `Io` that completes every send in the next step.
#[derive(Default)]
pub(crate) struct Kernel {
    sends: Vec<(Key, SendBuffer)>,
    waits: Vec<(Key, SendBuffer)>,
    /// Connections whose sockets take [`SLOW_BYTES`] a turn.
    pub(crate) slow: HashSet<Key>,
    /// Connections the shard has cut.
    pub(crate) cut: usize,
    /// Connections in the order of their installation.
    pub(crate) receives: Vec<Key>,
}

impl Io for Kernel {
    type Socket = ();
    type FixedFile = ();

    fn install(&mut self, (): ()) -> std::io::Result<()> {
        Ok(())
    }

    fn receive(&mut self, (): &(), key: Key) {
        self.receives.push(key);
    }

    fn send(&mut self, (): &(), key: Key, outgoing: SendBuffer) {
        self.sends.push((key, outgoing));
    }

    fn await_writable(&mut self, (): &(), key: Key, outgoing: SendBuffer) {
        self.waits.push((key, outgoing));
    }

    fn shutdown(&mut self, (): &(), _: Shutdown) {
        self.cut += 1;
    }

    fn close(&mut self, (): ()) {}
}

/// The shard, its `Io` and its clock.
pub(crate) struct World {
    /// The shard's state machine.
    pub(crate) core: Core<Kernel>,
    /// Its first room.
    pub(crate) room: RoomId,
    /// The time; every turn moves it on.
    pub(crate) now: Now,
    /// Bytes sent to all members.
    pub(crate) delivered_bytes: usize,
    done: Vec<(Key, SendBuffer)>,
    buffer: Vec<u8>,
}

impl World {
    /// Makes one shard with one room of `members` members that have got their greeting; the first `deflated` of
    /// every ten take compressed messages.
    pub(crate) fn new(members: usize, deflated: usize) -> Self {
        let room = RoomId::parse("abcdefghijkl").expect("twelve letters");
        let now = Now {
            tick: Tick::from_nanos(3_600_000_000_000),
            unix: UnixTime::from_secs(1_800_000_000),
        };
        let bell = Arc::new(Doorbell::new().expect("an eventfd"));
        let (sender, _mail) = mailbox(&bell);
        let parts = Parts {
            id: 0,
            settings: ShardSettings {
                pace_ceiling: Duration::ZERO,
                ..ShardSettings::open(1)
            },
            io: Kernel::default(),
            mailboxes: vec![sender],
            requests: vec![mailbox(&bell).0],
            reviews: mailbox(&bell).0,
            archive: None,
            record: Box::new(NoRecord),
            used: UsedTokens::default(),
            metrics: Arc::default(),
            budgets: Arc::default(),
            seed: 1,
        };
        let mut world = Self {
            core: Core::new(parts, now),
            room,
            now,
            delivered_bytes: 0,
            done: Vec::new(),
            buffer: vec![0; 4096],
        };
        world.fill(room, members, deflated);
        world
    }

    /// Makes `room`, with `members` members that have got their greeting.
    pub(crate) fn fill(&mut self, room: RoomId, members: usize, deflated: usize) {
        let limits = RoomSettings {
            content_chars_max: 500,
            messages_per_second: 100,
            review: None,
            archive: ArchiveTargets::default(),
        };
        let (answer, _answered) = tokio::sync::oneshot::channel();
        self.core.command(Command::PutRoom(room, limits, answer));
        let first = self.core.io.receives.len();
        for index in 0..members {
            let deflated = index % 10 < deflated;
            let pending = pending((), room, first + index, self.now, deflated);
            self.core.enter(pending);
            if index % 100 == 0 {
                self.turn();
            }
        }
        self.turn();
    }

    /// Settles and completes the sends, until nothing is sent any more.
    pub(crate) fn turn(&mut self) {
        while self.step(|_| ()) > 0 {}
    }

    /// Settles once and completes the sends; calls `each` with their connections and returns their number.
    pub(crate) fn step(&mut self, mut each: impl FnMut(Key)) -> usize {
        // Slow enough for the window to fill, fast enough that no connection counts as idle.
        self.now.tick = self.now.tick.after(Duration::from_micros(200));
        self.core.begin(self.now);
        for (key, outgoing) in std::mem::take(&mut self.core.io.waits) {
            self.core.writable(key, outgoing);
        }
        self.core.settle();
        std::mem::swap(&mut self.core.io.sends, &mut self.done);
        let sends = self.done.len();
        for (key, outgoing) in self.done.drain(..) {
            let is_slow = self.core.io.slow.contains(&key);
            let most = if is_slow { SLOW_BYTES } else { usize::MAX };
            let len = outgoing.remaining().min(most);
            self.delivered_bytes += len;
            self.core.sent(key, outgoing, &Ok(len));
            each(key);
        }
        sends
    }

    /// The client of `key` sends `frame`.
    pub(crate) fn receive(&mut self, key: Key, frame: &[u8]) {
        self.buffer[..frame.len()].copy_from_slice(frame);
        self.core.begin(self.now);
        let bytes = Some((&mut *self.buffer, frame.len()));
        self.core.received(key, bytes, &Ok(frame.len()), true);
    }

    /// The client of `key` is gone without a Close frame.
    pub(crate) fn hang_up(&mut self, key: Key) {
        self.core.begin(self.now);
        self.core.received(key, None, &Ok(0), false);
    }
}

/// Makes a pending connection that may send messages, with a token of its own.
#[allow(clippy::unnecessary_box_returns, reason = "as the acceptor makes them")]
pub(crate) fn pending<S>(
    socket: S,
    room: RoomId,
    index: usize,
    now: Now,
    deflated: bool,
) -> Box<PendingConnection<S>> {
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
    Box::new(PendingConnection {
        socket,
        ip: [203, 0, 113, 7].into(),
        tls: None,
        greeting: b"HELLO\n".to_vec(),
        leftover: Vec::new(),
        grant: Grant {
            sender_json: encode::sender_json(&user, std::iter::empty()).into_boxed_str(),
            capabilities,
            ends: now.tick.after(Duration::from_hours(24)),
        },
        room,
        token: TokenId::from_bytes(token),
        token_expires: now.unix.after(Duration::from_hours(1)),
        user_hash: user_hash(&user),
        agreement: offers.agree(12, 12),
        share: None,
    })
}

/// Makes a SEND_MESSAGE request with 200 bytes of content, as the JavaScript SDK writes it.
pub(crate) fn request() -> String {
    format!(
        r#"{{"Action":"SEND_MESSAGE","RequestId":"2d719db0-630c-4918-9cee-6930c5087a2c","Content":"{}"}}"#,
        "x".repeat(200)
    )
}

/// Makes a client's masked frame with a payload of 0 to 65,535 bytes. `opcode`: 1 text, 2 binary.
pub(crate) fn masked_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let len = u16::try_from(payload.len()).expect("below 64 KiB");
    let mut frame = vec![0x80 | opcode];
    if let 0..126 = len {
        frame.push(0x80 | len.to_le_bytes()[0]);
    } else {
        frame.push(0x80 | 0x7E);
        frame.extend(len.to_be_bytes());
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
    frame
}
