//! What both peers share: flags, a listener, and rooms.
//!
//! A room is one `tokio::sync::broadcast` ring: a message is kept once, each member has a place in it. Its
//! capacity is the bound of a member's backlog; a member that falls behind loses messages, and the
//! measurement sees it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::broadcast::{self, error::TryRecvError};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rooms by name, of one thread.
pub struct Rooms<M> {
    rooms: RefCell<HashMap<String, broadcast::Sender<M>>>,
    backlog_max: usize,
}

impl<M: Clone> Rooms<M> {
    /// The room's sender and a place in its ring.
    pub fn join(&self, name: &str) -> (broadcast::Sender<M>, broadcast::Receiver<M>) {
        let mut rooms = self.rooms.borrow_mut();
        rooms.retain(|_, sender| sender.receiver_count() > 0);
        let fresh = || broadcast::channel(self.backlog_max).0;
        let sender = rooms.entry(name.to_owned()).or_insert_with(fresh).clone();
        let receiver = sender.subscribe();
        (sender, receiver)
    }
}

/// What waits for a member, one by one, without waiting for more. What it lost is passed over.
pub fn pending<M: Clone>(place: &mut broadcast::Receiver<M>) -> impl Iterator<Item = M> {
    std::iter::from_fn(|| {
        loop {
            match place.try_recv() {
                Ok(message) => return Some(message),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
            }
        }
    })
}

/// Accepts connections on the port of the command line until the process ends; `serve` runs as a task for
/// each.
///
/// # Errors
///
/// The kernel's; `InvalidInput` for a command line without port and backlog.
pub fn run<M: Clone + 'static, F: Future<Output = ()> + 'static>(
    serve: impl Fn(TcpStream, &'static Rooms<M>) -> F,
) -> io::Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut argument = || {
        arguments
            .next()
            .and_then(Result::ok)
            .ok_or(io::ErrorKind::InvalidInput)
    };
    let (port, backlog_bytes_max) = (argument()?, argument()?);
    let port = u16::try_from(port).map_err(io::Error::other)?;
    let rooms: &'static Rooms<M> = Box::leak(Box::new(Rooms {
        rooms: RefCell::default(),
        backlog_max: backlog_bytes_max / MESSAGE_BYTES,
    }));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        let listener = listen(port)?;
        println!("listening on {port}");
        loop {
            // Out of descriptors, for one: the next may be luckier.
            let Ok((stream, _)) = listener.accept().await else {
                tokio::task::yield_now().await;
                continue;
            };
            stream.set_nodelay(true)?;
            tokio::task::spawn_local(serve(stream, rooms));
        }
    })
}

/// What takes TLS handshakes, if the command line goes on with the files of a certificate and its key.
///
/// # Errors
///
/// Files that are not there, or are not what they should be.
pub fn tls() -> io::Result<Option<TlsAcceptor>> {
    let mut files = std::env::args().skip(3);
    let (Some(certificate), Some(key)) = (files.next(), files.next()) else {
        return Ok(None);
    };
    let certificate = CertificateDer::from_pem_file(certificate).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .and_then(|config| {
            config
                .with_no_client_auth()
                .with_single_cert(vec![certificate], key)
        });
    let config = config.map_err(io::Error::other)?;
    Ok(Some(TlsAcceptor::from(std::sync::Arc::new(config))))
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    // The kernel bounds it by somaxconn.
    socket.listen(65_535)
}

/// What a message counts against the backlog's bytes: about the comparison's frames.
const MESSAGE_BYTES: usize = 400;

/// Messages put into one write at most.
pub const BATCH_MAX: usize = 256;
