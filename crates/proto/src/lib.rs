//! The pure part of Uproar: bytes and time in, meaning and effects out.
//!
//! Nothing here opens a socket, reads a clock or draws a random number; these are arguments, so
//! that tests, fuzzing and the simulation drive the code that ships. A module uses only modules of
//! lower ranks (`tests/architecture`):
//!
//! | rank | modules | subject |
//! |---|---|---|
//! | 5 | [`session`], [`room`], [`cluster`] | state machines: one connection's protocol, one room's order and log, many nodes as one |
//! | 4 | [`extension`] | what rooms have beyond IVS Chat: settings, state, commands |
//! | 3 | [`chat`], [`http`] | IVS Chat's JSON messages; heads of requests and upgrades |
//! | 2 | [`ws`] | RFC 6455 and RFC 7692: frames, compression, its negotiation |
//! | 1 | [`framing`], [`proxy`], [`scan`], [`sigv4`], [`tagged`], [`token`] | where requests end, PROXY headers, JSON by parts, signatures, tagged fields, chat tokens |
//! | 0 | [`base`] | limits, ids, time, rates, tables |

#![forbid(unsafe_code)]
// Hostile lengths live here.
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]
#![cfg_attr(
    test,
    allow(
        clippy::as_conversions,
        clippy::wildcard_enum_match_arm,
        reason = "a test may stop at its first surprise"
    )
)]

pub mod base;
pub mod chat;
pub mod cluster;
pub mod extension;
pub mod framing;
pub mod http;
pub mod proxy;
pub mod room;
pub mod scan;
pub mod session;
pub mod sigv4;
pub mod tagged;
pub mod token;
pub mod ws;
