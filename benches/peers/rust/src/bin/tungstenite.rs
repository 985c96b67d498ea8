//! Peer: tokio-tungstenite on one thread, a task for each connection. What is pending for a connection is
//! fed to its sink and flushed once.

use std::io;

use futures_util::{SinkExt, StreamExt};
use peers::{BATCH_MAX, Rooms, pending, run, tls};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::broadcast::error::RecvError;
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

fn main() -> io::Result<()> {
    let tls = tls()?;
    run(move |stream: TcpStream, rooms| {
        let tls = tls.clone();
        async move {
            let Some(tls) = tls else {
                return serve(stream, rooms).await;
            };
            if let Ok(stream) = tls.accept(stream).await {
                serve(stream, rooms).await;
            }
        }
    })
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, rooms: &'static Rooms<Message>) {
    let mut room = String::new();
    #[allow(clippy::result_large_err, reason = "the library's type of a refusal")]
    let path = |request: &Request, response: Response| {
        request.uri().path().clone_into(&mut room);
        Ok(response)
    };
    // Read buffers for small messages: the default of 128 KiB for each connection is for large ones.
    let config = WebSocketConfig::default().read_buffer_size(4096);
    let Ok(mut socket) = accept_hdr_async_with_config(stream, path, Some(config)).await else {
        return;
    };
    let (sender, mut place) = rooms.join(&room);
    loop {
        tokio::select! {
            message = place.recv() => {
                let first = match message {
                    Ok(message) => message,
                    Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => return,
                };
                for message in std::iter::once(first).chain(pending(&mut place)).take(BATCH_MAX) {
                    if socket.feed(message).await.is_err() {
                        return;
                    }
                }
                if socket.flush().await.is_err() {
                    return;
                }
            }
            message = socket.next() => match message {
                // The frame's bytes are shared, not copied. Nobody being there is no error.
                Some(Ok(message)) if message.is_text() => drop(sender.send(message)),
                Some(Ok(message)) if !message.is_close() => {}
                _ => return,
            },
        }
    }
}
