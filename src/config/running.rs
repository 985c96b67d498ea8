//! The configuration of a running server, read again on request.

use std::path::Path;

use super::values::{Change, Values};
use super::{ConfigError, Flags, Mode, Settings, environment, file, settle};

/// The mode and flags a server started with, and the values it has taken over.
#[derive(Debug, Clone)]
pub struct Running {
    mode: Mode,
    flags: Flags,
    values: Values,
    sha256: String,
}

/// The configuration as it is now.
#[derive(Debug)]
pub struct Reread {
    /// Valid settings.
    pub settings: Settings,
    /// The keys whose values differ, in their order by name.
    pub changes: Vec<Change>,
    values: Values,
    sha256: String,
}

impl Running {
    pub(super) fn new(mode: Mode, flags: Flags, (values, sha256): (Values, String)) -> Self {
        Self {
            mode,
            flags,
            values,
            sha256,
        }
    }

    /// The configuration file.
    pub fn file(&self) -> Option<&Path> {
        self.flags.config.as_deref()
    }

    /// The SHA-256 of what `--print-config` shows of what the server has taken over.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Reads the file again, under the same environment and flags as at the start. A value that they hide is no
    /// change. Blocks for tens of milliseconds.
    ///
    /// # Errors
    ///
    /// No start would accept it, or the file is being written.
    pub fn read(&self) -> Result<Reread, ConfigError> {
        let path = self.flags.config.as_deref();
        let text = path.map(file::read_at_rest).transpose()?;
        let file = path.zip(text.as_deref());
        let loaded = settle(self.mode, file, environment(), &self.flags)?;
        Ok(Reread {
            settings: loaded.settings,
            changes: self.values.changes(&loaded.values),
            values: loaded.values,
            sha256: loaded.effective.sha256(),
        })
    }

    /// Notes that the server has taken over what it read.
    pub fn took(&mut self, reread: Reread) {
        (self.values, self.sha256) = (reread.values, reread.sha256);
    }
}
