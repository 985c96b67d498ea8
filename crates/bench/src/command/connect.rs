//! `uproar bench connect`: flags and report.

use clap::Args;

use super::{Failure, Peer, Target, ages, progress, refused, report};
use crate::connect::{self, Plan};
use crate::program::Program;

#[derive(Debug, Args)]
pub(crate) struct Connect {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    peer: Peer,
    /// Handshakes altogether
    #[arg(long, default_value_t = 20_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    total: u32,
    /// Handshakes under way at once
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    width: u16,
    /// Connections that stay open; beyond it the oldest is cut
    #[arg(long, default_value_t = 5000, value_name = "N")]
    held: u32,
    /// Rooms of the server that is started, or of a peer
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rooms: u16,
    /// Other subjects have it; here the work is given, and the time is measured
    #[arg(long, hide = true, value_parser = not_timed)]
    seconds: Option<u64>,
}

fn not_timed(_: &str) -> Result<u64, String> {
    Err("`bench connect` counts handshakes: give --total N".to_owned())
}

impl Connect {
    pub(super) fn run(&self, program: &Program, machine: &str) -> Result<(), Failure> {
        if self.peer.nats.is_some() {
            let text = "--nats: a NATS connection begins without a WebSocket handshake";
            return Err(Failure::Usage(text.to_owned()));
        }
        let host = self
            .peer
            .host(program, &self.target, usize::from(self.rooms), false)?;
        let plan = Plan {
            total: self.total as usize,
            width: usize::from(self.width),
            held: self.held as usize,
        };
        let bar = progress(plan.total);
        let found = connect::run(&host, plan, || bar.inc(1))?;
        bar.finish_and_clear();
        let mut result = found.json();
        result["width"] = self.width.into();
        let cpu = found.cpu_micros.map_or_else(
            || "not known without --pid".to_owned(),
            |[user, system]| {
                format!("{user:.1} + {system:.1} us of the server each (user + system)")
            },
        );
        let lines = [
            (
                "handshakes",
                format!(
                    "{:.0} a second, {} under way at once",
                    found.per_second, self.width
                ),
            ),
            ("latency", ages(found.ages)),
            (
                "opened",
                format!(
                    "{}, {}",
                    found.opened,
                    refused(found.refused, found.first_refusal.as_deref())
                ),
            ),
            ("processor", cpu),
            (
                "this program",
                format!("busy for {:.0} % of the time", found.client_busy * 100.0),
            ),
        ];
        report(self.target.json, machine, result, &lines);
        Ok(())
    }
}
