//! Shared by every layer: limits, ids, time, rate budgets and slot tables. Independent of sockets.

pub mod admission;
pub mod clock;
pub mod hash;
pub mod hex;
pub mod id;
pub mod limits;
pub mod meter;
pub mod number;
pub mod rate;
pub mod segment;
pub mod table;
pub mod wheel;
