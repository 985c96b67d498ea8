//! The client's side of the NATS protocol, as far as fan-out needs it: text lines, some followed by
//! a payload.
//!
//! A room is a subject; all subjects have the same length. Each connection has one subscription. So
//! every member of a room is sent the same bytes.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::frame::{Frame, Kind};

/// Longest line, in bytes; the longest that servers send is INFO.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// Answers a PING. Also sent unasked, so that the server does not ask.
pub(super) const PONG: &[u8] = b"PONG\r\n";
/// Asks the client whether it is there.
pub(super) const PING: &[u8] = b"PING\r\n";

/// Introduces the client to a server that has just accepted it, and subscribes it to a room. Blocks
/// until the server has confirmed.
///
/// # Errors
///
/// The kernel's; `ConnectionRefused` with what the server sent instead of INFO and PONG.
pub(super) fn join(stream: &mut TcpStream, room: usize) -> io::Result<()> {
    expect(stream, "INFO ")?;
    let subject = subject(room);
    // Quiet: no +OK for each line. Protocol 0: no INFO later on.
    let hello = format!(
        "CONNECT {{\"verbose\":false,\"pedantic\":false,\"echo\":true,\"protocol\":0,\"lang\":\"bench\",\
         \"version\":\"1\"}}\r\nSUB {subject} 1\r\nPING\r\n"
    );
    stream.write_all(hello.as_bytes())?;
    expect(stream, "PONG")
}

/// Reads one line, byte by byte, because what follows it belongs to the measurement.
fn expect(stream: &mut TcpStream, start: &str) -> io::Result<()> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") && line.len() < LINE_BYTES_MAX {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.extend(byte);
    }
    if line.starts_with(start.as_bytes()) {
        return Ok(());
    }
    let line = String::from_utf8_lossy(&line);
    let text = format!("the server said {}", line.trim_end());
    Err(io::Error::new(io::ErrorKind::ConnectionRefused, text))
}

/// Appends the bytes that publish `payload` in a room.
pub(super) fn publish(out: &mut Vec<u8>, room: usize, payload: &[u8]) {
    let head = format!("PUB {} {}\r\n", subject(room), payload.len());
    out.extend(head.as_bytes());
    out.extend(payload);
    out.extend(b"\r\n");
}

fn subject(room: usize) -> String {
    format!("r{room:03}")
}

/// Returns the first whole line of `bytes`, with its payload; `None` if more bytes are needed.
///
/// # Errors
///
/// `InvalidData` for bytes that no server sends, and for `-ERR`.
pub(super) fn first(bytes: &[u8]) -> io::Result<Option<Frame>> {
    let Some(len) = bytes.windows(2).position(|two| two == b"\r\n") else {
        let cut = &bytes[..bytes.len().min(64)];
        return if bytes.len() > LINE_BYTES_MAX {
            Err(wrong(cut))
        } else {
            Ok(None)
        };
    };
    let line = &bytes[..len];
    let head = len + 2;
    let kind = match line {
        b"PING" => Kind::Ping,
        b"PONG" | b"+OK" => Kind::Other,
        _ if line.starts_with(b"INFO ") => Kind::Other,
        _ if line.starts_with(b"MSG ") => {
            let payload = payload_bytes(line).ok_or_else(|| wrong(line))?;
            let end = head + payload + 2;
            return match bytes.get(head + payload..end) {
                None => Ok(None),
                Some(b"\r\n") => Ok(Some(Frame {
                    kind: Kind::Data,
                    deflated: false,
                    payload: head..head + payload,
                    end,
                })),
                Some(_) => Err(wrong(line)),
            };
        }
        _ => return Err(wrong(line)),
    };
    Ok(Some(Frame {
        kind,
        deflated: false,
        payload: head..head,
        end: head,
    }))
}

/// Returns the length of the payload behind a line `MSG <subject> <subscription> <bytes>`. No
/// message asks for an answer, so there are no more fields.
fn payload_bytes(line: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(line).ok()?;
    text.split(' ').nth(3)?.parse().ok()
}

fn wrong(line: &[u8]) -> io::Error {
    let line = String::from_utf8_lossy(line);
    let text = format!("the server said {line}");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::client_protocol::ClientProtocol;
    use crate::harness::message;
    use crate::harness::sample::Sample;
    use hdrhistogram::Histogram;
    use std::net::TcpListener;

    /// Goal: messages, pings and small talk are told apart wherever reads cut them. Method: the
    /// same bytes in parts of each length from 1 to their own.
    #[test]
    fn messages_survive_any_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let mut wire = Vec::from(*b"PING\r\n+OK\r\nINFO {}\r\n");
        let mut frame_bytes = 0;
        for number in [0_u64, 1, 3] {
            let mut text = String::new();
            message::content(&mut text, number, 1_000_000, 40);
            let before = wire.len();
            wire.extend(format!("MSG r007 1 {}\r\n{text}\r\n", text.len()).bytes());
            frame_bytes = wire.len() - before;
        }
        for part in 1..wire.len() {
            let client =
                TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
            let (mut server, _) = listener.accept().expect("just connected");
            let mut sample = Sample::new(client, ClientProtocol::Nats).expect("non-blocking");
            let mut ages = Histogram::new_with_bounds(1, 10_000, 3).expect("valid");
            for bytes in wire.chunks(part) {
                server.write_all(bytes).expect("loopback");
                sample.read(|| 3_000_000, &mut ages, 0).expect("open");
            }
            // Loopback hands bytes over within the write; the loop is for the last read.
            while sample.messages < 3 {
                sample.read(|| 3_000_000, &mut ages, 0).expect("open");
            }
            assert_eq!(
                (sample.next, sample.lost, sample.repeated),
                (4, 1, 0),
                "{part}"
            );
            assert_eq!((sample.messages, sample.errors), (3, 0), "{part}");
            assert_eq!(sample.bytes, 3 * frame_bytes as u64);
            assert!(sample.inbox.take_ping(), "{part}");
        }
    }

    /// Goal: bytes that no server sends are refused, not skipped.
    #[test]
    fn nonsense_is_refused() {
        let endless = vec![b'x'; LINE_BYTES_MAX + 1];
        for wrong in [
            &b"-ERR 'Slow Consumer'\r\n"[..],
            b"MSG r000 1\r\n",
            b"MSG r000 1 x\r\n",
            b"MSG r000 1 2\r\nabcd",
            b"HTTP/1.1 400 Bad Request\r\n",
            &endless,
        ] {
            let error = first(wrong).expect_err("nonsense");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        for half in [&b""[..], b"MSG r000", b"MSG r000 1 2\r\nab\r", b"PING\r"] {
            assert!(first(half).expect("no error").is_none());
        }
    }

    /// Goal: a message is published under its room's subject, and all subjects have one length.
    #[test]
    fn rooms_are_subjects_of_one_length() {
        for (room, subject) in [(0, "r000"), (42, "r042"), (999, "r999")] {
            let mut out = Vec::new();
            publish(&mut out, room, b"hello");
            assert_eq!(out, format!("PUB {subject} 5\r\nhello\r\n").as_bytes());
        }
    }
}
