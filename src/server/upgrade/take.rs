//! What the new process does with rooms and viewers as they arrive.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;
use crate::net::pass::Connection;
use crate::net::sealed::unseal;
use crate::shard::carry::{self, CarryFault};
use crate::shard::command::Command;
use crate::shard::estate::{Carried, Inherited, RoomsEstate, Unfinished};
use crate::shard::gateway::Gateway;
use crate::supervisor::blocking;
use crate::takeover::messages::Counts;
use uproar_proto::base::clock::Shift;
use uproar_proto::base::limits::{TAKE_OVER_PAUSE_MAX, TAKE_OVER_ROOMS_BYTES_MAX};
use uproar_proto::cluster::engine::LogsEstate;

/// Gives rooms and viewers to the shards.
pub(super) struct Taker {
    gateway: Gateway,
    shift: Shift,
    old_shards: usize,
    carried: Cell<Carried>,
    // How far members were given the cluster's logs.
    logs: Cell<Option<LogsEstate>>,
    unfinished: Cell<Unfinished>,
}

/// A batch on its way from a stream's thread to a shard, and back with the number that were taken.
struct Batch {
    stream: usize,
    viewers: Vec<(OwnedFd, Vec<u8>)>,
    taken: oneshot::Sender<()>,
}

impl Taker {
    pub(super) fn new(gateway: Gateway, clock: Clock, old_epoch: u64, old_shards: usize) -> Self {
        Self {
            gateway,
            shift: Shift::between(old_epoch, clock.epoch_nanos()),
            old_shards,
            carried: Cell::default(),
            logs: Cell::default(),
            unfinished: Cell::default(),
        }
    }

    /// Viewers taken so far, and refused.
    pub(super) fn counts(&self) -> Counts {
        let carried = self.carried.get();
        Counts {
            viewers: carried.viewers,
            refused: carried.not_carried().map(|(_, count)| count).sum(),
        }
    }

    /// The same by reason.
    pub(super) fn carried(&self) -> Carried {
        self.carried.get()
    }

    /// Takes how far members were given the logs of the old process's cluster, if it was in one and has said so.
    pub(super) fn logs(&self) -> Option<LogsEstate> {
        self.logs.take()
    }

    /// Takes what the old process's control thread had to do still.
    pub(super) fn unfinished(&self) -> Unfinished {
        self.unfinished.take()
    }

    /// Gives every shard the rooms' state.
    pub(super) fn rooms(&self, mut descriptors: Vec<OwnedFd>) -> Result<(), String> {
        let file = descriptors
            .pop()
            .ok_or("no memory file came with the rooms")?;
        let bytes = unseal(file, TAKE_OVER_ROOMS_BYTES_MAX).map_err(|error| error.to_string())?;
        let unfinished = Unfinished::read(&bytes).map_err(|error| error.to_string())?;
        self.unfinished.set(unfinished);
        let rooms = RoomsEstate::parse(bytes, self.shift).map_err(|error| error.to_string())?;
        self.logs.set(rooms.logs().cloned());
        let broken = rooms.broken();
        if broken > 0 {
            tracing::warn!(broken, "rooms whose state is not understood begin anew");
        }
        let rooms = Arc::new(rooms);
        self.gateway
            .tell_each(|| Command::InheritRooms(Arc::clone(&rooms)));
        Ok(())
    }

    /// Takes viewers from one stream for each shard of the old process, until each has ended.
    pub(super) async fn viewers(self: &Rc<Self>, streams: Vec<OwnedFd>) -> Result<Counts, String> {
        if streams.len() != self.old_shards {
            let count = streams.len();
            return Err(format!(
                "{count} streams came from {} shards",
                self.old_shards
            ));
        }
        let (batches, mut arriving) = mpsc::channel::<Batch>(streams.len());
        let deadline = deadline();
        let streams: Vec<_> = streams
            .into_iter()
            .enumerate()
            .map(|(stream, socket)| {
                let batches = batches.clone();
                let received = blocking(move || receive(stream, socket, &batches, deadline));
                tokio::task::spawn_local(received)
            })
            .collect();
        drop(batches);
        while let Some(batch) = arriving.recv().await {
            // One beside the other, so that all shards work; the streams' windows bound them.
            tokio::task::spawn_local(Rc::clone(self).take(batch));
        }
        for stream in streams {
            let received = stream.await.map_err(|error| error.to_string())?;
            received.map_err(|error| error.to_string())?;
        }
        Ok(self.counts())
    }

    /// Takes one batch. If that fails the stream's thread, which waits for an answer, gives up.
    async fn take(self: Rc<Self>, batch: Batch) {
        match self.inherit(batch.stream, batch.viewers).await {
            Ok(carried) => {
                let mut all = self.carried.get();
                all += carried;
                self.carried.set(all);
                // A thread that has given up reports that itself.
                let _given_up = batch.taken.send(());
            }
            Err(error) => tracing::error!(%error, "viewers are not taken over"),
        }
    }

    /// Deals a batch out: to the shard of the same number if there are as many as in the old process, where the
    /// viewers' rooms are at home, else to all.
    async fn inherit(
        &self,
        stream: usize,
        viewers: Vec<(OwnedFd, Vec<u8>)>,
    ) -> Result<Carried, String> {
        let shards = self.gateway.shard_count();
        let mut dealt: Vec<Vec<Inherited<OwnedFd>>> = (0..shards).map(|_| Vec::new()).collect();
        for (number, (socket, record)) in viewers.into_iter().enumerate() {
            let shard = if shards == self.old_shards {
                stream
            } else {
                number % shards
            };
            dealt[shard].push(Inherited {
                socket,
                record,
                share: None,
            });
        }
        let mut answers = Vec::new();
        for (shard, viewers) in dealt.into_iter().enumerate() {
            if !viewers.is_empty() {
                let (answer, answered) = oneshot::channel();
                self.gateway.tell(shard, Command::Inherit(viewers, answer));
                answers.push((shard, answered));
            }
        }
        let mut carried = Carried::default();
        for (shard, answered) in answers {
            let answer = tokio::time::timeout(TAKE_OVER_PAUSE_MAX, answered).await;
            let answer = answer.ok().and_then(Result::ok);
            carried += answer.ok_or_else(|| format!("shard {shard} does not take viewers"))?;
        }
        Ok(carried)
    }
}

/// Receives one stream, on a thread of its own.
fn receive(
    stream: usize,
    socket: OwnedFd,
    batches: &mpsc::Sender<Batch>,
    deadline: Instant,
) -> io::Result<()> {
    let deliver = |viewers| {
        let (taken, answered) = oneshot::channel();
        let batch = Batch {
            stream,
            viewers,
            taken,
        };
        let gone = || io::Error::other("the control thread takes no viewers any more");
        batches.blocking_send(batch).map_err(|_| gone())?;
        answered.blocking_recv().map_err(|_| gone())
    };
    let received = carry::receive_viewers(&Connection::from(socket), deliver, deadline);
    received
        .map(drop)
        .map_err(|fault: CarryFault| io::Error::other(fault))
}

#[expect(clippy::disallowed_methods, reason = "a deadline of blocking calls")]
fn deadline() -> Instant {
    Instant::now() + TAKE_OVER_PAUSE_MAX + Duration::from_secs(1)
}
