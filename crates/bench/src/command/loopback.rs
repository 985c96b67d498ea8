//! `uproar bench loopback`: flags and line.

use std::io;

use clap::Args;
use serde_json::json;

use super::{Failure, report};
use crate::BenchError;
use crate::loopback::{PACKET_BYTES_DEFAULT, PACKET_BYTES_MAX, packet_bytes, set_packet_bytes};
use crate::machine;

#[derive(Debug, Args)]
pub(crate) struct Loopback {
    /// Largest packet from now on, for all of this machine's new connections over loopback; 65536 is
    /// Linux's own. Needs CAP_NET_ADMIN
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(i64::from(PACKET_BYTES_DEFAULT)..=i64::from(PACKET_BYTES_MAX)))]
    packets: Option<u32>,
    /// One JSON object on standard output instead of lines
    #[arg(long)]
    json: bool,
}

impl Loopback {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let before = packet_bytes().map_err(BenchError::from)?;
        if let Some(bytes) = self.packets {
            set_packet_bytes(bytes).map_err(|error| refused(bytes, &error))?;
        }
        let now = packet_bytes().map_err(BenchError::from)?;
        let result = json!({"packet_bytes": now, "packet_bytes_before": before});
        let text = if self.packets.is_some() {
            format!("largest packet {now} bytes, before {before}")
        } else {
            format!("largest packet {now} bytes")
        };
        report(
            self.json,
            &machine::describe(),
            result,
            &[("loopback", text)],
        );
        Ok(())
    }
}

fn refused(bytes: u32, error: &io::Error) -> Failure {
    let text = format!(
        "--packets {bytes}: {error}; root may, or who has CAP_NET_ADMIN in this network namespace"
    );
    Failure::Measurement(BenchError::Io(io::Error::other(text)))
}
