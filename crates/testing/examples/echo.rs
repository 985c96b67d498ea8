//! A WebSocket echo server through the same ring, frame and session code as the chat server, for
//! RFC 6455 conformance suites: no token, no room, every message comes back.
//!
//! `cargo run --release -p uproar-testing --example echo -- --listen 127.0.0.1:9001`

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use uproar::clock::Clock;
use uproar::net::backend::Kind;
use uproar::shard::gateway::Gateway;
use uproar::shard::handshake::{ECHO_ROOM, HandshakeConfig, HandshakeSettings};
use uproar::shard::mesh::{Listeners, Plan, bind, start};
use uproar::shard::settings::ShardSettings;
use uproar::supervisor::Supervisor;
use uproar_proto::base::id::RoomId;
use uproar_testing::parts::room_settings;

#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// How many shards.
    #[arg(long, default_value_t = 1)]
    shards: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let settings = ShardSettings {
        echo: true,
        ..ShardSettings::open(arguments.shards)
    };
    let handshake_config = HandshakeConfig {
        keyring: Arc::default(),
        pages: None,
        echo: true,
        extensions: false,
        settings: HandshakeSettings {
            tls: None,
            origins: Arc::new([]),
            compression: true,
            limits: Arc::default(),
        },
    };
    let sockets = bind(arguments.listen, arguments.shards)?;
    let sockets: Vec<_> = sockets.iter().collect();
    let room = RoomId::parse(ECHO_ROOM).expect("twelve letters and digits");
    let mut shards = start(Plan {
        settings: settings.clone(),
        io: Kind::IoUring,
        listeners: Listeners::deal(&sockets, arguments.shards)?,
        rooms: vec![(room, room_settings())],
        journals: None,
        handshake_config,
        archive: false,
        cluster: false,
        pin: false,
        clock: Clock::start(),
        supervisor: &Supervisor::of_process(),
    })?;
    let gateway = Gateway::new(std::mem::take(&mut shards.mailboxes), settings);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        gateway.turn_doors(true, Duration::ZERO).await?;
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .init();
        tracing::info!(address = %shards.address, "echoing");
        tokio::signal::ctrl_c().await?;
        gateway.stop();
        Ok::<_, Box<dyn std::error::Error>>(())
    })?;
    shards.join();
    Ok(())
}
