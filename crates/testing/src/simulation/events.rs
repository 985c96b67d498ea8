//! What happens in a world, step by step.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::oneshot;
use uproar::shard::command::{Command, Eviction};
use uproar_proto::base::clock::UnixTime;

use super::net::Peer;
use super::plan::{Archive, WILD};
use super::world::{Call, DOOMED, MAIN, World};
use crate::client::{deflated, frame};

/// Most clients at a time; more make a world slower, not better.
const CLIENTS_MAX: usize = 40;

impl World {
    /// Steps until the decisions are spent, at most `steps_max` times; then everything pending arrives.
    pub fn run(&mut self, steps_max: usize) {
        for step in 0..steps_max {
            if self.dice.is_spent() {
                break;
            }
            let before = self.logging_changes;
            self.step();
            let looks = step % 200 == 0 || self.logging_changes != before;
            if self.plan.archive == Archive::Prompt && looks {
                self.check_spooled();
            }
        }
        self.quiesce();
    }

    /// Runs one step of the world: an event, then a turn of every shard.
    fn step(&mut self) {
        self.happen();
        let pause = Duration::from_micros(self.dice.below(3_000) as u64);
        self.pass(pause);
        self.archive_acts();
        self.turns(1);
        self.answer_fins();
    }

    /// Lets one event happen, or none.
    fn happen(&mut self) {
        let alive: Vec<usize> = (0..self.clients.len())
            .filter(|index| !self.clients[*index].gone)
            .filter(|index| !self.net.borrow()[self.clients[*index].peer].cut)
            .collect();
        let client = self.dice.pick(&alive);
        let victim = client.filter(|client| !self.clients[*client].observer);
        match self.dice.below(100) {
            0..55 => {
                if let Some(client) = client {
                    self.send_message(client);
                }
            }
            55..64 if alive.len() < CLIENTS_MAX => {
                let may_send = self.dice.below(4) > 0;
                let room = self.any_room();
                self.connect(room, may_send, false);
            }
            64..66 => {
                // Presents one token to both shards in one turn, or an old one again.
                let old = self.dice.pick(&alive).map(|old| &self.clients[old]);
                let (token, room) = match old {
                    Some(old) if self.dice.below(2) == 1 => (old.token, old.room),
                    _ => (self.tokens + 1, MAIN),
                };
                self.tokens = self.tokens.max(token);
                self.present_everywhere(token, room);
            }
            66..75 => {
                if let Some(victim) = victim {
                    self.disturb(victim);
                }
            }
            75..77 => {
                self.reviewer.toggle();
                self.put_room(MAIN);
            }
            77..80 => self.call(),
            80 if !self.deleted && self.dice.once_in(3) => self.delete_room(),
            81..83 if self.plan.oversleeps => {
                let shard = self.dice.below(self.shards.len());
                self.shards[shard].asleep = self.dice.below(40);
            }
            83 if self.plan.leaps => self.leap(),
            84..86 if self.plan.steps => self.step_wall_clock(),
            86..88 if self.plan.archive != Archive::Off => {
                self.logging_changes += 1;
                self.put_room(MAIN);
            }
            88 => self.hand_over(),
            89 | 90 => self.drain_or_not(),
            _ => {}
        }
    }

    /// The wall clock steps forward or back, by up to an hour and a half.
    fn step_wall_clock(&mut self) {
        let by = Duration::from_secs(self.dice.below(5_400) as u64);
        let nanos = u64::try_from(by.as_nanos()).unwrap();
        let unix = self.now.unix;
        self.now.unix = if self.dice.below(2) == 1 {
            unix.after(by)
        } else {
            UnixTime::from_nanos(unix.nanos().saturating_sub(nanos))
        };
    }

    /// The archive spools, or does not.
    pub(super) fn archive_acts(&mut self) {
        match self.plan.archive {
            Archive::Off => {}
            Archive::Prompt | Archive::Switched => {
                // The archive answers in time, even if a fuzzer decides.
                self.unspooled += 1;
                if self.dice.below(3) == 0 || self.unspooled > 20 {
                    self.spool(usize::MAX);
                }
            }
            Archive::Stalling => {
                if self.dice.once_in(400) {
                    let most = self.dice.below(20);
                    self.spool(most);
                }
            }
        }
    }

