//! `uproar bench fanout`: deliveries per second and their latency, at a rate or at the highest rate
//! within a bound.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use rustls::CipherSuite;
use serde_json::{Value, json};

use crate::harness::error::{BenchError, Failure};
use crate::harness::flags::{CONTENT_BYTES_MAX, count};
use crate::harness::load::sampled;
use crate::harness::plain_sends::{self, PlainSends, Source, Work};
use crate::harness::plot;
use crate::harness::program::Environment;
use crate::harness::report::Progress;
use crate::harness::sealed_sends::{SealedPoint, SealedWork};
use crate::harness::search::{Row, Search, Verdict};
use crate::harness::server::ServerUnderTest;
use crate::harness::target::{Peer, Target};
use crate::harness::tls::client::{TlsClient, suite_name};

/// Flags of `uproar bench fanout`.
#[derive(Debug, Args)]
pub(crate) struct Fanout {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    peer: Peer,
    /// Rooms of the server that is started, or of a peer
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = count(1..))]
    rooms: usize,
    #[command(flatten)]
    search: Search,
    /// Viewers offer permessage-deflate, and a server that is started accepts it
    #[arg(long, conflicts_with_all = ["plain", "nats"])]
    compression: bool,
    /// Also measure the kernel's line at the same number of messages per send, and print the
    /// server's share of it
    #[arg(long, conflicts_with = "running")]
    floor: bool,
    /// Draw latency against deliveries of all rows
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// The result of the measurement.
struct Report {
    rooms: usize,
    /// What moves the server's bytes; `None` if it does not say.
    io: Option<String>,
    /// The suite that was agreed on; `None` without TLS.
    suite: Option<CipherSuite>,
    /// The results of the runs, ascending by deliveries per second. Never empty.
    runs: Vec<Row>,
    floor: Option<FloorReport>,
}

/// The kernel's line beside the median run, over TLS that of a loop that also seals.
struct FloorReport {
    point: plain_sends::LinePoint,
    /// The TLS line with its suite; `None` without TLS.
    sealed: Option<(SealedPoint, CipherSuite)>,
    /// Sockets of the loop: fewer than the server's, if descriptors are short.
    receivers: usize,
    /// The server's deliveries as a share of the kernel's.
    share: f64,
}

impl Fanout {
    pub(crate) fn run(&self, environment: &Environment<'_>) -> Result<(), Failure> {
        let size = self.search.content_bytes;
        if !self.peer.is_given() && size as u64 > CONTENT_BYTES_MAX {
            let text = format!("--size {size}: a message has at most {CONTENT_BYTES_MAX}");
            return Err(Failure::Usage(text));
        }
        let settings: &[_] = if self.compression {
            &[("UPROAR_MESSAGING__COMPRESSION", "true")]
        } else {
            &[]
        };
        let (peer, program) = (&self.peer, environment.program);
        let mut server = peer.server(&self.target, program, self.rooms, settings)?;
        server.compression = self.compression;
        let rooms = server.room_count();
        if !self.target.json {
            println!("machine   {}", environment.machine);
            println!(
                "work      {rooms} room(s) x {} receivers, content of {size} bytes, p99 at most {} ms",
                self.search.receivers,
                self.search.p99_max.as_millis()
            );
        }
        if server.tls.is_some() && !self.target.json {
            println!("{}", self.who_opens());
        }
        let (mut runs, all) = self.measure(&server)?;
        let suite = server.tls.as_ref().and_then(TlsClient::suite);
        runs.sort_by(|a, b| a.deliveries_per_second.total_cmp(&b.deliveries_per_second));
        let floor = self.floor.then(|| self.floor_beside(median(&runs), suite));
        let report = Report {
            rooms,
            io: server.io(),
            suite,
            floor: floor.transpose()?,
            runs,
        };
        if let Some(path) = &self.plot {
            fs::write(path, self.picture(&report, &all))?;
        }
        if self.target.json {
            println!("{}", self.json(&report, &environment.machine));
        } else {
            report.print();
        }
        // A server that refuses messages shows its own rate limits, not its capacity.
        match all.iter().map(|row| row.refused).sum() {
            0 => Ok(()),
            refused => Err(refused_by_rates(refused).into()),
        }
    }

