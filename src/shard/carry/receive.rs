//! The new process's side: batches in, acknowledgements out.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use super::wire::{Message, records};
use super::{CarryFault, Sums};
use crate::net::pass::{self, Connection, PassError};
use uproar_proto::base::limits::{
    CARRIED_BATCH_BYTES_MAX, CARRIED_RECORD_BYTES_MAX, PASSED_BYTES_MAX,
};

/// Receives all viewers of one shard of the old process, and hands each batch to `deliver`; the old process sends
/// further ones when it has returned. Returns their sums, which are as the old process counted them.
///
/// It blocks this thread.
///
/// # Errors
///
/// See [`CarryFault`]. The old process is told the reason, as far as it still listens. Descriptors of a batch that was not
/// handed on are closed, which ends no connection, because the old process holds them too.
pub fn receive_viewers(
    stream: &Connection,
    mut deliver: impl FnMut(Vec<(OwnedFd, Vec<u8>)>) -> io::Result<()>,
    deadline: Instant,
) -> Result<Sums, CarryFault> {
    let mut receiver = Receiver {
        stream,
        deadline,
        received: Sums::default(),
        checksum: flate2::Crc::new(),
    };
    let outcome = receiver.run(&mut deliver);
    if let Err(fault) = &outcome
        && !matches!(fault, CarryFault::Pass(PassError::Ended))
    {
        let reason = fault.to_string();
        // A sender that has gone needs no reason.
        let _gone = stream.send_now(&Message::Refused { reason: &reason }.encode(), &[]);
    }
    outcome
}

struct Receiver<'a> {
    stream: &'a Connection,
    deadline: Instant,
    received: Sums,
    checksum: flate2::Crc,
}

impl Receiver<'_> {
    fn run(
        &mut self,
        deliver: &mut impl FnMut(Vec<(OwnedFd, Vec<u8>)>) -> io::Result<()>,
    ) -> Result<Sums, CarryFault> {
        for expected in 0.. {
            let message = self.next()?;
            match Message::decode(&message.bytes) {
                Some(Message::Batch {
                    number,
                    viewers,
                    bytes,
                    part,
                }) if number == expected => {
                    if usize::from(viewers) != message.descriptors.len() {
                        return Err(CarryFault::Unexpected("another number of descriptors"));
                    }
                    let bytes = self.assemble(number, part, bytes)?;
                    let batch = self.take_apart(&bytes, message.descriptors)?;
                    deliver(batch).map_err(CarryFault::Deliver)?;
                    self.acknowledge(number)?;
                }
                Some(Message::End { number, sent }) if number == expected => {
                    self.received.checksum = self.checksum.sum();
                    if sent != self.received {
                        let received = self.received;
                        return Err(CarryFault::Incomplete { sent, received });
                    }
                    self.acknowledge(number)?;
                    return Ok(self.received);
                }
                _ => return Err(CarryFault::Unexpected("no batch where one was due")),
            }
        }
        Err(CarryFault::Unexpected("more than 2^32 batches"))
    }

    fn next(&self) -> Result<pass::Message, PassError> {
        self.stream.receive(PASSED_BYTES_MAX, self.deadline)
    }

    /// Receives the rest of a batch of `length` bytes whose first are `part`.
    fn assemble(&self, batch: u32, part: &[u8], length: u32) -> Result<Vec<u8>, CarryFault> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        // A record alone may be longer than a batch should be.
        if length > CARRIED_BATCH_BYTES_MAX.max(size_of::<u32>() + CARRIED_RECORD_BYTES_MAX) {
            return Err(CarryFault::Unexpected("a batch that is too long"));
        }
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(part);
        while bytes.len() < length {
            let message = self.next()?;
            match Message::decode(&message.bytes) {
                Some(Message::More { number, part }) if number == batch && !part.is_empty() => {
                    bytes.extend_from_slice(part);
                }
                _ => return Err(CarryFault::Unexpected("no more of a batch")),
            }
        }
        if bytes.len() > length {
            return Err(CarryFault::Unexpected("too much of a batch"));
        }
        Ok(bytes)
    }

    fn take_apart(
        &mut self,
        bytes: &[u8],
        descriptors: Vec<OwnedFd>,
    ) -> Result<Vec<(OwnedFd, Vec<u8>)>, CarryFault> {
        let records = records(bytes, descriptors.len(), CARRIED_RECORD_BYTES_MAX).ok_or(
            CarryFault::Unexpected("records that do not fit their batch"),
        )?;
        self.checksum.update(bytes);
        self.received.viewers += u64::try_from(records.len()).expect("a batch");
        self.received.bytes += u64::try_from(bytes.len()).expect("64 bits");
        Ok(descriptors.into_iter().zip(records).collect())
    }

    fn acknowledge(&self, number: u32) -> Result<(), PassError> {
        let taken = Message::Taken { number }.encode();
        self.stream.send(&taken, &[], self.deadline)
    }
}
