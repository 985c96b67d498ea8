//! The handshake: TLS, the request head, the token. What cannot be settled at the first look is sequential
//! and short-lived, so it is async code on tokio-uring.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::command::{Newcomer, Turned};
use super::core::user_hash;
use super::door::{Door, ECHO_ROOM, Entrance};
use super::metrics::{Figure, ShardMetrics};
use super::turned;
use crate::base::admission::{Holder, Place};
use crate::base::clock::UnixTime;
use crate::base::id::{FrameId, RoomId};
use crate::base::limits::{
    DEFLATE_WINDOW_BITS, HANDSHAKE_READ_BYTES, HANDSHAKE_TIMEOUT, LINGER_BYTES_MAX,
};
use crate::logging::Kind;
use crate::net::socket;
use crate::net::stream::Stream;
use crate::net::tls::{Progress, Tls, TlsError};
use crate::protocol::chat::{ErrorCode, encode};
use crate::protocol::extension::Agreement;
use crate::protocol::http::{self, HeadFault, HeadScanner, Request, Upgrade};
use crate::protocol::proxy::{self, Preface, PrefaceFault};
use crate::protocol::token::{Capabilities, TokenError, TokenId};
use crate::session::Grant;

/// Why no connection came of a handshake.
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

/// What a connection has said so far, and what became of it.
pub(super) struct Knock {
    // The other end; the client, once a trusted proxy has said who that is.
    ip: IpAddr,
    // A trusted proxy may send a PROXY header first, before TLS.
    is_prefaced: bool,
    received: Vec<u8>,
    scanner: HeadScanner,
    refused: Option<Rejected>,
}

impl Knock {
    pub(super) fn new(ip: IpAddr, door: &Door) -> Self {
        Self {
            ip,
            is_prefaced: door.entrance.door.trusted.trusts(ip),
            received: Vec::new(),
            scanner: HeadScanner::default(),
            refused: None,
        }
    }

    /// Whose share it counts to.
    pub(super) fn holder(&self) -> Option<Holder> {
        (!self.is_prefaced).then(|| Holder::of(self.ip))
    }

    /// Looks at the first bytes of a connection without TLS: a guest, if they are a whole head that is
    /// welcome. If not, they are kept for [`receive_one`].
    pub(super) fn look(&mut self, received: &[u8], door: &Door) -> Option<Guest> {
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
        match examine(&mut self.scanner, received, door, &mut self.ip) {
            Ok(None) => {}
            Ok(Some((verdict, end))) => {
                return Some(Guest::new(None, verdict, self.ip, received[end..].to_vec()));
            }
            Err(rejected) => self.refused = Some(rejected),
        }
        self.received = received.to_vec();
        None
    }

    /// Takes the PROXY header off `received`, everything so far: where the client's bytes begin, `None` until
    /// that is known.
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

    /// Whether it was refused, and its address was refused so often lately that it gets no answer.
    pub(super) fn is_not_worth_an_answer(&self, door: &Door) -> bool {
        let Some(rejected) = self
            .refused
            .as_ref()
            .filter(|rejected| rejected.is_refusal())
        else {
            return false;
        };
        let answered = door.is_answered(self.ip);
        if !answered && let Some(figure) = rejected.figure(&door.metrics) {
            figure.inc();
        }
        !answered
    }
}

