//! The demo page of `uproar dev`: chat in two browser tabs, without installation.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::config::{Settings, TlsListeners, token_command};
use crate::shard::handshake::{LiveKeyring, Pages};
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{SESSION_MINUTES_DEFAULT, USER_ID_CHARS_MAX};
use uproar_proto::http;
use uproar_proto::sigv4::percent_decode;
use uproar_proto::token::{Capability, TokenRequest, mint};

pub(super) const SCRIPT: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Path, content type, content. The page of `uproar dev --cluster` takes its own for `/` and the rest from here.
pub(super) const FILES: &[(&str, &str, &[u8])] = &[
    (
        "/",
        "text/html; charset=utf-8",
        include_bytes!("demo/index.html"),
    ),
    ("/demo/chat.js", SCRIPT, include_bytes!("demo/chat.js")),
    ("/demo/viewer.js", SCRIPT, include_bytes!("demo/viewer.js")),
    ("/demo/client.js", SCRIPT, include_bytes!("demo/client.js")),
    ("/demo/code.js", SCRIPT, include_bytes!("demo/code.js")),
    (
        "/demo/chat.css",
        "text/css; charset=utf-8",
        include_bytes!("demo/chat.css"),
    ),
];

/// Serves the page, and tokens for the ready room to any client: dev binds to loopback unless it is told otherwise.
#[derive(Debug)]
pub(super) struct Demo {
    keyring: LiveKeyring,
    clock: Clock,
    token_life_seconds: AtomicU64,
    scheme: &'static str,
    // The shell command that creates a token.
    command: String,
    room: OnceLock<Room>,
}

/// The ready room.
#[derive(Debug)]
struct Room {
    id: RoomId,
    arn: String,
    // Address of the API: known only now if the kernel chose the port.
    control: String,
}

impl Demo {
    pub(super) fn new(keyring: LiveKeyring, clock: Clock, settings: &Settings) -> Self {
        let has_certificate = settings.tls.is_some() || settings.mode.is_dev_with_tls();
        let secure = has_certificate && settings.tls_listeners != TlsListeners::Messaging;
        let scheme = if secure { "https" } else { "http" };
        Self {
            keyring,
            clock,
            token_life_seconds: AtomicU64::new(settings.token_life.as_secs()),
            scheme,
            command: token_command(&settings.data_dir),
            room: OnceLock::new(),
        }
    }

    /// How long tokens made from now on may be used to connect.
    pub(super) fn set_token_life(&self, life: Duration) {
        self.token_life_seconds
            .store(life.as_secs(), Ordering::Relaxed);
    }

    /// Sets the ready room, once it exists.
    pub(super) fn set_room(&self, arn: &str, control: SocketAddr) {
        let id = arn.rsplit('/').next().and_then(RoomId::parse);
        if let Some(id) = id {
            let (arn, control) = (arn.to_owned(), format!("{}://{control}", self.scheme));
            // Set once, at start.
            let _first = self.room.set(Room { id, arn, control });
        }
    }

    /// JSON with a token, or the fault of the query.
    fn token(&self, query: &str) -> Result<String, &'static str> {
        let Room { id, arn, control } = self.room.get().ok_or("The room is not ready yet\n")?;
        let value = |name: &str| {
            let pair = query
                .split('&')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            pair.and_then(|value| String::from_utf8(percent_decode(value)).ok())
        };
        let user_id = value("user").unwrap_or_default();
        if !(1..=USER_ID_CHARS_MAX).contains(&user_id.chars().count()) {
            return Err("user must have 1 to 128 characters of UTF-8\n");
        }
        let capabilities = match value("role").as_deref() {
            Some("moderator") => Capability::ALL.into_iter().collect(),
            _ => [Capability::SendMessage].into_iter().collect(),
        };
        let request = TokenRequest {
            room: *id,
            attributes: vec![("displayName".to_owned(), user_id.clone())],
            user_id,
            capabilities,
            session: Duration::from_mins(SESSION_MINUTES_DEFAULT.into()),
            life: Duration::from_secs(self.token_life_seconds.load(Ordering::Relaxed)),
        };
        let nonce = super::nonce().map_err(|_| "No random bytes\n")?;
        let now = self.clock.now().unix;
        let minted = mint(&self.keyring.load(), request, now, nonce);
        let (expires, session_end) = (minted.expires.rfc3339(), minted.session_end.rfc3339());
        let token = minted.token;
        // A path may contain characters that JSON must escape.
        let command = serde_json::Value::from(&*self.command);
        // The names that IVS Chat's SDKs read from a `tokenProvider`'s result.
        Ok(format!(
            r#"{{"token":"{token}","tokenExpirationTime":"{expires}","sessionExpirationTime":"{session_end}","room":"{arn}","control":"{control}","command":{command}}}"#
        ))
    }
}

impl Pages for Demo {
    fn answer(&self, _method: &str, target: &str, out: &mut Vec<u8>) -> bool {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path == "/demo/token" {
            match self.token(query) {
                Ok(json) => http::plain(out, 200, "application/json", json.as_bytes()),
                Err(why) => http::plain(out, 400, TEXT, why.as_bytes()),
            }
            return true;
        }
        let file = FILES.iter().find(|(name, ..)| *name == path);
        if let Some((_, content_type, content)) = file {
            http::plain(out, 200, content_type, content);
        }
        file.is_some()
    }
}
