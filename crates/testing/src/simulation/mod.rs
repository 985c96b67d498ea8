//! Shards, rooms and clients on fake rings, clocks and mailboxes, and everything that can happen to them.
//!
//! The code that ships runs here unchanged. A seed (simulation) or bytes (fuzzer) decide: completions come late,
//! short, in any order or as errors, received bytes are split anywhere, connections are cut, shards oversleep
//! while their mailboxes fill, clocks step.

mod dice;
mod net;
mod oracle;
mod review;
mod turn;

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rtrb::Consumer;
use tokio::sync::oneshot;
use uproar::shard::command::{Command, Eviction};
use uproar::shard::core::{Core, Parts, user_hash};
use uproar::shard::doorbell::Doorbell;
use uproar::shard::durability::Entry;
use uproar::shard::gateway::Refused;
use uproar::shard::inbox::{Ends, Inbox, Mailboxes};
use uproar::shard::journal::NoRecord;
use uproar::shard::mailbox::{MailboxSender, mailbox};
use uproar::shard::review::ReviewRequest;
use uproar::shard::settings::{ShardSettings, SharedBudgets};
use uproar::shard::tokens::UsedTokens;
use uproar_proto::base::clock::{Now, UnixTime};
use uproar_proto::base::id::{FrameId, LoggingId, RoomId};
use uproar_proto::base::limits::MAILBOX_COMMANDS;
use uproar_proto::chat::encode;
use uproar_proto::room::RoomSettings;
use uproar_proto::room::review::Fallback;
use uproar_proto::session::Grant;
use uproar_proto::token::{Capabilities, Capability};
use uproar_proto::ws::extension::{Agreement, Offers};

use self::dice::Dice;
use self::net::{FakeRing, Net, Peer, Socket};
pub use self::oracle::Counts;
use self::oracle::WILD;
use crate::client::{deflated, frame};
use crate::parts::{GREETING, pending, start};

const SHARDS: usize = 2;
/// Most clients at a time; more make a world slower, not better.
const CLIENTS_MAX: usize = 40;
/// The room that exists as long as its world, and the one that may be deleted.
pub const MAIN: usize = 0;
const DOOMED: usize = 1;

/// How the archive of a world behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Archive {
    /// The room is not logged.
    Off,
    /// It always answers before the deadline.
    Prompt,
    /// It repeatedly stalls far beyond the deadline.
    Stalling,
    /// As `Prompt`, and the room's logging ends and begins repeatedly.
    Switched,
}

impl Archive {
    /// Whether it answers before the deadline.
    fn is_prompt(self) -> bool {
        matches!(self, Self::Prompt | Self::Switched)
    }
}

/// The events that can happen in a world.
#[derive(Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
struct Plan {
    archive: Archive,
    fallback: Option<Fallback>,
    /// Capacity of each mailbox.
    places: usize,
    /// Operations fail.
    faults: bool,
    /// The wall clock steps.
    steps: bool,
    /// Time leaps.
    leaps: bool,
    /// A shard oversleeps.
    oversleeps: bool,
    /// Clients send arbitrary bytes.
    wild: bool,
}

impl Plan {
    fn of(number: u64) -> Self {
        let archive = match number % 8 {
            1 => Archive::Prompt,
            5 => Archive::Switched,
            3 | 7 => Archive::Stalling,
            _ => Archive::Off,
        };
        let fallback = match number % 3 {
            0 => None,
            1 => Some(Fallback::Allow),
            _ => Some(Fallback::Deny),
        };
        let places = match number % 5 {
            0 => 2,
            1 => 1,
            2 => 7,
            _ => MAILBOX_COMMANDS,
        };
        Self {
            archive,
            fallback,
            places,
            faults: number % 7 < 3,
            steps: number % 11 < 5,
            // An archive that is prompt has a deadline.
            leaps: number % 13 < 6 && !archive.is_prompt(),
            oversleeps: number % 5 < 3 && !archive.is_prompt(),
            wild: number % 17 < 8,
        }
    }
}

struct Shard {
    core: Core<FakeRing>,
    inbox: Inbox<Socket>,
    /// The mailboxes to it from the control thread and the archive.
    control: MailboxSender<Command<Socket>>,
    answers: MailboxSender<Command<Socket>>,
    /// Entries that the archive has spooled but not acknowledged yet.
    owed: u32,
    to_archive: Consumer<Entry>,
    to_reviewer: Consumer<ReviewRequest>,
    /// Turns it still misses.
    asleep: usize,
}

