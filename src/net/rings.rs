//! A shard's rings: one while its connections fit the first one's table, one more whenever all are full.
//!
//! A ring's table of connections is bounded by the limit on open files, but each ring has its own, and
//! a connection in a table takes no descriptor of the process. So that limit bounds handshakes under
//! way, not viewers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};

use rustix::event::EventfdFlags;
use rustix::process::{Resource, getrlimit};

use super::buffers::Filled;
use super::ring::{Completion, Place, Ring, Sizes};
use super::wire::{Key, Outgoing, Queued, Shutdown, Wire};
use crate::base::limits::{RING_CONNECTIONS_MAX, RINGS_MAX};

/// Where a connection is: which ring, and where in its table.
#[derive(Debug, PartialEq, Eq)]
pub struct Seat {
    ring: u16,
    place: Place,
}

/// The rings of one shard; used only by the thread that made them.
pub struct Rings {
    all: Vec<Ring>,
    sizes: Sizes,
    // The ring whose completions are being taken.
    current: usize,
    // Signalled by all of them.
    event: OwnedFd,
}

impl Rings {
    /// Sets up the first ring; its table as large as the limit on open files allows, at most
    /// [`RING_CONNECTIONS_MAX`] connections.
    ///
    /// # Errors
    ///
    /// As [`Ring::new`].
    pub fn new() -> io::Result<Self> {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let places = u32::try_from(limit).unwrap_or(u32::MAX);
        Self::of(Sizes::usual(places.clamp(1, RING_CONNECTIONS_MAX)))
    }

    /// As [`Rings::new`], each ring of these sizes.
    ///
    /// # Errors
    ///
    /// As [`Ring::new`].
    pub fn of(sizes: Sizes) -> io::Result<Self> {
        let event = rustix::event::eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let first = Ring::new(0, sizes, event.as_fd())?;
        Ok(Self {
            all: vec![first],
            sizes,
            current: 0,
            event,
        })
    }

    /// Enters the first ring once; names of the operations of both of a shard's runtimes that this
    /// kernel lacks.
    pub fn try_out(&mut self) -> io::Result<Vec<&'static str>> {
        self.all[0].enter()?;
        self.all[0].missing_operations()
    }

    /// Readable when completions wait.
    pub fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Whether completions signal [`Rings::event`]. Off while the shard is awake anyway. After
    /// switching on, look for completions once more before sleeping.
    pub fn signal(&mut self, on: bool) {
        for ring in &mut self.all {
            ring.signal(on);
        }
        // Pairs with the kernel's: it queues work, then looks at the switch; we set the switch, then
        // look for work.
        fence(Ordering::SeqCst);
    }

    /// Submits everything queued and runs the kernel's deferred work: one syscall a turn for each ring
    /// that has either, and a few more where the kernel leaves work.
    pub fn enter(&mut self) -> io::Result<()> {
        for ring in &mut self.all {
            if ring.wants_entry() {
                ring.enter()?;
            }
        }
        Ok(())
    }

    /// The next completion, if any arrived.
    pub fn next_completion(&mut self) -> Option<Completion> {
        for _ in 0..self.all.len() {
            let completion = self.all.get_mut(self.current)?.next_completion();
            if completion.is_some() {
                return completion;
            }
            self.current = (self.current + 1) % self.all.len();
        }
        None
    }

    /// Whether completions wait, or work that the next [`Rings::enter`] turns into completions.
    pub fn has_completions(&mut self) -> bool {
        self.all.iter_mut().any(Ring::has_completions)
    }

    /// Completions the kernel could not place in a queue and kept aside.
    pub fn overflow_count(&mut self) -> u32 {
        let overflows = self.all.iter_mut().map(Ring::overflow_count);
        overflows.fold(0, u32::wrapping_add)
    }

    /// Gives a receive buffer back to the kernel.
    pub fn recycle(&mut self, filled: Filled) {
        self.all[usize::from(filled.ring())].recycle(filled);
    }

    /// Sends queued since the last call.
    pub fn take_queued(&mut self) -> Queued {
        let mut queued = Queued::default();
        for ring in &mut self.all {
            queued += ring.take_queued();
        }
        queued
    }

    /// Rings there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    fn with_vacancy(&mut self) -> io::Result<u16> {
        if let Some(ring) = self.all.iter().position(Ring::has_vacancy) {
            return Ok(u16::try_from(ring).expect("at most RINGS_MAX"));
        }
        let number = u16::try_from(self.all.len()).expect("at most RINGS_MAX");
        if number >= RINGS_MAX {
            return Err(io::Error::other(format!(
                "{RINGS_MAX} rings of {} connections are full: raise the limit on open files",
                self.sizes.places
            )));
        }
        let sizes = Sizes {
            buffers: self.sizes.buffers_further,
            ..self.sizes
        };
        let mut ring = Ring::new(number, sizes, self.event.as_fd())?;
        // Installing happens while the shard is awake, and awake it wants no signals.
        ring.signal(false);
        self.all.push(ring);
        Ok(number)
    }

    fn ring(&mut self, seat: &Seat) -> &mut Ring {
        &mut self.all[usize::from(seat.ring)]
    }
}

