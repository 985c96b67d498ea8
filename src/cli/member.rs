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
use uproar_proto::ws::client::{first_frame, masked_frame};

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
            let frame = first_frame(&self.received, ADMIN_MEMBER_FRAME_BYTES_MAX);
            let frame = frame.map_err(io::Error::other)?;
            let Some((opcode, start, end)) = frame else {
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

#[cfg(test)]
mod tests {
    use super::*;

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
