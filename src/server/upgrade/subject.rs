//! What a process hands over, and which processes it hands it to.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use super::super::ChosenIo;
use super::super::listeners::Listeners;
use super::super::preflight::Directory;
use super::super::tickets::Tickets;
use super::figures::Figures;
use crate::clock::Clock;
use crate::cluster::{Cluster, Unready};
use crate::control::Control;
use crate::control::archive::Archive;
use crate::control::review::Reviews;
use crate::net::backend::Kind;
use crate::net::rings::Rings;
use crate::shard::gateway::Gateway;
use crate::shard::metrics::ShardMetrics;
use crate::takeover::messages::Hello;
use uproar_proto::base::limits::DESCRIPTORS_A_MESSAGE_MAX;

/// What is handed over, but the control plane.
pub(in crate::server) struct Upgrade {
    /// This process, as it greets.
    pub(in crate::server) hello: Hello,
    /// What moves the bytes of its viewers.
    pub(in crate::server) io: ChosenIo,
    pub(in crate::server) directory: Rc<Directory>,
    pub(in crate::server) listeners: Rc<Listeners>,
    pub(in crate::server) tickets: Option<Arc<Tickets>>,
    pub(in crate::server) gateway: Gateway,
    pub(in crate::server) archive: Archive,
    pub(in crate::server) clock: Clock,
    pub(in crate::server) shards: Vec<Arc<ShardMetrics>>,
    pub(in crate::server) figures: Rc<Figures>,
}

/// What is handed over, and what hands it over.
pub(in crate::server) struct Subject {
    pub(super) upgrade: Upgrade,
    pub(super) control: Rc<Control>,
    pub(super) reviews: Rc<Reviews>,
    /// The file this process was started from, as it was named then: it may be another one when it is asked for.
    pub(super) program: PathBuf,
    // Why the end of this process would be the end of the container that it runs in, if so.
    ends_container: Option<String>,
}

/// Programs for process 1 of a container that end with the process that they have started.
const INITS_OF_ONE: [&str; 4] = ["tini", "docker-init", "dumb-init", "catatonit"];

impl Upgrade {
    /// With the control plane.
    pub(in crate::server) fn of(self, control: &Rc<Control>, reviews: &Rc<Reviews>) -> Subject {
        Subject {
            upgrade: self,
            control: Rc::clone(control),
            reviews: Rc::clone(reviews),
            program: std::env::current_exe().unwrap_or_else(|_| "uproar".into()),
            ends_container: ends_container(),
        }
    }
}

impl Subject {
    /// What moves the bytes of its viewers.
    pub(in crate::server) fn io(&self) -> &ChosenIo {
        &self.upgrade.io
    }

    /// The cluster that this server is a node of, if it is.
    pub(super) fn cluster(&self) -> Option<&Cluster> {
        self.control.cluster()
    }

    /// Returns the number of viewers now.
    pub(super) fn viewers(&self) -> u64 {
        self.upgrade
            .shards
            .iter()
            .map(|shard| shard.connections.get())
            .sum()
    }

    /// Why `new` cannot take over from this process, if it cannot.
    pub(super) fn refusal(&self, new: &Hello) -> Option<String> {
        let refusal = self
            .upgrade
            .hello
            .refusal(new)
            .or_else(|| self.own_obstacle());
        let refusal = refusal.or_else(|| self.too_many(new));
        if refusal.is_none() {
            let missing = self.upgrade.hello.missing_in(new);
            if !missing.is_empty() {
                tracing::warn!(?missing, "the new process lacks these features");
            }
        }
        refusal
    }

    /// Why `new` cannot hold the viewers of this process, if it cannot.
    fn too_many(&self, new: &Hello) -> Option<String> {
        let (viewers, most) = (self.viewers(), new.connections_max?);
        (viewers > most).then(|| {
            format!(
                "its limit on open files allows {most} viewers with epoll, and {viewers} are here: raise LimitNOFILE= \
                 (`ulimit -n`), or let it use io_uring (server.io)"
            )
        })
    }

    /// Why no process can take over from this one, if so.
    pub(super) fn own_obstacle(&self) -> Option<String> {
        if self.ends_container.is_some() {
            return self.ends_container.clone();
        }
        if self.upgrade.io.kind == Kind::IoUring && !Rings::can_detach().unwrap_or(false) {
            return Some(
                "this kernel cannot take connections out of io_uring, which came with Linux 6.8: `--or-restart` cuts \
                 all viewers and lets them back"
                    .to_owned(),
            );
        }
        if let Some(unready @ (Unready::Probe { .. } | Unready::NoProbe)) =
            self.cluster().and_then(|cluster| cluster.ready().err())
        {
            return Some(format!("{unready}: try again when /readyz is 200"));
        }
        let shards = self.upgrade.gateway.shard_count();
        (shards > DESCRIPTORS_A_MESSAGE_MAX - 3).then(|| {
            let most = DESCRIPTORS_A_MESSAGE_MAX - 3;
            format!("{shards} shards are more than can be handed over, {most}: `--or-restart` cuts all viewers and lets them back")
        })
    }
}

/// Whether a container ends with this process: it is its process 1, or that has started it and waits for nothing else.
/// Call it at the start: a process whose parent has ended gets process 1 as its parent, which does not care.
fn ends_container() -> Option<String> {
    let who = if std::process::id() == 1 {
        "this server is process 1".to_owned()
    } else {
        let parent = rustix::process::getppid()?;
        let name = std::fs::read_to_string("/proc/1/comm").ok()?;
        let is_init = parent.as_raw_nonzero().get() == 1 && INITS_OF_ONE.contains(&name.trim());
        is_init.then(|| format!("process 1, {}, ends with this server", name.trim()))?
    };
    Some(format!(
        "{who}, and the container with it: roll out a new container beside it, or let a supervisor be process 1 that \
         does not end with its first child, such as systemd or s6"
    ))
}
