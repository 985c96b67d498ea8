//! The sums of a plan.

/// Processor time of a send, for its first message, in seconds: docs/results/2026-11.md, "Messages a send".
const SEND: f64 = 5.4e-6;
/// For each further message of the send: the same table, from 100 to 300 messages.
const FURTHER_MESSAGE: f64 = 0.03e-6;
/// Of a handshake with token: docs/results/2026-11.md, "Measured".
pub(super) const HANDSHAKE: f64 = 17.5e-6;
/// What the log asks of all nodes for a handshake in addition: docs/results/2026-11.md, "A cluster", "processor time of one", now:
/// 28.1 and 28.6 µs, less the 17.5 and 16.0 of one alone in the line below it.
pub(super) const JOIN_AT_NODE: f64 = 12e-6;
/// What a handshake's token costs all brokers together: the same line, 56.9 and 57.0 µs.
const JOIN_AT_BROKERS: f64 = 57e-6;
/// Joins a second that the one stream of token uses has taken, whose leader is one broker: the same table, "handshakes/s", now:
/// 14,427 and 14,322, while brokers, nodes and the tool shared two cores. More were never measured, and further brokers do not help.
pub(super) const TOKEN_STREAM: f64 = 14_400.0;
/// Processor time of a CreateChatToken: docs/results/2026-11.md, "Measured".
pub(super) const TOKEN: f64 = 13e-6;
/// Memory of an idle viewer in bytes, the kernel's share included: the same table.
const VIEWER_BYTES: f64 = 5_300.0;
/// Headers of a segment on the wire: Ethernet, IP, TCP with time stamps.
const SEGMENT_BYTES: f64 = 66.0;
/// Bytes that a segment carries.
const SEGMENT_PAYLOAD: f64 = 1_448.0;
/// What a room keeps for slow readers: `delivery.window_age_ms` and `window_bytes`, and its first segment.
const WINDOW_SECONDS: f64 = 10.0;
const WINDOW_BYTES_MAX: f64 = 4.0 * 1024.0 * 1024.0;
const SEGMENT_MIN: f64 = 4_096.0;
/// Slots: one append each at a time.
const SLOTS: f64 = 256.0;
/// How long a home collects: the default of `cluster.linger_ms`.
const LINGER: f64 = 1e-3;
/// Processor time of an append, of all brokers together, in seconds, with three nodes: docs/results/2026-11.md, "A cluster", below
/// the table of records: 122 µs at 8,770 a second.
const APPEND: f64 = 122e-6;
/// Processor time of a record on each node's cluster thread: the same paragraph, its last sentence.
const RECORD: f64 = 9.3e-6;
/// Memory of a room without viewers at each node, in bytes: the table of handshakes there, 1.7 KB.
const ROOM_BYTES: f64 = 1_750.0;
/// Bytes of a record and of a request beside the frames: headers, subject, origin.
const RECORD_BYTES: f64 = 250.0;
/// Memory of a token's use in a broker, in bytes: assumed.
const TOKEN_BYTES: f64 = 300.0;
/// A use in the stream, in bytes, and the stream's bound: docs/limits.md, `CLUSTER_TOKEN_BYTES_MAX`.
const TOKEN_STORED: f64 = 150.0;
const TOKENS_STORED_MAX: f64 = 8.0 * 1024.0 * 1024.0 * 1024.0;
/// How long a token's use is kept: `tokens.life_minutes` and five more.
const TOKEN_SECONDS: f64 = 65.0 * 60.0;

/// Who comes, and what they say.
#[derive(Debug, Clone)]
pub(super) struct Crowd {
    pub(super) viewers: f64,
    pub(super) rooms: f64,
    /// Messages a second in each room.
    pub(super) rate: f64,
    /// Bytes of one delivered frame.
    pub(super) frame: f64,
    pub(super) join_seconds: f64,
    /// How long a viewer stays, or until its session ends and it comes again with a new token.
    pub(super) session_seconds: f64,
    pub(super) pace_seconds: f64,
}

/// What there is.
#[derive(Debug, Clone)]
pub(super) struct Machines {
    pub(super) nodes: f64,
    pub(super) brokers: f64,
    pub(super) cores: f64,
    pub(super) gbits: f64,
    pub(super) memory_bytes: f64,
}

/// How much of something is used.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    pub(super) name: &'static str,
    pub(super) used: f64,
    pub(super) has: f64,
    pub(super) unit: &'static str,
    pub(super) is_assumed: bool,
}

impl Limit {
    /// 1: all of it.
    pub(super) fn share(&self) -> f64 {
        self.used / self.has
    }
}

/// All sums.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) messages: f64,
    pub(super) deliveries: f64,
    pub(super) appends: f64,
    pub(super) joins: f64,
    pub(super) sends_per_node: f64,
    pub(super) messages_per_send: f64,
    /// The most used first.
    pub(super) limits: Vec<Limit>,
}

