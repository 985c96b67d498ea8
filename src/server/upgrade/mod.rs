//! Upgrades without a pause that anybody notices: this process hands everything over to a new one, or takes over from
//! the one that serves. `takeover` has the protocol; this wires it to processes, shards, store and listeners.
//!
//! | file | subject |
//! |---|---|
//! | `launch`, `spawn` | the new process: its start, and its words until it greets |
//! | `lead`, `steps` | the old process: its machine's driver, and what it does in each step |
//! | `greet`, `follow`, `take` | the new process: before its start, until it serves, rooms and viewers as they come |
//! | `files` | journals and spools of the old process, as the new one reads them and goes on with them |
//! | `order` | the orders to upgrade and to be taken over |
//! | `subject` | what is handed over, and to which processes |
//! | `link` | the connection, and the process at its other end |
//! | `figures` | metrics |
//! | `fault` | faults on purpose, for tests |

mod fault;
mod figures;
mod files;
mod follow;
mod greet;
mod launch;
mod lead;
mod link;
mod order;
mod spawn;
mod steps;
mod subject;
mod take;

pub(super) use figures::Figures;
pub(super) use files::Files;
pub(super) use follow::Follower;
pub(super) use greet::{Handed, Journals, greet, hello};
pub(crate) use launch::{LAUNCH, launch};
pub(super) use lead::Told;
pub(crate) use order::Upgraded;
pub(super) use order::{Calls, Restart};
pub(super) use subject::{Subject, Upgrade};
