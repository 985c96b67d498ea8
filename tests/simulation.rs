//! Sessions, rooms and shards on a fake ring and a fake clock, driven by a seed.
//!
//! The code that ships runs here unchanged: [`Core`] with real mailboxes between two shards. The fake
//! ring completes sends late, short and in any order, cuts received bytes anywhere, and drops
//! connections at bad moments. Run one seed: `UPROAR_SEED=7 cargo test --test all simulation`.

mod review;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rtrb::Consumer;
use uproar::base::clock::{Now, Tick, UnixTime};
use uproar::base::id::{LoggingId, RoomId};
use uproar::base::limits::MAILBOX_COMMANDS;
use uproar::net::wire::{Key, Outgoing, Shutdown, Wire};
use uproar::protocol::chat::encode;
use uproar::protocol::extension::{Agreement, Offers};
use uproar::protocol::token::{Capabilities, Capability, TOKEN_ID_BYTES, TokenId};
use uproar::room::RoomSettings;
use uproar::session::Grant;
use uproar::shard::command::{Command, Newcomer};
use uproar::shard::core::{Core, Parts, user_hash};
use uproar::shard::doorbell::Doorbell;
use uproar::shard::handover::Entry;
use uproar::shard::inbox::{Ends, Inbox, Mailboxes};
use uproar::shard::journal::NoRecord;
use uproar::shard::mailbox::{Post, mailbox};
use uproar::shard::review::ReviewRequest;
use uproar::shard::settings::{ShardSettings, SharedBudgets};
use uproar::shard::tokens::UsedTokens;

const SHARDS: usize = 2;
const STEPS: usize = 1_500;

/// What the client side of one connection sees and does.
#[derive(Default)]
struct Peer {
    /// Bytes for the server, not yet received by it.
    to_server: VecDeque<u8>,
    /// Bytes from the server.
    from_server: Vec<u8>,
    /// The client ended the stream.
    finished: bool,
    /// The server shut down or closed.
    cut: bool,
    /// The client reads nothing.
    stalled: bool,
}

type Net = Rc<RefCell<Vec<Peer>>>;

/// A fake descriptor: dropping it is the server's close.
struct Socket {
    id: usize,
    net: Net,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.net.borrow_mut()[self.id].cut = true;
    }
}

/// The fake ring of one shard.
#[derive(Default)]
struct FakeRing {
    receives: HashMap<Key, usize>,
    sends: Vec<(Key, usize, Outgoing)>,
    /// What waits for room.
    waits: Vec<(Key, usize, Outgoing)>,
    net: Net,
}

impl Wire for FakeRing {
    type Socket = Socket;
    type Seat = Socket;

    fn install(&mut self, socket: Socket) -> std::io::Result<Socket> {
        Ok(socket)
    }

    fn receive(&mut self, socket: &Socket, key: Key) {
        let before = self.receives.insert(key, socket.id);
        assert!(before.is_none(), "two receives under way on one connection");
    }

    fn send(&mut self, socket: &Socket, key: Key, outgoing: Outgoing) {
        assert!(
            !self.is_sending(key),
            "two sends under way on one connection"
        );
        assert!(outgoing.remaining() > 0, "an empty send");
        self.sends.push((key, socket.id, outgoing));
    }

    fn await_room(&mut self, socket: &Socket, key: Key, outgoing: Outgoing) {
        assert!(!self.is_sending(key), "a wait beside a send");
        assert!(outgoing.remaining() > 0, "a wait for nothing");
        self.waits.push((key, socket.id, outgoing));
    }

    fn shutdown(&mut self, socket: &Socket, how: Shutdown) {
        let peer = &mut self.net.borrow_mut()[socket.id];
        peer.cut |= how != Shutdown::Write;
        // A client answers the server's FIN with its own.
        peer.finished = true;
    }

    fn close(&mut self, socket: Socket) {
        let Socket { id, .. } = socket;
        let receiving = self.receives.values().any(|other| *other == id);
        let mut sends = self.sends.iter().chain(&self.waits);
        let sending = sends.any(|(_, other, _)| *other == id);
        assert!(!receiving && !sending, "closed under an operation");
    }
}

impl FakeRing {
    fn is_sending(&self, key: Key) -> bool {
        let mut sends = self.sends.iter().chain(&self.waits);
        sends.any(|(other, ..)| *other == key)
    }
}

