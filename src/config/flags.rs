//! Flags of `serve` and `dev`; they win over everything.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::Value;

use super::listen;
use super::raw::{IoChoice, Profile};

/// What can be said on the command line.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where viewers connect (WebSocket), as in 0.0.0.0:8080
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen::parse)]
    pub messaging_listen: Option<SocketAddr>,
    /// Where application servers call the API, as in 10.0.0.5:8081; keep it private
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen::parse)]
    pub control_listen: Option<SocketAddr>,
    // Not a path: TOML has UTF-8 only, which clap enforces this way.
    /// Where rooms, keys and used tokens are kept
    #[arg(long, value_name = "DIRECTORY")]
    pub data_dir: Option<String>,
    /// Shard threads, one a core [default: all cores]
    #[arg(long, value_name = "N", value_parser = whole)]
    pub shards: Option<u32>,
    /// What moves viewers' bytes; auto: io_uring if the kernel allows it, else epoll
    #[arg(long, value_enum)]
    pub io: Option<IoChoice>,
    /// Rates: the managed service's, or none
    #[arg(long, value_enum)]
    pub quotas: Option<Profile>,
    /// Compress messages for viewers that offer permessage-deflate
    #[arg(long)]
    pub compression: bool,
    /// Take over from the server of this data directory, viewers included, if one runs
    #[arg(long)]
    pub take_over: bool,
    /// Print each value and where it comes from, then exit
    #[arg(long)]
    pub print_config: bool,
}

impl Flags {
    /// Key, flag and value of each given flag.
    pub(super) fn values(&self) -> Vec<(&'static str, &'static str, Value)> {
        let text = |text: &dyn ToString| Value::String(text.to_string());
        let address = |address: &SocketAddr| text(address);
        let listed = [
            (
                "messaging.listen",
                "--messaging-listen",
                self.messaging_listen.as_ref().map(address),
            ),
            (
                "control.listen",
                "--control-listen",
                self.control_listen.as_ref().map(address),
            ),
            (
                "server.data_dir",
                "--data-dir",
                self.data_dir.as_ref().map(|path| text(path)),
            ),
            (
                "server.shards",
                "--shards",
                self.shards.map(|count| Value::Integer(count.into())),
            ),
            (
                "server.io",
                "--io",
                self.io.map(|choice| text(&choice.name())),
            ),
            (
                "quotas.profile",
                "--quotas",
                self.quotas.map(|profile| text(&profile.name())),
            ),
            (
                "messaging.compression",
                "--compression",
                self.compression.then_some(Value::Boolean(true)),
            ),
        ];
        listed
            .into_iter()
            .filter_map(|(key, flag, value)| Some((key, flag, value?)))
            .collect()
    }
}

fn whole(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_| "it must be a whole number")
}
