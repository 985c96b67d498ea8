//! `uproar bench idle`: flags and report.

use clap::Args;

use super::{Failure, Peer, Target, at_least_one, progress};
use crate::idle;
use crate::program::Program;

#[derive(Debug, Args)]
pub(crate) struct Idle {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    peer: Peer,
    /// Viewers
    #[arg(long, default_value_t = 18_000, value_name = "N", value_parser = at_least_one())]
    connections: usize,
    /// Length of their user ids, in bytes
    #[arg(long, default_value_t = 40, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(8..=128))]
    user_id: u16,
}

impl Idle {
    pub(super) fn run(&self, program: &Program, machine: &str) -> Result<(), Failure> {
        let host = self.peer.host(program, &self.target, 1, false)?;
        let bar = progress(self.connections);
        let found = idle::run(&host, self.connections, usize::from(self.user_id), || {
            bar.inc(1);
        })?;
        bar.finish_and_clear();
        if self.target.json {
            let mut result = found.json();
            result["machine"] = machine.into();
            result["user_id_bytes"] = self.user_id.into();
            println!("{result}");
            return Ok(());
        }
        println!("machine          {machine}");
        println!(
            "connections      {}, user ids of {} bytes",
            found.connections, self.user_id
        );
        println!(
            "server memory    {:.0} bytes each above the empty server (Pss of its process), {:.0} for one more",
            found.user_bytes, found.user_bytes_more
        );
        println!(
            "kernel memory    {:.0} bytes each (Slab, both ends)",
            found.kernel_bytes
        );
        println!(
            "handshakes       {:.0} a second, one after the other",
            found.handshakes_per_second
        );
        Ok(())
    }
}
