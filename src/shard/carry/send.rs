//! The old shard's side: pages of viewers out, acknowledgements in.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::wire::{Message, PART_BYTES_MAX, push_record};
use super::{CarryFault, Sums};
use crate::net::pass::{Connection, PassError};
use uproar_proto::base::limits::{
    CARRIED_BATCH_BYTES_MAX, CARRIED_RECORD_BYTES_MAX, CARRY_WINDOW, DESCRIPTORS_A_MESSAGE_MAX,
    PASSED_BYTES_MAX,
};

/// A frozen shard whose viewers leave.
pub trait Leaving {
    /// Where the kernel has a viewer's connection.
    type Place: Copy;

    /// Returns the next viewers, at most `most`: where the kernel has each, and its record. None are left when there
    /// are none.
    fn next_page(&mut self, most: usize) -> Vec<(Self::Place, Vec<u8>)>;

    /// Makes a plain descriptor of each place.
    ///
    /// # Errors
    ///
    /// `EMFILE` at the limit on open files: fewer are tried then. Any other ends the hand-over.
    fn detach(&mut self, places: &[Self::Place]) -> io::Result<Vec<OwnedFd>>;

    /// Called every quarter of a second while the thread waits for the new process, so that whoever watches it
    /// does not take it for hung.
    fn alive(&mut self) {}
}

/// Sends all `viewers` in batches of at most `batch`, and returns their sums when the new process has taken all.
///
/// It blocks this thread. The shard is as it was, whatever comes out.
///
/// # Errors
///
/// See [`CarryFault`]; `Refused` tells the new process's reason where it gave one.
pub fn send_viewers(
    viewers: &mut impl Leaving,
    stream: &Connection,
    batch: usize,
    deadline: Instant,
) -> Result<Sums, CarryFault> {
    let mut sender = Sender {
        viewers,
        stream,
        deadline,
        most: batch.clamp(1, DESCRIPTORS_A_MESSAGE_MAX),
        sent: Sums::default(),
        checksum: flate2::Crc::new(),
        next: 0,
        taken: 0,
    };
    sender.run().map_err(|fault| sender.reason(fault))
}

struct Sender<'a, V> {
    viewers: &'a mut V,
    stream: &'a Connection,
    deadline: Instant,
    // Most viewers of a batch; falls when no more descriptors are free.
    most: usize,
    sent: Sums,
    checksum: flate2::Crc,
    // The number of the next message that must be acknowledged, and how many were.
    next: u32,
    taken: u32,
}

