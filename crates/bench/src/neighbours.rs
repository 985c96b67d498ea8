//! `uproar bench neighbours`: what a small room feels of a huge one on the same shard.
//!
//! The small room's members and some of the huge one's are this process's and looked at frame by frame;
//! the rest of the huge room is held by client processes of the lowest priority, which look at all their
//! connections all the time, also while the huge room is silent: so the tool's own part in the figures
//! is the same in every row. What is left of it is measured as its lateness in saying what is due.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::crowd::{Parts, Speakers, now_nanos};
use super::host::Host;
use super::load::PASS;
use super::sample::CONTENT_BYTES_MIN;
use super::{Ages, BenchError, histogram};

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Members of the huge room, those that are looked at included.
    pub crowd: usize,
    /// Members of the small room.
    pub members: usize,
    /// Messages a second in the small room.
    pub member_rate: f64,
    /// Messages a second in the huge room, one row each; `None`: doubled until the bound breaks.
    pub rates: Option<Vec<f64>>,
    /// Bytes of the huge room's messages' content.
    pub content_bytes: usize,
    /// Bound of the huge room's 99th percentile.
    pub p99_max: Duration,
    /// Length of one row's measurement.
    pub measured: Duration,
    /// Connections of one client process.
    pub part_size: usize,
    /// Handshakes under way at once.
    pub width: usize,
    /// Processors that are the server's, if it is ours.
    pub shards: usize,
}

/// One measurement.
#[derive(Debug, Clone)]
pub struct Row {
    /// Messages a second in the huge room.
    pub rate: f64,
    /// Deliveries a second in the huge room.
    pub deliveries_per_second: f64,
    /// Of the small room's messages, from when they were meant to be said.
    pub small: Ages,
    /// Of the huge room's; nothing if it was silent.
    pub huge: Ages,
    /// Messages of the small room that were refused, lost or repeated.
    pub small_wrong: u64,
    /// Deliveries of the huge room that were refused, lost or repeated.
    pub huge_wrong: u64,
    /// By how much this process was late in saying what was due: 99th percentile and highest,
    /// microseconds.
    pub late: [u64; 2],
    /// Share of a processor that the server and that all clients took.
    pub busy: [Option<f64>; 2],
    /// Members of the huge room that the server cut off; no row follows.
    pub gone: u64,
    /// Whether the huge room kept its bound and lost nothing.
    pub kept: bool,
}

/// Numbers of the rooms.
const SMALL: usize = 0;
const HUGE: usize = 1;

/// Connects everybody, then measures row by row; `holding` hears how many stand, `tell` each row.
pub fn run(
    host: &Host,
    plan: &Plan,
    mut holding: impl FnMut(usize),
    mut tell: impl FnMut(&Row),
) -> Result<Vec<Row>, BenchError> {
    if host.room_count() < 2 {
        let text = "neighbours needs two rooms";
        return Err(BenchError::Server(text.to_owned()));
    }
    let samples = SAMPLES.min(plan.crowd);
    let others = plan.crowd - samples;
    let mut speakers = Speakers::new(2)?;
    let mut parts = Parts::start(host, others, plan.part_size, plan.width, plan.shards)?;
    for index in 0..plan.members {
        speakers.join(host, SMALL, index)?;
    }
    // Looked at evenly over the order of joining, in which the server serves them.
    for sample in 0..samples {
        speakers.join(host, HUGE, plan.members + sample)?;
        let share = others * sample / samples..others * (sample + 1) / samples;
        let first = plan.members + samples;
        let done = parts.connect(share, first, &(HUGE..HUGE + 1), |count| {
            holding(count + sample + 1);
            while speakers.listen(Duration::ZERO)? {}
            Ok(())
        })?;
        if done.failed > 0 {
            return Err(BenchError::Server(format!(
                "it took {} of {} viewers: {}",
                done.holding,
                plan.crowd,
                done.first_refusal.unwrap_or_default()
            )));
        }
    }
    let mut rows = Vec::new();
    let mut stage = Stage {
        host,
        plan,
        parts,
        speakers,
    };
    let rates = plan.rates.clone().unwrap_or_else(|| {
        let doubled = (0..DOUBLINGS_MAX).map(|step| FIRST_RATE * f64::from(1 << step));
        doubled.collect()
    });
    for rate in std::iter::once(0.0).chain(rates) {
        let row = stage.measure(rate)?;
        tell(&row);
        let over = plan.rates.is_none() && !row.kept || row.gone > 0;
        rows.push(row);
        if over {
            break;
        }
    }
    Ok(rows)
}

struct Stage<'a> {
    host: &'a Host,
    plan: &'a Plan,
    parts: Parts,
    speakers: Speakers,
}

/// A room that speaks by the clock.
struct Due {
    room: usize,
    interval_nanos: f64,
    said: u64,
    total: u64,
    content_bytes: usize,
}

impl Due {
    fn next(&self, begun: u64) -> Option<u64> {
        (self.said < self.total).then(|| begun + (self.said as f64 * self.interval_nanos) as u64)
    }
}

