//! The shape of the tree, held by tests: ranks, where `unsafe` may stand, limits and their table.

use std::fs;
use std::path::{Path, PathBuf};

/// Lowest first; a module may use only modules of lower ranks, and its own.
const RANKS: &[&[&str]] = &[
    &["base"],
    &["net", "protocol", "logging"],
    &["room", "session"],
    &["shard"],
    &["control"],
    &["config"],
    &["server", "bench", "doctor"],
    &["cli"],
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

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn rank(module: &str) -> Option<usize> {
    RANKS.iter().position(|modules| modules.contains(&module))
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
    let mut wrong = Vec::new();
    let mut seen = 0;
    for path in sources(&source_root()) {
        let relative = path.strip_prefix(source_root()).unwrap();
        let module = relative
            .iter()
            .next()
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs");
        let Some(own) = rank(module) else {
            assert!(["lib", "main"].contains(&module), "{module} has no rank");
            continue;
        };
        for used in used_modules(&fs::read_to_string(&path).unwrap()) {
            if used == module {
                continue;
            }
            let other = rank(&used);
            seen += 1;
            if other.is_none_or(|other| other >= own) {
                wrong.push(format!("{} uses {used}", relative.display()));
            }
        }
    }
    assert!(seen > 20, "the reader of paths sees only {seen} uses");
    assert!(wrong.is_empty(), "ranks are broken:\n{}", wrong.join("\n"));
}

/// Goal: `unsafe` stays in `net`. Method: only files there may lift the lint.
#[test]
fn unsafe_code_stands_only_in_net() {
    for path in sources(&source_root()) {
        let text = fs::read_to_string(&path).unwrap();
        if text.contains("unsafe_code") {
            let relative = path.strip_prefix(source_root()).unwrap();
            assert!(
                relative.starts_with("net"),
                "{} lifts unsafe_code",
                relative.display()
            );
        }
    }
}

/// Goal: an operator finds every limit in tuning.md, with its name.
#[test]
fn every_limit_is_in_tuning_md() {
    let limits = fs::read_to_string(source_root().join("base/limits.rs")).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tuning = fs::read_to_string(root.join("tuning.md")).unwrap();
    let names = limits
        .lines()
        .filter_map(|line| line.strip_prefix("pub const "));
    let mut count = 0;
    for name in names.map(|rest| rest.split(':').next().unwrap()) {
        count += 1;
        assert!(
            tuning.contains(&format!("`{name}`")),
            "tuning.md does not name {name}"
        );
    }
    assert!(count > 40, "only {count} limits were found");
}
