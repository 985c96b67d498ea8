//! `uproar bench fanout`: deliveries a second, and their latency, at a rate or at the highest rate that
//! keeps a bound.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::host::Host;
use super::load::{Load, Outcome, Phase};
use super::{Ages, BenchError};

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Viewers in each room.
    pub receivers: usize,
    /// Bytes of a message's content.
    pub content_bytes: usize,
    /// Messages a second in each room; `None`: find the highest.
    pub rate: Option<f64>,
    /// Deliveries a second over all rooms near which the highest rate is looked for; `None`: anywhere.
    pub near: Option<f64>,
    /// Bound of the 99th percentile when finding it.
    pub p99_max: Duration,
    /// Length of one measurement.
    pub measured: Duration,
    /// Measurements, or searches.
    pub runs: usize,
    /// Receivers to look at in each room.
    pub samples: usize,
}

impl Plan {
    /// In a search a hundredth of the bound of latency: a speaker for whom this tool makes a system call a
    /// message, as it would with hundreds of them, is what ends the search and not the server.
    fn late_max(&self) -> Duration {
        match self.rate {
            None => (self.p99_max / 100).min(LATE_MAX),
            Some(_) => Duration::ZERO,
        }
    }
}

/// One measurement.
#[derive(Debug, Clone)]
pub struct Row {
    /// Messages a second in each room.
    pub rate: f64,
    /// Deliveries a second, all rooms.
    pub deliveries_per_second: f64,
    /// From when a message was meant to be sent to its receipt.
    pub ages: Ages,
    /// Lost or repeated.
    pub wrong: u64,
    /// Refused by the server.
    pub refused: u64,
    /// Bytes on the wire of one delivery.
    pub frame_bytes: f64,
    /// Processor nanoseconds of the server for each delivery, user and system.
    pub cpu_nanos: Option<[f64; 2]>,
    /// Messages that one of the server's sends carried, mean; `None` if its metrics are not known.
    pub messages_per_send: Option<f64>,
    /// Whether bound and completeness held.
    pub kept: bool,
    /// Whether the server ended a connection; then nothing else is known.
    pub ended: bool,
}

/// Connects everybody and measures; `tell` hears each row, `connected` each connection.
pub fn run(
    host: &Host,
    plan: &Plan,
    connected: impl FnMut(),
    mut tell: impl FnMut(usize, &Row),
) -> Result<Vec<Row>, BenchError> {
    let mut load = Some(connect(host, plan, connected)?);
    let mut best = Vec::new();
    for run in 0..plan.runs {
        let found = match plan.rate {
            Some(rate) => measure(host, plan, &mut load, rate, DRAIN_MAX)?,
            None => find(host, plan, &mut load, |row| tell(run, row))?,
        };
        tell(run, &found);
        best.push(found);
    }
    Ok(best)
}

fn connect(host: &Host, plan: &Plan, connected: impl FnMut()) -> Result<Load, BenchError> {
    Load::connect(host, plan.receivers, plan.samples, connected)
}

/// Raises or lowers the rate, by growing strides, until the bound lies between two; then halves the
/// distance. A rate that misses the bound narrowly is tried once more.
fn find(
    host: &Host,
    plan: &Plan,
    load: &mut Option<Load>,
    mut tell: impl FnMut(&Row),
) -> Result<Row, BenchError> {
    let receivers = (plan.receivers * host.room_count()) as f64;
    let (first, mut stride) = plan
        .near
        .map_or((FIRST_DELIVERIES, STRIDE_MAX), |near| (near, STRIDE_NEAR));
    let mut rate = (first / receivers).max(RATE_MIN);
    let (mut kept, mut broken): (Option<Row>, Option<f64>) = (None, None);
    let drain_max = plan.p99_max + DRAIN_MORE;
    for _ in 0..STEPS_MAX {
        let mut step = || {
            let row = match measure(host, plan, load, rate, drain_max) {
                Err(BenchError::Lost(_)) => Row::ended(rate),
                outcome => outcome?,
            };
            tell(&row);
            Ok::<_, BenchError>(row)
        };
        let mut row = step()?;
        if row.is_near_miss(plan.p99_max) {
            row = step()?;
        }
        if row.kept {
            kept = Some(row);
        } else {
            broken = Some(rate);
        }
        let low = kept.as_ref().map(|row| row.rate);
        rate = match (low, broken) {
            (Some(low), Some(high)) if high / low < PRECISION => break,
            (Some(low), Some(high)) => (low * high).sqrt(),
            (Some(low), None) => low * stride,
            (None, _) if rate <= RATE_MIN => break,
            (None, _) => (rate / (stride * stride)).max(RATE_MIN),
        };
        if kept.is_none() || broken.is_none() {
            stride = (stride * stride).min(STRIDE_MAX);
        }
    }
    kept.ok_or(BenchError::Bound)
}

