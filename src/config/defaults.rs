//! The lowest layer: the defaults.

use std::io::{self, IsTerminal};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::mode::{DEV_ACCOUNT, DEV_REGION, Mode, dev_data_dir};
use super::raw::{
    Audit, Cluster, Control, Delivery, Drain, Extensions, Forwarded, History, IoChoice, Log,
    Logging, Messaging, Profile, Quotas, Raw, Review, Server, SlowClient, Tls, TokenUses, Tokens,
};
use uproar_proto::base::limits::{
    ACCOUNT_MODERATIONS_PER_SECOND, ACCOUNT_SENDS_PER_SECOND, ADDRESS_HANDSHAKES_PERCENT,
    ADDRESS_REFUSALS_PER_SECOND, AUDIT_MIB, CONNECTION_REQUESTS_PER_SECOND, CONNECTIONS_MAX_AWS,
    CONTROL_ADDRESS_PERCENT, HISTORY_BYTES_PER_SECOND, PACE_CEILING, STRIPE_MEMBERS_MIN,
    TOKEN_LIFE, WINDOW_AGE_MAX, WINDOW_BYTES_MAX,
};
use uproar_proto::chat::encode;

/// Defaults that depend only on how the server is started, and on two higher values: the profile decides the rates,
/// the number of shards decides pinning.
pub(super) fn defaults(mode: Mode, profile: Profile, shards: Option<usize>) -> Raw {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let shards = shards.unwrap_or(cores);
    // Zero lifts a rate.
    let rate = |of_aws: u32| match profile {
        Profile::Aws => of_aws,
        Profile::Open => 0,
    };
    let ip = match mode {
        Mode::Dev { remote: true, .. } => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Mode::Dev { remote: false, .. } | Mode::Serve => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let millis =
        |duration: std::time::Duration| u64::try_from(duration.as_millis()).expect("seconds");
    Raw {
        server: Server {
            region: DEV_REGION.to_owned(),
            account: DEV_ACCOUNT.to_owned(),
            data_dir: match mode {
                Mode::Serve => PathBuf::from("/var/lib/uproar"),
                Mode::Dev { .. } => dev_data_dir(),
            },
            shards,
            pin: shards <= cores,
            io: IoChoice::Auto,
        },
        messaging: Messaging {
            listen: SocketAddr::from((ip, 8080)),
            origins: Vec::new(),
            trusted_proxies: Vec::new(),
            forwarded_header: Forwarded::XForwardedFor,
            address_connections: 0,
            address_handshakes_percent: ADDRESS_HANDSHAKES_PERCENT,
            address_refusals: ADDRESS_REFUSALS_PER_SECOND,
            compression: false,
        },
        control: Control {
            listen: SocketAddr::from((ip, 8081)),
            trusted_proxies: Vec::new(),
            forwarded_header: Forwarded::XForwardedFor,
            address_connections_percent: CONTROL_ADDRESS_PERCENT,
            metrics_rooms: 0,
            console: true,
        },
        tls: Tls::default(),
        quotas: Quotas {
            profile,
            connection_requests: rate(CONNECTION_REQUESTS_PER_SECOND),
            room_rates: profile == Profile::Aws,
            account_sends: rate(ACCOUNT_SENDS_PER_SECOND),
            account_moderations: rate(ACCOUNT_MODERATIONS_PER_SECOND),
            api_rates: profile == Profile::Aws,
            operations: Vec::new(),
            connections: CONNECTIONS_MAX_AWS,
        },
        delivery: Delivery {
            window_bytes: WINDOW_BYTES_MAX,
            window_age_ms: millis(WINDOW_AGE_MAX),
            pace_ceiling_ms: millis(PACE_CEILING),
            slow_client: SlowClient::Skip,
            spread_members: STRIPE_MEMBERS_MIN,
        },
        review: Review::default(),
        tokens: Tokens {
            life_minutes: TOKEN_LIFE.as_secs() / 60,
            uses: TokenUses::Once,
        },
        extensions: Extensions {
            enabled: profile == Profile::Open || matches!(mode, Mode::Dev { .. }),
            purge_event: encode::PURGED.to_owned(),
        },
        audit: Audit {
            enabled: None,
            mib: AUDIT_MIB,
        },
        history: History {
            bytes_per_second: HISTORY_BYTES_PER_SECOND,
        },
        drain: Drain::default(),
        logging: Logging::default(),
        log: Log {
            filter: "info".to_owned(),
            json: !io::stderr().is_terminal(),
        },
        cluster: Cluster::default(),
        keys: Vec::new(),
    }
}
