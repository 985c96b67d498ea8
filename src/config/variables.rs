//! Recognises the server's environment variables. Each one with the prefix `UPROAR_` is a key, a variable of this
//! repository's tools, a Kubernetes service link, or a mistake.

use super::error::ConfigError;
use super::names;
use super::source::Source;

/// Variables of tests, benchmarks and fuzzing, which the servers they start inherit.
const OF_TOOLS: &[&str] = &[
    "UPROAR_API_CASES",
    "UPROAR_API_SEED",
    "UPROAR_BIN",
    "UPROAR_CHROMIUM",
    "UPROAR_FUZZ_SECONDS",
    "UPROAR_GOLDEN",
    "UPROAR_KILL_CYCLES",
    "UPROAR_MODEL_SECONDS",
    "UPROAR_MODEL_SEED",
    "UPROAR_PEERS_CACHE",
    "UPROAR_SIMULATION_SEED",
    "UPROAR_SIMULATION_FIRST",
    "UPROAR_SIMULATION_WORLDS",
    "UPROAR_TEST_CACHE",
    "UPROAR_TEST_IO",
    "UPROAR_TEST_ROLE",
];

/// Variables that one server sets for the next: see `server::upgrade`. The first has the data directory of the server
/// that is taken over, the other faults on purpose.
const OF_TAKE_OVERS: &[&str] = &[TAKE_OVER, "UPROAR_TAKE_OVER_FAULT"];

/// Names the data directory of the server that this process takes over from.
pub const TAKE_OVER: &str = "UPROAR_TAKE_OVER";

/// The key a variable sets; `None` if it is not ours.
pub(super) fn key_of(variable: &str, text: &str) -> Result<Option<String>, ConfigError> {
    let Some(path) = variable.strip_prefix("UPROAR_") else {
        return Ok(None);
    };
    let is_known = OF_TOOLS.contains(&variable) || OF_TAKE_OVERS.contains(&variable);
    if is_known || is_service_link(path, text) {
        return Ok(None);
    }
    let source = Source::Environment(variable.to_owned());
    let key = path.to_ascii_lowercase().replacen("__", ".", 1);
    if names::kind(&key).is_none() {
        return Err(names::unknown_variable(variable, path, source));
    }
    if text.contains(char::REPLACEMENT_CHARACTER) {
        return Err(ConfigError::Type {
            detail: format!("{key} is no UTF-8"),
            origin: Some(source),
        });
    }
    Ok(Some(key))
}

/// Kubernetes gives every pod the addresses of neighbouring services: a service `uproar` or `uproar-api` appears as
/// `UPROAR_PORT=tcp://10.0.0.11:8080`, `UPROAR_API_SERVICE_HOST=10.0.0.12` and the like.
fn is_service_link(path: &str, text: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let padded = format!("_{path}");
    let is_port = padded.ends_with("_PORT")
        && ["tcp://", "udp://", "sctp://"]
            .iter()
            .any(|scheme| text.starts_with(scheme));
    let is_part = padded.split_once("_PORT_").is_some_and(|(_, rest)| {
        let number = rest.split('_').next().unwrap_or_default();
        is_number(number)
    });
    padded.ends_with("_SERVICE_HOST")
        || padded.ends_with("_SERVICE_PORT") && is_number(text)
        || padded.contains("_SERVICE_PORT_") && is_number(text)
        || is_port
        || is_part
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    /// Goal: variables that Kubernetes sets for services of our name are not refused.
    #[test]
    fn service_links_are_left_alone() {
        for (variable, text) in [
            ("UPROAR_SERVICE_HOST", "10.0.0.11"),
            ("UPROAR_SERVICE_PORT", "8080"),
            ("UPROAR_SERVICE_PORT_MESSAGING", "8080"),
            ("UPROAR_PORT", "tcp://10.0.0.11:8080"),
            ("UPROAR_PORT_8080_TCP", "tcp://10.0.0.11:8080"),
            ("UPROAR_PORT_8080_TCP_PROTO", "tcp"),
            ("UPROAR_CONTROL_SERVICE_HOST", "10.0.0.12"),
            ("UPROAR_CONTROL_PORT_8081_TCP_ADDR", "10.0.0.12"),
            ("UPROARS", "1"),
            ("HOME", "/"),
        ] {
            assert!(
                matches!(key_of(variable, text), Ok(None)),
                "{variable}={text}"
            );
        }
        for (variable, text) in [
            ("UPROAR_PORT", "8080"),
            ("UPROAR_CONTROL_PORT", "8081"),
            ("UPROAR_PORT_MESSAGING", "8080"),
        ] {
            assert!(key_of(variable, text).is_err(), "{variable}={text}");
        }
    }

    /// Goal: the list is complete: no test or benchmark sets a variable that stops its own server. Method: scan them
    /// all.
    #[test]
    fn variables_of_our_tools_are_listed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = BTreeSet::new();
        for directory in [".ci", "tests", "benches", "fuzz"] {
            collect(&root.join(directory), &mut found);
        }
        found.retain(|name| !name.contains("__") && !OF_TAKE_OVERS.contains(&&**name));
        let listed: BTreeSet<String> = OF_TOOLS.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(found, listed);
    }

    fn collect(directory: &Path, found: &mut BTreeSet<String>) {
        const SKIPPED: [&str; 8] = [
            "node_modules",
            "target",
            "corpus",
            "seeds",
            "artifacts",
            "golden",
            // They contain mistakes on purpose.
            "test_mistakes.py",
            "test_start_remedies.py",
        ];
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if SKIPPED.contains(&&*name) {
                continue;
            }
            if path.is_dir() {
                collect(&path, found);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let names = text.match_indices("UPROAR_").map(|(at, _)| {
                    let is_name =
                        |c: &char| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_';
                    text[at..].chars().take_while(is_name).collect::<String>()
                });
                found.extend(names.filter(|name| name != "UPROAR_"));
            }
        }
    }
}
