//! A shard's rings: one while its connections fit the first table, and one more whenever all are full.
//!
//! The limit on open files bounds a ring's table of fixed files, but each ring has its own, and a fixed file
//! takes no descriptor of the process. So that limit bounds handshakes in progress, not viewers.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};

use rustix::event::EventfdFlags;
use rustix::process::{Resource, getrlimit};

use super::backend::{Backend, Kind};
use super::buffers::ReceivedBuffer;
use super::io::{Io, Key, Queued, SendBuffer, Shutdown};
use super::ring::{Completion, FixedIndex, Ring, Sizes, hand_over};
use uproar_proto::base::limits::{DESCRIPTORS_A_MESSAGE_MAX, RING_CONNECTIONS_MAX, RINGS_MAX};

/// A connection's fixed file: its ring, and its index in the ring's table.
#[derive(Debug, PartialEq, Eq)]
pub struct FixedFile {
    ring: u16,
    place: FixedIndex,
}

impl FixedFile {
    /// Returns where the kernel has it, for [`Rings::detach`].
    pub fn place(&self) -> FixedPlace {
        FixedPlace {
            ring: self.ring,
            place: self.place,
        }
    }
}

/// Where the kernel has a connection: a copy of its [`FixedFile`] that keeps nothing open. It is good until that
/// is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedPlace {
    ring: u16,
    place: FixedIndex,
}

/// The rings of one shard, used only by the thread that made them: the kernel lets no other submit
/// (`IORING_SETUP_SINGLE_ISSUER`). So neither they nor a core that has them can be sent to another
/// thread:
///
/// ```compile_fail,E0277
/// fn needs_send<T: Send>() {}
/// needs_send::<uproar::shard::core::Core<uproar::net::rings::Rings>>();
/// ```
pub struct Rings {
    all: Vec<Ring>,
    sizes: Sizes,
    // Index of the ring whose completions are being taken.
    current: usize,
    // The eventfd that all rings signal.
    event: OwnedFd,
    // Makes it neither `Send` nor `Sync`.
    of_one_thread: PhantomData<*const ()>,
}

impl Rings {
    /// Sets up the first ring; its table is as large as the limit on open files allows, at most
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

    /// As [`Rings::new`], with these sizes for each ring.
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
            of_one_thread: PhantomData,
        })
    }

    /// Enters the first ring once; returns the names of the operations of both of a shard's runtimes that this
    /// kernel lacks.
    pub fn try_out(&mut self) -> io::Result<Vec<&'static str>> {
        self.all[0].enter()?;
        self.all[0].missing_operations()
    }

    /// Tries out rings far smaller than a shard's; as [`Rings::try_out`].
    ///
    /// # Errors
    ///
    /// As [`Ring::new`].
    pub fn try_small() -> io::Result<Vec<&'static str>> {
        Self::of(Sizes {
            places: 8,
            entries: 8,
            completions: 16,
            buffers: 1,
            buffers_further: 1,
        })?
        .try_out()
    }

    /// Whether this kernel can make plain descriptors of fixed files, which a hand-over needs: Linux 6.8.
    ///
    /// # Errors
    ///
    /// The kernel's error when it cannot be asked.
    pub fn can_detach() -> io::Result<bool> {
        hand_over::can_detach()
    }

    /// Makes a plain descriptor beside each of `files`, in their order, close-on-exec. Both are valid and are closed
    /// apart: closing one keeps the connection. It costs one entry for each ring, 0.5 µs a descriptor.
    ///
    /// Completions of other operations that come meanwhile are put into `others`, for the caller to handle.
    ///
    /// # Errors
    ///
    /// `EMFILE` at the limit on open files; `EINVAL` before Linux 6.8 ([`Rings::can_detach`]); else as
    /// [`Rings::enter`]. Nothing has changed then: the descriptors made so far are closed.
    ///
    /// # Panics
    ///
    /// If `files` are more than [`DESCRIPTORS_A_MESSAGE_MAX`].
    pub fn detach(
        &mut self,
        files: &[FixedPlace],
        others: &mut Vec<Completion>,
    ) -> io::Result<Vec<OwnedFd>> {
        assert!(files.len() <= DESCRIPTORS_A_MESSAGE_MAX, "one message's");
        for (position, file) in (0..).zip(files) {
            self.all[usize::from(file.ring)].detach(file.place, position);
        }
        let mut made: Vec<Option<io::Result<OwnedFd>>> = Vec::new();
        made.resize_with(files.len(), || None);
        let mut left = files.len();
        while left > 0 {
            // The kernel makes them as it takes the submissions. So the first entry has them all, unless memory is
            // short or completions overflow: then the ring itself says when it is useless.
            self.enter()?;
            while let Some(other) = self.next_completion() {
                others.push(other);
            }
            for (position, descriptor) in self.all.iter_mut().flat_map(Ring::take_detached) {
                made[usize::from(position)] = Some(descriptor);
                left -= 1;
            }
        }
        made.into_iter().flatten().collect()
    }

    /// Returns the eventfd, which is readable when completions wait.
    pub fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Sets whether completions signal [`Rings::event`]; off while the shard is awake. After switching it on,
    /// check for completions once more before sleeping.
    pub fn signal(&mut self, on: bool) {
        for ring in &mut self.all {
            ring.signal(on);
        }
        // Pairs with the kernel's fence: it queues work, then reads the switch; we set the switch, then look
        // for work.
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

    /// Takes the next completion, if any arrived.
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

    /// Number of completions that did not fit into a queue and that the kernel kept.
    pub fn overflow_count(&mut self) -> u32 {
        let overflows = self.all.iter_mut().map(Ring::overflow_count);
        overflows.fold(0, u32::wrapping_add)
    }

    /// Gives a receive buffer back to the kernel.
    pub fn recycle(&mut self, buffer: ReceivedBuffer) {
        self.all[usize::from(buffer.ring())].recycle(buffer);
    }

    /// Takes the count of sends queued since the last call.
    pub fn take_queued(&mut self) -> Queued {
        let mut queued = Queued::default();
        for ring in &mut self.all {
            queued += ring.take_queued();
        }
        queued
    }

    /// Number of rings.
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
        // Connections are installed while the shard is awake, when it needs no signals.
        ring.signal(false);
        self.all.push(ring);
        Ok(number)
    }

    fn ring(&mut self, file: &FixedFile) -> &mut Ring {
        &mut self.all[usize::from(file.ring)]
    }
}

