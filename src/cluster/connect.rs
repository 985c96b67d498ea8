//! Connections to the brokers: how they are made, and what a broker must be.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ReconnectToServer, ServerInfo};
use tokio::sync::mpsc;

use super::choice::{Choice, Line};
use super::fault::ClusterFault;
use super::settings::ClusterSettings;
use crate::logging::with_causes;
use crate::random;
use uproar_proto::base::limits::{
    CLUSTER_BROKER_SILENT, CLUSTER_COMMANDS_MAX, CLUSTER_CONNECT_MAX, CLUSTER_RECONNECT_JITTER,
    CLUSTER_SUBSCRIPTION_MAX,
};

/// The oldest broker that is taken. Its log syncs in groups (`sync_interval: always`), and of those before 2.11 some reorder
/// or lose records when a broker is killed (nats-server#4320, #5794, #6888).
const VERSION_MIN: [u32; 2] = [2, 15];
/// The least `max_payload`: a record with its headers, and some.
const PAYLOAD_MIN: usize = 1_000_000;
/// Attempts in a row after which they are made more slowly: nobody is there to be missed.
const QUICK_ATTEMPTS: usize = 30;
const SLOW_PAUSE: Duration = Duration::from_secs(1);

/// Makes the options of all connections, from files that are read here, once.
///
/// # Errors
///
/// A file is unreadable, or no credential.
pub(super) fn options(settings: &ClusterSettings) -> Result<ConnectOptions, ClusterFault> {
    let mut options = match &settings.credentials {
        None => ConnectOptions::new(),
        Some(path) => {
            let key = "cluster.credentials";
            let text = fs::read_to_string(path).map_err(|cause| ClusterFault::File {
                key,
                path: path.clone(),
                cause,
            })?;
            let must = "neither a .creds file nor an nkey seed (SU...)";
            let path = path.clone();
            if text.contains("BEGIN NATS USER JWT") {
                ConnectOptions::with_credentials(&text).map_err(|_| ClusterFault::Content {
                    key,
                    path,
                    must,
                })?
            } else if text.trim().starts_with("SU") {
                ConnectOptions::with_nkey(text.trim().to_owned())
            } else {
                return Err(ClusterFault::Content { key, path, must });
            }
        }
    };
    for (key, path) in [("cluster.tls_ca", &settings.tls_ca)] {
        let Some(path) = path else { continue };
        readable(key, path)?;
        options = options.add_root_certificates(path.clone());
    }
    if let Some((certificate, private)) = &settings.tls_identity {
        readable("cluster.tls_certificate", certificate)?;
        readable("cluster.tls_key", private)?;
        options = options.add_client_certificate(certificate.clone(), private.clone());
    }
    Ok(options
        .name(format!("uproar {}", settings.node))
        // Addresses that a broker tells would be called without TLS where the configured ones are on loopback.
        .ignore_discovered_servers()
        // Three silent intervals end a connection.
        .ping_interval(CLUSTER_BROKER_SILENT / 3)
        .connection_timeout(CLUSTER_CONNECT_MAX)
        .subscription_capacity(CLUSTER_SUBSCRIPTION_MAX)
        .client_capacity(CLUSTER_COMMANDS_MAX)
        .reconnect_delay_callback(pause))
}

fn readable(key: &'static str, path: &std::path::Path) -> Result<(), ClusterFault> {
    fs::File::open(path)
        .map(drop)
        .map_err(|cause| ClusterFault::File {
            key,
            path: path.to_owned(),
            cause,
        })
}

/// Before each attempt. Spread, since all nodes lose a broker at the same instant.
fn pause(attempts: usize) -> Duration {
    let jitter = CLUSTER_RECONNECT_JITTER.mul_f64(random::quick().f64());
    if attempts > QUICK_ATTEMPTS {
        SLOW_PAUSE + jitter
    } else {
        jitter
    }
}

