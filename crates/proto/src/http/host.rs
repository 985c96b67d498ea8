//! By which names pages of a server are loaded, so that no stranger's page passes for one (DNS rebinding).

use std::net::IpAddr;

/// Whether a page that was loaded by this name is no stranger's: nobody owns addresses, `localhost`, `.internal` or a
/// name without dots in the public DNS.
pub fn is_own_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let name = name.to_ascii_lowercase();
    address.parse::<IpAddr>().is_ok()
        || name.ends_with(".localhost")
        || name.ends_with(".internal")
        || (!name.is_empty() && !name.contains(['.', '[', ']']))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: names that a stranger can register, and point to this machine, are refused.
    #[test]
    fn names_of_this_machine_are_known() {
        for own in [
            "127.0.0.1:8081",
            "[::1]:8081",
            "::1",
            "localhost",
            "LOCALHOST:1",
            "uproar:8081",
            "host.docker.internal:8081",
            "a.localhost",
        ] {
            assert!(is_own_name(own), "{own}");
        }
        for strange in [
            "",
            ":8081",
            "evil.example",
            "evil.example:8081",
            "127.0.0.1.evil.example",
            "localhost.evil.example:8081",
            "internal.evil.example",
            "evil.example.",
            "127.0.0.1:8081:evil.example",
        ] {
            assert!(!is_own_name(strange), "{strange}");
        }
    }
}
