//! Files that a new process goes on with: journals of used tokens, spools of chat logs. Until the old process cannot
//! serve again it only reads them.

use std::cell::RefCell;
use std::io;

use crate::control::archive::Archive;
use crate::control::record::Destination;
use crate::shard::command::Command;
use crate::shard::gateway::Gateway;
use crate::shard::journal::beside::{Beside, Tail, Undealt};
use crate::supervisor::blocking;
use uproar_proto::base::id::LoggingId;

/// The files that this process makes its own when it serves.
pub(in crate::server) struct Files {
    archive: Archive,
    // The complete list.
    configurations: Vec<(LoggingId, Destination)>,
    journals: RefCell<Journals>,
}

/// The journals as far as they are read.
enum Journals {
    /// The other process appends to them still.
    Open(Beside),
    /// What it added.
    Read(Vec<Tail>, Undealt),
    /// The shards have them.
    Own,
}

impl Files {
    pub(in crate::server) fn new(
        archive: Archive,
        configurations: Vec<(LoggingId, Destination)>,
    ) -> Self {
        Self {
            archive,
            configurations,
            journals: RefCell::new(Journals::Own),
        }
    }

    /// The journals are those of a process that appends to them still.
    pub(super) fn share(&self, beside: Option<Beside>) {
        if let Some(beside) = beside {
            self.journals.replace(Journals::Open(beside));
        }
    }

    /// Reads which tokens the other process has let in meanwhile. Call when it admits nobody any more.
    pub(super) fn read(&self) -> io::Result<()> {
        let read = match self.journals.replace(Journals::Own) {
            Journals::Open(beside) => {
                let (tails, undealt) = beside.tail()?;
                Journals::Read(tails, undealt)
            }
            read @ (Journals::Read(..) | Journals::Own) => read,
        };
        self.journals.replace(read);
        Ok(())
    }

    /// Makes them this process's own. Call when no other process can serve, and before shards serve.
    pub(super) fn take(&self, gateway: &Gateway) -> io::Result<()> {
        self.read()?;
        if let Journals::Read(tails, undealt) = self.journals.replace(Journals::Own) {
            hand_out(gateway, tails);
            if !undealt.is_empty() {
                tokio::task::spawn_local(deal_out(gateway.clone(), undealt));
            }
        }
        self.load();
        Ok(())
    }

    /// Opens the spools. Call when no other process uses them, and before shards serve.
    pub(in crate::server) fn load(&self) {
        self.archive.load(self.configurations.clone());
    }
}

fn hand_out(gateway: &Gateway, tails: Vec<Tail>) {
    for (shard, tail) in tails.into_iter().enumerate() {
        gateway.tell(shard, Command::TakeJournal(Box::new(tail)));
    }
}

/// Deals out what belongs to another number of shards, while this process serves.
async fn deal_out(gateway: Gateway, undealt: Undealt) {
    match blocking(move || undealt.deal_out()).await {
        Ok(tails) => hand_out(&gateway, tails),
        Err(error) => {
            tracing::warn!(%error, "the next start deals out the journals of used tokens");
        }
    }
}
