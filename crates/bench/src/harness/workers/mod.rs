//! The client processes of a measurement, as the measuring process sees them: each holds as many
//! connections as its descriptor limit allows.

mod connecting;
mod orders;
mod watch;
pub(crate) mod worker;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use clap::Args;

use self::orders::{Connected, Order, Reply, Watched, write_line};
use super::error::BenchError;
use super::flags::count;
use super::machine::{self, Usage};
use super::server::ServerUnderTest;

/// The client processes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Clients {
    /// Connections of one client process [default: nine tenths of its descriptor limit]
    #[arg(long, value_name = "N", value_parser = count(1..=0xFFFF_FFFF))]
    part: Option<usize>,
    /// Handshakes in progress at once, of all client processes together
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = count(1..=4096))]
    width: usize,
}

impl Clients {
    /// Returns the number of connections of one client process.
    pub(crate) fn part_size(&self) -> usize {
        let limit = usize::try_from(machine::descriptor_limit()).unwrap_or(usize::MAX);
        self.part
            .unwrap_or_else(|| (limit / 10 * 9).clamp(1, PART_MAX))
    }
}

/// Running client processes. They end when this is dropped.
pub(crate) struct Workers {
    processes: Vec<Process>,
    /// Replies of all processes, with the index of each.
    replies: Receiver<(usize, Reply)>,
    /// Connections of one process.
    size: usize,
    /// Processes that connect at the same time: more than processors would share the handshakes'
    /// width in vain.
    abreast: usize,
    /// Results of processes that were done before the others began to watch.
    early: Vec<Watched>,
}

struct Process {
    child: Child,
    /// `None`: it was told to end.
    orders: Option<ChildStdin>,
    /// Open connections, by its last reply.
    holding: usize,
}

/// Some viewers of one client process.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Share {
    process: usize,
    viewers: Range<usize>,
}

/// What all client processes saw together.
#[derive(Debug, Default)]
pub(crate) struct WatchReport {
    /// When connections were found to be reached, by [`machine::now_nanos`], and how many.
    pub(crate) reached: Vec<(u64, u32)>,
    /// Bytes of all connections.
    pub(crate) bytes: u64,
    /// Connections that the server ever ended.
    pub(crate) gone: u64,
    /// Longest time between two looks at one connection.
    pub(crate) pass_max: Duration,
}

