//! `uproar bench storm`: flags and report.

use std::time::Duration;

use clap::Args;

use super::{Failure, Target, ages, progress, refused, report};
use crate::program::Program;
use crate::storm::{self, Plan};

#[derive(Debug, Args)]
pub(crate) struct Storm {
    #[command(flatten)]
    target: Target,
    /// Viewers that are cut off and come back
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    clients: u32,
    /// Handshakes under way at once while they come back [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    width: Option<u32>,
    /// Rooms of the server that is started; the first is the bystanders'
    #[arg(long, default_value_t = 11, value_name = "N", value_parser = clap::value_parser!(u16).range(2..))]
    rooms: u16,
    /// Messages a second in the bystanders' room
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    rate: u16,
    /// For how long the bystanders are looked at before the storm
    #[arg(long, default_value_t = 3, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

impl Storm {
    pub(super) fn run(&self, program: &Program, machine: &str) -> Result<(), Failure> {
        let host = self.target.host(program, usize::from(self.rooms))?;
        let plan = Plan {
            clients: self.clients as usize,
            width: self.width.unwrap_or(self.clients) as usize,
            rate: f64::from(self.rate),
            before: Duration::from_secs(self.seconds),
        };
        let bar = progress(plan.clients);
        let found = storm::run(&host, plan, || {
            bar.inc(1);
            if bar.position() == bar.length().unwrap_or_default() {
                bar.finish_and_clear();
            }
        })?;
        let mut result = found.json();
        result["width"] = plan.width.into();
        let seconds = found.back.as_secs_f64();
        let mut lines = vec![
            (
                "cut",
                format!(
                    "{} viewers within {} ms",
                    found.clients,
                    found.cut.as_millis()
                ),
            ),
            (
                "last one back",
                format!(
                    "after {seconds:.2} s, {:.0} a second",
                    f64::from(self.clients) / seconds
                ),
            ),
            ("handshakes", ages(found.handshakes)),
            (
                "tried again",
                refused(found.refused, found.first_refusal.as_deref()),
            ),
            ("others before", ages(found.calm)),
            ("others during", ages(found.during)),
            ("others lost", found.wrong.to_string()),
        ];
        if let Some(cpu) = found.cpu {
            lines.push(("processor", format!("{} ms of the server", cpu.as_millis())));
        }
        report(self.target.json, machine, result, &lines);
        Ok(())
    }
}
