//! How a cluster does, as one of its nodes sees it: what `uproar cluster status` and the page of `uproar dev --cluster`
//! show. Figures of other nodes are as old as their last sign of life.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cluster::ClusterSettings;
use crate::cluster::survey::Broker;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::RoomId;
use uproar_proto::cluster::engine::{PeerStatus, Status};
use uproar_proto::cluster::{HashSlot, Incarnation};

/// All that is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClusterReport {
    /// The cluster's name.
    pub(crate) cluster: String,
    /// The node that says this.
    pub(crate) node: String,
    /// What to do next, in a line.
    #[serde(default)]
    pub(crate) advice: String,
    /// Each node that was heard lately, by name.
    pub(crate) nodes: Vec<NodeReport>,
    /// Each broker of the configuration; from the command that asks, not from the node.
    #[serde(default)]
    pub(crate) brokers: Vec<BrokerReport>,
    /// The slots.
    pub(crate) slots: SlotsReport,
    /// A request's way through home, log and back, as this node measured it last.
    pub(crate) probe: Option<ProbeReport>,
    /// The room that was asked for.
    pub(crate) room: Option<RoomReport>,
    /// Each stream, and who leads it; `None`: the brokers have not said.
    pub(crate) streams: Option<Vec<StreamReport>>,
    /// The brokers' URLs.
    pub(crate) servers: Vec<String>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeReport {
    /// Its name.
    pub(crate) name: String,
    /// Its process.
    pub(crate) pid: u32,
    /// Its process as the cluster names it, a new one at each start.
    pub(crate) incarnation: String,
    /// Version of its program.
    pub(crate) version: String,
    /// What it does.
    pub(crate) state: NodeState,
    /// Its viewers.
    pub(crate) viewers: u64,
    /// Slots whose home it is.
    pub(crate) slots: u16,
    /// Its clock against that of the node that says this, in milliseconds.
    pub(crate) skew_ms: i64,
    /// How long ago it was heard, in milliseconds.
    pub(crate) heard_ms: u64,
    /// Where viewers connect.
    pub(crate) messaging: String,
    /// Where the API is called.
    pub(crate) control: String,
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NodeState {
    /// It may be a home.
    Ready,
    /// It has not read all rooms yet, or its clock is wrong.
    NotReady,
    /// It leaves.
    Draining,
    /// It has not been heard for 3 s.
    Silent,
}

impl NodeState {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::NotReady => "not ready",
            Self::Draining => "draining",
            Self::Silent => "silent",
        }
    }
}

/// One broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BrokerReport {
    /// Its name; `None`: it does not answer.
    pub(crate) name: Option<String>,
    /// Its URL.
    pub(crate) server: String,
    /// Its process, if it runs on the machine that asks.
    pub(crate) pid: Option<u32>,
    /// Version of its program.
    pub(crate) version: Option<String>,
    /// Streams that it leads.
    pub(crate) leads: Option<usize>,
    /// Why it does not answer.
    pub(crate) fault: Option<String>,
}

/// All slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SlotsReport {
    /// Slots without a home, or whose log this node has not read.
    pub(crate) without_home: usize,
    /// Requests of this node that wait for their log.
    pub(crate) waiting: usize,
    /// The home's name of each slot, from slot 0.
    pub(crate) homes: Vec<Option<String>>,
}

/// The newest probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProbeReport {
    /// Its round trip, in milliseconds.
    pub(crate) round_trip_ms: f64,
    /// How long ago it came back, in milliseconds.
    pub(crate) age_ms: u64,
}

/// One room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RoomReport {
    /// Its ARN.
    pub(crate) arn: String,
    /// Its slot.
    pub(crate) slot: u8,
    /// Name of the slot's home.
    pub(crate) home: Option<String>,
    /// The home's process.
    pub(crate) pid: Option<u32>,
    /// Position in the slot's log at which the home took over.
    pub(crate) epoch: u64,
    /// Position of the newest record that this node has read.
    pub(crate) sequence: u64,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StreamReport {
    /// Its name.
    pub(crate) name: String,
    /// The broker that leads it; `None`: none, so its slots stand still.
    pub(crate) leader: Option<String>,
    /// Brokers whose copy is current, the leader included.
    pub(crate) current: Vec<String>,
}

/// What is asked for.
pub(crate) struct Wanted<'a> {
    /// The room's ARN, if a room's home is wanted.
    pub(crate) room: Option<&'a str>,
    /// Who leads the streams, if the brokers have said.
    pub(crate) streams: Option<Vec<StreamReport>>,
}

