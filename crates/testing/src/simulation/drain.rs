//! Drains: begun, begun anew, cancelled, at any time; and what each turn may have cut.

use std::time::Duration;

use tokio::sync::oneshot;
use uproar::shard::close_reason::CloseReason;
use uproar::shard::command::Command;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::CUT_WAIT_MAX;

use super::net::Peer;
use super::oracle::{Room, Stream};
use super::plan::WILD;
use super::watch::{Ended, Ordered, check_lingering};
use super::world::{MAIN, Shard, World};

impl Shard {
    /// Viewers that a drain has cut.
    pub(super) fn drained(&self) -> u64 {
        self.metrics.closed(CloseReason::Drain).get()
    }

    /// Notes which orders were carried out.
    fn note_done(&mut self, now: Tick) {
        let (cut, opened) = (self.drained(), self.metrics.opened.get());
        let watch = &mut self.watch;
        let mut at = 0;
        while let Some(order) = watch.orders.get_mut(at) {
            if order.done.is_none() {
                if order.answer.try_recv().is_err() {
                    break;
                }
                order.done = Some(now);
                if order.over.is_none() {
                    watch.orders.drain(..=at);
                    (watch.cut_before, at) = (cut, 0);
                    continue;
                }
                if let Some(before) = at.checked_sub(1) {
                    watch.orders[before].until = Some((now, opened));
                }
            }
            at += 1;
        }
    }

    /// Whether every viewer's turn has come.
    fn is_drained(&self, now: Tick) -> bool {
        let newest = self.watch.orders.last();
        newest.is_some_and(|order| match (order.done, order.over) {
            (Some(done), Some(over)) => now.since(done) >= over,
            _ => false,
        })
    }
}

impl World {
    /// Begins a drain of a shard, perhaps another one while one runs, or cancels it.
    pub(super) fn drain_or_not(&mut self) {
        let shard = self.dice.below(self.shards.len());
        if self.undrained.contains(&shard) {
            return;
        }
        let over = match self.dice.below(8) {
            0 => Some(Duration::ZERO),
            number @ 1..4 => Some(Duration::from_millis(7 << (2 * number))),
            4 => None,
            _ => return,
        };
        self.order(shard, over);
    }

    /// Tells a shard to drain, or to cease.
    fn order(&mut self, shard: usize, over: Option<Duration>) {
        self.cancelled += usize::from(over.is_none());
        let shard = &mut self.shards[shard];
        if shard.watch.orders.is_empty() {
            shard.watch.cut_before = shard.drained();
        }
        // A command with an answer, which no room is changed by.
        let (answer, answered) = oneshot::channel();
        let follows = Command::SendEvent {
            room: RoomId::from_random(1),
            name: "done".into(),
            attributes_json: "{}".into(),
            answer,
        };
        let order = over.map_or(Command::Undrain, Command::Drain);
        shard.control.deliver(order);
        shard.control.deliver(follows);
        shard.control.flush();
        shard.watch.orders.push(Ordered {
            over,
            came: self.now.tick,
            open: shard.metrics.open.get(),
            opened: shard.metrics.opened.get(),
            done: None,
            until: None,
            answer: answered,
        });
    }

    /// Clients answer the server's FIN, some later than others.
    pub(super) fn answer_fins(&mut self) {
        for peer in self.net.borrow_mut().iter_mut() {
            let waits = peer.fin.is_some() && !peer.cut && !peer.finished;
            if waits && !peer.stalled && self.dice.once_in(8) {
                peer.finished = true;
            }
        }
    }

    /// Checks what a turn of a shard has cut, in which no viewer was cut by a drain before `cut_before`.
    pub(super) fn check_drain(&mut self, shard: usize, cut_before: u64) {
        let now = self.now.tick;
        let shard = &mut self.shards[shard];
        let io = shard.core.io_mut();
        let (fins, cuts) = (std::mem::take(&mut io.fins), std::mem::take(&mut io.cuts));
        let cut = shard.drained();
        shard.note_done(now);
        let opened = shard.metrics.opened.get();
        let net = &mut *self.net.borrow_mut();
        let ended = u64::try_from(fins.len()).unwrap();
        let late = (cut - cut_before)
            .checked_sub(ended)
            .expect("each FIN is counted");
        assert!(late <= cuts.len() as u64, "a viewer is counted twice");
        let watch = &mut shard.watch;
        if !watch.stops {
            let orders = watch.orders.iter();
            let allowed: u64 = orders.map(|order| order.allowed(now, opened)).sum();
            assert!(
                cut - watch.cut_before <= allowed || cut == cut_before,
                "beyond the pace: {cut}"
            );
            // Who had not everything when its time was over.
            let since = watch.orders.first().map(|order| now.since(order.came));
            assert!(
                late == 0 || since >= Some(CUT_WAIT_MAX),
                "cut before its time"
            );
            if late > 0 {
                for peer in &cuts {
                    net[*peer].excused = true;
                }
            }
        }
        check_lingering(watch, net, now, |peer| {
            let client = &self.clients[peer];
            client.user == WILD || (client.gone && !net[peer].finished)
        });
        let receives = || shard.core.io().receives.values().copied();
        let others: Vec<_> = receives()
            .map(|peer| (peer, net[peer].from_server.len()))
            .collect();
        for viewer in fins {
            shard.watch.half_closed.push((viewer, now));
            let others = others.clone();
            self.ended.push(Ended { viewer, others });
        }
        if shard.core.is_serving() && shard.is_drained(now) {
            let pending = shard.core.io().pending_sends();
            let pending: Vec<usize> = pending.map(|(_, peer, _)| *peer).collect();
            for id in receives() {
                let peer = &net[id];
                let is_over = peer.fin.is_some() || peer.closing || peer.cut || peer.reset;
                assert!(is_over || pending.contains(&id), "viewer {id} is not cut");
            }
        }
    }

