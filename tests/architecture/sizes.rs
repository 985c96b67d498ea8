//! Functions fit on a screen, files have one subject.

use std::fs;

use super::circles::strip;
use super::{all_sources, root};

/// Lines of a function, its signature and braces included.
const FUNCTION_LINES_MAX: usize = 60;

/// Lines of code of a file, without comments, empty lines and tests.
const FILE_LINES_MAX: usize = 450;

/// What may stand before `fn`, its visibility aside.
const QUALIFIERS: &[&str] = &["const", "async", "unsafe"];

/// Tables: a row or an arm for each key, command or effect, which read better whole.
const TABLES: &[&str] = &[
    "src/config/defaults.rs:defaults",
    "src/shard/core/commands.rs:command",
    "src/shard/core/inbound.rs:read",
];

/// The functions of a text with the number of their lines. A text of rustfmt's ends a function with a brace at the
/// indent at which it begins.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some((before, rest)) = code.split_once("fn ") else {
            continue;
        };
        let is_function = before.split_whitespace().all(|word| {
            // `pub(in crate::shard::core)` is two words.
            word.starts_with("pub") || word.ends_with(')') || QUALIFIERS.contains(&word)
        });
        if !is_function {
            continue;
        }
        let indent = &line[..line.len() - code.len()];
        let end = format!("{indent}}}");
        let mut body = lines[at..].iter().enumerate();
        let length = body.find_map(|(length, line)| {
            let is_over = **line == *end || (length == 0 && line.ends_with(['}', ';']));
            is_over.then_some(length + 1)
        });
        let name = rest.split(['(', '<']).next().unwrap();
        found.push((name.to_owned(), length.unwrap_or(0)));
    }
    found
}

/// Goal: a function is read without scrolling, and a file has one subject. Method: count lines, tests aside; tables
/// stand in a list.
#[test]
fn functions_and_files_stay_short() {
    let (mut seen, mut long) = (0, Vec::new());
    for path in all_sources() {
        let place = path.strip_prefix(root()).unwrap().display().to_string();
        if place.contains("tests") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let before_tests = text.split("#[cfg(test)]\nmod").next().unwrap();
        for (name, lines) in functions(before_tests) {
            seen += 1;
            let function = format!("{place}:{name}");
            if lines > FUNCTION_LINES_MAX && !TABLES.contains(&&*function) {
                long.push(format!("{function} has {lines} lines"));
            }
        }
        let code = strip(&text);
        let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
        if lines > FILE_LINES_MAX {
            long.push(format!("{place} has {lines} lines of code"));
        }
    }
    assert!(seen > 1500, "only {seen} functions were seen");
    assert!(long.is_empty(), "too long:\n{}", long.join("\n"));
}
