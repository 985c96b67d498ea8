//! What the two processes say to each other, as JSON: one message of the socket each, with descriptors beside it.
//!
//! JSON, because these are a few dozen messages in all, because operators' commands use it on the same socket, and
//! because it reads well in a trace of system calls. Another version's fields are skipped, a missing one refuses. What
//! is carried in bulk, rooms and viewers, has an encoding of its own (`uproar_proto::tagged`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Changes when a message or a carried field changes its meaning; additions leave it. Both processes must have one.
pub(crate) const FORMAT: u32 = 1;

/// Something that a viewer or a room may use. What the new process lacks is not carried: its viewers are cut, and
/// their clients connect again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Feature {
    /// Compressed messages.
    Compression,
    /// Message review: pending messages.
    Reviews,
    /// Chat logs: the new process goes on with their spools.
    ChatLogs,
    /// Being a node of a cluster: the new process reads its logs on. A node's new process must have it.
    Cluster,
}

impl Feature {
    /// Everything that this build has.
    pub(crate) const ALL: [Self; 4] = [
        Self::Compression,
        Self::Reviews,
        Self::ChatLogs,
        Self::Cluster,
    ];

    /// Its name, as a hello has it.
    pub(crate) fn name(self) -> String {
        let name = serde_json::to_value(self).expect("a name");
        name.as_str().unwrap_or_default().to_owned()
    }
}

/// A process that serves or wants to. What must be equal for viewers to stay, and what is told to the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// [`FORMAT`] of its build.
    pub(crate) format: u32,
    /// Version and commit of its build.
    pub(crate) version: String,
    /// The user it runs as.
    pub(crate) uid: u32,
    /// Device and inode of the lock file of its data directory: names of a directory may differ.
    pub(crate) lock: (u64, u64),
    /// Its data directory, for people.
    pub(crate) data_dir: PathBuf,
    /// Region of its ARNs.
    pub(crate) region: String,
    /// Account of its ARNs.
    pub(crate) account: String,
    /// Number of its shards.
    pub(crate) shards: usize,
    /// The schema of the database that its build writes, and the only one that it reads without a migration; `None`:
    /// its build does not say.
    #[serde(default)]
    pub(crate) schema: Option<u64>,
    /// The most viewers that it can hold, where its limit on open files counts them; `None`: as many as there are.
    #[serde(default)]
    pub(crate) connections_max: Option<u64>,
    /// The cluster that it is a node of, and its name there; `None`: it is alone, or its build does not say.
    #[serde(default)]
    pub(crate) node: Option<ClusterNode>,
    /// Its features by name; one that the reader does not know is skipped.
    pub(crate) features: BTreeSet<String>,
}

/// A node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct ClusterNode {
    /// The cluster's name.
    pub(crate) cluster: String,
    /// The node's name in it.
    pub(crate) name: String,
}

impl std::fmt::Display for ClusterNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of cluster {}", self.name, self.cluster)
    }
}

impl Hello {
    /// Why this process, a node of a cluster or not, and `other` are not the same one, if so.
    pub(crate) fn other_node(&self, other: &Self) -> Option<String> {
        let named = |node: &Option<ClusterNode>| {
            node.as_ref()
                .map_or("none".to_owned(), ClusterNode::to_string)
        };
        let restart = "drain it and start the new program, its viewers move to other nodes";
        let can = |hello: &Self| hello.features.contains(&Feature::Cluster.name());
        if self.node.is_some() && !(can(self) && can(other)) {
            let lacks = if can(self) { other } else { self };
            return Some(format!(
                "version {} cannot hand over or take over a node of a cluster: {restart}",
                lacks.version
            ));
        }
        (self.node != other.node).then(|| {
            let (own, other) = (named(&self.node), named(&other.node));
            format!(
                "its node is {other}, this server's is {own}: set [cluster] as it was, or to change it stop the server \
                 and start it anew"
            )
        })
    }

    /// The features that this process has and `other` lacks.
    pub(crate) fn missing_in(&self, other: &Self) -> BTreeSet<String> {
        self.features.difference(&other.features).cloned().collect()
    }

    /// Whether only a restart can bring `new` in the place of this process: the two do not understand each other, or it
    /// would migrate the store, and this one could not go on with it if the hand-over were given up.
    pub(crate) fn needs_restart(&self, new: &Self) -> bool {
        self.format != new.format || new.schema > self.schema
    }

