//! The control thread's interface to the shards: room settings, moderation and events in, answers out.

mod moderation;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::command::{
    Answer, ApiMessage, ChangedSettings, Command, Doors, Eviction, PendingConnection, Refused,
    Said, UserEvent,
};
use super::mailbox::MailboxSender;
use super::settings::{ShardId, ShardSettings, SharedBudgets};
pub use super::shard_room::ruled::{DENIED_AS_ASKED, KEPT};
use super::survey::{Presence, RoomFigures, Survey, TopRooms, Wanted, merge};
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::base::limits::{CALL_ANSWER_MAX, SHARD_ANSWER_MAX};
use uproar_proto::base::rate::Rate;
use uproar_proto::chat::review::Verdict;
use uproar_proto::cluster::crowd::{RoomUser, join_users};
use uproar_proto::extension::tallies::{TallyAnswer, TallyFault, TallyOrder};
use uproar_proto::extension::unique::UniqueUsers;
use uproar_proto::room::RoomSettings;
use uproar_proto::room::review::Ticket;

/// Sends commands to the shards. Cheap to clone; used only on the control thread.
#[derive(Clone)]
pub struct Gateway {
    mailboxes: Rc<RefCell<Vec<MailboxSender<Command<OwnedFd>>>>>,
    // Those that the shards have, or are about to have.
    settings: Rc<RefCell<ShardSettings>>,
    // Whether the cluster charges the account's rates.
    is_node: bool,
    // What the shards share.
    shared: SharedBudgets,
    // From an event or moderation to the shard's answer, at most.
    said_max: Duration,
    // Whether a task is running that sends the items which full mailboxes did not take.
    retrying: Rc<Cell<bool>>,
}

impl Gateway {
    /// Makes a gateway with one mailbox to each shard, in order.
    pub fn new(mailboxes: Vec<MailboxSender<Command<OwnedFd>>>, settings: ShardSettings) -> Self {
        Self {
            mailboxes: Rc::new(RefCell::new(mailboxes)),
            settings: Rc::new(RefCell::new(settings)),
            is_node: false,
            shared: SharedBudgets::default(),
            said_max: SHARD_ANSWER_MAX,
            retrying: Rc::default(),
        }
    }

    /// Makes it the gateway of shards that share this.
    #[must_use]
    pub fn sharing(mut self, shared: SharedBudgets) -> Self {
        self.shared = shared;
        self
    }

    /// What the shards share.
    pub fn shared(&self) -> &SharedBudgets {
        &self.shared
    }

    /// Makes it the gateway of a cluster's node: what is said in a room is answered by the cluster's log, which stands
    /// still for some seconds when a broker dies, and charged the account's rates before it comes to a shard.
    #[must_use]
    pub fn of_cluster(mut self) -> Self {
        self.is_node = true;
        self.said_max = CALL_ANSWER_MAX;
        self
    }

    /// Adds the room to its home shard, or changes its settings; returns once the shard has done so.
    pub async fn put_room(&self, room: RoomId, settings: RoomSettings) -> Result<(), Refused> {
        let put = |answer| Command::PutRoom(room, settings, answer);
        self.ask(room, SHARD_ANSWER_MAX, put).await
    }

    /// Forgets the room and closes its connections (code 1000).
    pub async fn delete_room(&self, room: RoomId) -> Result<(), Refused> {
        let delete = |answer| Command::DeleteRoom(room, answer);
        self.ask(room, SHARD_ANSWER_MAX, delete).await
    }

    /// Broadcasts an application event. `attributes_json` is a JSON object, sent unchanged.
    pub async fn send_event(
        &self,
        room: RoomId,
        name: &str,
        attributes_json: &str,
    ) -> Result<FrameId, Refused> {
        let (name, attributes_json) = (name.into(), attributes_json.into());
        let said = self.ask(room, self.said_max, |answer| Command::SendEvent {
            room,
            name,
            attributes_json,
            answer,
        });
        said.await.map(|said| said.id)
    }

