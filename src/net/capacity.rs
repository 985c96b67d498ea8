//! How many connections a limit on open files allows, and what is left of it for other uses.

use super::backend::Kind;
use super::rings;
use uproar_proto::base::limits::{DESCRIPTORS_MIN, DESCRIPTORS_PER_SHARD, HANDSHAKES_MAX};

/// The descriptors of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// Most established connections.
    pub connections: u64,
    /// For handshakes and API connections.
    pub handshakes: u64,
    /// For connections on their way: to another process, or to a cluster's word on their token.
    pub passing: u64,
}

/// Returns the descriptors that `shards` shards and the rest of the server always need.
pub fn kept(shards: u64) -> u64 {
    DESCRIPTORS_MIN.saturating_add(DESCRIPTORS_PER_SHARD.saturating_mul(shards))
}

/// Divides `open_files` descriptors of a server with `shards` shards.
///
/// Connections of rings take none, so everything beyond [`kept`] is for handshakes. On epoll each takes one: three
/// quarters are theirs, and more where the rest would be more than all handshakes need.
pub fn divide(kind: Kind, open_files: u64, shards: u64) -> Descriptors {
    let kept = kept(shards);
    let spare = open_files.saturating_sub(kept);
    match kind {
        Kind::IoUring => Descriptors {
            connections: rings::capacity(open_files, kept, shards),
            handshakes: spare,
            passing: open_files,
        },
        Kind::Epoll => {
            let handshakes_max = u64::try_from(HANDSHAKES_MAX).expect("thousands");
            let enough = handshakes_max.saturating_mul(shards).saturating_mul(4);
            let handshakes = (spare / 4).min(enough);
            Descriptors {
                connections: spare - handshakes,
                handshakes,
                passing: handshakes / 2,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: on epoll, connections and everything beside them fit the limit together; more descriptors never mean
    /// fewer connections; a large limit is nearly all theirs. Method: handshakes take half of their part, the API a
    /// quarter, batches of a hand-over an eighth of what passes and parked joins a quarter.
    #[test]
    fn connections_on_epoll_leave_enough_for_the_rest() {
        for shards in [1, 2, 64] {
            let mut before = 0;
            for open_files in (0..200_000).step_by(97) {
                let all = divide(Kind::Epoll, open_files, shards);
                let beside = all.handshakes / 2 + all.handshakes / 4;
                let passing = all.passing / 8 + all.passing / 4;
                let sum = kept(shards) + all.connections + beside + passing;
                assert!(sum <= open_files.max(kept(shards)), "{open_files}: {all:?}");
                assert!(all.connections >= before, "{open_files}");
                before = all.connections;
            }
        }
        assert_eq!(divide(Kind::Epoll, 1024, 2).connections, 360);
        assert!(divide(Kind::Epoll, 1 << 20, 2).connections > 1_000_000);
    }

    /// Goal: rings are as they were: their connections are bounded by tables, not by descriptors.
    #[test]
    fn connections_of_rings_take_no_descriptor() {
        let all = divide(Kind::IoUring, 1024, 2);
        assert!(all.connections > 200_000);
        assert_eq!((all.handshakes, all.passing), (480, 1024));
    }
}
