//! `uproar bench live`: a crowd for one room of a server that runs already, told of while it lasts. The demo page's
//! storm.
//!
//! It is no measurement to be compared: users come one after another, say words like people do, and what the room
//! refuses is counted. It ends with its time, with its last viewer, or with its parent's end of standard input.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use slab::Slab;

use self::heard::Heard;
use crate::harness::client_protocol::ClientProtocol;
use crate::harness::drain::{Drain, PASS};
use crate::harness::error::{BenchError, Failure};
use crate::harness::flags::{count, positive, seconds};
use crate::harness::message;
use crate::harness::poll::Poll;
use crate::harness::program::Program;
use crate::harness::server::{Attach, ServerUnderTest};
use crate::harness::stream::{Inbox, Outbox};
use crate::harness::target::room_id;
use crate::harness::viewer;
use crate::harness::viewer_stream::ViewerStream;
use crate::harness::websocket;
use uproar_proto::base::limits::{DEMO_STORM_VIEWERS_MAX, FRAME_BYTES_MAX};

mod heard;

/// Flags of `uproar bench live`.
#[derive(Debug, Args)]
pub(crate) struct Live {
    /// The server's messaging listener
    #[arg(long, value_name = "ADDRESS")]
    messaging: SocketAddr,
    /// Its data directory
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The room
    #[arg(long, value_name = "ARN")]
    room: String,
    /// Viewers who join, as fast as the server admits them
    #[arg(long, value_name = "N", value_parser = count(1..=DEMO_STORM_VIEWERS_MAX as u64))]
    viewers: usize,
    /// Messages a second of all of them together
    #[arg(long, value_name = "N", value_parser = positive)]
    rate: f64,
    /// How long the crowd stays
    #[arg(long, value_name = "N", value_parser = seconds())]
    seconds: Duration,
}

/// A viewer who also talks, and whose frames are read.
struct Talker {
    inbox: Inbox,
    out: Outbox,
}

/// The viewers, and what they heard.
struct Crowd {
    server: ServerUnderTest,
    begun: Instant,
    /// Viewers who came, those who have gone since included.
    joined: usize,
    /// Why the rest does not come.
    refusal: Option<String>,
    talkers: Slab<Talker>,
    poll: Poll,
    /// The others: their bytes are counted and dropped.
    listeners: Vec<TcpStream>,
    drain: Drain,
    drained: Instant,
    ponged: Instant,
    sent: u64,
    heard: Heard,
}

impl Live {
    pub(crate) fn run(&self, program: &Program) -> Result<(), Failure> {
        let attach = Attach {
            messaging: self.messaging,
            data_dir: self.data_dir.clone(),
            rooms: vec![room_id(&self.room)?],
            pid: None,
        };
        let orphaned = when_input_ends();
        let mut crowd = Crowd::new(ServerUnderTest::attach(program, attach)?)?;
        while crowd.begun.elapsed() < self.seconds && !orphaned.load(Ordering::Relaxed) {
            crowd.join(self.viewers)?;
            crowd.talk(self.rate);
            crowd.listen()?;
            if crowd.heard.is_due() {
                crowd.tell(self.viewers)?;
            }
            if crowd.joined > 0 && crowd.present() == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// Becomes true when standard input ends: whoever started this has ended, or wants it to.
fn when_input_ends() -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&ended);
    std::thread::spawn(move || {
        let _end = io::stdin().lock().read_to_end(&mut Vec::new());
        ends.store(true, Ordering::Relaxed);
    });
    ended
}

impl Crowd {
    fn new(server: ServerUnderTest) -> Result<Self, BenchError> {
        let now = Instant::now();
        Ok(Self {
            server,
            begun: now,
            joined: 0,
            refusal: None,
            talkers: Slab::new(),
            poll: Poll::new()?,
            listeners: Vec::new(),
            drain: Drain::new(),
            drained: now,
            ponged: now,
            sent: 0,
            heard: Heard::new(now),
        })
    }

    fn present(&self) -> usize {
        self.talkers.len() + self.listeners.len()
    }

