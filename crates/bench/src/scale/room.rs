//! The room of `uproar bench scale`: bursts of messages to receivers that are read only between
//! them.

use std::io::{self, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionread;
use rustix::net::sockopt::socket_recv_buffer_size;

use crate::harness::ages::histogram;
use crate::harness::drain::{BulkReceiver, Drain};
use crate::harness::error::BenchError;
use crate::harness::message;
use crate::harness::report::Progress;
use crate::harness::sample::Sample;
use crate::harness::server::ServerUnderTest;
use crate::harness::websocket::{self, TEXT};

/// The receivers of the room.
pub(super) struct Room {
    /// The first one also sends. Never empty.
    samples: Vec<Sample>,
    bulk: Vec<BulkReceiver>,
    content_bytes: usize,
    /// Messages sent so far.
    sent: u64,
    /// Bytes of one frame, mean of those read so far: a `SendTime` varies by its trailing zeros.
    pub(super) frame_bytes: f64,
    /// Deliveries lost or repeated so far.
    wrong: u64,
    /// When all receivers last sent pongs.
    ponged: Instant,
    drain: Drain,
}

impl Room {
    /// Connects `receivers` viewers, whose receive buffers have `receive_bytes` bytes each.
    pub(super) fn connect(
        server: &ServerUnderTest,
        receivers: usize,
        receive_bytes: usize,
        content_bytes: usize,
    ) -> Result<Self, BenchError> {
        let progress = Progress::new(receivers);
        let (mut samples, mut bulk) = (Vec::new(), Vec::new());
        let every = receivers.div_ceil(SAMPLES).max(1);
        for index in 0..receivers {
            let stream = server.connect_with_buffer(0, index, receive_bytes)?;
            let got = socket_recv_buffer_size(&stream).map_err(io::Error::from)?;
            if got < receive_bytes {
                let text = format!(
                    "a receive buffer of {receive_bytes} bytes was asked for, {got} came: raise net.core.rmem_max, or run as root"
                );
                return Err(io::Error::other(text).into());
            }
            if index % every == 0 {
                samples.push(Sample::new(stream, server.protocol())?);
            } else {
                bulk.push(BulkReceiver::new(stream)?);
            }
            progress.step();
        }
        Ok(Self {
            samples,
            bulk,
            content_bytes,
            sent: 0,
            frame_bytes: 1.0,
            wrong: 0,
            ponged: Instant::now(),
            drain: Drain::new(),
        })
    }

    /// Sends one message, for the length of its frame.
    pub(super) fn learn_frame_bytes(&mut self) -> Result<(), BenchError> {
        self.send(1)?;
        wait(1, &self.everybody())?;
        self.read()?;
        Ok(())
    }

    /// Sends chunks of `messages` messages, one after another. Returns the time until the last byte
    /// is at the last receiver.
    pub(super) fn burst(&mut self, messages: usize, chunks: usize) -> Result<Duration, BenchError> {
        let begun = Instant::now();
        let mut waiting = 0;
        for _ in 0..chunks {
            self.send(messages)?;
            // Half a frame less: lengths vary by some bytes, and the last frame must be there.
            let least = (messages as f64 - 0.5) * self.frame_bytes;
            waiting = wait(waiting + least as u64, &self.lookouts())?;
        }
        wait(waiting, &self.everybody())?;
        Ok(begun.elapsed())
    }

    fn send(&mut self, messages: usize) -> Result<(), BenchError> {
        let (mut text, mut bytes) = (String::new(), Vec::new());
        for _ in 0..messages {
            text.clear();
            message::request(&mut text, self.sent, 0, self.content_bytes);
            websocket::frame(&mut bytes, TEXT, text.as_bytes());
            self.sent += 1;
        }
        let sender = self.samples.first_mut().expect("a room has a sender");
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match sender.inbox.stream.write(rest) {
                Ok(len) => rest = &rest[len..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(LOOK);
                }
                Err(error) => return Err(BenchError::lost(error)),
            }
        }
        Ok(())
    }

    fn everybody(&self) -> Vec<&TcpStream> {
        let samples = self
            .samples
            .iter()
            .map(|sample| sample.inbox.stream.socket());
        let bulk = self.bulk.iter().map(|receiver| &receiver.stream);
        samples.chain(bulk).collect()
    }

    /// Returns the receivers that joined last, which a shard serves last, and some of the others.
    fn lookouts(&self) -> Vec<&TcpStream> {
        let samples = self
            .samples
            .iter()
            .map(|sample| sample.inbox.stream.socket());
        let last = self.bulk.iter().rev().take(SAMPLES);
        last.map(|receiver| &receiver.stream)
            .chain(samples)
            .collect()
    }

    /// Reads everything: samples message by message; of the others the bytes, which must be as
    /// many. Returns what was lost or repeated since the last call.
    pub(super) fn read(&mut self) -> Result<u64, BenchError> {
        let mut ages = histogram();
        for sample in &mut self.samples {
            sample.read(|| 0, &mut ages, 0).map_err(BenchError::lost)?;
        }
        let first = self.samples.first().expect("a room has a sender");
        let expected = first.bytes;
        self.frame_bytes = first.bytes as f64 / first.messages.max(1) as f64;
        let mut wrong: u64 = self.samples.iter().map(|each| each.wrong(self.sent)).sum();
        for receiver in &mut self.bulk {
            receiver.empty(&mut self.drain);
            let missing = expected.abs_diff(receiver.bytes) as f64 / self.frame_bytes;
            wrong += missing.ceil() as u64;
        }
        if self.ponged.elapsed() > KEEP_ALIVE {
            self.send_pongs().map_err(BenchError::lost)?;
        }
        Ok(wrong - std::mem::replace(&mut self.wrong, wrong))
    }

    /// Sends everybody's pongs before the server sends pings, which would be among the bytes that
    /// are counted.
    fn send_pongs(&mut self) -> io::Result<()> {
        self.ponged = Instant::now();
        for mut stream in self.everybody() {
            stream.write_all(&websocket::pong())?;
        }
        Ok(())
    }
}

/// Sleeps until at least `bytes` bytes wait in each of the sockets. Returns how many wait in the
/// last one.
fn wait(bytes: u64, streams: &[&TcpStream]) -> Result<u64, BenchError> {
    let begun = Instant::now();
    let mut waiting = 0;
    for stream in streams {
        loop {
            waiting = ioctl_fionread(stream).map_err(io::Error::from)?;
            if waiting >= bytes {
                break;
            }
            if begun.elapsed() > PATIENCE {
                let text = format!("{waiting} of {bytes} bytes came within {PATIENCE:?}");
                return Err(BenchError::Lost(text));
            }
            std::thread::sleep(LOOK);
        }
    }
    Ok(waiting)
}

/// Sampled receivers, and as many of the last that are looked at during a burst.
const SAMPLES: usize = 16;
/// Between two looks at the sockets.
const LOOK: Duration = Duration::from_micros(200);
/// Longest wait until a chunk has reached everybody.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two rounds of pongs: below the server's ping interval, less the longest burst.
const KEEP_ALIVE: Duration = Duration::from_secs(8);
