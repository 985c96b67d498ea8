//! The new process as its parent sees it: a child, or, under a service manager, a process that the manager adopts.
//!
//! systemd waits for the end of a main process only if that is its own child: it stops a unit with any other one by
//! SIGKILL at once. So the new process is started by one in between, which ends at once: then the manager is its parent.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::server::notify;

/// The hidden command of the process in between.
pub(crate) const LAUNCH: &str = "launch";

/// A started process.
pub(super) enum Process {
    Child(Child),
    Adopted { id: u32, pidfd: OwnedFd },
}

impl Process {
    /// Starts `program` with `arguments` and what `prepare` sets; returns it and its standard error, a pipe.
    ///
    /// # Errors
    ///
    /// The kernel's, of the program or of what it needs to start.
    pub(super) fn start(
        program: &Path,
        arguments: impl Iterator<Item = OsString>,
        prepare: impl FnOnce(&mut Command),
    ) -> io::Result<(Self, ChildStderr)> {
        let adopted = notify::has_manager();
        let mut command = if adopted {
            // This program, whatever has become of its file.
            let mut command = Command::new("/proc/self/exe");
            command.arg(LAUNCH).arg(program).stdout(Stdio::piped());
            command
        } else {
            Command::new(program)
        };
        command.args(arguments).stderr(Stdio::piped());
        prepare(&mut command);
        let mut child = command.spawn()?;
        let stderr = child.stderr.take();
        let stderr = stderr.ok_or_else(|| io::Error::other("there is no pipe"))?;
        let process = if adopted {
            Self::adopted(child)?
        } else {
            Self::Child(child)
        };
        Ok((process, stderr))
    }

    /// The process that `launcher` has started.
    fn adopted(mut launcher: Child) -> io::Result<Self> {
        let mut told = String::new();
        if let Some(mut stdout) = launcher.stdout.take() {
            stdout.read_to_string(&mut told)?;
        }
        launcher.wait()?;
        let number: i32 = told
            .trim()
            .parse()
            .map_err(|_| io::Error::other("it was not launched"))?;
        if number <= 0 {
            return Err(io::Error::from_raw_os_error(-number));
        }
        let id = Pid::from_raw(number).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = pidfd_open(id, PidfdFlags::empty())?;
        let id = number.unsigned_abs();
        Ok(Self::Adopted { id, pidfd })
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        match self {
            Self::Child(child) => child.id(),
            Self::Adopted { id, .. } => *id,
        }
    }

    /// How it has ended, in words, if it has. Only a child's status is known.
    pub(super) fn end(&mut self) -> Option<String> {
        match self {
            Self::Child(child) => child.try_wait().ok()?.map(|status| status.to_string()),
            Self::Adopted { pidfd, .. } => {
                has_ended(pidfd, Some(Duration::ZERO)).then(|| "its status is not known".to_owned())
            }
        }
    }

    /// Kills it, and waits for its end. It fails only if the process has ended.
    pub(super) fn kill(&mut self) {
        match self {
            Self::Child(child) => {
                let _ended = child.kill();
                let _reaped = child.wait();
            }
            Self::Adopted { pidfd, .. } => {
                let _ended = pidfd_send_signal(&*pidfd, Signal::KILL);
                has_ended(pidfd, None);
            }
        }
    }
}

/// Whether the process has ended, or ends within `time`; `None`: however long it takes.
fn has_ended(pidfd: &OwnedFd, time: Option<Duration>) -> bool {
    let time = time.and_then(|time| Timespec::try_from(time).ok());
    let mut polled = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut polled, time.as_ref()).is_ok_and(|ready| ready > 0)
}

/// The process in between: starts `program`, and says its process id, or the kernel's error as a negative number.
pub(crate) fn launch(program: &Path, arguments: &[OsString]) -> i32 {
    // Its output would keep the pipe of the answer open.
    let mut command = Command::new(program);
    let started = command.args(arguments).stdout(Stdio::null()).spawn();
    match started {
        Ok(child) => i32::try_from(child.id()).unwrap_or(-libc::EINVAL),
        Err(error) => -error.raw_os_error().unwrap_or(libc::EINVAL),
    }
}
