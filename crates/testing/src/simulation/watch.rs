//! What a shard was told of drains, and what it may have cut by now.

use std::time::Duration;

use tokio::sync::oneshot;
use uproar::shard::command::{Refused, Said};
use uproar_proto::base::clock::Tick;
use uproar_proto::base::limits::CUT_LINGER;

use super::net::Peer;

/// The drains that a shard was told of and that were not cancelled, oldest first, and a cancel that
/// was not carried out yet.
#[derive(Default)]
pub(super) struct Watch {
    pub(super) orders: Vec<Ordered>,
    /// Viewers cut by a drain before the first of these.
    pub(super) cut_before: u64,
    /// Viewers who have our FIN and were not closed, and since when.
    pub(super) half_closed: Vec<(usize, Tick)>,
    /// The shard was told to stop.
    pub(super) stops: bool,
}

/// One order.
pub(super) struct Ordered {
    /// `None`: a cancel.
    pub(super) over: Option<Duration>,
    pub(super) came: Tick,
    /// Viewers when it came, and connections that had been opened by then.
    pub(super) open: u64,
    pub(super) opened: u64,
    /// When it was carried out, as far as it is known.
    pub(super) done: Option<Tick>,
    /// When the next one was carried out, and the connections that had been opened by then.
    pub(super) until: Option<(Tick, u64)>,
    /// Told by a command that follows the order.
    pub(super) answer: oneshot::Receiver<Result<Said, Refused>>,
}

/// A viewer whom a drain ended by FIN.
pub(super) struct Ended {
    pub(super) viewer: usize,
    /// All viewers on its shard, and the bytes that they had when it was ended.
    pub(super) others: Vec<(usize, usize)>,
}

impl Ordered {
    /// Most viewers that may have been cut by `now`, when `opened` connections had been opened.
    pub(super) fn allowed(&self, now: Tick, opened: u64) -> u64 {
        let (now, opened) = self.until.unwrap_or((now, opened));
        let viewers = self.open + opened - self.opened;
        match self.over {
            None => 0,
            Some(over) if now.since(self.came) >= over => viewers,
            Some(over) => {
                let share = u128::from(viewers) * now.since(self.came).as_nanos();
                u64::try_from(share.div_ceil(over.as_nanos())).unwrap()
            }
        }
    }
}

/// Checks that requests of half-closed viewers were taken until their FIN or the end of their time, unless they
/// said something that ends a connection.
pub(super) fn check_lingering(
    watch: &mut Watch,
    net: &[Peer],
    now: Tick,
    has_closed: impl Fn(usize) -> bool,
) {
    let stops = watch.stops;
    watch.half_closed.retain(|(id, since)| {
        let peer = &net[*id];
        if !peer.cut {
            return true;
        }
        let has_ended = peer.finished && peer.to_server.is_empty();
        let is_late = now.since(*since) >= CUT_LINGER;
        let is_excused = peer.excused || peer.reset || stops || has_closed(*id);
        assert!(
            has_ended || is_late || is_excused,
            "{id}'s requests were not taken: {} bytes, finished {}, after {:?}",
            peer.to_server.len(),
            peer.finished,
            now.since(*since)
        );
        false
    });
}
