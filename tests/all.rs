//! All integration tests in one binary: one link, one harness.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may stop at its first surprise"
)]

mod admission;
mod architecture;
mod cluster_simulation;
mod clustered;
mod doors;
mod estate;
mod estate_limits;
mod fairness;
mod redaction;
mod rings;
mod seeds;
mod simulation;
mod tiny_ring;
mod viewers;
