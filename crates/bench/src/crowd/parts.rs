//! The client processes of a measurement, seen from the process that measures.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::speech::{Connected, Heard, Order, Word, say};
use crate::BenchError;
use crate::host::Host;
use crate::machine::{self, Usage};

/// Client processes, started and ended with this value.
pub(crate) struct Parts {
    processes: Vec<Process>,
    words: Receiver<(usize, Word)>,
    size: usize,
    abreast: usize,
    // Of processes that had nothing to watch, before the others began to.
    early: Vec<Heard>,
}

struct Process {
    child: Child,
    orders: Option<ChildStdin>,
    holding: usize,
}

/// Some viewers of one client process.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Share {
    part: usize,
    viewers: Range<usize>,
}

/// What all client processes heard together.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// When connections were found to be reached, by [`super::now_nanos`], and how many.
    pub(crate) reached: Vec<(u64, u32)>,
    /// Bytes of all connections.
    pub(crate) bytes: u64,
    /// Connections that the server ended, ever.
    pub(crate) gone: u64,
    /// Longest time between two looks at one connection.
    pub(crate) pass_max: Duration,
}

/// Connections one client process holds by default: nine tenths of its descriptor limit.
pub fn part_size() -> usize {
    let limit = usize::try_from(machine::descriptor_limit()).unwrap_or(usize::MAX);
    (limit / 10 * 9).clamp(1, PART_MAX)
}

impl Parts {
    /// Starts as many processes of this very program as `viewers` need, `size` each, on all processors
    /// but the first `shards`, if the server is ours; `width` handshakes under way at once, of all.
    pub(crate) fn start(
        host: &Host,
        viewers: usize,
        size: usize,
        width: usize,
        shards: usize,
    ) -> Result<Self, BenchError> {
        let Some(data_dir) = host.data_dir() else {
            return Err(BenchError::Server("it has no tokens".to_owned()));
        };
        if host.control.is_some() {
            // Inherited by the client processes.
            machine::pin(shards..usize::MAX);
        }
        let executable = &host.program.as_ref().expect("it has tokens").executable;
        let count = viewers.div_ceil(size);
        // Reads the affinity: what is left for clients.
        let processors = std::thread::available_parallelism()?.get();
        let abreast = processors.min(count).max(1);
        let (give, words) = channel();
        let mut started = Self {
            processes: Vec::with_capacity(count),
            words,
            size,
            abreast,
            early: Vec::new(),
        };
        for index in 0..count {
            let mut child = Command::new(executable)
                .args(["bench", "crowd-part"])
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
            std::thread::spawn(move || hand_on(index, BufReader::new(stdout), &give));
            let join = Order::Join {
                messaging: host.messaging,
                data_dir: std::path::absolute(data_dir)?,
                rooms: host.rooms.iter().map(ToString::to_string).collect(),
                width: (width / abreast).max(1),
            };
            started.order(index, &join)?;
        }
        Ok(started)
    }

    /// Connections that stand, as far as the processes told.
    pub(crate) fn holding(&self) -> usize {
        self.processes.iter().map(|part| part.holding).sum()
    }

    /// What the processes have used up together.
    pub(crate) fn usage(&self) -> Usage {
        let all = self.processes.iter().map(|part| Usage::of(part.child.id()));
        all.fold(Usage::default(), |sum, one| Usage {
            user: sum.user + one.user,
            system: sum.system + one.system,
            memory: sum.memory + one.memory,
        })
    }

