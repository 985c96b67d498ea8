//! The processes: three brokers, three nodes.

use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::{ffi::OsString, os::unix::process::CommandExt};

use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use super::fault::DevClusterError;
use super::layout::{Layout, last_lines};
use super::ports;
use super::tether::TETHER;

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Broker,
    Node,
}

/// What the page's buttons do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// In order: a node drains, a broker hands its leaderships over (lame duck).
    Stop,
    /// At once, as a crash does.
    Kill,
    /// With the data that it had.
    Start,
}

/// One process, and how to start it again.
#[derive(Debug)]
struct Member {
    name: String,
    kind: Kind,
    number: u16,
    program: PathBuf,
    arguments: Vec<OsString>,
    log: PathBuf,
    process: Option<Child>,
}

/// What the page shows of a process.
#[derive(Debug, Serialize)]
pub(super) struct Shown<'a> {
    name: &'a str,
    kind: Kind,
    /// From 1; of a node's ports, too.
    number: u16,
    /// `None`: it does not run.
    pid: Option<u32>,
}

/// All processes.
#[derive(Debug)]
pub(super) struct Members(Vec<Member>);

impl Members {
    /// None of them runs yet.
    pub(super) fn of(layout: &Layout) -> Self {
        let brokers = ports::all().map(|ports| (Kind::Broker, ports, layout.broker_command(ports)));
        let nodes = ports::all().map(|ports| (Kind::Node, ports, layout.node_command(ports)));
        let members = brokers
            .chain(nodes)
            .map(|(kind, ports, (program, arguments))| {
                let number = ports.number;
                let name = match kind {
                    Kind::Broker => format!("broker-{number}"),
                    Kind::Node => format!("node-{number}"),
                };
                let log = layout.log_file(&name);
                Member {
                    name,
                    kind,
                    number,
                    program,
                    arguments,
                    log,
                    process: None,
                }
            });
        Self(members.collect())
    }

    /// Starts those of a kind.
    pub(super) fn start_all(&mut self, kind: Kind) -> Result<(), DevClusterError> {
        for member in self.0.iter_mut().filter(|member| member.kind == kind) {
            member.start().map_err(|cause| DevClusterError::Program {
                program: member.program.clone(),
                cause,
            })?;
        }
        Ok(())
    }

    /// Fails if one that was started has ended.
    pub(super) fn all_must_live(&mut self) -> Result<(), DevClusterError> {
        for member in &mut self.0 {
            if let Some(status) = member.ended() {
                return Err(DevClusterError::Ended {
                    name: member.name.clone(),
                    status: status.to_string(),
                    said: last_lines(&member.log),
                });
            }
        }
        Ok(())
    }

    /// What the page shows.
    pub(super) fn shown(&mut self) -> Vec<Shown<'_>> {
        self.0.iter_mut().map(Member::shown).collect()
    }

    /// Does what a button says; the refusal is for its user.
    pub(super) fn order(&mut self, name: &str, order: Order) -> Result<(), String> {
        let member = self.0.iter_mut().find(|member| member.name == name);
        let member = member.ok_or_else(|| format!("there is no {name:?}"))?;
        let runs = member.pid().is_some();
        let done = match order {
            Order::Start if runs => return Err(format!("{name} runs already")),
            Order::Start => member.start(),
            Order::Stop | Order::Kill if !runs => return Err(format!("{name} does not run")),
            Order::Kill => member.signal(Signal::KILL),
            Order::Stop => member.signal(match member.kind {
                Kind::Node => Signal::TERM,
                Kind::Broker => Signal::USR2,
            }),
        };
        done.map_err(|error| format!("{name}: {error}"))
    }

    /// Tells nodes to stop. One that is stopped by SIGSTOP hears it, too.
    pub(super) fn terminate_nodes(&mut self) {
        for node in self.0.iter_mut().filter(|member| member.kind == Kind::Node) {
            // It fails only if it has ended.
            let _ended = node.signal(Signal::TERM);
            let _ended = node.signal(Signal::CONT);
        }
    }

    /// Whether a node runs.
    pub(super) fn has_nodes(&mut self) -> bool {
        let mut nodes = self.0.iter_mut().filter(|member| member.kind == Kind::Node);
        nodes.any(|node| node.pid().is_some())
    }

    /// Kills what runs, and waits for its end.
    pub(super) fn kill_all(&mut self) {
        for member in &mut self.0 {
            if let Some(mut process) = member.process.take() {
                let _ended = process.kill();
                let _reaped = process.wait();
            }
        }
    }
}

impl Member {
    fn start(&mut self) -> io::Result<()> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let parent = std::process::id().to_string();
        let mut command = Command::new("/proc/self/exe");
        command
            .args([TETHER, &parent])
            .arg(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for the parent, which ends its children in their order.
            .process_group(0);
        self.process = Some(command.spawn()?);
        Ok(())
    }

    /// How it has ended, told once.
    fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut()?.try_wait().ok()??;
        self.process = None;
        Some(status)
    }

    fn pid(&mut self) -> Option<u32> {
        let _told = self.ended();
        self.process.as_ref().map(Child::id)
    }

    fn shown(&mut self) -> Shown<'_> {
        let pid = self.pid();
        let Self {
            name, kind, number, ..
        } = self;
        Shown {
            name,
            kind: *kind,
            number: *number,
            pid,
        }
    }

    fn signal(&mut self, signal: Signal) -> io::Result<()> {
        let process = self.process.as_ref().ok_or(io::ErrorKind::NotFound)?;
        // Not reaped yet, so the id is its own.
        Ok(kill_process(Pid::from_child(process), signal)?)
    }
}
