//! Who is there, who takes over, and which hash slots move.

use bytes::Bytes;

use super::Engine;
use super::io::Output;
use crate::base::clock::Tick;
use crate::base::limits::{CLUSTER_GRACE, CLUSTER_HERE, CLUSTER_MOVES_MAX, CLUSTER_RANK};
use crate::cluster::append::Cause;
use crate::cluster::assign::{Candidate, best, rank};
use crate::cluster::author::Successor;
use crate::cluster::here::{Facts, Here};
use crate::cluster::message::MessageContent;
use crate::cluster::{HashSlot, Incarnation};

impl Engine {
    /// Says that this node lives, and looks who else does.
    pub(super) fn here(&mut self) {
        self.here_due = self.now.tick.after(CLUSTER_HERE);
        let homes = self.slots.iter().filter(|slot| slot.author.is_some());
        let here = Here {
            incarnation: self.me,
            about: self.settings.about.clone(),
            unix: self.now.unix,
            is_draining: self.is_draining,
            slots_home: u16::try_from(homes.count()).expect("at most 256"),
            sent: self
                .slots
                .iter()
                .map(|slot| slot.sent)
                .max()
                .unwrap_or_default(),
            facts: self.facts.clone(),
        };
        self.outputs.push_back(Output::Here(here.encode()));
        self.peers.forget(self.now.tick);
        self.look();
        self.is_rebalance_due = true;
    }

    /// Marks the hash slots that may be taken over, and notes when the next one may be.
    pub(super) fn look(&mut self) {
        let now = self.now.tick;
        self.silence_due = None;
        for slot in HashSlot::all() {
            let state = &self.slots[slot];
            let is_wanted = match state.home {
                None => true,
                Some((home, _)) if home == self.me => state.author.is_none(),
                Some((home, _)) => match self.peers.dead_since(home, now) {
                    Some(since) if since > now => {
                        let due = self.silence_due.map_or(since, |due| due.min(since));
                        self.silence_due = Some(due);
                        false
                    }
                    Some(_) => true,
                    None => false,
                },
            };
            if is_wanted {
                self.mark(slot);
            }
        }
    }

    /// When this node takes a hash slot over, and why; `None`: not as things are.
    pub(super) fn takeover_due(&self, slot: HashSlot) -> Option<(Tick, Cause)> {
        let now = self.now.tick;
        let state = &self.slots[slot];
        if state.author.is_some() {
            return None;
        }
        let heard = self.peers.heard_since(now)?;
        let may = self.facts.is_ready && !self.is_draining;
        let (since, cause) = match state.home {
            Some((home, _)) if home == self.me => return Some((Tick::default(), Cause::Failed)),
            Some((home, _)) => {
                let dead = self.peers.dead_since(home, now);
                let dead = dead.filter(|since| may && *since <= now)?;
                let due = dead.after(CLUSTER_GRACE).max(self.peers.overdue(home));
                (due, Cause::Failed)
            }
            None if !may => return None,
            None => {
                let asked = state.successor.filter(|successor| successor.to == self.me);
                if asked.is_some() {
                    return Some((Tick::default(), Cause::Planned));
                }
                let since = state.vacant_since.max(heard);
                (since.after(CLUSTER_GRACE), Cause::Vacant)
            }
        };
        let rank = rank(slot, self.me, &self.peers.candidates(now))?;
        Some((since.after(CLUSTER_RANK * rank), cause))
    }

    /// A node lives.
    pub(super) fn hear(&mut self, payload: &Bytes) {
        let Ok(here) = Here::decode(payload) else {
            self.counts.unreadable += 1;
            return;
        };
        let incarnation = here.incarnation;
        let was_suspected = self.peers.is_suspected(incarnation);
        let heard_before = self.peers.heard_since(self.now.tick);
        self.peers.hear(here, self.now);
        if was_suspected {
            // Its requests waited.
            self.mark_homes(incarnation);
        }
        if heard_before.is_none() && incarnation == self.me {
            self.look();
        }
    }

    fn mark_homes(&mut self, of: Incarnation) {
        for slot in HashSlot::all() {
            if self.slots[slot].home.is_some_and(|(home, _)| home == of) {
                self.mark(slot);
            }
        }
    }

    /// Brokers say that nobody takes messages for a process.
    pub(super) fn no_responders(&mut self, incarnation: Incarnation) {
        self.purse.is_gone(incarnation, self.now.tick);
        self.suspect(incarnation, true);
    }

