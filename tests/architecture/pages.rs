//! The pages say what the code says, and lead to each other.

use std::fs;

use super::{all_sources, root};

/// Goal: an operator finds every limit in docs/limits.md, with its name.
#[test]
fn every_limit_is_described() {
    let limits = ["limits.rs", "limits/extensions.rs"]
        .map(|file| fs::read_to_string(root().join("crates/proto/src/base").join(file)).unwrap())
        .concat();
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
    for directory in ["", "docs", "docs/results", "packaging"] {
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

/// Goal: a comment that cites the contract cites what stands there. Method: each section named behind the word is a
/// heading of docs/contract.md.
#[test]
fn cited_sections_of_the_contract_exist() {
    let contract = fs::read_to_string(root().join("docs/contract.md")).unwrap();
    let headings = contract.lines().filter(|line| line.starts_with('#'));
    let sections: Vec<&str> = headings
        .filter_map(|line| line.split(' ').nth(1))
        .map(|number| number.trim_end_matches('.'))
        .collect();
    let (mut seen, mut wrong) = (0, Vec::new());
    for path in all_sources() {
        let text = fs::read_to_string(&path).unwrap();
        for cited in text.split("contract §").skip(1) {
            let end = cited.find(|c: char| !c.is_ascii_digit() && c != '.');
            let section = cited[..end.unwrap_or(cited.len())].trim_end_matches('.');
            seen += 1;
            if !sections.contains(&section) {
                wrong.push(format!("{}: §{section}", path.display()));
            }
        }
    }
    assert!(seen > 5, "only {seen} citations were seen");
    assert!(wrong.is_empty(), "no such section:\n{}", wrong.join("\n"));
}
