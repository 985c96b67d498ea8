//! The configuration of a running server, judged again when somebody asks.

use std::path::Path;

use super::{ConfigError, Effective, Flags, Mode, environment, load};

/// What a server was started with.
#[derive(Debug)]
pub struct Running {
    mode: Mode,
    flags: Flags,
    effective: Effective,
}

impl Running {
    /// Of a start whose `mode` and `flags` came to `effective`.
    pub fn new(mode: Mode, flags: Flags, effective: Effective) -> Self {
        Self {
            mode,
            flags,
            effective,
        }
    }

    /// The configuration file.
    pub fn file(&self) -> Option<&Path> {
        self.flags.config.as_deref()
    }

    /// Reads the file again: keys whose values are not those of the start. Secrets are not compared.
    ///
    /// # Errors
    ///
    /// No start would accept it.
    pub fn changed(&self) -> Result<Vec<String>, ConfigError> {
        let (_, now) = load(self.mode, &self.flags, environment())?;
        Ok(self.effective.changed(&now))
    }
}
