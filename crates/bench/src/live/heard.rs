//! What a crowd heard since it was last told.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::harness::ages::histogram;
use crate::harness::message::spoken_at;
use crate::harness::stream::DataFrame;

/// Frames, bytes and ages.
pub(super) struct Heard {
    since: Instant,
    /// Messages that talkers read, and their bytes.
    frames: u64,
    bytes: u64,
    /// Bytes that the others dropped.
    dropped: u64,
    /// Of messages of this crowd, in microseconds from when they were said.
    ages: Histogram<u64>,
    /// Deliveries, messages and seconds of the telling before: at few messages a second, one telling alone would be
    /// two of them or three.
    before: [f64; 3],
    /// Ever.
    refused: u64,
    delivered: u64,
    /// Mean length of a frame, kept for a time in which nobody heard one.
    frame_bytes: f64,
}

impl Heard {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            frames: 0,
            bytes: 0,
            dropped: 0,
            ages: histogram(),
            before: [0.0; 3],
            refused: 0,
            delivered: 0,
            frame_bytes: FRAME_BYTES,
        }
    }

    /// Counts what a talker read.
    pub(super) fn frame(&mut self, frame: &DataFrame<'_>) {
        if frame.payload.starts_with(ERROR) {
            self.refused += 1;
            return;
        }
        self.frames += 1;
        self.bytes += frame.bytes;
        if let Some(said) = spoken_at(frame.payload) {
            self.ages
                .saturating_record(frame.now.saturating_sub(said) / 1000);
        }
    }

    /// Counts bytes that were dropped unread.
    pub(super) fn dropped(&mut self, bytes: u64) {
        self.dropped += bytes;
    }

    pub(super) fn is_due(&self) -> bool {
        self.since.elapsed() >= TELL
    }

    /// The figures since the last call, but rates since the one before. All viewers of a room get the same bytes, so those that were not read are
    /// counted by the mean length of those that were.
    pub(super) fn take(&mut self, talkers: usize) -> Value {
        let seconds = self.since.elapsed().as_secs_f64();
        if self.frames > 0 {
            self.frame_bytes = self.bytes as f64 / self.frames as f64;
        }
        let deliveries = self.frames as f64 + self.dropped as f64 / self.frame_bytes;
        self.delivered += deliveries as u64;
        let age = |quantile| {
            (!self.ages.is_empty()).then(|| self.ages.value_at_quantile(quantile) as f64 / 1000.0)
        };
        let messages = self.frames as f64 / talkers.max(1) as f64;
        let now = [deliveries, messages, seconds];
        let before = std::mem::replace(&mut self.before, now);
        let per_second = |at: usize| (now[at] + before[at]) / (now[2] + before[2]);
        let told = json!({
            "messages_per_second": per_second(1),
            "deliveries_per_second": per_second(0).round(),
            "p50_ms": age(0.5),
            "p99_ms": age(0.99),
            "delivered": self.delivered,
            "refused": self.refused,
        });
        self.since = Instant::now();
        (self.frames, self.bytes, self.dropped) = (0, 0, 0);
        self.ages.reset();
        told
    }
}

/// How an ERROR frame begins.
const ERROR: &[u8] = br#"{"Type":"ERROR""#;
/// Between two tellings: a person reads no faster.
const TELL: Duration = Duration::from_millis(500);
/// Before the first message was heard.
const FRAME_BYTES: f64 = 300.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::message;

    /// Goal: deliveries, refusals and ages are told as they were, once. Method: one frame read by each of two talkers,
    /// one refusal, and three frames' bytes that were dropped.
    #[test]
    fn figures_are_told_once() {
        let mut heard = Heard::new(Instant::now());
        let mut said = String::new();
        message::spoken(&mut said, 3, 1_000_000);
        // As the server sends it: other members, the same RequestId.
        let payload = said.replace("\"Action\":\"SEND_MESSAGE\"", "\"Type\":\"MESSAGE\"");
        let frame = |payload| DataFrame {
            now: 3_000_000,
            bytes: 200,
            deflated: false,
            payload,
        };
        heard.frame(&frame(payload.as_bytes()));
        heard.frame(&frame(payload.as_bytes()));
        heard.frame(&frame(br#"{"Type":"ERROR","ErrorCode":429}"#));
        heard.dropped(600);
        let told = heard.take(2);
        assert_eq!(
            (&told["delivered"], &told["refused"]),
            (&json!(5), &json!(1))
        );
        assert_eq!(told["p50_ms"], json!(2.0));
        let told = heard.take(2);
        assert_eq!(
            (&told["delivered"], &told["p50_ms"]),
            (&json!(5), &json!(null))
        );
        let told = heard.take(2);
        assert_eq!(told["deliveries_per_second"], json!(0.0));
    }
}
