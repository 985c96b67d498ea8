//! The new process before its start: says hello, and waits for what it starts on.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use super::super::listeners::Inherited;
use super::super::preflight::{Directory, raise_descriptor_limit};
use super::super::{StartError, admin};
use super::fault;
use super::link::{Heard, Link};
use crate::config::{Settings, TAKE_OVER};
use crate::control::store::SCHEMA;
use crate::net::backend::Kind;
use crate::net::capacity::divide;
use crate::net::pass::Connection;
use crate::shard::journal::Journal;
use crate::shard::journal::beside::{Beside, open_beside};
use crate::shard::settings::ShardSettings;
use crate::shard::tokens::UsedTokens;
use crate::takeover::messages::{ClusterNode, FORMAT, Feature, Hello, New as Say, Old as Said};
use crate::takeover::new::{Action, Event, New, Outcome};
use uproar_proto::base::clock::Now;
use uproar_proto::base::limits::TAKE_OVER_SILENCE_MAX;

/// What the old process has handed over before the start.
pub(in crate::server) struct Handed {
    // The data directory's.
    lock: OwnedFd,
    // By name.
    listeners: Vec<(String, OwnedFd)>,
    // The keys of TLS session tickets; `None`: its build has none.
    tickets: Option<OwnedFd>,
    // The old process's, to be read to their end when it has stopped.
    pub(super) beside: Option<Beside>,
    pub(super) machine: New,
    pub(super) link: Link,
    pub(super) epoch_nanos: u64,
    pub(super) old: Hello,
}

impl std::fmt::Debug for Handed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handed").finish_non_exhaustive()
    }
}

impl Handed {
    /// The data directory and the listening sockets, once.
    ///
    /// # Errors
    ///
    /// No descriptor is available.
    pub(in crate::server) fn take(&mut self) -> io::Result<(Directory, Inherited)> {
        let directory = Directory::handed_over(self.lock.try_clone()?);
        let listeners = Inherited::of_named(std::mem::take(&mut self.listeners));
        Ok((directory, listeners))
    }

    /// The keys of TLS session tickets, once.
    pub(in crate::server) fn tickets(&mut self) -> Option<OwnedFd> {
        self.tickets.take()
    }

    /// Reads the journals to their present length: the old process appends to them until its shards are frozen.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub(in crate::server) fn journals(
        &mut self,
        directory: &Path,
        settings: &ShardSettings,
        now: Now,
    ) -> io::Result<Journals> {
        let (beside, journals) = open_beside(directory, settings, now)?;
        self.beside = Some(beside);
        Ok(journals)
    }
}

/// Each shard's journal of token uses, and the tokens that it knows.
pub(in crate::server) type Journals = Vec<(Journal, UsedTokens)>;

/// This process, as it greets and answers.
pub(in crate::server) fn hello(settings: &Settings, io: Kind) -> Hello {
    // Another data directory than the old process's may have none yet.
    let lock = settings.data_dir.join("lock").metadata();
    let lock = lock.map_or((0, 0), |lock| (lock.dev(), lock.ino()));
    let format = fault::hello("format").and_then(|format| format.parse().ok());
    let schema = fault::hello("schema").and_then(|schema| schema.parse().ok());
    let lacks = fault::hello("lacks");
    let features: BTreeSet<String> = Feature::ALL.into_iter().map(Feature::name).collect();
    let node = settings.cluster.as_ref().map(|cluster| ClusterNode {
        cluster: cluster.name.clone(),
        name: cluster.node.clone(),
    });
    Hello {
        format: format.unwrap_or(FORMAT),
        version: format!("{} ({})", env!("CARGO_PKG_VERSION"), env!("UPROAR_COMMIT")),
        uid: rustix::process::geteuid().as_raw(),
        lock,
        data_dir: settings.data_dir.clone(),
        region: settings.account.region.clone(),
        account: settings.account.id.clone(),
        shards: settings.shard.shard_count,
        schema: Some(schema.unwrap_or(SCHEMA)),
        connections_max: (io == Kind::Epoll).then(|| connections_max(settings)),
        node,
        features: features
            .into_iter()
            .filter(|name| lacks.as_ref() != Some(name))
            .collect(),
    }
}

/// How many viewers fit the limit on open files when each takes a descriptor.
fn connections_max(settings: &Settings) -> u64 {
    let limit = raise_descriptor_limit();
    let shards = u64::try_from(settings.shard.shard_count).expect("a few shards");
    divide(Kind::Epoll, limit, shards).connections
}

/// Greets the server of `data_dir`, and waits until it has handed over what a start needs. It blocks. `None`: nobody
/// serves, or nobody any more, so that this process starts as ever.
///
/// # Errors
///
/// The old process refuses, or does not answer: it serves on.
pub(in crate::server) fn greet(
    settings: &Settings,
    io: Kind,
    data_dir: &Path,
) -> Result<Option<Box<Handed>>, StartError> {
    let Some(link) = connect(data_dir)? else {
        tracing::info!("no server to take over from: started as ever");
        return Ok(None);
    };
    let failed = |cause: io::Error| StartError::TakeOver(cause.to_string());
    let (pid, _) = link.peer().map_err(failed)?;
    tracing::info!(old_process = pid, "taking over: said hello");
    let own = hello(settings, io);
    fault::at("new.hello").map_err(StartError::TakeOver)?;
    // A peer that is gone is found by the next receive.
    let _gone = link.say(&Say::Hello(Box::new(own.clone())), &[]);
    Waiting {
        own,
        link,
        machine: New::greeted(),
        deadline: later(),
        welcome: None,
    }
    .run()
}

