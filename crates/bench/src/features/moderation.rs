//! `uproar bench features moderation`: a moderator of a large room deletes messages by the clock, beside a room at its limit.
//! Each viewer of the large room is read by this process: a deletion has come when it has come to the last of them.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::schedule::Schedule;
use crate::harness::ages::{Ages, histogram};
use crate::harness::caller::Caller;
use crate::harness::error::{BenchError, Failure};
use crate::harness::flags::{count, millis, seconds};
use crate::harness::message;
use crate::harness::poll::Poll;
use crate::harness::program::Environment;
use crate::harness::report::{Progress, percent, print};
use crate::harness::server::ServerUnderTest;
use crate::harness::target::Target;

/// Flags of the measure.
#[derive(Debug, Args)]
pub(crate) struct Moderation {
    #[command(flatten)]
    target: Target,
    /// Viewers of the room, of whom the first one moderates
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = count(1..=100_000))]
    viewers: usize,
    /// Deletions per second, each of a message that was said in the middle between two of them
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Viewers of the room beside it, of whom the first one speaks
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = count(1..=10_000))]
    beside: usize,
    /// Messages per second in the room beside it: the limit of a room is 100
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    beside_rate: u32,
    /// Measure a second time, with each message this long behind a deletion, whose way to the viewers it meets; 0: right behind it
    #[arg(long, value_name = "MS", value_parser = millis(0..=1000))]
    behind: Option<Duration>,
    /// Length of a measurement, in seconds
    #[arg(long = "seconds", default_value = "30", value_name = "SECONDS", value_parser = seconds())]
    measured: Duration,
}

struct Report {
    /// Deletions that were sent, and those that came to every viewer.
    sent: u64,
    complete: u64,
    refused: u64,
    /// From when a deletion was due to be sent until it was read at its last viewer.
    last: Ages,
    /// The same at each viewer.
    each: Ages,
    /// Of the messages beside it.
    beside: Ages,
    /// The bound of `uproar_moderation_seconds` below which 99 % of this server's walks are, in seconds.
    server_p99: Option<f64>,
    /// What the server did meanwhile.
    server: Work,
}

/// What the server did in a measurement; nothing of what is not known.
struct Work {
    /// Mean of `uproar_moderation_seconds`: from a deletion's acceptance until its last send is submitted.
    walk: Option<Duration>,
    /// Share of a core that it was busy.
    busy: Option<f64>,
    /// Sends for each deletion and viewer, the messages beside included: 2 are one of the deletion and one of its message.
    sends: Option<f64>,
}

