//! The shards that ship, two for each process, driven as their threads would drive them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rtrb::Consumer;
use tokio::sync::oneshot;
use uproar::shard::cluster::{ClusterLink, FromCluster, ToCluster};
use uproar::shard::command::{Command, PendingConnection};
use uproar::shard::core::{Core, Parts};
use uproar::shard::doorbell::Doorbell;
use uproar::shard::estate::{Inherited, RoomsEstate, ViewersCursor, merge_rooms};
use uproar::shard::inbox::{Ends, Inbox, Mailboxes};
use uproar::shard::mailbox::{MailboxSender, mailbox};
use uproar::shard::review::ReviewRequest;
use uproar::shard::settings::{ShardSettings, SharedBudgets};
use uproar_proto::base::clock::{Now, Shift, Tick};
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::MAILBOX_COMMANDS;
use uproar_proto::chat::review::{Rewrite, Verdict};
use uproar_proto::cluster::engine::LogsEstate;
use uproar_proto::cluster::record::Entry;
use uproar_proto::room::RoomSettings;
use uproar_proto::room::review::Fallback;

use crate::parts::{alone, room_settings};
use crate::simulation::dice::Dice;
use crate::simulation::net::{FakeRing, Net, Socket};
use crate::simulation::turn::Kernel;

/// Shards of a process.
pub(super) const SHARDS: usize = 2;
/// Connections of a shard that wait for a word on their token.
const PARKED_MAX: usize = 8;
/// A review without a verdict ends after this.
const REVIEW_TIMEOUT: Duration = Duration::from_millis(300);

struct CoreShard {
    core: Core<FakeRing>,
    inbox: Inbox<Socket>,
    control: MailboxSender<Command<Socket>>,
    from_cluster: MailboxSender<Command<Socket>>,
    to_cluster: Consumer<ToCluster>,
    to_reviewer: Consumer<ReviewRequest>,
    /// What its review handler has, and when it answers.
    reviewed: Vec<(Tick, ReviewRequest)>,
}

impl CoreShard {
    /// The review handler takes requests, and answers: soon, or later than the room waits, or never. Returns how often.
    fn review(&mut self, dice: &mut Dice, now: Tick) -> u64 {
        while let Ok(request) = self.to_reviewer.pop() {
            let due = now.after(Duration::from_millis(dice.below(400) as u64));
            self.reviewed.push((due, request));
        }
        let due = self.reviewed.extract_if(.., |(due, _)| *due <= now);
        let mut verdicts = 0;
        for (_, request) in due {
            let verdict = match dice.below(6) {
                0 => continue,
                1 => None,
                2 => Some(Verdict::Deny("no".into())),
                _ => Some(Verdict::Allow(Rewrite {
                    content: "reviewed".into(),
                    attributes_json: None,
                })),
            };
            let verdict = Command::Verdict(request.room, request.ticket, verdict);
            self.core.command(verdict);
            verdicts += 1;
        }
        verdicts
    }
}

fn shard_settings() -> ShardSettings {
    ShardSettings {
        stripe_members_min: 2,
        pace_ceiling: Duration::from_millis(20),
        review_timeout: REVIEW_TIMEOUT,
        ..ShardSettings::open(SHARDS)
    }
}

/// The shards of one process.
pub(super) struct Cores {
    shards: Vec<CoreShard>,
    settings: ShardSettings,
    pub(super) net: Net,
    /// Verdicts that its review handler gave.
    pub(super) verdicts: u64,
}

impl Cores {
    /// Makes the shards of a process that knows all rooms.
    pub(super) fn new(rooms: &[RoomId], seed: u64, now: Now) -> Self {
        Self::on(Net::default(), rooms, seed, now)
    }

    fn on(net: Net, rooms: &[RoomId], seed: u64, now: Now) -> Self {
        let settings = shard_settings();
        let bell = || Arc::new(Doorbell::new().expect("an eventfd"));
        let bells: Vec<_> = (0..SHARDS).map(|_| bell()).collect();
        let budgets = SharedBudgets::default();
        let mailboxes = Mailboxes::new(&bells, MAILBOX_COMMANDS);
        let ends = mailboxes.shards.into_iter().zip(mailboxes.control);
        let ends = ends.zip(mailboxes.cluster).enumerate();
        let shard = |(id, ((ends, control), from_cluster))| {
            let Ends {
                mailboxes,
                requests,
                inbox,
            } = ends;
            let (to, to_cluster) = mailbox(&bells[id]);
            let (reviews, to_reviewer) = mailbox(&bells[id]);
            let io = FakeRing {
                net: Rc::clone(&net),
                ..FakeRing::default()
            };
            let parts = Parts {
                id,
                settings: settings.clone(),
                mailboxes,
                requests,
                reviews,
                budgets: Arc::clone(&budgets),
                cluster: Some(ClusterLink {
                    mailbox: to,
                    joins_parked_max: PARKED_MAX,
                }),
                seed: seed.wrapping_mul(31) + id as u64,
                ..alone(io)
            };
            CoreShard {
                core: Core::new(parts, now),
                inbox,
                control,
                from_cluster,
                to_cluster,
                to_reviewer,
                reviewed: Vec::new(),
            }
        };
        let shards = ends.map(shard).collect();
        let mut cores = Self {
            shards,
            settings: settings.clone(),
            net: Rc::clone(&net),
            verdicts: 0,
        };
        for room in rooms {
            cores.put(*room);
        }
        cores
    }

