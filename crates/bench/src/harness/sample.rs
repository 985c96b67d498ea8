//! A sampled receiver: a viewer whose every frame is parsed, for its number and its age.

use std::io;

use hdrhistogram::Histogram;
use uproar_proto::base::limits::FRAME_BYTES_MAX;
use uproar_proto::ws::Inflater;

use super::client_protocol::ClientProtocol;
use super::message::numbers;
use super::stream::Inbox;
use super::viewer_stream::ViewerStream;

/// A sampled receiver, and what came to it so far.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) inbox: Inbox,
    /// The next number that is expected: one above the highest that came.
    pub(crate) next: u64,
    /// Numbers below `next` that never came.
    pub(crate) lost: u64,
    /// Numbers that came twice, or after a higher one.
    pub(crate) repeated: u64,
    /// Bytes of bench messages, headers included.
    pub(crate) bytes: u64,
    /// Bench messages.
    pub(crate) messages: u64,
    /// Frames that are no bench messages: the server refused a message.
    pub(crate) errors: u64,
    inflater: Inflater,
}

impl Sample {
    /// Takes over a connection that has just been admitted.
    pub(crate) fn new(
        stream: impl Into<ViewerStream>,
        protocol: ClientProtocol,
    ) -> io::Result<Self> {
        Ok(Self {
            inbox: Inbox::new(stream, protocol, BUFFER_BYTES)?,
            next: 0,
            lost: 0,
            repeated: 0,
            bytes: 0,
            messages: 0,
            errors: 0,
            inflater: Inflater::default(),
        })
    }

    /// Reads until the socket is empty. Records the age in microseconds of each message from number
    /// `count_from` on, by `clock`, in nanoseconds, after the read that completed it.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the server closed the connection; the kernel's.
    pub(crate) fn read(
        &mut self,
        clock: impl Fn() -> u64,
        ages: &mut Histogram<u64>,
        count_from: u64,
    ) -> io::Result<()> {
        self.inbox.read(clock, |frame| {
            let read = if frame.deflated {
                let plain = self.inflater.inflate(frame.payload, FRAME_BYTES_MAX);
                plain.ok().and_then(|(text, len)| numbers(&text[..len]))
            } else {
                numbers(frame.payload)
            };
            let Some((number, due)) = read else {
                self.errors += 1;
                return;
            };
            self.bytes += frame.bytes;
            self.messages += 1;
            if number < self.next {
                self.repeated += 1;
            } else {
                self.lost += number - self.next;
                self.next = number + 1;
            }
            if number >= count_from {
                ages.saturating_record(frame.now.saturating_sub(due) / 1000);
            }
        })
    }

    /// Messages that were refused, lost or repeated, or have not come, of `sent` messages.
    pub(crate) fn wrong(&self, sent: u64) -> u64 {
        self.errors + self.lost + self.repeated + sent.saturating_sub(self.next)
    }
}

/// Space for the longest frame and what one read takes.
const BUFFER_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::message::content;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    /// Goal: loss, repetition and age are counted, wherever reads cut the frames.
    #[test]
    fn loss_and_repetition_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
        let (mut server, _) = listener.accept().expect("just connected");
        let mut sample = Sample::new(client, ClientProtocol::Chat).expect("non-blocking");
        let mut ages = Histogram::new_with_bounds(1, 10_000, 3).expect("valid");
        let mut wire = Vec::new();
        for number in [0_u64, 1, 4, 4, 5] {
            let mut text = String::from(r#"{"Type":"MESSAGE","Content":""#);
            content(&mut text, number, 1_000_000, 200);
            text.push_str(r#""}"#);
            wire.extend([0x81, 126]);
            wire.extend(u16::try_from(text.len()).expect("short").to_be_bytes());
            wire.extend(text.as_bytes());
        }
        for part in wire.chunks(100) {
            server.write_all(part).expect("loopback");
            // Loopback hands bytes over within the write.
            sample.read(|| 3_000_000, &mut ages, 0).expect("open");
        }
        while sample.messages < 5 {
            sample.read(|| 3_000_000, &mut ages, 0).expect("open");
        }
        assert_eq!((sample.next, sample.lost, sample.repeated), (6, 2, 1));
        assert_eq!(sample.bytes, wire.len() as u64);
        assert_eq!((ages.len(), ages.min()), (5, 2000));
    }
}