    pub(super) fn send_message(&mut self, client: usize) {
        self.requests += 1;
        let id = format!("{client}:{}", self.requests);
        let kind = self.dice.below(20);
        let victim = format!("user-{}", self.dice.below(6));
        let text = match kind {
            1 => format!(
                r#"{{"Action":"DISCONNECT_USER","UserId":"{victim}","Reason":"x","RequestId":"{id}"}}"#
            ),
            2 => format!(r#"{{"Action":"DELETE_MESSAGE","Id":"abcdefghijkl","RequestId":"{id}"}}"#),
            3 => format!(r#"{{"Action":"NOTHING","RequestId":"{id}"}}"#),
            _ => {
                let padding = "x".repeat(self.dice.below(400));
                format!(r#"{{"Action":"SEND_MESSAGE","Content":"{padding}.","RequestId":"{id}"}}"#)
            }
        };
        let client = &mut self.clients[client];
        let mask = [3, 1, 4, u8::try_from(kind).unwrap()];
        let frame = if client.deflates && self.dice.below(2) == 1 {
            frame(0xC1, &deflated(text.as_bytes()), mask)
        } else {
            frame(0x81, text.as_bytes(), mask)
        };
        self.net.borrow_mut()[client.peer].to_server.extend(frame);
        let is_late = self.net.borrow()[client.peer].fin.is_some();
        if is_late {
            client.late.insert(id.clone());
        }
        client.requested.insert(id);
    }

    /// Makes a wild client send bytes that no real client would.
    fn send_garbage(&mut self, client: usize) {
        let len = self.dice.below(40);
        let bytes = self.dice.take(len);
        let first = self.dice.take(1).first().copied().unwrap_or_default();
        let garbage = match self.dice.below(4) {
            0 => bytes,
            1 => frame(first, &bytes, [0; 4]),
            2 => frame(0x81, &bytes, [9; 4]),
            _ => {
                let text = String::from_utf8_lossy(&bytes);
                let text = format!(r#"{{"Action":"SEND_MESSAGE","Content":"{text}"}}"#);
                frame(0x81, text.as_bytes(), [0; 4])
            }
        };
        let peer = &mut self.net.borrow_mut()[self.clients[client].peer];
        peer.to_server.extend(garbage);
        peer.excused = true;
    }

    /// Makes a call of the API.
    fn call(&mut self) {
        let room = self.any_room();
        let id = self.rooms[room];
        let (answer, answered) = oneshot::channel();
        let victim = format!("user-{}", self.dice.below(6));
        let command = match self.dice.below(3) {
            0 => Command::SendEvent {
                room: id,
                name: "said".into(),
                attributes_json: "{}".into(),
                answer,
            },
            1 => Command::DeleteMessage {
                room: id,
                id: "abcdefghijkl".into(),
                reason: "x".into(),
                answer,
            },
            _ => Command::DisconnectUser {
                room: id,
                eviction: Eviction {
                    user_id: victim.into(),
                    reason: "x".into(),
                },
                is_banned: false,
                answer,
            },
        };
        self.tell(room, command, Call::Event(room, answered));
    }

    fn delete_room(&mut self) {
        self.deleted = true;
        self.settings[DOOMED] = None;
        let (answer, answered) = oneshot::channel();
        let command = Command::DeleteRoom(self.rooms[DOOMED], answer);
        self.tell(DOOMED, command, Call::Delete(answered));
    }

    /// Disturbs a client.
    pub(super) fn disturb(&mut self, victim: usize) {
        let client = &mut self.clients[victim];
        let mut net = self.net.borrow_mut();
        let peer = &mut net[client.peer];
        match self.dice.below(8) {
            0 | 1 => {
                (client.gone, peer.finished) = (true, true);
            }
            2 => {
                (client.gone, peer.reset) = (true, true);
            }
            3 => {
                peer.to_server.extend(frame(0x88, &[3, 232], [1; 4]));
                client.gone = true;
            }
            _ if client.user == WILD => {}
            _ => peer.stalled = !peer.stalled,
        }
        drop(net);
        if self.clients[victim].user == WILD && !self.clients[victim].gone {
            self.send_garbage(victim);
        }
    }

    /// Moves time on by much, unless an observer has a pending operation, which could make it count as slow.
    fn leap(&mut self) {
        let pause = Duration::from_millis(self.dice.below(15_000) as u64);
        let rings = self.shards.iter().map(|shard| shard.core.io());
        let under_way = rings.flat_map(|ring| ring.pending_sends().map(|(_, id, _)| *id));
        let under_way: HashSet<usize> = under_way.collect();
        {
            let net = &mut *self.net.borrow_mut();
            let is_slow = |(id, peer): &(usize, &mut Peer)| {
                under_way.contains(id) || peer.stalled || !peer.to_server.is_empty()
            };
            let slow = net.iter_mut().enumerate().filter(is_slow);
            let slow: Vec<&mut Peer> = slow.map(|(_, peer)| peer).collect();
            if slow.iter().any(|peer| peer.protected) {
                return;
            }
            for peer in slow {
                (peer.slow, peer.excused) = (true, true);
            }
        }
        self.pass(pause);
    }

    /// The archive spools some entries and acknowledges them.
    pub(super) fn spool(&mut self, most: usize) {
        self.unspooled = 0;
        for shard in &mut self.shards {
            for _ in 0..most {
                let Ok(entry) = shard.to_archive.pop() else {
                    break;
                };
                self.spooled.extend_from_slice(&entry.frames);
                shard.owed += 1;
            }
            if shard.owed > 0 && shard.answers.has_room() {
                let owed = std::mem::take(&mut shard.owed);
                shard.answers.deliver(Command::Spooled(owed));
            }
        }
    }

    /// Lets everything pending arrive, and closing handshakes end.
    fn quiesce(&mut self) {
        for (number, peer) in self.net.borrow_mut().iter_mut().enumerate() {
            peer.stalled = false;
            // Others never answer it.
            peer.finished |= peer.fin.is_some() && !number.is_multiple_of(4);
        }
        self.plan.faults = false;
        for round in 0..240 {
            // One pause is longer than a closing handshake may take.
            let pause = if round == 160 { 6_000 } else { 5 };
            self.pass(Duration::from_millis(pause));
            self.spool(20);
            for shard in &mut self.shards {
                shard.asleep = 0;
                shard.control.flush();
                shard.answers.flush();
            }
            for shard in 0..self.shards.len() {
                self.turn(shard, true);
            }
        }
    }
}
