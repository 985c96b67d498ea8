//! Deliveries per second and their latency: at a rate, or at the highest rate within a bound of
//! latency.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::ages::Ages;
use super::error::BenchError;
use super::flags::{count, millis, positive, seconds};
use super::load::{Load, Outcome, Phase};
use super::message::CONTENT_BYTES_MIN;
use super::report::user_and_system;
use super::server::ServerUnderTest;

/// The work of a search, or of measurements at a given rate.
#[derive(Debug, Clone, Args)]
pub(crate) struct Search {
    /// Viewers in each room
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = count(1..))]
    pub(crate) receivers: usize,
    /// Length of each message's content, in bytes
    #[arg(long = "size", default_value_t = 200, value_name = "BYTES", value_parser = count(CONTENT_BYTES_MIN as u64..=4096))]
    pub(crate) content_bytes: usize,
    /// Messages per second in each room [default: find the highest rate]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) rate: Option<f64>,
    /// Deliveries per second at which the search for the highest rate begins: it takes fewer steps
    /// if the result is near
    #[arg(long, value_name = "N", conflicts_with = "rate", value_parser = positive)]
    pub(crate) near: Option<f64>,
    /// Bound of the 99th percentile of latency, in milliseconds
    #[arg(long = "p99-ms", default_value = "100", value_name = "MS", value_parser = millis(..))]
    pub(crate) p99_max: Duration,
    /// Length of one measurement, in seconds
    #[arg(long = "seconds", default_value = "4", value_name = "SECONDS", value_parser = seconds())]
    pub(crate) measured: Duration,
    /// Measurements, or searches; the result is the median
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = count(1..=99))]
    pub(crate) runs: usize,
    /// Receivers of each room whose messages are checked one by one; of the others bytes are
    /// counted
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = count(1..))]
    pub(crate) samples: usize,
}

/// One measurement at one rate.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Messages per second in each room.
    pub(crate) rate: f64,
    /// Deliveries per second, all rooms.
    pub(crate) deliveries_per_second: f64,
    /// From when a message was due to be sent to its receipt.
    pub(crate) ages: Ages,
    /// Messages lost or repeated.
    pub(crate) wrong: u64,
    /// Messages that the server refused.
    pub(crate) refused: u64,
    /// Bytes of one delivery on the wire, over TLS before it is sealed; mean.
    pub(crate) frame_bytes: f64,
    /// Content of a TLS record at receivers that leave them sealed, mean; `None` if there are none.
    pub(crate) record_bytes: Option<f64>,
    /// Processor nanoseconds of the server for each delivery, user and system; `None` if its
    /// process is not known.
    pub(crate) cpu_nanos: Option<[f64; 2]>,
    /// Messages in one send of the server, mean; `None` if its metrics are not known.
    pub(crate) messages_per_send: Option<f64>,
    pub(crate) verdict: Verdict,
}

/// How a measurement went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everything arrived, once, within the bound.
    Kept,
    /// Something was lost, repeated or refused, or came too late.
    Over,
    /// The server ended a connection. Nothing else is known.
    Ended,
}

impl Search {
    /// Connects all viewers and measures. Calls `connected` after each connection, and `tell` after
    /// each measurement with the number of its run.
    pub(crate) fn run(
        &self,
        server: &ServerUnderTest,
        connected: impl FnMut(),
        mut tell: impl FnMut(usize, &Row),
    ) -> Result<Vec<Row>, BenchError> {
        let mut trials = Trials {
            server,
            search: self,
            load: Some(self.connect(server, connected)?),
        };
        let mut results = Vec::new();
        for run in 0..self.runs {
            let found = match self.rate {
                Some(rate) => trials.measure(rate, DRAIN_MAX)?,
                None => trials.find(|row| tell(run, row))?,
            };
            tell(run, &found);
            results.push(found);
        }
        Ok(results)
    }

    fn connect(
        &self,
        server: &ServerUnderTest,
        connected: impl FnMut(),
    ) -> Result<Load, BenchError> {
        Load::connect(server, self.receivers, self.samples, connected)
    }

    /// How late a message may be sent. In a search that is a hundredth of the bound of latency:
    /// with a system call for each message of a room the load generator would end the search before
    /// the server does.
    fn late_max(&self) -> Duration {
        match self.rate {
            None => (self.p99_max / 100).min(LATE_MAX),
            Some(_) => Duration::ZERO,
        }
    }

    fn row(&self, rate: f64, outcome: &Outcome) -> Row {
        let ages = Ages::of(&outcome.ages);
        let kept = ages.keep(self.p99_max) && outcome.is_complete();
        Row {
            rate,
            deliveries_per_second: outcome.deliveries as f64 / outcome.elapsed.as_secs_f64(),
            ages,
            wrong: outcome.wrong,
            refused: outcome.refused,
            frame_bytes: outcome.frame_bytes,
            record_bytes: outcome.record_bytes,
            cpu_nanos: None,
            messages_per_send: None,
            verdict: if kept { Verdict::Kept } else { Verdict::Over },
        }
    }
}