    fn put(&mut self, room: RoomId) {
        let (answer, _answered) = oneshot::channel();
        let home = self.settings.home(room);
        let control = &mut self.shards[home].control;
        // A third of the rooms have a review handler, whichever node is their home.
        let review = match room.as_bytes()[2] % 6 {
            0 => Some(Fallback::Allow),
            1 => Some(Fallback::Deny),
            _ => None,
        };
        let settings = RoomSettings {
            review,
            ..room_settings()
        };
        control.deliver(Command::PutRoom(room, settings, answer));
    }

    /// The cluster tells a shard something.
    pub(super) fn tell(&mut self, shard: usize, told: FromCluster) {
        let mailbox = &mut self.shards[shard].from_cluster;
        mailbox.deliver(Command::Cluster(Box::new(told)));
    }

    /// The cluster tells the shard of a room something.
    pub(super) fn tell_home(&mut self, room: RoomId, told: FromCluster) {
        self.tell(self.settings.home(room), told);
    }

    /// Splits entries by the shards of their rooms.
    pub(super) fn split(&self, entries: &[Entry]) -> Vec<Vec<Entry>> {
        let own = |shard| {
            let own = entries
                .iter()
                .filter(move |entry| self.settings.home(entry.room) == shard);
            own.cloned().collect()
        };
        (0..SHARDS).map(own).collect()
    }

    /// A connection whose token is good comes to a shard.
    pub(super) fn enter(&mut self, shard: usize, pending: Box<PendingConnection<Socket>>) {
        self.shards[shard].core.enter(pending);
    }

    /// Runs a turn of each shard. Returns what they tell the cluster, and by which shard.
    pub(super) fn turn(&mut self, dice: &mut Dice, now: Now) -> Vec<(usize, ToCluster)> {
        let mut told = Vec::new();
        for (id, shard) in self.shards.iter_mut().enumerate() {
            shard.control.flush();
            shard.from_cluster.flush();
            shard.core.begin(now);
            self.verdicts += shard.review(dice, now.tick);
            let mut kernel = Kernel {
                dice,
                net: &self.net,
                core: &mut shard.core,
                faults: false,
                all: false,
            };
            kernel.run(&mut shard.inbox);
            while let Ok(item) = shard.to_cluster.pop() {
                told.push((id, item));
            }
        }
        told
    }

    /// Tells every shard to freeze; each answers.
    pub(super) fn freeze(&mut self) -> Vec<oneshot::Receiver<()>> {
        let ask = |shard: &mut CoreShard| {
            let (answer, answered) = oneshot::channel();
            shard.control.deliver(Command::Freeze(answer));
            answered
        };
        self.shards.iter_mut().map(ask).collect()
    }

    /// Tells every shard to go on.
    pub(super) fn thaw(&mut self) {
        for shard in &mut self.shards {
            shard.control.deliver(Command::Thaw);
        }
    }

    /// Hands frozen shards over to those of another process; also returns what these tell the cluster.
    pub(super) fn succeeded_by(
        self,
        rooms: &[RoomId],
        seed: u64,
        now: Now,
        logs: &LogsEstate,
        dice: &mut Dice,
    ) -> (Self, Vec<(usize, ToCluster)>) {
        let (mut parts, mut viewers) = (Vec::new(), Vec::new());
        for shard in &self.shards {
            parts.push(shard.core.rooms_estate());
            let mut cursor = ViewersCursor::default();
            while !cursor.is_end() {
                let (some, next) = shard.core.viewers(cursor, 3);
                viewers.extend(some.into_iter().map(|(socket, record)| Inherited {
                    socket: socket.duplicate(),
                    record,
                    share: None,
                }));
                cursor = next;
            }
        }
        let estate = merge_rooms(&parts, Some(logs)).expect("of this process");
        let estate = RoomsEstate::parse(estate, Shift::default()).expect("whole");
        assert_eq!(estate.logs(), Some(logs), "it comes as it went");
        let estate = Arc::new(estate);
        let mut next = Self::on(Rc::clone(&self.net), rooms, seed, now);
        for shard in &mut next.shards {
            let inherits = Command::InheritRooms(Arc::clone(&estate));
            shard.control.deliver(inherits);
        }
        let mut told = next.turn(dice, now);
        told.extend(next.turn(dice, now));
        next.take_over(viewers, dice, now);
        drop(self);
        for shard in &mut next.shards {
            shard.control.deliver(Command::Resume);
        }
        (next, told)
    }

    /// Viewers come to the shards, one by one, until the homes of their rooms have counted them.
    fn take_over(&mut self, viewers: Vec<Inherited<Socket>>, dice: &mut Dice, now: Now) {
        let mut answers = Vec::new();
        for viewer in viewers {
            let core = &mut self.shards[dice.below(SHARDS)].core;
            core.begin(now);
            let carried = core.inherit(vec![viewer]);
            assert_eq!(carried.viewers, 1, "each is carried over: {carried:?}");
            let (answer, answered) = oneshot::channel();
            core.answer_inherited(answer, carried);
            answers.push(answered);
        }
        while !(answers.iter_mut())
            .all(|answer| answer.try_recv().is_ok() || answer.is_terminated())
        {
            self.turn(dice, now);
        }
    }

    /// Whether something waits for the next turn.
    pub(super) fn is_busy(&self) -> bool {
        let waits = |shard: &CoreShard| {
            !shard.inbox.is_empty() || shard.core.io().pending_sends().next().is_some()
        };
        self.shards.iter().any(waits)
    }
}
