//! `uproar bench floor`: the kernel's line on this machine, by a loop of plain sends without any
//! server; with `--tls` the line of a loop that also seals.

use std::time::Duration;

use clap::Args;
use rustls::CipherSuite;
use serde_json::json;

use crate::harness::error::Failure;
use crate::harness::flags::{count, seconds};
use crate::harness::plain_sends::{LinePoint, PlainSends, Source, Work};
use crate::harness::program::Environment;
use crate::harness::sealed_sends::{SealedPoint, SealedWork};
use crate::harness::tls::client::suite_name;

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
    #[arg(long, conflicts_with = "tls")]
    memory_file: bool,
    /// The TLS line: seal the same bytes for each socket, in records of up to 16 KiB, and send them
    #[arg(long)]
    tls: bool,
    /// Suite of the TLS line: `fanout --tls` prints the one it agreed on
    #[arg(long, value_enum, default_value_t = Suite::Aes128Gcm, requires = "tls")]
    suite: Suite,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Suites of TLS 1.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Suite {
    #[value(name = "aes-128-gcm")]
    Aes128Gcm,
    #[value(name = "aes-256-gcm")]
    Aes256Gcm,
    #[value(name = "chacha20-poly1305")]
    ChaCha20Poly1305,
}

impl Suite {
    fn of_tls(self) -> CipherSuite {
        match self {
            Self::Aes128Gcm => CipherSuite::TLS13_AES_128_GCM_SHA256,
            Self::Aes256Gcm => CipherSuite::TLS13_AES_256_GCM_SHA384,
            Self::ChaCha20Poly1305 => CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        }
    }
}

impl Floor {
    pub(crate) fn run(&self, environment: &Environment<'_>) -> Result<(), Failure> {
        if self.tls {
            return self.run_tls(environment);
        }
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

    fn run_tls(&self, environment: &Environment<'_>) -> Result<(), Failure> {
        let suite = self.suite.of_tls();
        let work = SealedWork {
            frame_bytes: f64::from(self.frame),
            suite,
            measured: self.measured,
        };
        let mut pairs = PlainSends::connect(self.receivers)?;
        let receivers = pairs.receivers();
        if !self.json {
            println!("machine  {}", environment.machine);
            println!(
                "work     {} byte frames sealed by {} and sent to {receivers} sockets, one thread",
                self.frame,
                suite_name(suite)
            );
            println!(
                "messages/send  deliveries/s  ns/send  ns to seal alone  sealed/s alone  sends to full sockets"
            );
        }
        let mut points = Vec::new();
        for messages in &self.messages {
            let point = SealedPoint::measure(&mut pairs, work, f64::from(*messages))?;
            if !self.json {
                println!(
                    "{messages:13}  {:12.0}  {:7.0}  {:16.0}  {:14.0}  {:19.1} %",
                    point.line.deliveries_per_second,
                    point.line.nanos_per_send,
                    point.nanos_per_seal,
                    point.sealed_per_second(),
                    point.line.full * 100.0
                );
            }
            points.push(point.json(suite));
        }
        if self.json {
            let result = json!({
                "machine": environment.machine,
                "receivers": receivers,
                "frame_bytes": self.frame,
                "tls": true,
                "points": points,
            });
            println!("{result}");
        }
        Ok(())
    }
}
