//! What a shard's threads and neighbours want of it, taken in the order that keeps every mailbox bounded.

use std::sync::Arc;

use rtrb::Consumer;

use super::command::{Command, Request};
use super::core::Core;
use super::doorbell::Doorbell;
use super::mailbox::{Post, mailbox_of};
use crate::net::wire::Wire;

/// The receiving ends of one shard's mailboxes.
pub struct Inbox<S> {
    /// From each shard, in order: requests, which wait while the answers to earlier ones do.
    pub requests: Vec<Consumer<Request<S>>>,
    /// From each shard, in order, and from the archive: always taken. Nothing in here makes the shard say
    /// more than it can hold back, so that two full shards never wait for each other.
    pub commands: Vec<Consumer<Command<S>>>,
    /// From the control thread: waits while what it would make the shard say must wait.
    pub control: Consumer<Command<S>>,
}

impl<S> Inbox<S> {
    /// Hands `core` what waits, up to a bound from each sender.
    pub fn take<W: Wire<Socket = S>>(&mut self, core: &mut Core<W>) {
        for consumer in &mut self.commands {
            for _ in 0..COMMANDS_PER_TURN_MAX {
                let Ok(command) = consumer.pop() else { break };
                core.command(command);
            }
        }
        for (shard, consumer) in self.requests.iter_mut().enumerate() {
            for _ in 0..COMMANDS_PER_TURN_MAX {
                if !core.can_answer(shard) {
                    break;
                }
                let Ok(request) = consumer.pop() else { break };
                core.request(request);
            }
        }
        for _ in 0..COMMANDS_PER_TURN_MAX {
            if !core.can_tell_all() {
                break;
            }
            let Ok(command) = self.control.pop() else {
                break;
            };
            core.command(command);
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.control.is_empty()
            && self.commands.iter().all(Consumer::is_empty)
            && self.requests.iter().all(Consumer::is_empty)
    }
}

/// One shard's ends of the mailboxes.
pub struct Ends<S> {
    /// To each shard, in order.
    pub posts: Vec<Post<Command<S>>>,
    /// The same, for requests.
    pub requests: Vec<Post<Request<S>>>,
    /// From everybody.
    pub inbox: Inbox<S>,
}

/// The mailboxes between all threads that command shards.
pub struct Mailboxes<S> {
    /// Each shard's ends, in order.
    pub shards: Vec<Ends<S>>,
    /// From the archive to each shard, in order.
    pub archive: Vec<Post<Command<S>>>,
    /// From the control thread to each shard, in order.
    pub control: Vec<Post<Command<S>>>,
}

impl<S> Mailboxes<S> {
    /// For shards that hear `bells`, in order, with so many places each.
    pub fn new(bells: &[Arc<Doorbell>], places: usize) -> Self {
        let count = bells.len();
        // The archive is one more sender.
        let (mut posts, commands) = grid(count + 1, bells, places);
        let archive = posts.pop().expect("count + 1 rows were made");
        let (requests, asked) = grid(count, bells, places);
        let (control, told): (_, Vec<_>) =
            bells.iter().map(|bell| mailbox_of(bell, places)).unzip();
        let inboxes = commands.into_iter().zip(asked).zip(told);
        let inboxes = inboxes.map(|((commands, requests), control)| Inbox {
            requests,
            commands,
            control,
        });
        let ends = posts.into_iter().zip(requests).zip(inboxes);
        let shards = ends.map(|((posts, requests), inbox)| Ends {
            posts,
            requests,
            inbox,
        });
        Self {
            shards: shards.collect(),
            archive,
            control,
        }
    }
}

type Rows<T> = Vec<Vec<T>>;

/// A mailbox from each of `senders` to each bell's owner: posts by sender, mail by owner.
fn grid<T>(
    senders: usize,
    bells: &[Arc<Doorbell>],
    places: usize,
) -> (Rows<Post<T>>, Rows<Consumer<T>>) {
    let mut mail: Rows<_> = bells.iter().map(|_| Vec::new()).collect();
    let row = |_| {
        let ends = mail.iter_mut().zip(bells);
        let posts = ends.map(|(mail, bell)| {
            let (post, consumer) = mailbox_of(bell, places);
            mail.push(consumer);
            post
        });
        posts.collect()
    };
    let posts = (0..senders).map(row).collect();
    (posts, mail)
}

/// Commands of one mailbox in one turn.
const COMMANDS_PER_TURN_MAX: usize = 1024;
