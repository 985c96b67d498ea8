//! `uproar bench scale`: flags and table.

use std::thread::available_parallelism;

use clap::Args;
use serde_json::{Value, json};

use super::{Failure, progress};
use crate::program::Program;
use crate::sample::CONTENT_BYTES_MIN;
use crate::scale::{self, Plan, Run};

#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// Shards to compare, the first of which is the measure; separate by commas
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2], value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    shards: Vec<u16>,
    /// Viewers of the room, which is spread over all shards
    #[arg(long, default_value_t = 2000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    receivers: u32,
    /// Length of each message's content, in bytes
    #[arg(long, default_value_t = 200, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(CONTENT_BYTES_MIN as i64..=500))]
    size: u16,
    /// Messages said at once, the next when these have reached everybody: one send carries so many
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    messages: u16,
    /// How often, before anybody reads
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    chunks: u16,
    /// Measured bursts of a run, each read and checked afterwards
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    bursts: u16,
    /// Rounds, each with every number of shards in turn on a fresh server; ratios are of one round
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=99))]
    runs: u8,
    /// One JSON object on standard output instead of a table
    #[arg(long)]
    json: bool,
    /// Passed to the servers that are started, as in `-- --config FILE`
    #[arg(last = true)]
    extra: Vec<String>,
}

impl Scale {
    pub(super) fn run(&self, program: &Program, machine: &str) -> Result<(), Failure> {
        let plan = Plan {
            receivers: self.receivers as usize,
            content_bytes: usize::from(self.size),
            messages: usize::from(self.messages),
            chunks: usize::from(self.chunks),
            bursts: usize::from(self.bursts),
        };
        plan.check().map_err(Failure::Usage)?;
        let most = usize::from(self.shards.iter().copied().max().unwrap_or(1));
        // Read before a server is started, which pins this thread.
        let cores = available_parallelism().map_or(1, usize::from);
        if most > cores {
            let text = format!("--shards {most}: this machine has {cores} processors");
            return Err(Failure::Usage(text));
        }
        if !self.json {
            println!("machine  {machine}");
            println!(
                "work     1 room x {} receivers, {} messages at once, {} times, {} bursts; nobody reads meanwhile",
                self.receivers, self.messages, self.chunks, self.bursts
            );
            if most == cores {
                println!("load     shares a processor with a shard, and sleeps");
            }
            println!("{HEADING}");
        }
        let mut rounds: Vec<Vec<Run>> = Vec::new();
        for round in 0..self.runs {
            let mut runs: Vec<Run> = Vec::new();
            for shards in self.shards.iter().copied().map(usize::from) {
                let host = scale::start(program, shards, &self.extra)?;
                let bar = progress(plan.receivers);
                let run = scale::run(&host, shards, &plan, || bar.inc(1))?;
                bar.finish_and_clear();
                runs.push(run);
                if !self.json {
                    println!("{}", line(round, &run, &runs[0]));
                }
            }
            rounds.push(runs);
        }
        let result = self.summary(machine, &rounds);
        if self.json {
            println!("{result}");
            return Ok(());
        }
        for row in result["ratios"].as_array().into_iter().flatten() {
            let figure = |name: &str| row[name].as_f64().unwrap_or_default();
            println!(
                "result   {} shards: {:.2} x {} in deliveries/s ({:.2} to {:.2}), {:.2} x in sends/s, {:.2} x by the busiest shard's own time",
                row["shards"],
                figure("deliveries"),
                self.shards[0],
                figure("deliveries_lowest"),
                figure("deliveries_highest"),
                figure("sends"),
                figure("sends_of_busiest_shard"),
            );
        }
        Ok(())
    }

    /// For each number of shards except the first: the median over the rounds, and its spread.
    fn summary(&self, machine: &str, rounds: &[Vec<Run>]) -> Value {
        let ratios = |index: usize, figure: fn(&Run) -> f64| {
            let of = |runs: &Vec<Run>| figure(&runs[index]) / figure(&runs[0]);
            let mut ratios: Vec<f64> = rounds.iter().map(of).collect();
            ratios.sort_by(f64::total_cmp);
            ratios
        };
        let rows = (1..self.shards.len()).map(|index| {
            let deliveries = ratios(index, Run::deliveries_per_second);
            let sends = ratios(index, Run::sends_per_second);
            let busy = ratios(index, Run::sends_per_busy_second);
            json!({
                "shards": self.shards[index],
                "deliveries": deliveries[deliveries.len() / 2],
                "deliveries_lowest": deliveries[0],
                "deliveries_highest": deliveries[deliveries.len() - 1],
                "sends": sends[sends.len() / 2],
                "sends_of_busiest_shard": busy[busy.len() / 2],
            })
        });
        json!({
            "machine": machine,
            "receivers": self.receivers,
            "content_bytes": self.size,
            "messages_at_once": self.messages,
            "chunks": self.chunks,
            "bursts": self.bursts,
            "ratios": rows.collect::<Vec<_>>(),
            "runs": rounds.iter().flatten().map(Run::json).collect::<Vec<_>>(),
        })
    }
}

const HEADING: &str = "round  shards  deliveries/s   sends/s  sends/busy s  messages/send  cpu us/send (user+system)  wrong  ratio";

fn line(round: u8, run: &Run, first: &Run) -> String {
    let [user, system] = run
        .cpu
        .map(|time| time.as_secs_f64() * 1e6 / run.sends.max(1.0));
    format!(
        "{:5}  {:6}  {:12.0}  {:8.0}  {:12.0}  {:13.2}  {:>25}  {:5}  {:5.2}",
        round + 1,
        run.shards,
        run.deliveries_per_second(),
        run.sends_per_second(),
        run.sends_per_busy_second(),
        run.messages_per_send,
        format!("{user:.2}+{system:.2}"),
        run.wrong,
        run.deliveries_per_second() / first.deliveries_per_second(),
    )
}