impl ClusterReport {
    /// What the engine's facts say at `now`; brokers and advice are missing.
    pub(crate) fn new(
        status: &Status,
        me: Incarnation,
        settings: &ClusterSettings,
        now: Tick,
        wanted: Wanted<'_>,
    ) -> Self {
        let name_of = |home: Incarnation| {
            let peer = peer(status, home)?;
            Some(peer.here.about.name.to_string())
        };
        let homes: Vec<_> = status
            .slots
            .iter()
            .map(|slot| slot.home.and_then(name_of))
            .collect();
        let mut nodes: Vec<_> = status.peers.iter().map(|peer| node(peer, now)).collect();
        nodes.sort_by(|a, b| (&a.name, a.heard_ms).cmp(&(&b.name, b.heard_ms)));
        // A node that was started again is the same to people.
        nodes.dedup_by(|later, first| later.name == first.name);
        let own = peer(status, me).map(|peer| peer.here.about.name.to_string());
        Self {
            cluster: settings.name.clone(),
            node: own.unwrap_or_else(|| settings.node.clone()),
            advice: String::new(),
            nodes,
            brokers: Vec::new(),
            slots: SlotsReport {
                without_home: homes.iter().filter(|home| home.is_none()).count(),
                waiting: status.slots.iter().map(|slot| slot.kept).sum(),
                homes,
            },
            probe: status.probe.map(|(round_trip, back)| ProbeReport {
                round_trip_ms: round_trip.as_secs_f64() * 1e3,
                age_ms: millis(now.since(back)),
            }),
            room: wanted.room.and_then(|arn| room(status, arn)),
            streams: wanted.streams,
            servers: settings.servers.clone(),
        }
    }

    /// Adds the brokers.
    pub(crate) fn with_brokers(mut self, brokers: Vec<Broker>) -> Self {
        let reports = brokers.into_iter().map(|broker| {
            let Broker {
                server,
                greeting,
                pid,
                ..
            } = broker;
            let fault = greeting.as_ref().err().cloned();
            let greeting = greeting.ok();
            let leads = greeting
                .as_ref()
                .zip(self.streams.as_ref())
                .map(|(greeting, streams)| {
                    let leads =
                        |stream: &&StreamReport| stream.leader.as_ref() == Some(&greeting.name);
                    streams.iter().filter(leads).count()
                });
            let (name, version) = greeting
                .map(|greeting| (greeting.name, greeting.version))
                .unzip();
            BrokerReport {
                name,
                server,
                pid,
                version,
                leads,
                fault,
            }
        });
        self.brokers = reports.collect();
        self
    }
}

fn peer(status: &Status, process: Incarnation) -> Option<&PeerStatus> {
    let mut peers = status.peers.iter();
    peers.find(|peer| peer.here.incarnation == process)
}

fn node(peer: &PeerStatus, now: Tick) -> NodeReport {
    let here = &peer.here;
    let about = &here.about;
    let state = match (peer.is_live, here.is_draining, here.facts.is_ready) {
        (false, ..) => NodeState::Silent,
        (true, true, _) => NodeState::Draining,
        (true, false, false) => NodeState::NotReady,
        (true, false, true) => NodeState::Ready,
    };
    // What a silent node had, others have by now.
    let (viewers, slots) = if peer.is_live {
        (here.facts.viewers, here.slots_home)
    } else {
        (0, 0)
    };
    NodeReport {
        name: about.name.to_string(),
        pid: about.pid,
        incarnation: here.incarnation.to_string(),
        version: about.version.to_string(),
        state,
        viewers,
        slots,
        skew_ms: peer.skew_nanos / 1_000_000,
        heard_ms: millis(now.since(peer.heard)),
        messaging: about.messaging.to_string(),
        control: about.control.to_string(),
    }
}

fn room(status: &Status, arn: &str) -> Option<RoomReport> {
    let slot = HashSlot::of(RoomId::parse(arn.rsplit('/').next()?)?);
    let known = status.slots.get(slot.index())?;
    let home = known.home.and_then(|home| peer(status, home));
    Some(RoomReport {
        arn: arn.to_owned(),
        slot: slot.number(),
        home: home.map(|home| home.here.about.name.to_string()),
        pid: home.map(|home| home.here.about.pid),
        epoch: known.epoch.0,
        sequence: known.sequence.0,
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