impl Workers {
    /// Starts as many processes as `viewers` need. They run on all processors but the first
    /// `shards`, if the server was started for this measurement.
    pub(crate) fn start(
        server: &ServerUnderTest,
        viewers: usize,
        clients: &Clients,
        shards: usize,
    ) -> Result<Self, BenchError> {
        let uproar = server.uproar()?;
        if server.is_own() {
            // Inherited by the client processes.
            machine::pin(shards..usize::MAX);
        }
        let size = clients.part_size();
        let count = viewers.div_ceil(size);
        // Reads the affinity: the processors that are left for clients.
        let processors = std::thread::available_parallelism()?.get();
        let abreast = processors.min(count).max(1);
        let (give, replies) = channel();
        let mut started = Self {
            processes: Vec::with_capacity(count),
            replies,
            size,
            abreast,
            early: Vec::new(),
        };
        for index in 0..count {
            let mut child = Command::new(&uproar.program.executable)
                .args(["bench", "worker"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let orders = child.stdin.take();
            let stdout = child.stdout.take().expect("piped");
            started.processes.push(Process {
                child,
                orders,
                holding: 0,
            });
            let give = give.clone();
            std::thread::spawn(move || pass_on(index, BufReader::new(stdout), &give));
            let join = Order::Join {
                messaging: server.messaging,
                data_dir: std::path::absolute(&uproar.data_dir)?,
                rooms: uproar.rooms.iter().map(ToString::to_string).collect(),
                width: (clients.width / abreast).max(1),
                tls: server.tls.is_some(),
            };
            started.order(index, &join)?;
        }
        Ok(started)
    }

    /// Returns the number of open connections, by the processes' last replies.
    fn holding(&self) -> usize {
        self.processes.iter().map(|process| process.holding).sum()
    }

    /// Returns what the processes have used together.
    pub(crate) fn usage(&self) -> Usage {
        let all = self.processes.iter();
        let all = all.map(|process| Usage::of(process.child.id()));
        all.fold(Usage::default(), |sum, one| Usage {
            user: sum.user + one.user,
            system: sum.system + one.system,
            memory: sum.memory + one.memory,
        })
    }

    /// Connects viewers, counted over all processes, and spreads them over `rooms`. Their numbers
    /// among all viewers begin at `first`. Calls `meanwhile` now and then with the number of open
    /// connections.
    pub(crate) fn connect(
        &mut self,
        viewers: Range<usize>,
        first: usize,
        rooms: &Range<usize>,
        mut meanwhile: impl FnMut(usize) -> Result<(), BenchError>,
    ) -> Result<Connected, BenchError> {
        let mut waiting = VecDeque::from(shares(viewers, self.size));
        let (mut connecting, mut sum) = (0, Connected::default());
        let (mut held, mut moved) = (self.holding(), Instant::now());
        while connecting > 0 || !waiting.is_empty() {
            while connecting < self.abreast
                && let Some(share) = waiting.pop_front()
            {
                let viewers = share.viewers.start + first..share.viewers.end + first;
                let rooms = rooms.clone();
                self.order(share.process, &Order::Connect { viewers, rooms })?;
                connecting += 1;
            }
            if let Some(Reply::Connected(done)) = self.reply(MEANWHILE)? {
                debug_assert!(connecting > 0, "each order has one answer");
                connecting -= 1;
                sum.again += done.again;
                sum.failed += done.failed;
                sum.first_refusal = sum.first_refusal.or(done.first_refusal);
                if done.gave_up {
                    sum.gave_up = true;
                    waiting.clear();
                }
            }
            meanwhile(self.holding())?;
            if self.holding() != held {
                (held, moved) = (self.holding(), Instant::now());
            }
            if moved.elapsed() > STANDSTILL_MAX {
                return Err(BenchError::Server(format!(
                    "it took no connection within {} s; {held} are open",
                    STANDSTILL_MAX.as_secs()
                )));
            }
        }
        sum.holding = self.holding();
        Ok(sum)
    }

    /// Has all processes watch, and waits until they do. Returns the bytes that came before. The
    /// arguments are those of [`Order::Watch`].
    pub(crate) fn watch(&mut self, bytes: Option<u64>, every: Duration) -> Result<u64, BenchError> {
        for process in 0..self.processes.len() {
            self.order(process, &Order::Watch { bytes, every })?;
        }
        let (mut watching, mut stray, begun) = (0, 0, Instant::now());
        while watching < self.processes.len() {
            match self.reply(MEANWHILE)? {
                Some(Reply::Watching { stray_bytes }) => {
                    watching += 1;
                    stray += stray_bytes;
                }
                Some(Reply::Watched(watched)) => self.early.push(watched),
                Some(_) | None => {}
            }
            if begun.elapsed() > ANSWER_MAX {
                return Err(silent());
            }
        }
        Ok(stray)
    }

    /// Orders all processes to end watching.
    pub(crate) fn end_watch(&mut self) -> Result<(), BenchError> {
        (0..self.processes.len()).try_for_each(|process| self.order(process, &Order::Report))
    }

    /// Waits until all processes have ended watching: by themselves within `patience`, else on
    /// order. Calls `meanwhile` every 2 ms or more often.
    pub(crate) fn collect(
        &mut self,
        patience: Duration,
        mut meanwhile: impl FnMut() -> Result<(), BenchError>,
    ) -> Result<WatchReport, BenchError> {
        let mut report = WatchReport::default();
        let (mut done, mut ordered, begun) = (self.early.len(), false, Instant::now());
        self.early.drain(..).for_each(|watched| report.add(watched));
        while done < self.processes.len() {
            if let Some(Reply::Watched(watched)) = self.reply(SOON)? {
                done += 1;
                report.add(watched);
            }
            meanwhile()?;
            if !ordered && begun.elapsed() > patience {
                ordered = true;
                self.end_watch()?;
            }
            if begun.elapsed() > patience + ANSWER_MAX {
                return Err(silent());
            }
        }
        Ok(report)
    }

    fn order(&mut self, process: usize, order: &Order) -> Result<(), BenchError> {
        let orders = self.processes[process].orders.as_mut();
        write_line(orders.expect("open until drop"), order)
            .map_err(|error| BenchError::Client(error.to_string()))
    }

    /// Waits at most for `wait` for the next reply, and notes how many connections it tells of.
    fn reply(&mut self, wait: Duration) -> Result<Option<Reply>, BenchError> {
        let (process, reply) = match self.replies.recv_timeout(wait) {
            Ok(reply) => reply,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => return Err(silent()),
        };
        match &reply {
            Reply::Holding(holding) => self.processes[process].holding = *holding,
            Reply::Connected(connected) => self.processes[process].holding = connected.holding,
            Reply::Failed(why) => return Err(BenchError::Client(why.clone())),
            Reply::Watching { .. } | Reply::Watched(_) => {}
        }
        Ok(Some(reply))
    }
}

fn silent() -> BenchError {
    BenchError::Client("it does not answer".to_owned())
}

/// Passes a process's replies on until its standard output ends.
fn pass_on(process: usize, lines: impl BufRead, to: &Sender<(usize, Reply)>) {
    for line in lines.lines() {
        let reply = line.and_then(|line| Ok(serde_json::from_str(&line)?));
        let reply = reply.unwrap_or_else(|error| Reply::Failed(error.to_string()));
        if to.send((process, reply)).is_err() {
            return;
        }
    }
    // Nobody listens if the end was ordered.
    let _ended = to.send((process, Reply::Failed("it ended".to_owned())));
}

/// Cuts a range of viewers where one process is full and the next begins.
fn shares(viewers: Range<usize>, size: usize) -> Vec<Share> {
    let mut shares = Vec::new();
    let mut next = viewers.start;
    while next < viewers.end {
        let process = next / size;
        let end = viewers.end.min((process + 1) * size);
        shares.push(Share {
            process,
            viewers: next..end,
        });
        next = end;
    }
    shares
}

impl WatchReport {
    fn add(&mut self, watched: Watched) {
        self.reached.extend(watched.reached);
        self.bytes += watched.bytes;
        self.gone += watched.gone;
        let pass = Duration::from_micros(watched.pass_micros_max);
        self.pass_max = self.pass_max.max(pass);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // The end of its standard input is the order to end.
            process.orders = None;
        }
        let begun = Instant::now();
        for process in &mut self.processes {
            while matches!(process.child.try_wait(), Ok(None)) && begun.elapsed() < ANSWER_MAX {
                std::thread::sleep(SOON);
            }
            let _killed = process.child.kill();
            let _reaped = process.child.wait();
        }
    }
}

/// Most connections of one client process, whatever its descriptor limit.
const PART_MAX: usize = 1 << 20;
/// Longest wait for a reply while connecting.
const MEANWHILE: Duration = Duration::from_millis(50);
/// Longest wait for a reply while time is measured.
const SOON: Duration = Duration::from_millis(2);
/// Longest wait until a client process answers, or ends.
const ANSWER_MAX: Duration = Duration::from_mins(1);
/// Longest wait for the next open connection.
const STANDSTILL_MAX: Duration = Duration::from_mins(2);

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every viewer has one process, and none holds more than its share.
    #[test]
    fn viewers_are_cut_at_the_size_of_a_process() {
        let all = shares(0..25, 10);
        let processes: Vec<_> = all.iter().map(|share| share.process).collect();
        assert_eq!(processes, [0, 1, 2]);
        assert_eq!(all[2].viewers, 20..25);
        let later = shares(7..12, 10);
        assert_eq!(later[0].viewers, 7..10);
        assert_eq!((later[1].process, later[1].viewers.clone()), (1, 10..12));
        assert!(shares(5..5, 10).is_empty());
    }
}
