//! The cluster's streams, as the brokers tell: who leads each, and where its leader should rather be.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::report::StreamReport;

/// The answer of `$JS.API.STREAM.LIST`.
#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(default)]
    streams: Vec<Stream>,
    // Names of those that nobody has answered for.
    #[serde(default)]
    missing: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Stream {
    config: Config,
    cluster: Option<Group>,
}

#[derive(Debug, Deserialize)]
struct Config {
    name: String,
}

/// Brokers that keep one stream.
#[derive(Debug, Deserialize)]
struct Group {
    leader: Option<String>,
    #[serde(default)]
    replicas: Option<Vec<Replica>>,
}

/// One that follows.
#[derive(Debug, Deserialize)]
struct Replica {
    name: String,
    current: bool,
}

/// Reads the answer; `None`: it is a refusal.
pub(super) fn parse(answer: &[u8]) -> Option<Vec<StreamReport>> {
    let listed: Listed = serde_json::from_slice(answer).ok()?;
    let told = listed.streams.into_iter().map(|stream| {
        let (leader, replicas) = stream
            .cluster
            .map_or((None, None), |group| (group.leader, group.replicas));
        let replicas = replicas.into_iter().flatten();
        let current = replicas
            .filter(|replica| replica.current)
            .map(|replica| replica.name);
        let current = leader.clone().into_iter().chain(current).collect();
        StreamReport {
            name: stream.config.name,
            leader,
            current,
        }
    });
    let missing = listed
        .missing
        .into_iter()
        .flatten()
        .map(|name| StreamReport {
            name,
            leader: None,
            current: Vec::new(),
        });
    let mut streams: Vec<_> = told.chain(missing).collect();
    streams.sort_by(|a, b| a.name.cmp(&b.name));
    (!streams.is_empty()).then_some(streams)
}

/// Which streams should be led by which other broker, so that none leads two more than another that could.
pub(super) fn spread(streams: &[StreamReport]) -> Vec<(&str, &str)> {
    let mut leads: BTreeMap<&str, usize> = BTreeMap::new();
    for stream in streams {
        for broker in &stream.current {
            leads.entry(broker).or_default();
        }
        if let Some(leader) = &stream.leader {
            *leads.entry(leader).or_default() += 1;
        }
    }
    let mut moves = Vec::new();
    for stream in streams {
        let Some(leader) = stream.leader.as_deref() else {
            continue;
        };
        let others = stream.current.iter().filter(|broker| *broker != leader);
        let Some(best) = others.min_by_key(|broker| leads[broker.as_str()]) else {
            continue;
        };
        if leads[leader] > leads[best.as_str()] + 1 {
            *leads.entry(leader).or_default() -= 1;
            *leads.entry(best).or_default() += 1;
            moves.push((stream.name.as_str(), best.as_str()));
        }
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(name: &str, leader: Option<&str>, current: &[&str]) -> StreamReport {
        StreamReport {
            name: name.to_owned(),
            leader: leader.map(ToOwned::to_owned),
            current: current.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    /// Goal: the answer is read as nats-server 2.15 writes it, a stream without a leader included; a refusal is none.
    #[test]
    fn the_list_of_streams_is_read_as_written() {
        let answer = br#"{"type":"io.nats.jetstream.api.v1.stream_list_response","total":2,"offset":0,"limit":256,"streams":[{"config":{"name":"UP_dev_LOG_0","subjects":["up.dev.log.0.*"]},"created":"2026-11-28T19:00:00Z","state":{"messages":1},"cluster":{"name":"uproar-dev","leader":"broker-2","replicas":[{"name":"broker-1","current":true,"active":1},{"name":"broker-3","current":false,"active":2,"lag":9}]}}],"missing":["UP_dev_LOG_1"]}"#;
        let expected = vec![
            stream("UP_dev_LOG_0", Some("broker-2"), &["broker-2", "broker-1"]),
            stream("UP_dev_LOG_1", None, &[]),
        ];
        assert_eq!(parse(answer), Some(expected));
        assert_eq!(parse(br#"{"error":{"code":503,"description":"JetStream system temporarily unavailable"}}"#), None);
    }

    /// Goal: leaders are spread evenly, only to brokers whose copy is current, and what is even stays. Method: all six on
    /// one broker, one of whose followers lags.
    #[test]
    fn leaders_are_spread_over_current_copies() {
        let all = ["a", "b", "c"];
        let mut streams: Vec<_> = (0..6)
            .map(|n| stream(&n.to_string(), Some("a"), &all))
            .collect();
        let moves = spread(&streams);
        let to = |broker| moves.iter().filter(|(_, to)| *to == broker).count();
        assert_eq!((to("b"), to("c")), (2, 2));
        let even = ["a", "b", "c"].map(|leader| stream(leader, Some(leader), &all));
        assert_eq!(spread(&even), []);
        for lagging in &mut streams {
            lagging.current.pop();
        }
        assert!(spread(&streams).iter().all(|(_, to)| *to == "b"));
        assert_eq!(spread(&[stream("x", None, &[])]), []);
    }
}
