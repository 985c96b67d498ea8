//! `uproar wait`: until a server is ready.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::failure::Failure;
use super::output::print;
use crate::clock::Clock;
use crate::server::{Health, Order, ReadyFacts, ask};
use uproar_proto::base::limits::{WAIT_ANSWER_BYTES_MAX, WAIT_LOOK, WAIT_PROBE_MAX};

/// `uproar wait`.
#[derive(Debug, clap::Args)]
pub(super) struct WaitCommand {
    /// The file of `uproar dev --ready-file`; it is printed once the server answers
    #[arg(long, value_name = "FILE", conflicts_with = "control")]
    ready_file: Option<PathBuf>,
    /// Where the API is, as in http://uproar:8081
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
    control: String,
    /// Seconds, from now on
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    timeout: f64,
}

impl WaitCommand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let timeout = Duration::try_from_secs_f64(self.timeout)
            .map_err(|error| Failure::Usage(format!("--timeout {}: {error}", self.timeout)))?;
        if self.ready_file.is_none() {
            authority(&self.control).map_err(Failure::Usage)?;
        }
        let clock = Clock::start();
        loop {
            let reason = match self.look() {
                Ok(text) => return print(&text),
                Err(reason) => reason,
            };
            if clock.uptime() >= timeout {
                let seconds = self.timeout;
                return Err(Failure::Run(format!(
                    "not ready after {seconds} s: {reason}"
                )));
            }
            std::thread::sleep(WAIT_LOOK);
        }
    }

    /// What is printed if the server is ready, or why it is not.
    fn look(&self) -> Result<String, String> {
        match &self.ready_file {
            Some(path) => look_at_file(path),
            None => probe(&self.control).map(|()| "ready\n".to_owned()),
        }
    }
}

fn look_at_file(path: &Path) -> Result<String, String> {
    let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| fail(&error))?;
    let facts: ReadyFacts = serde_json::from_str(&text).map_err(|error| fail(&error))?;
    if facts.control.starts_with("https://") {
        // Its certificate is a throw-away one; the admin socket needs none.
        let health =
            ask(&facts.data_dir, &Order::Health {}, |_| {}).map_err(|error| fail(&error))?;
        let health: Health = serde_json::from_value(health).map_err(|error| fail(&error))?;
        if health.pid != facts.pid || !health.ready {
            return Err(fail(&format!("process {} is not ready", facts.pid)));
        }
    } else {
        probe(&facts.control)?;
    }
    Ok(text)
}

/// Host and port of an address of the API.
fn authority(control: &str) -> Result<&str, String> {
    let authority = control.strip_prefix("http://").unwrap_or(control);
    let authority = authority.trim_end_matches('/');
    if authority.contains('/') || !authority.contains(':') {
        return Err(format!(
            "--control {control} must be http://, a host and a port, as in http://127.0.0.1:8081; a server with --tls is \
             waited for by --ready-file"
        ));
    }
    Ok(authority)
}

/// Asks `/readyz`.
fn probe(control: &str) -> Result<(), String> {
    let authority = authority(control)?;
    let fail = |error: io::Error| format!("{control}/readyz: {error}");
    let answer = ask_page(authority).map_err(fail)?;
    if answer.starts_with(b"HTTP/1.1 200 ") {
        return Ok(());
    }
    let answer = String::from_utf8_lossy(&answer);
    let said = answer.lines().last().unwrap_or("no answer").to_owned();
    Err(format!("{control}/readyz: {said}"))
}

fn ask_page(authority: &str) -> io::Result<Vec<u8>> {
    let mut last = io::Error::other("the name has no address");
    for address in authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, WAIT_PROBE_MAX) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(WAIT_PROBE_MAX))?;
                let request = format!(
                    "GET /readyz HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
                );
                stream.write_all(request.as_bytes())?;
                let mut answer = Vec::new();
                stream
                    .take(WAIT_ANSWER_BYTES_MAX)
                    .read_to_end(&mut answer)?;
                return Ok(answer);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what cannot be asked is refused at once, with the way that works.
    #[test]
    fn addresses_have_a_host_and_a_port() {
        for (given, expected) in [
            ("http://127.0.0.1:8081", "127.0.0.1:8081"),
            ("http://uproar:8081/", "uproar:8081"),
            ("[::1]:8081", "[::1]:8081"),
        ] {
            assert_eq!(authority(given), Ok(expected));
        }
        for bad in [
            "https://127.0.0.1:8081",
            "http://uproar",
            "http://a:1/readyz",
        ] {
            let error = authority(bad).expect_err(bad);
            assert!(error.contains("--ready-file"), "{error}");
        }
    }
}