    /// Says messages in a room, in this order; each is answered once it is in the room's order, or refused. Of a reviewed
    /// one that waits for its verdict.
    pub async fn say(&self, room: RoomId, speeches: Vec<ApiMessage>) -> Vec<Result<Said, Refused>> {
        let mut answers = Vec::with_capacity(speeches.len());
        for speech in speeches {
            let (answer, answered) = oneshot::channel();
            let speech = Box::new(speech);
            self.deliver(self.home(room), Command::SendMessage(room, speech, answer));
            answers.push(answered);
        }
        all_of(answers, CALL_ANSWER_MAX).await
    }

    /// Sends an event through one user's connections to this server; the answer is how many.
    ///
    /// # Errors
    ///
    /// As [`Gateway::ask_each`].
    pub async fn tell_user(&self, event: &UserEvent) -> Result<u64, Refused> {
        let tell = |answer| Command::SendUserEvent(Box::new(event.clone()), answer);
        let sent = self.ask_each(tell, SHARD_ANSWER_MAX).await?;
        Ok(sent.into_iter().sum())
    }

    /// Does what is asked of a room's tallies, at its home.
    ///
    /// # Errors
    ///
    /// Why it is not done.
    pub async fn order_tally(&self, room: RoomId, order: TallyOrder) -> TallyAnswer {
        let (answer, answered) = oneshot::channel();
        let order = Command::Tally(room, Box::new(order), answer);
        self.deliver(self.home(room), order);
        let answered = tokio::time::timeout(self.said_max, answered).await;
        answered.map_or(Err(TallyFault::Late), |answered| {
            answered.unwrap_or(Err(TallyFault::Late))
        })
    }

    /// As [`Gateway::delete_message`], of several messages in one go: nothing of this server comes between them.
    pub async fn delete_messages(
        &self,
        room: RoomId,
        ids: &[String],
        reason: &str,
    ) -> Vec<Result<Said, Refused>> {
        let mut answers = Vec::with_capacity(ids.len());
        for id in ids {
            let (answer, answered) = oneshot::channel();
            let delete = Command::DeleteMessage {
                room,
                id: id.as_str().into(),
                reason: reason.into(),
                answer,
            };
            self.deliver(self.home(room), delete);
            answers.push(answered);
        }
        all_of(answers, self.said_max).await
    }

    /// Broadcasts `aws:DELETE_MESSAGE`; the answer is the event's id.
    pub async fn delete_message(
        &self,
        room: RoomId,
        message_id: &str,
        reason: &str,
    ) -> Result<FrameId, Refused> {
        let (id, reason) = (message_id.into(), reason.into());
        let said = self.ask(room, self.said_max, |answer| Command::DeleteMessage {
            room,
            id,
            reason,
            answer,
        });
        said.await.map(|said| said.id)
    }

    /// Takes back all messages of a user, or of everybody; the answer is the event's id.
    pub async fn purge(
        &self,
        room: RoomId,
        user_id: Option<&str>,
        reason: &str,
    ) -> Result<FrameId, Refused> {
        let (user_id, reason) = (user_id.map(Box::from), reason.into());
        let said = self.ask(room, self.said_max, |answer| Command::Purge {
            room,
            user_id,
            reason,
            answer,
        });
        said.await.map(|said| said.id)
    }

    /// Broadcasts `aws:DISCONNECT_USER`, then closes every connection of the user in the room. In a room where kicks ban this
    /// one does, unless the user `is_banned` already, which it tells.
    pub async fn disconnect_user(
        &self,
        room: RoomId,
        (user_id, reason): (&str, &str),
        is_banned: bool,
    ) -> Result<FrameId, Refused> {
        let eviction = Eviction {
            user_id: user_id.into(),
            reason: reason.into(),
        };
        let said = self.ask(room, self.said_max, |answer| Command::DisconnectUser {
            room,
            eviction,
            is_banned,
            answer,
        });
        said.await.map(|said| said.id)
    }

    /// The first `count` rooms by viewers and by messages a minute, counted by each shard in some turns.
    ///
    /// # Errors
    ///
    /// As [`Gateway::ask_each`].
    pub async fn top_rooms(&self, count: usize) -> Result<TopRooms, Refused> {
        let top = |answer| Command::Survey(Survey::Top { count, answer });
        let answers = self.ask_each(top, SHARD_ANSWER_MAX).await?.into_iter();
        let (viewers, rates): (Vec<_>, Vec<_>) =
            answers.map(|top| (top.by_viewers, top.by_rate)).unzip();
        Ok(TopRooms {
            by_viewers: merge(viewers, count, |room| room.viewers),
            by_rate: merge(rates, count, |room| room.per_minute),
            by_audience: Vec::new(),
        })
    }