impl Plan {
    /// Sums up. A server alone has no brokers, and so no limits of them.
    pub(super) fn new(crowd: &Crowd, machines: &Machines) -> Self {
        let messages = crowd.rooms * crowd.rate;
        // A slot's home appends what came within the linger; slots with less append each message alone.
        let slots = SLOTS.min(crowd.rooms);
        let appends = messages / (1.0 + messages * LINGER / slots);
        let sends_per_viewer = crowd.rate.min(1.0 / crowd.pace_seconds);
        let mut plan = Self {
            messages,
            deliveries: crowd.viewers * crowd.rate,
            appends,
            joins: crowd.viewers / crowd.join_seconds,
            sends_per_node: crowd.viewers / machines.nodes * sends_per_viewer,
            messages_per_send: crowd.rate / sends_per_viewer,
            limits: Vec::new(),
        };
        plan.limits = plan.of_nodes(crowd, machines);
        if machines.nodes > 1.0 {
            plan.limits.extend(plan.of_brokers(crowd, machines));
        }
        plan.limits.sort_by(|a, b| b.share().total_cmp(&a.share()));
        plan
    }

    /// The most used.
    pub(super) fn first(&self) -> &Limit {
        self.limits.first().expect("nodes have limits")
    }

    fn of_nodes(&self, crowd: &Crowd, machines: &Machines) -> Vec<Limit> {
        let Machines {
            nodes,
            cores,
            gbits,
            memory_bytes,
            ..
        } = *machines;
        let viewers = crowd.viewers / nodes;
        let send = SEND + FURTHER_MESSAGE * (self.messages_per_send - 1.0);
        let handshake = if nodes > 1.0 {
            HANDSHAKE + JOIN_AT_NODE
        } else {
            HANDSHAKE
        };
        let sent_bytes = self.messages_per_send * crowd.frame;
        let on_the_wire = sent_bytes + SEGMENT_BYTES * (sent_bytes / SEGMENT_PAYLOAD).ceil();
        let window =
            (WINDOW_SECONDS * crowd.rate * crowd.frame).min(WINDOW_BYTES_MAX) + SEGMENT_MIN;
        let limit = |name, used, has, unit| Limit {
            name,
            used,
            has,
            unit,
            is_assumed: false,
        };
        let mut limits = vec![
            limit(
                "node: processors, deliveries",
                self.sends_per_node * send,
                cores,
                "cores",
            ),
            limit(
                "node: processors, while all join",
                self.joins / nodes * handshake,
                cores,
                "cores",
            ),
            limit(
                "node: network out",
                self.sends_per_node * on_the_wire * 8e-9,
                gbits,
                "Gbit/s",
            ),
            limit(
                "node: memory",
                (viewers * VIEWER_BYTES + crowd.rooms * (window + ROOM_BYTES)) / 1e9,
                memory_bytes / 1e9,
                "GB",
            ),
        ];
        if nodes > 1.0 {
            limits.extend(self.of_the_log(crowd, machines));
        }
        limits
    }

    /// What the log asks of each node.
    fn of_the_log(&self, crowd: &Crowd, machines: &Machines) -> [Limit; 2] {
        [
            Limit {
                name: "node: cluster thread, reading the log",
                used: self.appends * RECORD,
                has: 1.0,
                unit: "cores",
                is_assumed: false,
            },
            Limit {
                name: "node: network in, the log",
                used: self.log_bytes(crowd) * 8e-9,
                has: machines.gbits,
                unit: "Gbit/s",
                is_assumed: false,
            },
        ]
    }

    /// Bytes a second of the whole log.
    fn log_bytes(&self, crowd: &Crowd) -> f64 {
        self.messages * crowd.frame + self.appends * RECORD_BYTES
    }

    fn of_brokers(&self, crowd: &Crowd, machines: &Machines) -> Vec<Limit> {
        let all_cores = machines.brokers * machines.cores;
        // Each record goes to every node, and to the two other brokers that keep it.
        let out = self.log_bytes(crowd) * (machines.nodes + 2.0) / machines.brokers;
        let mut limits = vec![
            Limit {
                name: "brokers: processors, appends",
                used: self.appends * APPEND,
                has: all_cores,
                unit: "cores",
                is_assumed: false,
            },
            Limit {
                name: "brokers: processors, while all join",
                used: self.appends * APPEND + self.joins * JOIN_AT_BROKERS,
                has: all_cores,
                unit: "cores",
                is_assumed: false,
            },
            Limit {
                name: "broker: network out",
                used: out * 8e-9,
                has: machines.gbits,
                unit: "Gbit/s",
                is_assumed: false,
            },
        ];
        limits.extend(self.of_token_uses(crowd, machines));
        limits
    }