/// Goes on with a handshake to its end.
pub(super) async fn receive_one(stream: Rc<Stream>, place: Place, knock: Knock, door: Rc<Door>) {
    let (mut ip, mut timed_out) = (knock.ip, false);
    let outcome = {
        let mut handshake = std::pin::pin!(shake(&stream, place, knock, &mut ip, &door));
        tokio::select! {
            biased;
            outcome = &mut handshake => outcome,
            () = tokio::time::sleep(HANDSHAKE_TIMEOUT) => {
                timed_out = true;
                // The operation under way completes with an error; dropping it would leak it.
                stream.abort();
                handshake.await
            }
        }
    };
    if !door.places.borrow_mut().leave(place) {
        // Given up for another one, and counted there.
        return;
    }
    let guest = match outcome {
        Ok(_) | Err(Rejected::Io(_)) if timed_out => {
            door.metrics.rejected_timeout.inc();
            let reason = "The handshake took longer than 10 s";
            turned::say_unshaken(&door, Kind::HandshakeTimeout, ip, reason);
            return;
        }
        Ok(guest) => guest,
        Err(rejected) => {
            if let Some(figure) = rejected.figure(&door.metrics) {
                figure.inc();
                if let (Rejected::Tls(_) | Rejected::Preface(_), Some(kind)) =
                    (&rejected, rejected.kind())
                {
                    turned::say_unshaken(&door, kind, ip, &rejected.to_string());
                }
            }
            return;
        }
    };
    match stream.to_fd() {
        Ok(socket) => door.enter(guest, socket),
        Err(error) => {
            door.metrics.accept_errors.inc();
            if let Some(suppressed) = door.admit_line(Kind::HandshakeFailed) {
                tracing::warn!(%ip, %error, suppressed, "an accepted connection could not be set up");
            }
        }
    }
}

/// A newcomer but for its socket.
pub(super) struct Guest {
    ip: IpAddr,
    tls: Option<Box<Tls>>,
    greeting: Vec<u8>,
    leftover: Vec<u8>,
    pass: Pass,
    agreement: Option<Agreement>,
}

/// What the token says.
struct Pass {
    grant: Grant,
    room: RoomId,
    token: TokenId,
    token_expires: UnixTime,
    user_hash: u32,
}

impl Guest {
    fn new(tls: Option<Box<Tls>>, verdict: Verdict, ip: IpAddr, leftover: Vec<u8>) -> Self {
        let (greeting, pass, agreement) = verdict;
        Self {
            ip,
            tls,
            greeting,
            leftover,
            pass,
            agreement,
        }
    }

