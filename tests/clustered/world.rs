//! Two nodes of two shards each, and the simplest cluster between them: one log for all hash slots, one home, no loss.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rtrb::Consumer;
use tokio::sync::oneshot;
use uproar::net::io::Key;
use uproar::shard::cluster::{
    ClusterLink, FromCluster, Search, ToCluster, TokenOutcome, ticket_shard,
};
use uproar::shard::command::{AdmitError, Answer, Command};
use uproar::shard::core::{Core, Parts};
use uproar::shard::doorbell::Doorbell;
use uproar::shard::durability::LoggedFrames;
use uproar::shard::inbox::{Ends, Inbox, Mailboxes};
use uproar::shard::mailbox::{MailboxSender, mailbox};
use uproar::shard::review::ReviewRequest;
use uproar::shard::settings::ShardSettings;
use uproar_proto::base::clock::{Now, UnixTime};
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::MAILBOX_COMMANDS;
use uproar_proto::chat::encode;
use uproar_proto::cluster::engine::{Outcome, RequestKey, Ticket};
use uproar_proto::cluster::message::Ask;
use uproar_proto::cluster::record::Entry;
use uproar_proto::cluster::{Epoch, HashSlot, Incarnation, Number, Sequence};
use uproar_proto::room::RoomSettings;
use uproar_proto::token::{Capability, TokenId};
use uproar_testing::client::text;
use uproar_testing::io::FakeIo;
use uproar_testing::parts::{alone, room_settings, start};
use uproar_testing::single_shard::viewer;

/// Shards of a node.
pub(super) const SHARDS: usize = 2;
const NODES: usize = 2;

/// One shard of one node, with the other ends of its mailboxes.
pub(super) struct Shard {
    pub(super) core: Core<FakeIo>,
    pub(super) inbox: Inbox<()>,
    pub(super) from_cluster: MailboxSender<Command<()>>,
    pub(super) spooled: MailboxSender<Command<()>>,
    pub(super) to_archive: Consumer<LoggedFrames>,
    pub(super) to_reviewer: Consumer<ReviewRequest>,
    /// Why connections were not admitted.
    pub(super) rejected: Vec<AdmitError>,
    to_cluster: Consumer<ToCluster>,
    got: HashMap<Key, Vec<u8>>,
}

/// A viewer, where it was installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Viewer {
    pub(super) node: usize,
    pub(super) shard: usize,
    pub(super) key: Key,
}

/// What the cluster does with what shards tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Log {
    /// Everything, at once.
    Answers,
    /// Requests and tokens wait for [`World::answer`].
    Stands,
}

pub(super) struct World {
    pub(super) nodes: Vec<Vec<Shard>>,
    pub(super) now: Now,
    pub(super) home: usize,
    pub(super) log: Log,
    /// The entries, in order.
    pub(super) entries: Vec<Entry>,
    /// What shards said of their archives, newest last.
    pub(super) archived: Vec<(usize, HashSlot, Sequence)>,
    /// Searches for rooms that shards do not know: node, shard, number.
    pub(super) searches: Vec<(usize, usize, Search)>,
    /// The node and shard that take no turn.
    pub(super) asleep: Option<(usize, usize)>,
    /// Answers of shards that were of an epoch that is over.
    pub(super) fenced: usize,
    // Shards that are quiet, with their node and the freeze.
    quiet: HashSet<(usize, usize, u32)>,
    epoch: Epoch,
    numbers: u64,
    // Requests without an outcome, by origin and number.
    kept: BTreeMap<(u64, u64), (Ticket, Ask)>,
    used: HashSet<TokenId>,
    waiting: Vec<(usize, usize, ToCluster)>,
    settings: ShardSettings,
    tokens: usize,
}

pub(super) fn room() -> RoomId {
    RoomId::parse("abcdefghijkl").unwrap()
}