struct Shard {
    core: Core<FakeRing>,
    inbox: Inbox<Socket>,
    /// The control thread's end.
    _control: Post<Command<Socket>>,
    to_archive: Consumer<Entry>,
    to_reviewer: Consumer<ReviewRequest>,
}

/// How the archive of a seed behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Archive {
    /// The room is not logged.
    Off,
    /// It answers, sooner or later, always before the deadline.
    Prompt,
    /// It stalls far beyond the deadline, again and again.
    Stalling,
}

impl Archive {
    fn of(seed: u64) -> Self {
        match seed % 4 {
            1 => Self::Prompt,
            3 => Self::Stalling,
            _ => Self::Off,
        }
    }
}

/// A client, and what it must find in its stream.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
struct Client {
    peer: usize,
    user: String,
    may_send: bool,
    observer: bool,
    deflates: bool,
    asked: HashSet<String>,
    gone: bool,
}

struct World {
    rng: fastrand::Rng,
    net: Net,
    shards: Vec<Shard>,
    clients: Vec<Client>,
    now: Now,
    room: RoomId,
    tokens: u64,
    requests: u64,
    archive: Archive,
    /// Frames in the spool.
    spooled: Vec<u8>,
    reviewer: review::Reviewer,
}

impl World {
    fn new(seed: u64) -> Self {
        let settings = ShardSettings {
            stripe_members_min: 2,
            pace_ceiling: Duration::from_millis(20),
            review_timeout: review::TIMEOUT,
            ..ShardSettings::open(SHARDS)
        };
        // Full at once in every fifth world.
        let places = if seed.is_multiple_of(5) {
            2
        } else {
            MAILBOX_COMMANDS
        };
        let net = Net::default();
        let now = Now {
            tick: Tick::from_nanos(3_600_000_000_000),
            unix: UnixTime::from_secs(1_800_000_000),
        };
        let bells: Vec<_> = (0..SHARDS)
            .map(|_| Arc::new(Doorbell::new().unwrap()))
            .collect();
        let budgets = SharedBudgets::default();
        let mailboxes = Mailboxes::new(&bells, places);
        let ends = mailboxes.shards.into_iter().zip(mailboxes.control);
        let shards = ends
            .enumerate()
            .map(|(id, (ends, control))| {
                let Ends {
                    posts,
                    requests,
                    inbox,
                } = ends;
                let bell = Arc::new(Doorbell::new().unwrap());
                let (archive, to_archive) = mailbox(&bell);
                let (reviews, to_reviewer) = mailbox(&bell);
                let parts = Parts {
                    id,
                    settings: settings.clone(),
                    wire: FakeRing {
                        net: Rc::clone(&net),
                        ..FakeRing::default()
                    },
                    posts,
                    requests,
                    archive: Some(archive),
                    reviews,
                    record: Box::new(NoRecord),
                    used: UsedTokens::default(),
                    metrics: Arc::default(),
                    budgets: Arc::clone(&budgets),
                    seed: seed.wrapping_mul(31) + id as u64,
                };
                Shard {
                    core: Core::new(parts, now),
                    inbox,
                    _control: control,
                    to_archive,
                    to_reviewer,
                }
            })
            .collect();
        let room = RoomId::from_random(u128::from(seed) << 40 | 0x3039);
        let mut world = Self {
            rng: fastrand::Rng::with_seed(seed),
            net,
            shards,
            clients: Vec::new(),
            now,
            room,
            tokens: 0,
            requests: 0,
            archive: Archive::of(seed),
            spooled: Vec::new(),
            reviewer: review::Reviewer::of(seed),
        };
        world.put_room();
        world
    }

    /// The control thread sets the room as it should be now.
    fn put_room(&mut self) {
        let home = ShardSettings::open(SHARDS).home(self.room);
        let limits = RoomSettings {
            content_chars_max: 500,
            messages_per_second: 100,
            review: self.reviewer.attached(),
            archive: (self.archive != Archive::Off)
                .then(|| LoggingId::from_random(1))
                .into_iter()
                .collect(),
        };
        let (answer, _answered) = tokio::sync::oneshot::channel();
        self.shards[home]
            .core
            .command(Command::PutRoom(self.room, limits, answer));
    }

    fn connect(&mut self, may_send: bool, observer: bool) {
        self.tokens += 1;
        let token = self.tokens;
        let shard = self.rng.usize(..SHARDS);
        self.present(token, shard, may_send, observer);
    }