/// Returns the most connections that `shards` shards hold under a limit of `open_files` descriptors, of which
/// `kept` are for other uses: half of the rest may become further rings, half is for handshakes. Beyond
/// 67 million connections per shard [`RINGS_MAX`] is the limit.
pub fn capacity(open_files: u64, kept: u64, shards: u64) -> u64 {
    let places = open_files.min(RING_CONNECTIONS_MAX.into());
    let further = open_files.saturating_sub(kept) / 2;
    places.saturating_mul(shards.saturating_add(further))
}

impl Io for Rings {
    type Socket = OwnedFd;
    type FixedFile = FixedFile;

    fn install(&mut self, socket: OwnedFd) -> io::Result<FixedFile> {
        let ring = self.with_vacancy()?;
        let place = self.all[usize::from(ring)].install(&socket)?;
        Ok(FixedFile { ring, place })
    }

    fn receive(&mut self, file: &FixedFile, key: Key) {
        self.ring(file).receive(file.place, key);
    }

    fn send(&mut self, file: &FixedFile, key: Key, outgoing: SendBuffer) {
        self.ring(file).send(file.place, key, outgoing);
    }

    fn await_writable(&mut self, file: &FixedFile, key: Key, outgoing: SendBuffer) {
        self.ring(file).await_writable(file.place, key, outgoing);
    }

    fn cancel_receive(&mut self, file: &FixedFile, key: Key) {
        self.ring(file).cancel_receive(key);
    }

    fn cancel_waits(&mut self) {
        self.all.iter_mut().for_each(Ring::cancel_waits);
    }

    fn shutdown(&mut self, file: &FixedFile, how: Shutdown) {
        self.ring(file).shutdown(file.place, how);
    }

    fn close(&mut self, file: FixedFile) {
        self.ring(&file).close(file.place);
    }
}

impl Backend for Rings {
    const KIND: Kind = Kind::IoUring;

    type Buffer = ReceivedBuffer;
    type Place = FixedPlace;

    fn set_up() -> io::Result<Self> {
        Self::new()
    }

