//! `uproar bench tokens`: flags and report.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::{Failure, Target};
use crate::program::Program;
use crate::tokens;

#[derive(Debug, Args)]
pub(crate) struct Tokens {
    #[command(flatten)]
    target: Target,
    /// The control listener of the server of --target, which must be one of `uproar dev`: its access key is known
    #[arg(long, value_name = "ADDRESS", requires = "messaging")]
    control: Option<SocketAddr>,
    /// Kept-alive connections, one call under way on each
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// Length of the measurement
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

impl Tokens {
    pub(super) fn run(&self, program: &Program, machine: &str) -> Result<(), Failure> {
        if self.target.messaging.is_some() && self.control.is_none() {
            let text = "--target: calls go to the server's control listener; add --control ADDRESS";
            return Err(Failure::Usage(text.to_owned()));
        }
        let mut host = self.target.host(program, 1)?;
        host.control = self.control.or(host.control);
        let connections = usize::from(self.connections);
        let found = tokens::run(&host, connections, Duration::from_secs(self.seconds))?;
        if self.target.json {
            let mut result = found.json();
            result["machine"] = machine.into();
            println!("{result}");
            return Ok(());
        }
        let [p50, p99, max] = found.percentiles;
        println!("machine     {machine}");
        println!(
            "tokens      {:.0} a second over {connections} connections",
            found.per_second
        );
        println!("latency     p50 {p50} us, p99 {p99} us, max {max} us");
        if let Some(cpu) = found.cpu_micros {
            println!("processor   {cpu:.1} us of the server each");
        }
        Ok(())
    }
}
