//! The shape of the tree, held by tests.

mod circles;
mod log_lines;
mod pages;
mod sizes;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

/// A crate's sources and its top-level modules, lowest rank first; a module may use only modules of lower
/// ranks, and its own. Between crates cargo allows no circle.
const CRATES: &[(&str, &[&[&str]])] = &[
    (
        "crates/proto/src",
        &[
            &["base"],
            &["scan", "framing", "proxy", "sigv4", "tagged", "token"],
            &["ws"],
            &["chat", "http"],
            &["extension"],
            &["session", "room", "cluster"],
        ],
    ),
    // Beside the server, not below it: the server's `cli` alone names it.
    (
        "crates/bench/src",
        &[
            &["harness"],
            &[
                "across",
                "cluster",
                "connect",
                "crowd",
                "fanout",
                "features",
                "floor",
                "idle",
                "ingest",
                "live",
                "loopback",
                "noisy_neighbour",
                "plan",
                "reconnect",
                "scale",
                "sweep",
                "tokens",
            ],
            &["command"],
        ],
    ),
    (
        "crates/testing/src",
        &[
            &["client", "io"],
            &["parts"],
            &["single_shard", "simulation"],
            &["cluster"],
        ],
    ),
    (
        "src",
        &[
            &["clock", "random", "exposition"],
            &["net", "durable", "logging"],
            &["supervisor", "takeover", "audit"],
            &["shard"],
            &["cluster"],
            &["control"],
            &["config", "doctor"],
            &["server"],
            &["cli"],
        ],
    ),
];

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The sources of all crates.
fn all_sources() -> Vec<PathBuf> {
    let crates = CRATES.iter();
    crates
        .flat_map(|(directory, _)| sources(&root().join(directory)))
        .collect()
}

/// The top-level modules a source text names through `crate::`.
fn used_modules(text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    code.split("crate::")
        .skip(1)
        .map(|rest| {
            rest.chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect()
        })
        .collect()
}

/// Goal: data flows one way. Method: read every `crate::` path and compare ranks.
#[test]
fn modules_use_only_lower_ranks() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for (directory, ranks) in CRATES {
        let rank = |module: &str| ranks.iter().position(|modules| modules.contains(&module));
        let top = root().join(directory);
        for path in sources(&top) {
            let relative = path.strip_prefix(&top).unwrap();
            let module = relative.iter().next().unwrap().to_str().unwrap();
            let module = module.trim_end_matches(".rs");
            let Some(own) = rank(module) else {
                assert!(["lib", "main"].contains(&module), "{module} has no rank");
                continue;
            };
            for used in used_modules(&fs::read_to_string(&path).unwrap()) {
                if used == module {
                    continue;
                }
                seen += 1;
                if rank(&used).is_none_or(|other| other >= own) {
                    wrong.push(format!("{directory}/{} uses {used}", relative.display()));
                }
            }
        }
    }
    assert!(seen > 20, "the reader of paths sees only {seen} uses");
    assert!(wrong.is_empty(), "ranks are broken:\n{}", wrong.join("\n"));
}

/// Goal: `unsafe` stays in `net`. Method: only files there may lift the lint.
#[test]
fn unsafe_code_stands_only_in_net() {
    for path in all_sources() {
        let text = fs::read_to_string(&path).unwrap();
        let lifts = text.contains("unsafe_code") && !text.contains("#![forbid(unsafe_code)]");
        let relative = path.strip_prefix(root()).unwrap();
        assert!(
            !lifts || relative.starts_with("src/net"),
            "{} lifts unsafe_code",
            relative.display()
        );
    }
}

/// Goal: no borrow of a cell lives on through the arms of the branch that it decides, where a call may want the
/// cell again: that is a panic, and the end of the process. Method: whoever branches on a borrow binds it first.
#[test]
fn no_branch_keeps_a_borrow() {
    let mut found = Vec::new();
    for path in all_sources() {
        for line in fs::read_to_string(&path).unwrap().lines() {
            let branches = ["if let ", "while let ", "match "];
            let is_branch = branches
                .iter()
                .any(|word| line.trim_start().starts_with(word));
            if is_branch && line.contains(".borrow_mut()") && line.ends_with('{') {
                found.push(format!("{}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(
        found.is_empty(),
        "bind the borrow's result first:\n{}",
        found.join("\n")
    );
}
