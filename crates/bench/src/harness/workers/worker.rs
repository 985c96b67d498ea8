//! A client process: it holds connections up to its descriptor limit, with 24 bytes of memory for
//! each, and over TLS a key beside them.
//!
//! One thread works, another passes the orders on. Open connections are in no epoll set, which
//! would charge the server's sends for waking this process, as viewers on other machines never do.
//! So connections are emptied in turn, and only while that is ordered. Each sends a pong before the
//! server would send a ping.

use std::io::{self, BufRead};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use uproar_proto::base::id::RoomId;

use super::connecting::Connecting;
use super::orders::{Connected, Order, Reply, write_line};
use super::watch::{Held, Pongs, Watch};
use crate::harness::drain::Drain;
use crate::harness::error::BenchError;
use crate::harness::program::Program;
use crate::harness::server::{Attach, ServerUnderTest};
use crate::harness::tls::client::TlsClient;
use crate::harness::viewer;

/// Obeys the orders on standard input until it ends.
///
/// # Errors
///
/// A line that is no order, keys that cannot be read, or a closed standard output.
pub(crate) fn run(program: &Program) -> Result<(), BenchError> {
    // The measuring process may run on the same processor, and goes first.
    let _best_effort = rustix::process::nice(LOWEST_PRIORITY);
    let (give, orders) = sync_channel(16);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let order = line.and_then(|line| Ok(serde_json::from_str(&line)?));
            if give.send(order).is_err() {
                return;
            }
        }
    });
    let result = obey(program, &orders);
    if let Err(error) = &result {
        reply(&Reply::Failed(error.to_string()))?;
    }
    result
}

fn obey(program: &Program, orders: &Receiver<io::Result<Order>>) -> Result<(), BenchError> {
    let Ok(order) = orders.recv() else {
        return Ok(());
    };
    let mut worker = Worker::join(program, order?)?;
    loop {
        let wait = worker.turn()?;
        let order = if wait.is_zero() {
            orders.try_recv().map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            })
        } else {
            orders.recv_timeout(wait)
        };
        match order {
            Ok(order) => worker.obey(order?)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return worker.leave(),
        }
    }
}

fn reply(reply: &Reply) -> io::Result<()> {
    write_line(&mut io::stdout().lock(), reply)
}

struct Worker {
    server: ServerUnderTest,
    /// Most handshakes in progress at once.
    width: usize,
    /// The connections, in order of joining.
    held: Vec<Held>,
    connecting: Option<Connecting>,
    /// When the number of connections was last told.
    told: Instant,
    watch: Option<Watch>,
    pongs: Pongs,
    drain: Drain,
}

impl Worker {
    fn join(program: &Program, order: Order) -> Result<Self, BenchError> {
        let Order::Join {
            messaging,
            data_dir,
            rooms,
            width,
            tls,
        } = order
        else {
            return Err(io::Error::other("the first order names no server").into());
        };
        let rooms = rooms.iter().map(|id| RoomId::parse(id));
        let attach = Attach {
            messaging,
            data_dir,
            rooms: rooms
                .collect::<Option<_>>()
                .ok_or_else(|| io::Error::other("not a room's id"))?,
            pid: None,
        };
        let mut server = ServerUnderTest::attach(program, attach)?;
        server.tls = tls.then(|| TlsClient::new(false));
        Ok(Self {
            server,
            width,
            held: Vec::new(),
            connecting: None,
            told: Instant::now(),
            watch: None,
            pongs: Pongs::new(),
            drain: Drain::new(),
        })
    }

    fn obey(&mut self, order: Order) -> Result<(), BenchError> {
        match order {
            Order::Join { .. } => Err(io::Error::other("there is a server already").into()),
            Order::Connect { viewers, rooms } => {
                self.held.reserve_exact(viewers.len());
                let connecting = Connecting::new(&self.server, viewers, rooms, self.width)?;
                self.connecting = Some(connecting);
                Ok(())
            }
            Order::Watch { bytes, every } => {
                let mut stray_bytes = 0;
                for held in &mut self.held {
                    stray_bytes += held.empty(&mut self.drain);
                    held.bytes = 0;
                }
                self.watch = Some(Watch::new(self.held.len(), bytes, every));
                Ok(reply(&Reply::Watching { stray_bytes })?)
            }
            Order::Report => {
                if let Some(watch) = &mut self.watch {
                    watch.end();
                }
                Ok(())
            }
        }
    }

    /// Does a part of the work. Returns how long there is nothing to do.
    fn turn(&mut self) -> Result<Duration, BenchError> {
        self.pongs.turn(&mut self.held);
        if self.connecting.is_some() {
            self.connect()?;
            return Ok(Duration::ZERO);
        }
        let Some(watch) = &mut self.watch else {
            return Ok(IDLE);
        };
        let Some(watched) = watch.pass(&mut self.held, &mut self.drain) else {
            return Ok(watch.until_next());
        };
        self.watch = None;
        reply(&Reply::Watched(watched))?;
        Ok(Duration::ZERO)
    }

    fn connect(&mut self) -> Result<(), BenchError> {
        let Some(connecting) = &mut self.connecting else {
            return Ok(());
        };
        let held = &mut self.held;
        let mut broken = None;
        let done = connecting.turn(&self.server, |stream| match Held::new(stream) {
            Ok(one) => held.push(one),
            Err(error) => broken = Some(error),
        })?;
        broken.map_or(Ok(()), Err)?;
        let holding = self.held.len();
        if let Some(connected) = done {
            self.connecting = None;
            reply(&Reply::Connected(Connected {
                holding,
                ..connected
            }))?;
        } else if self.told.elapsed() > TELL {
            self.told = Instant::now();
            reply(&Reply::Holding(holding))?;
        }
        Ok(())
    }

    /// Cuts all connections by resets, which leave no port in TIME_WAIT.
    fn leave(self) -> Result<(), BenchError> {
        for socket in self.held.into_iter().filter_map(|held| held.socket) {
            viewer::reset(socket)?;
        }
        Ok(())
    }
}

/// Between two replies with the number of connections.
const TELL: Duration = Duration::from_millis(200);
/// Between two looks for orders and due pongs while there is nothing else to do.
const IDLE: Duration = Duration::from_millis(20);
const LOWEST_PRIORITY: i32 = 19;
