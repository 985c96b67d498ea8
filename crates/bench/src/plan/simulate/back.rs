//! Viewers of a killed node come back to the others: three queues in a row, each in order of arrival.

use std::time::Duration;

use serde_json::{Value, json};

/// Who comes back, and what serves them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Return {
    pub(crate) seed: u64,
    /// Viewers that were cut.
    pub(crate) viewers: f64,
    /// Viewers that one stands for.
    pub(crate) scale: f64,
    /// Time over which they begin, each at random.
    pub(crate) spread: Duration,
    /// Seconds of one server for each viewer, and how many servers there are: the API that makes tokens.
    pub(crate) token: Service,
    /// The handshakes of the nodes that are left.
    pub(crate) handshake: Service,
    /// The log that says that a token is used for the first time.
    pub(crate) log: Service,
}

/// A queue's servers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    pub(crate) seconds: f64,
    pub(crate) servers: f64,
}

/// How it went.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Back {
    /// When half, 99 in a hundred and all were back, from the kill.
    pub(crate) half: Duration,
    pub(crate) most: Duration,
    pub(crate) all: Duration,
    /// Viewers that wait at most: for tokens, for a handshake, for the log.
    pub(crate) waiting: [f64; 3],
    /// The longest wait for the log.
    pub(crate) log_wait: Duration,
    /// Handshakes of the busiest second.
    pub(crate) peak: f64,
}

/// Lets them come.
pub(crate) fn simulate(them: &Return) -> Back {
    let mut chance = fastrand::Rng::with_seed(them.seed);
    let count = (them.viewers / them.scale).round().max(1.0) as usize;
    let spread = them.spread.as_secs_f64();
    let mut arrivals: Vec<f64> = (0..count).map(|_| chance.f64() * spread).collect();
    arrivals.sort_by(f64::total_cmp);
    let mut waiting = [0.0; 3];
    let mut log_wait = 0.0;
    let mut peak = 0.0;
    for (queue, service) in [them.token, them.handshake, them.log]
        .into_iter()
        .enumerate()
    {
        let ends = serve(&arrivals, service.seconds * them.scale / service.servers);
        waiting[queue] = longest(&arrivals, &ends) as f64 * them.scale;
        if queue == 1 {
            peak = busiest(&ends) as f64 * them.scale;
        }
        let waits = ends
            .iter()
            .zip(&arrivals)
            .map(|(end, arrival)| end - arrival);
        log_wait = waits.fold(0.0, f64::max);
        arrivals = ends;
    }
    let at = |share: f64| {
        let index = (share * (count - 1) as f64).ceil() as usize;
        Duration::from_secs_f64(arrivals[index])
    };
    Back {
        half: at(0.5),
        most: at(0.99),
        all: at(1.0),
        waiting,
        log_wait: Duration::from_secs_f64(log_wait),
        peak,
    }
}

/// When each is served, in order.
fn serve(arrivals: &[f64], seconds: f64) -> Vec<f64> {
    let mut free = 0.0_f64;
    let served = arrivals.iter().map(|arrival| {
        free = free.max(*arrival) + seconds;
        free
    });
    served.collect()
}

/// The most that were there at once.
fn longest(arrivals: &[f64], ends: &[f64]) -> usize {
    let (mut gone, mut most) = (0, 0);
    for (come, arrival) in arrivals.iter().enumerate() {
        while ends[gone] <= *arrival && gone < come {
            gone += 1;
        }
        most = most.max(come + 1 - gone);
    }
    most
}

/// The most that ended within one second.
fn busiest(ends: &[f64]) -> usize {
    let (mut first, mut most) = (0, 0);
    for (last, end) in ends.iter().enumerate() {
        while end - ends[first] > 1.0 {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

impl Back {
    pub(crate) fn json(&self) -> Value {
        let [tokens, handshakes, log] = self.waiting;
        json!({
            "back_s": {"p50": self.half.as_secs_f64(), "p99": self.most.as_secs_f64(), "all": self.all.as_secs_f64()},
            "waiting_max": {"tokens": tokens, "handshakes": handshakes, "log": log},
            "log_wait_max_s": self.log_wait.as_secs_f64(),
            "handshakes_per_second_max": self.peak,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn them(token: f64) -> Return {
        let quick = Service {
            seconds: 1e-9,
            servers: 1.0,
        };
        Return {
            seed: 7,
            viewers: 50_000.0,
            scale: 1000.0,
            spread: Duration::from_secs(1),
            token: Service {
                seconds: token,
                servers: 1.0,
            },
            handshake: quick,
            log: quick,
        }
    }

    /// Goal: the slowest of three queues decides when all are back, and who waits waits there. Method: 10,000 tokens a second
    /// for 50,000 viewers take five seconds; a fast API takes as long as they do.
    #[test]
    fn the_slowest_queue_decides() {
        let slow = simulate(&them(1e-4));
        assert!((slow.all.as_secs_f64() - 5.0).abs() < 0.2, "{slow:?}");
        assert!(
            slow.waiting[0] > 35_000.0 && slow.waiting[1] < 3_000.0,
            "{slow:?}"
        );
        assert!((slow.peak - 10_000.0).abs() <= 1_000.0, "{slow:?}");
        let fast = simulate(&them(1e-7));
        assert!(fast.all < Duration::from_millis(1_100), "{fast:?}");
        assert_eq!(fast, simulate(&them(1e-7)));
    }

    /// Goal: a queue's length is the number that came and were not served yet.
    #[test]
    fn queues_are_counted() {
        let arrivals = [0.0, 0.0, 0.0, 10.0];
        let ends = serve(&arrivals, 1.0);
        assert_eq!(ends, [1.0, 2.0, 3.0, 11.0]);
        assert_eq!(longest(&arrivals, &ends), 3);
        assert_eq!(busiest(&ends), 2);
    }
}