impl Moderation {
    pub(super) fn run(&self, environment: &Environment<'_>) -> Result<(), Failure> {
        let connections = self.viewers + self.beside;
        let target = &self.target;
        let mut server = target.server_for(environment.program, 1, connections)?;
        let room = server.add_room(r#"{"uproar:history":"50"}"#)?;
        let mut crowd = Crowd::connect(self, &server, room, &Progress::new(connections))?;
        // In the middle between two deletions: what is measured is the way of a deletion, not of a message beside it.
        let middle = Duration::from_secs(1) / self.rate / 2;
        let report = self.measure(&mut crowd, &server, middle)?;
        let (mut lines, mut json) = (self.lines(&report), self.json(&report));
        if let Some(pause) = self.behind {
            let report = self.measure(&mut crowd, &server, pause)?;
            let ms = pause.as_millis();
            let work = format!("the same, with a message {ms} ms behind each deletion");
            lines.push(("behind", work));
            lines.extend(report.lines());
            json["behind"] = report.json();
            json["behind"]["pause_ms"] = json!(ms);
        }
        print(self.target.json, &environment.machine, json, &lines);
        Ok(())
    }

    /// Measures with a message `pause` behind each deletion, in place of the deleted one.
    fn measure(
        &self,
        crowd: &mut Crowd,
        server: &ServerUnderTest,
        pause: Duration,
    ) -> Result<Report, BenchError> {
        crowd.seen.forget();
        let (buckets, walks) = (server.buckets(MODERATION), server.sum_and_count(MODERATION));
        let sends = server.sends();
        let (before, begun) = (server.usage(), Instant::now());
        crowd.begin = begun;
        let deletions = Schedule::new(self.rate, self.measured);
        let messages = Schedule::new(self.beside_rate, self.measured);
        let (mut deleted, mut replaced, mut said) = (0, 0, 0);
        loop {
            let elapsed = begun.elapsed();
            while said < messages.due(elapsed) {
                crowd.speak_beside(said, messages.at(said))?;
                said += 1;
            }
            while deleted < deletions.due(elapsed) && crowd.delete(deletions.at(deleted))? {
                deleted += 1;
            }
            let due = elapsed
                .checked_sub(pause)
                .map_or(0, |since| deletions.due(since));
            while replaced < deleted.min(due) {
                crowd.speak()?;
                replaced += 1;
            }
            crowd.receive(messages.wait(said, elapsed, TURN))?;
            let is_over = deleted == deletions.total() && said == messages.total();
            if is_over && crowd.is_done(deleted) || elapsed > self.measured + DRAIN_MAX {
                break;
            }
        }
        let busy = server.busy_since(before);
        let viewed = (deleted * self.viewers as u64).max(1) as f64;
        let work = Work {
            walk: mean(walks, server.sum_and_count(MODERATION)),
            busy: busy.map(|busy| busy.as_secs_f64() / begun.elapsed().as_secs_f64()),
            sends: (sends.zip(server.sends()))
                .map(|(before, after)| after.since(before).sends / viewed),
        };
        let bound = below(&buckets, &server.buckets(MODERATION));
        Ok(crowd.report(deleted, bound, work))
    }

    fn lines(&self, report: &Report) -> Vec<(&'static str, String)> {
        let work = format!(
            "{} deletions a second among {} viewers, beside {} messages a second among {}",
            self.rate, self.viewers, self.beside_rate, self.beside
        );
        [("work", work)].into_iter().chain(report.lines()).collect()
    }

    fn json(&self, report: &Report) -> Value {
        let mut json = report.json();
        json["viewers"] = self.viewers.into();
        json["deletions_per_second"] = self.rate.into();
        json["beside"] = self.beside.into();
        json["beside_per_second"] = self.beside_rate.into();
        json
    }
}

impl Report {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let (bound, walk) = (self.server_p99, self.server.walk);
        let figures = [
            walk.map(|walk| format!("mean {:.1} ms", walk.as_secs_f64() * 1e3)),
            bound.map(|bound| format!("99 % at most {bound} s")),
        ];
        let figures: Vec<String> = figures.into_iter().flatten().collect();
        let sends = self.server.sends;
        vec![
            (
                "came",
                format!(
                    "{} of {} to all viewers, {} refused",
                    self.complete, self.sent, self.refused
                ),
            ),
            ("last viewer", self.last.line()),
            ("each viewer", self.each.line()),
            ("beside", self.beside.line()),
            (
                "its own figure",
                format!("uproar_moderation_seconds: {}", figures.join(", ")),
            ),
            (
                "sends",
                sends.map_or_else(String::new, |sends| {
                    format!("{sends:.2} a deletion and viewer, those beside included")
                }),
            ),
            ("busy", format!("{} of a core", percent(self.server.busy))),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "sent": self.sent,
            "complete": self.complete,
            "refused": self.refused,
            "last_viewer_us": self.last.json(),
            "each_viewer_us": self.each.json(),
            "beside_us": self.beside.json(),
            "moderation_seconds_p99_bound": self.server_p99,
            "moderation_seconds_mean": self.server.walk.map(|walk| walk.as_secs_f64()),
            "sends_per_deletion_and_viewer": self.server.sends,
            "server_busy": self.server.busy,
        })
    }
}

/// All viewers of both rooms.
struct Crowd {
    /// Those of the large room; the first one moderates.
    viewers: Vec<Caller>,
    /// Those of the other; the first one speaks.
    beside: Vec<Caller>,
    /// By index, those beside behind the others.
    poll: Poll,
    /// The zero of the times in requests.
    begin: Instant,
    text: String,
    seen: Seen,
}

/// What was read.
struct Seen {
    /// Messages that the moderator may delete, oldest first.
    said: Vec<String>,
    /// Of each deletion, by when it was due: to how many viewers it came, and its age at the last one, in microseconds.
    came: HashMap<u64, (usize, u64)>,
    each: Histogram<u64>,
    beside: Histogram<u64>,
    refused: u64,
}

