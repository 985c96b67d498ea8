//! One shard's viewers and rooms in another process: what they got, may do and wait for is as it was.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use uproar::net::io::Key;
use uproar::shard::command::{Command, Refusal, Refused, Request};
use uproar::shard::core::{Core, Parts};
use uproar::shard::doorbell::Doorbell;
use uproar::shard::estate::{
    Carried, Inherited, NotCarried, RoomsEstate, ViewersCursor, merge_rooms,
};
use uproar::shard::mailbox::mailbox_of;
use uproar::shard::metrics::ShardMetrics;
use uproar::shard::settings::ShardSettings;
use uproar_proto::base::clock::{Now, Shift};
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::chat::ErrorCode;
use uproar_proto::extension::{Extension, Settings};
use uproar_proto::room::RoomSettings;
use uproar_testing::client::{frame, request, text};
use uproar_testing::io::FakeIo;
use uproar_testing::parts::{GREETING, alone, room_settings, start};
use uproar_testing::single_shard::viewer;

/// How much later the ticks of the second process begin.
const LATER: Duration = Duration::from_secs(1_000);
const ECANCELED: i32 = 125;

/// A process with one shard, or with one shard that others say nothing to, and one room.
pub(crate) struct Process {
    pub(crate) core: Core<FakeIo>,
    pub(crate) room: RoomId,
    pub(crate) metrics: Arc<ShardMetrics>,
    shards: usize,
    /// The room's settings, unless they are the usual ones.
    settings: Option<RoomSettings>,
    pub(crate) now: Now,
    /// What each connection got, by its key.
    got: Vec<(Key, Vec<u8>)>,
    /// How many bytes the sockets take in a turn.
    pub(crate) most: usize,
    /// Those that take all.
    pub(crate) fast: Vec<Key>,
    /// Sockets that are full stay so.
    pub(crate) is_stuck: bool,
    /// How many bytes the sockets of the process that takes over take in a turn, at first.
    pub(crate) most_after: usize,
    /// How long it stays frozen.
    pause: Duration,
}

fn room() -> RoomId {
    RoomId::parse("abcdefghijkl").unwrap()
}

impl Process {
    pub(crate) fn new(now: Now) -> Self {
        Self::of(ShardSettings::aws(1), room(), now)
    }

    /// The first shard of a process; the room is at home there.
    pub(crate) fn of(settings: ShardSettings, room: RoomId, now: Now) -> Self {
        let (bell, shards) = (Arc::new(Doorbell::new().unwrap()), settings.shard_count);
        let metrics = Arc::<ShardMetrics>::default();
        let parts = Parts {
            settings: ShardSettings {
                pace_ceiling: Duration::ZERO,
                ..settings
            },
            mailboxes: (0..shards).map(|_| mailbox_of(&bell, 1).0).collect(),
            requests: (0..shards).map(|_| mailbox_of(&bell, 1).0).collect(),
            metrics: Arc::clone(&metrics),
            ..alone(FakeIo::default())
        };
        let mut core = Core::new(parts, now);
        core.load(vec![(room, room_settings())]);
        Self {
            core,
            room,
            metrics,
            shards,
            settings: None,
            now,
            got: Vec::new(),
            most: usize::MAX,
            fast: Vec::new(),
            is_stuck: false,
            most_after: usize::MAX,
            pause: Duration::ZERO,
        }
    }

    /// A process whose room has these settings beyond IVS Chat.
    pub(crate) fn tagged(settings: Settings) -> Self {
        let mut process = Self::new(start());
        let changed = (1, start().unix);
        let extension = Extension::new(process.room, settings, None, changed);
        process.set_room(RoomSettings {
            extension: Some(Arc::new(extension)),
            ..room_settings()
        });
        process
    }

    /// Gives the room these settings, here and in the process that takes over.
    pub(crate) fn set_room(&mut self, settings: RoomSettings) {
        let (answer, _answered) = oneshot::channel();
        let put = Command::PutRoom(self.room, settings.clone(), answer);
        self.core.command(put);
        self.settings = Some(settings);
    }

    /// A process with this many viewers that were greeted; every other one takes compressed messages.
    fn with_viewers(count: usize) -> Self {
        Self::with(count, true)
    }

    fn with(count: usize, deflated: bool) -> Self {
        let mut process = Self::new(start());
        process.admit(count, deflated);
        process
    }

    /// As many viewers come, and are greeted.
    pub(crate) fn admit(&mut self, count: usize, deflated: bool) {
        for index in 0..count {
            let pending = viewer((), self.room, index, self.now, deflated && index % 2 == 1);
            self.core.enter(pending);
        }
        self.turns(3);
    }

