//! Judges the head of a request: its origin, its token, its offer of compression.

use std::net::IpAddr;
use std::time::Duration;

use super::acceptor::Acceptor;
use super::config::ECHO_ROOM;
use super::rejected::{NoUpgrade, Rejected};
use crate::net::stream::Hosted;
use crate::shard::command::user_hash;
use crate::shard::command::{Arrival, PendingConnection};
use uproar_proto::base::clock::{Tick, UnixTime};
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::DEFLATE_WINDOW_BITS;
use uproar_proto::chat::encode;
use uproar_proto::extension::{Traits, traits};
use uproar_proto::http::{self, HeadScanner, Request, Upgrade};
use uproar_proto::session::Grant;
use uproar_proto::token::{Capabilities, TOKEN_ID_BYTES, TokenId};
use uproar_proto::ws::extension::Agreement;

/// An accepted upgrade, before its socket is attached.
pub(super) type AcceptedUpgrade = PendingConnection<()>;

/// Judges `received`, all plaintext so far; `None` until it holds a whole head. `ip` becomes the client's address if
/// a trusted proxy names it.
///
/// # Errors
///
/// What the request gets instead of a connection.
pub(super) fn examine<B: Hosted>(
    scanner: &mut HeadScanner,
    received: &[u8],
    acceptor: &Acceptor<B>,
    ip: &mut IpAddr,
) -> Result<Option<AcceptedUpgrade>, NoUpgrade> {
    let Some(end) = scanner.scan(received)? else {
        return Ok(None);
    };
    let (head, leftover) = received.split_at(end);
    let settings = acceptor.settings();
    let trusted = &settings.limits.trusted;
    if trusted.trusts(*ip) {
        http::field_values(head, trusted.header().name(), |values| {
            *ip = trusted.viewer(*ip, values);
        })?;
    }
    judge(head, leftover, *ip, acceptor).map(Some)
}

/// Judges a whole head.
fn judge<B: Hosted>(
    head: &[u8],
    leftover: &[u8],
    ip: IpAddr,
    acceptor: &Acceptor<B>,
) -> Result<AcceptedUpgrade, NoUpgrade> {
    let upgrade = match http::parse(head)? {
        Request::Upgrade(upgrade) => upgrade,
        Request::Plain { .. } => return Err(NoUpgrade::Page),
    };
    let settings = acceptor.settings();
    let origins = &settings.origins;
    if let Some(origin) = upgrade.origin
        && !origins.is_empty()
        && !origins.iter().any(|allowed| allowed == origin)
    {
        return Err(Rejected::Origin.into());
    }
    let opened = if acceptor.config.echo {
        echo_token(acceptor)
    } else {
        open(&upgrade, acceptor)?
    };
    let mut greeting = Vec::with_capacity(256 + upgrade.token.map_or(0, str::len));
    let agreement = if settings.compression {
        agree(acceptor.config.echo, &upgrade)
    } else {
        None
    };
    http::switching_protocols(&mut greeting, upgrade.key, upgrade.token, agreement);
    Ok(PendingConnection {
        socket: (),
        ip,
        tls: None,
        greeting,
        leftover: leftover.to_vec(),
        grant: opened.grant,
        room: opened.room,
        token: opened.token,
        token_expires: opened.token_expires,
        user_hash: opened.user_hash,
        agreement,
        traits: opened.traits,
        share: None,
        accepted: Tick::default(),
        arrival: Arrival::default(),
    })
}

/// The content of an opened token, as a pending connection keeps it.
struct OpenedToken {
    grant: Grant,
    room: RoomId,
    token: TokenId,
    token_expires: UnixTime,
    user_hash: u32,
    traits: Option<Box<Traits>>,
}

fn open<B: Hosted>(upgrade: &Upgrade<'_>, acceptor: &Acceptor<B>) -> Result<OpenedToken, Rejected> {
    let token = upgrade.token.ok_or(Rejected::MissingToken)?;
    let mut scratch = Vec::new();
    let now = acceptor.clock.now();
    let keyring = acceptor.config.keyring.load();
    let opened = keyring.open(token, &mut scratch, now.unix)?;
    let has_traits = acceptor.config.extensions;
    let shown = |(key, _): &(&str, &str)| !has_traits || traits::is_shown(key);
    let sender_json = encode::sender_json(opened.user_id(), opened.attributes().filter(shown));
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
        traits: Traits::of(opened.attributes()).filter(|_| has_traits),
    })
}

/// Stands for a token in conformance mode: a fresh one for each connection.
fn echo_token<B: Hosted>(acceptor: &Acceptor<B>) -> OpenedToken {
    let serial = acceptor.ids.borrow_mut().next_id();
    let mut token = [0; TOKEN_ID_BYTES];
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
        traits: None,
    }
}

/// Agrees on compression. One encoding serves all viewers of a room, so all have its window; echoes are compressed
/// one by one, with the window that a client asks for.
fn agree(echo: bool, upgrade: &Upgrade<'_>) -> Option<Agreement> {
    let (min, max) = if echo {
        ECHO_WINDOW_BITS
    } else {
        (DEFLATE_WINDOW_BITS, DEFLATE_WINDOW_BITS)
    };
    upgrade.offers.agree(min, max)
}

/// Window sizes that the compressor supports: zlib cannot use the 8 bits that RFC 7692 allows.
const ECHO_WINDOW_BITS: (u8, u8) = (9, 15);