    /// Connects viewers, counted over all processes, and deals them to `rooms`; the numbers they carry
    /// begin at `first`. `meanwhile` is called every now and then.
    pub(crate) fn connect(
        &mut self,
        viewers: Range<usize>,
        first: usize,
        rooms: &Range<usize>,
        mut meanwhile: impl FnMut(usize) -> Result<(), BenchError>,
    ) -> Result<Connected, BenchError> {
        let mut waiting = VecDeque::from(shares(viewers, self.size));
        let (mut under_way, mut sum) = (0, Connected::default());
        let (mut held, mut moved) = (self.holding(), Instant::now());
        while under_way > 0 || !waiting.is_empty() {
            while under_way < self.abreast
                && let Some(share) = waiting.pop_front()
            {
                let viewers = share.viewers.start + first..share.viewers.end + first;
                let rooms = rooms.clone();
                self.order(share.part, &Order::Connect { viewers, rooms })?;
                under_way += 1;
            }
            if let Some((_, Word::Connected(done))) = self.hear(MEANWHILE)? {
                under_way -= 1;
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
                    "no connection came to stand within {} s; {held} do",
                    STANDSTILL_MAX.as_secs()
                )));
            }
        }
        sum.holding = self.holding();
        Ok(sum)
    }

    /// Orders all to watch, and waits until they do. The bytes that came before.
    pub(crate) fn watch(&mut self, bytes: Option<u64>, every: Duration) -> Result<u64, BenchError> {
        for part in 0..self.processes.len() {
            self.order(part, &Order::Watch { bytes, every })?;
        }
        let (mut watching, mut stray, begun) = (0, 0, Instant::now());
        while watching < self.processes.len() {
            match self.hear(MEANWHILE)? {
                Some((_, Word::Watching { stray_bytes })) => {
                    watching += 1;
                    stray += stray_bytes;
                }
                Some((_, Word::Heard(heard))) => self.early.push(heard),
                Some(_) | None => {}
            }
            if begun.elapsed() > ANSWER_MAX {
                return Err(silent());
            }
        }
        Ok(stray)
    }

    /// Orders all to end watching.
    pub(crate) fn end_watch(&mut self) -> Result<(), BenchError> {
        (0..self.processes.len()).try_for_each(|part| self.order(part, &Order::Report))
    }

    /// Waits until all ended watching, by themselves within `patience`, else because they are ordered
    /// to. `meanwhile` is called every now and then.
    pub(crate) fn collect(
        &mut self,
        patience: Duration,
        mut meanwhile: impl FnMut() -> Result<(), BenchError>,
    ) -> Result<Report, BenchError> {
        let mut report = Report::default();
        let (mut done, mut ordered, begun) = (self.early.len(), false, Instant::now());
        self.early.drain(..).for_each(|heard| report.add(heard));
        while done < self.processes.len() {
            if let Some((_, Word::Heard(heard))) = self.hear(SOON)? {
                done += 1;
                report.add(heard);
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

    fn order(&mut self, part: usize, order: &Order) -> Result<(), BenchError> {
        let orders = self.processes[part]
            .orders
            .as_mut()
            .expect("open until drop");
        say(orders, order).map_err(|error| BenchError::Client(error.to_string()))
    }

    fn hear(&mut self, wait: Duration) -> Result<Option<(usize, Word)>, BenchError> {
        let (part, word) = match self.words.recv_timeout(wait) {
            Ok(heard) => heard,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => return Err(silent()),
        };
        match &word {
            Word::Holding(holding) => self.processes[part].holding = *holding,
            Word::Connected(connected) => self.processes[part].holding = connected.holding,
            Word::Failed(why) => return Err(BenchError::Client(why.clone())),
            Word::Watching { .. } | Word::Heard(_) => {}
        }
        Ok(Some((part, word)))
    }
}

fn silent() -> BenchError {
    BenchError::Client("it does not answer".to_owned())
}

fn hand_on(index: usize, words: impl BufRead, to: &Sender<(usize, Word)>) {
    for line in words.lines() {
        let word = line.and_then(|line| Ok(serde_json::from_str(&line)?));
        let word = word.unwrap_or_else(|error| Word::Failed(error.to_string()));
        if to.send((index, word)).is_err() {
            return;
        }
    }
    // Nobody listens when the end was wanted.
    let _ended = to.send((index, Word::Failed("it ended".to_owned())));
}

/// Cuts a range of viewers where one process is full and the next begins.
fn shares(viewers: Range<usize>, size: usize) -> Vec<Share> {
    let mut shares = Vec::new();
    let mut next = viewers.start;
    while next < viewers.end {
        let part = next / size;
        let end = viewers.end.min((part + 1) * size);
        shares.push(Share {
            part,
            viewers: next..end,
        });
        next = end;
    }
    shares
}

impl Report {
    fn add(&mut self, heard: Heard) {
        self.reached.extend(heard.reached);
        self.bytes += heard.bytes;
        self.gone += heard.gone;
        let pass = Duration::from_micros(heard.pass_micros_max);
        self.pass_max = self.pass_max.max(pass);
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        for part in &mut self.processes {
            // The end of its orders is the order to end.
            part.orders = None;
        }
        let begun = Instant::now();
        for part in &mut self.processes {
            while matches!(part.child.try_wait(), Ok(None)) && begun.elapsed() < ANSWER_MAX {
                std::thread::sleep(SOON);
            }
            let _killed = part.child.kill();
            let _reaped = part.child.wait();
        }
    }
}

/// Connections of one client process at most, whatever its descriptor limit.
const PART_MAX: usize = 1 << 20;
/// Between two looks at something else while connecting.
const MEANWHILE: Duration = Duration::from_millis(50);
/// The same while time is measured.
const SOON: Duration = Duration::from_millis(2);
/// For a client process to answer or to end.
const ANSWER_MAX: Duration = Duration::from_mins(1);
/// For the next connection to stand.
const STANDSTILL_MAX: Duration = Duration::from_mins(2);

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every viewer has one process, and none holds more than its share.
    #[test]
    fn viewers_are_cut_at_the_size_of_a_process() {
        let all = shares(0..25, 10);
        let parts: Vec<_> = all.iter().map(|share| share.part).collect();
        assert_eq!(parts, [0, 1, 2]);
        assert_eq!(all[2].viewers, 20..25);
        let later = shares(7..12, 10);
        assert_eq!(later[0].viewers, 7..10);
        assert_eq!((later[1].part, later[1].viewers.clone()), (1, 10..12));
        assert!(shares(5..5, 10).is_empty());
    }
}