    /// Checks that viewers whom a drain ended had everything that others on their shard had; returns how
    /// many of their later messages came through.
    pub(super) fn check_ended(
        &self,
        net: &[Peer],
        streams: &[Option<Stream>],
        rooms: &[Room; 2],
    ) -> usize {
        let mut late = 0;
        for Ended { viewer, others } in &self.ended {
            let (client, peer) = (&self.clients[*viewer], &net[*viewer]);
            let room = &rooms[client.room];
            let stream = streams[*viewer].as_ref().expect("it was greeted");
            let fin = peer.fin.expect("it was ended");
            assert!(peer.cut, "viewer {viewer} was not closed");
            stream.check_ended(fin, &client.requested, client.user == WILD);
            late += room.came_through(&client.late);
            let Some(newest) = stream.newest(fin, room).filter(|_| !peer.slow) else {
                // Nothing, or the window has moved past it.
                continue;
            };
            for (other, len) in others {
                if self.clients[*other].room != client.room {
                    continue;
                }
                let others = streams[*other].as_ref();
                let said = others.and_then(|stream| stream.newest(*len, room));
                assert!(
                    said <= Some(newest),
                    "viewer {viewer} was ended before {said:?}: {newest}"
                );
            }
        }
        late
    }

    /// Ends the world: every shard is drained, perhaps after a cancel, and perhaps told to stop meanwhile.
    pub(super) fn end_by_drain(&mut self) {
        let closing = |world: &Self| {
            let net = world.net.borrow();
            net.iter().filter(|peer| peer.closing).count()
        };
        let closed = closing(self);
        if self.dice.below(2) == 1 {
            self.drain_all(Some(Duration::from_millis(80)));
            self.rounds(9);
            self.drain_all(None);
            self.rounds(2);
            self.check_service();
        }
        let over = 40 * self.dice.below(4);
        self.drain_all(Some(Duration::from_millis(over as u64)));
        if self.dice.below(2) == 1 {
            self.rounds(4);
            for shard in &mut self.shards {
                shard.watch.stops = true;
                shard.control.deliver(Command::Stop);
            }
        }
        self.rounds(over / 5 + 8);
        for shard in &self.shards {
            assert_eq!(shard.core.connection_count(), 0, "every viewer is cut");
            assert_eq!(shard.core.is_stopped(), shard.watch.stops);
        }
        assert_eq!(closing(self), closed, "a Close frame by a drain");
    }

    fn drain_all(&mut self, over: Option<Duration>) {
        for shard in 0..self.shards.len() {
            self.order(shard, over);
        }
    }

    /// Lets time pass in which everything arrives, and clients answer FINs.
    fn rounds(&mut self, count: usize) {
        for _ in 0..count {
            self.pass(Duration::from_millis(5));
            self.spool(usize::MAX);
            for peer in self.net.borrow_mut().iter_mut() {
                peer.finished |= peer.fin.is_some();
            }
            for shard in 0..self.shards.len() {
                self.shards[shard].control.flush();
                self.shards[shard].answers.flush();
                self.turn(shard, true);
            }
        }
    }

    /// Checks that viewers who were not cut hear what is said, for longer than a drain would have lasted.
    fn check_service(&mut self) {
        let (answer, mut answered) = oneshot::channel();
        let room = self.rooms[MAIN];
        let command = Command::SendEvent {
            room,
            name: "still here".into(),
            attributes_json: "{}".into(),
            answer,
        };
        self.home(MAIN).control.deliver(command);
        let lens = |world: &Self| -> Vec<usize> {
            let net = world.net.borrow();
            net.iter().map(|peer| peer.from_server.len()).collect()
        };
        let before = lens(self);
        self.rounds(300);
        assert!(
            matches!(answered.try_recv(), Ok(Ok(_))),
            "the API is served"
        );
        let after = lens(self);
        for shard in &self.shards {
            for peer in shard.core.io().receives.values() {
                let heard = after[*peer] > before[*peer];
                assert!(
                    heard || self.clients[*peer].room != MAIN,
                    "{peer} hears nothing"
                );
            }
        }
    }
}