/// One step. What did not arrive is not left to the next step: that one connects anew.
fn measure(
    host: &Host,
    plan: &Plan,
    load: &mut Option<Load>,
    rate: f64,
    drain_max: Duration,
) -> Result<Row, BenchError> {
    // Taken out, so that an error leaves nothing behind.
    let mut all = match load.take() {
        Some(all) => all,
        None => connect_again(host, plan)?,
    };
    let (before, sends_before) = (host.usage(), host.sends());
    let outcome = all.run(Phase {
        rate,
        late_max: plan.late_max(),
        content_bytes: plan.content_bytes,
        warmup: plan.measured / 4,
        measured: plan.measured,
        drain_max,
    })?;
    *load = outcome.is_complete().then_some(all);
    let cpu_nanos = before.zip(host.usage()).map(|(before, after)| {
        let each = |time: Duration| time.as_nanos() as f64 / outcome.deliveries.max(1) as f64;
        after.since(&before).map(each)
    });
    let messages_per_send = sends_before
        .zip(host.sends())
        .map(|(before, after)| (after.0 - before.0) / (after.1 - before.1).max(1.0));
    Ok(Row {
        cpu_nanos,
        messages_per_send,
        ..row(plan, rate, &outcome)
    })
}

/// After an overload: the server may be busy with what nobody wants any more, and with saying goodbye.
fn connect_again(host: &Host, plan: &Plan) -> Result<Load, BenchError> {
    let begun = Instant::now();
    loop {
        std::thread::sleep(RECOVERY);
        match connect(host, plan, || ()) {
            Err(BenchError::Connect { .. }) if begun.elapsed() < RECOVERY_MAX => {}
            outcome => return outcome,
        }
    }
}

fn row(plan: &Plan, rate: f64, outcome: &Outcome) -> Row {
    let ages = Ages::of(&outcome.ages);
    let in_time = Duration::from_micros(ages.0[1]) <= plan.p99_max;
    Row {
        rate,
        deliveries_per_second: outcome.deliveries as f64 / outcome.elapsed.as_secs_f64(),
        ages,
        wrong: outcome.wrong,
        refused: outcome.refused,
        frame_bytes: outcome.frame_bytes,
        cpu_nanos: None,
        messages_per_send: None,
        kept: in_time && outcome.is_complete(),
        ended: false,
    }
}

impl Row {
    /// Whether nothing but the latency broke, and not by far: then it may be a hiccup of the machine, which
    /// would cap a whole search.
    fn is_near_miss(&self, p99_max: Duration) -> bool {
        let complete = !self.ended && self.wrong == 0 && self.refused == 0;
        complete && !self.kept && Duration::from_micros(self.ages.0[1]) <= p99_max * 2
    }

    fn ended(rate: f64) -> Self {
        Self {
            rate,
            deliveries_per_second: 0.0,
            ages: Ages([0; 4]),
            wrong: 0,
            refused: 0,
            frame_bytes: 0.0,
            cpu_nanos: None,
            messages_per_send: None,
            kept: false,
            ended: true,
        }
    }

    /// For scripts.
    pub fn json(&self) -> Value {
        json!({
            "messages_per_second_per_room": self.rate,
            "deliveries_per_second": self.deliveries_per_second.round(),
            "latency_us": self.ages.json(),
            "lost_or_repeated": self.wrong,
            "refused": self.refused,
            "frame_bytes": self.frame_bytes,
            "messages_per_send": self.messages_per_send,
            "server_cpu_ns_per_delivery": self.cpu_nanos.map(|[user, system]| json!({"user": user, "system": system})),
        })
    }
}

