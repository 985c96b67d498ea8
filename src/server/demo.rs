//! The demo page of `uproar dev`: chat in two browser tabs, without installation.
//!
//! Owns: files of the page, its tokens, and its endpoints (docs/demo.md). All are GET, the one method beside HEAD that the
//! messaging listener knows; what changes something wants a key that only this page can read, and none of them answers to
//! a stranger's name that leads to this machine (DNS rebinding), whose page could read the key too.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use self::features::FeatureOrder;
use self::live::{Order, Window};
use self::storm::{Crowd, Place};
use super::StartError;
use crate::clock::Clock;
use crate::config::{DEV_CERTIFICATE, Settings, TlsListeners, token_command};
use crate::control::Control;
use crate::random;
use crate::shard::gateway::Gateway;
use crate::shard::handshake::{LiveKeyring, Pages};
use crate::shard::settings::SharedBudgets;
use uproar_proto::base::hex::hex;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{SESSION_MINUTES_DEFAULT, USER_ID_CHARS_MAX};
use uproar_proto::extension::bans::BanMode;
use uproar_proto::http;
use uproar_proto::sigv4::percent_decode;
use uproar_proto::token::{Capability, TokenRequest, mint};

mod features;
mod live;
mod storm;

pub(super) const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Path, content type, content. The page of `uproar dev --cluster` takes its own for `/` and the rest from here.
pub(super) const FILES: &[(&str, &str, &[u8])] = &[
    (
        "/",
        "text/html; charset=utf-8",
        include_bytes!("demo/index.html"),
    ),
    ("/demo/chat.js", SCRIPT, include_bytes!("demo/chat.js")),
    ("/demo/client.js", SCRIPT, include_bytes!("demo/client.js")),
    ("/demo/code.js", SCRIPT, include_bytes!("demo/code.js")),
    (
        "/demo/commands.js",
        SCRIPT,
        include_bytes!("demo/commands.js"),
    ),
    (
        "/demo/composer.js",
        SCRIPT,
        include_bytes!("demo/composer.js"),
    ),
    ("/demo/dom.js", SCRIPT, include_bytes!("demo/dom.js")),
    (
        "/demo/element.js",
        SCRIPT,
        include_bytes!("../control/http/console/page/element.js"),
    ),
    ("/demo/extras.js", SCRIPT, include_bytes!("demo/extras.js")),
    (
        "/demo/features.js",
        SCRIPT,
        include_bytes!("demo/features.js"),
    ),
    ("/demo/icons.js", SCRIPT, include_bytes!("demo/icons.js")),
    ("/demo/log.js", SCRIPT, include_bytes!("demo/log.js")),
    ("/demo/menu.js", SCRIPT, include_bytes!("demo/menu.js")),
    ("/demo/poll.js", SCRIPT, include_bytes!("demo/poll.js")),
    (
        "/demo/reactions.js",
        SCRIPT,
        include_bytes!("demo/reactions.js"),
    ),
    ("/demo/room.js", SCRIPT, include_bytes!("demo/room.js")),
    ("/demo/storm.js", SCRIPT, include_bytes!("demo/storm.js")),
    ("/demo/viewer.js", SCRIPT, include_bytes!("demo/viewer.js")),
    ("/demo/chat.css", STYLE, include_bytes!("demo/chat.css")),
    (
        "/demo/features.css",
        STYLE,
        include_bytes!("demo/features.css"),
    ),
];

/// Bytes of the key of what changes something.
const KEY_BYTES: usize = 16;

/// Serves the page, and tokens for the ready room to any client: dev binds to loopback unless it is told otherwise.
#[derive(Debug)]
pub(super) struct Demo {
    keyring: LiveKeyring,
    clock: Clock,
    token_life_seconds: AtomicU64,
    scheme: &'static str,
    // Whether the room can have features.
    extensions: bool,
    data_dir: PathBuf,
    // That of --tls, which nobody trusts yet.
    certificate: Option<PathBuf>,
    room: OnceLock<Room>,
}

/// The ready room.
#[derive(Debug)]
struct Room {
    id: RoomId,
    arn: String,
    // Address of the API: known only now if the kernel chose the port.
    control: String,
    // Told with a token, which pages from elsewhere cannot read.
    key: String,
    window: Window,
    storms: AtomicU64,
    feature_orders: AtomicU64,
    shared: SharedBudgets,
}

/// The answer to a request for something that is no file.
type Answer = Result<String, Refusal>;

