//! A process that hands over: its shards freeze, and it reads nothing any more.

use tokio::sync::oneshot;
use uproar_proto::base::clock::Tick;
use uproar_proto::cluster::engine::Input;

use super::cores::SHARDS;

/// The freeze of a process's shards, if they are told to.
#[derive(Default)]
pub(super) struct Freeze {
    /// Told when the shards are frozen.
    pub(super) frozen: Vec<oneshot::Receiver<()>>,
    /// When they were told to freeze.
    pub(super) since: Tick,
    /// The newest freeze in which each shard is quiet.
    pub(super) quiet: [u32; SHARDS],
    /// The freeze for which the process reads nothing any more.
    pub(super) halted: Option<u32>,
    /// What came since.
    pub(super) held: Vec<Input>,
}

impl Freeze {
    /// Whether the engine is not driven.
    pub(super) fn is_halted(&self) -> bool {
        self.halted.is_some()
    }

    /// Keeps what comes; time alone is told anew.
    pub(super) fn hold(&mut self, input: Input) {
        if input != Input::Tick {
            self.held.push(input);
        }
    }
}
