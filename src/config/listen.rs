//! Addresses to listen on.

use std::net::{IpAddr, SocketAddr};

/// Parses an address and its port. A missing part is not guessed, since it decides whether the network may connect;
/// the error shows an example with the given part.
pub(super) fn parse(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = match text.rsplit_once(':') {
        Some(pair) => pair,
        None if text.bytes().all(|b| b.is_ascii_digit()) => ("", text),
        None => (text, ""),
    };
    let is_number = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let (missing, shown) = match port.parse::<u16>() {
        _ if matches!(text.parse(), Ok(IpAddr::V6(_))) => {
            ("an IPv6 address stands in brackets, as in [::1]:8080", 8080)
        }
        Ok(port) if host.is_empty() => ("the address is missing", port),
        Ok(port) => ("names are not looked up", port),
        Err(_) if is_number => ("a port is at most 65535", 8080),
        Err(_) if port.is_empty() => ("the port is missing", 8080),
        Err(_) => ("the port is no number", 8080),
    };
    Err(format!(
        "{missing}; it must be an address and a port, as in 127.0.0.1:{shown} for this machine alone or \
         0.0.0.0:{shown} for every interface"
    ))
}

/// Whether two listeners cannot bind both addresses.
pub(super) fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    // A listener on [::] accepts IPv4 too.
    let covers =
        |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    let ips = (a.ip(), b.ip());
    a.port() != 0
        && a.port() == b.port()
        && (ips.0 == ips.1 || covers(ips.0, ips.1) || covers(ips.1, ips.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the error names the missing part, with an example.
    #[test]
    fn missing_parts_are_named_with_an_example() {
        for (text, missing, example) in [
            ("9000", "the address is missing", "127.0.0.1:9000"),
            (":9000", "the address is missing", "0.0.0.0:9000"),
            (
                "localhost:9000",
                "names are not looked up",
                "127.0.0.1:9000",
            ),
            (
                "chat.example.org:443",
                "names are not looked up",
                "0.0.0.0:443",
            ),
            ("127.0.0.1", "the port is missing", "127.0.0.1:8080"),
            ("127.0.0.1:", "the port is missing", "127.0.0.1:8080"),
            ("127.0.0.1:http", "the port is no number", "127.0.0.1:8080"),
            ("127.0.0.1:99999", "at most 65535", "127.0.0.1:8080"),
            ("99999", "at most 65535", "127.0.0.1:8080"),
            ("::1", "in brackets", "[::1]:8080"),
            ("", "the port is missing", "127.0.0.1:8080"),
            ("nowhere", "the port is missing", "127.0.0.1:8080"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(
                error.contains(missing) && error.contains(example),
                "{text}: {error}"
            );
        }
        for text in ["127.0.0.1:0", "[::1]:8080", "0.0.0.0:65535"] {
            assert_eq!(
                parse(text).map(|address| address.to_string()).as_deref(),
                Ok(text)
            );
        }
    }

    #[test]
    fn overlapping_listeners_are_seen() {
        let pair = |a: &str, b: &str| (parse(a).expect("valid"), parse(b).expect("valid"));
        for (a, b, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("10.0.0.5:1", "[::]:1", true),
            ("[::]:1", "[::1]:1", true),
            ("0.0.0.0:1", "[::]:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let (a, b) = pair(a, b);
            assert_eq!(
                (collide(a, b), collide(b, a)),
                (expected, expected),
                "{a} {b}"
            );
        }
    }
}
