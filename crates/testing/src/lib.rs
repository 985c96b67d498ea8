//! What tests, benches and fuzz targets share. Nothing here ships.
//!
//! | module | subject |
//! |---|---|
//! | [`cluster`] | several nodes on brokers that are a model, driven by a seed |
//! | [`client`] | what a client sends: masked frames, requests |
//! | [`io`] | an `Io` without a kernel: sends complete in the next turn, whole or in small parts |
//! | [`parts`] | the parts of a shard with everything left out that a test does not need |
//! | [`single_shard`] | one shard with rooms and members, for benches and counts |
//! | [`simulation`] | shards, rooms and clients driven by a seed or by a fuzzer's bytes, and the oracle that judges them |

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::wildcard_enum_match_arm,
    reason = "a test may stop at its first surprise"
)]

pub mod client;
pub mod cluster;
pub mod io;
pub mod parts;
pub mod simulation;
pub mod single_shard;
