//! What a hand-over costs a connection, by its parts: `cargo bench --bench hand_over`.
//!
//! Real TCP connections on the loopback, as many as the limit on open files allows, at most 10,000; records of 230
//! bytes. The best of five runs, processor time of both ends in microseconds a connection.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "it measures and prints"
)]

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use uproar::net::io::Io;
use uproar::net::pass::Connection;
use uproar::net::ring::Completion;
use uproar::net::rings::{FixedFile, FixedPlace, Rings};
use uproar::shard::carry::{Leaving, receive_viewers, send_viewers};
use uproar_proto::base::limits::DESCRIPTORS_A_MESSAGE_MAX;

const RUNS: usize = 5;
const RECORD: [u8; 230] = [7; 230];
const PARTS: [&str; 7] = [
    "cancel, with its completion",
    "plain descriptor, made",
    "plain descriptor, closed",
    "sent and received, all of the above but the cancel",
    "the same and installed",
    "armed",
    "all",
];

/// A frozen shard.
struct Frozen<'a> {
    rings: &'a mut Rings,
    places: &'a [FixedPlace],
    next: usize,
}

impl Leaving for Frozen<'_> {
    fn next_page(&mut self, most: usize) -> Vec<(FixedPlace, Vec<u8>)> {
        let page = self.places.iter().skip(self.next).take(most);
        let page: Vec<_> = page.map(|place| (*place, RECORD.to_vec())).collect();
        self.next += page.len();
        page
    }

    fn detach(&mut self, places: &[FixedPlace]) -> io::Result<Vec<OwnedFd>> {
        self.rings.detach(places, &mut Vec::new())
    }
}

/// Processor time of this process.
fn spent() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("not negative")
}

/// Arms all receives.
fn arm(rings: &mut Rings, files: &[FixedFile]) {
    for (key, file) in (0..).zip(files) {
        rings.receive(file, key);
    }
    rings.enter().expect("the rings work");
}

/// Cancels all receives and waits for their ends.
fn cancel(rings: &mut Rings, files: &[FixedFile]) {
    for (key, file) in (0..).zip(files) {
        rings.cancel_receive(file, key);
    }
    let mut left = files.len();
    while left > 0 {
        rings.enter().expect("the rings work");
        while let Some(completion) = rings.next_completion() {
            if matches!(completion, Completion::Received { more: false, .. }) {
                left -= 1;
            }
        }
    }
}

/// Sends all viewers to another thread, which installs them if wanted; returns them with their rings.
fn carry(rings: &mut Rings, places: &[FixedPlace], installs: bool) {
    let (here, there) = Connection::pair().expect("descriptors");
    let deadline = Instant::now() + Duration::from_mins(1);
    let receiver = std::thread::spawn(move || {
        let mut rings = Rings::new().expect("io_uring is allowed");
        let mut files = Vec::new();
        let deliver = |batch: Vec<(OwnedFd, Vec<u8>)>| {
            for (socket, _) in batch {
                if installs {
                    files.push(rings.install(socket)?);
                }
            }
            Ok(())
        };
        receive_viewers(&there, deliver, deadline).expect("no fault");
    });
    let mut frozen = Frozen {
        rings,
        places,
        next: 0,
    };
    send_viewers(&mut frozen, &here, DESCRIPTORS_A_MESSAGE_MAX, deadline).expect("no fault");
    receiver.join().expect("no panic");
}

fn main() {
    let open_files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = usize::try_from(open_files).map_or(10_000, |open| (open - 600).min(10_000));
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    let mut rings = Rings::new().expect("io_uring is allowed");
    let (mut files, mut clients) = (Vec::new(), Vec::new());
    for _ in 0..count {
        clients.push(TcpStream::connect(address).expect("listening"));
        let socket = listener.accept().expect("a client").0;
        files.push(rings.install(socket.into()).expect("a place"));
    }
    let places: Vec<_> = files.iter().map(FixedFile::place).collect();
    let mut best = [f64::MAX; PARTS.len()];
    for _ in 0..RUNS {
        let mut times = [Duration::ZERO; PARTS.len()];
        arm(&mut rings, &files);
        let start = spent();
        cancel(&mut rings, &files);
        times[0] = spent().saturating_sub(start);
        for batch in places.chunks(DESCRIPTORS_A_MESSAGE_MAX) {
            let start = spent();
            let made = rings.detach(batch, &mut Vec::new()).expect("descriptors");
            times[1] += spent().saturating_sub(start);
            let start = spent();
            drop(made);
            times[2] += spent().saturating_sub(start);
        }
        for (time, installs) in [(3, false), (4, true)] {
            let start = spent();
            carry(&mut rings, &places, installs);
            times[time] = spent().saturating_sub(start);
        }
        let start = spent();
        arm(&mut rings, &files);
        times[5] = spent().saturating_sub(start);
        cancel(&mut rings, &files);
        times[6] = times[0] + times[4] + times[5];
        for (best, time) in best.iter_mut().zip(times) {
            *best = best.min(time.as_secs_f64() * 1e6 / count as f64);
        }
    }
    println!("{count} connections, best of {RUNS} runs, processor time in us a connection");
    for (part, best) in PARTS.iter().zip(best) {
        println!("{best:6.2}  {part}");
    }
}
