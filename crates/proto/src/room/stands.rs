//! Where viewers of a room stand: who comes back gets what was said since.
//!
//! A place is a number of frames of the room, as its home counts them.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::base::clock::Tick;
use crate::extension::speech::Key;

/// Where a viewer stood who left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    /// The first frame that the kernel was not given.
    pub frame: u64,
    /// Whether it is known that no later one is missing: no send was on its way.
    pub is_sure: bool,
}

/// Where a viewer stood, and when that was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Left {
    stand: Stand,
    at: Tick,
}

/// A viewer who is here: a connection that is dead and not known to be so has missed nothing of before it came.
#[derive(Debug, Clone, Copy)]
struct Present {
    connections: u32,
    // The frame at which the first of them came.
    joined: u64,
}

/// The viewers of one room.
#[derive(Debug, Default)]
pub struct Stands {
    present: HashMap<Key, Present>,
    left: HashMap<Key, Left>,
    // When viewers left, oldest first; entries that are not the newest of their key mean nothing.
    order: VecDeque<(Tick, Key)>,
}

impl Stands {
    /// Notes that a user comes, at the room's next frame; where he stood, if he left within `resume` or is here already. With
    /// `is_full` he is not noted if he is a new one.
    pub fn join(
        &mut self,
        user: Key,
        (frame, is_full): (u64, bool),
        resume: Duration,
        now: Tick,
    ) -> Option<Stand> {
        let left = self.left.get(&user);
        let left = left.filter(|left| now <= left.at.after(resume));
        let stood = left.map(|left| left.stand);
        if let Some(present) = self.present.get_mut(&user) {
            present.connections += 1;
            let joined = Stand {
                frame: present.joined,
                is_sure: true,
            };
            return Some(stood.unwrap_or(joined));
        }
        if !is_full {
            let present = Present {
                connections: 1,
                joined: frame,
            };
            self.present.insert(user, present);
        }
        stood
    }

    /// Notes where a user stands who leaves. Unless the connection `is_settled`, he stands where he stood before it, if he left
    /// within `resume`.
    pub fn leave(
        &mut self,
        user: Key,
        mut stand: Stand,
        is_settled: bool,
        resume: Duration,
        now: Tick,
    ) {
        if let Some(before) = self.left.get(&user)
            && !is_settled
            && now <= before.at.after(resume)
        {
            stand = Stand {
                frame: stand.frame.min(before.stand.frame),
                is_sure: stand.is_sure && before.stand.is_sure,
            };
        }
        if let Some(present) = self.present.get_mut(&user) {
            present.connections -= 1;
            if present.connections == 0 {
                self.present.remove(&user);
            }
        }
        let at = self
            .order
            .back()
            .map_or(now, |(newest, _)| now.max(*newest));
        let left = Left { stand, at };
        if self
            .left
            .insert(user, left)
            .is_none_or(|before| before.at != at)
        {
            self.order.push_back((at, user));
        }
    }

    /// Who is here, and the frame at which each came.
    pub fn present(&self) -> impl Iterator<Item = (Key, u64)> {
        let all = self.present.iter();
        all.map(|(user, present)| (*user, present.joined))
    }

    /// Notes a user who was here in another process, and at which frame he came. Those of his connections that are taken over
    /// are told by [`Stands::stays`].
    pub fn inherit(&mut self, user: Key, joined: u64) {
        let connections = 0;
        let present = Present {
            connections,
            joined,
        };
        self.present.insert(user, present);
    }

    /// Notes a connection that was taken over. Of a user who is not noted it is not known when he came: with `is_full` he is
    /// not noted now either.
    pub fn stays(&mut self, user: Key, is_full: bool) {
        if let Some(present) = self.present.get_mut(&user) {
            present.connections += 1;
        } else if !is_full {
            let present = Present {
                connections: 1,
                joined: 0,
            };
            self.present.insert(user, present);
        }
    }

    /// Notes that no more connections are taken over: whoever has none has left, and what he got since he came is not known.
    pub fn settle(&mut self, resume: Duration, now: Tick) {
        let gone = self
            .present
            .extract_if(|_, present| present.connections == 0);
        let gone: Vec<(Key, Present)> = gone.collect();
        for (user, Present { joined, .. }) in gone {
            let stand = Stand {
                frame: joined,
                is_sure: true,
            };
            self.leave(user, stand, false, resume, now);
        }
    }

    /// Forgets who left longer ago.
    pub fn expire(&mut self, resume: Duration, now: Tick) {
        while self
            .order
            .front()
            .is_some_and(|(at, _)| at.after(resume) < now)
        {
            self.forget_oldest();
        }
        if self.left.capacity() > KEPT && self.left.len() < self.left.capacity() / 4 {
            self.left.shrink_to(2 * self.left.len());
            self.order.shrink_to(2 * self.order.len());
        }
        if self.present.capacity() > KEPT && self.present.len() < self.present.capacity() / 4 {
            self.present.shrink_to(2 * self.present.len());
        }
    }

    /// Forgets who left first; `false`: nobody is remembered who left.
    pub fn forget_oldest(&mut self) -> bool {
        let Some((at, user)) = self.order.pop_front() else {
            return false;
        };
        if self.left.get(&user).is_some_and(|left| left.at == at) {
            self.left.remove(&user);
        }
        true
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.present.len() + self.order.len()
    }