/// Connections that `shards` shards hold at most under a limit of `open_files` descriptors, of which
/// `kept` serve other ends: half of the rest may become further rings, half is for handshakes. Beyond
/// 67 million connections a shard [`RINGS_MAX`] comes first.
pub fn capacity(open_files: u64, kept: u64, shards: u64) -> u64 {
    let places = open_files.min(RING_CONNECTIONS_MAX.into());
    let further = open_files.saturating_sub(kept) / 2;
    places.saturating_mul(shards.saturating_add(further))
}

impl Wire for Rings {
    type Socket = OwnedFd;
    type Seat = Seat;

    fn install(&mut self, socket: OwnedFd) -> io::Result<Seat> {
        let ring = self.with_vacancy()?;
        let place = self.all[usize::from(ring)].install(&socket)?;
        Ok(Seat { ring, place })
    }

    fn receive(&mut self, seat: &Seat, key: Key) {
        self.ring(seat).receive(seat.place, key);
    }

    fn send(&mut self, seat: &Seat, key: Key, outgoing: Outgoing) {
        self.ring(seat).send(seat.place, key, outgoing);
    }

    fn await_room(&mut self, seat: &Seat, key: Key, outgoing: Outgoing) {
        self.ring(seat).await_room(seat.place, key, outgoing);
    }

    fn shutdown(&mut self, seat: &Seat, how: Shutdown) {
        self.ring(seat).shutdown(seat.place, how);
    }

