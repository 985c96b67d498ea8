//! What `uproar cluster` says, as another process: which node is home of what.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::error::BenchError;

/// Asks one node; owned, so that another thread may do it.
pub(crate) struct HomesBy {
    pub(super) executable: PathBuf,
    pub(super) file: PathBuf,
}

impl HomesBy {
    /// The home of each hash slot, as a node's index; `None`: it has none at the moment.
    pub(crate) fn ask(&self) -> Result<Vec<Option<usize>>, BenchError> {
        let arguments = [
            "--json".as_ref(),
            "--config".as_ref(),
            self.file.as_os_str(),
        ];
        let text = run_cluster(&self.executable, "status", &arguments)?;
        let wrong = || BenchError::Server(format!("`uproar cluster status` said {text}"));
        let report: Value = serde_json::from_str(&text).map_err(|_| wrong())?;
        let homes = report["slots"]["homes"].as_array().ok_or_else(wrong)?;
        Ok(homes.iter().map(|home| number(home.as_str()?)).collect())
    }
}

/// Runs `uproar cluster VERB`; returns what it printed.
pub(super) fn run_cluster(
    executable: &Path,
    verb: &str,
    arguments: &[&OsStr],
) -> Result<String, BenchError> {
    let done = Command::new(executable)
        .args(["cluster", verb])
        .args(arguments)
        .output()?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(BenchError::Server(format!(
        "`uproar cluster {verb}`: {said}"
    )))
}

/// The name of a node.
pub(super) fn name(number: usize) -> String {
    format!("node-{number}")
}

/// The index of a node of this name.
pub(super) fn number(name: &str) -> Option<usize> {
    name.strip_prefix("node-")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a node's name in a report leads back to it.
    #[test]
    fn names_lead_to_nodes() {
        assert_eq!(number(&name(2)), Some(2));
        assert_eq!(number("chat-1"), None);
    }
}
