//! The shape of the tree, held by tests: ranks, where `unsafe` may stand, limits and their table.

mod circles;

use std::fs;
use std::path::{Path, PathBuf};

/// A crate's sources and its top-level modules, lowest rank first; a module may use only modules of lower
/// ranks, and its own. Between crates cargo allows no circle.
const CRATES: &[(&str, &[&[&str]])] = &[
    (
        "crates/proto/src",
        &[
            &["base"],
            &["scan", "framing", "proxy", "sigv4", "token"],
            &["ws"],
            &["chat", "http"],
            &["session", "room"],
        ],
    ),
    // Beside the server, not below it: the server's `cli` alone names it.
    (
        "crates/bench/src",
        &[
            &["harness"],
            &[
                "connect",
                "crowd",
                "fanout",
                "floor",
                "idle",
                "ingest",
                "loopback",
                "noisy_neighbour",
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
        ],
    ),
    (
        "src",
        &[
            &["clock", "random", "exposition"],
            &["net", "durable", "logging"],
            &["supervisor"],
            &["shard"],
            &["control"],
            &["config"],
            &["server", "doctor"],
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

/// Goal: an operator finds every limit in docs/limits.md, with its name.
#[test]
fn every_limit_is_described() {
    let limits = fs::read_to_string(root().join("crates/proto/src/base/limits.rs")).unwrap();
    let described = fs::read_to_string(root().join("docs/limits.md")).unwrap();
    let names = limits
        .lines()
        .filter_map(|line| line.strip_prefix("pub const "));
    let mut count = 0;
    for name in names.map(|rest| rest.split(':').next().unwrap()) {
        count += 1;
        assert!(
            described.contains(&format!("`{name}`")),
            "docs/limits.md does not name {name}"
        );
    }
    assert!(count > 40, "only {count} limits were found");
}

/// Each call of a `tracing` macro in `text`, whole, with the macro's name.
fn log_lines(text: &str) -> Vec<(&str, &str)> {
    let calls = text.match_indices("tracing::");
    let calls = calls.map(|(at, prefix)| &text[at + prefix.len()..]);
    calls
        .filter_map(|rest| {
            let (level, call) = rest.split_once("!(")?;
            ["warn", "info", "error"].contains(&level).then_some(())?;
            Some((level, &call[..call.find(");").or_else(|| call.find(')'))?]))
        })
        .collect()
}

/// Goal: nobody outside can fill the log. A line above debug passes a `Limiter`, which shows in its
/// field `suppressed`, or stands in this list, because what causes it is bounded by itself.
/// If this fails for a new line: ask whether a stranger, a caller or a destination can cause it as often
/// as he likes. If so, put it behind `logging::local::admit` or `Core::admit_line`.
#[test]
fn lines_that_strangers_can_cause_are_limited() {
    const BOUNDED: &[(&str, &str)] = &[
        // Once a start, once a stop, once a thread's life.
        ("server", "starting"),
        ("server", "ready"),
        ("server", "stopped before"),
        ("server", "stopping:"),
        ("supervisor/mod.rs", "must live"),
        ("supervisor/keep.rs", "restarted"),
        ("server/preflight.rs", ""),
        ("server/keys.rs", ""),
        ("shard/run.rs", "could not be pinned"),
        ("control/store/schema.rs", "was migrated"),
        ("control/archive", "the archive"),
        // Once a look at a file of ours, or a change of its state.
        ("server/reload.rs", "reloaded"),
        // Once a change of its standing, then once an hour.
        ("server/reload.rs", "TLS: {warning}"),
        ("control/access.rs", "access keys"),
        ("control/store/disk.rs", ""),
        ("shard/journal.rs", "token uses cannot be read"),
        // Of at most ten logging configurations, once a state or once a look.
        ("control/archive/ingest.rs", "configuration"),
        ("control/archive/deliver.rs", "configuration"),
        ("control/archive/sink.rs", "configuration"),
        // One a second of each handler, of which there are as many as rooms' owners configured.
        ("control/review/mod.rs", "was not reviewed"),
        // Authorized callers, at their own rate of 5 a second.
        ("control/op/rooms.rs", "did not reach its shard"),
        // The log itself, once each second.
        ("logging/start.rs", ""),
        ("cli", ""),
    ];
    let (mut seen, mut wrong) = (0, Vec::new());
    for path in all_sources() {
        let relative = path.strip_prefix(root()).unwrap().to_str().unwrap();
        let relative = relative.trim_start_matches("src/");
        let text = fs::read_to_string(&path).unwrap();
        for (level, call) in log_lines(&text) {
            seen += 1;
            let is_bounded = BOUNDED
                .iter()
                .any(|(place, words)| relative.starts_with(place) && call.contains(words));
            if !call.contains("suppressed") && !is_bounded {
                wrong.push(format!("{relative}: {level}!({call})"));
            }
        }
    }
    assert!(seen > 30, "the reader of log lines sees only {seen}");
    assert!(
        wrong.is_empty(),
        "not limited by kind and not in the list:\n{}",
        wrong.join("\n")
    );
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

/// Words of our own that gave way to the field's. `docs/glossary.md` has those that stay.
const RETIRED: &[&str] = &[
    "Bystander",
    "Dialect",
    "Docket",
    "Door",
    "Entrance",
    "Handover",
    "Knock",
    "Newcomer",
    "Outlet",
    "Parcel",
    "Posted",
    "Press",
    "Realm",
    "Seat",
    "Shelf",
    "Shipper",
    "Trouble",
    "Turned",
    "await_room",
    "bystander",
    "dialect",
    "docket",
    "handover",
    "knock",
    "newcomer",
    "note_logged",
    "outlet",
    "parcel",
    "shipper",
];

/// Goal: whoever knows the field needs no dictionary. Method: look for each retired word in all sources.
#[test]
fn retired_words_stay_away() {
    let mut found = Vec::new();
    for path in all_sources() {
        let text = fs::read_to_string(&path).unwrap();
        let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        for word in words.filter(|word| RETIRED.contains(word)) {
            found.push(format!("{}: {word}", path.display()));
        }
    }
    assert!(found.is_empty(), "retired words:\n{}", found.join("\n"));
}

/// The targets of a Markdown text's links.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1);
    targets.filter_map(|rest| Some(rest.split_once(')')?.0))
}

/// A heading as GitHub names it in a link.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
        _ => None,
    });
    kept.collect()
}

/// Goal: no link between our pages is dead, nor the heading that it names.
#[test]
fn links_between_pages_lead_somewhere() {
    let mut pages = Vec::new();
    for directory in ["", "docs", "docs/results"] {
        for entry in fs::read_dir(root().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    let (mut seen, mut dead) = (0, Vec::new());
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        for link in
            links(&text).filter(|link| !link.contains("://") && !link.starts_with("mailto:"))
        {
            seen += 1;
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => page.clone(),
                path => page.parent().unwrap().join(path),
            };
            let is_there = match heading {
                "" => target.exists(),
                heading => fs::read_to_string(&target).is_ok_and(|text| {
                    let headings = text
                        .lines()
                        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' '));
                    headings.map(anchor).any(|anchor| anchor == heading)
                }),
            };
            if !is_there {
                dead.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(seen > 40, "only {seen} links were found");
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}
