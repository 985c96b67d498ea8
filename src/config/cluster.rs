//! `[cluster]`: which cluster this server is a node of, and its brokers.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::check::Check;
use super::error::ConfigError;
use super::raw::Cluster;
use crate::cluster::ClusterSettings;
use uproar_proto::base::limits::{CLUSTER_ISOLATED_MIN, DRAIN_MAX};

/// The settings of a node; `None` if no key of the table is given that makes this server one.
pub(super) fn resolve(
    given: Cluster,
    token_life: Duration,
    check: &Check<'_>,
) -> Result<Option<ClusterSettings>, ConfigError> {
    needs_a_name(&given, check)?;
    let Some(name) = given.name else {
        return Ok(None);
    };
    check.holds(
        cfg!(feature = "cluster"),
        "cluster.name",
        &name,
        "left out: this program was built without the feature `cluster`",
    )?;
    check.holds(
        is_word(&name, 32, "-"),
        "cluster.name",
        &name,
        "1 to 32 letters, digits and dashes",
    )?;
    let servers = given.servers.unwrap_or_default();
    brokers(&servers, check)?;
    let secret_file = given.secret_file.unwrap_or_default();
    check.requires(
        "cluster.name",
        true,
        "cluster.secret_file",
        secret_file != PathBuf::new(),
    )?;
    let tls_identity = identity(given.tls_certificate, given.tls_key, check)?;
    check.holds(
        [1, 3, 5].contains(&given.replicas),
        "cluster.replicas",
        given.replicas,
        "1, 3 or 5: a quorum needs an odd number",
    )?;
    check.holds(
        given.linger_ms <= 100,
        "cluster.linger_ms",
        given.linger_ms,
        "0 to 100",
    )?;
    Ok(Some(ClusterSettings {
        name,
        servers,
        node: node(given.node, check)?,
        credentials: given.credentials,
        tls_ca: given.tls_ca,
        tls_identity,
        secret_file,
        replicas: given.replicas,
        linger: Duration::from_millis(given.linger_ms),
        isolated_cut: isolated_cut(given.isolated_cut_seconds, check)?,
        token_life,
    }))
}

/// How long this node may be cut off; `None`: for ever.
fn isolated_cut(seconds: u64, check: &Check<'_>) -> Result<Option<Duration>, ConfigError> {
    let [least, most] = [CLUSTER_ISOLATED_MIN, DRAIN_MAX].map(|limit| limit.as_secs());
    check.holds(
        seconds == 0 || (least..=most).contains(&seconds),
        "cluster.isolated_cut_seconds",
        seconds,
        format!("0 for never, or {least} to {most}: an election of brokers must not cut anybody"),
    )?;
    Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
}

/// Refuses what means nothing without a cluster's name: a node that silently stands alone would be a second chat.
fn needs_a_name(given: &Cluster, check: &Check<'_>) -> Result<(), ConfigError> {
    let named = given.name.is_some();
    for (key, has_value) in [
        ("cluster.servers", given.servers.is_some()),
        ("cluster.node", given.node.is_some()),
        ("cluster.credentials", given.credentials.is_some()),
        ("cluster.tls_ca", given.tls_ca.is_some()),
        ("cluster.tls_certificate", given.tls_certificate.is_some()),
        ("cluster.tls_key", given.tls_key.is_some()),
        ("cluster.secret_file", given.secret_file.is_some()),
    ] {
        check.requires(key, has_value, "cluster.name", named)?;
    }
    Ok(())
}

/// What this node is called, if nobody says otherwise as its host is.
fn node(given: Option<String>, check: &Check<'_>) -> Result<String, ConfigError> {
    let node = given.or_else(host_name).unwrap_or_default();
    let must = "1 to 64 letters, digits, dashes, dots and underscores";
    check.holds(is_word(&node, 64, "-._"), "cluster.node", &node, must)?;
    Ok(node)
}

fn brokers(servers: &[String], check: &Check<'_>) -> Result<(), ConfigError> {
    check.requires("cluster.name", true, "cluster.servers", !servers.is_empty())?;
    for server in servers {
        check.holds(
            is_broker(server),
            "cluster.servers",
            // A URL may have a password in it.
            server.rsplit('@').next().unwrap_or_default(),
            "tls:// with host and port, as in tls://10.0.0.11:4222, and nothing else; nats://, which anybody on the \
             way can read, to loopback only; credentials belong into cluster.credentials",
        )?;
    }
    Ok(())
}