    /// The first `count` rooms with viewers, by their number on all servers of the cluster.
    ///
    /// # Errors
    ///
    /// As [`Gateway::ask_each`].
    pub async fn active_rooms(&self, count: usize) -> Result<Vec<RoomFigures>, Refused> {
        let top = |answer| Command::Survey(Survey::Top { count, answer });
        let answers = self.ask_each(top, SHARD_ANSWER_MAX).await?.into_iter();
        let of_shards = answers.map(|top| top.by_audience);
        Ok(merge(of_shards, count, |room| room.audience.viewers))
    }

    /// The users with viewers in a room on this server.
    ///
    /// # Errors
    ///
    /// As [`Gateway::ask_each`].
    pub async fn unique_users(&self, room: RoomId) -> Result<UniqueUsers, Refused> {
        let unique = |answer| Command::Survey(Survey::Unique { room, answer });
        let mut all = UniqueUsers::default();
        for users in self.ask_each(unique, SHARD_ANSWER_MAX).await? {
            all.merge(users);
        }
        Ok(all)
    }

    /// The first users of a room on this server behind one, by their ids.
    ///
    /// # Errors
    ///
    /// As [`Gateway::ask_each`].
    pub async fn room_users(
        &self,
        room: RoomId,
        after: &str,
        most: usize,
    ) -> Result<Vec<RoomUser>, Refused> {
        let users = |answer| {
            let after = after.into();
            Command::Survey(Survey::Users {
                room,
                after,
                most,
                answer,
            })
        };
        let pages = self.ask_each(users, SHARD_ANSWER_MAX).await?;
        Ok(join_users(pages, most))
    }

    /// The figures of these rooms, of each shard those that are at home there.
    ///
    /// # Errors
    ///
    /// As [`Gateway::ask_each`].
    pub async fn room_figures(&self, rooms: &[RoomId]) -> Result<Vec<RoomFigures>, Refused> {
        let of = |answer| {
            let rooms = rooms.to_vec();
            Command::Survey(Survey::Of { rooms, answer })
        };
        Ok(self.ask_each(of, SHARD_ANSWER_MAX).await?.concat())
    }

    /// Frames that slow members did not get, of each of these rooms, by shard.
    ///
    /// # Errors
    ///
    /// As [`Gateway::ask_each`].
    pub async fn shed_in(&self, rooms: &[RoomId]) -> Result<Vec<Vec<u64>>, Refused> {
        let shed = |answer| {
            let rooms = rooms.to_vec();
            Command::Survey(Survey::Shed { rooms, answer })
        };
        self.ask_each(shed, SHARD_ANSWER_MAX).await
    }

    /// The rooms in which a user has connections, and how many.
    ///
    /// # Errors
    ///
    /// As [`Gateway::ask_each`].
    pub async fn find_user(&self, user_id: &str) -> Result<Vec<Presence>, Refused> {
        let user = |answer| {
            let user_id = user_id.into();
            Command::Survey(Survey::User { user_id, answer })
        };
        let mut found: Vec<Presence> = Vec::new();
        for one in self.ask_each(user, SHARD_ANSWER_MAX).await?.concat() {
            // Its members may be on several shards.
            match found.iter_mut().find(|known| known.room == one.room) {
                Some(known) => known.connections += one.connections,
                None => found.push(one),
            }
        }
        Ok(found)
    }

    /// `Sender` of `count` members of a room, as JSON.
    ///
    /// # Errors
    ///
    /// As [`Gateway::ask_each`].
    pub async fn room_members(&self, room: RoomId, count: usize) -> Result<Vec<Box<str>>, Refused> {
        let members = |answer| {
            Command::Survey(Survey::Members {
                room,
                count,
                answer,
            })
        };
        let mut all = self.ask_each(members, SHARD_ANSWER_MAX).await?.concat();
        all.truncate(count);
        Ok(all)
    }

