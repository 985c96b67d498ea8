//! A client process: up to its descriptor limit of connections, 16 bytes of memory each.
//!
//! One thread works, another hands over the orders. Nothing is registered with epoll once it is
//! connected: an epoll set would make the server's own sends pay for waking this process, as viewers on
//! other machines never do. So connections are looked at in turn, and only while that was ordered.
//! Before the server would ask, each connection sends a pong.

use std::io::{self, BufRead};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::connecting::Connecting;
use super::speech::{Connected, Heard, Order, Word, now_nanos, say};
use crate::BenchError;
use crate::host::{Attach, Host};
use crate::program::Program;
use crate::viewer::{self, PONG};
use uproar_proto::base::id::RoomId;

/// Obeys the orders on standard input until it ends.
///
/// # Errors
///
/// If an order is not one, the server's keys cannot be read or nobody listens any more.
pub fn run(program: &Program) -> Result<(), BenchError> {
    // What measures in the parent, on the same processor, goes first.
    let _best_effort = rustix::process::nice(LATER);
    let (give, orders) = sync_channel(16);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let order = line.and_then(|line| Ok(serde_json::from_str(&line)?));
            if give.send(order).is_err() {
                return;
            }
        }
    });
    match obey(program, &orders) {
        Ok(()) => Ok(()),
        Err(error) => {
            tell(&Word::Failed(error.to_string()))?;
            Err(error)
        }
    }
}

fn obey(program: &Program, orders: &Receiver<io::Result<Order>>) -> Result<(), BenchError> {
    let Ok(order) = orders.recv() else {
        return Ok(());
    };
    let mut part = Part::join(program, order?)?;
    loop {
        let wait = part.turn()?;
        let order = if wait.is_zero() {
            orders.try_recv().map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            })
        } else {
            orders.recv_timeout(wait)
        };
        match order {
            Ok(order) => part.obey(order?)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return part.leave(),
        }
    }
}

fn tell(word: &Word) -> io::Result<()> {
    say(&mut io::stdout().lock(), word)
}

struct Member {
    // None: the server ended it.
    socket: Option<OwnedFd>,
    bytes: u64,
}

struct Part {
    host: Host,
    width: usize,
    members: Vec<Member>,
    connecting: Option<Connecting>,
    told: Instant,
    watch: Option<Watch>,
    pongs: Pongs,
    scrap: Vec<u8>,
}

struct Watch {
    bytes: Option<u64>,
    every: Duration,
    // Members to look at, in order of joining.
    pending: Vec<u32>,
    heard: Heard,
    pass_begun: Instant,
    // Since when it should end; then once nothing comes any more.
    ending: Option<Instant>,
}

impl Part {
    fn join(program: &Program, order: Order) -> Result<Self, BenchError> {
        let Order::Join {
            messaging,
            data_dir,
            rooms,
            width,
        } = order
        else {
            return Err(io::Error::other("the first order names no server").into());
        };
        let rooms = rooms.iter().map(|id| RoomId::parse(id));
        let rooms = rooms
            .collect::<Option<_>>()
            .ok_or_else(|| io::Error::other("not a room's id"))?;
        Ok(Self {
            host: Host::attach(
                program,
                Attach {
                    messaging,
                    data_dir,
                    rooms,
                    pid: None,
                },
            )?,
            width,
            members: Vec::new(),
            connecting: None,
            told: Instant::now(),
            watch: None,
            pongs: Pongs::new(),
            scrap: vec![0; SCRAP_BYTES],
        })
    }

    fn obey(&mut self, order: Order) -> Result<(), BenchError> {
        match order {
            Order::Join { .. } => Err(io::Error::other("there is a server already").into()),
            Order::Connect { viewers, rooms } => {
                self.members.reserve_exact(viewers.len());
                let messaging = self.host.messaging;
                self.connecting = Some(Connecting::new(messaging, viewers, rooms, self.width)?);
                Ok(())
            }
            Order::Watch { bytes, every } => {
                let mut stray_bytes = 0;
                for member in &mut self.members {
                    stray_bytes += member.drain(&mut self.scrap);
                    member.bytes = 0;
                }
                let count = u32::try_from(self.members.len()).expect("below the descriptor limit");
                self.watch = Some(Watch {
                    bytes,
                    every,
                    pending: (0..count).collect(),
                    heard: Heard::default(),
                    pass_begun: Instant::now(),
                    ending: None,
                });
                Ok(tell(&Word::Watching { stray_bytes })?)
            }
            Order::Report => {
                if let Some(watch) = &mut self.watch {
                    watch.ending.get_or_insert_with(Instant::now);
                }
                Ok(())
            }
        }
    }