    fn close(&mut self, seat: Seat) {
        self.ring(&seat).close(seat.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    /// Turns until `take`, to which each completion goes, has seen what it waits for.
    fn turns(rings: &mut Rings, mut take: impl FnMut(&mut Rings, Completion) -> bool) {
        for _ in 0..1_000_000 {
            rings.enter().expect("the ring works");
            while let Some(completion) = rings.next_completion() {
                if take(rings, completion) {
                    return;
                }
            }
            // A turn without work is no system call: without a pause a million of them may be over before
            // a kernel worker has run a shutdown, on a busy machine.
            std::thread::sleep(std::time::Duration::from_micros(50));
        }
        panic!("nothing more completes");
    }

    /// The next bytes received, and whose.
    fn received(rings: &mut Rings) -> (Key, Vec<u8>) {
        let mut got = None;
        turns(rings, |rings, completion| {
            let Completion::Received { key, filled, .. } = completion else {
                return false;
            };
            let mut filled = filled.expect("bytes, not the end");
            let len = filled.received();
            got = Some((key, filled.bytes()[..len].to_vec()));
            rings.recycle(filled);
            true
        });
        got.expect("just received")
    }

    /// Goal: connections beyond a ring's table go to further rings, and each one's bytes come and go
    /// under its own key; a place that was closed serves another connection, and only that one hears
    /// what is sent to it. Method: tables of two places, five connections, then one closed while its
    /// shutdown is under way and one more in its place.
    #[test]
    fn further_rings_take_what_the_first_cannot() {
        let mut rings = Rings::of(Sizes::usual(2)).expect("io_uring is allowed");
        let mut ends = Vec::new();
        for key in 0..5 {
            let (ours, theirs) = UnixStream::pair().expect("descriptors");
            let seat = rings.install(ours.into()).expect("a place");
            rings.receive(&seat, key);
            ends.push((seat, theirs));
        }
        assert_eq!(rings.count(), 3);
        for (key, (seat, theirs)) in (0..).zip(&mut ends) {
            theirs.write_all(&[b'0' + key]).expect("open");
            assert_eq!(received(&mut rings), (key.into(), vec![b'0' + key]));
            rings.send(seat, key.into(), Outgoing::owned(vec![b'a' + key]));
            turns(&mut rings, |_, completion| {
                matches!(completion, Completion::Sent { result: Ok(1), .. })
            });
            let mut byte = [0];
            theirs.read_exact(&mut byte).expect("open");
            assert_eq!(byte, [b'a' + key]);
        }

        let (seat, mut gone) = ends.remove(2);
        rings.shutdown(&seat, Shutdown::Both);
        turns(&mut rings, |_, completion| {
            matches!(
                completion,
                Completion::Received {
                    key: 2,
                    more: false,
                    ..
                }
            )
        });
        rings.close(seat);
        let mut nothing = Vec::new();
        assert_eq!(gone.read_to_end(&mut nothing).expect("an end"), 0);

        let mut seats = Vec::new();
        for key in 5..7 {
            let (ours, mut theirs) = UnixStream::pair().expect("descriptors");
            // The close may be under way still: then the newcomer gets a place elsewhere.
            let seat = rings.install(ours.into()).expect("a place");
            rings.receive(&seat, key);
            theirs.write_all(b"new").expect("open");
            assert_eq!(received(&mut rings), (key, b"new".to_vec()));
            seats.push((seat, theirs));
        }
        assert!(rings.count() <= 4);
    }

    /// Goal: an abort drops what the kernel holds for a peer that does not read; a shutdown keeps it.
    /// Method: fill a connection, end it either way, read to the end: everything and an orderly end, or a
    /// reset.
    #[test]
    fn an_abort_resets_and_a_shutdown_delivers() {
        for (how, is_reset) in [(Shutdown::Both, false), (Shutdown::Abort, true)] {
            let mut rings = Rings::of(Sizes::usual(2)).expect("io_uring is allowed");
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
            let address = listener.local_addr().expect("bound");
            let mut theirs = std::net::TcpStream::connect(address).expect("listening");
            let (ours, _) = listener.accept().expect("a client");
            let seat = rings.install(ours.into()).expect("a place");
            rings.receive(&seat, 1);
            let (mut sent, mut chunk) = (0, Outgoing::owned(vec![b'x'; 1 << 20]));
            loop {
                rings.send(&seat, 1, chunk);
                let mut taken = None;
                turns(&mut rings, |_, completion| {
                    if let Completion::Sent { result, .. } = completion {
                        taken = Some(result);
                    }
                    taken.is_some()
                });
                match taken.expect("just completed") {
                    Ok(len) => sent += len,
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        break;
                    }
                }
                chunk = Outgoing::owned(vec![b'x'; 1 << 20]);
            }
            rings.shutdown(&seat, how);
            turns(&mut rings, |_, completion| {
                matches!(completion, Completion::Received { more: false, .. })
            });
            rings.close(seat);
            // The close is submitted, at the latest behind a worker's shutdown.
            let mut got = Vec::new();
            theirs.set_nonblocking(true).expect("a socket");
            let end = loop {
                rings.enter().expect("the ring works");
                while rings.next_completion().is_some() {}
                match theirs.read_to_end(&mut got) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        std::thread::sleep(std::time::Duration::from_micros(50));
                    }
                    end => break end.map_err(|error| error.kind()),
                }
            };
            if is_reset {
                assert_eq!(end, Err(io::ErrorKind::ConnectionReset));
                assert!(got.len() < sent, "what was not yet on its way is dropped");
            } else {
                assert!(end.is_ok(), "{end:?}");
                assert_eq!(got.len(), sent);
            }
        }
    }

    /// Goal: more descriptors never mean fewer connections, and a small limit carries a crowd.
    #[test]
    fn capacity_grows_with_the_limit() {
        let mut before = 0;
        for limit in (0..200_000).step_by(97) {
            let now = capacity(limit, 544, 2);
            assert!(now >= before, "{limit}");
            before = now;
        }
        assert_eq!(capacity(544, 544, 2), 1088);
        assert!(capacity(1024, 544, 2) > 200_000);
    }
}