    pub(super) fn into_newcomer(self, socket: OwnedFd) -> Box<Newcomer<OwnedFd>> {
        let Self {
            ip,
            tls,
            greeting,
            leftover,
            pass,
            agreement,
        } = self;
        let Pass {
            grant,
            room,
            token,
            token_expires,
            user_hash,
        } = pass;
        Box::new(Newcomer {
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

/// Reads a proxy's header, the head, opens the token; answers refusals and plain pages itself. `ip` becomes the
/// client's as soon as that is known.
async fn shake(
    stream: &Stream,
    place: Place,
    mut knock: Knock,
    ip: &mut IpAddr,
    door: &Door,
) -> Result<Guest, Rejected> {
    if knock.is_prefaced {
        if let Some(rejected) = knock.refused.take() {
            return Err(rejected);
        }
        read_preface(stream, &mut knock).await?;
        if let Some(holder) = door.holder(knock.ip) {
            door.places.borrow_mut().identify(place, holder);
        }
    }
    let Knock {
        ip: said,
        received,
        mut scanner,
        mut refused,
        ..
    } = knock;
    *ip = said;
    let mut visit = Visit::new(stream, received);
    if let Some(config) = &door.entrance.tls {
        if visit.plain.is_empty() {
            visit.read().await?;
        }
        if visit
            .plain
            .first()
            .is_some_and(|first| http::is_without_tls(*first))
        {
            if !door.is_answered(*ip) {
                stream.abort();
                return Err(Rejected::WithoutTls);
            }
            refused = Some(Rejected::WithoutTls);
        } else {
            visit.speak_tls(Tls::new(Arc::clone(config))?);
        }
    }
    let rejected = match refused {
        Some(rejected) => rejected,
        None => loop {
            match examine(&mut scanner, &visit.plain, door, ip) {
                Ok(None) => visit.read().await?,
                Ok(Some((verdict, end))) => {
                    let leftover = visit.plain.split_off(end);
                    return Ok(Guest::new(visit.tls, verdict, *ip, leftover));
                }
                Err(rejected) => {
                    if rejected.is_refusal() && !door.is_answered(*ip) {
                        stream.abort();
                        return Err(rejected);
                    }
                    break rejected;
                }
            }
        },
    };
    let mut answer = Vec::new();
    let id = rejected.answer(door, &visit.plain, &mut answer);
    if let Some((kind, id)) = rejected.kind().zip(id) {
        let reason = rejected.to_string();
        turned::say_rejected(door, kind, *ip, id, &visit.plain, &reason);
    }
    visit.write(answer).await?;
    visit.end().await;
    Err(rejected)
}

/// Reads until it is known whom a trusted proxy speaks for.
async fn read_preface(stream: &Stream, knock: &mut Knock) -> Result<(), Rejected> {
    loop {
        let received = std::mem::take(&mut knock.received);
        if let Some(start) = knock.take_preface(&received)? {
            knock.received = received[start..].to_vec();
            return Ok(());
        }
        let (result, received) = stream.read(received, HANDSHAKE_READ_BYTES).await;
        if result? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        knock.received = received;
    }
}

/// The `101`, what the token says, and what was agreed about compression.
type Verdict = (Vec<u8>, Pass, Option<Agreement>);

/// What `received`, everything so far, deserves, and where its head ends; `None` until that is there.
fn examine(
    scanner: &mut HeadScanner,
    received: &[u8],
    door: &Door,
    ip: &mut IpAddr,
) -> Result<Option<(Verdict, usize)>, Rejected> {
    let Some(end) = scanner.scan(received)? else {
        return Ok(None);
    };
    let head = &received[..end];
    let trusted = &door.entrance.door.trusted;
    if trusted.trusts(*ip) {
        http::field_values(head, trusted.header().name(), |values| {
            *ip = trusted.viewer(*ip, values);
        })?;
    }
    Ok(Some((judge(head, door)?, end)))
}

/// What a complete head deserves: a [`Verdict`] or a refusal.
fn judge(head: &[u8], door: &Door) -> Result<Verdict, Rejected> {
    let upgrade = match http::parse(head)? {
        Request::Upgrade(upgrade) => upgrade,
        Request::Plain { .. } => return Err(Rejected::Page),
    };
    let origins = &door.entrance.origins;
    if let Some(origin) = upgrade.origin
        && !origins.is_empty()
        && !origins.iter().any(|allowed| allowed == origin)
    {
        return Err(Rejected::Origin);
    }
    let pass = if door.entrance.echo {
        echo_pass(door)
    } else {
        open(&upgrade, door)?
    };
    let mut greeting = Vec::with_capacity(256 + upgrade.token.map_or(0, str::len));
    let agreement = door.agree(&upgrade);
    http::switching_protocols(&mut greeting, upgrade.key, upgrade.token, agreement);
    Ok((greeting, pass, agreement))
}

fn open(upgrade: &Upgrade<'_>, door: &Door) -> Result<Pass, Rejected> {
    let token = upgrade.token.ok_or(Rejected::MissingToken)?;
    let mut scratch = Vec::new();
    let now = door.clock.now();
    let keyring = door.entrance.keyring.load();
    let opened = keyring.open(token, &mut scratch, now.unix)?;
    let sender_json = encode::sender_json(opened.user_id(), opened.attributes());
    Ok(Pass {
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

fn echo_pass(door: &Door) -> Pass {
    let serial = door.ids.borrow_mut().next_id();
    let mut token = [0; crate::protocol::token::TOKEN_ID_BYTES];
    token[..serial.as_bytes().len()].copy_from_slice(serial.as_bytes());
    let now = door.clock.now();
    let day = Duration::from_hours(24);
    Pass {
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

/// Answers a newcomer that its room's home shard turned away, and closes the connection.
pub(super) async fn turn_away(newcomer: Box<Newcomer<OwnedFd>>, turned: Turned, door: Rc<Door>) {
    let id = door.ids.borrow_mut().next_id();
    turned::say_turned(&door, &newcomer, turned, id);
    let Newcomer {
        socket, tls, ip, ..
    } = *newcomer;
    if !door.is_answered(ip) {
        // A failure means that the peer was faster.
        let _gone = socket::reset_at_close(&socket);
        return;
    }
    let stream = Rc::new(Stream::from_fd(socket));
    let Some(place) = door.take_place(ip, door.holder(ip), &stream) else {
        return;
    };
    let code = match turned {
        Turned::TokenUsed => ErrorCode::Unauthorized,
        Turned::NoSuchRoom => ErrorCode::NotFound,
        Turned::TooManyConnections
        | Turned::TooManyTokens
        | Turned::TooManyOfAddress
        | Turned::Busy => ErrorCode::TooManyRequests,
        Turned::NotRecorded => ErrorCode::Internal,
    };
    let mut answer = Vec::new();
    http::refusal(
        &mut answer,
        code.number(),
        id,
        code.number(),
        &turned.to_string(),
    );
    let mut visit = Visit::new(&stream, Vec::new());
    visit.tls = tls;
    let mut work = std::pin::pin!(async {
        let _gone = visit.write(answer).await;
        visit.end().await;
    });
    tokio::select! {
        biased;
        () = &mut work => {}
        () = tokio::time::sleep(HANDSHAKE_TIMEOUT) => {
            stream.abort();
            work.await;
        }
    }
    door.places.borrow_mut().leave(place);
}

/// A connection during its handshake, plaintext whether it speaks TLS or not.
struct Visit<'a> {
    stream: &'a Stream,
    tls: Option<Box<Tls>>,
    // What came before TLS was set up, and belongs to it.
    ahead: Vec<u8>,
    plain: Vec<u8>,
}

impl<'a> Visit<'a> {
    fn new(stream: &'a Stream, plain: Vec<u8>) -> Self {
        Self {
            stream,
            tls: None,
            ahead: Vec::new(),
            plain,
        }
    }

    /// What was received until now is ciphertext.
    fn speak_tls(&mut self, tls: Tls) {
        self.tls = Some(Box::new(tls));
        self.ahead = std::mem::take(&mut self.plain);
    }

    /// Reads until at least one more plaintext byte is there.
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

    /// Ends our side and waits for the client's end, so that the answer is not lost in a reset. What
    /// it still sends is read and dropped, up to a bound; the handshake deadline is over all.
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
    /// The HTTP answer; the `Id` in it, if it is a refusal.
    fn answer(&self, door: &Door, plain: &[u8], out: &mut Vec<u8>) -> Option<FrameId> {
        let (status, code) = match self {
            Self::Page => {
                door.page(plain, out);
                return None;
            }
            Self::Head(fault) => (fault.status(), ErrorCode::BadRequest),
            Self::WithoutTls => (400, ErrorCode::BadRequest),
            Self::MissingToken | Self::Token(_) => (401, ErrorCode::Unauthorized),
            Self::Origin => (403, ErrorCode::Forbidden),
            Self::Preface(_) | Self::Tls(_) | Self::Io(_) => return None,
        };
        let id = door.ids.borrow_mut().next_id();
        http::refusal(out, status, id, code.number(), &self.to_string());
        Some(id)
    }

    /// Which log line says it. Who went away was not refused, and pages are for anybody.
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

    /// Whether it is the client's fault, and answered.
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

impl Door {
    /// One encoding serves all viewers of a room, so all have its window; echoes are compressed one by
    /// one, with whatever a client asks for.
    fn agree(&self, upgrade: &Upgrade<'_>) -> Option<Agreement> {
        let Entrance {
            compression, echo, ..
        } = self.entrance;
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
        let pages = self.entrance.pages.as_ref();
        if !pages.is_some_and(|pages| pages.answer(method, target, out)) {
            http::plain(out, 404, "text/plain; charset=utf-8", NOT_FOUND);
        }
        if method == "HEAD" {
            http::cut_body(out, start);
        }
    }
}

/// What the compressor can: 8 of RFC 7692 is beyond zlib.
const ECHO_WINDOW_BITS: (u8, u8) = (9, 15);
const NOT_FOUND: &[u8] = b"Uproar messaging endpoint: connect with WebSocket and a chat token.\n";