    pub(crate) fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.pass(Duration::from_millis(1));
            if !self.is_stuck || self.core.io().waits_ended {
                for (key, outgoing) in std::mem::take(&mut self.core.io_mut().waits) {
                    self.core.writable(key, outgoing);
                }
            }
            for key in std::mem::take(&mut self.core.io_mut().cancelled) {
                let cancelled = std::io::Error::from_raw_os_error(ECANCELED);
                self.core.received(key, None, &Err(cancelled), false);
            }
            self.complete_sends();
            self.core.settle();
            self.core.check();
            self.core.flush_mailboxes();
        }
    }

    /// The sockets take what is being sent.
    pub(crate) fn complete_sends(&mut self) {
        for (key, outgoing) in std::mem::take(&mut self.core.io_mut().sends) {
            let is_fast = self.fast.contains(&key);
            let most = if is_fast { usize::MAX } else { self.most };
            let len = outgoing.remaining().min(most);
            if len == 0 {
                let full = std::io::ErrorKind::WouldBlock.into();
                self.core.sent(key, outgoing, &Err(full));
                continue;
            }
            match self.got.iter_mut().find(|(other, _)| *other == key) {
                Some((_, got)) => got.extend(outgoing.copy(len)),
                None => self.got.push((key, outgoing.copy(len))),
            }
            self.core.sent(key, outgoing, &Ok(len));
        }
    }

    pub(crate) fn pass(&mut self, by: Duration) {
        self.now = Now {
            tick: self.now.tick.after(by),
            unix: self.now.unix.after(by),
        };
        self.core.begin(self.now);
    }

    pub(crate) fn receive(&mut self, key: Key, bytes: &[u8]) {
        let mut buffer = bytes.to_vec();
        buffer.resize(bytes.len() + 64, 0xAA);
        self.pass(Duration::ZERO);
        let received = Some((&mut buffer[..], bytes.len()));
        self.core.received(key, received, &Ok(bytes.len()), true);
    }

    pub(crate) fn freeze(&mut self) {
        let (answer, mut answered) = oneshot::channel();
        self.pass(Duration::ZERO);
        self.core.freeze(answer);
        for other in 1..self.shards {
            self.core.request(Request::Marker(other, 1));
            self.core.command(Command::Marker(other, 1));
        }
        while answered.try_recv().is_err() {
            self.turns(1);
        }
        assert!(self.core.is_frozen());
    }

    fn export(&self) -> (Vec<u8>, Vec<Vec<u8>>) {
        let (rooms, records, carried) = self.exported();
        assert_eq!(carried.viewers, records.len() as u64);
        (rooms, records)
    }

    /// Returns the rooms, the viewers' records, and how many of these there are and are not.
    pub(crate) fn exported(&self) -> (Vec<u8>, Vec<Vec<u8>>, Carried) {
        let rooms = merge_rooms(&[self.core.rooms_estate()], None).unwrap();
        let (mut cursor, mut records) = (ViewersCursor::default(), Vec::new());
        while !cursor.is_end() {
            let (viewers, next) = self.core.viewers(cursor, 2);
            records.extend(viewers.into_iter().map(|((), record)| record));
            cursor = next;
        }
        (rooms, records, cursor.carried())
    }

    /// Freezes, and thaws.
    fn give_up(&mut self) {
        self.freeze();
        let _unused = self.export();
        self.pass(self.pause);
        self.core.thaw();
        self.turns(3);
    }

    /// Freezes, and returns the process that takes over, serving.
    pub(crate) fn hand_over(&mut self) -> Self {
        self.freeze();
        let (rooms, records) = self.export();
        self.pass(self.pause);
        self.succeeded(ShardSettings::aws(1), rooms, records)
    }

    /// Returns the process that has taken over these, serving.
    pub(crate) fn succeeded(
        &self,
        settings: ShardSettings,
        rooms: Vec<u8>,
        records: Vec<Vec<u8>>,
    ) -> Self {
        let now = Now {
            tick: self.now.tick.after(LATER),
            unix: self.now.unix,
        };
        let mut new = Self::of(settings, self.room, now);
        if let Some(settings) = &self.settings {
            new.set_room(settings.clone());
        }
        let carried = new.inherit(rooms, records);
        let not_carried = carried.not_carried().map(|(_, count)| count);
        assert_eq!(not_carried.sum::<u64>(), 0);
        new.most = self.most_after;
        new.turns(2);
        assert!(new.core.io().sends.is_empty() && new.core.io().receives.is_empty());
        new.pass(Duration::ZERO);
        new.core.resume();
        new.turns(3);
        new
    }

    fn inherit(&mut self, rooms: Vec<u8>, records: Vec<Vec<u8>>) -> Carried {
        let nanos = u64::try_from(LATER.as_nanos()).unwrap();
        let estate = RoomsEstate::parse(rooms, Shift::between(nanos, 0)).unwrap();
        assert_eq!(estate.broken(), 0);
        self.pass(Duration::ZERO);
        self.core.inherit_rooms(&Arc::new(estate));
        let arrived = records.into_iter().map(|record| Inherited {
            socket: (),
            record,
            share: None,
        });
        self.core.inherit(arrived.collect())
    }

    /// The bytes of the connection that was installed as this one.
    pub(crate) fn got(&self, key: Key) -> &[u8] {
        let got = self.got.iter().find(|(other, _)| *other == key);
        got.map_or(&[], |(_, got)| got)
    }

    /// Number of refusals that all connections got.
    fn errors(&self) -> usize {
        let all = self.got.iter().map(|(_, got)| String::from_utf8_lossy(got));
        all.map(|got| got.matches("\"ErrorCode\":429").count())
            .sum()
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.core.io().receives.clone()
    }
}

