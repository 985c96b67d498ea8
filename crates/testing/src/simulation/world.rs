//! The shards, rooms and clients of a world.

use std::collections::HashSet;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rtrb::Consumer;
use tokio::sync::oneshot;
use uproar::shard::command::{Command, Refused, Said, user_hash};
use uproar::shard::core::{Core, Parts};
use uproar::shard::doorbell::Doorbell;
use uproar::shard::durability::LoggedFrames;
use uproar::shard::inbox::{Ends, Inbox, Mailboxes};
use uproar::shard::journal::{Record, TokenUse};
use uproar::shard::mailbox::{MailboxSender, mailbox};
use uproar::shard::metrics::ShardMetrics;
use uproar::shard::review::ReviewRequest;
use uproar::shard::settings::{ShardSettings, SharedBudgets};
use uproar::shard::tokens::UsedTokens;
use uproar_proto::base::clock::Now;
use uproar_proto::base::id::{LoggingId, RoomId};
use uproar_proto::chat::encode;
use uproar_proto::room::RoomSettings;
use uproar_proto::session::Grant;
use uproar_proto::token::{Capabilities, Capability};
use uproar_proto::ws::extension::{Agreement, Offers};

use super::dice::Dice;
use super::net::{FakeRing, Net, Peer, Socket};
use super::plan::{Archive, Plan, WILD};
use super::review;
use super::watch::{Ended, Watch};
use crate::parts::{GREETING, alone, pending, start};

/// Number of shards at first; another process may have another number.
pub(super) const SHARDS: usize = 2;
/// The room that exists as long as its world.
pub const MAIN: usize = 0;
/// The room that may be deleted.
pub(super) const DOOMED: usize = 1;

pub(super) struct Shard {
    pub(super) core: Core<FakeRing>,
    pub(super) inbox: Inbox<Socket>,
    /// The mailboxes to it from the control thread and the archive.
    pub(super) control: MailboxSender<Command<Socket>>,
    pub(super) answers: MailboxSender<Command<Socket>>,
    /// Entries that the archive has spooled but not acknowledged yet.
    pub(super) owed: u32,
    pub(super) to_archive: Consumer<LoggedFrames>,
    pub(super) to_reviewer: Consumer<ReviewRequest>,
    /// Turns it still misses.
    pub(super) asleep: usize,
    pub(super) metrics: Arc<ShardMetrics>,
    /// The drains it was told of.
    pub(super) watch: Watch,
}

/// The uses of tokens on disk.
pub(super) struct Journal {
    sender: Sender<TokenUse>,
    receiver: Receiver<TokenUse>,
    uses: Vec<TokenUse>,
}

impl Default for Journal {
    fn default() -> Self {
        let (sender, receiver) = channel();
        Self {
            sender,
            receiver,
            uses: Vec::new(),
        }
    }
}

impl Journal {
    /// Returns the `chosen` used tokens.
    fn used(&mut self, chosen: impl Fn(&TokenUse) -> bool, now: Now) -> UsedTokens {
        self.uses.extend(self.receiver.try_iter());
        let mut used = UsedTokens::default();
        for one in self.uses.iter().filter(|one| chosen(one)) {
            // A world presents a token again with a later expiry, as no issuer does.
            used.recover(one.token, now.unix.after(Duration::from_hours(1)), now);
        }
        used
    }
}

/// Writes the uses of one shard.
struct Recorder(Sender<TokenUse>);

impl Record for Recorder {
    fn record(&mut self, uses: &[TokenUse]) -> io::Result<()> {
        for one in uses {
            // A world that is over reads no journal.
            let _over = self.0.send(*one);
        }
        Ok(())
    }
}

/// A client, and the expected content of its stream.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub(super) struct Client {
    pub(super) peer: usize,
    pub(super) room: usize,
    pub(super) user: String,
    pub(super) token: usize,
    pub(super) may_send: bool,
    pub(super) observer: bool,
    pub(super) deflates: bool,
    pub(super) requested: HashSet<String>,
    /// Those of its requests that it sent behind the server's FIN.
    pub(super) late: HashSet<String>,
    pub(super) gone: bool,
}

/// A pending call of the API.
pub(super) enum Call {
    Put(oneshot::Receiver<Result<(), Refused>>),
    Delete(oneshot::Receiver<Result<(), Refused>>),
    Event(usize, oneshot::Receiver<Result<Said, Refused>>),
}

/// The shards, rooms and clients of a world.
pub struct World {
    pub(super) dice: Dice,
    pub(super) plan: Plan,
    pub(super) net: Net,
    pub(super) shards: Vec<Shard>,
    pub(super) clients: Vec<Client>,
    pub(super) now: Now,
    pub(super) rooms: [RoomId; 2],
    pub(super) deleted: bool,
    pub(super) calls: Vec<Call>,
    pub(super) tokens: usize,
    pub(super) requests: u64,
    /// Frames in the spool.
    pub(super) spooled: Vec<u8>,
    /// Number of changes of the main room's logging.
    pub(super) logging_changes: u128,
    /// Steps since the archive last spooled.
    pub(super) unspooled: usize,
    pub(super) reviewer: review::Reviewer,
    /// The settings of each room, as the database has them.
    pub(super) settings: [Option<RoomSettings>; 2],
    /// The uses of tokens.
    pub(super) journal: Journal,
    /// Random numbers of further processes begin with it.
    pub(super) seed: u64,
    /// Hand-overs that were made, and those that were given up.
    pub(super) handed_over: usize,
    pub(super) rolled_back: usize,
    /// Viewers whom a drain ended by FIN, and cancelled drains.
    pub(super) ended: Vec<Ended>,
    pub(super) cancelled: usize,
    /// The shards of the observers, which are drained last.
    pub(super) undrained: Vec<usize>,
}

