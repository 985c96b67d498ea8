//! The hot functions and whole turns, timed: `cargo bench --bench hot_path`.
//!
//! Times are of this machine and this moment; compare them within one run only, and use
//! `cargo bench --bench instructions` for what a change costs. What a delivery costs as a whole, kernel
//! included, `uproar bench fanout` shows.
#![allow(missing_docs, reason = "the harness generates functions")]

#[allow(
    dead_code,
    reason = "how long a case is counted is of no interest here"
)]
mod cases;

use divan::Bencher;
use divan::counter::ItemsCount;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// By name; items are the case's operations.
#[divan::bench(args = cases::all().map(|case| case.name))]
fn case(bencher: Bencher<'_, '_>, name: &str) {
    let case = cases::find(name).expect("divan has its name from us");
    let mut call = (case.make)();
    bencher
        .counter(ItemsCount::new(case.operations))
        .bench_local(&mut call);
}
