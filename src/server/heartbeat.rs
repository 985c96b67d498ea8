//! A small file that says how many viewers the server holds, so that the next start knows how many were cut.
//!
//! Written once a second, in place and not synced: it survives a kill. After a stop or crash all of them come back at
//! once, each with a new token, which the rate of `CreateChatToken` alone would refuse to most.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::time::{sleep, timeout};

use crate::clock;
use crate::config::Settings;
use crate::control::Control;
use crate::durable::{self, Access, Survives};
use crate::shard::metrics::ShardMetrics;
use crate::supervisor::blocking;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::hash::fnv1a_64;
use uproar_proto::base::limits::{HEARTBEAT_INTERVAL, TOKEN_CREDIT_LIFE};
use uproar_proto::base::number::wide;

/// The file in the data directory.
const FILE: &str = "heartbeat";
const BYTES: usize = 24;
/// Tells the file's words from others; another meaning gets another value.
const MEANING: u64 = u64::from_le_bytes(*b"held at1");

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Beat {
    // Viewers that a stop at this instant cuts, and those of an earlier one that have not come back.
    viewers: u64,
    at: UnixTime,
}

/// How many viewers the server that wrote `path` held at its end, at most `most`. 0 if the file is missing, damaged,
/// or older than [`TOKEN_CREDIT_LIFE`] by the wall clock, from which viewers are not expected any more; a time that
/// far ahead is as wrong.
fn held_before(path: &Path, most: usize, now: UnixTime) -> u64 {
    let has_length = |found: fs::Metadata| found.is_file() && found.len() == wide(BYTES);
    if !fs::metadata(path).is_ok_and(has_length) {
        return 0;
    }
    let beat = fs::read(path).ok().and_then(|bytes| Beat::parse(&bytes));
    let age = |beat: Beat| now.nanos().abs_diff(beat.at.nanos());
    match beat {
        Some(beat) if u128::from(age(beat)) < TOKEN_CREDIT_LIFE.as_nanos() => {
            beat.viewers.min(wide(most))
        }
        Some(_) | None => 0,
    }
}

/// Writes the file.
pub(super) struct Heartbeat {
    path: PathBuf,
    shards: Vec<Arc<ShardMetrics>>,
    // Most connections of the server.
    most: usize,
    written: Option<Beat>,
    failing: bool,
}

impl Heartbeat {
    pub(super) fn new(settings: &Settings, shards: &[Arc<ShardMetrics>]) -> Self {
        Self {
            path: settings.data_dir.join(FILE),
            shards: shards.to_vec(),
            most: settings.shard.connections_max,
            written: None,
            failing: false,
        }
    }

    /// Grants the viewers of the last server here their tokens beyond the rate.
    pub(super) fn credit(&self, control: &Control) {
        control.credit_tokens(held_before(&self.path, self.most, clock::unix_now()));
    }

    /// Writes the file once a second.
    pub(super) async fn run(&mut self, control: &Control) -> Infallible {
        loop {
            self.beat(control).await;
            sleep(HEARTBEAT_INTERVAL).await;
        }
    }

    /// Writes the file now if it was written before, unless the disk stalls: for a stop, before anybody is cut.
    pub(super) async fn last(&mut self, control: &Control) {
        // A server that was never open has held nobody: those of the last one are still to come.
        if self.written.is_none() && !self.failing {
            return;
        }
        let _stalled = timeout(HEARTBEAT_INTERVAL, self.beat(control)).await;
    }

    async fn beat(&mut self, control: &Control) {
        let connected: u64 = self
            .shards
            .iter()
            .map(|shard| shard.connections.get())
            .sum();
        let expected = connected.saturating_add(control.token_credit_left());
        let beat = Beat {
            viewers: expected.min(wide(self.most)),
            at: clock::unix_now(),
        };
        // A server that nobody visits leaves its disk alone.
        if beat.viewers == 0 && self.written.is_some_and(|written| written.viewers == 0) {
            return;
        }
        let (path, exists) = (self.path.clone(), self.written.is_some());
        let written = blocking(move || {
            let bytes = beat.to_bytes();
            if exists {
                return durable::overwrite(&path, &bytes, Survives::Kill);
            }
            durable::replace(&path, &bytes, Access::PRIVATE, Survives::Kill)
        })
        .await;
        match written {
            Ok(()) => (self.written, self.failing) = (Some(beat), false),
            Err(error) => {
                if !self.failing {
                    let path = self.path.display();
                    tracing::warn!(%path, %error, "not written: after a crash viewers share the usual rate of CreateChatToken");
                }
                // Whatever became of the file, the next beat makes another.
                (self.written, self.failing) = (None, true);
            }
        }
    }
}

impl Beat {
    fn to_bytes(self) -> [u8; BYTES] {
        let words = [self.viewers, self.at.millis(), self.check()].map(u64::to_le_bytes);
        *words.as_flattened().first_chunk().expect("three words")
    }

    /// `None` if it is torn, or something else.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<8>() else {
            return None;
        };
        let [viewers, millis, check] = *words else {
            return None;
        };
        let beat = Self {
            viewers: u64::from_le_bytes(viewers),
            at: UnixTime::from_millis(u64::from_le_bytes(millis)),
        };
        (u64::from_le_bytes(check) == beat.check()).then_some(beat)
    }

    fn check(self) -> u64 {
        let words = [MEANING, self.viewers, self.at.millis()].map(u64::to_le_bytes);
        fnv1a_64(words.as_flattened())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::faults::Scratch;

    /// Goal: the next start believes a beat that is whole, recent and within its own limit, and nothing else.
    #[test]
    fn a_start_believes_only_a_whole_and_recent_beat() {
        let scratch = Scratch::new();
        let path = scratch.0.join(FILE);
        let now = UnixTime::from_secs(1_800_000_000);
        let held = |now| held_before(&path, 50_000, now);
        assert_eq!(held(now), 0, "there is none");
        let write = |viewers, at| {
            let bytes = Beat { viewers, at }.to_bytes();
            fs::write(&path, bytes).expect("writes");
            bytes
        };
        let bytes = write(5_000, now);
        assert_eq!(held(now), 5_000);
        let life = TOKEN_CREDIT_LIFE;
        assert_eq!(held(now.after(life / 2)), 5_000);
        assert_eq!(held(now.after(life)), 0, "it is old");
        write(5_000, now.after(life));
        assert_eq!(held(now), 0, "the clock went back");
        write(u64::MAX, now);
        assert_eq!(held(now), 50_000, "at most as many as may be there");
        for at in 0..BYTES {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            fs::write(&path, damaged).expect("writes");
            assert_eq!(held(now), 0, "byte {at}");
            fs::write(&path, &bytes[..at]).expect("writes");
            assert_eq!(held(now), 0, "cut at {at}");
        }
        fs::write(&path, [0; BYTES]).expect("writes");
        assert_eq!(held(now), 0, "a hole in the file system");
        fs::remove_file(&path).expect("is there");
        fs::create_dir(&path).expect("makes");
        assert_eq!(held(now), 0);
    }
}
