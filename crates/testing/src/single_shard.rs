//! One shard with a room and its members, more if wanted, whose sends complete in the next turn: whole, or to
//! some members in small parts. The core runs unchanged.

use std::sync::Arc;
use std::time::Duration;

use uproar::net::io::{Key, SendBuffer};
use uproar::shard::command::{Command, PendingConnection, user_hash};
use uproar::shard::core::Core;
use uproar::shard::estate::ViewersCursor;
use uproar::shard::metrics::ShardMetrics;
use uproar_proto::base::clock::Now;
use uproar_proto::base::id::RoomId;
use uproar_proto::chat::encode;
use uproar_proto::token::{Capabilities, Capability};
use uproar_proto::ws::extension::Offers;

use crate::io::FakeIo;
use crate::parts::{alone, pending, room_settings, start};

/// A quarter of a frame: what the socket of a slow member takes in a turn.
const SLOW_BYTES: usize = 100;
const ECANCELED: i32 = 125;

/// The shard, its `Io` and its clock.
pub struct SingleShard {
    /// The shard's state machine.
    pub core: Core<FakeIo>,
    /// Its counters.
    pub metrics: Arc<ShardMetrics>,
    /// Its first room.
    pub room: RoomId,
    /// The time; every turn moves it on.
    pub now: Now,
    /// Bytes sent to all members.
    pub delivered_bytes: usize,
    done: Vec<(Key, SendBuffer)>,
    buffer: Vec<u8>,
}

impl SingleShard {
    /// Makes one shard with one room of `members` members that have got their greeting; the first `deflated` of
    /// every ten take compressed messages.
    pub fn new(members: usize, deflated: usize) -> Self {
        let room = RoomId::parse("abcdefghijkl").expect("twelve letters");
        let (now, parts) = (start(), alone(FakeIo::default()));
        let mut shard = Self {
            metrics: Arc::clone(&parts.metrics),
            core: Core::new(parts, now),
            room,
            now,
            delivered_bytes: 0,
            done: Vec::new(),
            buffer: vec![0; 4096],
        };
        shard.fill(room, members, deflated);
        shard
    }

    /// Makes `room`, with `members` members that have got their greeting.
    pub fn fill(&mut self, room: RoomId, members: usize, deflated: usize) {
        let (answer, _answered) = tokio::sync::oneshot::channel();
        self.core
            .command(Command::PutRoom(room, room_settings(), answer));
        let first = self.core.io().receives.len();
        for index in 0..members {
            let deflated = index % 10 < deflated;
            let pending = viewer((), room, first + index, self.now, deflated);
            self.core.enter(pending);
            if index % 100 == 0 {
                self.turn();
            }
        }
        self.turn();
    }

    /// Settles and completes the sends, until nothing is sent any more.
    pub fn turn(&mut self) {
        while self.step(|_| ()) > 0 {}
    }

    /// Settles once and completes the sends; calls `each` with their connections and returns their number.
    pub fn step(&mut self, mut each: impl FnMut(Key)) -> usize {
        // Slow enough for the window to fill, fast enough that no connection counts as idle.
        self.now.tick = self.now.tick.after(Duration::from_micros(200));
        self.core.begin(self.now);
        for (key, outgoing) in std::mem::take(&mut self.core.io_mut().waits) {
            self.core.writable(key, outgoing);
        }
        for key in std::mem::take(&mut self.core.io_mut().cancelled) {
            let cancelled = std::io::Error::from_raw_os_error(ECANCELED);
            self.core.received(key, None, &Err(cancelled), false);
        }
        self.core.settle();
        std::mem::swap(&mut self.core.io_mut().sends, &mut self.done);
        let sends = self.done.len();
        self.core.begin(self.now);
        for (key, outgoing) in self.done.drain(..) {
            let is_slow = self.core.io().slow.contains(&key);
            let most = if is_slow { SLOW_BYTES } else { usize::MAX };
            let len = outgoing.remaining().min(most);
            self.delivered_bytes += len;
            self.core.sent(key, outgoing, &Ok(len));
            each(key);
        }
        sends
    }

    /// Freezes the shard; returns the records of its viewers, and its rooms.
    pub fn frozen(&mut self) -> (Vec<Vec<u8>>, Vec<u8>) {
        let (answer, _answered) = tokio::sync::oneshot::channel();
        self.core.begin(self.now);
        self.core.freeze(answer);
        while !self.core.is_frozen() {
            self.step(|_| ());
        }
        let (viewers, _) = self.core.viewers(ViewersCursor::default(), usize::MAX);
        let records = viewers.into_iter().map(|((), record)| record);
        (records.collect(), self.core.rooms_estate())
    }

    /// The client of `key` sends `frame`.
    pub fn receive(&mut self, key: Key, frame: &[u8]) {
        self.buffer[..frame.len()].copy_from_slice(frame);
        self.core.begin(self.now);
        let bytes = Some((&mut *self.buffer, frame.len()));
        self.core.received(key, bytes, &Ok(frame.len()), true);
    }

    /// The client of `key` is gone without a Close frame.
    pub fn hang_up(&mut self, key: Key) {
        self.core.begin(self.now);
        self.core.received(key, None, &Ok(0), false);
    }
}

/// Makes a pending connection that may send messages, with a token and a user of its own.
pub fn viewer<S>(
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
    let mut capabilities = Capabilities::default();
    capabilities.insert(Capability::SendMessage);
    let mut pending = pending(socket, room, index as u64, now);
    pending.grant.sender_json = encode::sender_json(&user, std::iter::empty()).into_boxed_str();
    pending.grant.capabilities = capabilities;
    pending.user_hash = user_hash(&user);
    pending.agreement = offers.agree(12, 12);
    pending
}
