//! The line `INFO {…}` that a broker sends first.

use std::io::{self, BufRead, BufReader, Read};
use std::net::TcpStream;

use serde::Deserialize;

/// Longer than any greeting: a broker names all others in it. In bytes.
const GREETING_BYTES_MAX: u64 = 64 * 1024;

/// What a broker says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Greeting {
    /// Its name in the brokers' cluster.
    #[serde(rename = "server_name")]
    pub name: String,
    /// Its version.
    pub version: String,
    /// The longest message it takes, in bytes.
    pub max_payload: u64,
    /// Whether it keeps streams.
    #[serde(default)]
    pub jetstream: bool,
    /// The brokers' cluster it belongs to; `None`: it stands alone.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Whether it is about to end (lame duck).
    #[serde(default)]
    pub ldm: bool,
}

/// Reads the greeting of a connection.
///
/// # Errors
///
/// It comes late, or is none.
pub(super) fn read(stream: TcpStream) -> io::Result<Greeting> {
    let mut line = String::new();
    BufReader::new(stream.take(GREETING_BYTES_MAX)).read_line(&mut line)?;
    parse(&line)
}

fn parse(line: &str) -> io::Result<Greeting> {
    let foreign = || io::Error::other("what answers there is no NATS server");
    let json = line.strip_prefix("INFO ").ok_or_else(foreign)?;
    serde_json::from_str(json).map_err(|_| foreign())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a greeting is read as brokers write it, and anything else is named as foreign. Method: the line of
    /// nats-server 2.15.1, shortened, and that of an HTTP server.
    #[test]
    fn a_greeting_is_read_as_written() {
        let line = r#"INFO {"server_id":"NCJI","server_name":"broker-1","version":"2.15.1","proto":1,"headers":true,"max_payload":1048576,"jetstream":true,"cluster":"x","connect_urls":["127.0.0.1:5082"],"api_lvl":5}"#;
        let greeting = parse(line).expect("it is one");
        assert_eq!(
            (&*greeting.name, greeting.max_payload, greeting.jetstream),
            ("broker-1", 1_048_576, true)
        );
        assert_eq!(greeting.cluster.as_deref(), Some("x"));
        assert!(!greeting.ldm);
        for foreign in [
            "",
            "HTTP/1.1 400 Bad Request\r\n",
            "INFO {}",
            "INFO {\"server_name\":7}",
        ] {
            assert!(parse(foreign).is_err(), "{foreign}");
        }
    }
}