/// Status and text.
type Refusal = (u16, String);

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
            extensions: settings.extensions,
            data_dir: settings.data_dir.clone(),
            certificate: (settings.mode.is_dev_with_tls())
                .then(|| settings.data_dir.join(DEV_CERTIFICATE)),
            room: OnceLock::new(),
        }
    }

    /// How long tokens made from now on may be used to connect.
    pub(super) fn set_token_life(&self, life: Duration) {
        self.token_life_seconds
            .store(life.as_secs(), Ordering::Relaxed);
    }

    /// Opens the page, once the ready room exists, on a messaging listener with or without TLS. Called on the control thread, where it leaves a task.
    ///
    /// # Errors
    ///
    /// The kernel gives no random bytes.
    pub(super) fn open(
        &self,
        arn: &str,
        ((messaging, tls), control_address): ((SocketAddr, bool), SocketAddr),
        (control, gateway): (&Rc<Control>, &Gateway),
    ) -> Result<(), StartError> {
        let Some(id) = arn.rsplit('/').next().and_then(RoomId::parse) else {
            return Ok(());
        };
        let key = random::bytes::<KEY_BYTES>().map_err(StartError::Runtime)?;
        let key = hex(&key);
        let place = Place::of(messaging, tls, self.data_dir.clone(), arn);
        let (window, watch) = Window::open(id, place, (control, gateway));
        let first = self.room.set(Room {
            id,
            arn: arn.to_owned(),
            control: format!("{}://{control_address}", self.scheme),
            key,
            window,
            storms: AtomicU64::new(0),
            feature_orders: AtomicU64::new(0),
            shared: SharedBudgets::clone(gateway.shared()),
        });
        // A server opens once.
        if first.is_ok() {
            tokio::task::spawn_local(watch.serve());
        }
        Ok(())
    }

    /// JSON with a token, and where it is good.
    fn token(&self, query: &str) -> Answer {
        let room = self.room()?;
        let user_id = value(query, "user").unwrap_or_default();
        if !(1..=USER_ID_CHARS_MAX).contains(&user_id.chars().count()) {
            return Err(refused("user must have 1 to 128 characters of UTF-8"));
        }
        self.check_ban(room, &user_id)?;
        let capabilities = match value(query, "role").as_deref() {
            Some("moderator") => Capability::ALL.into_iter().collect(),
            _ => [Capability::SendMessage].into_iter().collect(),
        };
        let request = TokenRequest {
            room: room.id,
            attributes: vec![("displayName".to_owned(), user_id.clone())],
            user_id,
            capabilities,
            session: Duration::from_mins(SESSION_MINUTES_DEFAULT.into()),
            life: Duration::from_secs(self.token_life_seconds.load(Ordering::Relaxed)),
        };
        let nonce = super::nonce().map_err(|_| refused("No random bytes"))?;
        let now = self.clock.now().unix;
        let minted = mint(&self.keyring.load(), request, now, nonce);
        // The first three by the names that IVS Chat's SDKs read from a `tokenProvider`'s result.
        let told = json!({
            "token": minted.token,
            "tokenExpirationTime": minted.expires.rfc3339(),
            "sessionExpirationTime": minted.session_end.rfc3339(),
            "room": room.arn,
            "control": room.control,
            "command": token_command(&self.data_dir),
            "certificate": self.certificate,
            "key": room.key,
        });
        Ok(told.to_string())
    }

    /// JSON with the room's figures.
    fn figures(&self, query: &str) -> Answer {
        let storm = value(query, "storm").and_then(|id| id.parse().ok());
        Ok(self.room()?.window.figures(storm).to_string())
    }

    /// Begins a storm, and answers with its number, or ends it.
    fn storm(&self, query: &str) -> Answer {
        let room = self.keyed_room(query)?;
        if !room.window.storms {
            return Err(refused(
                "The load generator reaches loopback only, and speaks no TLS",
            ));
        }
        let wanted = |name| value(query, name).unwrap_or_default();
        let order = if wanted("viewers") == "0" {
            Order::Stop
        } else {
            let crowd = Crowd::parse(&wanted("viewers"), &wanted("rate"));
            let crowd = crowd.map_err(|why| (400, why))?;
            let id = room.storms.fetch_add(1, Ordering::Relaxed) + 1;
            Order::Start { id, crowd }
        };
        let id = match order {
            Order::Start { id, .. } => id,
            Order::Stop | Order::Feature(..) => 0,
        };
        give(room, order)?;
        Ok(json!({ "id": id }).to_string())
    }

    /// Switches the room's features on or off; the answer is the number of this order.
    fn features(&self, query: &str) -> Answer {
        let room = self.featured_room(query)?;
        let order = match value(query, "on").as_deref() {
            Some("1") => FeatureOrder::Switch(true),
            Some("0") => FeatureOrder::Switch(false),
            _ => return Err(refused("on must be 0 or 1")),
        };
        follow(room, |_| Ok(order))
    }

    /// Begins a poll, or ends one; the answer is the number of this order.
    fn poll(&self, query: &str) -> Answer {
        let room = self.featured_room(query)?;
        if let Some(id) = value(query, "stop") {
            return follow(room, |_| Ok(FeatureOrder::StopPoll(id)));
        }
        let text = |name| value(query, name).unwrap_or_default();
        follow(room, |number| {
            FeatureOrder::poll(
                number,
                &text("question"),
                &text("options"),
                &text("seconds"),
            )
        })
    }

    /// Refuses whoever is banned from the room, as CreateChatToken does.
    fn check_ban(&self, room: &Room, user_id: &str) -> Result<(), Refusal> {
        let now = self.clock.now();
        let held = room.shared.bans.of_user(room.id, user_id, now.tick);
        let held = held.filter(|held| held.mode == BanMode::Ban);
        held.map_or(Ok(()), |_| {
            let why = "You are banned from this room. A moderator can lift it.\n";
            Err((403, why.to_owned()))
        })
    }

    /// The room, for who has the page's key, on a server with extensions.
    fn featured_room(&self, query: &str) -> Result<&Room, Refusal> {
        if !self.extensions {
            let why = "This server has no features: extensions.enabled is false\n";
            return Err((409, why.to_owned()));
        }
        self.keyed_room(query)
    }

    /// The room, for who has the page's key.
    fn keyed_room(&self, query: &str) -> Result<&Room, Refusal> {
        let room = self.room()?;
        if value(query, "key").as_deref() == Some(&*room.key) {
            Ok(room)
        } else {
            Err((403, "key must be that of /demo/token\n".to_owned()))
        }
    }

    fn room(&self) -> Result<&Room, Refusal> {
        self.room
            .get()
            .ok_or_else(|| refused("The room is not ready yet"))
    }
}

