//! Rings and epoll keep the same promises: one schedule of calls drives both, over real sockets, and what comes out is
//! the same.
//!
//! Each step is made alone and awaited, so that only the promises are compared, not the kernel's timing: how many bytes
//! a full socket takes, and when it is writable again, is left out.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, sockopt};
use uproar::net::backend::{Backend, Completion, Received};
use uproar::net::epoll::Epoll;
use uproar::net::io::{Io, Key, SendBuffer, Shutdown};
use uproar::net::rings::Rings;

use super::shard::{TINY, byte, pairs};

/// More than a ring's table holds.
const CONNECTIONS: usize = 20;
const STEPS: usize = 400;
const SEEDS: u64 = 4;
/// Never fits the buffers of a socket, which are far smaller.
const LARGE: usize = 2 << 20;
const BUFFER_BYTES: usize = 65_536;
const ENOBUFS: i32 = 105;

/// What a step may do to one connection.
#[derive(Debug, Clone, Copy)]
enum Step {
    PeerWrites(usize),
    PeerUrgent,
    PeerEnds,
    PeerResets,
    Receive,
    Cancel,
    Send(usize),
    Await,
    CancelWaits,
    Drain,
    Shutdown(Shutdown),
    SendAndEnd,
    Close,
}

impl Step {
    fn roll(dice: &mut fastrand::Rng) -> Self {
        match dice.u8(..40) {
            0..=9 => Self::PeerWrites([1, 300, 5_000, 30_000][dice.usize(..4)]),
            10 => Self::PeerUrgent,
            11 => Self::PeerEnds,
            12 => Self::PeerResets,
            13..=20 => Self::Receive,
            21..=24 => Self::Cancel,
            25..=28 => Self::Send([1, 1_000, LARGE][dice.usize(..3)]),
            29..=31 => Self::Await,
            32 => Self::CancelWaits,
            33..=35 => Self::Drain,
            36 => Self::Shutdown(Shutdown::Write),
            37 => Self::Shutdown([Shutdown::Both, Shutdown::Abort][dice.usize(..2)]),
            38 => Self::SendAndEnd,
            _ => Self::Close,
        }
    }
}

/// What is the same for both.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// All the peer wrote since, this many bytes.
    Got(usize),
    ReceiveEnded(Result<usize, ErrorKind>),
    Sent(Class),
    /// The client has got this many bytes, if that is certain, and its stream has ended, or not, or was reset.
    Client(Option<usize>, Result<bool, ErrorKind>),
}

/// A send's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Whole,
    /// A part, or nothing.
    Short,
    Broken,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "what a schedule has done to a connection, each on its own"
)]
struct Connection<F> {
    file: Option<F>,
    client: TcpStream,
    // Bytes that the client has written, and those of them that were received.
    written: usize,
    received: usize,
    // Bytes that were taken from us, and those of them that the client has read.
    sent: usize,
    read: usize,
    is_receiving: bool,
    is_sending: bool,
    is_waiting: bool,
    // The client has ended its stream, or the connection.
    client_is_over: bool,
    is_shut: bool,
    // A send was not finished.
    is_cut: bool,
    rest: Option<SendBuffer>,
}

struct World<B: Backend> {
    io: B,
    all: Vec<Connection<B::FixedFile>>,
    outcomes: Vec<(usize, Outcome)>,
    // Sends are repeated until the client has all.
    is_draining: bool,
}

impl<F> Connection<F> {
    fn has_rest(&self) -> bool {
        self.is_waiting || self.rest.is_some()
    }

    fn file(&self) -> &F {
        self.file.as_ref().expect("it is open")
    }
}

impl<B: Backend> World<B> {
    fn new(mut io: B) -> Self {
        let all = pairs(CONNECTIONS).map(|(ours, client)| {
            sockopt::set_socket_send_buffer_size(&ours, BUFFER_BYTES).unwrap();
            sockopt::set_socket_recv_buffer_size(&client, BUFFER_BYTES).unwrap();
            client.set_nonblocking(true).unwrap();
            Connection {
                file: Some(io.install(ours).expect("a place")),
                client,
                written: 0,
                received: 0,
                sent: 0,
                read: 0,
                is_receiving: false,
                is_sending: false,
                is_waiting: false,
                client_is_over: false,
                is_shut: false,
                is_cut: false,
                rest: None,
            }
        });
        let all = all.collect();
        Self {
            io,
            all,
            outcomes: Vec::new(),
            is_draining: false,
        }
    }

    fn note(&mut self, at: usize, outcome: Outcome) {
        self.outcomes.push((at, outcome));
    }