/// Connects to the brokers once, for a command beside the server.
///
/// # Errors
///
/// None of them answers, or they refuse this node.
pub async fn connect_once(settings: &ClusterSettings) -> Result<Client, ClusterFault> {
    let (events, _ignored) = mpsc::unbounded_channel();
    let inbox = "_INBOX".to_owned();
    let choice = Arc::default();
    let options = options(settings)?;
    let client = connect(settings, options, inbox, Line::Calls, &choice, events).await?;
    check(&client.server_info())?;
    Ok(client)
}

/// Connects to the broker of the other line, or to any; from then on the client reconnects by itself. What happens to the
/// connection goes to `events`.
///
/// # Errors
///
/// None of them answers, or they refuse this node.
pub(super) async fn connect(
    settings: &ClusterSettings,
    options: ConnectOptions,
    inbox: String,
    line: Line,
    choice: &Arc<Choice>,
    events: mpsc::UnboundedSender<(Line, Event)>,
) -> Result<Client, ClusterFault> {
    let callback = move |event| {
        // The receiver ends with the thread.
        let _ended = events.send((line, event));
        std::future::ready(())
    };
    let shared = Arc::clone(choice);
    let next = move |brokers: Vec<_>, _| {
        let addr = shared.next(line, &brokers);
        let delay = None;
        std::future::ready(addr.map(|addr| ReconnectToServer { addr, delay }))
    };
    let options = options
        .custom_inbox_prefix(inbox)
        .event_callback(callback)
        .reconnect_to_server_callback(next);
    let servers = settings.servers.clone();
    let connected = options.connect(servers).await;
    let client = connected.map_err(|error| ClusterFault::Silent {
        servers: settings.servers.join(", "),
        cause: with_causes(&error),
    })?;
    // If the connection's task has ended already, the client is of no use to anybody.
    choice.began(line, &client.server_pool().await.unwrap_or_default());
    Ok(client)
}

/// Refuses a broker that is too old or set up for something else.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn check(broker: &ServerInfo) -> Result<(), ClusterFault> {
    let named = || format!("{} ({}:{})", broker.server_name, broker.host, broker.port);
    if version(&broker.version).is_none_or(|version| version < VERSION_MIN) {
        return Err(ClusterFault::Version {
            broker: named(),
            version: broker.version.clone(),
        });
    }
    if !broker.jetstream {
        return Err(ClusterFault::NoJetStream { broker: named() });
    }
    if broker.max_payload < PAYLOAD_MIN {
        return Err(ClusterFault::Payload {
            broker: named(),
            bytes: broker.max_payload,
        });
    }
    Ok(())
}

fn version(text: &str) -> Option<[u32; 2]> {
    let mut parts = text.split(['.', '-']).map(str::parse);
    Some([parts.next()?.ok()?, parts.next()?.ok()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(version: &str, max_payload: usize, jetstream: bool) -> ServerInfo {
        ServerInfo {
            version: version.to_owned(),
            server_name: "n1".to_owned(),
            max_payload,
            jetstream,
            ..ServerInfo::default()
        }
    }

    /// Goal: brokers that cannot keep the promises are refused, by name and version.
    #[test]
    fn unfit_brokers_are_refused() {
        for version in ["2.15.0", "2.15.1", "2.16.0-RC.1", "3.0.0"] {
            check(&broker(version, 1 << 20, true)).expect(version);
        }
        for version in ["2.9.10", "2.14.9", "1.99.0", "", "two"] {
            let error = check(&broker(version, 1 << 20, true))
                .expect_err(version)
                .to_string();
            assert!(error.contains("n1") && error.contains("2.15.0"), "{error}");
            assert!(error.contains(version), "{error}");
        }
        let error = check(&broker("2.15.0", 64 << 10, true))
            .expect_err("small")
            .to_string();
        assert!(error.contains("max_payload: 1MB"), "{error}");
        let error = check(&broker("2.15.0", 1 << 20, false))
            .expect_err("core")
            .to_string();
        assert!(error.contains("JetStream"), "{error}");
    }
}
