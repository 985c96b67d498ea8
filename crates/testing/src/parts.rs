//! The parts of a shard, a room's settings and a pending connection, with everything left out that a test does
//! not need. A test changes the fields that it is about.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use uproar::net::io::Io;
use uproar::shard::command::{Arrival, PendingConnection};
use uproar::shard::core::Parts;
use uproar::shard::doorbell::Doorbell;
use uproar::shard::journal::NoRecord;
use uproar::shard::mailbox::mailbox;
use uproar::shard::settings::ShardSettings;
use uproar::shard::tokens::UsedTokens;
use uproar_proto::base::clock::{Now, Tick, UnixTime};
use uproar_proto::base::id::RoomId;
use uproar_proto::room::{ArchiveTargets, RoomSettings};
use uproar_proto::session::Grant;
use uproar_proto::token::{Capabilities, TOKEN_ID_BYTES, TokenId};

/// The address of every client.
pub const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

/// The server's first bytes, in place of an answer to an upgrade.
pub const GREETING: &[u8] = b"HELLO\n";

/// The beginning of time: an hour after the machine's start, in the year 2027.
pub fn start() -> Now {
    Now {
        tick: Tick::from_nanos(3_600_000_000_000),
        unix: UnixTime::from_secs(1_800_000_000),
    }
}

/// The only shard of a server, without archive, journal and pace; nobody reads its mailboxes.
pub fn alone<W: Io>(io: W) -> Parts<W> {
    let bell = Arc::new(Doorbell::new().expect("an eventfd"));
    Parts {
        id: 0,
        settings: ShardSettings {
            pace_ceiling: Duration::ZERO,
            ..ShardSettings::open(1)
        },
        io,
        mailboxes: vec![mailbox(&bell).0],
        requests: vec![mailbox(&bell).0],
        reviews: mailbox(&bell).0,
        archive: None,
        cluster: None,
        record: Box::new(NoRecord),
        used: UsedTokens::default(),
        metrics: Arc::default(),
        budgets: Arc::default(),
        seed: 1,
    }
}

/// A room with the limits of IVS Chat, without review and log.
pub fn room_settings() -> RoomSettings {
    RoomSettings {
        content_chars_max: 500,
        messages_per_second: 100,
        review: None,
        archive: ArchiveTargets::default(),
        extension: None,
    }
}

/// A connection whose upgrade was accepted: without rights, TLS and compression, for a session of a day. `token`
/// distinguishes its token from others.
pub fn pending<S>(socket: S, room: RoomId, token: u64, now: Now) -> Box<PendingConnection<S>> {
    let mut id = [0; TOKEN_ID_BYTES];
    id[..8].copy_from_slice(&token.to_le_bytes());
    Box::new(PendingConnection {
        socket,
        ip: ADDRESS,
        tls: None,
        greeting: GREETING.to_vec(),
        leftover: Vec::new(),
        grant: Grant {
            sender_json: "{}".into(),
            capabilities: Capabilities::default(),
            ends: now.tick.after(Duration::from_hours(24)),
        },
        room,
        token: TokenId::from_bytes(id),
        token_expires: now.unix.after(Duration::from_hours(1)),
        user_hash: 0,
        agreement: None,
        traits: None,
        share: None,
        accepted: now.tick,
        arrival: Arrival::default(),
    })
}
