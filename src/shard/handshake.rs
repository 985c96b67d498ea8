//! The handshake: TLS, the request head, the token. A handshake that the first read does not complete is
//! sequential and short-lived, so it is async code on tokio-uring.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::accept::{Acceptor, ECHO_ROOM, HandshakeConfig};
use super::command::{AdmitError, PendingConnection};
use super::core::user_hash;
use super::metrics::{Figure, ShardMetrics};
use super::refused_handshake;
use crate::logging::Kind;
use crate::net::socket;
use crate::net::stream::Stream;
use crate::net::tls::{Progress, Tls, TlsError};
use uproar_proto::base::admission::{Holder, Place};
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::base::limits::{
    DEFLATE_WINDOW_BITS, HANDSHAKE_READ_BYTES, HANDSHAKE_TIMEOUT, LINGER_BYTES_MAX,
};
use uproar_proto::chat::{ErrorCode, encode};
use uproar_proto::http::{self, HeadFault, HeadScanner, Request, Upgrade};
use uproar_proto::proxy::{self, Preface, PrefaceFault};
use uproar_proto::session::Grant;
use uproar_proto::token::{Capabilities, TokenError, TokenId};
use uproar_proto::ws::extension::Agreement;

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
enum Rejected {
    #[error("{0}")]
    Preface(#[from] PrefaceFault),
    #[error("{0}")]
    Head(#[from] HeadFault),
    #[error("A chat token is required in Sec-WebSocket-Protocol")]
    MissingToken,
    #[error("{0}")]
    Token(#[from] TokenError),
    #[error("Origin is not allowed")]
    Origin,
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("This port speaks TLS: use wss:// or https://")]
    WithoutTls,
    #[error("a page was asked for")]
    Page,
}

/// The bytes that a connection has sent so far, and why they were refused if they were.
pub(super) struct PartialRequest {
    // The peer's address; the client's once a trusted proxy has named it.
    ip: IpAddr,
    // A trusted proxy may send a PROXY header first, before TLS.
    is_prefaced: bool,
    received: Vec<u8>,
    scanner: HeadScanner,
    refused: Option<Rejected>,
}

impl PartialRequest {
    pub(super) fn new(ip: IpAddr, acceptor: &Acceptor) -> Self {
        Self {
            ip,
            is_prefaced: acceptor.config.limits.trusted.trusts(ip),
            received: Vec::new(),
            scanner: HeadScanner::default(),
            refused: None,
        }
    }

    /// The holder whose share it counts against; `None` until a trusted proxy has named the client.
    pub(super) fn holder(&self) -> Option<Holder> {
        (!self.is_prefaced).then(|| Holder::of(self.ip))
    }

    /// Parses the first bytes of a connection without TLS; returns the accepted upgrade if they hold a complete
    /// valid request. Otherwise they are kept for [`receive_one`].
    pub(super) fn first_read(
        &mut self,
        received: &[u8],
        acceptor: &Acceptor,
    ) -> Option<AcceptedUpgrade> {
        let start = match self.take_preface(received) {
            Ok(Some(start)) => start,
            Ok(None) => {
                self.received = received.to_vec();
                return None;
            }
            Err(fault) => {
                self.refused = Some(fault.into());
                return None;
            }
        };
        let received = &received[start..];
        match examine(&mut self.scanner, received, acceptor, &mut self.ip) {
            Ok(None) => {}
            Ok(Some((accepted, end))) => {
                return Some(AcceptedUpgrade::new(
                    None,
                    accepted,
                    self.ip,
                    received[end..].to_vec(),
                ));
            }
            Err(rejected) => self.refused = Some(rejected),
        }
        self.received = received.to_vec();
        None
    }

    /// Parses the PROXY header at the start of `received`, all bytes so far. Returns where the client's bytes
    /// begin; `None` until that is known.
    fn take_preface(&mut self, received: &[u8]) -> Result<Option<usize>, PrefaceFault> {
        if !self.is_prefaced {
            return Ok(Some(0));
        }
        let start = match proxy::preface(received)? {
            Preface::Incomplete => return Ok(None),
            Preface::Absent => 0,
            Preface::Header { len, source } => {
                self.ip = source.unwrap_or(self.ip);
                len
            }
        };
        self.is_prefaced = false;
        Ok(Some(start))
    }

    /// Whether the request was refused and its address was refused too often lately to get an answer.
    pub(super) fn gets_no_answer(&self, acceptor: &Acceptor) -> bool {
        let Some(rejected) = self
            .refused
            .as_ref()
            .filter(|rejected| rejected.is_refusal())
        else {
            return false;
        };
        let answered = acceptor.is_answered(self.ip);
        if !answered && let Some(figure) = rejected.figure(&acceptor.metrics) {
            figure.inc();
        }
        !answered
    }
}

/// Continues a handshake to its end.
pub(super) async fn receive_one(
    stream: Rc<Stream>,
    place: Place,
    partial: PartialRequest,
    acceptor: Rc<Acceptor>,
) {
    let (mut ip, mut timed_out) = (partial.ip, false);
    let outcome = {
        let mut handshake =
            std::pin::pin!(run_handshake(&stream, place, partial, &mut ip, &acceptor));
        tokio::select! {
            biased;
            outcome = &mut handshake => outcome,
            () = tokio::time::sleep(HANDSHAKE_TIMEOUT) => {
                timed_out = true;
                // The pending operation completes with an error; dropping it would leak it.
                stream.abort();
                handshake.await
            }
        }
    };
    if !acceptor.places.borrow_mut().leave(place) {
        // It was displaced by a newer handshake, and counted there.
        return;
    }
    let accepted = match outcome {
        Ok(_) | Err(Rejected::Io(_)) if timed_out => {
            acceptor.metrics.rejected_timeout.inc();
            let reason = "The handshake took longer than 10 s";
            refused_handshake::log_unanswered(&acceptor, Kind::HandshakeTimeout, ip, reason);
            return;
        }
        Ok(accepted) => accepted,
        Err(rejected) => {
            if let Some(figure) = rejected.figure(&acceptor.metrics) {
                figure.inc();
                if let (Rejected::Tls(_) | Rejected::Preface(_), Some(kind)) =
                    (&rejected, rejected.kind())
                {
                    refused_handshake::log_unanswered(&acceptor, kind, ip, &rejected.to_string());
                }
            }
            return;
        }
    };
    match stream.to_fd() {
        Ok(socket) => acceptor.enter(accepted, socket),
        Err(error) => {
            acceptor.metrics.accept_errors.inc();
            if let Some(suppressed) = acceptor.admit_line(Kind::HandshakeFailed) {
                tracing::warn!(%ip, %error, suppressed, "an accepted connection could not be set up");
            }
        }
    }
}

/// An accepted upgrade before the socket is attached.
pub(super) struct AcceptedUpgrade {
    ip: IpAddr,
    tls: Option<Box<Tls>>,
    greeting: Vec<u8>,
    leftover: Vec<u8>,
    opened_token: OpenedToken,
    agreement: Option<Agreement>,
}

/// The content of an opened token.
struct OpenedToken {
    grant: Grant,
    room: RoomId,
    token: TokenId,
    token_expires: UnixTime,
    user_hash: u32,
}

impl AcceptedUpgrade {
    fn new(tls: Option<Box<Tls>>, accepted: Accepted, ip: IpAddr, leftover: Vec<u8>) -> Self {
        let (greeting, opened_token, agreement) = accepted;
        Self {
            ip,
            tls,
            greeting,
            leftover,
            opened_token,
            agreement,
        }
    }

    pub(super) fn into_pending(self, socket: OwnedFd) -> Box<PendingConnection<OwnedFd>> {
        let Self {
            ip,
            tls,
            greeting,
            leftover,
            opened_token,
            agreement,
        } = self;
        let OpenedToken {
            grant,
            room,
            token,
            token_expires,
            user_hash,
        } = opened_token;
        Box::new(PendingConnection {
            socket,
            ip,
            tls,
            greeting,
            leftover,
            grant,
            room,
            token,
            token_expires,
            user_hash,
            agreement,
            share: None,
        })
    }
}

/// Reads a proxy's header and the head, and opens the token; answers refusals and plain pages itself. `ip` becomes
/// the client's as soon as that is known.
async fn run_handshake(
    stream: &Stream,
    place: Place,
    mut partial: PartialRequest,
    ip: &mut IpAddr,
    acceptor: &Acceptor,
) -> Result<AcceptedUpgrade, Rejected> {
    if partial.is_prefaced {
        if let Some(rejected) = partial.refused.take() {
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
        mut refused,
        ..
    } = partial;
    *ip = client_ip;
    let mut peer = HandshakeStream::new(stream, received);
    if let Some(config) = &acceptor.config.tls {
        if peer.plain.is_empty() {
            peer.read().await?;
        }
        if peer
            .plain
            .first()
            .is_some_and(|first| http::is_without_tls(*first))
        {
            if !acceptor.is_answered(*ip) {
                stream.abort();
                return Err(Rejected::WithoutTls);
            }
            refused = Some(Rejected::WithoutTls);
        } else {
            peer.set_up_tls(Tls::new(Arc::clone(config))?);
        }
    }
    let rejected = match refused {
        Some(rejected) => rejected,
        None => loop {
            match examine(&mut scanner, &peer.plain, acceptor, ip) {
                Ok(None) => peer.read().await?,
                Ok(Some((accepted, end))) => {
                    let leftover = peer.plain.split_off(end);
                    return Ok(AcceptedUpgrade::new(peer.tls, accepted, *ip, leftover));
                }
                Err(rejected) => {
                    if rejected.is_refusal() && !acceptor.is_answered(*ip) {
                        stream.abort();
                        return Err(rejected);
                    }
                    break rejected;
                }
            }
        },
    };
    let mut answer = Vec::new();
    let id = rejected.answer(acceptor, &peer.plain, &mut answer);
    if let Some((kind, id)) = rejected.kind().zip(id) {
        let reason = rejected.to_string();
        refused_handshake::log_rejected(acceptor, kind, *ip, id, &peer.plain, &reason);
    }
    peer.write(answer).await?;
    peer.end().await;
    Err(rejected)
}

/// Reads until the PROXY header of a trusted proxy is complete.
async fn read_preface(stream: &Stream, partial: &mut PartialRequest) -> Result<(), Rejected> {
    loop {
        let received = std::mem::take(&mut partial.received);
        if let Some(start) = partial.take_preface(&received)? {
            partial.received = received[start..].to_vec();
            return Ok(());
        }
        let (result, received) = stream.read(received, HANDSHAKE_READ_BYTES).await;
        if result? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        partial.received = received;
    }
}

/// The `101`, the token's content, and the agreement on compression.
type Accepted = (Vec<u8>, OpenedToken, Option<Agreement>);

/// Judges `received`, all bytes so far, and returns where the head ends; `None` until the head is complete.
fn examine(
    scanner: &mut HeadScanner,
    received: &[u8],
    acceptor: &Acceptor,
    ip: &mut IpAddr,
) -> Result<Option<(Accepted, usize)>, Rejected> {
    let Some(end) = scanner.scan(received)? else {
        return Ok(None);
    };
    let head = &received[..end];
    let trusted = &acceptor.config.limits.trusted;
    if trusted.trusts(*ip) {
        http::field_values(head, trusted.header().name(), |values| {
            *ip = trusted.viewer(*ip, values);
        })?;
    }
    Ok(Some((judge(head, acceptor)?, end)))
}

/// Judges a complete head.
fn judge(head: &[u8], acceptor: &Acceptor) -> Result<Accepted, Rejected> {
    let upgrade = match http::parse(head)? {
        Request::Upgrade(upgrade) => upgrade,
        Request::Plain { .. } => return Err(Rejected::Page),
    };
    let origins = &acceptor.config.origins;
    if let Some(origin) = upgrade.origin
        && !origins.is_empty()
        && !origins.iter().any(|allowed| allowed == origin)
    {
        return Err(Rejected::Origin);
    }
    let opened_token = if acceptor.config.echo {
        echo_token(acceptor)
    } else {
        open(&upgrade, acceptor)?
    };
    let mut greeting = Vec::with_capacity(256 + upgrade.token.map_or(0, str::len));
    let agreement = acceptor.agree(&upgrade);
    http::switching_protocols(&mut greeting, upgrade.key, upgrade.token, agreement);
    Ok((greeting, opened_token, agreement))
}

fn open(upgrade: &Upgrade<'_>, acceptor: &Acceptor) -> Result<OpenedToken, Rejected> {
    let token = upgrade.token.ok_or(Rejected::MissingToken)?;
    let mut scratch = Vec::new();
    let now = acceptor.clock.now();
    let keyring = acceptor.config.keyring.load();
    let opened = keyring.open(token, &mut scratch, now.unix)?;
    let sender_json = encode::sender_json(opened.user_id(), opened.attributes());
    Ok(OpenedToken {
        grant: Grant {
            sender_json: sender_json.into_boxed_str(),
            capabilities: opened.capabilities(),
            ends: now.tick.after(opened.session_end().since(now.unix)),
        },
        room: opened.room(),
        token: opened.token_id(),
        token_expires: opened.expires(),
        user_hash: user_hash(opened.user_id()),
    })
}

fn echo_token(acceptor: &Acceptor) -> OpenedToken {
    let serial = acceptor.ids.borrow_mut().next_id();
    let mut token = [0; uproar_proto::token::TOKEN_ID_BYTES];
    token[..serial.as_bytes().len()].copy_from_slice(serial.as_bytes());
    let now = acceptor.clock.now();
    let day = Duration::from_hours(24);
    OpenedToken {
        grant: Grant {
            sender_json: "{}".into(),
            capabilities: Capabilities::default(),
            ends: now.tick.after(day),
        },
        room: RoomId::parse(ECHO_ROOM).expect("twelve letters and digits"),
        token: TokenId::from_bytes(token),
        token_expires: now.unix.after(day),
        user_hash: 0,
    }
}

/// Answers a connection that its room's home shard did not admit, and closes it.
pub(super) async fn reject(
    pending: Box<PendingConnection<OwnedFd>>,
    error: AdmitError,
    acceptor: Rc<Acceptor>,
) {
    let id = acceptor.ids.borrow_mut().next_id();
    refused_handshake::log_not_admitted(&acceptor, &pending, error, id);
    let PendingConnection {
        socket, tls, ip, ..
    } = *pending;
    if !acceptor.is_answered(ip) {
        // A failure means that the peer closed first.
        let _gone = socket::reset_at_close(&socket);
        return;
    }
    let stream = Rc::new(Stream::from_fd(socket));
    let Some(place) = acceptor.take_place(ip, acceptor.holder(ip), &stream) else {
        return;
    };
    let code = match error {
        AdmitError::TokenUsed => ErrorCode::Unauthorized,
        AdmitError::NoSuchRoom => ErrorCode::NotFound,
        AdmitError::TooManyConnections
        | AdmitError::TooManyTokens
        | AdmitError::TooManyOfAddress
        | AdmitError::Busy => ErrorCode::TooManyRequests,
        AdmitError::NotRecorded => ErrorCode::Internal,
    };
    let mut answer = Vec::new();
    http::refusal(
        &mut answer,
        code.number(),
        id,
        code.number(),
        &error.to_string(),
    );
    let mut peer = HandshakeStream::new(&stream, Vec::new());
    peer.tls = tls;
    let mut work = std::pin::pin!(async {
        let _gone = peer.write(answer).await;
        peer.end().await;
    });
    tokio::select! {
        biased;
        () = &mut work => {}
        () = tokio::time::sleep(HANDSHAKE_TIMEOUT) => {
            stream.abort();
            work.await;
        }
    }
    acceptor.places.borrow_mut().leave(place);
}

/// A connection during its handshake, which offers plaintext with and without TLS.
struct HandshakeStream<'a> {
    stream: &'a Stream,
    tls: Option<Box<Tls>>,
    // Ciphertext received before TLS was set up.
    ahead: Vec<u8>,
    plain: Vec<u8>,
}

impl<'a> HandshakeStream<'a> {
    fn new(stream: &'a Stream, plain: Vec<u8>) -> Self {
        Self {
            stream,
            tls: None,
            ahead: Vec::new(),
            plain,
        }
    }

    /// Sets up TLS; the bytes received until now are ciphertext.
    fn set_up_tls(&mut self, tls: Tls) {
        self.tls = Some(Box::new(tls));
        self.ahead = std::mem::take(&mut self.plain);
    }

    /// Reads until at least one more plaintext byte has arrived.
    async fn read(&mut self) -> Result<(), Rejected> {
        loop {
            let Some(tls) = &mut self.tls else {
                let plain = std::mem::take(&mut self.plain);
                let (result, plain) = self.stream.read(plain, HANDSHAKE_READ_BYTES).await;
                self.plain = plain;
                return match result? {
                    0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                    _ => Ok(()),
                };
            };
            let mut ciphertext = std::mem::take(&mut self.ahead);
            if ciphertext.is_empty() {
                let (result, received) = self.stream.read(ciphertext, HANDSHAKE_READ_BYTES).await;
                if result? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                ciphertext = received;
            }
            let (before, mut out) = (self.plain.len(), Vec::new());
            let progress = tls.receive(&mut ciphertext, &mut self.plain, &mut out);
            if !out.is_empty() {
                self.stream.write_all(out).await?;
            }
            match progress? {
                Progress::Closed => {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                Progress::Established | Progress::Handshaking => {}
            }
            if self.plain.len() > before {
                return Ok(());
            }
        }
    }

    async fn write(&mut self, bytes: Vec<u8>) -> Result<(), Rejected> {
        let bytes = match &mut self.tls {
            None => bytes,
            Some(tls) => {
                let mut sealed = Vec::new();
                tls.seal(&bytes, &mut sealed)?;
                tls.seal_close(&mut sealed);
                sealed
            }
        };
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Ends our side and waits for the client's end, so that a reset does not destroy the answer. Bytes that
    /// still arrive are read and dropped, up to a bound; the handshake deadline covers this too.
    async fn end(&mut self) {
        self.stream.shutdown_write();
        let (mut left, mut dropped) = (LINGER_BYTES_MAX, Vec::new());
        while left > 0 {
            dropped.clear();
            let (result, buffer) = self.stream.read(dropped, HANDSHAKE_READ_BYTES).await;
            let (Ok(len @ 1..), buffer) = (result, buffer) else {
                return;
            };
            (left, dropped) = (left.saturating_sub(len), buffer);
        }
    }
}

impl Rejected {
    /// Appends the HTTP answer; returns the `Id` in it if it is a refusal.
    fn answer(&self, acceptor: &Acceptor, plain: &[u8], out: &mut Vec<u8>) -> Option<FrameId> {
        let (status, code) = match self {
            Self::Page => {
                acceptor.page(plain, out);
                return None;
            }
            Self::Head(fault) => (fault.status(), ErrorCode::BadRequest),
            Self::WithoutTls => (400, ErrorCode::BadRequest),
            Self::MissingToken | Self::Token(_) => (401, ErrorCode::Unauthorized),
            Self::Origin => (403, ErrorCode::Forbidden),
            Self::Preface(_) | Self::Tls(_) | Self::Io(_) => return None,
        };
        let id = acceptor.ids.borrow_mut().next_id();
        http::refusal(out, status, id, code.number(), &self.to_string());
        Some(id)
    }

    /// The kind of its log line. A client that went away was not refused, and a page is no refusal.
    fn kind(&self) -> Option<Kind> {
        match self {
            Self::Preface(_) | Self::Head(_) => Some(Kind::HandshakeMalformed),
            Self::MissingToken => Some(Kind::HandshakeMissingToken),
            Self::Token(TokenError::Expired { .. }) => Some(Kind::HandshakeExpiredToken),
            Self::Token(_) => Some(Kind::HandshakeBadToken),
            Self::Origin => Some(Kind::HandshakeOrigin),
            Self::Tls(_) | Self::WithoutTls => Some(Kind::HandshakeTls),
            Self::Io(_) | Self::Page => None,
        }
    }

    /// Whether it is the client's fault and gets an answer.
    fn is_refusal(&self) -> bool {
        match self {
            Self::Head(_)
            | Self::MissingToken
            | Self::Token(_)
            | Self::Origin
            | Self::WithoutTls => true,
            Self::Preface(_) | Self::Tls(_) | Self::Io(_) | Self::Page => false,
        }
    }

    fn figure<'a>(&self, metrics: &'a ShardMetrics) -> Option<&'a Figure> {
        match self {
            Self::Preface(_) | Self::Head(_) => Some(&metrics.rejected_malformed),
            Self::MissingToken => Some(&metrics.rejected_missing),
            Self::Token(TokenError::Expired { .. }) => Some(&metrics.rejected_expired),
            Self::Token(_) => Some(&metrics.rejected_token),
            Self::Origin => Some(&metrics.rejected_origin),
            Self::Tls(_) | Self::WithoutTls => Some(&metrics.rejected_tls),
            Self::Io(_) => Some(&metrics.rejected_gone),
            Self::Page => None,
        }
    }
}

impl Acceptor {
    /// Agrees on compression. One encoding serves all viewers of a room, so all have its window; echoes are
    /// compressed one by one, with the window that a client asks for.
    fn agree(&self, upgrade: &Upgrade<'_>) -> Option<Agreement> {
        let HandshakeConfig {
            compression, echo, ..
        } = self.config;
        let (min, most) = if echo {
            ECHO_WINDOW_BITS
        } else {
            (DEFLATE_WINDOW_BITS, DEFLATE_WINDOW_BITS)
        };
        compression
            .then(|| upgrade.offers.agree(min, most))
            .flatten()
    }

    fn page(&self, plain: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        let (method, target) = match http::parse(plain) {
            Ok(Request::Plain { method, target, .. }) => (method, target),
            _ => ("GET", ""),
        };
        let pages = self.config.pages.as_ref();
        if !pages.is_some_and(|pages| pages.answer(method, target, out)) {
            http::plain(out, 404, "text/plain; charset=utf-8", NOT_FOUND);
        }
        if method == "HEAD" {
            http::cut_body(out, start);
        }
    }
}

/// Window sizes that the compressor supports: zlib cannot use the 8 bits that RFC 7692 allows.
const ECHO_WINDOW_BITS: (u8, u8) = (9, 15);
const NOT_FOUND: &[u8] = b"Uproar messaging endpoint: connect with WebSocket and a chat token.\n";