    /// Presents a token at a shard; whether it opens is the server's business.
    fn present(&mut self, token: u64, shard: usize, may_send: bool, observer: bool) {
        let peer = self.net.borrow().len();
        self.net.borrow_mut().push(Peer::default());
        let user = format!("user-{}", self.rng.u32(..6));
        let user = if observer {
            "observer".to_owned()
        } else {
            user
        };
        let mut bytes = [0; TOKEN_ID_BYTES];
        bytes[..8].copy_from_slice(&token.to_le_bytes());
        let mut capabilities = Capabilities::default();
        if may_send {
            capabilities.insert(Capability::SendMessage);
            capabilities.insert(Capability::DeleteMessage);
            capabilities.insert(Capability::DisconnectUser);
        }
        let agreed = self.rng.bool().then(agreement).filter(|_| !observer);
        let newcomer = Newcomer {
            socket: Socket {
                id: peer,
                net: Rc::clone(&self.net),
            },
            ip: [203, 0, 113, 7].into(),
            tls: None,
            greeting: b"HELLO\n".to_vec(),
            leftover: Vec::new(),
            grant: Grant {
                sender_json: encode::sender_json(&user, std::iter::empty()).into_boxed_str(),
                capabilities,
                ends: self.now.tick.after(Duration::from_hours(1)),
            },
            room: self.room,
            token: TokenId::from_bytes(bytes),
            token_expires: self.now.unix.after(Duration::from_hours(1)),
            user_hash: user_hash(&user),
            agreement: agreed,
        };
        self.shards[shard].core.enter(Box::new(newcomer));
        let asked = HashSet::new();
        self.clients.push(Client {
            peer,
            user,
            may_send,
            observer,
            deflates: agreed.is_some(),
            asked,
            gone: false,
        });
    }