/// Goal: idle viewers are members in the other process: receives are armed, nothing was sent, and they get the
/// next message; none is carried twice.
#[test]
fn idle_viewers_are_carried() {
    let mut old = Process::with_viewers(7);
    assert_eq!(old.got(old.keys()[0]), GREETING);
    let mut new = old.hand_over();
    let keys = new.keys();
    assert_eq!(
        (keys.len(), new.core.census(room())),
        (7, (7, Some(&[7][..])))
    );
    assert!(new.got.is_empty());
    new.receive(keys[3], &text(request().as_bytes()));
    new.turns(3);
    for (index, key) in keys.into_iter().enumerate() {
        let got = new.got(key);
        let is_compressed = got.first() == Some(&0xC1);
        assert_eq!(is_compressed, index % 2 == 1, "viewer {index}: {got:?}");
        assert!(is_compressed || got.len() > 200);
    }
}

/// Goal: after a thaw everything is as if there had been a pause. Method: half a request before the freeze, the
/// other half after the thaw, and an export between.
#[test]
fn a_thaw_goes_on() {
    let mut old = Process::with_viewers(3);
    let keys = old.keys();
    let request = text(request().as_bytes());
    old.receive(keys[0], &request[..100]);
    old.freeze();
    let _unused = old.export();
    old.pass(Duration::ZERO);
    old.core.thaw();
    assert_eq!(old.keys().len(), 6, "armed again");
    old.receive(keys[0], &request[100..]);
    old.turns(3);
    assert!(old.got(keys[2]).len() > GREETING.len() + 200);
}

/// Goal: a request that has arrived in part, the rest of a send, and messages that a slow viewer has not got
/// arrive whole and once. Method: sockets take ten bytes a turn; the process changes in each turn once.
#[test]
fn bytes_on_their_way_arrive_once() {
    let message = text(request().as_bytes());
    // Compressed lengths depend on ids and times.
    let mut whole = Process::with(4, false);
    let sender = whole.keys()[1];
    whole.receive(sender, &message);
    whole.receive(sender, &message);
    whole.turns(4);
    let expected: Vec<usize> = whole
        .keys()
        .iter()
        .map(|key| whole.got(*key).len())
        .collect();
    for turns in 0..60 {
        let mut old = Process::with(4, false);
        let keys = old.keys();
        old.most = 10;
        old.receive(keys[1], &message);
        old.receive(keys[1], &message[..50]);
        old.turns(turns);
        let mut new = old.hand_over();
        new.most = 10;
        let new_keys = new.keys();
        new.receive(new_keys[1], &message[50..]);
        new.turns(300);
        for (index, expected) in expected.iter().enumerate() {
            let got = [old.got(keys[index]), new.got(new_keys[index])].concat();
            assert_eq!(got.len(), *expected, "viewer {index}, after {turns} turns");
        }
    }
}

