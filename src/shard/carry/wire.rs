//! The messages between the two ends: one tag, then numbers in little endian, then bytes.

use super::Sums;
use uproar_proto::base::limits::PASSED_BYTES_MAX;

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// A batch begins; its descriptors come with this message.
    Batch {
        /// Counts the batches from 0.
        number: u32,
        /// Its viewers, and so its descriptors.
        viewers: u16,
        /// Bytes of all its records with their lengths.
        bytes: u32,
        /// The first of them.
        part: &'a [u8],
    },
    /// More bytes of the batch that has begun.
    More {
        /// The batch.
        number: u32,
        /// The next bytes.
        part: &'a [u8],
    },
    /// There are no more batches.
    End {
        /// The number that the next batch would have.
        number: u32,
        /// What was sent.
        sent: Sums,
    },
    /// A batch, or the end, was taken.
    Taken {
        /// Its number.
        number: u32,
    },
    /// The receiver cannot go on.
    Refused {
        /// Why.
        reason: &'a str,
    },
}

/// Most bytes of records in one message: what its other fields leave.
pub(super) const PART_BYTES_MAX: usize = PASSED_BYTES_MAX - 11;

const BATCH: u8 = b'B';
const MORE: u8 = b'M';
const END: u8 = b'E';
const TAKEN: u8 = b'T';
const REFUSED: u8 = b'R';

impl<'a> Message<'a> {
    /// Writes the message.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Batch {
                number,
                viewers,
                bytes,
                part,
            } => {
                out.push(BATCH);
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(&viewers.to_le_bytes());
                out.extend_from_slice(&bytes.to_le_bytes());
                out.extend_from_slice(part);
            }
            Self::More { number, part } => {
                out.push(MORE);
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(part);
            }
            Self::End { number, sent } => {
                out.push(END);
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(&sent.viewers.to_le_bytes());
                out.extend_from_slice(&sent.bytes.to_le_bytes());
                out.extend_from_slice(&sent.checksum.to_le_bytes());
            }
            Self::Taken { number } => {
                out.push(TAKEN);
                out.extend_from_slice(&number.to_le_bytes());
            }
            Self::Refused { reason } => {
                out.push(REFUSED);
                out.extend_from_slice(reason.as_bytes());
            }
        }
        out
    }

    /// Reads a message; `None` if it is none.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let message = match fields.take()? {
            [BATCH] => Self::Batch {
                number: u32::from_le_bytes(fields.take()?),
                viewers: u16::from_le_bytes(fields.take()?),
                bytes: u32::from_le_bytes(fields.take()?),
                part: fields.rest(),
            },
            [MORE] => Self::More {
                number: u32::from_le_bytes(fields.take()?),
                part: fields.rest(),
            },
            [END] => Self::End {
                number: u32::from_le_bytes(fields.take()?),
                sent: Sums {
                    viewers: u64::from_le_bytes(fields.take()?),
                    bytes: u64::from_le_bytes(fields.take()?),
                    checksum: u32::from_le_bytes(fields.take()?),
                },
            },
            [TAKEN] => Self::Taken {
                number: u32::from_le_bytes(fields.take()?),
            },
            [REFUSED] => Self::Refused {
                reason: std::str::from_utf8(fields.rest()).ok()?,
            },
            _ => return None,
        };
        fields.0.is_empty().then_some(message)
    }
}

/// The bytes not yet read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// Appends a record to the bytes of its batch, behind its length.
pub(super) fn push_record(batch: &mut Vec<u8>, record: &[u8]) {
    let length = u32::try_from(record.len()).expect("the sender checks its length");
    batch.extend_from_slice(&length.to_le_bytes());
    batch.extend_from_slice(record);
}

/// Takes the bytes of a batch apart into its `viewers` records; `None` if they are not as many, or a record is longer
/// than `most` bytes.
pub(super) fn records(batch: &[u8], viewers: usize, most: usize) -> Option<Vec<Vec<u8>>> {
    let (mut rest, mut found) = (batch, Vec::with_capacity(viewers));
    for _ in 0..viewers {
        let (length, behind) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        if length > most {
            return None;
        }
        let (record, behind) = behind.split_at_checked(length)?;
        found.push(record.to_vec());
        rest = behind;
    }
    rest.is_empty().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every message is read as it was written, and no shorter or longer one is.
    #[test]
    fn messages_are_read_as_written() {
        let sent = Sums {
            viewers: 1 << 40,
            bytes: 2 << 40,
            checksum: 3 << 24,
        };
        let batch = Message::Batch {
            number: 1,
            viewers: 253,
            bytes: 70_000,
            part: b"part",
        };
        let more = Message::More {
            number: 2,
            part: b"more",
        };
        let reason = "no descriptor is free";
        for message in [
            batch,
            more,
            Message::End { number: 3, sent },
            Message::Taken { number: 4 },
            Message::Refused { reason },
        ] {
            let bytes = message.encode();
            assert_eq!(Message::decode(&bytes).as_ref(), Some(&message));
        }
        let end = Message::End { number: 3, sent }.encode();
        for len in 0..end.len() {
            assert_eq!(Message::decode(&end[..len]), None);
        }
        let longer = [&end[..], b"x"].concat();
        assert_eq!(Message::decode(&longer), None);
        assert_eq!(Message::decode(b"X1234"), None);
        let longest = Message::Batch {
            number: 0,
            viewers: 1,
            bytes: 0,
            part: &vec![0; PART_BYTES_MAX],
        };
        assert_eq!(longest.encode().len(), PASSED_BYTES_MAX);
    }

    /// Goal: a batch comes apart into the records it was made of, and nothing else does.
    #[test]
    fn records_come_apart_as_they_were_put_together() {
        let mut batch = Vec::new();
        for record in [&b"one"[..], b"", b"three"] {
            push_record(&mut batch, record);
        }
        let apart = records(&batch, 3, 5).expect("three");
        assert_eq!(apart, [b"one".to_vec(), b"".to_vec(), b"three".to_vec()]);
        assert_eq!(records(&batch, 2, 5), None, "bytes are left");
        assert_eq!(records(&batch, 4, 5), None, "one is missing");
        assert_eq!(records(&batch, 3, 4), None, "one is too long");
        assert_eq!(records(&batch[..batch.len() - 1], 3, 5), None, "one is cut");
    }
}
