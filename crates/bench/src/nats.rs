//! The client's side of the NATS protocol, as far as fan-out needs it: text lines, a payload behind some.
//!
//! One subject a room, all of the same length, and one subscription a connection, so that every member
//! of a room is sent the same bytes.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::wire::{Kind, Piece};

/// Longest line looked for; the server's INFO is the longest there is.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// What a client that is asked has to say, or says unasked to stay.
pub(super) const PONG: &[u8] = b"PONG\r\n";
/// What a server says to ask.
pub(super) const PING: &[u8] = b"PING\r\n";

/// Introduces the client to a server that has just accepted it, and subscribes it to a room. Blocking.
///
/// # Errors
///
/// The kernel's; `ConnectionRefused` with what the server says instead of INFO and PONG.
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

/// Reads one line, byte by byte: what follows it belongs to the measurement.
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

/// Appends what says `payload` in a room.
pub(super) fn publish(out: &mut Vec<u8>, room: usize, payload: &[u8]) {
    let head = format!("PUB {} {}\r\n", subject(room), payload.len());
    out.extend(head.as_bytes());
    out.extend(payload);
    out.extend(b"\r\n");
}

fn subject(room: usize) -> String {
    format!("r{room:03}")
}

/// The first whole piece of what a server sent; `None`: more bytes are needed.
///
/// # Errors
///
/// `InvalidData` for what no server says, and for its `-ERR`.
pub(super) fn first(bytes: &[u8]) -> io::Result<Option<Piece>> {
    let wrong = |line: &[u8]| {
        let line = String::from_utf8_lossy(line);
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the server said {line}"),
        )
    };
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
            // MSG <subject> <subscription> <bytes>: nobody here asks for answers, so there are no more fields.
            let text = std::str::from_utf8(line).map_err(|_| wrong(line))?;
            let size = text.split(' ').nth(3).and_then(|size| size.parse().ok());
            let payload: usize = size.ok_or_else(|| wrong(line))?;
            let end = head + payload + 2;
            return match bytes.get(head + payload..end) {
                None => Ok(None),
                Some(b"\r\n") => Ok(Some(Piece {
                    deflated: false,
                    kind: Kind::Data,
                    payload: head..head + payload,
                    end,
                })),
                Some(_) => Err(wrong(line)),
            };
        }
        _ => return Err(wrong(line)),
    };
    Ok(Some(Piece {
        deflated: false,
        kind,
        payload: head..head,
        end: head,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::sample::{self, Sample};
    use hdrhistogram::Histogram;
    use std::net::TcpListener;

    /// Goal: messages, pings and small talk are told apart wherever reads cut them. Method: the same
    /// bytes in parts of each length from 1 to their own.
    #[test]
    fn messages_survive_any_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let mut wire = Vec::from(*b"PING\r\n+OK\r\nINFO {}\r\n");
        let mut frame_bytes = 0;
        for number in [0_u64, 1, 3] {
            let mut text = String::new();
            sample::content(&mut text, number, 1_000_000, 40);
            let before = wire.len();
            wire.extend(format!("MSG r007 1 {}\r\n{text}\r\n", text.len()).bytes());
            frame_bytes = wire.len() - before;
        }
        for part in 1..wire.len() {
            let client =
                TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
            let (mut server, _) = listener.accept().expect("just connected");
            let mut sample = Sample::new(client)
                .expect("non-blocking")
                .speaking(Dialect::Nats);
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

    /// Goal: what is no message of ours is refused, not skipped.
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

    /// Goal: what a room's speaker says comes back as a message of the same room.
    #[test]
    fn rooms_are_subjects_of_one_length() {
        for (room, subject) in [(0, "r000"), (42, "r042"), (999, "r999")] {
            let mut out = Vec::new();
            publish(&mut out, room, b"hello");
            assert_eq!(out, format!("PUB {subject} 5\r\nhello\r\n").as_bytes());
        }
    }
}
