//! `uproar bench loopback`: the loopback's largest packet, which bounds every server that is
//! measured over it.

use clap::Args;
use serde_json::json;

use crate::harness::error::{BenchError, Failure};
use crate::harness::machine;
use crate::harness::netlink::{
    PACKET_BYTES_DEFAULT, PACKET_BYTES_MAX, packet_bytes, set_packet_bytes,
};
use crate::harness::report::print;

/// Flags of `uproar bench loopback`.
#[derive(Debug, Args)]
pub(crate) struct Loopback {
    /// Set the largest packet, in bytes, for all new connections over loopback on this machine;
    /// 65536 is Linux's default. Needs CAP_NET_ADMIN
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(i64::from(PACKET_BYTES_DEFAULT)..=i64::from(PACKET_BYTES_MAX)))]
    packets: Option<u32>,
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

impl Loopback {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let before = packet_bytes()?;
        if let Some(bytes) = self.packets {
            set_packet_bytes(bytes).map_err(|error| {
                let text = format!(
                    "--packets {bytes}: {error}; root may, or who has CAP_NET_ADMIN in this network namespace"
                );
                BenchError::Io(std::io::Error::other(text))
            })?;
        }
        let now = packet_bytes()?;
        let result = json!({"packet_bytes": now, "packet_bytes_before": before});
        let text = if self.packets.is_some() {
            format!("largest packet {now} bytes, before {before}")
        } else {
            format!("largest packet {now} bytes")
        };
        // Described now, because the packet is part of the description.
        print(
            self.json,
            &machine::describe(),
            result,
            &[("loopback", text)],
        );
        Ok(())
    }
}
