//! `uproar health`, `reload`, `upgrade`: orders to the server that runs on a data directory.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

use super::failure::Failure;
use super::output::print;
use super::place::Place;
use crate::server::{AskError, Health, Order, RefusalCode, Upgraded, ask};
use uproar_proto::base::limits::TAKE_OVER_END_MAX;

/// `uproar health`.
#[derive(Debug, clap::Args)]
pub(super) struct HealthCommand {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// `uproar reload`.
#[derive(Debug, clap::Args)]
pub(super) struct ReloadCommand {
    #[command(flatten)]
    place: Place,
}

/// `uproar upgrade`.
#[derive(Debug, clap::Args)]
pub(super) struct UpgradeCommand {
    /// The new program [default: the file that the server was started from]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// If the two versions cannot hand viewers over: stop, so that the supervisor starts the new program
    #[arg(long)]
    or_restart: bool,
    #[command(flatten)]
    place: Place,
}

impl HealthCommand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let health = order(&self.place, &Order::Health {})?;
        if self.json {
            return print(&format!("{health}\n"));
        }
        let health: Health = serde_json::from_value(health)
            .map_err(|error| Failure::Run(AskError::Foreign(error.to_string()).to_string()))?;
        let Health {
            pid,
            version,
            commit,
            state,
            ready,
            viewers,
            rooms,
            io,
            io_uring_refused,
        } = health;
        let ready = if ready { "ready" } else { "not ready" };
        let refused = io_uring_refused.map_or_else(String::new, |why| {
            format!("io_uring cannot be used: {why}\n")
        });
        print(&format!(
            "process {pid}, uproar {version} (commit {commit}): {state}, {ready}, {viewers} viewers, {rooms} rooms, {io}\n\
             {refused}"
        ))
    }
}

impl ReloadCommand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let data_dir = self.place.existing()?.data_dir;
        let reloaded = ask(&data_dir, &Order::Reload {}, |_| {}).map_err(|error| {
            if let AskError::Refused(refusal) = &error
                && refusal.code == RefusalCode::Refused
            {
                return Failure::Usage(format!("nothing is reloaded: {error}"));
            }
            Failure::Run(error.to_string())
        })?;
        let changes = reloaded["changes"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let line =
            |change: &Value| format!("{}: {}\n", text(&change["key"]), text(&change["text"]));
        let lines: String = changes.map(line).collect();
        let late = reloaded["late"].as_array().into_iter().flatten();
        let late: Vec<_> = late.map(ToString::to_string).collect();
        let late = if late.is_empty() {
            String::new()
        } else {
            let late = late.join(", ");
            format!(
                "shards {late} have not answered and follow when they take a turn; `uproar health` tells\n"
            )
        };
        let nothing = "no key of the configuration has changed; its files were read again\n";
        let lines = if lines.is_empty() { nothing } else { &lines };
        print(&format!("{lines}{late}"))
    }
}

impl UpgradeCommand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        // The server may have another working directory.
        let absolute = |binary: &PathBuf| {
            std::path::absolute(binary)
                .map_err(|error| Failure::Usage(format!("{}: {error}", binary.display())))
        };
        let upgrade = Order::Upgrade {
            binary: self.binary.as_ref().map(absolute).transpose()?,
            or_restart: self.or_restart,
        };
        let foreign = |error: serde_json::Error| {
            Failure::Run(AskError::Foreign(error.to_string()).to_string())
        };
        let data_dir = self.place.existing()?.data_dir;
        let health: Health =
            serde_json::from_value(order_to(&data_dir, &Order::Health {})?).map_err(foreign)?;
        let old = process(health.pid);
        let outcome = order_to(&data_dir, &upgrade)?;
        match serde_json::from_value(outcome).map_err(foreign)? {
            Upgraded::Serves {
                pid,
                viewers,
                pause_ms,
            } => {
                await_end(old.as_ref(), health.pid)?;
                let number = |number: Option<u64>| {
                    number.map_or_else(|| "an unknown number of".to_owned(), |n| n.to_string())
                };
                print(&format!(
                    "process {pid} serves {} viewers, who waited {} ms; process {} has ended\n",
                    number(viewers),
                    number(pause_ms),
                    health.pid
                ))
            }
            Upgraded::Restarts { reason } => print(&format!(
                "viewers cannot be handed over: {reason}\nthe server stops, and its supervisor starts the new program\n"
            )),
        }
    }
}

/// Names a process so that another one with its number is not taken for it.
fn process(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Waits for the end of the process that was taken over from.
fn await_end(process: Option<&OwnedFd>, pid: u32) -> Result<(), Failure> {
    let Some(process) = process else {
        return Ok(());
    };
    let mut polled = [PollFd::new(process, PollFlags::IN)];
    let most = Timespec::try_from(TAKE_OVER_END_MAX).ok();
    match poll(&mut polled, most.as_ref()) {
        Ok(1..) => Ok(()),
        _ => Err(Failure::Run(format!(
            "the new process serves, but process {pid} has not ended within {TAKE_OVER_END_MAX:?}: its log says why"
        ))),
    }
}

/// Gives an order, and returns its answer.
pub(super) fn order(place: &Place, order: &Order) -> Result<Value, Failure> {
    order_to(&place.existing()?.data_dir, order)
}

fn order_to(data_dir: &Path, order: &Order) -> Result<Value, Failure> {
    ask(data_dir, order, |_| {}).map_err(|error| Failure::Run(error.to_string()))
}
