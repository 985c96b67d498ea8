//! All integration tests in one binary: one link, one harness.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test may stop at its first surprise"
)]

mod architecture;
mod simulation;
