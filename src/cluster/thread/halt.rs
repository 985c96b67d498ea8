//! The thread stops for a hand-over, between two records, and goes on if there is none.
//!
//! Each shard says when it has no request any more, and awaits no answer. Then nothing but the log's own progress is left,
//! and any point between two inputs is as good as another: what this node appended or asked meanwhile is in the logs or
//! is not, and whoever reads on finds out. Signs of life stop too, so that other nodes take over what this one is home
//! of if it stays stopped.

use std::time::Duration;

/// Longest sleep of a stopped thread, which must show that it lives.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// How far the stop is.
#[derive(Debug)]
pub(super) struct Halt {
    // Of each shard the newest freeze in which it is quiet.
    quiet: Vec<u32>,
    /// The freeze for which the thread has stopped.
    pub(super) halted: Option<u32>,
}

impl Halt {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            quiet: vec![0; shards],
            halted: None,
        }
    }

    /// Whether the thread has stopped.
    pub(super) fn is_halted(&self) -> bool {
        self.halted.is_some()
    }

    /// A shard is quiet. Returns whether all are now.
    pub(super) fn quiet(&mut self, shard: usize, freeze: u32) -> bool {
        self.quiet[shard] = freeze;
        self.quiet.iter().all(|quiet| *quiet == freeze)
    }

    /// Ends the stop for a freeze. Returns whether there was one.
    pub(super) fn thawed(&mut self, freeze: u32) -> bool {
        self.halted.take_if(|halted| *halted == freeze).is_some()
    }
}
