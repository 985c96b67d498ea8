//! Standard output. A reader that stops early (`| head`) causes neither failure nor panic.

use std::io::{self, Write};

use super::failure::Failure;

/// Prints text whose loss is no failure.
pub(super) fn show(text: &str) {
    let _gone = io::stdout().lock().write_all(text.as_bytes());
}

/// The text without what a terminal obeys: control characters, and those that turn the direction of writing. What
/// viewers say is shown so.
pub(super) fn printable(text: &str) -> String {
    let obeyed =
        |c: char| c.is_control() || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    text.replace(obeyed, "\u{FFFD}")
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
