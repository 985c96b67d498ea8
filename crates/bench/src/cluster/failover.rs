//! The home of a room is killed, again and again: how long viewers elsewhere hear nothing.

use std::sync::mpsc::{TryRecvError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use uproar_proto::base::id::RoomId;
use uproar_proto::cluster::HashSlot;

use crate::harness::across::{Across, Crowd, Losses};
use crate::harness::error::BenchError;
use crate::harness::nodes::{Nodes, is_ready};

/// Messages a second in the room.
const RATE: f64 = 100.0;
/// Load before a kill, and the least after one.
const BEFORE: Duration = Duration::from_millis(300);
const AFTER: Duration = Duration::from_millis(1_200);
/// Longest wait for a node to be back.
const PATIENCE: Duration = Duration::from_secs(30);
const QUIET: Duration = Duration::from_millis(500);
const LAST: Duration = Duration::from_secs(10);

/// What came of it.
#[derive(Debug, Clone)]
pub(super) struct Failovers {
    /// The longest pause of each kill, in order.
    pub(super) pauses: Vec<Duration>,
    pub(super) losses: Losses,
    pub(super) refused: u64,
    /// Whether all viewers of each killed node were connected again before the next kill.
    pub(super) comes_back: bool,
}

/// Kills the home of `room` `kills` times; the node is started again after each.
pub(super) fn measure(
    nodes: &mut Nodes,
    room: RoomId,
    kills: usize,
    mut tell: impl FnMut(usize),
) -> Result<Failovers, BenchError> {
    let crowd = Crowd {
        each: 1,
        is_everywhere: true,
        senders: nodes.count(),
        content_bytes: 200,
        comes_back: true,
    };
    let mut across = Across::connect(nodes.servers(&[room])?, crowd)?;
    across.set_rate(RATE);
    across.go_on(BEFORE)?;
    let (mut pauses, mut comes_back) = (Vec::new(), true);
    let mut alive = 0;
    for kill in 0..kills {
        tell(kill);
        let home = home(nodes, &mut across, (room, alive))?;
        alive = (home + 1) % nodes.count();
        across.take_worst();
        nodes.kill(home)?;
        across.go_on(AFTER)?;
        nodes.restart(home)?;
        comes_back &= await_back(nodes, &mut across, home)?;
        across.go_on(BEFORE)?;
        let elsewhere = across.take_worst().into_iter().enumerate();
        let elsewhere = elsewhere.filter(|(node, _)| *node != home);
        pauses.push(elsewhere.map(|(_, age)| age).max().unwrap_or_default());
    }
    across.settle(QUIET, LAST)?;
    Ok(Failovers {
        pauses,
        losses: across.losses(),
        refused: across.refused(),
        comes_back,
    })
}

/// Asks the node `alive` who is home, in another thread: it takes a while, and messages are due meanwhile.
fn home(
    nodes: &Nodes,
    across: &mut Across,
    (room, alive): (RoomId, usize),
) -> Result<usize, BenchError> {
    let slot = HashSlot::of(room).index();
    let begun = Instant::now();
    loop {
        let (done, answer) = channel();
        let homes = nodes.homes_by(alive);
        std::thread::spawn(move || done.send(homes.ask()));
        let mut found = None;
        across.go_on_while(|_| match answer.try_recv() {
            Ok(homes) => {
                found = Some(homes);
                false
            }
            Err(TryRecvError::Empty) => true,
            Err(TryRecvError::Disconnected) => false,
        })?;
        if let Some(Ok(homes)) = &found
            && let Some(home) = homes.get(slot).copied().flatten()
        {
            return Ok(home);
        }
        if begun.elapsed() > PATIENCE {
            let text = format!("slot {slot} has no home after {PATIENCE:?}: {found:?}");
            return Err(BenchError::Server(text));
        }
    }
}

/// Waits until a node is ready and its viewers are back; returns whether they are.
fn await_back(nodes: &Nodes, across: &mut Across, node: usize) -> Result<bool, BenchError> {
    let (control, begun) = (nodes.control(node), Instant::now());
    let (done, answer) = channel();
    std::thread::spawn(move || {
        while !is_ready(control) && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        done.send(())
    });
    across.go_on_while(|_| matches!(answer.try_recv(), Err(TryRecvError::Empty)))?;
    let begun = Instant::now();
    across.go_on_while(|across| !across.is_whole(node) && begun.elapsed() < LAST)?;
    Ok(across.is_whole(node))
}

fn millis(pause: &Duration) -> u64 {
    u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)
}

impl Failovers {
    /// Percentiles of the pauses in milliseconds: lowest, 50th, 90th, 99th, highest.
    pub(super) fn percentiles(&self) -> [u64; 5] {
        let mut sorted: Vec<u64> = self.pauses.iter().map(millis).collect();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        [0.0, 0.5, 0.9, 0.99, 1.0].map(|share| {
            let at = (share * last as f64).ceil() as usize;
            sorted.get(at).copied().unwrap_or(0)
        })
    }

    /// How many pauses are in each interval: below 100 ms, 200 ms, and so on; beyond the last too.
    pub(super) fn histogram(&self) -> Vec<(u64, usize)> {
        let mut bars = Vec::new();
        for pause in &self.pauses {
            let bar = pause.as_millis() as usize / STEP_MS;
            if bars.len() <= bar {
                bars.resize(bar + 1, 0);
            }
            bars[bar] += 1;
        }
        let bars = bars.into_iter().enumerate();
        bars.map(|(bar, count)| (((bar + 1) * STEP_MS) as u64, count))
            .collect()
    }

    pub(super) fn json(&self) -> Value {
        let [least, p50, p90, p99, most] = self.percentiles();
        json!({
            "kills": self.pauses.len(),
            "pause_ms": {"min": least, "p50": p50, "p90": p90, "p99": p99, "max": most},
            "pauses_ms": self.pauses.iter().map(millis).collect::<Vec<_>>(),
            "said": self.losses.said,
            "lost": self.losses.lost,
            "partly": self.losses.partly,
            "repeated": self.losses.repeated,
            "reordered": self.losses.reordered,
            "refused": self.refused,
            "all_came_back": self.comes_back,
        })
    }
}

/// Width of a bar.
const STEP_MS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn failovers(millis: &[u64]) -> Failovers {
        Failovers {
            pauses: millis.iter().copied().map(Duration::from_millis).collect(),
            losses: Losses::default(),
            refused: 0,
            comes_back: true,
        }
    }

    /// Goal: percentiles are pauses that were, and bars add up to all of them.
    #[test]
    fn pauses_are_summed_up() {
        let some = failovers(&[700, 90, 610, 620, 640]);
        assert_eq!(some.percentiles(), [90, 620, 700, 700, 700]);
        let bars = some.histogram();
        assert_eq!((bars[0], bars[6], bars[7]), ((100, 1), (700, 3), (800, 1)));
        assert_eq!(bars.iter().map(|(_, count)| count).sum::<usize>(), 5);
        assert_eq!(failovers(&[]).percentiles(), [0; 5]);
    }
}