impl<V: Leaving> Sender<'_, V> {
    fn run(&mut self) -> Result<Sums, CarryFault> {
        loop {
            let page = self.viewers.next_page(self.most);
            if page.is_empty() {
                break;
            }
            let mut rest = &page[..];
            while !rest.is_empty() {
                let count = self.send_some(rest)?;
                rest = &rest[count..];
            }
        }
        self.sent.checksum = self.checksum.sum();
        let (number, sent) = (self.next, self.sent);
        self.send(&Message::End { number, sent }.encode(), &[])?;
        self.next += 1;
        while self.taken < self.next {
            self.await_taken()?;
        }
        Ok(self.sent)
    }

    /// Sends the first viewers of a page as one batch, once the window has room; returns how many.
    fn send_some(&mut self, page: &[(V::Place, Vec<u8>)]) -> Result<usize, CarryFault> {
        while self.next - self.taken >= CARRY_WINDOW {
            self.await_taken()?;
        }
        let mut count = fitting(page, self.most)?;
        let descriptors = loop {
            let places: Vec<V::Place> = page[..count].iter().map(|(place, _)| *place).collect();
            match self.viewers.detach(&places) {
                Ok(descriptors) => break descriptors,
                Err(error) if error.raw_os_error() == Some(libc::EMFILE) && count > 1 => {
                    // Other threads have taken what was free: smaller batches from now on.
                    count = count.div_ceil(2);
                    self.most = count;
                }
                Err(error) => return Err(CarryFault::Detach(error)),
            }
        };
        let mut bytes = Vec::new();
        for (_, record) in &page[..count] {
            push_record(&mut bytes, record);
        }
        self.checksum.update(&bytes);
        self.sent.viewers += u64::try_from(count).expect("a batch");
        self.sent.bytes += u64::try_from(bytes.len()).expect("64 bits");
        self.send_batch(&bytes, descriptors)?;
        Ok(count)
    }

    fn send_batch(&mut self, bytes: &[u8], descriptors: Vec<OwnedFd>) -> Result<(), CarryFault> {
        let number = self.next;
        let (part, mut rest) = bytes.split_at(bytes.len().min(PART_BYTES_MAX));
        let first = Message::Batch {
            number,
            viewers: u16::try_from(descriptors.len()).expect("a batch"),
            bytes: u32::try_from(bytes.len()).expect("a batch"),
            part,
        };
        let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        self.send(&first.encode(), &borrowed)?;
        self.next += 1;
        // The message holds the connections open from here on.
        drop(borrowed);
        drop(descriptors);
        while !rest.is_empty() {
            let (part, behind) = rest.split_at(rest.len().min(PART_BYTES_MAX));
            self.send(&Message::More { number, part }.encode(), &[])?;
            rest = behind;
        }
        Ok(())
    }

    /// Sends one message. While too many descriptors of this user are on their way, other shards' too, it waits until
    /// some have arrived.
    fn send(&mut self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), CarryFault> {
        loop {
            match self.stream.send(bytes, descriptors, self.until()) {
                Ok(()) => return Ok(()),
                Err(PassError::Late) if !self.is_late() => self.viewers.alive(),
                Err(PassError::OnTheWay) if !self.is_late() => {
                    self.viewers.alive();
                    std::thread::sleep(ON_THE_WAY_PAUSE);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for the next acknowledgement.
    fn await_taken(&mut self) -> Result<(), CarryFault> {
        let message = loop {
            match self.stream.receive(PASSED_BYTES_MAX, self.until()) {
                Err(PassError::Late) if !self.is_late() => self.viewers.alive(),
                other => break other?,
            }
        };
        match Message::decode(&message.bytes) {
            Some(Message::Taken { number }) if number == self.taken && number < self.next => {
                self.taken += 1;
                Ok(())
            }
            Some(Message::Refused { reason }) => Err(CarryFault::Refused(reason.to_owned())),
            _ => Err(CarryFault::Unexpected("no acknowledgement")),
        }
    }

    /// When the thread must show next that it is alive.
    fn until(&self) -> Instant {
        self.deadline.min(now() + ALIVE_INTERVAL)
    }

    fn is_late(&self) -> bool {
        now() >= self.deadline
    }

    /// A receiver that closed the connection may have said why.
    fn reason(&self, fault: CarryFault) -> CarryFault {
        if !matches!(fault, CarryFault::Pass(PassError::Ended)) {
            return fault;
        }
        // Acknowledgements may stand before it, and the socket tells of the close first.
        for _ in 0..=CARRY_WINDOW + 1 {
            if let Ok(Some(message)) = self.stream.receive_now(PASSED_BYTES_MAX)
                && let Some(Message::Refused { reason }) = Message::decode(&message.bytes)
            {
                return CarryFault::Refused(reason.to_owned());
            }
        }
        fault
    }
}

/// Returns how many viewers of a page one batch takes: at least one.
fn fitting<P>(page: &[(P, Vec<u8>)], most: usize) -> Result<usize, CarryFault> {
    let (mut bytes, mut count) = (0, 0);
    for (_, record) in page.iter().take(most) {
        if record.len() > CARRIED_RECORD_BYTES_MAX {
            return Err(CarryFault::Record(record.len()));
        }
        bytes += size_of::<u32>() + record.len();
        if bytes > CARRIED_BATCH_BYTES_MAX && count > 0 {
            break;
        }
        count += 1;
    }
    Ok(count)
}

#[expect(
    clippy::disallowed_methods,
    reason = "deadlines of blocking system calls, while no turn is taken"
)]
fn now() -> Instant {
    Instant::now()
}

/// Longest time without [`Leaving::alive`].
const ALIVE_INTERVAL: Duration = Duration::from_millis(250);
/// Pause while too many descriptors are on their way: some batches' time.
const ON_THE_WAY_PAUSE: Duration = Duration::from_millis(1);
