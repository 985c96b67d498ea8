//! Accepts connections and reads what each has already sent.
//!
//! A client's upgrade request follows its connect at once, so mostly the whole head is there at accept. Then the
//! handshake needs no task, no timer and no descriptor of the runtime. All others (TLS, slow heads, refusals)
//! continue as a task, `shard::handshake::task`.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;

use super::command::Doors;
use super::handshake::acceptor::Acceptor;
use super::handshake::enter::enter;
use super::handshake::partial::PartialRequest;
use super::handshake::task::receive_one;
use crate::logging::Kind;
use crate::net::listener::Listener;
use crate::net::socket;
use crate::net::stream::{self, Hosted};
use uproar_proto::base::limits::ACCEPTS_PER_TURN_MAX;

/// Accepts while the doors are open. Failures (above all: no descriptor is free) are counted: the connections stay in
/// the kernel's queue, and the oldest handshakes are closed to free descriptors.
pub(super) async fn accept_all<B: Hosted>(listener: Listener, acceptor: Rc<Acceptor<B>>) {
    let mut doors = acceptor.doors.subscribe();
    loop {
        turned(&mut doors, true).await;
        let accepted = listener.accept(ACCEPTS_PER_TURN_MAX, |socket, peer| {
            accept_one(socket, peer.ip().to_canonical(), &acceptor);
        });
        let accepted = tokio::select! {
            biased;
            () = turned(&mut doors, false) => continue,
            accepted = accepted => accepted,
        };
        match accepted {
            // Lets the shard and the other handshakes run.
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => {
                acceptor.shard.metrics.accept_errors.inc();
                if let Some(suppressed) = acceptor.admit_line(Kind::Accept) {
                    tracing::warn!(
                        %error,
                        suppressed,
                        "accept failed; retried every 50 ms, and the oldest handshakes give way"
                    );
                }
                for _ in 0..ACCEPTS_PER_TURN_MAX {
                    acceptor.displace_oldest();
                }
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Opens or closes the doors. Closed, the listening sockets stay open: newcomers wait in the kernel's queue.
pub(super) fn turn_doors<B: Hosted>(doors: Doors, acceptor: &Rc<Acceptor<B>>) {
    acceptor.doors.send_replace(doors.open);
    if doors.open {
        let _caller_gone = doors.answer.send(Ok(()));
    } else {
        stream::spawn(close(doors, Rc::clone(acceptor)));
    }
}

/// Waits for the handshakes in progress, aborts those that take too long, and answers; not if the doors open again
/// meanwhile.
async fn close<B: Hosted>(doors: Doors, acceptor: Rc<Acceptor<B>>) {
    let mut reopened = acceptor.doors.subscribe();
    let closed = async {
        if tokio::time::timeout(doors.deadline, acceptor.emptied())
            .await
            .is_err()
        {
            acceptor.abort_all();
        }
    };
    tokio::select! {
        biased;
        () = turned(&mut reopened, true) => {}
        () = closed => {
            let _caller_gone = doors.answer.send(Ok(()));
        }
    }
}

/// Waits until the doors are open, or closed.
async fn turned(doors: &mut watch::Receiver<bool>, open: bool) {
    let turned = doors.wait_for(|is_open| *is_open == open).await;
    turned.expect("the acceptor, which owns the sender, outlives its tasks");
}

fn accept_one<B: Hosted>(socket: OwnedFd, ip: IpAddr, acceptor: &Rc<Acceptor<B>>) {
    let mut partial = PartialRequest::new(ip, acceptor);
    if !acceptor.has_tls() {
        let mut scratch = acceptor.scratch.borrow_mut();
        match socket::receive_now(&socket, &mut scratch) {
            Ok(None) => {}
            Ok(Some(len @ 1..)) => {
                if let Some(upgrade) = partial.first_read(&scratch[..len], acceptor) {
                    return enter(acceptor, upgrade, socket);
                }
                if partial.gets_no_answer(acceptor) {
                    // Closing with unread bytes, or with this option, sends a reset.
                    let _gone = socket::reset_at_close(&socket);
                    return;
                }
            }
            Ok(Some(0)) | Err(_) => return acceptor.shard.metrics.rejected_gone.inc(),
        }
    }
    let Some(stream) = acceptor.stream(socket) else {
        return;
    };
    let Some(place) = acceptor.take_place(ip, partial.holder(), &stream) else {
        return;
    };
    let acceptor = Rc::clone(acceptor);
    stream::spawn(receive_one(stream, place, partial, acceptor));
}

const ACCEPT_RETRY: Duration = Duration::from_millis(50);
