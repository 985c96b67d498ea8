//! Standard output. A reader that stops early (`| head`) causes neither failure nor panic.

use std::io::{self, Write};

use super::failure::Failure;

/// Prints text whose loss is no failure.
pub(super) fn show(text: &str) {
    let _gone = io::stdout().lock().write_all(text.as_bytes());
}

/// Writes to standard output.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        // A reader that stops early (`| head`) is not a failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Run(error.to_string()))
        }
        _ => Ok(()),
    }
}