fn give(room: &Room, order: Order) -> Result<(), Refusal> {
    let taken = room.window.order(order);
    let refusal = || (429, "Too many orders at once; try again\n".to_owned());
    taken.then_some(()).ok_or_else(refusal)
}

/// Gives an order about features a number, and answers with it.
fn follow(room: &Room, order: impl FnOnce(u64) -> Result<FeatureOrder, String>) -> Answer {
    let number = room.feature_orders.fetch_add(1, Ordering::Relaxed) + 1;
    let order = order(number).map_err(|why| (400, why))?;
    give(room, Order::Feature(number, order))?;
    Ok(json!({ "id": number }).to_string())
}

fn refused(why: &str) -> Refusal {
    (400, format!("{why}\n"))
}

/// A value of a query.
fn value(query: &str, name: &str) -> Option<String> {
    let pair = query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    String::from_utf8(percent_decode(pair)).ok()
}

/// Refuses who calls this server by a name that may be a stranger's.
fn check_name(host: &str) -> Result<(), Refusal> {
    let refusal = || {
        let call = "call this server by an address, as localhost, or by a name without dots";
        (403, format!("Host is {host}: {call}\n"))
    };
    http::is_own_name(host).then_some(()).ok_or_else(refusal)
}

impl Pages for Demo {
    fn answer(&self, target: &str, host: &str, out: &mut Vec<u8>) -> bool {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let endpoint = match path {
            "/demo/token" => Self::token,
            "/demo/room" => Self::figures,
            "/demo/storm" => Self::storm,
            "/demo/features" => Self::features,
            "/demo/poll" => Self::poll,
            _ => {
                let file = FILES.iter().find(|(name, ..)| *name == path);
                if let Some((_, content_type, content)) = file {
                    http::plain(out, 200, content_type, content);
                }
                return file.is_some();
            }
        };
        match check_name(host).and_then(|()| endpoint(self, query)) {
            Ok(json) => http::plain(out, 200, "application/json", json.as_bytes()),
            Err((status, why)) => http::plain(out, status, TEXT, why.as_bytes()),
        }
        true
    }
}

#[cfg(test)]
mod tests;
