//! Starts the new process, and hears it until it greets: each way to fail before that has an answer for the operator.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use tokio::net::unix::pipe;

use super::super::notify::OF_THIS_PROCESS;
use super::launch::Process;
use crate::config::TAKE_OVER;
use uproar_proto::base::limits::TAKE_OVER_LINES_MAX;

/// A started process that has not greeted yet.
pub(super) struct Started {
    process: Process,
    stderr: pipe::Receiver,
    // Its last lines, for whoever asks why it failed.
    lines: VecDeque<String>,
    partial: Vec<u8>,
    is_silent: bool,
}

/// Starts `binary` with this process's arguments.
///
/// # Errors
///
/// In words: it does not exist, is no program, or no process is available.
pub(super) fn start(binary: &Path, data_dir: &Path) -> Result<Started, String> {
    let name = binary.display();
    let failed = |error: io::Error| {
        let next = if error.kind() == io::ErrorKind::NotFound {
            "name the new program with --binary"
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            "make it executable for this server's user"
        } else {
            "look at the file: it must be a program for this machine"
        };
        format!("{name} cannot be started: {error}; {next}")
    };
    let data_dir = data_dir.canonicalize().map_err(failed)?;
    let arguments = std::env::args_os().skip(1);
    let (process, stderr) = Process::start(binary, arguments, |command| {
        for variable in OF_THIS_PROCESS {
            command.env_remove(variable);
        }
        command.env(TAKE_OVER, data_dir);
    })
    .map_err(failed)?;
    let stderr = OwnedFd::from(stderr);
    Ok(Started {
        process,
        stderr: pipe::Receiver::from_owned_fd(stderr).map_err(failed)?,
        lines: VecDeque::new(),
        partial: Vec::new(),
        is_silent: false,
    })
}

impl Started {
    /// Its process id.
    pub(super) fn process(&self) -> u32 {
        self.process.id()
    }

    /// Returns when it has ended, and how, in words. Meanwhile its lines go to this process's own log.
    pub(super) async fn ended(&mut self) -> String {
        loop {
            if let Some(end) = self.process.end() {
                self.take_last_lines();
                return end;
            }
            let readable = async {
                if self.is_silent {
                    std::future::pending::<()>().await;
                }
                let _look = self.stderr.readable().await;
            };
            let _either = tokio::time::timeout(LOOK, readable).await;
            self.take_lines();
        }
    }

    /// Kills it, and waits for its end.
    pub(super) fn kill(&mut self) {
        self.process.kill();
        self.take_last_lines();
    }

    /// What it said last, for the operator.
    pub(super) fn last_lines(&self) -> String {
        if self.lines.is_empty() {
            return "it said nothing".to_owned();
        }
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        format!("it said:\n{}", lines.join("\n"))
    }

    fn take_lines(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.stderr.try_read(&mut buffer) {
                // It writes where this process does from now on, or has ended.
                Ok(0) => {
                    self.is_silent = true;
                    return;
                }
                Ok(len) => self.take(&buffer[..len]),
                Err(_) => return,
            }
        }
    }

    /// After its end, when the runtime may not have told yet that there is something to read.
    fn take_last_lines(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = rustix::io::read(&self.stderr, &mut buffer) {
            self.take(&buffer[..len]);
        }
        self.take(b"\n");
    }

    fn take(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            if line.trim_ascii().is_empty() {
                continue;
            }
            crate::logging::pass_on(&line);
            if self.lines.len() == TAKE_OVER_LINES_MAX {
                self.lines.pop_front();
            }
            let line = String::from_utf8_lossy(&line);
            self.lines
                .push_back(crate::logging::bounded(line.trim_end()).into_owned());
        }
        if self.partial.len() > LINE_BYTES_MAX {
            self.partial.clear();
        }
    }
}

/// Interval of the looks whether it has ended.
const LOOK: Duration = Duration::from_millis(20);
/// Longest line that is kept, in bytes: a program that ends none is no server.
const LINE_BYTES_MAX: usize = 64 * 1024;
