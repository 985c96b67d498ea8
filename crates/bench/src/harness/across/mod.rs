//! Viewers of the same rooms at several nodes: some send by the clock, all hear, and nothing that goes wrong is missed.
//!
//! One thread does all but connecting anew, which may take seconds. Every frame of every viewer is parsed.

mod ledger;
mod viewer;

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::ages::{histogram, record};
use super::client_protocol::ClientProtocol;
use super::error::BenchError;
use super::machine::now_nanos;
use super::poll::Poll;
use super::server::ServerUnderTest;
use super::viewer::name;
pub(crate) use ledger::Losses;
use viewer::{Viewer, WayBack};

/// Longest sleep: what is due is sent about this late at most.
const TURN: Duration = Duration::from_millis(2);
/// Tokens for one way back.
const TOKENS: usize = 40;
/// A message's sender stands above these bits of its number.
const COUNT_BITS: u32 = 32;

/// Who is there, and what they say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crowd {
    /// Viewers of each room at each node that has some of it.
    pub(crate) each: usize,
    /// Whether each room has viewers at every node; otherwise at one of them, in turn.
    pub(crate) is_everywhere: bool,
    /// Nodes, from the first, whose first viewer of each room sends.
    pub(crate) senders: usize,
    /// Length of each message's content, in bytes.
    pub(crate) content_bytes: usize,
    /// Whether viewers that are cut connect anew.
    pub(crate) comes_back: bool,
}

/// All viewers.
pub(crate) struct Across {
    crowd: Crowd,
    servers: Vec<ServerUnderTest>,
    rooms: usize,
    nodes: usize,
    protocol: ClientProtocol,
    viewers: Vec<Viewer>,
    /// Of each room, its first viewer at each node.
    speakers: Vec<Vec<usize>>,
    poll: Poll,
    /// Messages that were due so far, and when the next one is.
    due: u64,
    next_at: Option<u64>,
    rate: f64,
    /// Messages that no sender was there for.
    unsaid: u64,
    ages: Histogram<u64>,
    /// The oldest message that came, by node.
    worst: Vec<Duration>,
    text: String,
    back: Back,
}

/// Viewers on their way back.
struct Back {
    found: Sender<(usize, TcpStream)>,
    taken: Receiver<(usize, TcpStream)>,
    is_over: Arc<AtomicBool>,
}

/// The numbers of a stretch of load.
#[derive(Debug)]
pub(crate) struct Stretch {
    /// Ages of messages, in microseconds from when they were due to be sent.
    pub(crate) ages: Histogram<u64>,
    /// Messages that were due.
    pub(crate) messages: u64,
    /// How long it lasted.
    pub(crate) elapsed: Duration,
}

impl Across {
    /// Connects viewers to each room of each of these servers.
    pub(crate) fn connect(servers: Vec<ServerUnderTest>, crowd: Crowd) -> Result<Self, BenchError> {
        let (nodes, rooms) = (servers.len(), servers[0].room_count());
        let (found, taken) = channel();
        let mut all = Self {
            crowd,
            rooms,
            nodes,
            protocol: servers[0].protocol(),
            servers,
            viewers: Vec::new(),
            speakers: vec![Vec::new(); rooms],
            poll: Poll::new()?,
            due: 0,
            next_at: None,
            rate: 0.0,
            unsaid: 0,
            ages: histogram(),
            worst: vec![Duration::ZERO; nodes],
            text: String::new(),
            back: Back {
                found,
                taken,
                is_over: Arc::default(),
            },
        };
        for node in 0..nodes {
            let has = |room: &usize| crowd.is_everywhere || room % nodes == node;
            for room in (0..rooms).filter(has) {
                all.speakers[room].push(all.viewers.len());
                (0..crowd.each).try_for_each(|_| all.join(node, room))?;
            }
        }
        Ok(all)
    }

    fn join(&mut self, node: usize, room: usize) -> Result<(), BenchError> {
        let index = self.viewers.len();
        let viewer = Viewer::connect(&self.servers[node], (node, room, index))?;
        if let Some(connection) = &viewer.connection {
            self.poll.add(connection.stream(), index)?;
        }
        self.viewers.push(viewer);
        Ok(())
    }

