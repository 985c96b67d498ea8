//! The orders: to start a new process and hand over to it, or to hand over to one that asks.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::super::admin::{Refusal, RefusalCode, Reply};
use super::lead::{Leader, Led, Told};
use super::spawn::{self, Started};
use super::subject::Subject;
use crate::net::pass::Connection;
use crate::supervisor;
use crate::takeover::old::Outcome;
use uproar_proto::base::limits::TAKE_OVER_START_MAX;

/// What an upgrade has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Upgraded {
    /// The new process serves.
    Serves {
        /// Its id.
        pid: u32,
        /// Viewers with it; `None` if it did not say so in time.
        viewers: Option<u64>,
        /// Time in which they were not served, in milliseconds.
        pause_ms: Option<u64>,
    },
    /// There was no hand-over; this server stops, so that its supervisor starts the new program.
    Restarts {
        /// Why there was none.
        reason: String,
    },
}

/// Whether the server is to stop, to be started anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Restart {
    /// It is.
    Yes,
    /// It serves on.
    No,
}

/// What an upgrade is given while it runs.
#[derive(Debug)]
pub(in crate::server) struct Calls {
    /// Connections that want to take over.
    pub(in crate::server) connections: mpsc::Receiver<OwnedFd>,
    /// What signals say meanwhile.
    pub(in crate::server) told: Told,
}

/// Why there was no hand-over.
struct Unmoved {
    reason: String,
    // What is the case now.
    state: &'static str,
    // A new process of another version can start, but not take over.
    needs_restart: bool,
}

impl From<String> for Unmoved {
    fn from(reason: String) -> Self {
        Self {
            reason,
            state: "The server serves as before",
            needs_restart: false,
        }
    }
}

impl Subject {
    /// Starts `binary`, or this process's own program, and hands everything over to it. Does not return if the
    /// new process serves: this one ends. `or_restart`: if the two versions cannot, it is to stop, so that whoever
    /// supervises it starts the new program. Not if that does not start: then nobody would serve.
    pub(in crate::server) async fn upgrade(
        self: Rc<Self>,
        binary: Option<PathBuf>,
        or_restart: bool,
        reply: Reply,
        calls: Calls,
    ) -> Restart {
        let unmoved = match self.start_and_lead(binary, &reply, calls).await {
            Ok(led) => match end(led, &reply) {
                Ok(never) => match never {},
                Err(unmoved) => unmoved,
            },
            Err(unmoved) => {
                tracing::warn!(reason = unmoved.reason, "no upgrade: nothing has changed");
                unmoved
            }
        };
        let Unmoved {
            reason,
            state,
            needs_restart,
        } = unmoved;
        if or_restart && needs_restart {
            tracing::warn!(%reason, "no hand-over: this server stops, for its supervisor to start the new program");
            reply.ok(&Upgraded::Restarts { reason });
            return Restart::Yes;
        }
        // A new process's own words end as they like.
        let message = format!("{}. {state}", reason.trim_end_matches('.'));
        reply.refuse(Refusal::new(RefusalCode::Failed, message));
        Restart::No
    }

    async fn start_and_lead(
        self: &Rc<Self>,
        binary: Option<PathBuf>,
        reply: &Reply,
        mut calls: Calls,
    ) -> Result<Led, Unmoved> {
        if let Some(obstacle) = self.own_obstacle() {
            return Err(Unmoved {
                needs_restart: true,
                ..obstacle.into()
            });
        }
        let binary = binary.unwrap_or_else(|| self.program.clone());
        let mut started = spawn::start(&binary, &self.upgrade.hello.data_dir)?;
        let process = started.process();
        tracing::info!(new_process = process, binary = %binary.display(), "upgrade: started the new process");
        reply.progress(&serde_json::json!({ "phase": "start", "pid": process }));
        let leader = self.await_hello(&mut started, &binary, &mut calls).await?;
        let led = {
            let leading =
                leader.run(|phase| reply.progress(&serde_json::json!({ "phase": phase })));
            tokio::pin!(leading);
            // Its lines up to the welcome are heard meanwhile, and it is reaped if it ends.
            tokio::select! {
                led = &mut leading => led,
                _status = started.ended() => leading.await,
            }
        };
        if let Outcome::Refused(_) | Outcome::RolledBack(_) = led.outcome {
            started.kill();
        }
        Ok(led)
    }

    /// Waits until the started process asks to take over.
    async fn await_hello(
        self: &Rc<Self>,
        started: &mut Started,
        binary: &Path,
        calls: &mut Calls,
    ) -> Result<Leader, String> {
        let process = started.process();
        let binary = binary.display();
        let late = tokio::time::sleep(TAKE_OVER_START_MAX);
        tokio::pin!(late);
        loop {
            tokio::select! {
                status = started.ended() => {
                    let lines = started.last_lines();
                    return Err(format!("{binary} ended before it said hello ({status}); {lines}"));
                }
                Some(connection) = calls.connections.recv() => {
                    let connection = Connection::from(connection);
                    match Leader::new(self, connection, calls.told.clone()) {
                        Ok(leader) if leader.peer().is_ok_and(|(peer, _)| peer == process) => {
                            return Ok(leader);
                        }
                        // Somebody else's: the end of its connection tells it.
                        Ok(_) | Err(_) => {
                            tracing::warn!("upgrade: another process asked to take over meanwhile");
                        }
                    }
                }
                () = &mut late => {
                    started.kill();
                    return Err(format!(
                        "{binary} did not say hello within {TAKE_OVER_START_MAX:?}, and was killed: is it uproar? {}",
                        started.last_lines()
                    ));
                }
                () = calls.told.stop.notified() => {
                    started.kill();
                    return Err("this server was told to stop".to_owned());
                }
            }
        }
    }

    /// Hands everything over to the process at the other end of `connection`, which nobody here has started.
    pub(in crate::server) async fn take_over(self: Rc<Self>, connection: OwnedFd, calls: Calls) {
        match Leader::new(&self, Connection::from(connection), calls.told) {
            Ok(leader) => {
                let led = leader.run(|_| ()).await;
                // There is nobody to answer to.
                let _stays = end(led, &Reply::Signal("take over"));
            }
            Err(error) => tracing::warn!(%error, "a process asked to take over and is gone"),
        }
    }
}

/// Answers, and ends this process if another one serves.
fn end(led: Led, reply: &Reply) -> Result<Infallible, Unmoved> {
    match led.outcome {
        Outcome::Refused(reason) => Err(Unmoved {
            state: "Nothing has changed",
            needs_restart: led.needs_restart,
            ..reason.into()
        }),
        Outcome::RolledBack(reason) => Err(Unmoved {
            state: "Everything was taken back, the server serves as before",
            ..reason.into()
        }),
        Outcome::TakenOver { serving, .. } => {
            reply.last(&Upgraded::Serves {
                pid: led.process,
                viewers: serving.map(|(viewers, _)| viewers),
                pause_ms: led
                    .pause
                    .and_then(|pause| u64::try_from(pause.as_millis()).ok()),
            });
            supervisor::leave();
        }
    }
}