/// Measurements of one server.
struct Trials<'a> {
    server: &'a ServerUnderTest,
    search: &'a Search,
    /// The viewers; `None` after a measurement in which something did not arrive.
    load: Option<Load>,
}

impl Trials<'_> {
    /// Finds the highest rate within the bound: raises or lowers the rate by growing strides until
    /// the bound lies between two rates, then halves the distance. A rate that misses the bound
    /// narrowly is tried once more.
    fn find(&mut self, mut tell: impl FnMut(&Row)) -> Result<Row, BenchError> {
        let search = self.search;
        let receivers = (search.receivers * self.server.room_count()) as f64;
        let (first, mut stride) = match search.near {
            Some(near) => (near, STRIDE_NEAR),
            None => (FIRST_DELIVERIES, STRIDE_MAX),
        };
        let mut rate = (first / receivers).max(RATE_MIN);
        let (mut kept, mut broken): (Option<Row>, Option<f64>) = (None, None);
        for _ in 0..STEPS_MAX {
            let mut row = self.step(rate, &mut tell)?;
            if row.is_near_miss(search.p99_max) {
                row = self.step(rate, &mut tell)?;
            }
            if row.verdict == Verdict::Kept {
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

    /// One step of a search. A server that ends a connection has not kept the bound.
    fn step(&mut self, rate: f64, tell: &mut impl FnMut(&Row)) -> Result<Row, BenchError> {
        let row = match self.measure(rate, self.search.p99_max + DRAIN_MORE) {
            Err(BenchError::Lost(_)) => Row::ended(rate),
            outcome => outcome?,
        };
        tell(&row);
        Ok(row)
    }

    /// Measures at one rate. After one at which something did not arrive, the next begins on new
    /// connections.
    fn measure(&mut self, rate: f64, drain_max: Duration) -> Result<Row, BenchError> {
        // Taken out, so that an error leaves no load behind.
        let mut load = match self.load.take() {
            Some(load) => load,
            None => self.connect_again()?,
        };
        let (before, sends_before) = (self.server.usage(), self.server.sends());
        let outcome = load.run(Phase {
            rate,
            late_max: self.search.late_max(),
            content_bytes: self.search.content_bytes,
            warmup: self.search.measured / 4,
            measured: self.search.measured,
            drain_max,
        })?;
        if outcome.is_complete() {
            self.load = Some(load);
        }
        let each = |time: Duration| time.as_nanos() as f64 / outcome.deliveries.max(1) as f64;
        let cpu = self.server.cpu_since(before);
        let sends = sends_before.zip(self.server.sends());
        Ok(Row {
            cpu_nanos: cpu.map(|both| both.map(each)),
            messages_per_send: sends.map(|(before, after)| after.since(before).messages_per_send()),
            ..self.search.row(rate, &outcome)
        })
    }

    /// Connects after an overload, when the server may still be busy with deliveries and
    /// connections that ended.
    fn connect_again(&self) -> Result<Load, BenchError> {
        let begun = Instant::now();
        loop {
            std::thread::sleep(RECOVERY);
            match self.search.connect(self.server, || ()) {
                Err(BenchError::Connect { .. }) if begun.elapsed() < RECOVERY_MAX => {}
                outcome => return outcome,
            }
        }
    }
}

impl Row {
    /// Whether nothing but the latency broke, and by less than a factor of two: then it may be a
    /// hiccup of the machine, which would cap a whole search.
    fn is_near_miss(&self, p99_max: Duration) -> bool {
        let complete = self.wrong == 0 && self.refused == 0;
        complete && self.verdict == Verdict::Over && self.ages.keep(p99_max * 2)
    }

    fn ended(rate: f64) -> Self {
        Self {
            rate,
            deliveries_per_second: 0.0,
            ages: Ages::default(),
            wrong: 0,
            refused: 0,
            frame_bytes: 0.0,
            record_bytes: None,
            cpu_nanos: None,
            messages_per_send: None,
            verdict: Verdict::Ended,
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "messages_per_second_per_room": self.rate,
            "deliveries_per_second": self.deliveries_per_second.round(),
            "latency_us": self.ages.json(),
            "lost_or_repeated": self.wrong,
            "refused": self.refused,
            "frame_bytes": self.frame_bytes,
            "messages_per_send": self.messages_per_send,
            "server_cpu_ns_per_delivery": self.cpu_nanos.map(user_and_system),
        })
    }
}

/// Where a search without a hint begins, in deliveries per second over all rooms.
const FIRST_DELIVERIES: f64 = 250_000.0;
/// Most by which a message is sent late.
const LATE_MAX: Duration = Duration::from_millis(10);
/// A search ends when the bound lies between two rates whose ratio is below this.
const PRECISION: f64 = 1.06;
/// Steps of a search at most.
const STEPS_MAX: usize = 24;
/// First stride of a search with a hint, as a factor; each next one is its square.
const STRIDE_NEAR: f64 = 1.15;
/// Largest stride, and the first one of a search without a hint.
const STRIDE_MAX: f64 = 2.0;
/// Lowest rate of a search, in messages per second in a room.
const RATE_MIN: f64 = 1.0;
/// Longest wait for deliveries after the last message, at a given rate.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// The same in a search, beyond the bound of latency.
const DRAIN_MORE: Duration = Duration::from_secs(2);
/// Between the end of an overload and new connections.
const RECOVERY: Duration = Duration::from_millis(500);
/// Longest wait until the server accepts connections again.
const RECOVERY_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::client_protocol::ClientProtocol;
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

    /// Sends the messages of a room's first connection to all, without each `dropped`th one, until
    /// the first is gone.
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

    const SEARCH: Search = Search {
        receivers: 4,
        content_bytes: 300,
        rate: None,
        near: Some(400.0),
        p99_max: Duration::from_mins(1),
        measured: Duration::from_millis(200),
        runs: 1,
        samples: 2,
    };

    fn plain(listener: &TcpListener, rooms: usize) -> ServerUnderTest {
        let server = listener.local_addr().expect("bound");
        ServerUnderTest::plain(server, ClientProtocol::WebSocket, rooms, None)
    }

    /// Goal: a plain server is measured by the same tool, room by room, and what it drops shows.
    /// Method: a server of a few lines that drops every tenth message; 25 messages to 4 receivers
    /// in each of two rooms, of which the sender and 2 more are sampled: 2 lost at each of these.
    #[test]
    fn a_plain_server_is_measured() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let under_test = plain(&listener, 2);
        let server = std::thread::spawn(move || {
            let rooms = rooms(&listener, 8).expect("loopback");
            assert_eq!(rooms.len(), 2);
            let each = |room| std::thread::spawn(|| broadcast(room, 10));
            rooms.into_iter().map(each).collect::<Vec<_>>()
        });
        let search = Search {
            rate: Some(100.0),
            ..SEARCH
        };
        let (mut connected, mut told) = (0, 0);
        let rows = search
            .run(&under_test, || connected += 1, |_, _| told += 1)
            .expect("a server");
        for room in server.join().expect("no panic") {
            room.join().expect("no panic").expect("loopback");
        }
        assert_eq!((connected, told, rows.len()), (8, 1, 1));
        let row = &rows[0];
        assert_eq!(
            (row.wrong, row.refused, row.verdict),
            (12, 0, Verdict::Over)
        );
        assert!(
            (row.frame_bytes - 304.0).abs() < 1e-9,
            "{}",
            row.frame_bytes
        );
        assert!(row.ages.max > 0);
        assert_eq!(row.cpu_nanos, None);
    }

    /// Goal: in a search messages that become due within a hundredth of the bound go in one write,
    /// and their ages say so; at a given rate none is late. Method: 100 messages a second that may
    /// be late by 100 ms: the second one, due 10 ms after the first, is written with the third at
    /// the earliest.
    #[test]
    fn lateness_shows_in_the_ages() {
        let late_max = |rate, p99_max| {
            Search {
                rate,
                p99_max,
                ..SEARCH
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
        let under_test = plain(&listener, 1);
        let server = std::thread::spawn(move || {
            let mut rooms = rooms(&listener, SEARCH.receivers).expect("loopback");
            broadcast(rooms.remove(0), u64::MAX).expect("loopback");
        });
        let mut load = SEARCH.connect(&under_test, || ()).expect("a server");
        let outcome = load.run(Phase {
            rate: 100.0,
            late_max: Duration::from_millis(100),
            content_bytes: SEARCH.content_bytes,
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

    /// Goal: a server that ends connections at one rate, or loses something, is measured at others,
    /// on new connections. Method: one that closes the first load's connections, drops every fifth
    /// message of the second load, and is in order from then on.
    #[test]
    fn a_search_goes_on_after_an_overload() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let under_test = plain(&listener, 1);
        let server = std::thread::spawn(move || {
            let mut loads = 0;
            while let Ok(mut rooms) = rooms(&listener, SEARCH.receivers) {
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
        let rows = SEARCH
            .run(&under_test, || (), |_, row| told.push(row.clone()))
            .expect("a rate");
        // A connection that sends nothing ends the server.
        drop(TcpStream::connect(address).expect("listening"));
        assert_eq!(server.join().expect("no panic"), 3);
        assert!(told[0].verdict == Verdict::Ended, "{:?}", told[0]);
        assert!(
            told[1].wrong > 0 && told[1].verdict == Verdict::Over,
            "{:?}",
            told[1]
        );
        assert!(
            told[2..].iter().all(|row| row.verdict == Verdict::Kept),
            "{told:?}"
        );
        let (found, broken) = (rows[0].rate, told[1].rate);
        assert!(broken / PRECISION < found && found < broken, "{found}");
    }
}
