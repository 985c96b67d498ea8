//! `uproar bench ingest`: many senders, each at a rate; what the server takes, told by each sender's own
//! echo.

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};
use serde_json::{Value, json};

use super::host::Host;
use super::viewer::TEXT;
use super::wire::{Inbox, Outbox};
use super::{Ages, BenchError, histogram, sample};

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Senders, spread over the rooms.
    pub senders: usize,
    /// Messages a second of each sender, by the clock whatever the server does.
    pub rate: f64,
    /// Bytes of each message's content.
    pub content_bytes: usize,
    /// Length of the measurement.
    pub measured: Duration,
}

/// What was measured.
#[derive(Debug)]
pub struct Ingest {
    /// Messages sent.
    pub sent: u64,
    /// Those that came back to their senders.
    pub accepted: u64,
    /// Those answered by an ERROR frame.
    pub refused: u64,
    /// Those that did neither, or came back twice.
    pub wrong: u64,
    /// From the first message to the last answer.
    pub elapsed: Duration,
    /// Age of the echoes, from when a message was meant to be sent.
    pub ages: Ages,
    /// Processor microseconds of the server for each accepted message, user and system.
    pub cpu_micros: Option<[f64; 2]>,
}

/// Connects the senders and lets them talk; `connected` hears of each connection.
pub fn run(host: &Host, plan: Plan, mut connected: impl FnMut()) -> Result<Ingest, BenchError> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(io::Error::from)?;
    let mut senders = Vec::with_capacity(plan.senders);
    for index in 0..plan.senders {
        let stream = host.viewer(index % host.room_count(), index)?;
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&epoll, &stream, data, epoll::EventFlags::IN).map_err(io::Error::from)?;
        senders.push(Sender::new(stream)?);
        connected();
    }
    let mut run = Run {
        senders,
        epoll,
        begin: Instant::now(),
        ages: histogram(),
    };
    let count = plan.senders as u64;
    let interval = 1e9 / (plan.rate * plan.senders as f64);
    let total = (plan.measured.as_nanos() as f64 / interval) as u64;
    let before = host.usage();
    let (mut sent, mut last_answer) = (0, run.begin);
    let mut text = String::new();
    loop {
        let elapsed = run.begin.elapsed();
        let due = ((elapsed.as_nanos() as f64 / interval) as u64 + 1).min(total);
        while sent < due {
            let meant = (sent as f64 * interval) as u64;
            text.clear();
            sample::request(&mut text, sent, meant, plan.content_bytes);
            let index = usize::try_from(sent % count).expect("an index");
            run.senders[index].say(&text)?;
            sent += 1;
        }
        let next = run.begin + Duration::from_nanos((due as f64 * interval) as u64);
        let wait = next.saturating_duration_since(Instant::now()).min(TURN);
        if run.receive(if due == total { TURN } else { wait })? {
            last_answer = Instant::now();
        }
        let answered = run.senders.iter().map(Sender::answered).sum::<u64>();
        if sent == total && (answered >= total || elapsed > plan.measured + DRAIN_MAX) {
            break;
        }
    }
    let sum = |figure: fn(&Sender) -> u64| run.senders.iter().map(figure).sum::<u64>();
    let (accepted, refused) = (sum(|sender| sender.echoed), sum(|sender| sender.refused));
    let cpu_micros = before.zip(host.usage()).map(|(before, after)| {
        let each = |time: Duration| time.as_micros() as f64 / accepted.max(1) as f64;
        after.since(&before).map(each)
    });
    Ok(Ingest {
        sent,
        accepted,
        refused,
        wrong: sent.saturating_sub(accepted + refused) + sum(|sender| sender.repeated),
        elapsed: last_answer.duration_since(run.begin),
        ages: Ages::of(&run.ages),
        cpu_micros,
    })
}

struct Run {
    senders: Vec<Sender>,
    epoll: OwnedFd,
    begin: Instant,
    ages: Histogram<u64>,
}