    /// Returns the results of the runs, and every row on the way to them. Prints each row for
    /// people.
    fn measure(&self, server: &ServerUnderTest) -> Result<(Vec<Row>, Vec<Row>), BenchError> {
        let progress = Progress::new(server.room_count() * self.search.receivers);
        let mut headed = self.target.json;
        let mut all = Vec::new();
        let tell = |run, row: &Row| {
            if row.verdict != Verdict::Ended {
                all.push(row.clone());
            }
            if !std::mem::replace(&mut headed, true) {
                println!("{HEADING}");
            }
            if !self.target.json {
                println!("{}", line(run, row));
            }
        };
        let runs = self.search.run(server, || progress.step(), tell)?;
        Ok((runs, all))
    }

    /// Measures the kernel's line at the messages per send of `row`; the TLS line with `suite`.
    fn floor_beside(
        &self,
        row: &Row,
        suite: Option<CipherSuite>,
    ) -> Result<FloorReport, BenchError> {
        let mut pairs = PlainSends::connect(self.search.receivers * self.rooms)?;
        let messages = row.messages_per_send.unwrap_or_default();
        if let Some(suite) = suite {
            let work = SealedWork {
                frame_bytes: row.frame_bytes,
                suite,
                measured: self.search.measured,
            };
            let sealed = SealedPoint::measure(&mut pairs, work, messages)?;
            return Ok(FloorReport {
                point: sealed.line,
                sealed: Some((sealed, suite)),
                receivers: pairs.receivers(),
                share: row.deliveries_per_second.round() / sealed.line.deliveries_per_second,
            });
        }
        let work = Work {
            frame_bytes: row.frame_bytes,
            source: Source::Buffer,
            measured: self.search.measured,
        };
        let point = pairs.measure(&work, messages)?;
        Ok(FloorReport {
            point,
            sealed: None,
            receivers: pairs.receivers(),
            share: row.deliveries_per_second.round() / point.deliveries_per_second,
        })
    }

    /// Returns how many receivers of each room open their records.
    fn opened(&self) -> usize {
        sampled(self.search.receivers, self.search.samples).len()
    }

    fn who_opens(&self) -> String {
        let opened = self.opened();
        format!(
            "tls       {opened} receivers of each room open their records, for content and latency; {} leave them sealed \
             and count their content",
            self.search.receivers - opened
        )
    }

    fn picture(&self, report: &Report, rows: &[Row]) -> String {
        let title = format!(
            "{} room(s) x {} receivers, {:.0} bytes a frame",
            report.rooms,
            self.search.receivers,
            median(&report.runs).frame_bytes
        );
        let curves = [("p50", 0), ("p99", 1)].map(|(name, quantile)| plot::Curve {
            class: name,
            name,
            points: rows
                .iter()
                .map(|row| plot::CurvePoint {
                    deliveries: row.deliveries_per_second,
                    ms: row.ages.ms()[quantile],
                    kept: row.verdict == Verdict::Kept,
                })
                .collect(),
        });
        plot::latency(&title, curves, self.search.p99_max)
    }