impl Crowd {
    fn connect(
        flags: &Moderation,
        server: &ServerUnderTest,
        room: usize,
        progress: &Progress,
    ) -> Result<Self, BenchError> {
        let poll = Poll::new()?;
        let connect = |room, index: usize| -> Result<Caller, BenchError> {
            let stream = server.connect(room, index)?;
            poll.add(&stream, index)?;
            progress.step();
            Ok(Caller::new(stream, BUFFER_BYTES)?)
        };
        let viewers = (0..flags.viewers).map(|index| connect(room, index));
        let viewers = viewers.collect::<Result<_, _>>()?;
        let others = flags.viewers..flags.viewers + flags.beside;
        let beside = others.map(|index| connect(0, index));
        let beside = beside.collect::<Result<_, _>>()?;
        let mut crowd = Self {
            viewers,
            beside,
            poll,
            begin: Instant::now(),
            text: String::new(),
            seen: Seen::new(),
        };
        // What the first ones delete.
        for _ in 0..AHEAD {
            crowd.speak()?;
        }
        while crowd.seen.said.len() < AHEAD && crowd.begin.elapsed() < DRAIN_MAX {
            crowd.receive(TURN)?;
        }
        Ok(crowd)
    }

    /// The moderator says something that will be deleted.
    fn speak(&mut self) -> Result<(), BenchError> {
        let text = r#"{"Action":"SEND_MESSAGE","RequestId":"say","Content":"something rude"}"#;
        self.viewers[0].send(text)
    }

    fn speak_beside(&mut self, number: u64, due: u64) -> Result<(), BenchError> {
        self.text.clear();
        message::request(&mut self.text, number, due, CONTENT_BYTES);
        self.beside[0].send(&self.text)
    }

    /// The moderator deletes the oldest message; `false`: none has come back yet.
    fn delete(&mut self, due: u64) -> Result<bool, BenchError> {
        if self.seen.said.is_empty() {
            return Ok(false);
        }
        let id = self.seen.said.remove(0);
        self.text.clear();
        let _infallible = write!(
            self.text,
            r#"{{"Action":"DELETE_MESSAGE","RequestId":"live-{due:016x}","Id":"{id}","Reason":"rude"}}"#
        );
        self.viewers[0].send(&self.text)?;
        Ok(true)
    }

    /// Reads what came; waits for it at most for `wait`.
    fn receive(&mut self, wait: Duration) -> Result<(), BenchError> {
        let Self {
            viewers,
            beside,
            poll,
            begin,
            seen,
            ..
        } = self;
        let clock = || begin.elapsed().as_nanos() as u64;
        for index in poll.wait::<256>(wait)? {
            match viewers.get_mut(index) {
                Some(viewer) => viewer.receive(clock, |frame| {
                    seen.read(index, frame.now, frame.payload);
                })?,
                None => beside[index - viewers.len()].receive(clock, |frame| {
                    if let Some((_, due)) = message::numbers(frame.payload) {
                        let age = frame.now.saturating_sub(due) / 1000;
                        seen.beside.saturating_record(age);
                    }
                })?,
            }
        }
        Ok(())
    }

    /// Whether all deletions have come to all viewers, or were refused.
    fn is_done(&self, deleted: u64) -> bool {
        self.complete().count() as u64 + self.seen.refused >= deleted
    }

    /// The ages at the last viewers.
    fn complete(&self) -> impl Iterator<Item = u64> {
        let came = self.seen.came.values();
        came.filter(|(viewers, _)| *viewers == self.viewers.len())
            .map(|(_, age)| *age)
    }

    fn report(&self, sent: u64, server_p99: Option<f64>, server: Work) -> Report {
        let mut last = histogram();
        for age in self.complete() {
            last.saturating_record(age);
        }
        Report {
            sent,
            complete: last.len(),
            refused: self.seen.refused,
            last: Ages::of(&last),
            each: Ages::of(&self.seen.each),
            beside: Ages::of(&self.seen.beside),
            server_p99,
            server,
        }
    }
}

impl Seen {
    fn new() -> Self {
        Self {
            said: Vec::new(),
            came: HashMap::new(),
            each: histogram(),
            beside: histogram(),
            refused: 0,
        }
    }

    /// Begins anew, with the messages that may be deleted.
    fn forget(&mut self) {
        let said = std::mem::take(&mut self.said);
        *self = Self {
            said,
            ..Self::new()
        };
    }

    /// Reads a frame of the large room.
    fn read(&mut self, viewer: usize, now: u64, payload: &[u8]) {
        if payload.starts_with(ERROR) {
            self.refused += 1;
        } else if payload.starts_with(EVENT) {
            let Some(due) = message::spoken_at(payload) else {
                return;
            };
            let age = now.saturating_sub(due) / 1000;
            self.each.saturating_record(age);
            let (viewers, last) = self.came.entry(due).or_default();
            *viewers += 1;
            *last = age.max(*last);
        } else if viewer == 0
            && let Some(id) = payload.get(ID_START..ID_START + ID_BYTES)
        {
            self.said.push(String::from_utf8_lossy(id).into_owned());
        }
    }
}