/// Where a search starts, in deliveries a second over all rooms.
const FIRST_DELIVERIES: f64 = 250_000.0;
/// A message is sent that late at most.
const LATE_MAX: Duration = Duration::from_millis(10);
/// A search ends when the bound lies between two rates this close.
const PRECISION: f64 = 1.06;
const STEPS_MAX: usize = 24;
/// First stride of a search that has an idea; each next one is its square.
const STRIDE_NEAR: f64 = 1.15;
const STRIDE_MAX: f64 = 2.0;
/// Messages a second in a room, below which nothing is looked for.
const RATE_MIN: f64 = 1.0;
/// For what is under way when the last message was sent, at a given rate.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// The same in a search, beyond the bound of latency.
const DRAIN_MORE: Duration = Duration::from_secs(2);
/// Between the end of an overload and new connections.
const RECOVERY: Duration = Duration::from_millis(500);
/// For a server to take connections again.
const RECOVERY_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use std::collections::BTreeMap;
    use std::io::{self, Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// The path that was asked for.
    fn shake_hands(stream: &mut TcpStream) -> io::Result<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.extend(byte);
        }
        let head = String::from_utf8_lossy(&head);
        assert!(!head.contains("Sec-WebSocket-Protocol"));
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")?;
        Ok(head.split(' ').nth(1).expect("a path").to_owned())
    }

    /// The payload of the next masked frame, of 126 bytes or more.
    fn payload(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
        let mut head = [0; 8];
        stream.read_exact(&mut head)?;
        assert_eq!((head[0], head[1]), (0x81, 0xFE));
        let mut payload = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
        stream.read_exact(&mut payload)?;
        let mask = head[4..].iter().cycle();
        payload
            .iter_mut()
            .zip(mask)
            .for_each(|(byte, mask)| *byte ^= mask);
        Ok(payload)
    }

    /// The members of each room, in order of coming, once there are `count` altogether.
    fn rooms(listener: &TcpListener, count: usize) -> io::Result<Vec<Vec<TcpStream>>> {
        let mut rooms = BTreeMap::<_, Vec<_>>::new();
        for _ in 0..count {
            let (mut stream, _) = listener.accept()?;
            let path = shake_hands(&mut stream)?;
            rooms.entry(path).or_default().push(stream);
        }
        Ok(rooms.into_values().collect())
    }

    /// Sends what a room's first connection says to all, without each `dropped`th message, until the
    /// first is gone.
    fn broadcast(mut all: Vec<TcpStream>, dropped: u64) -> io::Result<()> {
        for number in 1.. {
            let Ok(payload) = payload(&mut all[0]) else {
                break;
            };
            let len = u16::try_from(payload.len()).expect("short");
            let mut frame = vec![0x81, 126];
            frame.extend(len.to_be_bytes());
            frame.extend(payload);
            for stream in &mut all {
                if number % dropped != 0 {
                    stream.write_all(&frame)?;
                }
            }
        }
        Ok(())
    }

    const PLAN: Plan = Plan {
        receivers: 4,
        content_bytes: 300,
        rate: None,
        near: Some(400.0),
        p99_max: Duration::from_mins(1),
        measured: Duration::from_millis(200),
        runs: 1,
        samples: 2,
    };

    fn host(listener: &TcpListener, rooms: usize) -> Host {
        let server = listener.local_addr().expect("bound");
        Host::plain(server, Dialect::WebSocket, rooms, None)
    }

    /// Goal: a plain server is measured by the same tool, room by room, and what it drops shows. Method:
    /// a server of a few lines that drops every tenth message; 25 messages to 4 receivers in each of two
    /// rooms, of which the speaker and 2 more are looked at: 2 lost at each of these.
    #[test]
    fn a_plain_server_is_measured() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let host = host(&listener, 2);
        let server = std::thread::spawn(move || {
            let rooms = rooms(&listener, 8).expect("loopback");
            assert_eq!(rooms.len(), 2);
            let each = |room| std::thread::spawn(|| broadcast(room, 10));
            rooms.into_iter().map(each).collect::<Vec<_>>()
        });
        let plan = Plan {
            rate: Some(100.0),
            ..PLAN
        };
        let (mut connected, mut told) = (0, 0);
        let rows = run(&host, &plan, || connected += 1, |_, _| told += 1).expect("a server");
        for room in server.join().expect("no panic") {
            room.join().expect("no panic").expect("loopback");
        }
        assert_eq!((connected, told, rows.len()), (8, 1, 1));
        let row = &rows[0];
        assert_eq!((row.wrong, row.refused, row.kept), (12, 0, false));
        assert!(
            (row.frame_bytes - 304.0).abs() < 1e-9,
            "{}",
            row.frame_bytes
        );
        assert!(row.ages.0[3] > 0);
        assert_eq!(row.cpu_nanos, None);
    }

    /// Goal: in a search what becomes due within a hundredth of the bound goes in one write, and is as much
    /// older; at a given rate nothing is late. Method: 100 messages a second that may be late by 100 ms:
    /// the second one, meant 10 ms after the first, is written with the third at the earliest.
    #[test]
    fn lateness_shows_in_the_ages() {
        let late_max = |rate, p99_max| {
            Plan {
                rate,
                p99_max,
                ..PLAN
            }
            .late_max()
        };
        assert_eq!(
            late_max(None, Duration::from_millis(400)),
            Duration::from_millis(4)
        );
        assert_eq!(late_max(None, Duration::from_mins(1)), LATE_MAX);
        assert_eq!(
            late_max(Some(36.0), Duration::from_millis(400)),
            Duration::ZERO
        );

        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let host = host(&listener, 1);
        let server = std::thread::spawn(move || {
            let mut rooms = rooms(&listener, PLAN.receivers).expect("loopback");
            broadcast(rooms.remove(0), u64::MAX).expect("loopback");
        });
        let mut load = connect(&host, &PLAN, || ()).expect("a server");
        let outcome = load.run(Phase {
            rate: 100.0,
            late_max: Duration::from_millis(100),
            content_bytes: PLAN.content_bytes,
            warmup: Duration::ZERO,
            measured: Duration::from_millis(200),
            drain_max: DRAIN_MAX,
        });
        let outcome = outcome.expect("a server");
        drop(load);
        server.join().expect("no panic");
        assert_eq!((outcome.deliveries, outcome.wrong), (20 * 4, 0));
        assert!(outcome.ages.max() >= 90_000, "{}", outcome.ages.max());
    }

    /// Goal: a server that ends connections at one rate, or loses something, is measured at others, on
    /// new connections. Method: one that hangs up on its first speaker, drops every fifth message of its
    /// second, and is in order from then on.
    #[test]
    fn a_search_goes_on_after_an_overload() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let host = host(&listener, 1);
        let server = std::thread::spawn(move || {
            let mut loads = 0;
            while let Ok(mut rooms) = rooms(&listener, PLAN.receivers) {
                let mut all = rooms.remove(0);
                if loads == 0 {
                    payload(&mut all[0]).expect("a message");
                } else {
                    broadcast(all, if loads == 1 { 5 } else { u64::MAX }).expect("loopback");
                }
                loads += 1;
            }
            loads
        });
        let mut told = Vec::new();
        let rows = run(&host, &PLAN, || (), |_, row| told.push(row.clone())).expect("a rate");
        // One that says nothing: the end.
        drop(TcpStream::connect(address).expect("listening"));
        assert_eq!(server.join().expect("no panic"), 3);
        assert!(told[0].ended && !told[0].kept, "{:?}", told[0]);
        assert!(told[1].wrong > 0 && !told[1].kept, "{:?}", told[1]);
        assert!(told[2..].iter().all(|row| row.kept), "{told:?}");
        let (found, broken) = (rows[0].rate, told[1].rate);
        assert!(broken / PRECISION < found && found < broken, "{found}");
    }
}
