//! Where a case's instructions and cache misses are.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::cases::Case;
use crate::valgrind::{callgrind, output};

/// First and second level of a small server core, so that `--cache` means the same everywhere.
const CACHES: [&str; 3] = ["--cache-sim=yes", "--D1=32768,8,64", "--LL=1048576,16,64"];

/// Prints the functions in which a case's instructions, and with [`CACHES`] its misses, are. What was
/// inlined counts for the function it was inlined into.
pub(crate) fn profile(case: &Case, caches: bool) -> Result<(), String> {
    let name = case.name;
    let options: &[&str] = if caches { &CACHES } else { &[] };
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("callgrind.{name}"));
    callgrind(&out, options, &["--run", name])?;
    let annotated = output(
        Command::new("callgrind_annotate")
            .args(["--auto=no", "--threshold=100", "--show-percs=no"])
            .arg(&out),
    )?;
    let functions = by_function(&String::from_utf8_lossy(&annotated.stdout));
    let total: u64 = functions.iter().map(|(_, costs)| costs.instructions).sum();
    let operations = f64::from(case.operations) * f64::from(case.calls.1);
    let each = |count: u64| count as f64 / operations;
    println!("{} in {operations} operations: {}", case.name, case.what);
    println!(" share  instructions  L1 misses  L2 misses  function");
    for (function, costs) in functions {
        if costs.instructions * 200 < total && costs.first_misses * 100 < total / 1_000 {
            continue;
        }
        println!(
            "{:>5.1}% {:>13.1} {:>10.2} {:>10.2}  {function}",
            costs.instructions as f64 * 100.0 / total as f64,
            each(costs.instructions),
            each(costs.first_misses),
            each(costs.last_misses),
        );
    }
    println!("{:>20.1}  all", each(total));
    println!("by line: callgrind_annotate --auto=yes {}", out.display());
    Ok(())
}

/// What one function cost.
#[derive(Default, Clone, Copy)]
struct Costs {
    instructions: u64,
    first_misses: u64,
    last_misses: u64,
}

/// callgrind_annotate's list, which is by file and function, summed by function, dearest first.
fn by_function(annotated: &str) -> Vec<(String, Costs)> {
    let mut functions = BTreeMap::<String, Costs>::new();
    for line in annotated.lines() {
        // Counts, a dot for none, then the place.
        let mut rest = line.trim_start();
        let mut numbers = Vec::new();
        while let Some((word, behind)) = rest.split_once(' ')
            && let Ok(number) = word.replace(',', "").replace('.', "0").parse::<u64>()
        {
            numbers.push(number);
            rest = behind.trim_start();
        }
        let Some((_, function)) = rest.split_once(':').filter(|_| !numbers.is_empty()) else {
            continue;
        };
        let function = function.split(" [").next().unwrap_or(function);
        let costs = functions.entry(function.to_owned()).or_default();
        let column = |index: usize| numbers.get(index).copied().unwrap_or(0);
        // Instructions, reads, writes; then misses of the first level, then of the last: code, reads,
        // writes.
        costs.instructions += column(0);
        costs.first_misses += column(4) + column(5);
        costs.last_misses += column(7) + column(8);
    }
    let mut functions: Vec<_> = functions.into_iter().collect();
    functions.sort_by_key(|(_, costs)| std::cmp::Reverse(costs.instructions));
    functions
}
