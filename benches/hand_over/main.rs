//! What a hand-over costs a connection, by its parts: `cargo bench --bench hand_over`.
//!
//! Real TCP connections on the loopback, as many as the limit on open files allows, at most 9,000. Times are the best of
//! five runs, processor time in microseconds a connection, so that they do not depend on what else the machine does.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "it measures and prints"
)]

mod kernel;
mod shard;

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RUNS: usize = 5;

/// The least times of some parts.
struct Best<const N: usize> {
    parts: [&'static str; N],
    times: [Duration; N],
}

impl<const N: usize> Best<N> {
    fn of(parts: [&'static str; N]) -> Self {
        let times = [Duration::MAX; N];
        Self { parts, times }
    }

    fn note(&mut self, times: [Duration; N]) {
        for (best, time) in self.times.iter_mut().zip(times) {
            *best = time.min(*best);
        }
    }

    fn print(&self, connections: usize) {
        for (part, time) in self.parts.iter().zip(self.times) {
            println!(
                "{:6.2}  {part}",
                time.as_secs_f64() * 1e6 / connections as f64
            );
        }
    }
}

/// Processor time of this thread.
fn spent() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("not negative")
}

/// Processor time of this thread since `start`.
fn since(start: Duration) -> Duration {
    spent().saturating_sub(start)
}

/// Connected sockets: the server's ends, the clients' ends.
fn sockets() -> (Vec<OwnedFd>, Vec<TcpStream>) {
    let open_files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = usize::try_from(open_files / 2).map_or(9_000, |half| half.min(9_600) - 600);
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    let pairs = (0..count).map(|_| {
        let client = TcpStream::connect(address).expect("listening");
        (listener.accept().expect("a client").0.into(), client)
    });
    pairs.unzip()
}

fn main() {
    let (ours, clients) = sockets();
    println!("{} connections, the kernel's part:", ours.len());
    kernel::measure(ours);
    drop(clients);
    let (ours, clients) = sockets();
    println!("{} idle viewers of one shard, as a whole:", ours.len());
    shard::measure(ours);
    drop(clients);
}