    fn event(&self) -> BorrowedFd<'_> {
        Self::event(self)
    }

    fn signal(&mut self, on: bool) {
        Self::signal(self, on);
    }

    fn enter(&mut self) -> io::Result<()> {
        Self::enter(self)
    }

    fn next_completion(&mut self) -> Option<Completion> {
        Self::next_completion(self)
    }

    fn has_completions(&mut self) -> bool {
        Self::has_completions(self)
    }

    fn recycle(&mut self, buffer: ReceivedBuffer) {
        Self::recycle(self, buffer);
    }

    fn take_queued(&mut self) -> Queued {
        Self::take_queued(self)
    }

    fn rings(&self) -> usize {
        self.count()
    }

    fn overflows(&mut self) -> u32 {
        self.overflow_count()
    }

    fn place(file: &FixedFile) -> FixedPlace {
        file.place()
    }

    fn detach(
        &mut self,
        places: &[FixedPlace],
        others: &mut Vec<Completion>,
    ) -> io::Result<Vec<OwnedFd>> {
        Self::detach(self, places, others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    /// Runs turns, and hands each completion to `take` until it returns true.
    fn turns(rings: &mut Rings, mut take: impl FnMut(&mut Rings, Completion) -> bool) {
        for _ in 0..1_000_000 {
            rings.enter().expect("the ring works");
            while let Some(completion) = rings.next_completion() {
                if take(rings, completion) {
                    return;
                }
            }
            // A turn without work makes no system call: without a pause, a million turns may pass on a busy machine
            // before a kernel worker has run a shutdown.
            std::thread::sleep(std::time::Duration::from_micros(50));
        }
        panic!("nothing more completes");
    }

    /// Returns the next received bytes with the connection's key.
    fn received(rings: &mut Rings) -> (Key, Vec<u8>) {
        let mut got = None;
        turns(rings, |rings, completion| {
            let Completion::Received { key, buffer, .. } = completion else {
                return false;
            };
            let mut buffer = buffer.expect("bytes, not the end");
            let len = buffer.received();
            got = Some((key, buffer.bytes()[..len].to_vec()));
            rings.recycle(buffer);
            true
        });
        got.expect("just received")
    }

    /// Goal: connections beyond a ring's table go to further rings, and the bytes of each keep its own key; a
    /// closed fixed file serves another connection, and only that one receives its bytes. Method: tables of two
    /// fixed files, five connections, then one closed while its shutdown is pending and one more in its
    /// place.
    #[test]
    fn further_rings_take_connections_beyond_the_first() {
        let mut rings = Rings::of(Sizes::usual(2)).expect("io_uring is allowed");
        let mut ends = Vec::new();
        for key in 0..5 {
            let (ours, theirs) = UnixStream::pair().expect("descriptors");
            let file = rings.install(ours.into()).expect("a place");
            rings.receive(&file, key);
            ends.push((file, theirs));
        }
        assert_eq!(rings.count(), 3);
        for (key, (file, theirs)) in (0..).zip(&mut ends) {
            theirs.write_all(&[b'0' + key]).expect("open");
            assert_eq!(received(&mut rings), (key.into(), vec![b'0' + key]));
            rings.send(file, key.into(), SendBuffer::owned(vec![b'a' + key]));
            turns(&mut rings, |_, completion| {
                matches!(completion, Completion::Sent { result: Ok(1), .. })
            });
            let mut byte = [0];
            theirs.read_exact(&mut byte).expect("open");
            assert_eq!(byte, [b'a' + key]);
        }

        let (file, mut gone) = ends.remove(2);
        rings.shutdown(&file, Shutdown::Both);
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
        rings.close(file);
        let mut nothing = Vec::new();
        assert_eq!(gone.read_to_end(&mut nothing).expect("an end"), 0);

        let mut connections = Vec::new();
        for key in 5..7 {
            let (ours, mut theirs) = UnixStream::pair().expect("descriptors");
            // The close may still be pending: then the new connection gets another fixed file.
            let file = rings.install(ours.into()).expect("a place");
            rings.receive(&file, key);
            theirs.write_all(b"new").expect("open");
            assert_eq!(received(&mut rings), (key, b"new".to_vec()));
            connections.push((file, theirs));
        }
        assert!(rings.count() <= 4);
    }

    /// Goal: an abort drops what the kernel holds for a peer that does not read; a shutdown keeps it.
    /// Method: fill a connection, end it either way, and read: all bytes and an orderly end, or a reset.
    #[test]
    fn an_abort_resets_and_a_shutdown_delivers() {
        for (how, is_reset) in [(Shutdown::Both, false), (Shutdown::Abort, true)] {
            let mut rings = Rings::of(Sizes::usual(2)).expect("io_uring is allowed");
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
            let address = listener.local_addr().expect("bound");
            let mut theirs = std::net::TcpStream::connect(address).expect("listening");
            let (ours, _) = listener.accept().expect("a client");
            let file = rings.install(ours.into()).expect("a place");
            rings.receive(&file, 1);
            let (mut sent, mut chunk) = (0, SendBuffer::owned(vec![b'x'; 1 << 20]));
            loop {
                rings.send(&file, 1, chunk);
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
                chunk = SendBuffer::owned(vec![b'x'; 1 << 20]);
            }
            rings.shutdown(&file, how);
            turns(&mut rings, |_, completion| {
                matches!(completion, Completion::Received { more: false, .. })
            });
            rings.close(file);
            // Enters until the close is submitted, at the latest after a worker's shutdown.
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

    /// Goal: more descriptors never mean fewer connections, and a small limit allows many.
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
