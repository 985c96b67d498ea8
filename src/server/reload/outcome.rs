//! What a reload has changed, or why it has changed nothing.

use std::io;
use std::time::Duration;

use serde::Serialize;

use crate::config::{Change, ConfigError, Reloading};
use crate::control::access::KeyFileError;
use crate::server::StartError;
use crate::shard::settings::ShardId;

/// What a reload has changed.
#[derive(Debug, Serialize)]
pub(crate) struct Changed {
    /// Keys with their old and new values; none, if the configuration is as it was.
    pub(super) changes: Vec<Change>,
    /// Shards that have not answered in time: they take the changes over when they take a turn.
    pub(super) late: Vec<ShardId>,
}

impl Changed {
    /// Logs a line for each changed key.
    pub(super) fn log(&self) {
        for change in &self.changes {
            tracing::info!(
                key = change.key,
                change = change.text,
                "configuration changed"
            );
        }
        if !self.late.is_empty() {
            let shards = &self.late;
            tracing::warn!(
                ?shards,
                "reloaded, but these shards take no turn: /livez tells more"
            );
        }
        tracing::info!(keys = self.changes.len(), "reloaded");
    }
}

/// Why a reload has changed nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// No start would accept the configuration.
    #[error("{0}")]
    Configuration(#[from] ConfigError),
    /// Keys have changed that a running server does not take over. At least one.
    #[error("{}", not_live(_0))]
    NotLive(Vec<Change>),
    /// A token could be used again once the cluster has forgotten its use.
    #[error(
        "tokens.life_minutes is {}; this cluster was made for {}: lengthen the maximum age of the stream UP_NAME_TOK \
         with `nats stream edit` (five minutes more than the life), then restart the nodes one by one",
        given.as_secs() / 60, max.as_secs() / 60
    )]
    TokenLife {
        /// The new life.
        given: Duration,
        /// The longest that the node has started with.
        max: Duration,
    },
    /// A certificate or the sealing keys cannot be used.
    #[error("{0}")]
    File(#[from] StartError),
    /// The access keys cannot be used.
    #[error("access keys: {0}")]
    AccessKeys(#[from] KeyFileError),
    /// A bug, or the process is ending.
    #[error("the reload was not finished: {0}")]
    Broken(io::Error),
}

fn not_live(changes: &[Change]) -> String {
    let of = |kind: Reloading| {
        let chosen = changes.iter().filter(|change| change.reloading() == kind);
        chosen.map(ToString::to_string).collect::<Vec<_>>()
    };
    let (upgrade, never) = (of(Reloading::Upgrade), of(Reloading::Never));
    let mut parts = Vec::new();
    if !upgrade.is_empty() {
        parts.push(format!(
            "{} needs a new process: put the old value back, or use `uproar upgrade`, which carries viewers over",
            upgrade.join("; ")
        ));
    }
    if !never.is_empty() {
        parts.push(format!(
            "{} would make this another server: put the old value back, and start another server for the new one",
            never.join("; ")
        ));
    }
    parts.join(". ")
}
