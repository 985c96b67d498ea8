//! What one address may hold of each listener, and which proxies are trusted.

use super::check::Check;
use super::error::ConfigError;
use super::raw::{Control, Forwarded, Messaging};
use crate::control::ControlAdmissionSettings;
use crate::shard::handshake::{AcceptSettings, percent_of};
use uproar_proto::base::limits::{HANDSHAKES_MAX, METRICS_ROOMS_MAX};
use uproar_proto::base::rate::Rate;
use uproar_proto::proxy::{ForwardedHeader, TrustedProxies};

pub(super) fn messaging(
    given: &Messaging,
    check: &Check<'_>,
) -> Result<AcceptSettings, ConfigError> {
    let percent = given.address_handshakes_percent;
    check.percentage("messaging.address_handshakes_percent", percent)?;
    let connections = given.address_connections;
    let refusals = given.address_refusals;
    Ok(AcceptSettings {
        handshakes_max: HANDSHAKES_MAX,
        address_handshakes_max: percent_of(HANDSHAKES_MAX, percent),
        address_connections_max: (connections > 0).then_some(connections),
        address_refusals: (refusals > 0).then(|| Rate::per_second(refusals)),
        trusted: trusted(
            &given.trusted_proxies,
            given.forwarded_header,
            "messaging.trusted_proxies",
            check,
        )?,
    })
}

pub(super) fn control(
    given: &Control,
    check: &Check<'_>,
) -> Result<ControlAdmissionSettings, ConfigError> {
    let percent = given.address_connections_percent;
    check.percentage("control.address_connections_percent", percent)?;
    Ok(ControlAdmissionSettings {
        address_percent: percent,
        trusted: trusted(
            &given.trusted_proxies,
            given.forwarded_header,
            "control.trusted_proxies",
            check,
        )?,
        ..ControlAdmissionSettings::default()
    })
}

/// How many rooms `/metrics` names by each figure: a series for each is a cost for whoever keeps them.
pub(super) fn metrics_rooms(given: &Control, check: &Check<'_>) -> Result<usize, ConfigError> {
    let (key, rooms) = ("control.metrics_rooms", given.metrics_rooms);
    check.holds(rooms <= METRICS_ROOMS_MAX, key, rooms, "0 to 100")?;
    Ok(rooms)
}

fn trusted(
    networks: &[String],
    header: Forwarded,
    key: &'static str,
    check: &Check<'_>,
) -> Result<TrustedProxies, ConfigError> {
    let mut parsed = Vec::with_capacity(networks.len());
    for text in networks {
        let network = TrustedProxies::parse_network(text);
        let must = "addresses or networks, as in 10.0.0.7 or 10.0.0.0/8";
        check.holds(network.is_some(), key, text, must)?;
        parsed.extend(network);
    }
    let header = match header {
        Forwarded::XForwardedFor => ForwardedHeader::XForwardedFor,
        Forwarded::Forwarded => ForwardedHeader::Forwarded,
    };
    Ok(TrustedProxies::new(parsed, header))
}