    fn json(&self, report: &Report, machine: &str) -> Value {
        let mut result = median(&report.runs).json();
        let more = json!({
            "machine": machine,
            "rooms": report.rooms,
            "io": report.io,
            "receivers_per_room": self.search.receivers,
            "content_bytes": self.search.content_bytes,
            "compression": self.compression,
            "p99_max_ms": self.search.p99_max.as_millis() as u64,
            "runs": report.runs.len(),
            "lowest": report.lowest().round(),
            "highest": report.highest().round(),
        });
        if let (Value::Object(result), Value::Object(more)) = (&mut result, more) {
            result.extend(more);
        }
        if let Some(suite) = report.suite {
            let opened = self.opened();
            result["tls"] = json!({
                "suite": suite_name(suite),
                "opened_per_room": opened,
                "sealed_per_room": self.search.receivers - opened,
                "content_bytes_per_record": median(&report.runs).record_bytes,
            });
        }
        if let Some(floor) = &report.floor {
            let sealed = floor.sealed.as_ref();
            let line = sealed.map(|(point, suite)| point.json(*suite));
            let mut line = line.unwrap_or_else(|| floor.point.json());
            line["receivers"] = floor.receivers.into();
            line["share"] = floor.share.into();
            result["floor"] = line;
        }
        result
    }
}

impl Report {
    fn lowest(&self) -> f64 {
        self.runs[0].deliveries_per_second
    }

    fn highest(&self) -> f64 {
        self.runs[self.runs.len() - 1].deliveries_per_second
    }

    fn print(&self) {
        let median = median(&self.runs);
        println!(
            "result    {:.2} M deliveries/s (median of {} runs; {:.2} to {:.2}), {:.0} bytes {} each",
            median.deliveries_per_second / 1e6,
            self.runs.len(),
            self.lowest() / 1e6,
            self.highest() / 1e6,
            median.frame_bytes,
            if self.suite.is_some() {
                "before sealing"
            } else {
                "on the wire"
            },
        );
        if let Some(io) = &self.io {
            println!("io        {io}");
        }
        if let (Some(suite), Some(bytes)) = (self.suite, median.record_bytes) {
            println!(
                "records   {bytes:.0} bytes of content each, mean, by {}",
                suite_name(suite)
            );
        }
        if let Some(floor) = &self.floor {
            if let Some((sealed, _)) = &floor.sealed {
                println!("{}", floor.tls_line(sealed));
                return;
            }
            println!(
                "kernel    {:.2} M deliveries/s by a loop of plain sends of {:.1} messages to {} sockets: this is {:.0} % of it",
                floor.point.deliveries_per_second / 1e6,
                floor.point.messages_per_send,
                floor.receivers,
                floor.share * 100.0
            );
        }
    }
}

impl FloorReport {
    fn tls_line(&self, sealed: &SealedPoint) -> String {
        format!(
            "tls line  {:.2} M deliveries/s by a loop that seals and sends {:.1} messages to {} sockets: this is {:.0} % of it; \
             sealing alone {:.2} M/s",
            self.point.deliveries_per_second / 1e6,
            self.point.messages_per_send,
            self.receivers,
            self.share * 100.0,
            sealed.sealed_per_second() / 1e6,
        )
    }
}

/// Returns the median of rows in order of deliveries per second.
fn median(rows: &[Row]) -> &Row {
    &rows[rows.len() / 2]
}

fn refused_by_rates(refused: u64) -> BenchError {
    BenchError::Server(format!(
        "it refused {refused} messages, which count as lost: it holds rooms and clients to lower rates than were \
         tried. Start it with `--quotas open`, or give a lower --rate"
    ))
}

const HEADING: &str = "run  messages/s  deliveries/s  p50 ms   p99 ms  p99.9 ms   max ms   lost  cpu ns (user+system)";

fn line(run: usize, row: &Row) -> String {
    let [p50, p99, p999, max] = row.ages.ms();
    let cpu = row.cpu_nanos.map_or_else(String::new, |[user, system]| {
        format!("{user:.0}+{system:.0}")
    });
    let verdict = match row.verdict {
        Verdict::Kept => "",
        Verdict::Over => "  over",
        Verdict::Ended => "  over: the server ended a connection",
    };
    format!(
        "{:3}  {:10.0}  {:12.0}  {p50:6.2}  {p99:7.2}  {p999:8.2}  {max:7.2}  {:5}  {cpu}{verdict}",
        run + 1,
        row.rate,
        row.deliveries_per_second,
        row.wrong + row.refused,
    )
}
