//! The receiving ends of a shard's mailboxes, taken in the order that keeps every mailbox bounded.

use std::sync::Arc;

use rtrb::Consumer;

use super::command::{Command, Request};
use super::core::Core;
use super::doorbell::Doorbell;
use super::mailbox::{MailboxSender, mailbox_of};
use crate::net::io::Io;

/// The receiving ends of one shard's mailboxes.
pub struct Inbox<S> {
    /// Requests from each shard, in order; they wait while the answers to earlier ones do.
    pub requests: Vec<Consumer<Request<S>>>,
    /// Commands from each shard, in order, and from the archive: always taken. None of them makes the shard send
    /// more than it can keep, so two full shards never wait for each other.
    pub commands: Vec<Consumer<Command<S>>>,
    /// Commands from the cluster, in order; they wait while a mailbox to another shard is full, or while this turn has
    /// enough of them.
    pub cluster: Consumer<Command<S>>,
    /// Commands from the control thread; they wait while a mailbox to another shard is full.
    pub control: Consumer<Command<S>>,
}

impl<S> Inbox<S> {
    /// Hands `core` the waiting items, up to a bound for each mailbox.
    pub fn take<W: Io<Socket = S>>(&mut self, core: &mut Core<W>) {
        for consumer in &mut self.commands {
            for _ in 0..COMMANDS_PER_TURN_MAX {
                let Ok(command) = consumer.pop() else { break };
                core.command(command);
            }
        }
        for _ in 0..COMMANDS_PER_TURN_MAX {
            if self.cluster.is_empty() || !core.can_take_from_cluster() {
                break;
            }
            let Ok(command) = self.cluster.pop() else {
                break;
            };
            core.command(command);
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

    /// Number of items that wait.
    pub fn depth(&self) -> u64 {
        let commands = self.commands.iter().chain([&self.control, &self.cluster]);
        let depth = commands.map(Consumer::slots).sum::<usize>()
            + self.requests.iter().map(Consumer::slots).sum::<usize>();
        u64::try_from(depth).expect("a count in memory")
    }

    /// Whether no item waits.
    pub fn is_empty(&self) -> bool {
        self.control.is_empty()
            && self.cluster.is_empty()
            && self.commands.iter().all(Consumer::is_empty)
            && self.requests.iter().all(Consumer::is_empty)
    }
}

/// One shard's ends of the mailboxes.
pub struct Ends<S> {
    /// Commands to each shard, in order.
    pub mailboxes: Vec<MailboxSender<Command<S>>>,
    /// Requests to each shard, in order.
    pub requests: Vec<MailboxSender<Request<S>>>,
    /// The receiving ends.
    pub inbox: Inbox<S>,
}

/// The mailboxes between all threads that command shards.
pub struct Mailboxes<S> {
    /// Each shard's ends, in order.
    pub shards: Vec<Ends<S>>,
    /// From the archive to each shard, in order.
    pub archive: Vec<MailboxSender<Command<S>>>,
    /// From the cluster to each shard, in order.
    pub cluster: Vec<MailboxSender<Command<S>>>,
    /// From the control thread to each shard, in order.
    pub control: Vec<MailboxSender<Command<S>>>,
}

impl<S> Mailboxes<S> {
    /// Makes the mailboxes of the shards that own `bells`, in order, with `places` each.
    pub fn new(bells: &[Arc<Doorbell>], places: usize) -> Self {
        let count = bells.len();
        // The archive is one more sender.
        let (mut mailboxes, commands) = grid(count + 1, bells, places);
        let archive = mailboxes.pop().expect("count + 1 rows were made");
        let (requests, request_receivers) = grid(count, bells, places);
        let single = || bells.iter().map(|bell| mailbox_of(bell, places)).unzip();
        let (cluster, cluster_receivers): (_, Vec<_>) = single();
        let (control, control_receivers): (_, Vec<_>) = single();
        let inboxes = commands
            .into_iter()
            .zip(request_receivers)
            .zip(cluster_receivers)
            .zip(control_receivers);
        let inboxes = inboxes.map(|(((commands, requests), cluster), control)| Inbox {
            requests,
            commands,
            cluster,
            control,
        });
        let ends = mailboxes.into_iter().zip(requests).zip(inboxes);
        let shards = ends.map(|((mailboxes, requests), inbox)| Ends {
            mailboxes,
            requests,
            inbox,
        });
        Self {
            shards: shards.collect(),
            archive,
            cluster,
            control,
        }
    }
}

type Rows<T> = Vec<Vec<T>>;

/// Makes a mailbox from each of `senders` to each bell's owner: the sending ends by sender, the receiving ends
/// by owner.
fn grid<T>(
    senders: usize,
    bells: &[Arc<Doorbell>],
    places: usize,
) -> (Rows<MailboxSender<T>>, Rows<Consumer<T>>) {
    let mut receivers: Rows<_> = bells.iter().map(|_| Vec::new()).collect();
    let row = |_| {
        let ends = receivers.iter_mut().zip(bells);
        let mailboxes = ends.map(|(receivers, bell)| {
            let (mailbox, consumer) = mailbox_of(bell, places);
            receivers.push(consumer);
            mailbox
        });
        mailboxes.collect()
    };
    let mailboxes = (0..senders).map(row).collect();
    (mailboxes, receivers)
}

/// Most items taken from one mailbox in one turn.
const COMMANDS_PER_TURN_MAX: usize = 1024;
