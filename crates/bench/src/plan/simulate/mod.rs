//! `uproar bench plan --simulate`: a node of the planned cluster is killed, in simulated time.
//!
//! The engines that ship decide who takes over, on a model of the brokers' log; viewers are a model, each for a thousand.
//! Everything follows from the seed.

mod back;
mod world;

use std::time::Duration;

use serde_json::{Value, json};

pub(super) use back::{Back, Return, Service, simulate as come_back};
use world::World;

/// Rooms and messages a second that are simulated at most: pauses do not depend on how many there are.
const ROOMS_MAX: usize = 64;
const RATE_MAX: f64 = 400.0;
/// Load before the kill and after it.
const BEFORE: Duration = Duration::from_secs(5);
const AFTER: Duration = Duration::from_secs(15);
/// A viewer notices a silence that is longer than this.
const NOTICED: Duration = Duration::from_millis(100);

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene {
    pub(super) seed: u64,
    pub(super) nodes: usize,
    pub(super) rooms: usize,
    /// Messages a second, all rooms together.
    pub(super) rate: f64,
}

/// What viewers at the other nodes saw.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pauses {
    /// Hash slots whose home was killed, of 256.
    pub(super) slots: usize,
    /// From the kill until the last of them had a home again.
    pub(super) homeless: Duration,
    /// Of the pairs of room and living node: the longest silence of each, ascending.
    pub(super) silences: Vec<Duration>,
    /// Messages said at living nodes, and those of them that did not come to every living node, once.
    pub(super) said: usize,
    pub(super) lost: usize,
    pub(super) repeated: usize,
}

/// Kills the home of the first room.
pub(super) fn kill(scene: Scene) -> Pauses {
    let rooms = scene.rooms.min(ROOMS_MAX);
    let mut world = World::new(scene.seed, scene.nodes, rooms);
    world.settle();
    world.speak(scene.rate.min(RATE_MAX));
    world.pass(BEFORE);
    let (victim, slots) = world.kill_home_of_first_room();
    let killed = world.now();
    let mut homeless = Duration::ZERO;
    while world.since(killed) < AFTER {
        world.pass(Duration::from_millis(10));
        if world.has_homeless(victim) {
            homeless = world.since(killed);
        }
    }
    world.be_silent();
    world.pass(Duration::from_secs(5));
    let (said, lost, repeated) = world.losses(victim);
    Pauses {
        slots,
        homeless,
        silences: world.silences(victim, killed),
        said,
        lost,
        repeated,
    }
}

impl Pauses {
    /// Share of the viewers at other nodes whose room paused: each room and node counts alike.
    pub(super) fn share(&self) -> f64 {
        let paused = self.silences.iter().filter(|silence| **silence > NOTICED);
        paused.count() as f64 / self.silences.len().max(1) as f64
    }

    /// The longest pauses of those that paused: median, 99th percentile, all.
    pub(super) fn percentiles(&self) -> [Duration; 3] {
        let from = self.silences.partition_point(|silence| *silence <= NOTICED);
        let paused = &self.silences[from..];
        let last = paused.len().saturating_sub(1) as f64;
        let at = |share: f64| paused.get((share * last).round() as usize).copied();
        [0.5, 0.99, 1.0].map(|share| at(share).unwrap_or_default())
    }

    pub(super) fn json(&self) -> Value {
        let [p50, p99, max] = self.percentiles().map(|pause| pause.as_secs_f64() * 1e3);
        json!({
            "slots_of_the_killed_node": self.slots,
            "all_have_a_home_again_ms": self.homeless.as_secs_f64() * 1e3,
            "share_of_viewers_elsewhere_that_pause": self.share(),
            "pause_ms": {"p50": p50, "p99": p99, "max": max},
            "said": self.said,
            "lost": self.lost,
            "repeated": self.repeated,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(seed: u64) -> Scene {
        Scene {
            seed,
            nodes: 5,
            rooms: 20,
            rate: 100.0,
        }
    }

    /// Goal: the engines take over from a killed node, viewers elsewhere pause for a while and miss nothing, and the same
    /// seed shows the same. Method: five nodes, twenty rooms, three seeds.
    #[test]
    fn a_killed_node_is_replaced_and_nothing_is_missed() {
        for seed in 1..=3 {
            let pauses = kill(scene(seed));
            assert!(pauses.slots > 20 && pauses.said > 1000, "{pauses:?}");
            assert_eq!((pauses.lost, pauses.repeated), (0, 0), "{pauses:?}");
            assert!(pauses.homeless > Duration::from_millis(500), "{pauses:?}");
            assert!(pauses.share() > 0.0 && pauses.share() < 1.0, "{pauses:?}");
            assert_eq!(pauses, kill(scene(seed)));
        }
    }
}
