//! The configuration of a running server, checked again on request.

use std::path::Path;

use super::{ConfigError, Effective, Flags, Mode, environment, load};

/// The mode, flags and values a server started with.
#[derive(Debug)]
pub struct Running {
    mode: Mode,
    flags: Flags,
    effective: Effective,
}

impl Running {
    /// Records a start's `mode`, `flags` and resulting `effective` values.
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

    /// Reads the file again and returns keys whose values differ from the start's. Secrets are not compared.
    ///
    /// # Errors
    ///
    /// No start would accept it.
    pub fn changed(&self) -> Result<Vec<String>, ConfigError> {
        let (_, now) = load(self.mode, &self.flags, environment())?;
        Ok(self.effective.changed(&now))
    }
}