    /// A process may be dead. Who noticed it tells all others.
    pub(super) fn suspect(&mut self, incarnation: Incarnation, is_own: bool) {
        let now = self.now.tick;
        if incarnation == self.me {
            // It is not.
            return self.here();
        }
        if !self.peers.suspect(incarnation, now) {
            return;
        }
        self.mark_homes(incarnation);
        if is_own {
            self.tell_all(&MessageContent::Suspect { incarnation });
        }
    }

    fn tell_all(&mut self, content: &MessageContent) {
        let now = self.now.tick;
        let all = self.peers.all().iter().map(|peer| peer.here.incarnation);
        let others: Vec<_> = all
            .filter(|peer| *peer != self.me && self.peers.is_live(*peer, now))
            .collect();
        for to in others {
            self.send(to, content.clone());
        }
    }

    /// Viewers of the other nodes that live, as these have said last.
    pub fn viewers_elsewhere(&self) -> u64 {
        let now = self.now.tick;
        let others = self.peers.all().iter().map(|peer| &peer.here);
        let live = others.filter(|here| {
            here.incarnation != self.me && self.peers.is_live(here.incarnation, now)
        });
        live.map(|here| here.facts.viewers).sum()
    }

    /// What this node says of itself changes.
    pub(super) fn set_facts(&mut self, facts: Facts) {
        let is_news = facts.is_ready != self.facts.is_ready;
        self.facts = facts;
        if is_news {
            self.here();
        }
    }

    /// This node leaves, or stays after all.
    pub(super) fn drain(&mut self, is_draining: bool) {
        self.is_draining = is_draining;
        self.here();
    }

    /// Begins to hand over the hash slots that belong elsewhere, a few at a time.
    pub(super) fn rebalance(&mut self) {
        self.is_rebalance_due = false;
        let now = self.now.tick;
        let slots = &self.slots;
        self.moves.retain(|slot| {
            // It is over once somebody took it, or should have.
            let state = &slots[*slot];
            let is_waiting = state.home.is_none() && now.since(state.vacant_since) < CLUSTER_RANK;
            state.author.is_some() || is_waiting
        });
        if self.peers.heard_since(now).is_none() {
            return;
        }
        let leaves = self.is_draining || !self.facts.is_ready;
        let mut nodes = if leaves {
            self.peers.candidates(now)
        } else {
            self.peers.settled(now)
        };
        let is_listed = nodes.iter().any(|node| node.incarnation == self.me);
        if leaves {
            nodes.retain(|node| node.incarnation != self.me);
        } else if !is_listed {
            nodes.push(Candidate::new(self.me, &self.settings.about.name));
        }
        for slot in HashSlot::all() {
            if self.moves.len() >= CLUSTER_MOVES_MAX {
                break;
            }
            let author = self.slots[slot].author.as_mut();
            let movable =
                author.filter(|author| author.successor.is_none() && (leaves || !author.is_pinned));
            let to = best(slot, &nodes).filter(|to| *to != self.me);
            if let (Some(author), Some(to)) = (movable, to) {
                let is_pinned = false;
                author.successor = Some(Successor { to, is_pinned });
                self.moves.push(slot);
                self.mark(slot);
            }
        }
    }

    /// An operator wants a hash slot elsewhere: its home hands it over.
    pub(super) fn move_slot(&mut self, slot: HashSlot, to: Incarnation, is_own: bool) {
        let is_live = self.peers.is_live(to, self.now.tick);
        let state = &mut self.slots[slot];
        if let Some(author) = &mut state.author {
            if to == self.me {
                author.is_pinned = true;
            } else if is_live && author.successor.is_none() {
                let is_pinned = true;
                author.successor = Some(Successor { to, is_pinned });
                self.moves.push(slot);
                self.mark(slot);
            }
        } else if let Some((home, _)) = state.home.filter(|_| is_own) {
            self.send(home, MessageContent::Move { slot, to });
        }
    }

    /// Hash slots that an operator moved are free again.
    pub(super) fn balance(&mut self, is_own: bool) {
        for slot in HashSlot::all() {
            if let Some(author) = &mut self.slots[slot].author {
                author.is_pinned = false;
            }
        }
        self.is_rebalance_due = true;
        if is_own {
            self.tell_all(&MessageContent::Balance);
        }
    }
}
