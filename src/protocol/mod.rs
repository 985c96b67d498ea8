//! Parsers and encoders, without sockets, clocks or randomness.

pub mod chat;
pub mod extension;
pub mod framing;
pub mod http;
pub mod proxy;
pub mod scan;
pub mod sigv4;
pub mod token;
pub mod ws;