/// Goal: rates are not refilled: of the connection, of the room. Method: requests until one is refused, at once and
/// with a hand-over after the fifth.
#[test]
fn budgets_are_not_refilled() {
    let message = text(br#"{"Action":"SEND_MESSAGE","Content":"x"}"#);
    let accepted = |hand_over_after: usize| {
        let mut process = Process::with_viewers(1);
        for sent in 0..15 {
            if sent == hand_over_after {
                process = process.hand_over();
            }
            process.receive(process.keys()[0], &message);
        }
        process.turns(3);
        let got = String::from_utf8_lossy(process.got(process.keys()[0])).into_owned();
        got.matches("\"ErrorCode\":429").count()
    };
    let without = accepted(usize::MAX);
    assert!(without > 3, "{without}");
    assert_eq!(accepted(5), without);
}

/// Goal: a session ends, is pinged and idles when it would have. Method: the same instants with and without a
/// hand-over after 20 s.
#[test]
fn deadlines_stand() {
    let lived = |hand_over: bool| {
        let mut process = Process::with_viewers(1);
        let mut events = Vec::new();
        for step in 0..280 {
            process.pass(Duration::from_millis(250));
            process.turns(1);
            if hand_over && step == 80 {
                let before = process.got.clone();
                process = process.hand_over();
                process.got = before;
            }
            let pings = process.got.iter().map(|(_, got)| got.len()).sum::<usize>();
            let cut = process.core.io().cut;
            events.push((pings, cut, process.core.connection_count()));
        }
        events.dedup();
        events
    };
    assert_eq!(lived(false), lived(true));
}

/// Goal: a pause of the server counts for no deadline of a client, and no message becomes too old in it: as if nothing
/// had happened. Method: a viewer who is silent for 55 of 60 s, and one whose closing handshake has begun; both have not
/// read the last message. Then 9 s in which the shard is frozen, with a hand-over and with one that fails.
#[test]
fn a_pause_counts_for_no_deadline() {
    for fails in [true, false] {
        let mut process = Process::with(3, false);
        let keys = process.keys();
        for _ in 0..220 {
            process.pass(Duration::from_millis(250));
            process.receive(keys[1], &frame(0x8A, b"", [1, 2, 3, 4]));
            process.receive(keys[2], &frame(0x8A, b"", [1, 2, 3, 4]));
            process.turns(1);
        }
        process.most = 0;
        process.receive(keys[1], &text(request().as_bytes()));
        process.turns(2);
        // The window keeps it for 10 s.
        process.pass(Duration::from_secs(2));
        process.receive(keys[1], &frame(0x88, &[3, 232], [1, 2, 3, 4]));
        process.pause = Duration::from_secs(9);
        let before = process.got.clone();
        if fails {
            process.give_up();
        } else {
            process = process.hand_over();
        }
        let new_keys = process.keys();
        let new_keys = &new_keys[new_keys.len() - 3..];
        let got = |process: &Process, viewer: usize| {
            let before = before.iter().find(|(key, _)| *key == keys[viewer]);
            let before = if fails {
                before.map_or(0, |(_, got)| got.len())
            } else {
                0
            };
            process.got(new_keys[viewer])[before..].to_vec()
        };
        process.most = usize::MAX;
        process.turns(5);
        assert_eq!(
            process.core.io().cut,
            1,
            "our FIN behind the Close frame alone"
        );
        assert!(got(&process, 1).ends_with(&[0x88, 2, 3, 232]), "{fails}");
        assert!(
            got(&process, 0).len() > 200,
            "{fails}: {:?}",
            got(&process, 0)
        );
        assert_eq!(got(&process, 0), got(&process, 2));
        // Three of the silent viewer's five seconds are left.
        process.pass(Duration::from_secs(2));
        process.turns(1);
        assert_eq!(process.core.io().cut, 1);
        process.pass(Duration::from_secs(2));
        process.turns(1);
        assert_eq!(process.core.io().cut, 2, "silent for 61 s");
    }
}

/// Goal: a record that cannot be read costs its viewer the connection, not the others theirs. Method: each byte of
/// a record is changed.
#[test]
fn broken_records_are_refused_alone() {
    let mut old = Process::with_viewers(2);
    old.receive(old.keys()[0], &frame(0x01, b"half", [1, 2, 3, 4]));
    old.freeze();
    let (rooms, records) = old.export();
    let mut refused = 0;
    for at in 0..records[0].len() {
        for change in [0x01, 0x80, 0xFF] {
            let mut broken = records.clone();
            broken[0][at] ^= change;
            let mut new = Process::new(Now {
                tick: old.now.tick.after(LATER),
                unix: old.now.unix,
            });
            let carried = new.inherit(rooms.clone(), broken);
            assert!(carried.viewers >= 1, "the other one");
            let counts = carried.not_carried();
            refused += counts
                .map(|(reason, count)| {
                    assert!(count == 0 || matches!(reason, NotCarried::Record | NotCarried::Room));
                    count
                })
                .sum::<u64>();
            new.turns(1);
            new.core.resume();
            new.turns(3);
        }
    }
    assert!(refused > 100, "{refused}");
}

/// Goal: frames for one viewer alone arrive in the other process, in order: refusals, the answer to the newest ping,
/// the Close frame. Method: a socket that takes nothing while its client makes mistakes, pings and leaves.
#[test]
fn frames_for_one_viewer_are_carried() {
    let mut old = Process::with_viewers(2);
    let key = old.keys()[0];
    old.most = 0;
    let mistake = text(&[b' '; 10]);
    for _ in 0..60 {
        old.receive(key, &mistake);
    }
    for ping in [&b"first"[..], b"newest"] {
        old.receive(key, &frame(0x89, ping, [1, 2, 3, 4]));
    }
    let mut kept = old.hand_over();
    let got = String::from_utf8_lossy(kept.got(kept.keys()[0])).into_owned();
    assert_eq!(got.matches("\"ErrorCode\"").count(), 60);
    assert!(got.ends_with("newest") && !got.contains("first"), "{got}");
    // The same, and the client closes: our answer is the last frame, and the connection ends.
    kept.most = 0;
    let key = kept.keys()[0];
    kept.receive(key, &mistake);
    kept.receive(key, &frame(0x88, &[3, 232], [1, 2, 3, 4]));
    let ended = kept.hand_over();
    let got = ended.got(ended.keys()[0]);
    assert!(got.ends_with(&[0x88, 2, 3, 232]), "{got:?}");
    assert_eq!(ended.core.io().cut, 1, "FIN behind the last byte");
}

/// Goal: what is used of the room's rate and of the account's stays used. Method: 15 members send nine messages each, a
/// third of them before a hand-over, and the API deletes 150, half of them before; with and without the hand-over.
#[test]
fn rates_of_room_and_account_are_not_refilled() {
    let message = text(br#"{"Action":"SEND_MESSAGE","Content":"x"}"#);
    let refused = |hand_over: bool| {
        let mut process = Process::with(15, false);
        let (mut deletions, mut errors) = (0, 0);
        for round in 0..9 {
            if hand_over && round == 3 {
                // What is refused is told before.
                process.turns(2);
                errors += process.errors();
                process = process.hand_over();
            }
            for key in process.keys() {
                process.receive(key, &message);
            }
        }
        for number in 0..150 {
            if hand_over && number == 75 {
                // What is refused is told before.
                process.turns(2);
                errors += process.errors();
                process = process.hand_over();
            }
            let (answer, mut answered) = oneshot::channel();
            let delete = Command::DeleteMessage {
                room: room(),
                id: "abcdefghijkl".into(),
                reason: "x".into(),
                answer,
            };
            process.pass(Duration::ZERO);
            process.core.command(delete);
            deletions += usize::from(answered.try_recv() == Ok(Err(Refused::Rate)));
        }
        process.turns(5);
        (errors + process.errors(), deletions)
    };
    let (errors, deletions) = refused(false);
    assert!(errors > 20 && deletions > 40, "{errors}, {deletions}");
    let (errors_after, deletions_after) = refused(true);
    // A hand-over takes some turns of a millisecond, each a tenth of a message.
    assert!(errors - errors_after < 4, "{errors}, then {errors_after}");
    assert!(
        deletions - deletions_after < 4,
        "{deletions}, then {deletions_after}"
    );
}

/// Goal: a refusal that comes from another shard when nothing is sent any more is sent after the thaw, or by the
/// other process.
#[test]
fn a_refusal_waits_for_the_thaw() {
    let mut old = Process::with_viewers(1);
    old.freeze();
    let key = old.keys()[0];
    old.pass(Duration::ZERO);
    old.core.command(Command::RefuseRequest(
        key,
        Box::new(Refusal {
            frame: (&b"\x81\x07refused"[..]).into(),
            id: FrameId::from_random(1),
            code: ErrorCode::TooManyRequests,
            reason: "x".into(),
        }),
    ));
    old.turns(2);
    assert_eq!(old.got(key), GREETING, "nothing is sent");
    let new = old.hand_over();
    assert!(new.got(new.keys()[0]).ends_with(b"refused"));
    old.pass(Duration::ZERO);
    old.core.thaw();
    old.turns(2);
    assert!(old.got(key).ends_with(b"refused"));
}
