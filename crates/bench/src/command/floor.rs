//! `uproar bench floor`: flags and table.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::Failure;
use crate::floor::{self, Plan};

#[derive(Debug, Args)]
pub(crate) struct Floor {
    /// Sockets
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    receivers: u32,
    /// Bytes of one delivered frame on the wire; `fanout` shows its own
    #[arg(long, default_value_t = 386, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(1..=20_480))]
    frame: u16,
    /// Frames that one send carries; repeat, or separate by commas
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 16, 64, 256], value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    messages: Vec<u16>,
    /// Length of one measurement
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Instead of sending bytes, `sendfile` them from a memory file: the kernel copies nothing
    #[arg(long)]
    memory_file: bool,
    /// One JSON object on standard output instead of a table
    #[arg(long)]
    json: bool,
}

impl Floor {
    pub(super) fn run(&self, machine: &str) -> Result<(), Failure> {
        let mut floor = floor::Floor::connect(Plan {
            receivers: self.receivers as usize,
            frame_bytes: f64::from(self.frame),
            measured: Duration::from_secs(self.seconds),
            memory_file: self.memory_file,
        })?;
        let receivers = floor.receivers();
        if !self.json {
            println!("machine  {machine}");
            let sends = if self.memory_file {
                "sendfile from a memory file"
            } else {
                "plain sends"
            };
            println!(
                "work     {sends} of {} byte frames to {receivers} sockets, one thread",
                self.frame
            );
            println!("messages/send  deliveries/s  ns/send  sends to full sockets");
        }
        let mut points: Vec<Value> = Vec::new();
        for messages in &self.messages {
            let point = floor.measure(f64::from(*messages))?;
            if !self.json {
                println!(
                    "{messages:13}  {:12.0}  {:7.0}  {:19.1} %",
                    point.deliveries_per_second,
                    point.nanos_per_send,
                    point.full * 100.0
                );
            }
            points.push(point.json());
        }
        if self.json {
            let result = json!({
                "machine": machine,
                "receivers": receivers,
                "frame_bytes": self.frame,
                "points": points,
            });
            println!("{result}");
        }
        Ok(())
    }
}