    /// Messages that a room remembers on this server, as JSON, newest first.
    ///
    /// # Errors
    ///
    /// `NoSuchRoom`, `Late` if the shard has not answered in time, `Busy` if it is stopping.
    pub async fn remembered(&self, room: RoomId, wanted: Wanted) -> Result<Vec<Bytes>, Refused> {
        let (answer, answered) = oneshot::channel();
        let survey = Survey::Remembered {
            room,
            wanted,
            answer,
        };
        self.tell_home(room, Command::Survey(survey));
        let answered = tokio::time::timeout(SHARD_ANSWER_MAX, answered);
        let answered = answered.await.map_err(|_elapsed| Refused::Late)?;
        let remembered = answered.map_err(|_stopping| Refused::Busy)?;
        remembered.ok_or(Refused::NoSuchRoom)
    }

    /// Sends a command to a room's home shard.
    pub fn tell_home(&self, room: RoomId, command: Command<OwnedFd>) {
        self.deliver(self.home(room), command);
    }

    /// Lets a connection in as if it had come to the listener and its token had been opened.
    pub fn enter(&self, pending: Box<PendingConnection<OwnedFd>>) {
        self.deliver(self.home(pending.room), Command::Enter(pending));
    }

    /// Sends a review's verdict to the room.
    pub fn rule(&self, room: RoomId, ticket: Ticket, verdict: Option<Verdict>) {
        self.tell_home(room, Command::Verdict(room, ticket, verdict));
    }

    /// Makes every shard accept, or stop; returns once all have done so. Handshakes in progress at the closing get
    /// `deadline`. Meanwhile newcomers wait in the kernel's queue, since the listening sockets stay open.
    ///
    /// # Errors
    ///
    /// `Busy` if another order came before a shard had closed, or the server is stopping; `Late`: a shard does not
    /// answer, and may still do as it was told.
    ///
    /// # Cancel safety
    ///
    /// The shards go on.
    pub async fn turn_doors(&self, open: bool, deadline: Duration) -> Result<(), Refused> {
        let shard_count = self.shard_count();
        let mut answers = Vec::with_capacity(shard_count);
        for shard in 0..shard_count {
            let (answer, answered) = oneshot::channel();
            let doors = Doors {
                open,
                deadline,
                answer,
            };
            self.deliver(shard, Command::Doors(doors));
            answers.push(answered);
        }
        for answered in answers {
            answer_of(answered, deadline + SHARD_ANSWER_MAX).await?;
        }
        Ok(())
    }

    /// Sends a command to one shard.
    pub fn tell(&self, shard: ShardId, command: Command<OwnedFd>) {
        self.deliver(shard, command);
    }

    /// Sends a command to every shard.
    pub fn tell_each(&self, command: impl Fn() -> Command<OwnedFd>) {
        for shard in 0..self.shard_count() {
            self.deliver(shard, command());
        }
    }

    /// Sends a command to every shard; returns their answers in order, once all have given one.
    ///
    /// # Errors
    ///
    /// `Late` if a shard has not answered within `within`, `Busy` if it is stopping. All may still do as told.
    pub async fn ask_each<T>(
        &self,
        command: impl Fn(oneshot::Sender<T>) -> Command<OwnedFd>,
        within: Duration,
    ) -> Result<Vec<T>, Refused> {
        let mut answers = Vec::with_capacity(self.shard_count());
        for shard in 0..self.shard_count() {
            let (answer, answered) = oneshot::channel();
            self.deliver(shard, command(answer));
            answers.push(answered);
        }
        let mut given = Vec::with_capacity(answers.len());
        for answered in answers {
            let answer = tokio::time::timeout(within, answered).await;
            let answer = answer.map_err(|_elapsed| Refused::Late)?;
            given.push(answer.map_err(|_stopping| Refused::Busy)?);
        }
        Ok(given)
    }