    /// What uses of tokens ask of the one stream that all of them go into, whatever brokers there are.
    fn of_token_uses(&self, crowd: &Crowd, machines: &Machines) -> [Limit; 4] {
        let again = crowd.viewers / crowd.session_seconds;
        let at_once = crowd.viewers.min(self.joins * TOKEN_SECONDS);
        let kept = at_once.max(again * TOKEN_SECONDS);
        [
            Limit {
                name: "brokers: one stream of token uses, all join",
                used: self.joins,
                has: TOKEN_STREAM,
                unit: "joins/s",
                is_assumed: false,
            },
            Limit {
                name: "brokers: one stream of token uses, sessions",
                used: again,
                has: TOKEN_STREAM,
                unit: "joins/s",
                is_assumed: false,
            },
            Limit {
                name: "broker: disk, tokens used",
                used: kept * TOKEN_STORED / 1e9,
                has: TOKENS_STORED_MAX / 1e9,
                unit: "GB",
                is_assumed: false,
            },
            Limit {
                name: "broker: memory, tokens used",
                used: kept * TOKEN_BYTES / 1e9,
                has: machines.memory_bytes / 1e9,
                unit: "GB",
                is_assumed: true,
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machines(nodes: f64) -> Machines {
        Machines {
            nodes,
            brokers: 3.0,
            cores: 16.0,
            gbits: 25.0,
            memory_bytes: 64e9,
        }
    }

    fn crowd(viewers: f64, rooms: f64, rate: f64) -> Crowd {
        Crowd {
            viewers,
            rooms,
            rate,
            frame: 420.0,
            join_seconds: 900.0,
            session_seconds: 3_600.0,
            pace_seconds: 0.05,
        }
    }

    fn used(plan: &Plan, name: &str) -> f64 {
        plan.limits
            .iter()
            .find(|limit| limit.name == name)
            .expect(name)
            .used
    }

    /// Goal: a room of ten million viewers on 40 nodes asks for what a calculation by hand asks for: 250,000 viewers a
    /// node, each sent 10 messages a second alone.
    #[test]
    fn ten_million_viewers_are_summed_up_as_by_hand() {
        let plan = Plan::new(&crowd(10e6, 1.0, 10.0), &machines(40.0));
        let near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 0.01;
        assert!(near(plan.sends_per_node, 2.5e6));
        assert!(near(used(&plan, "node: processors, deliveries"), 13.5));
        assert!(near(used(&plan, "node: network out"), 2.5e6 * 486.0 * 8e-9));
        assert!(near(plan.joins, 11_111.0));
        // One slot: ten messages a second are nearly an append each.
        assert!(plan.appends > 9.0 && plan.appends < 10.0);
        assert_eq!(plan.first().name, "node: processors, deliveries");
    }

    /// Goal: the one stream that all uses of tokens go into is the limit where many come at once, and where sessions are short.
    /// Method: ten million viewers who come within two minutes, or stay for ten; nodes have room for them.
    #[test]
    fn all_joins_go_through_one_stream() {
        let crowd = crowd(10e6, 1.0, 10.0);
        let at_once = Crowd {
            join_seconds: 120.0,
            ..crowd
        };
        let plan = Plan::new(&at_once, &machines(40.0));
        assert_eq!(
            plan.first().name,
            "brokers: one stream of token uses, all join"
        );
        assert!((plan.first().share() - 5.79).abs() < 0.01, "{plan:?}");
        let short = Crowd {
            session_seconds: 600.0,
            ..crowd
        };
        let plan = Plan::new(&short, &machines(400.0));
        assert_eq!(
            plan.first().name,
            "brokers: one stream of token uses, sessions"
        );
        assert!((plan.first().used - 16_667.0).abs() < 1.0, "{plan:?}");
    }

    /// Goal: the backbone is the limit where many rooms say much to few, the edge where few say something to many; and a
    /// server alone has no brokers.
    #[test]
    fn the_first_limit_follows_the_load() {
        let chatty = Plan::new(&crowd(200_000.0, 50_000.0, 4.0), &machines(50.0));
        let first = chatty.first().name;
        assert!(
            first.starts_with("broker") || first.ends_with("the log"),
            "{chatty:?}"
        );
        let alone = Plan::new(&crowd(200_000.0, 1.0, 5.0), &machines(1.0));
        assert!(
            alone
                .limits
                .iter()
                .all(|limit| limit.name.starts_with("node: "))
        );
        assert!(!alone.limits.iter().any(|limit| limit.is_assumed));
    }

    /// Goal: appends never pass one for each slot and linger, however much is said.
    #[test]
    fn appends_are_bounded_by_slots() {
        for rate in [1.0, 100.0, 10_000.0] {
            let plan = Plan::new(&crowd(1e6, 100_000.0, rate), &machines(20.0));
            assert!(plan.appends <= SLOTS / LINGER && plan.appends <= plan.messages);
        }
    }
}
