//! Handshakes with a token each, many at once: alone at one node, in a cluster at all of them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use uproar_proto::base::id::RoomId;

use super::latency::Idle;
use crate::harness::ages::{Ages, histogram, record};
use crate::harness::error::BenchError;
use crate::harness::handshake::Handshakes;
use crate::harness::nodes::Nodes;
use crate::harness::viewer::{self, name};
use crate::harness::viewer_stream::ViewerStream;

/// Handshakes in progress at once, at all nodes together.
const WIDTH: usize = 192;
/// Longest wait until a handshake can go on.
const TURN: Duration = Duration::from_millis(1);

/// What came of it.
#[derive(Debug, Clone)]
pub(super) struct Joins {
    pub(super) opened: u64,
    pub(super) refused: u64,
    pub(super) per_second: f64,
    pub(super) ages: Ages,
    /// Processor microseconds of one, of all nodes and of all brokers; what idling costs is taken off.
    pub(super) node_micros: f64,
    pub(super) broker_micros: f64,
}

/// Opens `count` connections, each with a token of its own.
pub(super) fn measure(
    nodes: &Nodes,
    rooms: &[RoomId],
    count: usize,
    idle: &Idle,
) -> Result<Joins, BenchError> {
    let servers = nodes.servers(rooms)?;
    let handshakes = servers
        .iter()
        .map(|server| Handshakes::new(server.messaging, None));
    let mut handshakes: Vec<Handshakes> = handshakes.collect::<Result<_, _>>()?;
    let mut requests = Vec::with_capacity(count);
    for index in 0..count {
        let node = index % servers.len();
        let (path, token) = servers[node].access(index % rooms.len(), &name(index))?;
        requests.push((index, handshakes[node].request(&path, token.as_deref())));
    }
    let (mut held, mut refused, mut durations) = (Vec::<ViewerStream>::new(), 0, histogram());
    let (before, begun) = (nodes.busy(), Instant::now());
    let mut requests = requests.into_iter().peekable();
    while requests.peek().is_some() || handshakes.iter().any(|each| each.pending() > 0) {
        for each in &mut handshakes {
            each.turn(TURN, |ended| match ended.outcome {
                Ok(stream) => {
                    record(&mut durations, ended.took);
                    held.push(stream);
                }
                Err(_) => refused += 1,
            })?;
        }
        while let Some((index, _)) = requests.peek() {
            let node = index % handshakes.len();
            if handshakes[node].pending() >= WIDTH / handshakes.len() {
                break;
            }
            let (index, request) = requests.next().expect("peeked");
            let begun = handshakes[node].begin(index, request);
            begun.map_err(|cause| BenchError::Connect { index, cause })?;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let busy = nodes.busy().since(&before);
    let opened = durations.len();
    let net = |all: Duration, idle: Duration| {
        (all.as_secs_f64() - idle.as_secs_f64() * seconds) * 1e6 / opened.max(1) as f64
    };
    held.into_iter().try_for_each(viewer::reset)?;
    Ok(Joins {
        opened,
        refused,
        per_second: opened as f64 / seconds,
        ages: Ages::of(&durations),
        node_micros: net(busy.all_nodes(), idle.busy.all_nodes()),
        broker_micros: net(busy.brokers, idle.busy.brokers),
    })
}

impl Joins {
    pub(super) fn json(&self) -> Value {
        json!({
            "opened": self.opened,
            "refused": self.refused,
            "joins_per_second": self.per_second.round(),
            "latency_us": self.ages.json(),
            "node_cpu_us_per_join": self.node_micros,
            "broker_cpu_us_per_join": self.broker_micros,
        })
    }

    pub(super) fn line(&self) -> String {
        let Self {
            opened,
            refused,
            per_second,
            node_micros,
            broker_micros,
            ..
        } = self;
        format!(
            "{per_second:.0}/s, {}; {opened} opened, {refused} refused; {node_micros:.1} us of nodes and \
             {broker_micros:.1} us of brokers each",
            self.ages.line()
        )
    }
}
