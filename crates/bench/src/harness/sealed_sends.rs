//! The TLS line: what a loop on one pinned thread delivers that seals the same bytes for each socket
//! in turn and sends them, by the library and the calls a server uses, and does nothing else. A
//! record is sealed once and sent whole: what a full socket did not take goes first the next time.
//!
//! The other ends are emptied in the kernel, not record by record as `fanout` does it, which costs
//! less: the line is rather too high than too low.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustls::CipherSuite;
use serde_json::{Value, json};

use super::error::BenchError;
use super::plain_sends::{Arrived, LinePoint, PlainSends};
use super::tls::client::suite_name;
use super::tls::keys::{ReadyKey, RecordKey};
use super::tls::records::{CONTENT_MAX, HEADER, OVERHEAD};

/// A point of the TLS line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SealedPoint {
    /// Sealed and sent.
    pub(crate) line: LinePoint,
    /// Time to seal what one send has, by the same keys in turn, in nanoseconds; nothing is sent.
    pub(crate) nanos_per_seal: f64,
}

/// What one measurement seals and sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SealedWork {
    /// Length of one delivered frame before it is sealed, in bytes, mean.
    pub(crate) frame_bytes: f64,
    pub(crate) suite: CipherSuite,
    pub(crate) measured: Duration,
}

/// One connection's sending end, but for its socket.
struct Sealing {
    key: ReadyKey,
    /// Records that a full socket did not take.
    rest: Vec<u8>,
}

/// What the sending thread did.
#[derive(Debug, Default)]
struct Sent {
    /// Seals, each with its send.
    seals: u64,
    /// Times that a socket did not take everything.
    full: u64,
    elapsed: Duration,
}

impl SealedPoint {
    /// Measures at `messages_per_send` frames to each socket in turn. The sending thread is pinned
    /// to the first processor; the calling thread is pinned to the last one and empties the sockets.
    pub(crate) fn measure(
        pairs: &mut PlainSends,
        work: SealedWork,
        messages_per_send: f64,
    ) -> Result<Self, BenchError> {
        let bytes = (work.frame_bytes * messages_per_send).round().max(1.0);
        let content = vec![b'x'; bytes as usize];
        let keys = (0..pairs.receivers()).map(|_| Sealing::new(work.suite));
        let mut keys: Vec<Sealing> = keys.collect::<Result<_, _>>()?;
        let measured = work.measured;
        let (nanos_per_seal, _) =
            pairs.drive(|_| Ok(seal(&mut keys, &content, measured / SEALING_PART)))?;
        let (sent, arrived) =
            pairs.drive(|senders| send_all(senders, &mut keys, &content, measured))?;
        let Arrived { bytes, seconds } = arrived;
        let per_second = bytes as f64 / sealed_bytes(content.len()) as f64 / seconds;
        Ok(Self {
            line: LinePoint {
                messages_per_send,
                deliveries_per_second: per_second * messages_per_send,
                nanos_per_send: sent.elapsed.as_nanos() as f64 / sent.seals.max(1) as f64,
                full: sent.full as f64 / sent.seals.max(1) as f64,
            },
            nanos_per_seal,
        })
    }

    pub(crate) fn json(&self, suite: CipherSuite) -> Value {
        let mut point = self.line.json();
        point["ns_per_seal"] = self.nanos_per_seal.round().into();
        point["sealed_deliveries_per_second"] = self.sealed_per_second().round().into();
        point["suite"] = json!(suite_name(suite));
        point
    }

    /// Returns what sealing alone would deliver per second.
    pub(crate) fn sealed_per_second(&self) -> f64 {
        self.line.messages_per_send * 1e9 / self.nanos_per_seal
    }
}

impl Sealing {
    fn new(suite: CipherSuite) -> Result<Self, BenchError> {
        Ok(Self {
            key: RecordKey::random(suite)?.ready(),
            rest: Vec::new(),
        })
    }

    /// Sends `out`, or what is left of the last one. Returns whether the socket took all of it.
    fn send(&mut self, socket: &TcpStream, out: Option<&[u8]>) -> Result<bool, Errno> {
        let bytes = out.unwrap_or(&self.rest);
        let taken = match send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(len) => len,
            Err(Errno::AGAIN) => 0,
            Err(error) => return Err(error),
        };
        let left = bytes.len() - taken;
        if let Some(out) = out {
            self.rest.extend_from_slice(&out[taken..]);
        } else {
            self.rest.drain(..taken);
        }
        Ok(left == 0)
    }
}

/// Returns the length of `content` bytes in records of up to 16 KiB.
fn sealed_bytes(content: usize) -> usize {
    content + content.div_ceil(CONTENT_MAX) * (HEADER + OVERHEAD)
}

/// Seals for each socket in turn, without sending. Returns the nanoseconds of one.
fn seal(keys: &mut [Sealing], content: &[u8], measured: Duration) -> f64 {
    let mut out = Vec::with_capacity(sealed_bytes(content.len()));
    let (mut seals, begun) = (0_u64, Instant::now());
    while begun.elapsed() < measured {
        for each in keys.iter_mut() {
            out.clear();
            each.key.seal(content, &mut out);
            seals += 1;
        }
    }
    begun.elapsed().as_nanos() as f64 / seals.max(1) as f64
}

fn send_all(
    senders: &[TcpStream],
    keys: &mut [Sealing],
    content: &[u8],
    measured: Duration,
) -> Result<Sent, Errno> {
    let mut out = Vec::with_capacity(sealed_bytes(content.len()));
    let (mut sent, begun) = (Sent::default(), Instant::now());
    while begun.elapsed() < measured {
        for (socket, each) in senders.iter().zip(keys.iter_mut()) {
            if !each.rest.is_empty() && !each.send(socket, None)? {
                sent.full += 1;
                continue;
            }
            out.clear();
            each.key.seal(content, &mut out);
            sent.seals += 1;
            if !each.send(socket, Some(&out))? {
                sent.full += 1;
            }
        }
    }
    sent.elapsed = begun.elapsed();
    Ok(sent)
}

/// The part of the time for which sealing alone is measured: it has no queue that must fill.
const SEALING_PART: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what arrives is whole sends' worth of records, and both figures are there, with each
    /// suite and with content beyond one record.
    #[test]
    fn sealed_bytes_arrive() {
        assert_eq!(sealed_bytes(100), 122);
        assert_eq!(sealed_bytes(CONTENT_MAX), CONTENT_MAX + 22);
        assert_eq!(sealed_bytes(CONTENT_MAX + 1), CONTENT_MAX + 45);
        let mut pairs = PlainSends::connect(3).expect("loopback");
        for suite in [
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            CipherSuite::TLS13_AES_256_GCM_SHA384,
        ] {
            let work = SealedWork {
                frame_bytes: 400.0,
                suite,
                measured: Duration::from_millis(20),
            };
            for messages in [1.0, 64.0] {
                let point = SealedPoint::measure(&mut pairs, work, messages).expect("loopback");
                assert!(point.line.deliveries_per_second > 0.0);
                assert!(point.nanos_per_seal > 0.0);
                assert!(point.sealed_per_second() > 0.0);
            }
        }
    }
}
