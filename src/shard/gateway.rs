//! The control thread's door to the shards: room settings in, moderation and events in, answers out.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::command::{Answer, Command};
use super::mailbox::Post;
use super::settings::{ShardId, ShardSettings};
use crate::base::id::{FrameId, RoomId};
use crate::base::limits::SHARD_ANSWER_MAX;
use crate::base::rate::Rate;
use crate::protocol::chat::review::Verdict;
use crate::room::RoomSettings;
use crate::room::review::Ticket;

/// Why a shard did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No shard knows the room.
    #[error("room does not exist")]
    NoSuchRoom,
    /// The account-wide rate of this action is used up.
    #[error("rate limit exceeded")]
    Rate,
    /// The room holds back as much as it may, or the server is stopping.
    #[error("the room's shard takes no more work now")]
    Busy,
    /// The shard did not answer within [`SHARD_ANSWER_MAX`]. It may still do what it was asked.
    #[error("the room's shard does not answer")]
    Late,
}

/// Cheap to clone; used only on the control thread.
#[derive(Clone)]
pub struct Gateway {
    posts: Rc<RefCell<Vec<Post<Command<OwnedFd>>>>>,
    settings: Rc<ShardSettings>,
    // A task is under way that moves on what full mailboxes did not take.
    retrying: Rc<Cell<bool>>,
}

impl Gateway {
    /// With one mailbox to each shard, in order.
    pub fn new(posts: Vec<Post<Command<OwnedFd>>>, settings: ShardSettings) -> Self {
        Self {
            posts: Rc::new(RefCell::new(posts)),
            settings: Rc::new(settings),
            retrying: Rc::default(),
        }
    }

    /// Makes the room known to its home shard, or changes its settings. Done when it answers.
    pub async fn put_room(&self, room: RoomId, settings: RoomSettings) -> Result<(), Refused> {
        self.ask(room, |answer| Command::PutRoom(room, settings, answer))
            .await
    }

    /// Forgets the room and closes its connections (code 1000).
    pub async fn delete_room(&self, room: RoomId) -> Result<(), Refused> {
        self.ask(room, |answer| Command::DeleteRoom(room, answer))
            .await
    }

    /// Broadcasts an application event. `attributes_json` is a JSON object as it goes on the wire.
    pub async fn send_event(
        &self,
        room: RoomId,
        name: &str,
        attributes_json: &str,
    ) -> Result<FrameId, Refused> {
        let (name, attributes_json) = (name.into(), attributes_json.into());
        self.ask(room, |answer| {
            Command::SendEvent(room, name, attributes_json, answer)
        })
        .await
    }

    /// Broadcasts `aws:DELETE_MESSAGE`; the answer is the event's id.
    pub async fn delete_message(
        &self,
        room: RoomId,
        message_id: &str,
        reason: &str,
    ) -> Result<FrameId, Refused> {
        let (message_id, reason) = (message_id.into(), reason.into());
        self.ask(room, |answer| {
            Command::DeleteMessage(room, message_id, reason, answer)
        })
        .await
    }

    /// Broadcasts `aws:DISCONNECT_USER`, then closes every connection of the user in the room.
    pub async fn disconnect_user(
        &self,
        room: RoomId,
        user_id: &str,
        reason: &str,
    ) -> Result<FrameId, Refused> {
        let (user_id, reason) = (user_id.into(), reason.into());
        self.ask(room, |answer| {
            Command::DisconnectUser(room, user_id, reason, answer)
        })
        .await
    }

    /// Brings a review's outcome to the room.
    pub fn rule(&self, room: RoomId, ticket: Ticket, verdict: Option<Verdict>) {
        let home = self.settings.home(room);
        self.deliver(home, Command::Verdict(room, ticket, verdict));
    }

    /// Deletions of all rooms a second, and as many disconnects; `None`: not limited.
    pub fn moderations(&self) -> Option<Rate> {
        self.settings.account_moderations
    }

    /// Tells every shard to cut its connections and stop. Nobody drives the retries any more, so it waits
    /// for room by itself; a shard that gives none for so long is beyond asking.
    pub fn stop(&self) {
        let mut posts = self.posts.borrow_mut();
        for post in posts.iter_mut() {
            post.deliver(Command::Stop);
        }
        for _ in 0..STOP_RETRIES_MAX {
            if !flush_all(&mut posts) {
                return;
            }
            std::thread::sleep(RETRY);
        }
    }

    /// Sends to one shard. What its full mailbox does not take is bounded by the calls and reviews in
    /// progress, and goes on in the background.
    fn deliver(&self, shard: ShardId, command: Command<OwnedFd>) {
        let mut posts = self.posts.borrow_mut();
        let Some(post) = posts.get_mut(shard) else {
            return;
        };
        post.deliver(command);
        if post.flush() && !self.retrying.replace(true) {
            let (posts, retrying) = (Rc::clone(&self.posts), Rc::clone(&self.retrying));
            tokio::task::spawn_local(async move {
                while flush_all(&mut posts.borrow_mut()) {
                    tokio::time::sleep(RETRY).await;
                }
                retrying.set(false);
            });
        }
    }

    async fn ask<T>(
        &self,
        room: RoomId,
        command: impl FnOnce(Answer<T>) -> Command<OwnedFd>,
    ) -> Result<T, Refused> {
        let (answer, answered) = oneshot::channel();
        self.deliver(self.settings.home(room), command(answer));
        let answer = tokio::time::timeout(SHARD_ANSWER_MAX, answered).await;
        let answer = answer.map_err(|_elapsed| Refused::Late)?;
        answer.map_err(|_stopped| Refused::Busy)?
    }
}

/// Moves on what mailboxes did not take; whether some still do not.
fn flush_all(posts: &mut [Post<Command<OwnedFd>>]) -> bool {
    posts
        .iter_mut()
        .fold(false, |kept, post| post.flush() | kept)
}

/// Between two tries to move on what a full mailbox did not take.
const RETRY: Duration = Duration::from_millis(1);
/// Such tries at the end: five seconds.
const STOP_RETRIES_MAX: u32 = 5_000;

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("shards", &self.settings.shard_count)
            .finish_non_exhaustive()
    }
}