/// The bound below which 99 % of the values lie that came between two readings of a histogram.
fn below(before: &[(f64, f64)], after: &[(f64, f64)]) -> Option<f64> {
    // Both have the same buckets in the same order.
    let counts: Vec<(f64, f64)> = after
        .iter()
        .enumerate()
        .map(|(at, (bound, count))| {
            let known = before.get(at);
            (*bound, count - known.map_or(0.0, |(_, count)| *count))
        })
        .collect();
    let (_, all) = counts.last().filter(|(_, all)| *all > 0.0)?;
    let enough = counts.iter().find(|(_, count)| *count >= 0.99 * all);
    enough.map(|(bound, _)| *bound)
}

/// The mean of the values that came between two readings of a histogram's sum, in seconds, and count.
fn mean(before: Option<(f64, f64)>, after: Option<(f64, f64)>) -> Option<Duration> {
    let ((sum_before, count_before), (sum, count)) = before.zip(after)?;
    let mean = (sum - sum_before) / (count - count_before);
    Duration::try_from_secs_f64(mean).ok()
}

/// The server's own figure.
const MODERATION: &str = "uproar_moderation_seconds";
/// How an ERROR frame and an EVENT frame begin, and where the id of a MESSAGE frame stands.
const ERROR: &[u8] = br#"{"Type":"ERROR""#;
const EVENT: &[u8] = br#"{"Type":"EVENT""#;
const ID_START: usize = br#"{"Type":"MESSAGE","Id":""#.len();
const ID_BYTES: usize = 12;
/// Messages that are there to be deleted.
const AHEAD: usize = 3;
/// Length of the messages beside, in bytes.
const CONTENT_BYTES: usize = 100;
/// Space for what one read takes: there are very many viewers.
const BUFFER_BYTES: usize = 16 * 1024;
/// Longest wait for bytes before the clock is read.
const TURN: Duration = Duration::from_millis(5);
/// Longest wait for deletions after the last one.
const DRAIN_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a deletion's age is that of its last viewer, other events are none, and the moderator learns ids to delete.
    #[test]
    fn frames_are_told_apart() {
        let mut seen = Seen::new();
        let deletion =
            br#"{"Type":"EVENT","Id":"AAAAAAAAAAAA","RequestId":"live-00000000000f4240"}"#;
        seen.read(0, 3_000_000, deletion);
        seen.read(1, 9_000_000, deletion);
        seen.read(2, 4_000_000, deletion);
        seen.read(
            0,
            1,
            br#"{"Type":"EVENT","Id":"AAAAAAAAAAAA","RequestId":""}"#,
        );
        seen.read(
            0,
            1,
            br#"{"Type":"ERROR","Id":"AAAAAAAAAAAA","RequestId":"live-00000000000f4240"}"#,
        );
        for viewer in 0..2 {
            seen.read(
                viewer,
                1,
                br#"{"Type":"MESSAGE","Id":"BBBBBBBBBBBB","RequestId":"say"}"#,
            );
        }
        assert_eq!(seen.came, HashMap::from([(1_000_000, (3, 8000))]));
        assert_eq!(
            (seen.refused, &*seen.said),
            (1, &["BBBBBBBBBBBB".to_owned()][..])
        );
        seen.forget();
        assert!(seen.came.is_empty() && seen.each.is_empty() && seen.refused == 0);
        assert_eq!(seen.said.len(), 1, "the next measurement deletes it");
    }

    #[test]
    fn a_mean_is_of_what_came_between() {
        let mean = |before, after| mean(Some(before), Some(after));
        let milliseconds = Duration::from_millis;
        assert_eq!(mean((1.0, 4.0), (1.5, 14.0)), Some(milliseconds(50)));
        assert_eq!(mean((1.0, 4.0), (1.0, 4.0)), None, "nothing came");
    }

    #[test]
    fn a_bound_is_found() {
        let before = [(0.01, 5.0), (0.1, 5.0), (f64::INFINITY, 5.0)];
        let after = [(0.01, 6.0), (0.1, 105.0), (f64::INFINITY, 105.0)];
        assert_eq!(below(&before, &after), Some(0.1));
        assert_eq!(below(&after, &after), None);
    }
}
