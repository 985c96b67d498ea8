//! `--cfg loom` for this crate alone. As a flag for all crates it would change tokio, too.

#![allow(clippy::print_stdout, reason = "how a build script speaks to cargo")]

fn main() {
    println!("cargo::rustc-cfg=loom");
}