    fn say(&mut self, client: usize) {
        self.requests += 1;
        let id = format!("{client}:{}", self.requests);
        let kind = self.rng.u32(..20);
        let victim = format!("user-{}", self.rng.u32(..6));
        let text = match kind {
            0 => format!(
                r#"{{"Action":"DISCONNECT_USER","UserId":"{victim}","Reason":"x","RequestId":"{id}"}}"#
            ),
            1 => format!(r#"{{"Action":"DELETE_MESSAGE","Id":"abcdefghijkl","RequestId":"{id}"}}"#),
            2 => format!(r#"{{"Action":"NOTHING","RequestId":"{id}"}}"#),
            _ => {
                let padding = "x".repeat(self.rng.usize(..400));
                format!(r#"{{"Action":"SEND_MESSAGE","Content":"{padding}.","RequestId":"{id}"}}"#)
            }
        };
        let client = &mut self.clients[client];
        let mask = self.rng.u32(..).to_le_bytes();
        let frame = if client.deflates && self.rng.bool() {
            client_frame(0xC1, &deflated(text.as_bytes()), mask)
        } else {
            client_frame(0x81, text.as_bytes(), mask)
        };
        self.net.borrow_mut()[client.peer].to_server.extend(frame);
        client.asked.insert(id);
    }

    /// One step of the world: something happens, then every shard takes a turn.
    fn step(&mut self) {
        let alive: Vec<usize> = (0..self.clients.len())
            .filter(|index| !self.clients[*index].gone)
            .collect();
        match self.rng.u32(..100) {
            0..60 => {
                if let Some(client) = self.rng.choice(&alive) {
                    self.say(*client);
                }
            }
            60..68 => {
                let may_send = self.rng.u32(..4) > 0;
                self.connect(may_send, false);
            }
            68..70 => {
                // One token at both shards in one turn.
                self.tokens += 1;
                for shard in 0..SHARDS {
                    self.present(self.tokens, shard, true, false);
                }
            }
            70..74 => {
                if let Some(client) = self.rng.choice(&alive)
                    && !self.clients[*client].observer
                {
                    self.clients[*client].gone = true;
                    self.net.borrow_mut()[self.clients[*client].peer].finished = true;
                }
            }
            74..78 => {
                if let Some(client) = self.rng.choice(&alive)
                    && !self.clients[*client].observer
                {
                    let peer = &mut self.net.borrow_mut()[self.clients[*client].peer];
                    peer.stalled = !peer.stalled;
                }
            }
            78..80 => {
                self.reviewer.toggle();
                self.put_room();
            }
            _ => {}
        }
        let pause = Duration::from_micros(self.rng.u64(..3_000));
        self.now = Now {
            tick: self.now.tick.after(pause),
            unix: self.now.unix.after(pause),
        };
        let spools = match self.archive {
            Archive::Off | Archive::Prompt => self.rng.u32(..3) == 0,
            Archive::Stalling => self.rng.u32(..400) == 0,
        };
        if spools {
            self.spool();
        }
        for shard in 0..SHARDS {
            self.turn(shard, false);
        }
    }

    /// The archive takes some of what was handed over, and says so.
    fn spool(&mut self) {
        for Shard {
            core, to_archive, ..
        } in &mut self.shards
        {
            let mut count = 0;
            for _ in 0..self.rng.usize(..20) {
                let Ok(entry) = to_archive.pop() else { break };
                self.spooled.extend_from_slice(&entry.frames);
                count += 1;
            }
            core.command(Command::Spooled(count));
        }
    }

    fn turn(&mut self, shard: usize, all: bool) {
        let Self {
            rng,
            net,
            shards,
            now,
            reviewer,
            room,
            ..
        } = self;
        let Shard {
            core,
            inbox,
            to_reviewer,
            ..
        } = &mut shards[shard];
        core.begin(*now);
        if shard == ShardSettings::open(SHARDS).home(*room) {
            reviewer.act(rng, now.tick, to_reviewer, core);
        }
        inbox.take(core);
        let mut waits = std::mem::take(&mut core.wire.waits);
        rng.shuffle(&mut waits);
        for (key, id, outgoing) in waits {
            let (cut, stalled) = {
                let peer = &net.borrow()[id];
                (peer.cut, peer.stalled)
            };
            if all || cut || (!stalled && rng.bool()) {
                core.writable(key, outgoing);
            } else {
                core.wire.waits.push((key, id, outgoing));
            }
        }
        let mut sends = std::mem::take(&mut core.wire.sends);
        let mut later = Vec::new();
        rng.shuffle(&mut sends);
        for (key, id, outgoing) in sends {
            let (cut, stalled) = {
                let peer = &net.borrow()[id];
                (peer.cut, peer.stalled)
            };
            if cut {
                core.sent(key, outgoing, &Err(std::io::ErrorKind::BrokenPipe.into()));
            } else if stalled && !all {
                core.sent(key, outgoing, &Err(std::io::ErrorKind::WouldBlock.into()));
            } else if rng.u32(..4) == 0 && !all {
                later.push((key, id, outgoing));
            } else {
                let short = rng.u32(..3) == 0 && outgoing.remaining() > 1;
                let len = outgoing.remaining();
                let taken = if short { rng.usize(1..len) } else { len };
                net.borrow_mut()[id]
                    .from_server
                    .extend(outgoing.copy(taken));
                core.sent(key, outgoing, &Ok(taken));
            }
        }
        core.wire.sends.extend(later);
        let mut keys: Vec<(Key, usize)> = core
            .wire
            .receives
            .iter()
            .map(|(key, id)| (*key, *id))
            .collect();
        keys.sort_unstable();
        rng.shuffle(&mut keys);
        for (key, id) in keys {
            let chunk: Vec<u8> = {
                let peer = &mut net.borrow_mut()[id];
                if peer.to_server.is_empty() && !peer.finished && !peer.cut {
                    continue;
                }
                let len = rng.usize(..=peer.to_server.len().min(3_000));
                peer.to_server.drain(..len).collect()
            };
            let (finished, cut) = {
                let peer = &net.borrow()[id];
                (peer.finished && peer.to_server.is_empty(), peer.cut)
            };
            if !chunk.is_empty() && !cut {
                let more = rng.u32(..8) > 0;
                if !more {
                    core.wire.receives.remove(&key);
                }
                let len = chunk.len();
                let mut buffer = chunk;
                buffer.resize(len + 64, 0xAA);
                core.received(key, Some((&mut buffer, len)), &Ok(len), more);
            } else if finished || cut {
                core.wire.receives.remove(&key);
                core.received(key, None, &Ok(0), false);
            }
        }
        let _plan = core.settle();
        while let Some((newcomer, _why)) = core.next_turned() {
            drop(newcomer);
        }
        core.post();
    }

    /// Lets everything under way arrive.
    fn quiesce(&mut self) {
        for peer in self.net.borrow_mut().iter_mut() {
            peer.stalled = false;
        }
        for _ in 0..200 {
            let pause = Duration::from_millis(5);
            self.now = Now {
                tick: self.now.tick.after(pause),
                unix: self.now.unix.after(pause),
            };
            self.spool();
            for shard in 0..SHARDS {
                self.turn(shard, true);
            }
        }
    }
}

/// What a browser and the server agree on.
fn agreement() -> Agreement {
    let mut offers = Offers::default();
    offers.read(b"permessage-deflate; client_max_window_bits");
    offers.agree(12, 12).expect("an offer")
}

fn deflated(text: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(text).expect("memory");
    writer.flush().expect("memory");
    let deflated = writer.get_ref();
    deflated[..deflated.len() - 4].to_vec()
}

/// A compressed message's text, by flate2's own reader.
fn inflated(payload: &[u8]) -> Vec<u8> {
    let mut reader = flate2::write::DeflateDecoder::new(Vec::new());
    reader.write_all(payload).expect("valid");
    reader.write_all(&[0, 0, 0xFF, 0xFF]).expect("valid");
    reader.flush().expect("valid");
    let text = reader.get_ref().clone();
    assert!(text.len() > payload.len(), "compressed to no avail");
    text
}

fn client_frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | u8::try_from(len).unwrap()),
        len => {
            frame.push(0x80 | 0x7E);
            frame.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

/// The text frames of a server stream; panics on anything a server may not send.
fn frames(mut stream: &[u8]) -> (Vec<serde_json::Value>, bool, usize) {
    let (mut texts, mut closed, mut compressed) = (Vec::new(), false, 0);
    while stream.len() >= 2 {
        let (header, len) = match stream[1] {
            126 if stream.len() < 4 => break,
            126 => (4, usize::from(u16::from_be_bytes([stream[2], stream[3]]))),
            len @ 0..126 => (2, usize::from(len)),
            _ => panic!("a masked or huge server frame"),
        };
        if stream.len() < header + len {
            break;
        }
        let payload = &stream[header..header + len];
        match stream[0] {
            0x81 => texts.push(serde_json::from_slice(payload).expect("a frame is JSON")),
            0xC1 => {
                compressed += 1;
                texts.push(serde_json::from_slice(&inflated(payload)).expect("JSON"));
            }
            0x88 => closed = true,
            0x89 | 0x8A => {}
            other => panic!("server frame {other:#x}"),
        }
        stream = &stream[header + len..];
    }
    (texts, closed, compressed)
}

fn run(seed: u64) -> World {
    let mut world = World::new(seed);
    world.connect(false, true);
    for step in 0..STEPS {
        world.step();
        if world.archive == Archive::Prompt && step % 200 == 0 {
            check_spooled(&world, seed);
        }
    }
    world.quiesce();
    world
}

/// The ids of a server stream's messages and events.
fn ids_of(stream: &[u8]) -> Vec<String> {
    let (texts, ..) = frames(stream);
    let ids = texts
        .iter()
        .filter(|text| text["Type"] != "ERROR")
        .map(|text| text["Id"].as_str().expect("an id").to_owned());
    ids.collect()
}

/// Whatever somebody was sent is in the spool; returns the spool's order.
fn check_spooled(world: &World, seed: u64) -> Vec<String> {
    let spooled = ids_of(&world.spooled);
    let known: HashSet<&String> = spooled.iter().collect();
    for peer in world.net.borrow().iter() {
        let Some(stream) = peer.from_server.strip_prefix(b"HELLO\n") else {
            continue;
        };
        for id in ids_of(stream) {
            assert!(
                known.contains(&id),
                "seed {seed}: {id} was sent, not spooled"
            );
        }
    }
    spooled
}

fn check(world: &World, seed: u64) -> (usize, usize) {
    let net = world.net.borrow();
    let ids = |client: &Client| -> Option<(Vec<String>, Vec<serde_json::Value>, bool)> {
        let stream = net[client.peer].from_server.strip_prefix(b"HELLO\n")?;
        let (texts, closed, compressed) = frames(stream);
        assert!(
            client.deflates || compressed == 0,
            "seed {seed}: not agreed on"
        );
        let room = texts
            .iter()
            .filter(|text| text["Type"] != "ERROR")
            .map(|text| text["Id"].as_str().expect("an id").to_owned())
            .collect();
        Some((room, texts, closed))
    };
    let observer = world.clients.iter().find(|client| client.observer).unwrap();
    let (order, observed, _) = ids(observer).expect("the observer is connected");
    if world.archive != Archive::Off {
        let spooled = check_spooled(world, seed);
        assert!(
            spooled.ends_with(&order),
            "seed {seed}: the log is not the room's order"
        );
    }
    world.reviewer.check(&observed, seed);
    let distinct: HashSet<&String> = order.iter().collect();
    assert_eq!(distinct.len(), order.len(), "seed {seed}: an id came twice");
    let said: HashMap<&str, &serde_json::Value> = observed
        .iter()
        .filter_map(|text| Some((text["Id"].as_str()?, text)))
        .collect();
    let mut admitted = 0;
    for client in &world.clients {
        let Some((own, texts, closed)) = ids(client) else {
            continue;
        };
        admitted += 1;
        for text in texts.iter().filter(|text| text["Type"] != "ERROR") {
            let id = text["Id"].as_str().expect("an id");
            assert_eq!(
                said.get(id),
                Some(&text),
                "seed {seed}: two encodings differ"
            );
        }
        if let Some(first) = own.first() {
            let start = order.iter().position(|id| id == first);
            let start = start.unwrap_or_else(|| panic!("seed {seed}: {first} in nobody's order"));
            let end = start + own.len();
            assert!(
                order.get(start..end) == Some(&own[..]),
                "seed {seed}: {} did not get a contiguous part of the room's order",
                client.user
            );
            let alive = !closed && !client.gone && !net[client.peer].cut;
            assert!(
                !alive || end == order.len(),
                "seed {seed}: {} lost the newest frames: {} of {}",
                client.user,
                end - start,
                order.len() - start
            );
        }
        if !client.may_send {
            let echoed = observed.iter().find(|text| {
                text["Type"] != "ERROR"
                    && text["RequestId"]
                        .as_str()
                        .is_some_and(|id| client.asked.contains(id))
            });
            assert!(
                echoed.is_none(),
                "seed {seed}: a viewer's request came through: {echoed:?}"
            );
        }
        if !closed && !client.gone && !net[client.peer].cut {
            let mut answers: HashMap<&str, u32> = HashMap::new();
            for text in &texts {
                *answers
                    .entry(text["RequestId"].as_str().unwrap())
                    .or_default() += 1;
                if text["ErrorCode"] == 406 {
                    world.reviewer.check_denial(text, seed);
                }
            }
            for asked in &client.asked {
                let count = answers.get(asked.as_str()).copied().unwrap_or_default();
                assert_eq!(count, 1, "seed {seed}: answers to {asked}");
            }
        }
    }
    (order.len(), admitted)
}

/// Goal: one order for all, nothing lost or doubled, every request answered once, viewers stay silent,
/// and reviewed messages say what their handler decided, in the order of their arrival.
/// Method: 120 seeds of 1,500 steps (or the one in `UPROAR_SEED`), then compare all streams.
#[test]
fn simulated_rooms_keep_their_promises() {
    if let Ok(seed) = std::env::var("UPROAR_SEED") {
        let seed = seed.parse().expect("a number");
        check(&run(seed), seed);
        return;
    }
    let (mut said_in_all, mut clients) = (0, 0);
    let (mut denied, mut allowed, mut unheard) = (0, 0, 0);
    let mut compressed = 0;
    for seed in 0..120 {
        let world = run(seed);
        for peer in world.net.borrow().iter() {
            let stream = peer.from_server.strip_prefix(b"HELLO\n");
            compressed += stream.map_or(0, |stream| frames(stream).2);
        }
        let (said, admitted) = check(&world, seed);
        said_in_all += said;
        clients += admitted;
        unheard += world.reviewer.unheard;
        for outcome in world.reviewer.outcomes.values() {
            match outcome {
                review::Outcome::Said(_) => allowed += 1,
                review::Outcome::Denied(_) => denied += 1,
            }
        }
    }
    assert!(
        denied > 1_000 && allowed > 1_000 && unheard > 1_000,
        "reviews idle: {denied}, {allowed}, {unheard}"
    );
    assert!(compressed > 5_000, "compression idles: {compressed}");
    assert!(
        said_in_all > 5_000 && clients > 1_000,
        "the simulation idles: {said_in_all}, {clients}"
    );
}

/// Goal: a token opens one connection, whichever shards it is presented at, in one turn or later.
#[test]
fn a_token_presented_everywhere_opens_once() {
    for seed in 0..50 {
        let mut world = World::new(seed);
        for round in 0..3 {
            for shard in 0..SHARDS {
                for _ in 0..4 {
                    world.present(7, shard, true, false);
                }
            }
            if round > 0 {
                world.quiesce();
            }
        }
        world.quiesce();
        let net = world.net.borrow();
        let greeted = net
            .iter()
            .filter(|peer| peer.from_server.starts_with(b"HELLO\n"))
            .count();
        assert_eq!(greeted, 1, "seed {seed}");
    }
}