/// A client, and the expected content of its stream.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
struct Client {
    peer: usize,
    room: usize,
    user: String,
    token: usize,
    may_send: bool,
    observer: bool,
    deflates: bool,
    requested: HashSet<String>,
    gone: bool,
}

/// A pending call of the API.
enum Call {
    Put(oneshot::Receiver<Result<(), Refused>>),
    Delete(oneshot::Receiver<Result<(), Refused>>),
    Event(usize, oneshot::Receiver<Result<FrameId, Refused>>),
}

/// The shards, rooms and clients of a world.
pub struct World {
    dice: Dice,
    plan: Plan,
    net: Net,
    shards: Vec<Shard>,
    clients: Vec<Client>,
    now: Now,
    rooms: [RoomId; 2],
    deleted: bool,
    calls: Vec<Call>,
    tokens: usize,
    requests: u64,
    /// Frames in the spool.
    spooled: Vec<u8>,
    /// Number of changes of the main room's logging.
    logging_changes: u128,
    /// Steps since the archive last spooled.
    unspooled: usize,
    reviewer: review::Reviewer,
}

impl World {
    /// Makes the world of a seed.
    pub fn of_seed(seed: u64) -> Self {
        Self::new(Plan::of(seed), seed, Dice::seed(seed))
    }

    /// Makes the world that a fuzzer's bytes describe.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut dice = Dice::bytes(bytes);
        let number = dice.below(1 << 16) as u64;
        Self::new(Plan::of(number), number, dice)
    }

    fn new(plan: Plan, seed: u64, dice: Dice) -> Self {
        let settings = ShardSettings {
            stripe_members_min: 2,
            pace_ceiling: Duration::from_millis(20),
            review_timeout: review::TIMEOUT,
            ..ShardSettings::open(SHARDS)
        };
        let net = Net::default();
        let now = start();
        let bell = || Arc::new(Doorbell::new().unwrap());
        let budgets = SharedBudgets::default();
        let bells: Vec<_> = (0..SHARDS).map(|_| bell()).collect();
        let mailboxes = Mailboxes::new(&bells, plan.places);
        let ends = mailboxes.shards.into_iter();
        let ends = ends.zip(mailboxes.control).zip(mailboxes.archive);
        let shard = |(id, ((ends, control), answers))| {
            let Ends {
                mailboxes,
                requests,
                inbox,
            } = ends;
            let (archive, to_archive) = mailbox(&bells[id]);
            let (reviews, to_reviewer) = mailbox(&bells[id]);
            let parts = Parts {
                id,
                settings: settings.clone(),
                io: FakeRing {
                    net: Rc::clone(&net),
                    ..FakeRing::default()
                },
                mailboxes,
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
                control,
                answers,
                owed: 0,
                to_archive,
                to_reviewer,
                asleep: 0,
            }
        };
        let shards = ends.enumerate().map(shard).collect();
        let room = |number: u128| RoomId::from_random(u128::from(seed) << 40 | number);
        let mut world = Self {
            dice,
            plan,
            net,
            shards,
            clients: Vec::new(),
            now,
            rooms: [room(0x3039), room(0x0009_0001)],
            deleted: false,
            calls: Vec::new(),
            tokens: 0,
            requests: 0,
            spooled: Vec::new(),
            logging_changes: 0,
            unspooled: 0,
            reviewer: review::Reviewer::new(plan.fallback),
        };
        world.put_room(MAIN);
        world.put_room(DOOMED);
        for room in [MAIN, DOOMED] {
            while !world.is_watched(room) {
                world.connect(room, false, true);
                world.turns(4);
            }
        }
        world
    }

    /// Steps until the decisions are spent, at most `steps_max` times; then everything pending arrives.
    pub fn run(&mut self, steps_max: usize) {
        for step in 0..steps_max {
            if self.dice.is_spent() {
                break;
            }
            let before = self.logging_changes;
            self.step();
            let looks = step % 200 == 0 || self.logging_changes != before;
            if self.plan.archive == Archive::Prompt && looks {
                self.check_spooled();
            }
        }
        self.quiesce();
    }

    fn is_watched(&self, room: usize) -> bool {
        let net = self.net.borrow();
        let mut clients = self.clients.iter();
        clients.any(|client| {
            let peer = &net[client.peer];
            client.observer && client.room == room && peer.from_server.starts_with(GREETING)
        })
    }

    fn home(&mut self, room: usize) -> &mut Shard {
        let home = ShardSettings::open(SHARDS).home(self.rooms[room]);
        &mut self.shards[home]
    }

    fn tell(&mut self, room: usize, command: Command<Socket>, call: Call) {
        let control = &mut self.home(room).control;
        control.deliver(command);
        control.flush();
        self.calls.push(call);
    }

    /// The control thread puts a room with its current settings.
    fn put_room(&mut self, room: usize) {
        let main = room == MAIN;
        let logged = main
            && match self.plan.archive {
                Archive::Off => false,
                Archive::Switched => self.logging_changes.is_multiple_of(2),
                Archive::Prompt | Archive::Stalling => true,
            };
        let settings = RoomSettings {
            content_chars_max: 500,
            messages_per_second: 100,
            review: self.reviewer.attached().filter(|_| main),
            archive: logged
                .then(|| LoggingId::from_random(1 + self.logging_changes % 3))
                .into_iter()
                .collect(),
        };
        let (answer, answered) = oneshot::channel();
        let command = Command::PutRoom(self.rooms[room], settings, answer);
        self.tell(room, command, Call::Put(answered));
    }

    fn delete_room(&mut self) {
        self.deleted = true;
        let (answer, answered) = oneshot::channel();
        let command = Command::DeleteRoom(self.rooms[DOOMED], answer);
        self.tell(DOOMED, command, Call::Delete(answered));
    }

    /// Makes a call of the API.
    fn call(&mut self) {
        let room = self.any_room();
        let id = self.rooms[room];
        let (answer, answered) = oneshot::channel();
        let victim = format!("user-{}", self.dice.below(6));
        let command = match self.dice.below(3) {
            0 => Command::SendEvent {
                room: id,
                name: "said".into(),
                attributes_json: "{}".into(),
                answer,
            },
            1 => Command::DeleteMessage {
                room: id,
                id: "abcdefghijkl".into(),
                reason: "x".into(),
                answer,
            },
            _ => Command::DisconnectUser {
                room: id,
                eviction: Eviction {
                    user_id: victim.into(),
                    reason: "x".into(),
                },
                answer,
            },
        };
        self.tell(room, command, Call::Event(room, answered));
    }

    fn any_room(&mut self) -> usize {
        if !self.deleted && self.dice.once_in(4) {
            DOOMED
        } else {
            MAIN
        }
    }

    fn connect(&mut self, room: usize, may_send: bool, observer: bool) {
        self.tokens += 1;
        let shard = self.dice.below(SHARDS);
        self.present(self.tokens, room, shard, (may_send, observer));
    }

    /// Presents a token to every shard.
    pub fn present_everywhere(&mut self, token: usize, room: usize) {
        for shard in 0..SHARDS {
            self.present(token, room, shard, (true, false));
        }
    }

    /// Returns the number of connections that a token opened.
    pub fn opened(&self, token: usize) -> usize {
        let net = self.net.borrow();
        let clients = self.clients.iter().filter(|client| client.token == token);
        clients
            .filter(|client| net[client.peer].from_server.starts_with(GREETING))
            .count()
    }

    /// Presents a token to a shard; the server decides whether it opens a connection.
    fn present(
        &mut self,
        token: usize,
        room: usize,
        shard: usize,
        (may_send, observer): (bool, bool),
    ) {
        let peer = self.net.borrow().len();
        let user = match self.dice.below(7) {
            _ if observer => "observer".to_owned(),
            6 if self.plan.wild => WILD.to_owned(),
            number => format!("user-{}", number % 6),
        };
        self.net.borrow_mut().push(Peer {
            protected: observer,
            ..Peer::default()
        });
        let mut capabilities = Capabilities::default();
        if may_send {
            capabilities.insert(Capability::SendMessage);
            capabilities.insert(Capability::DeleteMessage);
            capabilities.insert(Capability::DisconnectUser);
        }
        let agreed = (self.dice.below(2) == 1).then(agreement);
        let agreed = agreed.filter(|_| !observer);
        let socket = Socket {
            id: peer,
            net: Rc::clone(&self.net),
        };
        let mut pending = pending(socket, self.rooms[room], token as u64, self.now);
        pending.grant = Grant {
            sender_json: encode::sender_json(&user, std::iter::empty()).into_boxed_str(),
            capabilities,
            ends: self.now.tick.after(Duration::from_hours(3)),
        };
        pending.user_hash = user_hash(&user);
        pending.agreement = agreed;
        self.shards[shard].core.enter(pending);
        self.clients.push(Client {
            peer,
            room,
            user,
            token,
            may_send,
            observer,
            deflates: agreed.is_some(),
            requested: HashSet::new(),
            gone: false,
        });
    }

    fn send_message(&mut self, client: usize) {
        self.requests += 1;
        let id = format!("{client}:{}", self.requests);
        let kind = self.dice.below(20);
        let victim = format!("user-{}", self.dice.below(6));
        let text = match kind {
            1 => format!(
                r#"{{"Action":"DISCONNECT_USER","UserId":"{victim}","Reason":"x","RequestId":"{id}"}}"#
            ),
            2 => format!(r#"{{"Action":"DELETE_MESSAGE","Id":"abcdefghijkl","RequestId":"{id}"}}"#),
            3 => format!(r#"{{"Action":"NOTHING","RequestId":"{id}"}}"#),
            _ => {
                let padding = "x".repeat(self.dice.below(400));
                format!(r#"{{"Action":"SEND_MESSAGE","Content":"{padding}.","RequestId":"{id}"}}"#)
            }
        };
        let client = &mut self.clients[client];
        let mask = [3, 1, 4, u8::try_from(kind).unwrap()];
        let frame = if client.deflates && self.dice.below(2) == 1 {
            frame(0xC1, &deflated(text.as_bytes()), mask)
        } else {
            frame(0x81, text.as_bytes(), mask)
        };
        self.net.borrow_mut()[client.peer].to_server.extend(frame);
        client.requested.insert(id);
    }

    /// Makes a wild client send bytes that no real client would.
    fn send_garbage(&mut self, client: usize) {
        let len = self.dice.below(40);
        let bytes = self.dice.take(len);
        let first = self.dice.take(1).first().copied().unwrap_or_default();
        let garbage = match self.dice.below(4) {
            0 => bytes,
            1 => frame(first, &bytes, [0; 4]),
            2 => frame(0x81, &bytes, [9; 4]),
            _ => {
                let text = String::from_utf8_lossy(&bytes);
                let text = format!(r#"{{"Action":"SEND_MESSAGE","Content":"{text}"}}"#);
                frame(0x81, text.as_bytes(), [0; 4])
            }
        };
        let peer = &mut self.net.borrow_mut()[self.clients[client].peer];
        peer.to_server.extend(garbage);
        peer.excused = true;
    }

    /// Runs one step of the world: an event, then a turn of every shard.
    fn step(&mut self) {
        let alive: Vec<usize> = (0..self.clients.len())
            .filter(|index| !self.clients[*index].gone)
            .filter(|index| !self.net.borrow()[self.clients[*index].peer].cut)
            .collect();
        let client = self.dice.pick(&alive);
        let victim = client.filter(|client| !self.clients[*client].observer);
        match self.dice.below(100) {
            0..55 => {
                if let Some(client) = client {
                    self.send_message(client);
                }
            }
            55..64 if alive.len() < CLIENTS_MAX => {
                let may_send = self.dice.below(4) > 0;
                let room = self.any_room();
                self.connect(room, may_send, false);
            }
            64..66 => {
                // Presents one token to both shards in one turn, or an old one again.
                let old = self.dice.pick(&alive).map(|old| &self.clients[old]);
                let (token, room) = match old {
                    Some(old) if self.dice.below(2) == 1 => (old.token, old.room),
                    _ => (self.tokens + 1, MAIN),
                };
                self.tokens = self.tokens.max(token);
                self.present_everywhere(token, room);
            }
            66..75 => {
                if let Some(victim) = victim {
                    self.disturb(victim);
                }
            }
            75..77 => {
                self.reviewer.toggle();
                self.put_room(MAIN);
            }
            77..80 => self.call(),
            80 if !self.deleted && self.dice.once_in(3) => self.delete_room(),
            81..83 if self.plan.oversleeps => {
                let shard = self.dice.below(SHARDS);
                self.shards[shard].asleep = self.dice.below(40);
            }
            83 if self.plan.leaps => self.leap(),
            84..86 if self.plan.steps => {
                // The wall clock steps forward or back, by up to an hour and a half.
                let by = Duration::from_secs(self.dice.below(5_400) as u64);
                let nanos = u64::try_from(by.as_nanos()).unwrap();
                let unix = self.now.unix;
                self.now.unix = if self.dice.below(2) == 1 {
                    unix.after(by)
                } else {
                    UnixTime::from_nanos(unix.nanos().saturating_sub(nanos))
                };
            }
            86..88 if self.plan.archive != Archive::Off => {
                self.logging_changes += 1;
                self.put_room(MAIN);
            }
            _ => {}
        }
        let pause = Duration::from_micros(self.dice.below(3_000) as u64);
        self.pass(pause);
        match self.plan.archive {
            Archive::Off => {}
            Archive::Prompt | Archive::Switched => {
                // The archive answers in time, even if a fuzzer decides.
                self.unspooled += 1;
                if self.dice.below(3) == 0 || self.unspooled > 20 {
                    self.spool(usize::MAX);
                }
            }
            Archive::Stalling => {
                if self.dice.once_in(400) {
                    let most = self.dice.below(20);
                    self.spool(most);
                }
            }
        }
        self.turns(1);
    }

    /// Disturbs a client.
    fn disturb(&mut self, victim: usize) {
        let client = &mut self.clients[victim];
        let mut net = self.net.borrow_mut();
        let peer = &mut net[client.peer];
        match self.dice.below(8) {
            0 | 1 => {
                (client.gone, peer.finished) = (true, true);
            }
            2 => {
                (client.gone, peer.reset) = (true, true);
            }
            3 => {
                peer.to_server.extend(frame(0x88, &[3, 232], [1; 4]));
                client.gone = true;
            }
            _ if client.user == WILD => {}
            _ => peer.stalled = !peer.stalled,
        }
        drop(net);
        if self.clients[victim].user == WILD && !self.clients[victim].gone {
            self.send_garbage(victim);
        }
    }

    fn pass(&mut self, pause: Duration) {
        self.now = Now {
            tick: self.now.tick.after(pause),
            unix: self.now.unix.after(pause),
        };
    }

    /// Moves time on by much, unless an observer has a pending operation, which could make it count as slow.
    fn leap(&mut self) {
        let pause = Duration::from_millis(self.dice.below(15_000) as u64);
        let rings = self.shards.iter().map(|shard| &shard.core.io);
        let under_way = rings.flat_map(|ring| ring.pending_sends().map(|(_, id, _)| *id));
        let under_way: HashSet<usize> = under_way.collect();
        {
            let net = &mut *self.net.borrow_mut();
            let is_slow = |(id, peer): &(usize, &mut Peer)| {
                under_way.contains(id) || peer.stalled || !peer.to_server.is_empty()
            };
            let slow = net.iter_mut().enumerate().filter(is_slow);
            let slow: Vec<&mut Peer> = slow.map(|(_, peer)| peer).collect();
            if slow.iter().any(|peer| peer.protected) {
                return;
            }
            for peer in slow {
                (peer.slow, peer.excused) = (true, true);
            }
        }
        self.pass(pause);
    }

    /// The archive spools some entries and acknowledges them.
    fn spool(&mut self, most: usize) {
        self.unspooled = 0;
        for shard in &mut self.shards {
            for _ in 0..most {
                let Ok(entry) = shard.to_archive.pop() else {
                    break;
                };
                self.spooled.extend_from_slice(&entry.frames);
                shard.owed += 1;
            }
            if shard.owed > 0 && shard.answers.has_room() {
                let owed = std::mem::take(&mut shard.owed);
                shard.answers.deliver(Command::Spooled(owed));
            }
        }
    }

    /// Runs turns of every shard, except those that oversleep.
    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            for shard in 0..SHARDS {
                self.shards[shard].control.flush();
                self.shards[shard].answers.flush();
                if self.shards[shard].asleep > 0 {
                    self.shards[shard].asleep -= 1;
                } else {
                    self.turn(shard, false);
                }
            }
        }
    }

    /// Lets everything pending arrive, and closing handshakes end.
    fn quiesce(&mut self) {
        for peer in self.net.borrow_mut().iter_mut() {
            peer.stalled = false;
        }
        self.plan.faults = false;
        for round in 0..240 {
            // One pause is longer than a closing handshake may take.
            let pause = if round == 160 { 6_000 } else { 5 };
            self.pass(Duration::from_millis(pause));
            self.spool(20);
            for shard in &mut self.shards {
                shard.asleep = 0;
                shard.control.flush();
                shard.answers.flush();
            }
            for shard in 0..SHARDS {
                self.turn(shard, true);
            }
        }
    }
}

/// The agreement between a browser and the server.
fn agreement() -> Agreement {
    let mut offers = Offers::default();
    offers.read(b"permessage-deflate; client_max_window_bits");
    offers.agree(12, 12).expect("an offer")
}