    /// Sets the rate of all rooms together, in messages a second; 0: nobody speaks.
    pub(crate) fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
        self.next_at = (rate > 0.0).then(now_nanos);
    }

    /// Lets it go on for this long.
    pub(crate) fn go_on(&mut self, time: Duration) -> Result<(), BenchError> {
        let begun = Instant::now();
        self.go_on_while(|_| begun.elapsed() < time)
    }

    /// Lets it go on while something is true.
    pub(crate) fn go_on_while(
        &mut self,
        mut is_so: impl FnMut(&Self) -> bool,
    ) -> Result<(), BenchError> {
        while is_so(self) {
            let wait = self.speak()?;
            for key in self.poll.wait::<64>(wait)? {
                self.hear(key)?;
            }
            self.welcome_back()?;
        }
        Ok(())
    }

    /// Measures a stretch of load, its beginning aside.
    pub(crate) fn stretch(
        &mut self,
        rate: f64,
        (warmup, measured): (Duration, Duration),
        mut at_begin: impl FnMut(),
    ) -> Result<Stretch, BenchError> {
        self.set_rate(rate);
        self.go_on(warmup)?;
        self.take_ages();
        at_begin();
        let (begun, due) = (Instant::now(), self.due);
        self.go_on(measured)?;
        Ok(Stretch {
            ages: self.take_ages(),
            messages: self.due - due,
            elapsed: begun.elapsed(),
        })
    }

    /// Says nothing more and waits until nothing has come for `quiet`, `patience` at most.
    pub(crate) fn settle(&mut self, quiet: Duration, patience: Duration) -> Result<(), BenchError> {
        self.set_rate(0.0);
        let begun = Instant::now();
        let (mut heard, mut since) = (self.ages.len(), Instant::now());
        self.go_on_while(|all| {
            if all.ages.len() != heard {
                (heard, since) = (all.ages.len(), Instant::now());
            }
            since.elapsed() < quiet && begun.elapsed() < patience
        })
    }

    /// Ages since the last call.
    pub(crate) fn take_ages(&mut self) -> Histogram<u64> {
        std::mem::replace(&mut self.ages, histogram())
    }

    /// The oldest message that came at each node, since the last call.
    pub(crate) fn take_worst(&mut self) -> Vec<Duration> {
        std::mem::replace(&mut self.worst, vec![Duration::ZERO; self.nodes])
    }

    /// Whether every viewer of a node is connected.
    pub(crate) fn is_whole(&self, node: usize) -> bool {
        let mut here = self.viewers.iter().filter(|viewer| viewer.node == node);
        here.all(|viewer| viewer.connection.is_some())
    }

    /// What went wrong so far.
    pub(crate) fn losses(&self) -> Losses {
        let (mut said, mut stays) = (Vec::new(), Vec::new());
        for viewer in &self.viewers {
            viewer.tell(&mut said, &mut stays);
        }
        ledger::count(&said, &stays)
    }

    /// Refusals on connections that stand.
    pub(crate) fn refused(&self) -> u64 {
        let connections = self
            .viewers
            .iter()
            .filter_map(|viewer| viewer.connection.as_ref());
        connections.map(|connection| connection.refused).sum()
    }

    /// Sends what is due. Returns how long nothing is.
    fn speak(&mut self) -> Result<Duration, BenchError> {
        let Some(mut at) = self.next_at else {
            return Ok(TURN);
        };
        while at <= now_nanos() {
            let speakers = &self.speakers[self.due as usize % self.rooms];
            let turn = self.due as usize / self.rooms % self.crowd.senders.min(speakers.len());
            let in_turn = speakers[turn..].iter().chain(&speakers[..turn]).copied();
            let mut present = in_turn.filter(|index| self.viewers[*index].connection.is_some());
            match present.next() {
                Some(index) => self.say(index, at)?,
                None => self.unsaid += 1,
            }
            self.due += 1;
            at += (1e9 / self.rate) as u64;
        }
        self.next_at = Some(at);
        Ok(Duration::from_nanos(at.saturating_sub(now_nanos())).min(TURN))
    }

    fn say(&mut self, index: usize, at: u64) -> Result<(), BenchError> {
        let viewer = &mut self.viewers[index];
        let number = (index as u64) << COUNT_BITS | viewer.count;
        self.text.clear();
        let bytes = self.crowd.content_bytes;
        self.protocol.compose(&mut self.text, number, at, bytes);
        viewer.say(number, &self.text);
        if viewer.flush() {
            return Ok(());
        }
        self.cut(index)
    }

    fn hear(&mut self, index: usize) -> Result<(), BenchError> {
        let (ages, worst) = (&mut self.ages, &mut self.worst);
        let viewer = &mut self.viewers[index];
        if viewer.connection.is_none() {
            return Ok(());
        }
        let node = viewer.node;
        let stands = viewer.read(now_nanos, |heard| {
            let age = Duration::from_nanos(heard.now.saturating_sub(heard.due));
            record(ages, age);
            worst[node] = worst[node].max(age);
        });
        if stands { Ok(()) } else { self.cut(index) }
    }

    /// A viewer lost its connection.
    fn cut(&mut self, index: usize) -> Result<(), BenchError> {
        if !self.crowd.comes_back {
            return Err(BenchError::Lost(format!("viewer {index} was cut")));
        }
        let viewer = &self.viewers[index];
        let server = &self.servers[viewer.node];
        let access = (0..TOKENS).map(|_| server.access(viewer.room, &name(index)));
        let way = WayBack {
            address: server.messaging,
            access: access.collect::<Result<_, _>>()?,
            index,
        };
        let (done, is_over) = (self.back.found.clone(), Arc::clone(&self.back.is_over));
        std::thread::spawn(move || way.go(&done, || !is_over.load(Ordering::Relaxed)));
        Ok(())
    }

    fn welcome_back(&mut self) -> Result<(), BenchError> {
        while let Ok((index, stream)) = self.back.taken.try_recv() {
            self.poll.add(&stream, index)?;
            self.viewers[index].resume(stream)?;
        }
        Ok(())
    }
}

impl Drop for Across {
    fn drop(&mut self) {
        self.back.is_over.store(true, Ordering::Relaxed);
    }
}
