//! Tells the program what it is built from: `UPROAR_COMMIT`, "unknown" outside a checkout,
//! `UPROAR_FEATURES` and `UPROAR_TARGET`.
//!
//! The commit in release builds only: in others each commit would compile everything anew.
#![allow(
    clippy::print_stdout,
    reason = "this is how a build script speaks to cargo"
)]

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = is_release.then(commit).flatten();
    let commit = commit.unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=UPROAR_COMMIT={commit}");
    println!("cargo:rustc-env=UPROAR_FEATURES={}", features());
    // Says which C library, too. Cargo sets it for each build script.
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo:rustc-env=UPROAR_TARGET={target}");
}

/// The features that are switched on, with commas; "none" if none is.
fn features() -> String {
    let names = std::env::vars().filter_map(|(name, _)| {
        let feature = name.strip_prefix("CARGO_FEATURE_")?;
        (feature != "DEFAULT").then(|| feature.to_lowercase().replace('_', "-"))
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(",")
}

/// The commit, with `-dirty` behind it if what is compiled is not what was committed.
fn commit() -> Option<String> {
    // A repository around this one is somebody else's.
    if !Path::new(".git").exists() {
        return None;
    }
    let id = git(&["rev-parse", "--short=12", "HEAD"])?;
    // Written at each commit and at each change of branch.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    let compiled = ["src", "crates", "Cargo.toml", "Cargo.lock", "build.rs"];
    for path in compiled.into_iter().chain([&*log]) {
        println!("cargo:rerun-if-changed={path}");
    }
    let mut compare = vec!["diff", "--quiet", "HEAD", "--"];
    compare.extend(compiled);
    let dirty = if git(&compare).is_some() {
        ""
    } else {
        "-dirty"
    };
    Some(id + dirty)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