impl Shard {
    /// Makes the shards of a process, whose mailboxes lead to each other, and which know the tokens that `journal` tells.
    pub(super) fn all(
        plan: &Plan,
        (count, seed): (usize, u64),
        net: &Net,
        journal: &mut Journal,
        now: Now,
    ) -> Vec<Self> {
        let settings = ShardSettings {
            stripe_members_min: 2,
            pace_ceiling: Duration::from_millis(20),
            review_timeout: review::TIMEOUT,
            ..ShardSettings::open(count)
        };
        let bell = || Arc::new(Doorbell::new().unwrap());
        let budgets = SharedBudgets::default();
        let bells: Vec<_> = (0..count).map(|_| bell()).collect();
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
            let io = FakeRing {
                net: Rc::clone(net),
                ..FakeRing::default()
            };
            let parts = Parts {
                id,
                settings: settings.clone(),
                mailboxes,
                requests,
                archive: Some(archive),
                reviews,
                budgets: Arc::clone(&budgets),
                record: Box::new(Recorder(journal.sender.clone())),
                used: journal.used(|one| settings.home(one.room) == id, now),
                seed: seed.wrapping_mul(31) + id as u64,
                ..alone(io)
            };
            Self {
                metrics: Arc::clone(&parts.metrics),
                core: Core::new(parts, now),
                inbox,
                control,
                answers,
                owed: 0,
                to_archive,
                to_reviewer,
                asleep: 0,
                watch: Watch::default(),
            }
        };
        ends.enumerate().map(shard).collect()
    }
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

    pub(super) fn new(plan: Plan, seed: u64, dice: Dice) -> Self {
        let net = Net::default();
        let now = start();
        let mut journal = Journal::default();
        let shards = Shard::all(&plan, (SHARDS, seed), &net, &mut journal, now);
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
            settings: [None, None],
            journal,
            seed,
            handed_over: 0,
            rolled_back: 0,
            ended: Vec::new(),
            cancelled: 0,
            undrained: Vec::new(),
        };
        world.put_room(MAIN);
        world.put_room(DOOMED);
        for room in [MAIN, DOOMED] {
            while !world.is_watched(room) {
                world.connect(room, false, true);
                world.turns(4);
            }
        }
        world.undrained = world.shards_of_observers();
        world
    }

    pub(super) fn is_watched(&self, room: usize) -> bool {
        let net = self.net.borrow();
        let mut clients = self.clients.iter();
        clients.any(|client| {
            let peer = &net[client.peer];
            client.observer && client.room == room && peer.from_server.starts_with(GREETING)
        })
    }

    fn shards_of_observers(&self) -> Vec<usize> {
        let is_observed = |shard: &Shard| {
            let mut peers = shard.core.io().receives.values();
            peers.any(|peer| self.clients[*peer].observer)
        };
        let shards = self.shards.iter().enumerate();
        let observed = shards.filter(|(_, shard)| is_observed(shard));
        observed.map(|(shard, _)| shard).collect()
    }

    pub(super) fn home(&mut self, room: usize) -> &mut Shard {
        let home = ShardSettings::open(self.shards.len()).home(self.rooms[room]);
        &mut self.shards[home]
    }

    pub(super) fn tell(&mut self, room: usize, command: Command<Socket>, call: Call) {
        let control = &mut self.home(room).control;
        control.deliver(command);
        control.flush();
        self.calls.push(call);
    }

    /// The control thread puts a room with its current settings.
    pub(super) fn put_room(&mut self, room: usize) {
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
            extension: None,
        };
        self.settings[room] = Some(settings.clone());
        let (answer, answered) = oneshot::channel();
        let command = Command::PutRoom(self.rooms[room], settings, answer);
        self.tell(room, command, Call::Put(answered));
    }

    pub(super) fn any_room(&mut self) -> usize {
        if !self.deleted && self.dice.once_in(4) {
            DOOMED
        } else {
            MAIN
        }
    }

    pub(super) fn connect(&mut self, room: usize, may_send: bool, observer: bool) {
        self.tokens += 1;
        let shard = self.dice.below(self.shards.len());
        self.present(self.tokens, room, shard, (may_send, observer));
    }

    /// Presents a token to every shard.
    pub fn present_everywhere(&mut self, token: usize, room: usize) {
        for shard in 0..self.shards.len() {
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
    pub(super) fn present(
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
        let socket = Socket::new(peer, &self.net);
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
            late: HashSet::new(),
            gone: false,
        });
    }

    pub(super) fn pass(&mut self, pause: Duration) {
        self.now = Now {
            tick: self.now.tick.after(pause),
            unix: self.now.unix.after(pause),
        };
    }

    /// Runs turns of every shard, except those that oversleep.
    pub(super) fn turns(&mut self, count: usize) {
        for _ in 0..count {
            for shard in 0..self.shards.len() {
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
}

/// The agreement between a browser and the server.
fn agreement() -> Agreement {
    let mut offers = Offers::default();
    offers.read(b"permessage-deflate; client_max_window_bits");
    offers.agree(12, 12).expect("an offer")
}
