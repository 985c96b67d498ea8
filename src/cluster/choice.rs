//! Which broker a node's connections go to: both to the same.
//!
//! Where the network between brokers is cut, two connections on its two sides are worse than one: a node whose appends
//! reach the majority, and who hears none of the published records, holds its place and leaves its viewers waiting.

use std::sync::{Mutex, PoisonError};

use async_nats::{Server, ServerAddr};

use crate::random;

/// Which of a node's two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// The published records alone: if it is cut for being slow, nothing else suffers.
    Records,
    /// Everything else.
    Calls,
}

impl Line {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Calls => "calls",
        }
    }
}

/// The brokers of a node's two connections: where they are, or try to be.
#[derive(Debug, Default)]
pub(super) struct Choice(Mutex<Chosen>);

#[derive(Debug, Default)]
struct Chosen {
    records: Option<ServerAddr>,
    calls: Option<ServerAddr>,
}

impl Choice {
    /// The first connection was to one of these; which one the client does not tell before.
    pub(super) fn began(&self, line: Line, brokers: &[Server]) {
        let first = brokers.iter().find(|broker| broker.did_connect);
        let mut chosen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *chosen.of(line).0 = first.map(|broker| broker.addr.clone());
    }

    /// The broker to be tried next, after this line has lost the last one or could not reach it; `None`: any, for none is
    /// known yet. That of the other line, unless this is the one that was lost. Else one of the others, for the lost one may
    /// stand still, which costs `CLUSTER_CONNECT_MAX` to find out; of those the one that failed least.
    pub(super) fn next(&self, line: Line, brokers: &[Server]) -> Option<ServerAddr> {
        let mut chosen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (own, other) = chosen.of(line);
        if own.is_none() && other.is_none() {
            return None;
        }
        let lost = own.take();
        let mut random = random::quick();
        let rank = |broker: &&Server| {
            let is_lost = lost.as_ref() == Some(&broker.addr);
            let is_apart = other.as_ref() != Some(&broker.addr);
            (is_lost, is_apart, broker.failed_attempts, random.u32(..))
        };
        let next = brokers.iter().min_by_key(rank)?;
        *own = Some(next.addr.clone());
        own.clone()
    }
}

impl Chosen {
    /// The place of this line, and that of the other one.
    fn of(&mut self, line: Line) -> (&mut Option<ServerAddr>, &Option<ServerAddr>) {
        match line {
            Line::Records => (&mut self.records, &self.calls),
            Line::Calls => (&mut self.calls, &self.records),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [Line; 2] = [Line::Records, Line::Calls];

    /// Brokers with how often each failed; the first connection was to that port.
    fn brokers(failed: [usize; 3], connected: u16) -> Vec<Server> {
        let known = |(port, failed_attempts): (u16, usize)| Server {
            addr: format!("nats://127.0.0.1:{port}")
                .parse()
                .expect("an address"),
            failed_attempts,
            did_connect: port == connected,
            is_discovered: false,
            last_error: None,
        };
        (1..).zip(failed).map(known).collect()
    }

    fn next(choice: &Choice, line: Line, failed: [usize; 3]) -> Option<u16> {
        let next = choice.next(line, &brokers(failed, 0));
        next.map(|addr| addr.port())
    }

    /// Goal: whoever lost its broker tries the others first, and this one again when they have failed.
    #[test]
    fn a_lost_broker_is_tried_last() {
        let choice = Choice::default();
        assert_eq!(next(&choice, Line::Calls, [0; 3]), None, "any comes first");
        choice.began(Line::Calls, &brokers([0; 3], 1));
        let second = next(&choice, Line::Calls, [0; 3]).expect("known");
        assert_ne!(second, 1, "it was lost");
        let third = next(&choice, Line::Calls, [9, 1, 1]).expect("known");
        assert!(![1, second].contains(&third), "{third}: lost, too");
        assert_eq!(next(&choice, Line::Calls, [0, 2, 1]), Some(1), "the rest");
        assert_ne!(next(&choice, Line::Calls, [0, 2, 1]), Some(1), "just left");
    }

    /// Goal: both lines go to one broker: at first, when it is lost, whoever is first, and when the other one is elsewhere,
    /// whatever failed before.
    #[test]
    fn one_line_goes_where_the_other_is() {
        for [first, second] in [LINES, [LINES[1], LINES[0]]] {
            let choice = Choice::default();
            choice.began(first, &brokers([0; 3], 2));
            assert_eq!(next(&choice, second, [0; 3]), Some(2), "at first");
            let moved = next(&choice, second, [0; 3]);
            assert_ne!(moved, Some(2), "it was lost");
            assert_eq!(next(&choice, first, [5; 3]), moved, "it is followed");
            choice.began(second, &brokers([0; 3], 2));
            assert_eq!(next(&choice, first, [0, 5, 0]), Some(2), "failed before");
            assert_ne!(next(&choice, first, [0, 6, 0]), Some(2), "failed now");
        }
    }
}
