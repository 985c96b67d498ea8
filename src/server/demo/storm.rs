//! A storm of the demo page: `uproar bench live` as a child process, which is killed at the latest when this is dropped.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::unix::pipe::Receiver;
use tokio::time::Instant;

use uproar_proto::base::limits::{DEMO_STORM_LIFE, DEMO_STORM_VIEWERS_MAX, ROOM_RATE_MAX};

/// How many come, and how much they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crowd {
    pub(super) viewers: usize,
    /// Messages a second of all together.
    pub(super) rate: u32,
}

impl Crowd {
    /// Within its bounds.
    ///
    /// # Errors
    ///
    /// A number that is none, or out of them.
    pub(super) fn parse(viewers: &str, rate: &str) -> Result<Self, String> {
        let (viewers_max, rate_max) = (DEMO_STORM_VIEWERS_MAX, ROOM_RATE_MAX);
        let crowd = viewers.parse().ok().zip(rate.parse().ok());
        crowd
            .map(|(viewers, rate)| Self { viewers, rate })
            .filter(|crowd| (1..=viewers_max).contains(&crowd.viewers))
            .filter(|crowd| (1..=rate_max).contains(&crowd.rate))
            .ok_or_else(|| {
                format!("viewers must be 1 to {viewers_max} and rate 1 to {rate_max} messages a second\n")
            })
    }
}

/// Where storms go.
#[derive(Debug)]
pub(super) struct Place {
    messaging: SocketAddr,
    data_dir: PathBuf,
    arn: String,
}

impl Place {
    /// The room `arn` of this server; `None` if it can be reached by other machines or by TLS only, which the load
    /// generator does not speak.
    pub(super) fn of(
        messaging: SocketAddr,
        tls: bool,
        data_dir: PathBuf,
        arn: &str,
    ) -> Option<Self> {
        let ip = match messaging.ip() {
            ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        (ip.is_loopback() && !tls).then(|| Self {
            messaging: (ip, messaging.port()).into(),
            data_dir,
            arn: arn.to_owned(),
        })
    }
}

/// A storm that goes on.
#[derive(Debug)]
pub(super) struct Storm {
    pub(super) id: u64,
    crowd: Crowd,
    _generator: Generator,
    lines: Lines<BufReader<Receiver>>,
    begun: Instant,
    /// Its newest figures.
    pub(super) told: Value,
}

impl Storm {
    /// Starts the load generator.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(super) fn begin(id: u64, crowd: Crowd, place: &Place) -> io::Result<Self> {
        // The program that runs, even if its file was replaced meanwhile.
        let mut child = Command::new("/proc/self/exe")
            .args(["bench", "live", "--messaging", &place.messaging.to_string()])
            .arg("--data-dir")
            .arg(&place.data_dir)
            .args(["--room", &place.arn])
            .args(["--viewers", &crowd.viewers.to_string()])
            .args(["--rate", &crowd.rate.to_string()])
            .args(["--seconds", &DEMO_STORM_LIFE.as_secs().to_string()])
            // Ends with this process, too.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().expect("it is piped");
        let generator = Generator(Some(child));
        let receiver = Receiver::from_owned_fd(OwnedFd::from(stdout))?;
        Ok(Self {
            id,
            crowd,
            _generator: generator,
            lines: BufReader::new(receiver).lines(),
            begun: Instant::now(),
            told: Value::Null,
        })
    }

    /// Its next figures; `None` once it has ended.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: a line that is not complete is kept.
    pub(super) async fn next(&mut self) -> Option<Value> {
        let line = self.lines.next_line().await.ok()??;
        serde_json::from_str(&line).ok()
    }

    /// Whether its time is over.
    pub(super) fn is_over(&self) -> bool {
        self.begun.elapsed() >= DEMO_STORM_LIFE
    }

    /// What its page shows.
    pub(super) fn shown(&self) -> Value {
        let left = DEMO_STORM_LIFE.saturating_sub(self.begun.elapsed());
        json!({
            "id": self.id,
            "viewers": self.crowd.viewers,
            "messages_per_second": self.crowd.rate,
            "seconds_left": left.as_secs(),
            "figures": self.told,
        })
    }
}

/// The load generator's process, which ends with this.
#[derive(Debug)]
struct Generator(Option<Child>);

impl Drop for Generator {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ended = child.kill();
            // It takes the kernel some milliseconds to cut a crowd's connections.
            thread::spawn(move || child.wait());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a page cannot ask for a crowd beyond the limits, whatever it writes.
    #[test]
    fn crowds_are_bounded() {
        let crowd = |viewers, rate| Crowd { viewers, rate };
        assert_eq!(Crowd::parse("1", "1"), Ok(crowd(1, 1)));
        assert_eq!(Crowd::parse("2000", "100"), Ok(crowd(2000, 100)));
        for (viewers, rate) in [
            ("0", "1"),
            ("1", "0"),
            ("2001", "1"),
            ("1", "101"),
            ("-1", "1"),
            ("", "1"),
            ("1", "1.5"),
            ("99999999999999999999", "1"),
        ] {
            let refusal = Crowd::parse(viewers, rate).expect_err(viewers);
            assert!(refusal.contains("1 to 2000"), "{viewers} {rate}: {refusal}");
        }
    }

    /// Goal: only what the load generator can reach, and nobody else, is stormed.
    #[test]
    fn storms_stay_on_this_machine() {
        let place = |address: &str, tls| {
            let address = address.parse().expect(address);
            Place::of(address, tls, PathBuf::new(), "arn").map(|place| place.messaging.to_string())
        };
        assert_eq!(
            place("127.0.0.1:8080", false).as_deref(),
            Some("127.0.0.1:8080")
        );
        assert_eq!(
            place("0.0.0.0:8080", false).as_deref(),
            Some("127.0.0.1:8080")
        );
        assert_eq!(place("[::1]:8080", false).as_deref(), Some("[::1]:8080"));
        assert_eq!(place("10.1.2.3:8080", false), None);
        assert_eq!(place("127.0.0.1:8080", true), None);
    }
}
