//! One turn of one shard: the completions of its ring.

use std::io;

use uproar::net::io::{Key, SendBuffer};
use uproar::shard::core::Core;
use uproar::shard::inbox::Inbox;
use uproar::shard::settings::ShardSettings;

use super::dice::Dice;
use super::net::{FakeRing, Net, Peer, Socket};
use super::world::{MAIN, Shard, World};

/// Errors of failed operations: ENOBUFS, ECONNRESET, ECANCELED, EBADR, EPIPE, ENOMEM, ETIMEDOUT.
const ERRORS: [i32; 7] = [105, 104, 125, 53, 32, 12, 110];
const ENOBUFS: i32 = 105;
const ECANCELED: i32 = 125;
const EPIPE: i32 = 32;
const ECONNRESET: i32 = 104;

/// The state that a turn's completions depend on.
pub(crate) struct Kernel<'a> {
    pub(crate) dice: &'a mut Dice,
    pub(crate) net: &'a Net,
    pub(crate) core: &'a mut Core<FakeRing>,
    pub(crate) faults: bool,
    /// Whether every pending operation completes now.
    pub(crate) all: bool,
}

impl World {
    /// Runs a turn of `shard`; with `all`, every pending operation completes in it.
    pub(super) fn turn(&mut self, shard: usize, all: bool) {
        let home = ShardSettings::open(self.shards.len()).home(self.rooms[MAIN]);
        let cut_before = self.shards[shard].drained();
        let Shard {
            core,
            inbox,
            to_reviewer,
            ..
        } = &mut self.shards[shard];
        core.begin(self.now);
        if shard == home {
            self.reviewer
                .act(&mut self.dice, self.now.tick, to_reviewer, core);
        }
        let mut kernel = Kernel {
            dice: &mut self.dice,
            net: &self.net,
            core,
            faults: self.plan.faults,
            all,
        };
        kernel.core.io_mut().is_full = kernel.faults && kernel.dice.once_in(20);
        kernel.run(inbox);
        self.check_drain(shard, cut_before);
    }
}

impl Kernel<'_> {
    /// Runs the rest of a turn that has begun.
    pub(crate) fn run(&mut self, inbox: &mut Inbox<Socket>) {
        inbox.take(self.core);
        self.writables();
        self.sends();
        self.receives();
        self.cancels();
        let _plan = self.core.settle();
        while let Some((pending, _why)) = self.core.next_rejected() {
            self.net.borrow_mut()[pending.socket.id].excused = true;
            drop(pending);
        }
        self.core.flush_mailboxes();
        self.core.check();
    }

    fn writables(&mut self) {
        for (key, _, outgoing) in std::mem::take(&mut self.core.io_mut().ended_waits) {
            self.core.writable(key, outgoing);
        }
        let mut waits = std::mem::take(&mut self.core.io_mut().waits);
        self.dice.shuffle(&mut waits);
        for (key, id, outgoing) in waits {
            let (broken, stalled) = {
                let peer = &self.net.borrow()[id];
                (peer.cut || peer.reset, peer.stalled)
            };
            if self.all || broken || (!stalled && self.dice.below(2) == 1) {
                self.core.writable(key, outgoing);
            } else {
                self.core.io_mut().waits.push((key, id, outgoing));
            }
        }
    }

    fn sends(&mut self) {
        let mut sends = std::mem::take(&mut self.core.io_mut().sends);
        self.dice.shuffle(&mut sends);
        let mut later = Vec::new();
        for (key, id, outgoing) in sends {
            if !self.all && self.dice.once_in(4) {
                later.push((key, id, outgoing));
            } else {
                self.send(key, id, outgoing);
            }
        }
        self.core.io_mut().sends.extend(later);
    }

    fn send(&mut self, key: Key, id: usize, outgoing: SendBuffer) {
        let result = {
            let peer = &mut self.net.borrow_mut()[id];
            if peer.cut || peer.reset {
                Err(io::Error::from_raw_os_error(EPIPE))
            } else if let Some(error) = self.failure(peer, 400) {
                Err(error)
            } else if peer.stalled && !self.all {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                let len = outgoing.remaining();
                let short = !self.all && len > 1 && self.dice.once_in(3);
                let taken = if short {
                    1 + self.dice.below(len - 1)
                } else {
                    len
                };
                peer.from_server.extend(outgoing.copy(taken));
                peer.react();
                Ok(taken)
            }
        };
        self.core.sent(key, outgoing, &result);
    }

    /// Makes an operation of this client fail, once in `once_in` times.
    fn failure(&mut self, peer: &mut Peer, once_in: usize) -> Option<io::Error> {
        if !self.faults || peer.protected || !self.dice.once_in(once_in) {
            return None;
        }
        peer.excused = true;
        let error = self.dice.pick(&ERRORS)?;
        Some(io::Error::from_raw_os_error(error))
    }

    fn receives(&mut self) {
        let receives = self.core.io().receives.iter();
        let mut keys: Vec<(Key, usize)> = receives
            .filter(|(_, id)| {
                let peer = &self.net.borrow()[**id];
                !peer.to_server.is_empty() || peer.finished || peer.cut || peer.reset
            })
            .map(|(key, id)| (*key, *id))
            .collect();
        self.dice.shuffle(&mut keys);
        for (key, id) in keys {
            if self.core.io().receives.get(&key) == Some(&id) {
                self.receive(key, id);
            }
        }
    }

    /// Ends cancelled receives, some of them in a later turn, with `ECANCELED`; those that have ended by themselves
    /// are forgotten.
    fn cancels(&mut self) {
        for key in std::mem::take(&mut self.core.io_mut().cancelled) {
            if !self.core.io().receives.contains_key(&key) {
                continue;
            }
            if !self.all && self.dice.once_in(4) {
                self.core.io_mut().cancelled.insert(key);
                continue;
            }
            self.core.io_mut().receives.remove(&key);
            let error = io::Error::from_raw_os_error(ECANCELED);
            self.core.received(key, None, &Err(error), false);
        }
    }

    fn receive(&mut self, key: Key, id: usize) {
        let chunk = {
            let peer = &mut self.net.borrow_mut()[id];
            if peer.reset {
                Err(ECONNRESET)
            } else if peer.cut || (peer.finished && peer.to_server.is_empty()) {
                Ok(Vec::new())
            } else if self.faults && self.dice.once_in(60) {
                // The ring was out of buffers: no bytes are lost, and the receive must be armed again.
                Err(ENOBUFS)
            } else if let Some(error) = self.failure(peer, 600) {
                match error.raw_os_error() {
                    None | Some(ENOBUFS) => Err(ECONNRESET),
                    Some(error) => Err(error),
                }
            } else {
                let most = peer.to_server.len().min(3_000);
                let len = if self.all {
                    most
                } else {
                    self.dice.below(most + 1)
                };
                if len == 0 {
                    return;
                }
                Ok(peer.to_server.drain(..len).collect())
            }
        };
        let more = matches!(&chunk, Ok(chunk) if !chunk.is_empty()) && !self.dice.once_in(8);
        if !more {
            self.core.io_mut().receives.remove(&key);
        }
        match chunk {
            Ok(mut buffer) if !buffer.is_empty() => {
                let len = buffer.len();
                buffer.resize(len + 64, 0xAA);
                let bytes = Some((&mut buffer[..], len));
                self.core.received(key, bytes, &Ok(len), more);
            }
            Ok(_) => self.core.received(key, None, &Ok(0), false),
            Err(error) => {
                let error = io::Error::from_raw_os_error(error);
                self.core.received(key, None, &Err(error), false);
            }
        }
    }
}
