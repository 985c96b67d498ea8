//! Peer: a WebSocket front of tokio-tungstenite on NATS core pub/sub. PORT, a connection's backlog in bytes, then the
//! servers' URLs, its own first.
//!
//! A room is a subject, subscribed once for each front. What a member says is published, and comes back to this front like
//! to all others: so members of one front hear the same order as NATS delivers it there.

use std::cell::OnceCell;
use std::io;

use async_nats::{Client, ConnectOptions, ServerAddr};
use futures_util::{SinkExt, StreamExt};
use peers::{BATCH_MAX, Rooms, pending, run};
use tokio::net::TcpStream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, broadcast};
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

thread_local! {
    // One thread does all; leaked, because tasks keep it for ever.
    static CLIENT: OnceCell<&'static Mutex<Option<Client>>> = const { OnceCell::new() };
}

fn main() -> io::Result<()> {
    run(serve)
}

/// The connection to NATS, made at the first use. It finds another server, and its own again, by itself.
async fn client() -> Client {
    let slot = CLIENT.with(|cell| *cell.get_or_init(|| Box::leak(Box::default())));
    let mut slot = slot.lock().await;
    if let Some(client) = &*slot {
        return client.clone();
    }
    let servers = std::env::args().skip(3).map(|url| url.parse());
    let servers: Vec<ServerAddr> = servers.collect::<Result<_, _>>().expect("URLs of servers");
    let options = ConnectOptions::new()
        .retain_servers_order()
        .retry_on_initial_connect();
    let client = options.connect(servers).await.expect("it retries for ever");
    slot.insert(client).clone()
}

async fn serve(stream: TcpStream, rooms: &'static Rooms<Message>) {
    let mut room = String::new();
    #[allow(clippy::result_large_err, reason = "the library's type of a refusal")]
    let path = |request: &Request, response: Response| {
        request.uri().path()[1..].clone_into(&mut room);
        Ok(response)
    };
    let client = client().await;
    // Read buffers for small messages: the default of 128 KiB for each connection is for large ones.
    let config = WebSocketConfig::default().read_buffer_size(4096);
    let Ok(mut socket) = accept_hdr_async_with_config(stream, path, Some(config)).await else {
        return;
    };
    let (sender, mut place) = rooms.join(&room);
    if sender.receiver_count() == 1 {
        tokio::task::spawn_local(hear(client.clone(), room.clone(), sender));
    }
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
                Some(Ok(Message::Text(text))) => {
                    let published = client.publish(room.clone(), text.into()).await;
                    if published.is_err() {
                        return;
                    }
                }
                Some(Ok(message)) if !message.is_close() => {}
                _ => return,
            },
        }
    }
}

/// Takes what is said in a room from NATS to the room's members here, while it has any.
async fn hear(client: Client, room: String, sender: broadcast::Sender<Message>) {
    let Ok(mut subscription) = client.subscribe(room).await else {
        return;
    };
    while let Some(message) = subscription.next().await {
        let Ok(text) = Utf8Bytes::try_from(message.payload) else {
            continue;
        };
        if sender.send(Message::Text(text)).is_err() {
            return;
        }
    }
}