/// A host with a port, over TLS unless it is this machine.
fn is_broker(server: &str) -> bool {
    let Some((scheme, authority)) = server.split_once("://") else {
        return false;
    };
    let Some((host, port)) = authority.rsplit_once(':') else {
        return false;
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let address: Option<IpAddr> = bare.unwrap_or(host).parse().ok();
    let is_host = match address {
        Some(IpAddr::V6(_)) => bare.is_some(),
        Some(IpAddr::V4(_)) => true,
        None => is_word(host, 253, "-._"),
    };
    let is_loopback = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    is_host && is_port && (scheme == "tls" || scheme == "nats" && is_loopback)
}

fn identity(
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    check: &Check<'_>,
) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
    let (has_certificate, has_key) = (certificate.is_some(), key.is_some());
    check.requires(
        "cluster.tls_certificate",
        has_certificate,
        "cluster.tls_key",
        has_key,
    )?;
    check.requires(
        "cluster.tls_key",
        has_key,
        "cluster.tls_certificate",
        has_certificate,
    )?;
    Ok(certificate.zip(key))
}

fn is_word(text: &str, length_max: usize, marks: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || marks.contains(c);
    !text.is_empty() && text.len() <= length_max && text.chars().all(is_part)
}

fn host_name() -> Option<String> {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::super::{Flags, Mode, Settings, settle};
    use super::*;
    use std::path::Path;

    const WHOLE: &str =
        "name = \"main\"\nservers = [\"nats://127.0.0.1:4222\"]\nsecret_file = \"/k\"\n";

    fn load(section: &str) -> Result<Settings, String> {
        let text = format!("[cluster]\n{section}");
        let file = Some((Path::new("uproar.toml"), &*text));
        let dev = Mode::DEV;
        let loaded = settle(dev, file, std::iter::empty(), &Flags::default());
        loaded
            .map(|loaded| loaded.settings)
            .map_err(|error| error.to_string())
    }

    /// Goal: without a name there is no cluster; with one, the defaults are those of the sample.
    #[test]
    fn a_name_makes_a_cluster() {
        assert!(load("").expect("valid").cluster.is_none());
        assert!(
            load("linger_ms = 1\nreplicas = 1")
                .expect("valid")
                .cluster
                .is_none()
        );
        let cluster = load(WHOLE).expect("valid").cluster.expect("a cluster");
        assert_eq!((cluster.replicas, cluster.linger.as_millis()), (3, 1));
        assert!(!cluster.node.is_empty(), "the host's name");
    }

    /// Goal: brokers off loopback are reached over TLS alone, and no password stands in an address.
    #[test]
    fn brokers_are_reached_safely() {
        for good in [
            "tls://10.0.0.11:4222",
            "tls://nats-1.example:4222",
            "tls://[2001:db8::1]:4222",
            "nats://127.0.0.1:4222",
            "nats://[::1]:4222",
            "nats://localhost:4222",
        ] {
            assert!(is_broker(good), "{good}");
        }
        for bad in [
            "nats://10.0.0.11:4222",
            "nats://localhost.example:4222",
            "tls://10.0.0.11",
            "tls://10.0.0.11:0",
            "tls://u:p@10.0.0.11:4222",
            "tls://10.0.0.11:4222/path",
            "tls://2001:db8::1:4222",
            "ws://127.0.0.1:4222",
            "127.0.0.1:4222",
            "tls://:4222",
        ] {
            assert!(!is_broker(bad), "{bad}");
        }
    }

    /// Goal: mistakes are named, with the key, and a password in an address is not printed.
    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("name = \"a b\"".to_owned(), "cluster.name is a b"),
            (
                "name = \"a\"".to_owned(),
                "cluster.name requires cluster.servers",
            ),
            (
                "node = \"a\"".to_owned(),
                "cluster.node requires cluster.name",
            ),
            (
                WHOLE.replace("secret_file", "tls_ca"),
                "cluster.secret_file",
            ),
            (
                WHOLE.replace("127.0.0.1", "10.0.0.1"),
                "cluster.servers is nats://10.0.0.1",
            ),
            (
                WHOLE.replace("127.0.0.1", "u:topmost@127.0.0.1"),
                "cluster.servers is 127.0.0.1",
            ),
            (format!("{WHOLE}node = \"a/b\""), "cluster.node is a/b"),
            (
                format!("{WHOLE}tls_key = \"/k\""),
                "cluster.tls_key requires",
            ),
            (format!("{WHOLE}replicas = 2"), "cluster.replicas is 2"),
            (
                format!("{WHOLE}linger_ms = 101"),
                "cluster.linger_ms is 101",
            ),
            (
                format!("{WHOLE}isolated_cut_seconds = 14"),
                "cluster.isolated_cut_seconds is 14",
            ),
        ] {
            let error = load(&text).expect_err(&text);
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("topmost"), "{error}");
        }
    }
}