    /// Does a little of everything that is under way; for how long nothing is to be done then.
    fn turn(&mut self) -> Result<Duration, BenchError> {
        self.pongs.turn(&mut self.members);
        if let Some(connecting) = &mut self.connecting {
            let members = &mut self.members;
            let done = connecting.turn(&self.host, |stream| {
                let socket = Some(OwnedFd::from(stream));
                members.push(Member { socket, bytes: 0 });
            })?;
            if let Some(connected) = done {
                self.connecting = None;
                let holding = self.members.len();
                tell(&Word::Connected(Connected {
                    holding,
                    ..connected
                }))?;
            } else if self.told.elapsed() > TELL {
                self.told = Instant::now();
                tell(&Word::Holding(self.members.len()))?;
            }
            return Ok(Duration::ZERO);
        }
        let Some(watch) = &mut self.watch else {
            return Ok(IDLE);
        };
        let quiet = watch.pass(&mut self.members, &mut self.scrap) == 0;
        let reached = watch.bytes.is_some() && watch.pending.is_empty();
        let told = watch
            .ending
            .is_some_and(|since| quiet || watch.bytes.is_some() || since.elapsed() > ENDING_MAX);
        if reached || told {
            let mut heard = std::mem::take(&mut watch.heard);
            self.watch = None;
            heard.bytes = self.members.iter().map(|member| member.bytes).sum();
            let gone = self.members.iter().filter(|each| each.socket.is_none());
            heard.gone = gone.count() as u64;
            tell(&Word::Heard(heard))?;
            return Ok(Duration::ZERO);
        }
        Ok(watch.every.saturating_sub(watch.pass_begun.elapsed()))
    }

    /// Cuts everything by resets, which leave no port waiting.
    fn leave(self) -> Result<(), BenchError> {
        for socket in self.members.into_iter().filter_map(|each| each.socket) {
            viewer::reset(socket.into())?;
        }
        Ok(())
    }
}

impl Watch {
    /// Looks at each pending connection once; the bytes that came.
    fn pass(&mut self, members: &mut [Member], scrap: &mut [u8]) -> u64 {
        let begun = Instant::now();
        let since_last = begun.duration_since(self.pass_begun).as_micros() as u64;
        self.heard.pass_micros_max = self.heard.pass_micros_max.max(since_last);
        self.pass_begun = begun;
        let mut came = 0;
        let mut left = Vec::with_capacity(self.pending.len());
        // One look at the clock for a few connections: about a tenth of a millisecond.
        for some in self.pending.chunks(64) {
            let mut reached = 0;
            for index in some {
                let member = &mut members[*index as usize];
                came += member.drain(scrap);
                if self.bytes.is_some_and(|bytes| member.bytes >= bytes) {
                    reached += 1;
                } else if member.socket.is_some() {
                    left.push(*index);
                }
            }
            if reached > 0 {
                self.heard.reached.push((now_nanos(), reached));
            }
        }
        self.pending = left;
        came
    }
}

impl Member {
    /// Drops what waits in the socket, in the kernel (tcp(7), `MSG_TRUNC`); how many bytes.
    fn drain(&mut self, scrap: &mut [u8]) -> u64 {
        let Some(socket) = &self.socket else {
            return 0;
        };
        let before = self.bytes;
        loop {
            match recv(socket, &mut *scrap, RecvFlags::TRUNC | RecvFlags::DONTWAIT) {
                Ok((_, len)) if len > 0 => {
                    self.bytes += len as u64;
                    if len < scrap.len() {
                        break;
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => {
                    self.socket = None;
                    break;
                }
            }
        }
        self.bytes - before
    }
}

/// Pongs that nobody asked for: each connection's at its time, evenly spread.
struct Pongs {
    frame: Vec<u8>,
    next: usize,
    owed: f64,
    turned: Instant,
}

impl Pongs {
    fn new() -> Self {
        let mut frame = Vec::new();
        viewer::frame(&mut frame, PONG, b"");
        Self {
            frame,
            next: 0,
            owed: 0.0,
            turned: Instant::now(),
        }
    }

    fn turn(&mut self, members: &mut [Member]) {
        let passed = self.turned.elapsed().as_secs_f64();
        self.turned = Instant::now();
        let count = members.len() as f64;
        // Late by more than a round: once around is enough.
        self.owed = (self.owed + passed / PONG_EVERY.as_secs_f64() * count).min(count);
        while self.owed >= 1.0 {
            self.owed -= 1.0;
            self.next = (self.next + 1) % members.len();
            let member = &mut members[self.next];
            let Some(socket) = &member.socket else {
                continue;
            };
            match send(
                socket,
                &self.frame,
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            ) {
                // A full socket is one the server does not read: it will be cut, and seen.
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => member.socket = None,
            }
        }
    }
}

/// Below the server's ping interval, with time to be late.
const PONG_EVERY: Duration = Duration::from_secs(22);
/// Dropped by one `recv` at most; nothing is written here.
const SCRAP_BYTES: usize = 4 << 20;
/// For what is under way when watching should end.
const ENDING_MAX: Duration = Duration::from_secs(5);
/// Between two words of how many connections stand.
const TELL: Duration = Duration::from_millis(200);
/// Between two looks for orders and pongs while nothing is to be done.
const IDLE: Duration = Duration::from_millis(20);
/// The lowest priority.
const LATER: i32 = 19;