    /// Lets viewers join for a moment. The first refusal ends it: the server is full, and says so.
    fn join(&mut self, wanted: usize) -> Result<(), BenchError> {
        let begun = Instant::now();
        while self.joined < wanted && self.refusal.is_none() && begun.elapsed() < JOIN_TURN {
            let access = self.server.access(0, &format!("fan-{}", self.joined + 1))?;
            match self.server.connect_with(0, &access, self.joined) {
                Ok(stream) => self.admit(stream)?,
                Err(refusal) => self.refusal = Some(refusal.to_string()),
            }
        }
        Ok(())
    }

    fn admit(&mut self, stream: ViewerStream) -> Result<(), BenchError> {
        self.joined += 1;
        // However this process ends: thousands of ports would wait for a minute each.
        viewer::reset_when_dropped(&stream)?;
        if self.talkers.len() < TALKERS {
            let protocol = ClientProtocol::Chat;
            let inbox = Inbox::new(stream, protocol, FRAME_BYTES_MAX)?;
            let entry = self.talkers.vacant_entry();
            self.poll.add(&inbox.stream, entry.key())?;
            let out = Outbox::new(protocol);
            entry.insert(Talker { inbox, out });
        } else {
            let (stream, _) = stream.sealed()?;
            stream.set_nonblocking(true)?;
            self.listeners.push(stream);
        }
        Ok(())
    }

    /// Says what is due by the clock, each talker in turn. What a stopped process missed is not made up for.
    fn talk(&mut self, rate: f64) {
        let due = (self.begun.elapsed().as_secs_f64() * rate) as u64;
        self.sent = self.sent.max(due.saturating_sub(rate.ceil() as u64));
        while self.sent < due && !self.talkers.is_empty() {
            let turn = self.sent as usize % self.talkers.len();
            let mut text = String::new();
            let now = self.begun.elapsed().as_nanos() as u64;
            message::spoken(&mut text, self.sent, now);
            if let Some((_, talker)) = self.talkers.iter_mut().nth(turn) {
                talker.out.send(0, &text);
            }
            self.sent += 1;
        }
        self.talkers
            .retain(|_, talker| talker.out.flush(&mut talker.inbox.stream).is_ok());
    }

    /// Waits a moment for what talkers hear, and empties the others' sockets now and then.
    fn listen(&mut self) -> Result<(), BenchError> {
        for key in self.poll.wait::<TALKERS>(PASS)? {
            let Some(talker) = self.talkers.get_mut(key) else {
                continue;
            };
            let (heard, begun) = (&mut self.heard, self.begun);
            let clock = || begun.elapsed().as_nanos() as u64;
            let read = talker.inbox.read(clock, |frame| heard.frame(&frame));
            if talker.inbox.take_ping() {
                talker.out.pong();
            }
            if read.is_err() {
                // Kicked, or the server has ended.
                self.talkers.remove(key);
            }
        }
        if self.drained.elapsed() > DRAIN_PAUSE {
            self.drained = Instant::now();
            let (drain, heard) = (&mut self.drain, &mut self.heard);
            self.listeners.retain(|stream| {
                let drained = drain.empty(stream);
                heard.dropped(drained.bytes);
                drained.is_open
            });
        }
        if self.ponged.elapsed() > KEEP_ALIVE {
            self.ponged = Instant::now();
            let pong = websocket::pong();
            for mut listener in &self.listeners {
                // A lost connection is seen by the next look.
                let _seen_later = listener.write_all(&pong);
            }
        }
        Ok(())
    }

    /// Writes one line of figures.
    fn tell(&mut self, wanted: usize) -> io::Result<()> {
        let mut told = self.heard.take(self.talkers.len());
        told["wanted"] = wanted.into();
        told["viewers"] = self.present().into();
        told["refusal"] = json!(self.refusal);
        let mut out = io::stdout().lock();
        writeln!(out, "{told}")?;
        out.flush()
    }
}

/// Longest time for joining before messages have their turn.
const JOIN_TURN: Duration = Duration::from_millis(20);
/// Viewers who talk and are read. At the highest rate of a room each says three messages a second, of the ten that one
/// connection may.
const TALKERS: usize = 32;
/// Between two passes over those that are not read.
const DRAIN_PAUSE: Duration = Duration::from_millis(50);
/// Sent before the server would ask, as pings of those viewers are read by nobody.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
