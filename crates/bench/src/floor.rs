//! `uproar bench floor`: the kernel's line on this machine, by a loop of plain sends without any
//! server.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::harness::error::Failure;
use crate::harness::flags::{count, seconds};
use crate::harness::plain_sends::{LinePoint, PlainSends, Source, Work};
use crate::harness::program::Environment;

/// Flags of `uproar bench floor`.
#[derive(Debug, Args)]
pub(crate) struct Floor {
    /// Sockets
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = count(1..=1_000_000))]
    receivers: usize,
    /// Length of one delivered frame on the wire, in bytes; `fanout` prints that of its frames
    #[arg(long, default_value_t = 386, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(1..=20_480))]
    frame: u16,
    /// Frames in one send; repeat, or separate by commas
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 16, 64, 256], value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    messages: Vec<u16>,
    /// Length of one measurement, in seconds
    #[arg(long = "seconds", default_value = "2", value_name = "SECONDS", value_parser = seconds())]
    measured: Duration,
    /// Use `sendfile` from a memory file, which copies nothing, instead of `send`
    #[arg(long)]
    memory_file: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

impl Floor {
    pub(crate) fn run(&self, environment: &Environment<'_>) -> Result<(), Failure> {
        let (source, sends) = if self.memory_file {
            (Source::MemoryFile, "sendfile from a memory file")
        } else {
            (Source::Buffer, "plain sends")
        };
        let work = Work {
            frame_bytes: f64::from(self.frame),
            source,
            measured: self.measured,
        };
        let mut pairs = PlainSends::connect(self.receivers)?;
        let receivers = pairs.receivers();
        if !self.json {
            println!("machine  {}", environment.machine);
            println!(
                "work     {sends} of {} byte frames to {receivers} sockets, one thread",
                self.frame
            );
            println!("messages/send  deliveries/s  ns/send  sends to full sockets");
        }
        let mut points: Vec<LinePoint> = Vec::new();
        for messages in &self.messages {
            let point = pairs.measure(&work, f64::from(*messages))?;
            if !self.json {
                println!(
                    "{messages:13}  {:12.0}  {:7.0}  {:19.1} %",
                    point.deliveries_per_second,
                    point.nanos_per_send,
                    point.full * 100.0
                );
            }
            points.push(point);
        }
        if self.json {
            let result = json!({
                "machine": environment.machine,
                "receivers": receivers,
                "frame_bytes": self.frame,
                "points": points.iter().map(LinePoint::json).collect::<Vec<_>>(),
            });
            println!("{result}");
        }
        Ok(())
    }
}
