//! One child process that can be killed and started again; it ends with this process, however that ends.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::harness::error::BenchError;
use crate::harness::machine;

/// The hidden command of this program that asks the kernel to kill it with its parent, then becomes another program.
const TETHER: &str = "tether";
/// Lines of a log in an error's text.
const LAST_LINES: usize = 12;

/// A program, and its process if it runs.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    uproar: PathBuf,
    program: PathBuf,
    arguments: Vec<OsString>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Starts `program`. Its output goes to `NAME.log` in `directory`.
    pub(super) fn start(
        name: String,
        (uproar, program): (&Path, &Path),
        arguments: Vec<OsString>,
        directory: &Path,
    ) -> Result<Self, BenchError> {
        let mut process = Self {
            log: directory.join(format!("{name}.log")),
            name,
            uproar: uproar.to_owned(),
            program: program.to_owned(),
            arguments,
            child: None,
        };
        process.restart()?;
        Ok(process)
    }

    /// Starts it again, with the data that it had.
    pub(super) fn restart(&mut self) -> Result<(), BenchError> {
        debug_assert!(self.child.is_none(), "it was killed before");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let child = Command::new(&self.uproar)
            .args([TETHER, &std::process::id().to_string()])
            .arg(&self.program)
            .args(&self.arguments)
            .env("UPROAR_LOG__FILTER", "warn")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    /// Kills it as a crash does. Nothing happens if it does not run.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Processor time of all its threads since its start.
    pub(super) fn busy(&self) -> Duration {
        let times = self.pid().map(machine::thread_times).unwrap_or_default();
        times.values().sum()
    }

    /// The error of a process that has ended by itself; `None`: it runs.
    pub(super) fn ended(&mut self) -> io::Result<Option<BenchError>> {
        let status = match &mut self.child {
            Some(child) => child.try_wait()?,
            None => return Ok(None),
        };
        Ok(status.map(|status| self.fault(&format!("has ended ({status})"))))
    }

    /// An error that says what the process said last.
    pub(super) fn fault(&self, what: &str) -> BenchError {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let said = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
        BenchError::Server(format!("{} {what}; it said last:\n{said}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _best_effort = self.kill();
    }
}