/// A request of a client.
pub(super) fn says(content: &str) -> String {
    format!(r#"{{"Action":"SEND_MESSAGE","RequestId":"r-{content}","Content":"{content}"}}"#)
}

fn shard(
    id: usize,
    node: usize,
    ends: Ends<()>,
    rows: [MailboxSender<Command<()>>; 2],
    settings: &ShardSettings,
    now: Now,
) -> Shard {
    let bell = Arc::new(Doorbell::new().unwrap());
    let (to_cluster, of_cluster) = mailbox(&bell);
    let (archive, to_archive) = mailbox(&bell);
    let (reviews, to_reviewer) = mailbox(&bell);
    let [from_cluster, spooled] = rows;
    let parts = Parts {
        id,
        settings: settings.clone(),
        mailboxes: ends.mailboxes,
        requests: ends.requests,
        archive: Some(archive),
        reviews,
        cluster: Some(ClusterLink {
            mailbox: to_cluster,
            joins_parked_max: 4,
        }),
        seed: (100 * node + id) as u64,
        ..alone(FakeIo::default())
    };
    Shard {
        core: Core::new(parts, now),
        inbox: ends.inbox,
        from_cluster,
        spooled,
        to_archive,
        to_reviewer,
        rejected: Vec::new(),
        to_cluster: of_cluster,
        got: HashMap::new(),
    }
}

fn node((number, places): (usize, usize), settings: &ShardSettings, now: Now) -> Vec<Shard> {
    let bell = || Arc::new(Doorbell::new().unwrap());
    let bells: Vec<_> = (0..SHARDS).map(|_| bell()).collect();
    let mailboxes = Mailboxes::new(&bells, places);
    let rows = mailboxes.cluster.into_iter().zip(mailboxes.archive);
    let shards = mailboxes.shards.into_iter().zip(rows).enumerate();
    shards
        .map(|(id, (ends, (cluster, archive)))| {
            shard(id, number, ends, [cluster, archive], settings, now)
        })
        .collect()
}

impl World {
    /// The nodes, which know the room if `settings` are given. Members are spread over all shards.
    pub(super) fn new(settings: Option<RoomSettings>) -> Self {
        Self::made(settings, MAILBOX_COMMANDS)
    }

    /// The nodes with a room, whose mailboxes have this many places.
    pub(super) fn with_places(places: usize) -> Self {
        Self::made(Some(room_settings()), places)
    }

    fn made(settings: Option<RoomSettings>, places: usize) -> Self {
        let shard_settings = ShardSettings {
            stripe_members_min: 1,
            pace_ceiling: Duration::ZERO,
            room_rates: true,
            ..ShardSettings::open(SHARDS)
        };
        let now = start();
        let mut world = Self {
            nodes: (0..NODES)
                .map(|number| node((number, places), &shard_settings, now))
                .collect(),
            now,
            home: 0,
            log: Log::Answers,
            entries: Vec::new(),
            archived: Vec::new(),
            searches: Vec::new(),
            asleep: None,
            fenced: 0,
            quiet: HashSet::new(),
            epoch: Epoch(1),
            numbers: 0,
            kept: BTreeMap::new(),
            used: HashSet::new(),
            waiting: Vec::new(),
            settings: shard_settings,
            tokens: 0,
        };
        if let Some(settings) = settings {
            (0..NODES).for_each(|node| world.put_room(node, settings.clone()));
        }
        world
    }

    pub(super) fn with_room() -> Self {
        Self::new(Some(room_settings()))
    }

    /// The number of the room's home shard, the same on each node.
    pub(super) fn home_number(&self) -> usize {
        self.settings.home(room())
    }

    /// The shard of a node that is the room's home shard there.
    pub(super) fn home_shard(&mut self, node: usize) -> &mut Shard {
        let home = self.settings.home(room());
        &mut self.nodes[node][home]
    }

    pub(super) fn put_room(&mut self, node: usize, settings: RoomSettings) {
        let now = self.now;
        let (answer, _answered) = oneshot::channel();
        let core = &mut self.home_shard(node).core;
        core.begin(now);
        core.command(Command::PutRoom(room(), settings, answer));
    }

    /// Presents a token that nobody had before to a node; returns its number.
    pub(super) fn present_new(&mut self, node: usize) -> usize {
        self.tokens += 1;
        self.present(node, self.tokens);
        self.tokens
    }

    pub(super) fn present(&mut self, node: usize, token: usize) {
        let mut pending = viewer((), room(), token, self.now, token.is_multiple_of(2));
        let capabilities = &mut pending.grant.capabilities;
        capabilities.insert(Capability::DeleteMessage);
        capabilities.insert(Capability::DisconnectUser);
        self.nodes[node][0].core.enter(pending);
    }

    /// A viewer that has joined by a node.
    pub(super) fn join(&mut self, node: usize) -> Viewer {
        let before = self.viewers();
        self.present_new(node);
        self.turns(4);
        let joined = self
            .viewers()
            .into_iter()
            .find(|viewer| !before.contains(viewer));
        joined.expect("it was admitted")
    }

    /// The control thread answers the newest search.
    pub(super) fn searched(&mut self) {
        let (node, shard, search) = *self.searches.last().expect("one was asked");
        let core = &mut self.nodes[node][shard].core;
        core.begin(self.now);
        core.command(Command::Searched(search));
    }

    /// All viewers.
    pub(super) fn viewers(&self) -> Vec<Viewer> {
        let mut all = Vec::new();
        for (node, shards) in self.nodes.iter().enumerate() {
            for (shard, Shard { core, .. }) in shards.iter().enumerate() {
                let keys = core.io().receives.iter();
                all.extend(keys.map(|key| Viewer {
                    node,
                    shard,
                    key: *key,
                }));
            }
        }
        all
    }

    /// A viewer sends a request.
    pub(super) fn send(&mut self, viewer: Viewer, request: &str) {
        let frame = text(request.as_bytes());
        let mut buffer = frame.clone();
        buffer.resize(frame.len() + 64, 0xAA);
        let core = &mut self.nodes[viewer.node][viewer.shard].core;
        core.begin(self.now);
        let received = Some((&mut buffer[..], frame.len()));
        core.received(viewer.key, received, &Ok(frame.len()), true);
    }

    /// Gives the home shard of a node a command of its control thread.
    pub(super) fn command<T>(
        &mut self,
        node: usize,
        command: impl FnOnce(Answer<T>) -> Command<()>,
    ) -> oneshot::Receiver<Result<T, uproar::shard::command::Refused>> {
        let (answer, answered) = oneshot::channel();
        let now = self.now;
        let core = &mut self.home_shard(node).core;
        core.begin(now);
        core.command(command(answer));
        answered
    }

    /// What a viewer got, readable as far as it is text.
    pub(super) fn got(&self, viewer: Viewer) -> String {
        let got = self.nodes[viewer.node][viewer.shard].got.get(&viewer.key);
        String::from_utf8_lossy(got.map_or(&[], Vec::as_slice)).into_owned()
    }

    /// The contents of the messages that a viewer got, in order.
    pub(super) fn heard(&self, viewer: Viewer) -> Vec<String> {
        let got = self.got(viewer);
        let contents = got.split(r#""Content":""#).skip(1);
        contents
            .map(|rest| rest.split('"').next().unwrap().to_owned())
            .collect()
    }

    pub(super) fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.pass(Duration::from_millis(1));
            for node in 0..NODES {
                for shard in 0..SHARDS {
                    if self.asleep != Some((node, shard)) {
                        self.turn(node, shard);
                    }
                }
            }
        }
    }

    pub(super) fn pass(&mut self, by: Duration) {
        self.now = Now {
            tick: self.now.tick.after(by),
            unix: self.now.unix.after(by),
        };
    }

    fn turn(&mut self, node: usize, number: usize) {
        let shard = &mut self.nodes[node][number];
        shard.from_cluster.flush();
        shard.spooled.flush();
        let core = &mut shard.core;
        core.begin(self.now);
        shard.inbox.take(core);
        for (key, outgoing) in std::mem::take(&mut core.io_mut().sends) {
            let len = outgoing.remaining();
            shard.got.entry(key).or_default().extend(outgoing.copy(len));
            core.sent(key, outgoing, &Ok(len));
        }
        let _plan = core.settle();
        core.check();
        while let Some((_, error)) = core.next_rejected() {
            shard.rejected.push(error);
        }
        core.flush_mailboxes();
        while let Ok(item) = self.nodes[node][number].to_cluster.pop() {
            self.hear(node, number, item);
        }
    }

    fn hear(&mut self, node: usize, shard: usize, item: ToCluster) {
        match item {
            ToCluster::Ask { .. } | ToCluster::UseToken { .. } if self.log == Log::Stands => {
                self.waiting.push((node, shard, item));
            }
            ToCluster::Ask { ticket, ask } => {
                assert_eq!(ticket_shard(ticket), shard);
                self.numbers += 1;
                let place = (node as u64, self.numbers);
                self.kept.insert(place, (ticket, ask.clone()));
                self.author(place, ask);
            }
            ToCluster::Authored { epoch, entry } if epoch == self.epoch => self.append(entry),
            ToCluster::Refused { key, code, text } if key.epoch == self.epoch => {
                self.tell(
                    (key.origin.bits(), key.number.0),
                    Outcome::Refused(code, text),
                    None,
                );
            }
            ToCluster::Authored { .. } | ToCluster::Refused { .. } => self.fenced += 1,
            ToCluster::UseToken { claim, token, .. } => {
                let first = self.used.insert(token);
                let outcome = if first {
                    TokenOutcome::First
                } else {
                    TokenOutcome::Again
                };
                self.tell_shard(node, shard, FromCluster::TokenUsed { claim, outcome });
            }
            ToCluster::Search(search) => self.searches.push((node, shard, search)),
            ToCluster::Archived { slot, sequence, .. } => {
                self.archived.push((node, slot, sequence));
            }
            ToCluster::Quiet(freeze) => {
                self.quiet.insert((node, shard, freeze));
                if (0..SHARDS).all(|shard| self.quiet.contains(&(node, shard, freeze))) {
                    for shard in 0..SHARDS {
                        self.tell_shard(node, shard, FromCluster::Halted(freeze));
                    }
                }
            }
            ToCluster::Thawed(_)
            | ToCluster::Viewers(_)
            | ToCluster::TellUser(_)
            | ToCluster::Replace(_) => {}
        }
    }

    fn author(&mut self, (origin, number): (u64, u64), ask: Ask) {
        let key = RequestKey {
            slot: HashSlot::of(ask.room),
            epoch: self.epoch,
            origin: Incarnation::new(origin),
            number: Number(number),
            not_before: self
                .entries
                .last()
                .map_or(UnixTime::default(), |entry| entry.sent),
        };
        let shard = self.settings.home(ask.room);
        self.tell_shard(self.home, shard, FromCluster::Author { key, ask });
    }

    fn append(&mut self, entry: Entry) {
        let place = (entry.origin.bits(), entry.number.0);
        if !self.kept.contains_key(&place) {
            return;
        }
        self.deliver(&entry);
        self.tell(place, Outcome::Committed, Some(entry.sent));
    }

    /// Appends an entry to the log, for all nodes.
    pub(super) fn deliver(&mut self, entry: &Entry) {
        self.entries.push(entry.clone());
        let sequence = Sequence(self.entries.len() as u64);
        for node in 0..NODES {
            let shard = self.settings.home(entry.room);
            let deliver = FromCluster::Deliver {
                slot: HashSlot::of(entry.room),
                epoch: self.epoch,
                sequence,
                is_home_here: node == self.home,
                entries: vec![entry.clone()],
            };
            self.tell_shard(node, shard, deliver);
        }
    }

    fn tell(&mut self, place: (u64, u64), outcome: Outcome, sent: Option<UnixTime>) {
        if let Some((ticket, _)) = self.kept.remove(&place) {
            let node = usize::try_from(place.0).unwrap();
            self.tell_shard(
                node,
                ticket_shard(ticket),
                FromCluster::Told {
                    ticket,
                    outcome,
                    sent,
                },
            );
        }
    }

    pub(super) fn tell_shard(&mut self, node: usize, shard: usize, told: FromCluster) {
        let mailbox = &mut self.nodes[node][shard].from_cluster;
        mailbox.deliver(Command::Cluster(Box::new(told)));
    }

    /// Ends what waited while the log stood still, without an outcome.
    pub(super) fn give_up(&mut self) {
        for (node, shard, item) in std::mem::take(&mut self.waiting) {
            let told = match item {
                ToCluster::Ask { ticket, .. } => FromCluster::Told {
                    ticket,
                    outcome: Outcome::Unknown,
                    sent: None,
                },
                ToCluster::UseToken { claim, .. } => FromCluster::TokenUsed {
                    claim,
                    outcome: TokenOutcome::Unknown,
                },
                other => panic!("{other:?} needs no answer"),
            };
            self.tell_shard(node, shard, told);
        }
    }

    /// Answers what waited while the log stood still.
    pub(super) fn answer(&mut self) {
        self.log = Log::Answers;
        for (node, shard, item) in std::mem::take(&mut self.waiting) {
            self.hear(node, shard, item);
        }
    }

    /// Makes another node the home: the old one is fenced, the new one gets all requests without an outcome.
    pub(super) fn move_home(&mut self, to: usize) {
        for shard in 0..SHARDS {
            self.tell_shard(self.home, shard, FromCluster::Fenced(HashSlot::of(room())));
        }
        self.home = to;
        self.epoch = Epoch(self.epoch.0 + 1);
        let kept: Vec<_> = self
            .kept
            .iter()
            .map(|(place, (_, ask))| (*place, ask.clone()))
            .collect();
        for (place, ask) in kept {
            self.author(place, ask);
        }
    }

    /// Number of requests without an outcome.
    pub(super) fn unresolved(&self) -> usize {
        self.kept.len()
    }
}

/// The name of the user whose token has this number.
pub(super) fn user(token: usize) -> String {
    let pending = viewer((), room(), token, start(), false);
    encode::sender_name(&pending.grant.sender_json)
}
