//! `/varz` of a broker's monitoring port.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use serde::Deserialize;

use super::dial::open;

/// Longer than any `/varz`, in bytes.
const PAGE_BYTES_MAX: u64 = 1024 * 1024;

/// What the monitoring port knows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Monitoring {
    /// The broker's wall clock, RFC 3339.
    pub now: String,
    /// Its streams.
    #[serde(default)]
    pub jetstream: Streams,
}

/// Streams of one broker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Streams {
    /// Its configuration.
    pub config: StreamsConfig,
    /// What it uses.
    pub stats: StreamsStats,
    /// The group that places streams.
    pub meta: Meta,
}

/// How a broker keeps streams.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct StreamsConfig {
    /// Bytes on disk that streams may take.
    pub max_storage: u64,
    /// Whether each record is synced before it is acknowledged.
    pub sync_always: bool,
    /// Else the interval, in nanoseconds.
    pub sync_interval: u64,
}

/// What a broker's streams take.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct StreamsStats {
    /// Bytes on disk.
    pub storage: u64,
    /// Bytes that streams may still grow to, and have been promised.
    pub reserved_storage: u64,
}

/// The group that places streams, as this broker sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// Its leader's name; `None`: there is none.
    pub leader: Option<String>,
    /// Brokers in it.
    pub cluster_size: u64,
}

/// Asks a monitoring port.
///
/// # Errors
///
/// It does not answer, or something else does.
pub(super) fn read(address: SocketAddr) -> io::Result<Monitoring> {
    let mut stream = open(address)?;
    // Of HTTP/1.0, because its answers come in one piece.
    let request = format!("GET /varz HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(PAGE_BYTES_MAX).read_to_end(&mut answer)?;
    parse(&answer)
}

/// The JSON object behind the head of an answer.
fn parse(answer: &[u8]) -> io::Result<Monitoring> {
    let foreign = || io::Error::other("what answers there is no monitoring port of a NATS server");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let body = answer
        .get(end.ok_or_else(foreign)? + 4..)
        .ok_or_else(foreign)?;
    serde_json::from_slice(body).map_err(|_| foreign())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VARZ: &str = r#"{"server_name":"broker-1","now":"2026-11-28T18:48:48.9Z","jetstream":{"config":{"max_storage":17,"sync_interval":120000000000,"sync_always":true},"stats":{"storage":3,"reserved_storage":4},"meta":{"leader":"broker-2","cluster_size":3}}}"#;

    /// Goal: a page is read as brokers write it; a torn one is refused.
    #[test]
    fn pages_are_read_whole_or_not_at_all() {
        let answer = format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{VARZ}");
        let read = parse(answer.as_bytes()).expect("a page");
        assert!(read.jetstream.config.sync_always);
        assert_eq!(read.jetstream.meta.leader.as_deref(), Some("broker-2"));
        for end in 0..answer.len() {
            assert!(parse(&answer.as_bytes()[..end]).is_err(), "{end}");
        }
    }
}
