//! TailRoom: what a room says, live, to whoever may look. One more member hears it, so that a slow reader is a slow
//! viewer and nothing else.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use bytes::{Buf, Bytes, BytesMut};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::authorize::Authorized;
use super::resource::find_or_wait;
use crate::control::fault::Fault;
use crate::control::record::RoomRecord;
use crate::control::server_order::OrderFault;
use crate::control::state::Control;
use uproar_proto::base::limits::{ADMIN_MEMBER_FRAME_BYTES_MAX, CALL_ANSWER_MAX, TAILS_MAX};
use uproar_proto::ws::client::{first_frame, masked_frame};

/// Who listens, as other members and `uproar room show` see it.
const USER: &str = "operator";
const HEAD_END: &[u8] = b"\r\n\r\n";
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
/// A whole Pong.
const PONG: u8 = 0x8A;

/// A member that only listens.
#[derive(Debug)]
pub(in crate::control) struct Tail {
    stream: UnixStream,
    // Bytes that were received and are not read yet.
    received: BytesMut,
    // Counts it among the open ones.
    _open: Rc<()>,
}

/// What a member hears.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::control) enum Heard {
    /// A text frame, a JSON object, and a line feed.
    Line(Bytes),
    /// The room has closed the connection, and why.
    Closed(String),
}

/// Joins the room of an authorized call.
pub(super) async fn open(control: &Rc<Control>, call: Authorized) -> Result<Tail, Fault> {
    let (input, arn) = call.into_resource();
    input.finish_known()?;
    let room = find_or_wait::<RoomRecord>(control, &arn).await?;
    let open = Rc::clone(&control.open_tails);
    // The control plane's own reference is one, too.
    if Rc::strong_count(&open) > 1 + TAILS_MAX {
        let message = format!("{TAILS_MAX} rooms are listened to already; end one of them");
        return Err(OrderFault::Busy(message).into());
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let failed = |error: std::io::Error| {
        OrderFault::Failed(format!(
            "no connection: {error}; see the limit on open files"
        ))
    };
    let (ours, theirs) = pair.map_err(|error| failed(error.into()))?;
    let stream = UnixStream::from_std(OwnedFd::into(theirs)).map_err(failed)?;
    control.admit_member(room, &json!({ "userId": USER }), ours)?;
    let mut tail = Tail {
        stream,
        received: BytesMut::new(),
        _open: open,
    };
    timeout(CALL_ANSWER_MAX, tail.admitted())
        .await
        .map_err(|_elapsed| Fault::Late)??;
    Ok(tail)
}

impl Tail {
    /// Reads the answer to an upgrade that nobody had to ask for.
    async fn admitted(&mut self) -> Result<(), Fault> {
        let end = loop {
            let mut found = self.received.windows(HEAD_END.len());
            if let Some(found) = found.position(|bytes| bytes == HEAD_END) {
                break found + HEAD_END.len();
            }
            if self.receive().await.is_none() {
                return Err(OrderFault::Failed("the room's shard has ended".to_owned()).into());
            }
        };
        let head = self.received.split_to(end);
        if head.starts_with(b"HTTP/1.1 101") {
            return Ok(());
        }
        while self.receive().await.is_some() {}
        let body: Value = serde_json::from_slice(&self.received).unwrap_or_default();
        let reason = body["ErrorMessage"].as_str().unwrap_or("it says no more");
        Err(OrderFault::Busy(format!("the room takes no member now: {reason}")).into())
    }

    /// Waits for the next text or for the end; answers pings meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost, but a pong that is being written may be cut, which ends the connection.
    pub(in crate::control) async fn hear(&mut self) -> Heard {
        loop {
            let (opcode, start, end) =
                match first_frame(&self.received, ADMIN_MEMBER_FRAME_BYTES_MAX) {
                    Ok(Some(frame)) => frame,
                    Ok(None) => match self.receive().await {
                        Some(()) => continue,
                        None => return Heard::Closed("the connection has ended".to_owned()),
                    },
                    Err(foreign) => return Heard::Closed(foreign.to_string()),
                };
            let mut frame = self.received.split_to(end);
            frame.advance(start);
            match opcode {
                TEXT => {
                    frame.extend_from_slice(b"\n");
                    return Heard::Line(frame.freeze());
                }
                PING => {
                    let mut pong = Vec::new();
                    // A mask keeps what a page says from looking like a request to a proxy; here there is neither.
                    masked_frame(&mut pong, PONG, &frame, [0; 4]);
                    // What is not written shows at the next read.
                    let _ended = self.stream.write_all(&pong).await;
                }
                CLOSE => {
                    let reason = frame.get(2..).unwrap_or_default();
                    return Heard::Closed(String::from_utf8_lossy(reason).into_owned());
                }
                _ => {}
            }
        }
    }

    /// `None`: there is no more.
    async fn receive(&mut self) -> Option<()> {
        self.received.reserve(4096);
        match self.stream.read_buf(&mut self.received).await {
            Ok(1..) => Some(()),
            Ok(0) | Err(_) => None,
        }
    }
}