    /// Whether nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.present.is_empty() && self.order.is_empty()
    }

    /// Who left, where and when, oldest first.
    pub fn left(&self) -> impl Iterator<Item = (Key, Stand, Tick)> {
        self.order.iter().filter_map(|(at, user)| {
            let left = self.left.get(user).filter(|left| left.at == *at)?;
            Some((*user, left.stand, *at))
        })
    }
}

/// Places that a quiet room keeps.
const KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stand(frame: u64) -> Stand {
        Stand {
            frame,
            is_sure: true,
        }
    }

    proptest! {
        /// Goal: whoever comes back in time stands where he left last, whoever is here already where he came, and nothing
        /// stays behind. Oracle: a list of all comings and goings.
        #[test]
        fn users_stand_where_they_left(steps in proptest::collection::vec((0..4_u64, 0..3_u64, any::<bool>()), 0..80)) {
            let (mut stands, resume) = (Stands::default(), Duration::from_nanos(6));
            let mut left: Vec<(u64, u64, u64)> = Vec::new();
            let mut present: Vec<(u64, u64)> = Vec::new();
            let mut now = 0;
            for (frame, (pause, user, comes)) in steps.into_iter().enumerate() {
                let frame = u64::try_from(frame).expect("few");
                now += pause;
                let (key, tick) = (Key::from_bits(user), Tick::from_nanos(now));
                if comes {
                    let last = left.iter().rfind(|(of, _, at)| *of == user && at + 6 >= now).map(|(_, frame, _)| *frame);
                    let here = present.iter().find(|(of, _)| *of == user).map(|(_, frame)| *frame);
                    let found = stands.join(key, (frame, false), resume, tick);
                    prop_assert_eq!(found, last.or(here).map(stand));
                    present.push((user, here.unwrap_or(frame)));
                } else if let Some(at) = present.iter().position(|(of, _)| *of == user) {
                    present.remove(at);
                    stands.leave(key, stand(frame), true, resume, tick);
                    left.push((user, frame, now));
                }
                stands.expire(resume, tick);
            }
            for (user, _) in present {
                stands.leave(Key::from_bits(user), stand(0), true, resume, Tick::from_nanos(now));
            }
            stands.expire(resume, Tick::from_nanos(now + 7));
            prop_assert!(stands.is_empty() && stands.left.is_empty());
        }
    }

    /// Goal: a full table notes no new viewer, and one who leaves still; the oldest goes first.
    #[test]
    fn a_full_table_notes_who_leaves() {
        let (mut stands, resume) = (Stands::default(), Duration::from_secs(9));
        let [a, b] = [Key::from_bits(1), Key::from_bits(2)];
        let at = Tick::from_nanos;
        assert_eq!(stands.join(a, (5, true), resume, at(1)), None);
        assert!(stands.is_empty());
        stands.leave(a, stand(7), true, resume, at(2));
        stands.leave(b, stand(8), true, resume, at(3));
        let left: Vec<_> = stands.left().collect();
        assert_eq!(left, [(a, stand(7), at(2)), (b, stand(8), at(3))]);
        assert!(stands.forget_oldest());
        assert_eq!(stands.join(a, (9, true), resume, at(4)), None);
        assert_eq!(stands.join(b, (9, true), resume, at(4)), Some(stand(8)));
        assert!(stands.forget_oldest() && !stands.forget_oldest());
    }

    /// Goal: whoever was here in another process stands where he came, while one of his connections is here, and for as long as
    /// others if none was taken over; of whom it is not known when he came, nothing is missing.
    #[test]
    fn those_of_another_process_stand_where_they_came() {
        let (mut old, resume) = (Stands::default(), Duration::from_nanos(9));
        let [stays, gone, unknown] = [1, 2, 3].map(Key::from_bits);
        let at = Tick::from_nanos;
        for (user, frame) in [(stays, 5), (stays, 6), (gone, 7)] {
            old.join(user, (frame, false), resume, at(1));
        }
        let mut stands = Stands::default();
        for (user, joined) in old.present() {
            stands.inherit(user, joined);
        }
        for user in [stays, stays, unknown] {
            stands.stays(user, false);
        }
        stands.stays(Key::from_bits(4), true);
        stands.settle(resume, at(2));
        let left: Vec<_> = stands.left().collect();
        assert_eq!(left, [(gone, stand(7), at(2))]);
        stands.leave(stays, stand(8), true, resume, at(3));
        stands.expire(resume, at(13));
        let mut stood = |user| stands.join(user, (20, false), resume, at(13));
        assert_eq!(stood(stays), Some(stand(5)), "one of two is here");
        assert_eq!(stood(unknown), Some(stand(0)));
        assert_eq!(stood(gone), None, "for as long as others");
    }

    /// Goal: whoever comes back for a moment loses nothing of what he was sent then.
    #[test]
    fn a_short_stay_moves_nobody() {
        let (mut stands, resume) = (Stands::default(), Duration::from_nanos(50));
        let (user, at) = (Key::from_bits(1), Tick::from_nanos);
        stands.leave(user, stand(7), true, resume, at(1));
        stands.leave(user, stand(90), false, resume, at(2));
        assert_eq!(
            stands.join(user, (95, false), resume, at(3)),
            Some(stand(7))
        );
        stands.leave(user, stand(99), true, resume, at(4));
        assert_eq!(
            stands.join(user, (100, false), resume, at(5)),
            Some(stand(99))
        );
        stands.leave(user, stand(120), false, resume, at(60));
        assert_eq!(
            stands.join(user, (130, false), resume, at(61)),
            Some(stand(120)),
            "he was away for too long before"
        );
    }
}
