//! A member of a room, over the connection that the admin socket gave: frames in, frames out.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use super::failure::Failure;
use super::place::Place;
use crate::server::{JoinOrder, Order, ask_to_join};
use uproar_proto::base::limits::ADMIN_MEMBER_FRAME_BYTES_MAX;
use uproar_proto::ws::client::masked_frame;

/// The end of a request's and an answer's head.
const HEAD_END: &[u8] = b"\r\n\r\n";
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const FINAL: u8 = 0x80;

/// A connected member.
pub(super) struct Member {
    stream: UnixStream,
    // Bytes that were received and are not read yet.
    received: Vec<u8>,
    /// What the server says of the room: `arn`, `id`, `name`.
    pub(super) room: Value,
}

/// What a member hears.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A text frame: a JSON object.
    Frame(String),
    /// The server closes, and why.
    Closed(String),
}

impl Member {
    /// Joins the room.
    pub(super) fn join(place: &Place, wish: JoinOrder) -> Result<Self, Failure> {
        let data_dir = place.existing()?.data_dir;
        let (room, socket) = ask_to_join(&data_dir, &Order::Join(wish))
            .map_err(|error| Failure::Run(error.to_string()))?;
        Self::admitted(room, socket).map_err(|error| Failure::Run(error.to_string()))
    }

    /// Reads the answer to an upgrade that nobody had to ask for.
    fn admitted(room: Value, socket: OwnedFd) -> io::Result<Self> {
        let mut member = Self {
            stream: UnixStream::from(socket),
            received: Vec::new(),
            room,
        };
        let end = loop {
            let found = member.received.windows(HEAD_END.len());
            let found = found.into_iter().position(|bytes| bytes == HEAD_END);
            if let Some(found) = found {
                break found + HEAD_END.len();
            }
            member.receive()?;
        };
        let head: Vec<u8> = member.received.drain(..end).collect();
        if head.starts_with(b"HTTP/1.1 101") {
            return Ok(member);
        }
        while member.receive().is_ok() {}
        let body: Value = serde_json::from_slice(&member.received).unwrap_or_default();
        let reason = body["ErrorMessage"].as_str().map_or_else(
            || String::from_utf8_lossy(&head).trim().to_owned(),
            str::to_owned,
        );
        Err(io::Error::other(format!(
            "the room takes no member now: {reason}"
        )))
    }

    /// How long [`Member::hear`] waits; `None`: for ever.
    pub(super) fn wait_at_most(&self, time: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(time)
    }

    /// Waits for the next text or for the end; answers pings meanwhile.
    pub(super) fn hear(&mut self) -> io::Result<Heard> {
        loop {
            let Some((opcode, start, end)) = frame(&self.received)? else {
                self.receive()?;
                continue;
            };
            let payload: Vec<u8> = self.received.drain(..end).skip(start).collect();
            match opcode {
                TEXT => return Ok(Heard::Frame(String::from_utf8_lossy(&payload).into_owned())),
                PING => self.send(FINAL | 0xA, &payload)?,
                CLOSE => {
                    let reason = payload.get(2..).unwrap_or_default();
                    let reason = String::from_utf8_lossy(reason).into_owned();
                    return Ok(Heard::Closed(reason));
                }
                _ => {}
            }
        }
    }

    /// Says a text.
    pub(super) fn say(&self, text: &str) -> io::Result<()> {
        self.send(FINAL | TEXT, text.as_bytes())
    }

    fn send(&self, first: u8, payload: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::new();
        // A mask keeps what a page says from looking like a request to a proxy; here there is neither.
        masked_frame(&mut bytes, first, payload, [0; 4]);
        (&self.stream).write_all(&bytes)
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        let len = match self.stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => len,
        };
        self.received.extend(buffer.iter().take(len));
        Ok(())
    }
}

/// The first frame of some bytes, if it is whole: its opcode, and where its payload begins and ends.
fn frame(bytes: &[u8]) -> io::Result<Option<(u8, usize, usize)>> {
    let [first, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    let (start, len) = match (second & 0x7F, rest) {
        (126, [a, b, ..]) => (4, u64::from(u16::from_be_bytes([*a, *b]))),
        (127, rest) => match rest.first_chunk() {
            Some(len) => (10, u64::from_be_bytes(*len)),
            None => return Ok(None),
        },
        (126, _) => return Ok(None),
        (len, _) => (2, u64::from(len)),
    };
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > ADMIN_MEMBER_FRAME_BYTES_MAX || second & 0x80 != 0 || first & FINAL == 0 {
        let what = "a frame that no server of ours sends; is it of another version?";
        return Err(io::Error::other(what));
    }
    let end = start + len;
    Ok((bytes.len() >= end).then_some((first & 0xF, start, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each form of a length is read, a frame that is not whole is waited for, one that no server sends is
    /// refused. Method: frames of the server's own encoder at the limits of the three forms, cut at every byte of
    /// their head.
    #[test]
    fn frames_are_read_as_the_server_writes_them() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; len];
            let mut out = bytes::BytesMut::new();
            uproar_proto::ws::message(&mut out, true, &payload);
            let whole = out.len();
            let read = frame(&out).expect("a frame").expect("a whole one");
            assert_eq!(read, (TEXT, whole - len, whole));
            for cut in 0..(whole - len).max(1) {
                assert_eq!(
                    frame(&out[..cut]).expect("its beginning"),
                    None,
                    "{len} at {cut}"
                );
            }
        }
        for wrong in [
            &[0x81, 0x80][..],
            &[0x01, 0x00],
            &[0x81, 127, 1, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert!(frame(wrong).is_err(), "{wrong:?}");
        }
    }

    /// Goal: a member that is refused says why. Method: the server's end of a pair writes a refusal and ends.
    #[test]
    fn a_refusal_is_told() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let mut refusal = Vec::new();
        let id = uproar_proto::base::id::FrameIds::seeded(1).next_id();
        uproar_proto::http::refusal(&mut refusal, 429, id, 429, "The server is full");
        (&theirs).write_all(&refusal).expect("room");
        drop(theirs);
        let refused = Member::admitted(Value::Null, ours.into());
        let refused = refused.err().expect("a refusal").to_string();
        assert!(refused.contains("The server is full"), "{refused}");
    }
}
