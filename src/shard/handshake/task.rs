//! A handshake that the first read did not complete: reads on, within a deadline.

use std::net::IpAddr;
use std::rc::Rc;

use super::acceptor::Acceptor;
use super::enter::enter;
use super::log;
use super::partial::PartialRequest;
use super::rejected::{NoUpgrade, Rejected};
use super::stream::{HandshakeStream, read_more, within_deadline};
use super::upgrade::{AcceptedUpgrade, examine};
use crate::logging::Kind;
use crate::net::stream::{Hosted, Stream};
use crate::net::tls::Tls;
use uproar_proto::base::admission::Place;
use uproar_proto::http::{self, HeadScanner, Request};

/// Continues a handshake to its end.
pub(crate) async fn receive_one<B: Hosted>(
    stream: Rc<B::Stream>,
    place: Place,
    partial: PartialRequest,
    acceptor: Rc<Acceptor<B>>,
) {
    let mut ip = partial.ip;
    let handshake = run_handshake(&*stream, place, partial, &mut ip, &acceptor);
    let (outcome, timed_out) = within_deadline(&*stream, handshake).await;
    if !acceptor.leave(place) {
        // It gave way to a newer handshake, or to closed doors, and was counted there.
        return;
    }
    match outcome {
        Ok(Some(_)) | Err(Rejected::Io(_)) if timed_out => {
            acceptor.shard.metrics.rejected_timeout.inc();
            let reason = "The handshake took longer than 10 s";
            log::log_unanswered(&acceptor, Kind::HandshakeTimeout, ip, reason);
        }
        Ok(Some(upgrade)) => match stream.to_fd() {
            Ok(socket) => enter(&acceptor, upgrade, socket),
            Err(error) => {
                acceptor.shard.metrics.accept_errors.inc();
                if let Some(suppressed) = acceptor.admit_line(Kind::HandshakeFailed) {
                    tracing::warn!(%ip, %error, suppressed, "an accepted connection could not be set up");
                }
            }
        },
        // A page was served.
        Ok(None) => {}
        Err(rejected) => {
            rejected.figure(&acceptor.shard.metrics).inc();
            if let (Rejected::Tls(_) | Rejected::Preface(_), Some(kind)) =
                (&rejected, rejected.kind())
            {
                log::log_unanswered(&acceptor, kind, ip, &rejected.to_string());
            }
        }
    }
}

/// Reads a proxy's header and the head, and judges them; answers refusals and plain pages itself. `ip` becomes the
/// client's as soon as that is known. Returns `None` if a page was served.
async fn run_handshake<B: Hosted>(
    stream: &B::Stream,
    place: Place,
    mut partial: PartialRequest,
    ip: &mut IpAddr,
    acceptor: &Acceptor<B>,
) -> Result<Option<AcceptedUpgrade>, Rejected> {
    if partial.is_prefaced {
        if let Some(NoUpgrade::Rejected(rejected)) = partial.decided.take() {
            return Err(rejected);
        }
        read_preface(stream, &mut partial).await?;
        if let Some(holder) = acceptor.holder(partial.ip) {
            acceptor.places.borrow_mut().identify(place, holder);
        }
    }
    let PartialRequest {
        ip: client_ip,
        received,
        mut scanner,
        decided,
        accepted,
        ..
    } = partial;
    *ip = client_ip;
    let mut peer = HandshakeStream::new(stream, received);
    // A refusal of the first read has been charged to its address.
    let is_charged = decided.is_some();
    let judged = match decided {
        Some(decided) => Err(decided),
        None => read_head(&mut peer, &mut scanner, ip, acceptor).await,
    };
    if let Some(is_resumed) = peer.tls.as_ref().and_then(|tls| tls.is_resumed()) {
        let metrics = &acceptor.shard.metrics;
        [&metrics.tls_full, &metrics.tls_resumed][usize::from(is_resumed)].inc();
    }
    match judged {
        Ok(mut upgrade) => {
            upgrade.tls = peer.tls;
            upgrade.accepted = accepted;
            Ok(Some(upgrade))
        }
        Err(NoUpgrade::Page) => {
            let mut answer = Vec::new();
            page(acceptor, &peer.plain, &mut answer);
            peer.write(answer).await?;
            peer.end().await;
            Ok(None)
        }
        Err(NoUpgrade::Rejected(rejected)) => {
            if is_charged || rejected.status().is_none() || acceptor.is_answered(*ip) {
                refuse(&mut peer, &rejected, *ip, acceptor).await?;
            } else {
                stream.abort();
            }
            Err(rejected)
        }
    }
}

/// Answers a rejected request, if it gets an answer, and logs it.
async fn refuse<B: Hosted>(
    peer: &mut HandshakeStream<'_, B::Stream>,
    rejected: &Rejected,
    ip: IpAddr,
    acceptor: &Acceptor<B>,
) -> Result<(), Rejected> {
    if let Some((status, code)) = rejected.status() {
        let id = acceptor.ids.borrow_mut().next_id();
        let (reason, mut answer) = (rejected.to_string(), Vec::new());
        http::refusal(&mut answer, status, id, code.number(), &reason);
        if let Some(kind) = rejected.kind() {
            log::log_rejected(acceptor, kind, ip, id, &peer.plain, &reason);
        }
        peer.write(answer).await?;
        peer.end().await;
    }
    Ok(())
}

/// Sets up TLS where connections have it, reads until the head is whole, and judges it.
///
/// # Errors
///
/// What the request gets instead of a connection.
async fn read_head<B: Hosted>(
    peer: &mut HandshakeStream<'_, B::Stream>,
    scanner: &mut HeadScanner,
    ip: &mut IpAddr,
    acceptor: &Acceptor<B>,
) -> Result<AcceptedUpgrade, NoUpgrade> {
    let tls = acceptor.settings().tls.clone();
    if let Some(config) = tls {
        if peer.plain.is_empty() {
            peer.read().await?;
        }
        let first = peer.plain.first();
        if first.is_some_and(|first| http::is_without_tls(*first)) {
            return Err(Rejected::WithoutTls.into());
        }
        peer.set_up_tls(Tls::new(config).map_err(Rejected::from)?);
    }
    loop {
        if let Some(upgrade) = examine(scanner, &peer.plain, acceptor, ip)? {
            return Ok(upgrade);
        }
        peer.read().await?;
    }
}

/// Reads until the PROXY header of a trusted proxy is complete.
async fn read_preface(stream: &impl Stream, partial: &mut PartialRequest) -> Result<(), Rejected> {
    loop {
        let received = std::mem::take(&mut partial.received);
        if let Some(start) = partial.take_preface(&received)? {
            partial.received = received[start..].to_vec();
            return Ok(());
        }
        partial.received = read_more(stream, received).await?;
    }
}

/// Appends the answer to a plain HTTP request: a page, or 404.
fn page<B: Hosted>(acceptor: &Acceptor<B>, plain: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let (method, target, host) = match http::parse(plain) {
        Ok(Request::Plain {
            method,
            target,
            host,
        }) => (method, target, host),
        Ok(Request::Upgrade(_)) | Err(_) => ("GET", "", ""),
    };
    let pages = acceptor.config.pages.as_ref();
    if !pages.is_some_and(|pages| pages.answer(target, host, out)) {
        http::plain(out, 404, "text/plain; charset=utf-8", NOT_FOUND);
    }
    if method == "HEAD" {
        http::cut_body(out, start);
    }
}

const NOT_FOUND: &[u8] = b"Uproar messaging endpoint: connect with WebSocket and a chat token.\n";