    /// Gives every shard these settings, which it takes over for certain; returns the shards that have not done so
    /// in time.
    pub async fn adopt(&self, mut changed: ChangedSettings) -> Vec<ShardId> {
        changed.shard.shard_count = self.shard_count();
        self.settings.replace(changed.shard.clone());
        if self.is_node {
            changed.shard = changed.shard.without_account_rates();
        }
        let mut answers = Vec::new();
        for shard in 0..self.shard_count() {
            let (answer, answered) = oneshot::channel();
            self.deliver(shard, Command::Adopt(Box::new(changed.clone()), answer));
            answers.push(answered);
        }
        let mut late = Vec::new();
        // One time for all: several that hang must not add up.
        let deadline = Instant::now() + SHARD_ANSWER_MAX;
        for (shard, answered) in answers.into_iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            if answer_of(answered, left).await.is_err() {
                late.push(shard);
            }
        }
        late
    }

    /// Most connections of all shards together.
    pub fn connections_max(&self) -> usize {
        self.settings.borrow().connections_max
    }

    /// Number of shards.
    pub fn shard_count(&self) -> usize {
        self.settings.borrow().shard_count
    }

    /// Whether rooms' own rates hold.
    pub fn room_rates(&self) -> bool {
        self.settings.borrow().room_rates
    }

    /// The event that takes back what a user said.
    pub fn purge_event(&self) -> Arc<str> {
        Arc::clone(&self.settings.borrow().purge_event)
    }

    fn home(&self, room: RoomId) -> ShardId {
        self.settings.borrow().home(room)
    }

    /// Returns the rate of deletions of all rooms, which is also that of disconnects; `None`: not limited.
    pub fn moderations(&self) -> Option<Rate> {
        self.settings.borrow().account_moderations
    }

    /// Tells every shard to cut its connections and stop. The retry task does not run any more, so this call waits
    /// for room by itself, up to `STOP_RETRIES_MAX` tries.
    pub fn stop(&self) {
        let mut mailboxes = self.mailboxes.borrow_mut();
        (mailboxes.iter_mut()).for_each(|mailbox| mailbox.deliver(Command::Stop));
        for _ in 0..STOP_RETRIES_MAX {
            if !flush_all(&mut mailboxes) {
                return;
            }
            std::thread::sleep(RETRY);
        }
    }

    /// Sends to one shard. The calls and reviews in progress bound the items that a full mailbox does not take;
    /// a background task sends these.
    fn deliver(&self, shard: ShardId, command: Command<OwnedFd>) {
        let mut mailboxes = self.mailboxes.borrow_mut();
        let Some(mailbox) = mailboxes.get_mut(shard) else {
            return;
        };
        mailbox.deliver(command);
        if mailbox.flush() && !self.retrying.replace(true) {
            let (mailboxes, retrying) = (Rc::clone(&self.mailboxes), Rc::clone(&self.retrying));
            tokio::task::spawn_local(async move {
                while flush_all(&mut mailboxes.borrow_mut()) {
                    tokio::time::sleep(RETRY).await;
                }
                retrying.set(false);
            });
        }
    }

    async fn ask<T>(
        &self,
        room: RoomId,
        within: Duration,
        command: impl FnOnce(Answer<T>) -> Command<OwnedFd>,
    ) -> Result<T, Refused> {
        let (answer, answered) = oneshot::channel();
        self.deliver(self.home(room), command(answer));
        answer_of(answered, within).await
    }
}

/// Waits for a shard's answers, in order and all within one time.
async fn all_of<T>(
    answers: Vec<oneshot::Receiver<Result<T, Refused>>>,
    within: Duration,
) -> Vec<Result<T, Refused>> {
    let deadline = Instant::now() + within;
    let mut given = Vec::with_capacity(answers.len());
    for answered in answers {
        let left = deadline.saturating_duration_since(Instant::now());
        given.push(answer_of(answered, left).await);
    }
    given
}

/// Waits for a shard's answer.
async fn answer_of<T>(
    answered: oneshot::Receiver<Result<T, Refused>>,
    within: Duration,
) -> Result<T, Refused> {
    let answer = tokio::time::timeout(within, answered).await;
    let answer = answer.map_err(|_elapsed| Refused::Late)?;
    answer.map_err(|_stopped| Refused::Busy)?
}

/// Flushes all mailboxes; returns whether some are still full.
fn flush_all(mailboxes: &mut [MailboxSender<Command<OwnedFd>>]) -> bool {
    mailboxes
        .iter_mut()
        .fold(false, |kept, mailbox| mailbox.flush() | kept)
}

/// Time between two tries to flush a full mailbox.
const RETRY: Duration = Duration::from_millis(1);
/// Most tries at the stop: five seconds.
const STOP_RETRIES_MAX: u32 = 5_000;

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("shards", &self.shard_count())
            .finish_non_exhaustive()
    }
}