impl Run {
    /// Looks at the senders that got something; whether there was any.
    fn receive(&mut self, wait: Duration) -> Result<bool, BenchError> {
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 256];
        let ready = match epoll::wait(&self.epoll, &mut events, Some(&wait)) {
            Ok((ready, _)) => &*ready,
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        let (begin, count) = (self.begin, self.senders.len() as u64);
        for event in ready {
            let own = event.data.u64();
            let sender = &mut self.senders[usize::try_from(own).expect("an index")];
            let clock = || begin.elapsed().as_nanos() as u64;
            sender.hear(clock, |number| number % count == own, &mut self.ages)?;
        }
        Ok(!ready.is_empty())
    }
}

struct Sender {
    inbox: Inbox,
    out: Outbox,
    // Below it, an own number has come back.
    next: u64,
    echoed: u64,
    repeated: u64,
    refused: u64,
}

impl Sender {
    fn new(stream: TcpStream) -> Result<Self, BenchError> {
        Ok(Self {
            inbox: Inbox::new(stream, BUFFER_BYTES)?,
            out: Outbox::default(),
            next: 0,
            echoed: 0,
            repeated: 0,
            refused: 0,
        })
    }

    fn answered(&self) -> u64 {
        self.echoed + self.refused
    }

    fn say(&mut self, text: &str) -> Result<(), BenchError> {
        self.out.push(TEXT, text.as_bytes());
        self.flush()
    }

    fn flush(&mut self) -> Result<(), BenchError> {
        let written = self.out.flush(&mut self.inbox.stream);
        written.map_err(|error| BenchError::Lost(error.to_string()))
    }

    /// Reads what is there; messages that are not `own` are other senders' of the room.
    fn hear(
        &mut self,
        clock: impl Fn() -> u64,
        own: impl Fn(u64) -> bool,
        ages: &mut Histogram<u64>,
    ) -> Result<(), BenchError> {
        let read = self
            .inbox
            .read(clock, |frame| match sample::numbers(frame.payload) {
                None => self.refused += 1,
                Some((number, _)) if !own(number) => {}
                Some((number, _)) if number < self.next => self.repeated += 1,
                Some((number, meant)) => {
                    self.next = number + 1;
                    self.echoed += 1;
                    ages.saturating_record(frame.now.saturating_sub(meant) / 1000);
                }
            });
        read.map_err(|error| BenchError::Lost(error.to_string()))?;
        if self.inbox.take_ping() {
            self.out.pong();
        }
        // Also what the kernel did not take before.
        self.flush()
    }
}

impl Ingest {
    /// Accepted messages a second.
    pub fn per_second(&self) -> f64 {
        self.accepted as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }

    /// For scripts.
    pub fn json(&self) -> Value {
        json!({
            "accepted_per_second": self.per_second().round(),
            "sent": self.sent,
            "accepted": self.accepted,
            "refused": self.refused,
            "lost_or_repeated": self.wrong,
            "latency_us": self.ages.json(),
            "server_cpu_us_per_message": self.cpu_micros.map(|[user, system]| json!({"user": user, "system": system})),
        })
    }
}

/// What one read of a sender takes.
const BUFFER_BYTES: usize = 32 * 1024;
/// Longest wait for an answer before the clock is looked at.
const TURN: Duration = Duration::from_millis(5);
/// For what is under way when the last message was sent.
const DRAIN_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    /// Goal: a sender counts its own echoes once, repeated ones and refusals, and not its neighbours'
    /// messages.
    #[test]
    fn only_own_echoes_count() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
        let (mut server, _) = listener.accept().expect("just connected");
        let mut sender = Sender::new(client).expect("non-blocking");
        let mut wire = Vec::new();
        for number in [0_u64, 1, 2, 3, 4, 4] {
            let mut text = String::from(r#"{"Content":""#);
            sample::content(&mut text, number, 1_000_000, 0);
            text.push_str(r#""}"#);
            wire.extend([0x81, u8::try_from(text.len()).expect("short")]);
            wire.extend(text.as_bytes());
        }
        wire.extend(b"\x81\x10{\"Type\":\"ERROR\"}");
        server.write_all(&wire).expect("loopback");
        let (mut ages, begun) = (histogram(), Instant::now());
        while sender.answered() < 4 && begun.elapsed() < DRAIN_MAX {
            let even = |number| number % 2 == 0;
            sender.hear(|| 3_000_000, even, &mut ages).expect("open");
        }
        assert_eq!((sender.echoed, sender.repeated, sender.refused), (3, 1, 1));
        assert_eq!((ages.len(), ages.min()), (3, 2000));
    }
}