    fn turns(&mut self, at: usize, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..100_000 {
            self.io.enter().expect("it works");
            let mut is_idle = true;
            while let Some(completion) = self.io.next_completion() {
                self.take(completion);
                is_idle = false;
            }
            if done(self) {
                return;
            }
            if is_idle {
                std::thread::sleep(Duration::from_micros(20));
            }
        }
        panic!("it never ends: {at}, {:?}", self.outcomes);
    }

    fn take(&mut self, completion: Completion<B::Buffer>) {
        match completion {
            Completion::Received {
                key,
                buffer,
                result,
                more,
            } => {
                let at = usize::try_from(key).unwrap();
                let one = &mut self.all[at];
                assert!(one.is_receiving, "{at}: nobody asked");
                if let Some(mut buffer) = buffer {
                    let len = buffer.received();
                    let numbered = (one.received..).map(byte);
                    let mut bytes = buffer.bytes()[..len].iter().zip(numbered);
                    assert!(bytes.all(|(got, said)| *got == said), "{at}");
                    one.received += len;
                    self.io.recycle(buffer);
                }
                if more {
                    return;
                }
                one.is_receiving = false;
                match result {
                    Err(error) if error.raw_os_error() == Some(ENOBUFS) => self.receive(at),
                    Ok(1..) => self.receive(at),
                    ended => {
                        let ended = ended.map_err(|error| error.kind());
                        self.note(at, Outcome::ReceiveEnded(ended));
                    }
                }
            }
            Completion::Sent {
                key,
                mut outgoing,
                result,
            } => {
                let at = usize::try_from(key).unwrap();
                let one = &mut self.all[at];
                assert!(std::mem::take(&mut one.is_sending), "{at}: nobody sent");
                let class = match result {
                    Ok(len) => {
                        one.sent += len;
                        outgoing.advance(len);
                        if outgoing.remaining() > 0 {
                            one.rest = Some(outgoing);
                            Class::Short
                        } else {
                            Class::Whole
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        one.rest = Some(outgoing);
                        Class::Short
                    }
                    Err(_) => Class::Broken,
                };
                if !self.is_draining {
                    self.note(at, Outcome::Sent(class));
                }
            }
            Completion::Writable { key, outgoing } => {
                let at = usize::try_from(key).unwrap();
                let one = &mut self.all[at];
                assert!(std::mem::take(&mut one.is_waiting), "{at}: nobody waits");
                one.rest = Some(outgoing);
            }
        }
    }

    fn receive(&mut self, at: usize) {
        let one = &mut self.all[at];
        one.is_receiving = true;
        self.io.receive(one.file(), at as Key);
    }

    fn send(&mut self, at: usize, outgoing: SendBuffer) {
        let one = &mut self.all[at];
        one.is_sending = true;
        self.io.send(one.file(), at as Key, outgoing);
    }

    /// The next `len` bytes of what we say.
    fn next_bytes(&self, at: usize, len: usize) -> SendBuffer {
        let from = self.all[at].sent;
        SendBuffer::owned((from..from + len).map(byte).collect())
    }

    /// Waits until what the client wrote is received, or until its end or reset is.
    fn await_client(&mut self, at: usize) {
        if !self.all[at].is_receiving {
            return;
        }
        let before = self.all[at].received;
        self.turns(at, |world| {
            let one = &world.all[at];
            let has_all = one.received == one.written;
            !one.is_receiving || has_all && !one.client_is_over
        });
        let got = self.all[at].received - before;
        self.note(at, Outcome::Got(got));
    }

    /// Reads what the client has got; its end is `Ok(true)`.
    fn read_client(&mut self, at: usize) -> Result<bool, ErrorKind> {
        let one = &mut self.all[at];
        let mut part = [0; 16_384];
        loop {
            match one.client.read(&mut part) {
                Ok(0) => return Ok(true),
                Ok(len) => {
                    let mut bytes = part[..len].iter().zip((one.read..).map(byte));
                    assert!(bytes.all(|(got, said)| *got == said), "{at}");
                    one.read += len;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.kind()),
            }
        }
    }

    /// Waits until the client's stream has ended.
    fn await_end(&mut self, at: usize) {
        let mut end = Ok(false);
        self.turns(at, |world| {
            end = world.read_client(at);
            end != Ok(false)
        });
        let one = &self.all[at];
        // Of a send that was cut off the kernel may have had any part.
        let all = (!one.is_cut).then_some(one.read);
        // Closed with bytes unread, the kernel resets a stream whose end it could not send yet: that races with the client.
        let may_be_either = one.is_cut && one.received < one.written;
        let end = if may_be_either { Ok(true) } else { end };
        self.note(at, Outcome::Client(all, end));
    }

    /// Does a step where it makes sense.
    fn step(&mut self, at: usize, step: Step) {
        let one = &self.all[at];
        let is_open = one.file.is_some() && !one.is_shut;
        let may_send = is_open && !one.client_is_over && !one.has_rest();
        match step {
            _ if one.file.is_none() => {}
            Step::PeerWrites(len) if is_open && !one.client_is_over => self.client_writes(at, len),
            Step::PeerUrgent if is_open && !one.client_is_over && one.is_receiving => {
                rustix::net::send(one.client.as_fd(), b"!", SendFlags::OOB).unwrap();
                self.client_writes(at, 300);
            }
            Step::PeerEnds if is_open && !one.client_is_over => {
                one.client.shutdown(std::net::Shutdown::Write).unwrap();
                self.all[at].client_is_over = true;
                self.await_client(at);
            }
            Step::PeerResets if is_open && !one.client_is_over => self.client_resets(at),
            Step::Receive if is_open && !one.is_receiving => {
                self.receive(at);
                self.await_client(at);
            }
            Step::Cancel if one.is_receiving => {
                self.io.cancel_receive(one.file(), at as Key);
                self.turns(at, |world| !world.all[at].is_receiving);
            }
            Step::Send(len) if may_send => {
                let bytes = self.next_bytes(at, len);
                self.send(at, bytes);
                self.turns(at, |world| !world.all[at].is_sending);
            }
            Step::Await if is_open && one.rest.is_some() => {
                let one = &mut self.all[at];
                let rest = one.rest.take().expect("just seen");
                one.is_waiting = true;
                self.io.await_writable(one.file(), at as Key, rest);
            }
            Step::CancelWaits => self.cancel_waits(at),
            Step::Drain if is_open && !one.client_is_over => self.drain(at),
            Step::Shutdown(how) if is_open && (how != Shutdown::Write || !one.has_rest()) => {
                self.shut_down(at, how);
            }
            Step::SendAndEnd if may_send => {
                let bytes = self.next_bytes(at, 1_000);
                self.send(at, bytes);
                self.shut_down(at, Shutdown::Write);
            }
            Step::Close if !one.is_receiving && !one.has_rest() => {
                let one = &mut self.all[at];
                let file = one.file.take().expect("just seen");
                self.io.close(file);
                self.await_end(at);
            }
            _ => {}
        }
    }

    fn client_writes(&mut self, at: usize, len: usize) {
        let one = &mut self.all[at];
        // A shard that does not receive takes little.
        if one.written - one.received > BUFFER_BYTES / 2 {
            return;
        }
        let bytes: Vec<u8> = (one.written..one.written + len).map(byte).collect();
        one.client.write_all(&bytes).expect("it fits");
        one.written += len;
        self.await_client(at);
    }

    /// A reset ends the receive and the wait, and the next send fails.
    fn client_resets(&mut self, at: usize) {
        let one = &mut self.all[at];
        sockopt::set_socket_linger(&one.client, Some(Duration::ZERO)).unwrap();
        let gone = std::mem::replace(&mut one.client, other_client());
        drop(gone);
        one.client_is_over = true;
        self.turns(at, |world| {
            !world.all[at].is_receiving && !world.all[at].is_waiting
        });
        let bytes = SendBuffer::owned(vec![0; 10]);
        self.all[at].rest = None;
        self.send(at, bytes);
        self.turns(at, |world| !world.all[at].is_sending);
        self.finish(at);
    }

    /// Every wait ends, each with its bytes.
    fn cancel_waits(&mut self, at: usize) {
        self.io.cancel_waits();
        self.turns(at, |world| !world.all.iter().any(|one| one.is_waiting));
    }

    /// The client reads until it has got everything that was begun.
    fn drain(&mut self, at: usize) {
        self.is_draining = true;
        self.turns(at, |world| {
            let _open = world.read_client(at);
            let one = &mut world.all[at];
            if one.is_waiting || one.is_sending {
                return false;
            }
            match one.rest.take() {
                Some(rest) => {
                    world.send(at, rest);
                    false
                }
                None => one.read == one.sent,
            }
        });
        self.is_draining = false;
        let all = self.all[at].read;
        self.note(at, Outcome::Client(Some(all), Ok(false)));
    }

    /// Ends the connection as the core does: our direction first, or both at once.
    fn shut_down(&mut self, at: usize, how: Shutdown) {
        let one = &mut self.all[at];
        one.is_shut = true;
        one.is_cut = one.has_rest();
        self.io.shutdown(one.file(), how);
        if how == Shutdown::Write {
            self.turns(at, |world| !world.all[at].is_sending);
            self.await_end(at);
            self.io.shutdown(self.all[at].file(), Shutdown::Both);
            self.finish(at);
        } else {
            self.finish(at);
            self.await_end(at);
        }
    }

    /// Nothing is pending any more: it is closed, as the core does.
    fn finish(&mut self, at: usize) {
        self.all[at].is_shut = true;
        self.turns(at, |world| {
            let one = &world.all[at];
            !one.is_receiving && !one.is_sending && !one.is_waiting
        });
        let one = &mut self.all[at];
        one.rest = None;
        let file = one.file.take().expect("it is open");
        self.io.close(file);
        self.io.enter().expect("it works");
    }
}

/// Stands for a client that is gone.
fn other_client() -> TcpStream {
    pairs(1).next().expect("one").1
}

fn run<B: Backend>(io: B, seed: u64) -> Vec<(usize, Outcome)> {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut world = World::new(io);
    for _ in 0..STEPS {
        let at = dice.usize(..CONNECTIONS);
        let step = Step::roll(&mut dice);
        world.step(at, step);
    }
    world.outcomes
}

/// Goal: the same calls have the same outcome with rings and with epoll: which bytes arrive, how receives, sends and waits
/// end, and how the client's stream does. Method: random schedules by seed over 20 real connections, with clients that
/// write, send urgent bytes, read late, end and reset; rings far too small for them.
#[test]
fn rings_and_epoll_keep_the_same_promises() {
    let first = fastrand::u64(..);
    let mut kinds = [0; 4];
    for seed in (0..SEEDS).map(|more| first.wrapping_add(more)) {
        let rings = run(Rings::of(TINY).expect("io_uring is allowed"), seed);
        let epoll = run(Epoll::new().expect("a descriptor"), seed);
        for (index, (of_rings, of_epoll)) in rings.iter().zip(&epoll).enumerate() {
            assert_eq!(of_rings, of_epoll, "seed {seed}, outcome {index}");
        }
        assert_eq!(rings.len(), epoll.len(), "seed {seed}");
        for (_, outcome) in &rings {
            kinds[match outcome {
                Outcome::Got(_) => 0,
                Outcome::ReceiveEnded(_) => 1,
                Outcome::Sent(_) => 2,
                Outcome::Client(..) => 3,
            }] += 1;
        }
    }
    assert!(kinds.iter().all(|count| *count > 10), "{kinds:?}");
}

/// Goal: with epoll a connection with much to read receives once a turn, and others are served beside it.
#[test]
fn a_fast_sender_waits_for_its_next_turn() {
    let mut io = Epoll::new().expect("a descriptor");
    let mut ends = Vec::new();
    for (key, (ours, mut client)) in (0..).zip(pairs(2)) {
        let file = io.install(ours).expect("a descriptor");
        io.receive(&file, key);
        let len = if key == 0 { 50_000 } else { 10 };
        client.write_all(&vec![0; len]).expect("it fits");
        ends.push((file, client));
    }
    for turn in 0..5 {
        io.enter().expect("it works");
        let mut received = [0, 0];
        while let Some(completion) = io.next_completion() {
            let Completion::Received {
                key,
                buffer: Some(buffer),
                more: true,
                ..
            } = completion
            else {
                panic!("{completion:?}");
            };
            received[usize::try_from(key).unwrap()] += 1;
            io.recycle(buffer);
        }
        assert_eq!(received, [1, usize::from(turn == 0)], "turn {turn}");
        assert!(io.has_completions(), "the rest of the first one");
    }
}

/// Goal: a connection that its peer resets while nothing is received, as in a frozen shard, wakes the shard once, and not
/// for ever.
#[test]
fn a_reset_that_nobody_waits_for_wakes_once() {
    let mut io = Epoll::new().expect("a descriptor");
    let (ours, client) = pairs(1).next().expect("one");
    let file = io.install(ours).expect("a descriptor");
    let wakes = |io: &Epoll| {
        let event = io.event();
        let mut polled = [PollFd::new(&event, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec::default())).expect("a descriptor") > 0
    };
    io.enter().expect("it works");
    assert!(!wakes(&io));
    sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
    assert!(wakes(&io));
    io.enter().expect("it works");
    assert!(!wakes(&io) && !io.has_completions());
    io.receive(&file, 0);
    io.enter().expect("it works");
    let ended = io.next_completion().expect("the reset is not forgotten");
    let Completion::Received { result, .. } = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset);
}
