//! `uproar bench fanout`: deliveries a second, and their latency, at a rate or at the highest rate that
//! keeps a bound.

use std::time::Duration;

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
    /// Bound of the 99th percentile when finding it.
    pub p99_max: Duration,
    /// Length of one measurement.
    pub measured: Duration,
    /// Measurements, or searches.
    pub runs: usize,
    /// Receivers to look at in each room.
    pub samples: usize,
    /// Deliveries a second, all rooms, at which a search starts, if the answer is likely to be near:
    /// it then goes in smaller steps.
    pub near: Option<f64>,
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
}

/// Connects everybody and measures; `tell` hears each row, `connected` each connection.
pub fn run(
    host: &Host,
    plan: &Plan,
    connected: impl FnMut(),
    mut tell: impl FnMut(usize, &Row),
) -> Result<Vec<Row>, BenchError> {
    let mut load = Load::connect(host, plan.receivers, plan.samples, connected)?;
    let mut best = Vec::new();
    for run in 0..plan.runs {
        let found = match plan.rate {
            Some(rate) => measure(host, plan, &mut load, rate)?,
            None => find(host, plan, &mut load, |row| tell(run, row))?,
        };
        tell(run, &found);
        best.push(found);
    }
    Ok(best)
}

/// Raises the rate until the bound breaks, then halves the distance.
fn find(
    host: &Host,
    plan: &Plan,
    load: &mut Load,
    mut tell: impl FnMut(&Row),
) -> Result<Row, BenchError> {
    let receivers = plan.receivers * host.room_count();
    let (first, mut step) = match plan.near {
        Some(deliveries) => (deliveries, STEP_NEAR),
        None => (FIRST_DELIVERIES, STEP_FAR),
    };
    let mut rate = (first / receivers as f64).max(1.0);
    let (mut kept, mut broken): (Option<Row>, Option<f64>) = (None, None);
    for _ in 0..STEPS_MAX {
        let row = measure(host, plan, load, rate)?;
        tell(&row);
        if row.kept {
            kept = Some(row);
        } else {
            broken = Some(rate);
        }
        let low = kept.as_ref().map(|row| row.rate);
        rate = match (low, broken) {
            (Some(low), Some(high)) if high / low < PRECISION => break,
            (Some(low), Some(high)) => (low * high).sqrt(),
            (Some(low), None) => low * step,
            (None, _) => rate / (step * step),
        };
        // Who started near and is not there yet was far away.
        step = (step * STEP_NEAR).min(STEP_FAR);
    }
    kept.ok_or(BenchError::Bound)
}

fn measure(host: &Host, plan: &Plan, load: &mut Load, rate: f64) -> Result<Row, BenchError> {
    let (before, sends_before) = (host.usage(), host.sends());
    let outcome = load.run(Phase {
        rate,
        content_bytes: plan.content_bytes,
        warmup: plan.measured / 4,
        measured: plan.measured,
    })?;
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

fn row(plan: &Plan, rate: f64, outcome: &Outcome) -> Row {
    let ages = Ages::of(&outcome.ages);
    let in_time = Duration::from_micros(ages.0[1]) <= plan.p99_max;
    let complete = outcome.wrong == 0 && outcome.refused == 0;
    Row {
        rate,
        deliveries_per_second: outcome.deliveries as f64 / outcome.elapsed.as_secs_f64(),
        ages,
        wrong: outcome.wrong,
        refused: outcome.refused,
        frame_bytes: outcome.frame_bytes,
        cpu_nanos: None,
        messages_per_send: None,
        kept: in_time && complete,
    }
}

impl Row {
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
/// A search ends when the bound lies between two rates this close.
const PRECISION: f64 = 1.06;
/// From one rate to the next before the bound broke; squared on the way down.
const STEP_FAR: f64 = 2.0;
/// The same where the answer is likely to be near.
const STEP_NEAR: f64 = 1.25;
const STEPS_MAX: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn shake_hands(stream: &mut TcpStream) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.extend(byte);
        }
        assert!(!String::from_utf8_lossy(&head).contains("Sec-WebSocket-Protocol"));
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
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

    /// Sends what the first of `count` connections says to all, without every tenth message, until the
    /// first is gone.
    fn broadcast(listener: &TcpListener, count: usize) -> io::Result<()> {
        let mut all = Vec::new();
        for _ in 0..count {
            let (mut stream, _) = listener.accept()?;
            shake_hands(&mut stream)?;
            all.push(stream);
        }
        for number in 1.. {
            let Ok(payload) = payload(&mut all[0]) else {
                break;
            };
            let len = u16::try_from(payload.len()).expect("short");
            let mut frame = vec![0x81, 126];
            frame.extend(len.to_be_bytes());
            frame.extend(payload);
            for stream in &mut all {
                if number % 10 != 0 {
                    stream.write_all(&frame)?;
                }
            }
        }
        Ok(())
    }

    /// Goal: a plain server is measured by the same tool, and what it drops shows. Method: a broadcast
    /// server of a few lines that drops every tenth message; 25 messages to 4 receivers, of which the
    /// speaker and 2 more are looked at: 2 lost at each of these.
    #[test]
    fn a_plain_server_is_measured() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let host = Host::plain(listener.local_addr().expect("bound"), None);
        let server = std::thread::spawn(move || broadcast(&listener, 4));
        let plan = Plan {
            receivers: 4,
            content_bytes: 300,
            rate: Some(100.0),
            p99_max: Duration::from_mins(1),
            measured: Duration::from_millis(200),
            runs: 1,
            samples: 2,
            near: None,
        };
        let (mut connected, mut told) = (0, 0);
        let rows = run(&host, &plan, || connected += 1, |_, _| told += 1).expect("a server");
        server.join().expect("no panic").expect("loopback");
        assert_eq!((connected, told, rows.len()), (4, 1, 1));
        let row = &rows[0];
        assert_eq!((row.wrong, row.refused, row.kept), (6, 0, false));
        assert!(
            (row.frame_bytes - 304.0).abs() < 1e-9,
            "{}",
            row.frame_bytes
        );
        assert!(row.ages.0[3] > 0);
        assert_eq!(row.cpu_nanos, None);
    }
}
