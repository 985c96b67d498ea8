//! `uproar bench ingest`: flags and report.

use std::time::Duration;

use clap::Args;

use super::{Failure, Target, ages, progress, report};
use crate::ingest::{self, Plan};
use crate::program::Program;
use crate::sample::CONTENT_BYTES_MIN;

#[derive(Debug, Args)]
pub(crate) struct Ingest {
    #[command(flatten)]
    target: Target,
    /// Senders, spread over the rooms
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    senders: u32,
    /// Rooms of the server that is started
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rooms: u16,
    /// Messages a second of each sender
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Length of each message's content, in bytes
    #[arg(long, default_value_t = 50, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(CONTENT_BYTES_MIN as i64..=500))]
    size: u16,
    /// Length of the measurement
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

impl Ingest {
    pub(super) fn run(&self, program: &Program, machine: &str) -> Result<(), Failure> {
        let host = self.target.host(program, usize::from(self.rooms))?;
        let plan = Plan {
            senders: self.senders as usize,
            rate: f64::from(self.rate),
            content_bytes: usize::from(self.size),
            measured: Duration::from_secs(self.seconds),
        };
        let bar = progress(plan.senders);
        let found = ingest::run(&host, plan, || {
            bar.inc(1);
            if bar.position() == bar.length().unwrap_or_default() {
                bar.finish_and_clear();
            }
        })?;
        let mut result = found.json();
        result["senders"] = self.senders.into();
        result["rooms"] = host.room_count().into();
        result["messages_per_second_per_sender"] = self.rate.into();
        let mut lines = vec![
            (
                "offered",
                format!(
                    "{} messages a second by {} senders in {} rooms",
                    u64::from(self.rate) * u64::from(self.senders),
                    self.senders,
                    host.room_count()
                ),
            ),
            (
                "accepted",
                format!(
                    "{:.0} a second; {} of {}, {} refused, {} lost or repeated",
                    found.per_second(),
                    found.accepted,
                    found.sent,
                    found.refused,
                    found.wrong
                ),
            ),
            ("echo", ages(found.ages)),
        ];
        if let Some([user, system]) = found.cpu_micros {
            let text = format!("{user:.1} + {system:.1} us of the server each (user + system)");
            lines.push(("processor", text));
        }
        report(self.target.json, machine, result, &lines);
        Ok(())
    }
}