    /// Why a process that greets with `new` cannot take over from this one, if it cannot.
    pub(crate) fn refusal(&self, new: &Self) -> Option<String> {
        let differs = |what: &str, own: &dyn std::fmt::Display, other: &dyn std::fmt::Display| {
            format!("its {what} is {other}, this server's is {own}")
        };
        if self.format != new.format {
            return Some(format!(
                "{}; only `--or-restart` can change that, which cuts all viewers and lets them back",
                differs("take-over format", &self.format, &new.format)
            ));
        }
        if let (Some(own), Some(other)) = (self.schema, new.schema)
            && own != other
        {
            let next = if other > own {
                "nobody could go back once it has migrated the store; `--or-restart` does that, which cuts all viewers \
                 and lets them back: keep a backup"
            } else {
                "it cannot read the store: take a build of this server's version or later, or restore a backup"
            };
            let differs = differs("database schema", &own, &other);
            return Some(format!("{differs}, and {next}"));
        }
        if self.uid != new.uid {
            return Some(format!(
                "{}: start it as the same user",
                differs("user id", &self.uid, &new.uid)
            ));
        }
        if self.lock != new.lock {
            return Some(format!(
                "{}: set server.data_dir as it was",
                differs(
                    "data directory",
                    &self.data_dir.display(),
                    &new.data_dir.display()
                )
            ));
        }
        for (key, own, other) in [
            ("region", &self.region, &new.region),
            ("account", &self.account, &new.account),
        ] {
            if own != other {
                return Some(format!(
                    "{}, and every ARN has it: set server.{key} as it was",
                    differs(key, own, other)
                ));
            }
        }
        self.other_node(new)
    }
}

/// Counts that both processes must agree on before the new one may commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Viewers sent, or taken and installed.
    pub(crate) viewers: u64,
    /// Viewers that arrived and could not be installed; 0 when counted by the old process.
    #[serde(default)]
    pub(crate) refused: u64,
}

/// What the old process tells of its part, for the new one's metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Report {
    /// When viewers were last served, in microseconds of `CLOCK_MONOTONIC`, which both processes share.
    pub(crate) frozen_at_micros: u64,
    /// Time of each phase, in microseconds.
    pub(crate) phase_micros: BTreeMap<String, u64>,
    /// Viewers that could not be sent, by reason.
    pub(crate) not_carried: BTreeMap<String, u64>,
}

/// What the new process says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(crate) enum New {
    /// The first message.
    Hello(Box<Hello>),
    /// The store is open, and every room is with its shard.
    Loaded,
    /// The rooms' state is with the shards: viewers may come.
    RoomsLoaded,
    /// All viewers are installed; nothing of theirs was read or written.
    Prepared(Counts),
    /// From now on this process serves. Said before anything is touched.
    Committed,
    /// It serves: viewers are read and written, the doors are open.
    Serving {
        /// Viewers with it.
        viewers: u64,
        /// When it began to serve, in nanoseconds of `CLOCK_MONOTONIC`, which both processes share.
        at_nanos: u64,
    },
    /// It gives up, and why. It exits behind this.
    Failed {
        /// The reason, with its next step.
        reason: String,
    },
}

