//! Peer: fastwebsockets on one thread, a task for each connection; hyper shakes hands, as in the library's
//! own examples. What is pending for a connection is gathered and written at once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use fastwebsockets::upgrade::{UpgradeFut, upgrade};
use fastwebsockets::{
    FragmentCollectorRead, Frame, OpCode, Payload, Role, WebSocketError, WebSocketWrite,
    after_handshake_split,
};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use peers::{BATCH_MAX, Rooms, pending, run};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

fn main() -> io::Result<()> {
    run(serve)
}

async fn serve(stream: TcpStream, rooms: &'static Rooms<Bytes>) {
    let service = service_fn(move |mut request: Request<Incoming>| async move {
        let room = request.uri().path().to_owned();
        let (response, upgraded) = upgrade(&mut request)?;
        tokio::task::spawn_local(async move {
            // However it ended, the connection is over.
            drop(member(upgraded, &room, rooms).await);
        });
        Ok::<_, WebSocketError>(response)
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    drop(connection.with_upgrades().await);
}

async fn member(
    upgraded: UpgradeFut,
    room: &str,
    rooms: &Rooms<Bytes>,
) -> Result<(), WebSocketError> {
    // The bare socket, without hyper's layers around it.
    let upgraded = upgraded.await?.into_inner().into_inner();
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        return Err(WebSocketError::ConnectionClosed);
    };
    if !parts.read_buf.is_empty() {
        // Who speaks before it is let in; nobody in the comparison does.
        return Err(WebSocketError::ConnectionClosed);
    }
    let (read, write) = parts.io.into_inner().into_split();
    let (read, write) = after_handshake_split(read, Gather::new(write), Role::Server);
    let (sender, place) = rooms.join(room);
    tokio::select! {
        outcome = hear(FragmentCollectorRead::new(read), sender) => outcome,
        outcome = tell(write, place) => outcome,
    }
}

async fn hear(
    mut read: FragmentCollectorRead<OwnedReadHalf>,
    sender: broadcast::Sender<Bytes>,
) -> Result<(), WebSocketError> {
    loop {
        // Pings and closes need no answer in the comparison.
        let mut answer = |_| async { Ok::<(), WebSocketError>(()) };
        let frame = read.read_frame(&mut answer).await?;
        match frame.opcode {
            OpCode::Text => {
                let text = match frame.payload {
                    Payload::Bytes(bytes) => bytes.freeze(),
                    other => Bytes::copy_from_slice(&other),
                };
                // Nobody being there is no error.
                drop(sender.send(text));
            }
            OpCode::Close => return Ok(()),
            _ => {}
        }
    }
}

async fn tell(
    mut write: WebSocketWrite<Gather>,
    mut place: broadcast::Receiver<Bytes>,
) -> Result<(), WebSocketError> {
    loop {
        let first = match place.recv().await {
            Ok(text) => text,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return Ok(()),
        };
        for text in std::iter::once(first)
            .chain(pending(&mut place))
            .take(BATCH_MAX)
        {
            write
                .write_frame(Frame::text(Payload::Borrowed(&text)))
                .await?;
        }
        write.flush().await?;
    }
}

/// Keeps what is written until the flush; without memory between two flushes, unlike `BufWriter`.
struct Gather {
    socket: OwnedWriteHalf,
    bytes: Vec<u8>,
    written: usize,
}

impl Gather {
    fn new(socket: OwnedWriteHalf) -> Self {
        Self {
            socket,
            bytes: Vec::new(),
            written: 0,
        }
    }
}

impl AsyncWrite for Gather {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.bytes.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.written < this.bytes.len() {
            let rest = &this.bytes[this.written..];
            this.written += ready!(Pin::new(&mut this.socket).poll_write(context, rest))?;
        }
        (this.bytes, this.written) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