impl Stage<'_> {
    fn measure(&mut self, rate: f64) -> Result<Row, BenchError> {
        let plan = self.plan;
        let seconds = plan.measured.as_secs_f64();
        let due = |room, rate: f64, content_bytes| Due {
            room,
            interval_nanos: 1e9 / rate.max(f64::MIN_POSITIVE),
            said: 0,
            total: (rate * seconds).round() as u64,
            content_bytes,
        };
        let small = due(SMALL, plan.member_rate, CONTENT_BYTES_MIN);
        let huge = due(HUGE, rate, plan.content_bytes);
        let messages = huge.total;
        let before =
            [SMALL, HUGE].map(|room| (self.speakers.wrong(room), self.speakers.bytes(room)));
        self.parts.watch(None, PASS)?;
        let usage = (self.host.usage(), self.parts.usage());
        let started = Instant::now();
        let (late, last_came) = self.speak([small, huge])?;
        let elapsed = last_came.duration_since(started).as_secs_f64();
        let wall = started.elapsed().as_secs_f64();
        let server = usage.0.zip(self.host.usage());
        let server = server.map(|(before, after)| after.busy_since(&before));
        let clients = self.parts.usage().busy_since(&usage.1);
        self.parts.end_watch()?;
        let speakers = &mut self.speakers;
        let report = self.parts.collect(SETTLE_MAX, || {
            while speakers.listen(Duration::ZERO)? {}
            Ok(())
        })?;
        let wrong = |room: usize| self.speakers.wrong(room) - before[room].0;
        let frames = self.speakers.bytes(HUGE) - before[HUGE].1;
        let others = (plan.crowd - self.speakers.count(HUGE)) as u64;
        // All members are sent the same bytes. Pings are few and short; whoever was sent one more or
        // less than the speaker is not taken for a loss: less than half a message is nothing.
        let frame_bytes = frames as f64 / messages.max(1) as f64;
        let differ = (others * frames).abs_diff(report.bytes) as f64;
        let missing = (differ / frame_bytes.max(1.0)).round() as u64;
        let huge_wrong = if messages == 0 {
            0
        } else {
            wrong(HUGE) + missing
        };
        let deliveries = (messages * plan.crowd as u64).saturating_sub(huge_wrong);
        let small_wrong = wrong(SMALL);
        let huge = Ages::of(&self.speakers.take_ages(HUGE));
        Ok(Row {
            rate,
            deliveries_per_second: deliveries as f64 / elapsed,
            small: Ages::of(&self.speakers.take_ages(SMALL)),
            huge,
            small_wrong,
            huge_wrong,
            late: [late.value_at_quantile(0.99), late.max()],
            busy: [
                server.map(|time| time.as_secs_f64() / wall),
                Some(clients.as_secs_f64() / wall),
            ],
            gone: report.gone,
            kept: huge_wrong == 0
                && report.gone == 0
                && Duration::from_micros(huge.0[1]) <= plan.p99_max,
        })
    }

    /// Speaks in both rooms until everything is said, then listens until everything came. How late it
    /// was said, in microseconds, and when the last of it came.
    fn speak(&mut self, mut rooms: [Due; 2]) -> Result<(Histogram<u64>, Instant), BenchError> {
        let begun = now_nanos();
        let mut late = histogram();
        let (mut last_came, mut all_said) = (Instant::now(), None);
        loop {
            let mut next = None;
            for due in &mut rooms {
                let mut now = now_nanos();
                while let Some(meant) = due.next(begun).filter(|meant| *meant <= now) {
                    late.saturating_record((now - meant) / 1000);
                    self.speakers.say(due.room, meant, due.content_bytes)?;
                    due.said += 1;
                    now = now_nanos();
                }
                next = next.into_iter().chain(due.next(begun)).min();
            }
            let wait = match next {
                Some(next) => Duration::from_nanos(next.saturating_sub(now_nanos())),
                None => QUIET,
            };
            if self.speakers.listen(wait.min(QUIET))? {
                last_came = Instant::now();
            }
            if next.is_none() {
                let since = all_said.get_or_insert_with(Instant::now);
                let came = [SMALL, HUGE]
                    .iter()
                    .all(|room| self.speakers.all_came(*room));
                if came || since.elapsed() > SETTLE_MAX {
                    return Ok((late, last_came));
                }
            }
        }
    }
}

impl Row {
    /// 99th percentile of how late this process was, in milliseconds.
    pub fn late_ms(&self) -> f64 {
        self.late[0] as f64 / 1e3
    }

    /// For scripts.
    pub fn json(&self) -> Value {
        let [server, clients] = self.busy;
        json!({
            "huge_messages_per_second": self.rate,
            "huge_deliveries_per_second": self.deliveries_per_second.round(),
            "small_latency_us": self.small.json(),
            "huge_latency_us": (self.rate > 0.0).then(|| self.huge.json()),
            "small_lost_repeated_refused": self.small_wrong,
            "huge_lost_repeated_refused": self.huge_wrong,
            "tool_late_us": {"p99": self.late[0], "max": self.late[1]},
            "server_busy": server,
            "clients_busy": clients,
            "huge_gone": self.gone,
            "kept": self.kept,
        })
    }
}

/// Members of the huge room that are looked at.
const SAMPLES: usize = 10;
/// Messages a second in the huge room, first row, when its limit is looked for.
const FIRST_RATE: f64 = 1.0;
const DOUBLINGS_MAX: u32 = 14;
/// Longest wait for the next receipt.
const QUIET: Duration = Duration::from_millis(20);
/// For what is under way when everything is said.
const SETTLE_MAX: Duration = Duration::from_secs(20);
