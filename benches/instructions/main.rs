//! Instructions per operation of the hot functions and whole turns, compared with the committed
//! `instructions.toml`: `cargo bench --bench instructions`.
//!
//! Counts, unlike times, are the same on a busy machine. Valgrind's callgrind counts what lies within
//! [`counted`] and nothing before it. A count that moved by more than the tolerance, in whatever
//! direction, fails: an improvement is written down, too (`-- --write`), so that the next change is
//! held to it. Counts hold for one compiler, C library, valgrind and set of processor features; where
//! the machine has others than the baseline, the comparison is skipped and says so.
//!
//! ```text
//! cargo bench --bench instructions [-- NAME...]           compare, all cases or some
//! cargo bench --bench instructions -- --write             write the baseline
//! cargo bench --bench instructions -- --profile NAME      which functions the instructions are in
//! cargo bench --bench instructions -- --cache NAME        and which ones miss the caches
//! ```
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a program that prints a table of counts far below 2^52"
)]

#[path = "../cases/mod.rs"]
mod cases;
mod profile;
mod valgrind;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use cases::Case;
use profile::profile;
use serde::Deserialize;
use valgrind::{callgrind, count, output};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Change that is not worth a word: a line moved elsewhere can move what the compiler inlines here. So
/// much was seen, 3.5 % of `deliver_1`, from a change of this program alone.
const TOLERANCE: f64 = 0.05;
/// Of the smallest functions five percent are a few instructions.
const TOLERANCE_INSTRUCTIONS: f64 = 5.0;
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Baseline {
    environment: Environment,
    cases: BTreeMap<String, f64>,
}

/// What counts depend on besides the code.
type Environment = BTreeMap<String, String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|argument| *argument != "--bench")
        .collect();
    let outcome = match words[..] {
        ["--features"] => {
            println!("{}", features());
            Ok(true)
        }
        ["--run", name] => run(name).map(|()| true),
        ["--profile", name] => find(name)
            .and_then(|case| profile(case, false))
            .map(|()| true),
        ["--cache", name] => find(name)
            .and_then(|case| profile(case, true))
            .map(|()| true),
        ["--write"] => write().map(|()| true),
        ref names if !names.iter().any(|name| name.starts_with('-')) => compare(names),
        _ => Err("see the head of benches/instructions.rs".to_owned()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("instructions: {message}");
            ExitCode::FAILURE
        }
    }
}

// -- under valgrind --

fn find(name: &str) -> Result<&'static Case, String> {
    cases::find(name).ok_or_else(|| {
        let names: Vec<_> = cases::all().map(|case| case.name).collect();
        format!("no case {name}; there are: {}", names.join(", "))
    })
}

fn run(name: &str) -> Result<(), String> {
    let case = find(name)?;
    let mut call = (case.make)();
    for _ in 0..case.calls.0 {
        call();
    }
    counted(&mut call, case.calls.1);
    // What is still there is not freed: it would not be counted anyway.
    std::mem::forget(call);
    Ok(())
}

/// The part of a run that is counted, found by its name.
#[inline(never)]
fn counted(call: &mut dyn FnMut(), calls: u32) {
    for _ in 0..calls {
        call();
    }
}

/// What the processor says it can do, here and now.
fn features() -> String {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    for (name, there) in [
        ("sse4.2", std::arch::is_x86_feature_detected!("sse4.2")),
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("aes", std::arch::is_x86_feature_detected!("aes")),
        (
            "pclmulqdq",
            std::arch::is_x86_feature_detected!("pclmulqdq"),
        ),
        ("sha", std::arch::is_x86_feature_detected!("sha")),
        ("bmi2", std::arch::is_x86_feature_detected!("bmi2")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
    ] {
        if there {
            found.push(name);
        }
    }
    found.insert(0, std::env::consts::ARCH);
    found.join(" ")
}

// -- around valgrind --

fn environment() -> Result<Environment, String> {
    let first_line = |program: &str, arguments: &[&str]| -> Result<String, String> {
        let output = output(Command::new(program).args(arguments))?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().next().unwrap_or_default().trim().to_owned())
    };
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let under_valgrind = callgrind(Path::new("/dev/null"), &[], &["--features"])?;
    let features = String::from_utf8_lossy(&under_valgrind.stdout);
    Ok([
        ("compiler", first_line(&rustc, &["--version"])?),
        ("valgrind", first_line("valgrind", &["--version"])?),
        ("library", first_line("getconf", &["GNU_LIBC_VERSION"])?),
        ("processor", features.trim().to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into())
}

fn baseline_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.toml")
}

fn write() -> Result<(), String> {
    let mut text = String::from(
        "# Instructions per operation, written by `cargo bench --bench instructions -- --write`.\n\
         # What they depend on besides the code:\n[environment]\n",
    );
    for (name, value) in environment()? {
        writeln!(text, "{name} = \"{value}\"").expect("a string grows");
    }
    text.push_str("\n[cases]\n");
    for case in cases::all() {
        let count = count(case)?;
        println!("{:<16} {count:>10.1}  {}", case.name, case.what);
        writeln!(text, "{} = {count:.1} # {}", case.name, case.what).expect("a string grows");
    }
    std::fs::write(baseline_path(), text).map_err(|error| error.to_string())
}

/// Whether every count is what the baseline says.
fn compare(names: &[&str]) -> Result<bool, String> {
    let chosen: Vec<&Case> = if names.is_empty() {
        cases::all().collect()
    } else {
        names
            .iter()
            .map(|name| find(name))
            .collect::<Result<_, _>>()?
    };
    let text = std::fs::read_to_string(baseline_path()).map_err(|error| error.to_string())?;
    let baseline: Baseline = toml::from_str(&text).map_err(|error| error.to_string())?;
    let here = environment()?;
    let mut foreign = false;
    for (name, there) in &baseline.environment {
        let here = here.get(name).map_or("", String::as_str);
        if here != there {
            println!("not compared: the baseline was made with {name} {there}; this is {here}");
            foreign = true;
        }
    }
    println!(
        "{:<16} {:>10} {:>10} {:>8}  one operation",
        "case", "baseline", "now", "change"
    );
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for case in chosen {
        let now = count(case)?;
        let before = baseline.cases.get(case.name).copied();
        let change = before.map_or(f64::INFINITY, |before| now / before - 1.0);
        let moved = before.is_none_or(|before| (now - before).abs() > TOLERANCE_INSTRUCTIONS)
            && change.abs() > TOLERANCE;
        let verdict = match (foreign, moved) {
            (true, _) => {
                skipped += 1;
                ""
            }
            (false, true) => {
                failed += 1;
                "  <-- moved"
            }
            (false, false) => {
                passed += 1;
                ""
            }
        };
        println!(
            "{:<16} {:>10.1} {now:>10.1} {:>+7.1}%  {}{verdict}",
            case.name,
            before.unwrap_or(f64::NAN),
            change * 100.0,
            case.what,
        );
    }
    for gone in baseline
        .cases
        .keys()
        .filter(|name| cases::find(name).is_none())
    {
        println!("{gone} is in the baseline, but there is no such case");
        failed += 1;
    }
    if failed > 0 {
        println!(
            "counts moved by more than {:.0} %: if that is meant, write them down with \
             `cargo bench --bench instructions -- --write`",
            TOLERANCE * 100.0
        );
    }
    println!("instructions: {passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed == 0)
}
