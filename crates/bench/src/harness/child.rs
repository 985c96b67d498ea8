//! A server that was started for the measurement, as a child process on free ports.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::error::BenchError;
use super::program::Program;
use super::{api, machine};

/// Longest wait for the child to become ready, and for it to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// How to start a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start<'a> {
    pub(crate) shards: usize,
    /// Rooms to create.
    pub(crate) rooms: usize,
    /// Further arguments of its command line.
    pub(crate) extra: &'a [String],
    /// Settings as `UPROAR_SECTION__KEY` and value, which a file in `extra` cannot change.
    pub(crate) settings: &'a [(&'a str, &'a str)],
}

/// A server that was started for this measurement. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct OwnChild {
    pub(super) messaging: SocketAddr,
    pub(super) control: SocketAddr,
    process: Child,
    /// Has its data and its log; removed at the end.
    directory: PathBuf,
}

impl OwnChild {
    /// Starts the program as `dev --quotas open` and waits until it is ready.
    pub(super) fn start(program: &Program, start: Start<'_>) -> Result<Self, BenchError> {
        let (messaging, control) = (free_port()?, free_port()?);
        let directory = std::env::temp_dir().join(format!("uproar-bench-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let log = File::create(directory.join("log"))?;
        // Inherited: the server, its control thread included, stays on these processors.
        machine::pin(0..start.shards);
        let process = Command::new(&program.executable)
            .args(["dev", "--quotas", "open"])
            .args(["--shards", &start.shards.to_string()])
            .args(["--messaging-listen", &messaging.to_string()])
            .args(["--control-listen", &control.to_string()])
            .arg("--data-dir")
            .arg(directory.join("data"))
            .args(start.extra)
            .env("UPROAR_LOG__FILTER", "warn")
            .envs(start.settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        machine::pin_to_last();
        let mut child = Self {
            messaging,
            control,
            process,
            directory,
        };
        child.wait_ready()?;
        Ok(child)
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn wait_ready(&mut self) -> Result<(), BenchError> {
        let started = Instant::now();
        loop {
            let ready = api::get(self.control, "/readyz");
            if ready.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return Ok(());
            }
            let ended = self.process.try_wait()?;
            if ended.is_some() || started.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                return Err(BenchError::Server(format!("did not become ready\n{log}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for OwnChild {
    fn drop(&mut self) {
        let pid = i32::try_from(self.process.id())
            .ok()
            .and_then(Pid::from_raw);
        // A child that has ended already is fine.
        let _signalled = pid.map(|pid| kill_process(pid, Signal::TERM));
        let started = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) && started.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _killed = self.process.kill();
        let _reaped = self.process.wait();
        let _removed = fs::remove_dir_all(&self.directory);
    }
}

/// Returns a port that was free a moment ago, below the range of outgoing connections: a connection
/// to a port of that range, at which nobody listens yet, may be connected to itself.
pub(super) fn free_port() -> Result<SocketAddr, BenchError> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let outgoing = range.split_whitespace().next().map(str::parse);
    let outgoing: u16 = outgoing.and_then(Result::ok).unwrap_or(PORTS_FROM);
    let mut tried = Err(io::ErrorKind::AddrInUse.into());
    for _ in 0..PORTS_TRIED {
        let port = fastrand::u16(PORTS_FROM..outgoing.max(PORTS_FROM + 100));
        tried = TcpListener::bind(("127.0.0.1", port)).and_then(|listener| listener.local_addr());
        if tried.is_ok() {
            break;
        }
    }
    Ok(tried?)
}

/// The first port that is tried.
const PORTS_FROM: u16 = 10_000;
/// How many ports are tried.
const PORTS_TRIED: usize = 100;