/// Gives the order to be taken over; `None`: nobody serves.
fn connect(data_dir: &Path) -> Result<Option<Link>, StartError> {
    let socket = match admin::order_take_over(data_dir) {
        Ok(socket) => socket,
        Err(error)
            if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused]
                .contains(&error.kind()) =>
        {
            return Ok(None);
        }
        Err(error) => {
            return Err(StartError::TakeOver(format!(
                "admin.sock in {}: {error}. Run it as the server's user",
                data_dir.display()
            )));
        }
    };
    let link = Link::new(Connection::from(socket)).map_err(|error| {
        StartError::TakeOver(format!(
            "the process behind admin.sock: {error}. Both must run in one process namespace, as in one container"
        ))
    })?;
    Ok(Some(link))
}

struct Waiting {
    own: Hello,
    link: Link,
    machine: New,
    deadline: Instant,
    welcome: Option<(Hello, u64)>,
}

impl Waiting {
    fn run(mut self) -> Result<Option<Box<Handed>>, StartError> {
        loop {
            let mut descriptors = Vec::new();
            let event = self.next(&mut descriptors)?;
            let mut names = Vec::new();
            if let Event::Heard(Said::Yours { names: named }) = &event {
                names.clone_from(named);
            } else if let Event::Heard(Said::Welcome {
                hello, epoch_nanos, ..
            }) = &event
            {
                // A build that does not know of nodes welcomes one all the same.
                if let Some(reason) = self.own.other_node(hello) {
                    let failed = Say::Failed {
                        reason: reason.clone(),
                    };
                    let _gone = self.link.say(&failed, &[]);
                    return Err(StartError::TakeOver(reason));
                }
                self.welcome = Some((Hello::clone(hello), *epoch_nanos));
                follow_stderr(descriptors.pop());
            }
            for action in self.machine.on(event) {
                match action {
                    Action::Begin(_) => return self.handed(names, descriptors),
                    Action::Await => self.deadline = later(),
                    Action::Say(said) => {
                        let _gone = self.link.say(&said, &[]);
                    }
                    Action::Finish(Outcome::Alone | Outcome::Serves) => {
                        tracing::warn!(
                            "the old process ended before it handed over: started as ever"
                        );
                        return Ok(None);
                    }
                    Action::Finish(Outcome::Exits(reason)) => {
                        return Err(StartError::TakeOver(reason));
                    }
                }
            }
        }
    }

    fn next(&self, descriptors: &mut Vec<OwnedFd>) -> Result<Event, StartError> {
        let heard = self.link.hear(self.deadline);
        match heard.map_err(|error| StartError::TakeOver(error.to_string()))? {
            Some(Heard::Message(said, with)) => {
                *descriptors = with;
                Ok(Event::Heard(said))
            }
            Some(Heard::Foreign(text)) => Err(StartError::TakeOver(
                admin::refusal_in(&text).unwrap_or_else(|| format!("the old process said {text}")),
            )),
            Some(Heard::Closed) => {
                let left = self.deadline.saturating_duration_since(now());
                Ok(if self.link.await_end(left) {
                    Event::Gone
                } else {
                    Event::Deadline
                })
            }
            None => Ok(Event::Deadline),
        }
    }

    fn handed(
        self,
        names: Vec<String>,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Option<Box<Handed>>, StartError> {
        let count = descriptors.len();
        let mut named: Vec<(String, OwnedFd)> = names.into_iter().zip(descriptors).collect();
        let mut take = |wanted: &str| {
            let place = named.iter().position(|(name, _)| name == wanted);
            place.map(|place| named.swap_remove(place).1)
        };
        let (lock, tickets) = (take(LOCK), take(TICKETS));
        let (Some(lock), Some((old, epoch_nanos))) = (lock, self.welcome) else {
            let reason = format!("the old process handed over {count} descriptors, and no lock");
            return Err(StartError::TakeOver(reason));
        };
        Ok(Some(Box::new(Handed {
            lock,
            listeners: named,
            tickets,
            beside: None,
            machine: self.machine,
            link: self.link,
            epoch_nanos,
            old,
        })))
    }
}

/// Writes log lines where the old process does, and no longer to it, if that started this one.
fn follow_stderr(stderr: Option<OwnedFd>) {
    if std::env::var_os(TAKE_OVER).is_some()
        && let Some(stderr) = stderr
        && let Err(error) = rustix::stdio::dup2_stderr(stderr)
    {
        tracing::warn!(%error, "log lines end with the old process");
    }
}

fn later() -> Instant {
    now() + TAKE_OVER_SILENCE_MAX
}

#[expect(
    clippy::disallowed_methods,
    reason = "deadlines of blocking calls at the start"
)]
fn now() -> Instant {
    Instant::now()
}

/// Name of the lock's descriptor beside the listeners'.
pub(super) const LOCK: &str = "lock";
/// Name of the memory file with the keys of TLS session tickets. A build that does not know it closes it.
pub(super) const TICKETS: &str = "tickets";
