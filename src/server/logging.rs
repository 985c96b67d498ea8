//! Log lines: text for people, or one JSON object a line.

use std::io;

use tracing_subscriber::EnvFilter;

/// Starts logging to standard error. Values are escaped, so that no client can forge a line.
///
/// # Errors
///
/// The filter's fault, in words.
pub fn start(filter: &str, json: bool) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("log.filter: {error}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let outcome = if json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.try_init()
    };
    outcome.map_err(|error| error.to_string())
}
