//! `uproar bench neighbours`: flags and table.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::crowd::Clients;
use super::{Failure, Target, progress};
use crate::neighbours::{self, Plan, Row};
use crate::program::Program;
use crate::sample::CONTENT_BYTES_MIN;
use crate::{BenchError, plot};

#[derive(Debug, Args)]
pub(crate) struct Neighbours {
    #[command(flatten)]
    target: Target,
    /// Members of the huge room
    #[arg(long, default_value_t = 50_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=2_500_000))]
    crowd: u32,
    /// Members of the small room
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    members: u16,
    /// Messages a second in the small room
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    member_rate: u16,
    /// Messages a second in the huge room, one row each [default: doubled from 1 until its limit]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rates: Option<Vec<u32>>,
    /// Length of the huge room's messages' content, in bytes
    #[arg(long, default_value_t = 200, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(CONTENT_BYTES_MIN as i64..=500))]
    size: u16,
    /// Bound of the huge room's 99th percentile; a row beyond it is over its limit
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    p99_ms: u64,
    /// Length of each row's measurement
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Both rooms' 99th percentiles against the huge room's deliveries, as a picture
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    clients: Clients,
}

impl Neighbours {
    pub(super) fn run(&self, program: &Program, machine: &str) -> Result<(), Failure> {
        let everybody = self.crowd as usize + usize::from(self.members);
        let host = self.target.host_for(program, 2, everybody)?;
        let rates = self.rates.as_ref();
        let plan = Plan {
            crowd: self.crowd as usize,
            members: usize::from(self.members),
            member_rate: f64::from(self.member_rate),
            rates: rates.map(|rates| rates.iter().copied().map(f64::from).collect()),
            content_bytes: usize::from(self.size),
            p99_max: Duration::from_millis(self.p99_ms),
            measured: Duration::from_secs(self.seconds),
            part_size: self.clients.part_size(),
            width: usize::from(self.clients.width),
            shards: self.target.shards,
        };
        let quiet = self.target.json;
        if !quiet {
            println!("machine   {machine}");
            println!(
                "work      a room of {} at {} messages/s beside one of {}, {} shard(s)",
                self.members, self.member_rate, self.crowd, self.target.shards
            );
        }
        let bar = progress(plan.crowd);
        let mut headed = false;
        let rows = neighbours::run(
            &host,
            &plan,
            |count| {
                bar.set_position(count as u64);
                if count == plan.crowd {
                    bar.finish_and_clear();
                }
            },
            |row| {
                if !quiet {
                    if !std::mem::replace(&mut headed, true) {
                        println!("{HEADING}");
                    }
                    println!("{}", line(row));
                }
            },
        )?;
        if let Some(path) = &self.plot {
            let title = format!(
                "p99 of a room of {} beside one of {} on the same shard",
                self.members, self.crowd
            );
            let picture = plot::neighbours(&title, &rows, plan.p99_max);
            fs::write(path, picture).map_err(BenchError::from)?;
        }
        if quiet {
            let rows: Vec<_> = rows.iter().map(Row::json).collect();
            let result = json!({
                "machine": machine,
                "crowd": self.crowd,
                "members": self.members,
                "member_rate": self.member_rate,
                "content_bytes": self.size,
                "rows": rows,
            });
            println!("{result}");
        }
        Ok(())
    }
}

const HEADING: &str = "            huge room                                 small room\n\
    messages/s  deliveries/s   p50 ms   p99 ms   lost   p50 ms   p99 ms   max ms  lost  tool late ms  server  clients";

fn line(row: &Row) -> String {
    let [small_p50, small_p99, _, small_max] = row.small.ms();
    let [huge_p50, huge_p99, ..] = row.huge.ms();
    let [server, clients] = row
        .busy
        .map(|share| share.map_or_else(String::new, |share| format!("{:.0} %", share * 100.0)));
    let verdict = if row.kept { "" } else { "  over" };
    format!(
        "{:10.0}  {:12.0}  {huge_p50:7.2}  {huge_p99:7.2}  {:5}  {small_p50:7.2}  {small_p99:7.2}  {small_max:7.2}  {:4}  {:12.2}  {server:>6}  {clients:>7}{verdict}",
        row.rate,
        row.deliveries_per_second,
        row.huge_wrong,
        row.small_wrong,
        row.late_ms(),
    )
}
