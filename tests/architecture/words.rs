//! Words that gave way to the field's own stay away.

use std::fs;
use std::path::PathBuf;

use super::{all_sources, root, sources};

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

/// Phrases that cost a reader more than they say, with what to write instead.
const PHRASES: &[(&str, &str)] = &[
    ("under way", "pending, in progress"),
    ("so many", "the number"),
    ("one behind the other", "in order"),
    ("See there.", "say it, or inherit the type's comment"),
];

/// All sources, those of tests and benches included, and the pages; not what is dated or told of the past.
fn all_texts() -> Vec<PathBuf> {
    let mut texts = all_sources();
    for directory in ["tests", "benches", "fuzz/fuzz_targets"] {
        texts.extend(sources(&root().join(directory)));
    }
    for directory in ["", "docs", "examples", "deploy", "crates/testing/examples"] {
        for entry in fs::read_dir(root().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && !path.ends_with("CHANGELOG.md") && !path.ends_with("Cargo.lock") {
                texts.push(path);
            }
        }
    }
    texts.retain(|path| !path.ends_with("architecture/words.rs"));
    texts
}

/// Goal: whoever knows the field needs no dictionary. Method: look for each retired word and phrase in all texts.
#[test]
fn retired_words_stay_away() {
    let mut found = Vec::new();
    let texts = all_texts();
    assert!(texts.len() > 350, "only {} texts were found", texts.len());
    for path in texts {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            let place = || {
                format!(
                    "{}:{}",
                    path.strip_prefix(root()).unwrap().display(),
                    number + 1
                )
            };
            let words = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            for word in words.filter(|word| RETIRED.contains(word)) {
                found.push(format!("{}: {word}", place()));
            }
            for (phrase, instead) in PHRASES.iter().filter(|(phrase, _)| line.contains(phrase)) {
                found.push(format!("{}: {phrase}: {instead}", place()));
            }
        }
    }
    assert!(
        found.is_empty(),
        "{} retired words:\n{}",
        found.len(),
        found.join("\n")
    );
}