/// What the old process says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(crate) enum Old {
    /// The two can: wait for what is handed over.
    Welcome {
        /// Who serves.
        hello: Box<Hello>,
        /// Viewers it holds.
        viewers: u64,
        /// Origin of the ticks in carried deadlines, in nanoseconds of `CLOCK_MONOTONIC`.
        epoch_nanos: u64,
    },
    /// The two cannot. Nothing has happened.
    Refused {
        /// The reason, with its next step.
        reason: String,
    },
    /// The store is the new process's. Beside it: a descriptor for each name.
    Yours {
        /// `lock`, `tickets`, and the listeners' names as in the descriptor store.
        names: Vec<String>,
    },
    /// Beside it: a sealed memory file with the state of all rooms.
    Rooms,
    /// Beside it: a socket for each of the old process's shards, from which its viewers come.
    Viewers,
    /// Everything is with the new process: it may serve.
    Commit(Report),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            format: FORMAT,
            version: "0.1.0".to_owned(),
            uid: 1000,
            lock: (7, 12),
            data_dir: "/var/lib/uproar".into(),
            region: "us-west-2".to_owned(),
            account: "123456789012".to_owned(),
            shards: 2,
            schema: Some(2),
            connections_max: None,
            node: None,
            features: ["compression".to_owned(), "reviews".to_owned()].into(),
        }
    }

    /// Goal: each difference that would lose viewers or data refuses, by name and with both values.
    #[test]
    fn processes_that_cannot_are_told_why() {
        let own = hello();
        assert_eq!(own.refusal(&own), None);
        let other_shards = Hello {
            shards: 7,
            version: "9".to_owned(),
            data_dir: "/srv/../var/lib/uproar".into(),
            ..hello()
        };
        assert_eq!(own.refusal(&other_shards), None);
        let refused: [(Hello, &str); 5] = [
            (
                Hello {
                    format: 2,
                    ..hello()
                },
                "format is 2, this server's is 1",
            ),
            (
                Hello { uid: 0, ..hello() },
                "user id is 0, this server's is 1000",
            ),
            (
                Hello {
                    lock: (7, 13),
                    data_dir: "/tmp/x".into(),
                    ..hello()
                },
                "data directory is /tmp/x",
            ),
            (
                Hello {
                    region: "eu-west-1".to_owned(),
                    ..hello()
                },
                "region is eu-west-1",
            ),
            (
                Hello {
                    account: "0".to_owned(),
                    ..hello()
                },
                "account is 0",
            ),
        ];
        for (new, words) in refused {
            let reason = own.refusal(&new).expect("it differs");
            assert!(reason.contains(words), "{reason}");
        }
    }

    /// Goal: a node hands over to the same node alone, and to a build that can read its logs on; a build that does not say
    /// what it is, is none.
    #[test]
    fn a_node_hands_over_to_itself_alone() {
        let node = |cluster: &str, name: &str| {
            let (cluster, name) = (cluster.to_owned(), name.to_owned());
            let mut hello = hello();
            hello.node = Some(ClusterNode { cluster, name });
            hello.features.insert(Feature::Cluster.name());
            hello
        };
        let own = node("main", "chat-1");
        assert_eq!(own.refusal(&own), None);
        let without_feature = Hello {
            features: hello().features,
            ..own.clone()
        };
        let alone = Hello {
            node: None,
            ..own.clone()
        };
        for (old, new, words) in [
            (
                &own,
                &node("main", "chat-2"),
                "its node is chat-2 of cluster main",
            ),
            (
                &own,
                &node("test", "chat-1"),
                "this server's is chat-1 of cluster main",
            ),
            (&own, &alone, "its node is none"),
            (&alone, &own, "its node is chat-1 of cluster main"),
            (
                &own,
                &without_feature,
                "cannot hand over or take over a node",
            ),
            (
                &without_feature,
                &own,
                "cannot hand over or take over a node",
            ),
            (&own, &hello(), "drain it and start the new program"),
        ] {
            let reason = old.refusal(new).expect("it differs");
            assert!(reason.contains(words), "{reason}");
        }
    }

    /// Goal: a program that would migrate the store, and one that cannot read it, are refused before they see it; a
    /// build that does not say its schema is not.
    #[test]
    fn another_schema_is_refused() {
        let own = hello();
        let of = |schema| Hello { schema, ..hello() };
        for (schema, is_newer) in [(3, true), (1, false)] {
            let new = of(Some(schema));
            let reason = own.refusal(&new).expect("it differs");
            let words = format!("its database schema is {schema}, this server's is 2");
            assert!(reason.starts_with(&words), "{reason}");
            assert_eq!(reason.contains("--or-restart"), is_newer, "{reason}");
            assert_eq!(own.needs_restart(&new), is_newer);
        }
        assert_eq!(own.refusal(&of(None)), None);
    }

    /// Goal: another version may add fields and features, and may not leave out what is needed.
    #[test]
    fn additions_are_skipped_and_gaps_refused() {
        let said = serde_json::to_value(New::Hello(Box::new(hello()))).expect("JSON");
        let mut more = said.clone();
        more["colour"] = "blue".into();
        more["features"] = serde_json::json!(["compression", "teleport"]);
        let New::Hello(read) = serde_json::from_value(more).expect("additions are skipped") else {
            panic!("a hello");
        };
        let missing: Vec<String> = hello().missing_in(&read).into_iter().collect();
        assert_eq!(missing, ["reviews"]);
        let mut less = said;
        less.as_object_mut().expect("an object").remove("lock");
        let read: Result<New, _> = serde_json::from_value(less);
        assert!(read.is_err());
    }
}
