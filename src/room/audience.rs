//! The members of one room on one shard: a cursor each, and the walk that serves them.
//!
//! Owns: member entries, the shard's part of the room log, how far the current flush has come.
//! Never: sockets, connections; it knows a member by its [`Key`].

use super::log::{Batch, Cursor, Log, Next, Window};
use crate::base::clock::Tick;
use crate::net::wire::Key;

/// A member's place in the audience; changes when another member leaves (see [`Audience::leave`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberIndex(u32);

/// One member: what the walk needs, and no more, so that it reads memory in order.
#[derive(Debug)]
struct Member {
    key: Key,
    cursor: Cursor,
    // Narrows the search for a user's connections; the connection has the name itself.
    user_hash: u32,
    in_flight: bool,
    // It reads the compressed encoding.
    deflated: bool,
    // The walk came by, and the log was not sent since, because something else is under way: the
    // completion must send it.
    passed: bool,
}

/// What becomes of a member whose cursor fell out of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SlowPolicy {
    /// It goes on at the oldest kept frame; what it missed is counted.
    #[default]
    Skip,
    /// Its connection is dropped.
    Disconnect,
}

/// The room as one shard sees it.
#[derive(Debug, Default)]
pub struct Audience {
    members: Vec<Member>,
    log: Log,
    // The walk of the current flush: next member, and how many are still to be looked at.
    walk_position: usize,
    walk_left: usize,
    // What every member was offered: nobody's fault is what the walk has not come to, however old. A walk
    // that never ends, because more is said meanwhile, still comes round: so many looks are left of this
    // round, and what was there at its beginning will have been offered at its end. Invariant: while the
    // walk has looks left the round has, and neither has more than there are members.
    offered: Cursor,
    round_left: usize,
    round_head: Cursor,
}

impl Audience {
    /// Members here.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody is here.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Adds a member who gets everything appended from now on, compressed where that is `deflated`.
    ///
    /// # Panics
    ///
    /// Above 2^32 members, which the connection limit rules out.
    pub fn join(&mut self, key: Key, user_hash: u32, deflated: bool) -> MemberIndex {
        let index = u32::try_from(self.members.len()).expect("connections are below 2^32");
        let cursor = self.log.head();
        self.members.push(Member {
            key,
            cursor,
            user_hash,
            in_flight: false,
            deflated,
            passed: false,
        });
        // The walk goes round: one more place lies between it and its end.
        if self.walk_left > 0 {
            self.walk_left += 1;
            self.round_left += 1;
        }
        MemberIndex(index)
    }

    /// Removes a member. The returned key's member now has the freed index: tell its connection.
    #[must_use]
    pub fn leave(&mut self, index: MemberIndex) -> Option<Key> {
        let at = usize::try_from(index.0).expect("an index into memory");
        self.members.swap_remove(at);
        let len = self.members.len();
        if len == 0 {
            self.log.clear();
        }
        let moved = self.members.get(at);
        if self.walk_left > 0 && moved.is_some() {
            // The moved member may stand before the walk's position now: look at everybody again.
            (self.walk_left, self.round_left) = (len, len);
        } else {
            self.walk_left = self.walk_left.min(len);
            self.round_left = self.round_left.min(len);
        }
        moved.map(|member| member.key)
    }

    /// Appends a batch and starts the walk over the members.
    pub fn append(&mut self, batch: Batch, window: Window, now: Tick) {
        if self.walk_left == 0 {
            self.offered = self.log.head();
            self.round_left = self.members.len();
        }
        self.log.append(batch, window, now, self.offered);
        if self.walk_left == 0 {
            self.round_head = self.log.head();
        }
        self.walk_left = self.members.len();
    }

    /// Ages the log.
    pub fn expire(&mut self, window: Window, now: Tick) {
        if self.walk_left == 0 {
            self.offered = self.log.head();
        }
        self.log.expire(window, now, self.offered);
    }

    /// The next member of the walk that has something to get and nothing under way.
    pub fn walk(&mut self) -> Option<(MemberIndex, Key)> {
        while self.walk_left > 0 {
            self.walk_left -= 1;
            self.round_left -= 1;
            if self.round_left == 0 {
                self.offered = self.round_head;
                self.round_head = self.log.head();
                self.round_left = self.members.len();
            }
            if self.walk_position >= self.members.len() {
                self.walk_position = 0;
            }
            let at = self.walk_position;
            self.walk_position += 1;
            let member = self.members.get_mut(at)?;
            if member.cursor >= self.log.head() {
                continue;
            }
            member.passed = true;
            if !member.in_flight {
                let index = u32::try_from(at).expect("join admits only 2^32 members");
                return Some((MemberIndex(index), member.key));
            }
        }
        None
    }

    /// Whether the walk has members left to look at.
    pub fn is_walking(&self) -> bool {
        self.walk_left > 0
    }

    /// What a member gets next.
    pub fn next(&self, index: MemberIndex) -> Next {
        let member = self.member(index);
        self.log.next(member.cursor, member.deflated)
    }

    /// As [`Log::copy`], from the member's cursor.
    pub fn copy(
        &self,
        index: MemberIndex,
        bytes_max: usize,
        take: impl FnMut(&[u8]),
    ) -> (Cursor, usize) {
        let member = self.member(index);
        self.log
            .copy(member.cursor, member.deflated, bytes_max, take)
    }

    /// Where a member stands.
    pub fn cursor(&self, index: MemberIndex) -> Cursor {
        self.member(index).cursor
    }

    /// Moves a member's cursor.
    pub fn set_cursor(&mut self, index: MemberIndex, cursor: Cursor) {
        // One send covers one stretch of memory: the next stretch is still owed.
        let behind = cursor < self.log.head();
        let member = self.member_mut(index);
        member.cursor = cursor;
        member.passed &= behind;
    }

    /// Notes that a send of this member is under way.
    pub fn launch(&mut self, index: MemberIndex) {
        self.member_mut(index).in_flight = true;
    }

    /// Notes that it completed. Whether the member's log is to be looked at now: only if there is more
    /// of it, and not while the walk will come by, since each send it is spared then carries more.
    #[must_use]
    pub fn land(&mut self, index: MemberIndex) -> bool {
        let (walking, head) = (self.is_walking(), self.log.head());
        let member = self.member_mut(index);
        member.in_flight = false;
        member.cursor < head && (member.passed || !walking)
    }

    /// Members whose user may be the one with this hash.
    pub fn with_user_hash(&self, user_hash: u32) -> impl Iterator<Item = Key> {
        self.members
            .iter()
            .filter(move |member| member.user_hash == user_hash)
            .map(|member| member.key)
    }

    /// Every member.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.members.iter().map(|member| member.key)
    }

    fn member(&self, index: MemberIndex) -> &Member {
        &self.members[usize::try_from(index.0).expect("an index into memory")]
    }

    fn member_mut(&mut self, index: MemberIndex) -> &mut Member {
        &mut self.members[usize::try_from(index.0).expect("an index into memory")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::segment::Piece;
    use bytes::Bytes;
    use std::time::Duration;

    const WINDOW: Window = Window {
        bytes_max: 1 << 20,
        age_max: Duration::from_mins(1),
    };

    fn append(audience: &mut Audience) {
        append_at(audience, Tick::default());
    }

    fn append_at(audience: &mut Audience, now: Tick) {
        let batch = Batch {
            plain: Piece::alone(Bytes::from_static(b"frame")),
            deflated: None,
            frames: 1,
        };
        audience.append(batch, WINDOW, now);
    }

    fn serve(audience: &mut Audience) -> Vec<Key> {
        let mut served = Vec::new();
        while let Some((index, key)) = audience.walk() {
            let Next::Run { after, .. } = audience.next(index) else {
                panic!("the walk promised")
            };
            audience.set_cursor(index, after);
            served.push(key);
        }
        served
    }

    /// Goal: a flush reaches every member once, whoever leaves meanwhile; a newcomer gets only what
    /// comes after it.
    #[test]
    fn a_walk_reaches_every_member_although_some_leave() {
        let mut audience = Audience::default();
        let mut places: Vec<_> = (0..10).map(|key| audience.join(key, 0, false)).collect();
        append(&mut audience);
        let mut served = Vec::new();
        for _ in 0..4 {
            let (index, key) = audience.walk().expect("ten members are behind");
            let Next::Run { after, .. } = audience.next(index) else {
                panic!("the walk promised")
            };
            audience.set_cursor(index, after);
            served.push(key);
        }
        // Member 1 was served and leaves; member 9 takes its place, before the walk's position.
        let moved = audience.leave(places[1]).expect("the last one moved");
        assert_eq!(moved, 9);
        places[9] = places[1];
        audience.join(10, 0, false);
        served.extend(serve(&mut audience));
        served.sort_unstable();
        assert_eq!(served, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        append(&mut audience);
        assert_eq!(
            serve(&mut audience).len(),
            10,
            "nine old members and the newcomer"
        );
    }

    /// Goal: a newcomer in the middle of a walk costs nobody a visit. Method: the walk begins behind the
    /// first members, somebody joins before it is over.
    #[test]
    fn a_walk_reaches_every_member_although_one_joins() {
        for start in 0..5 {
            let mut audience = Audience::default();
            for key in 0..5 {
                audience.join(key, 0, false);
            }
            audience.walk_position = start;
            append(&mut audience);
            let (index, key) = audience.walk().expect("five members are behind");
            audience.set_cursor(index, audience.log.head());
            audience.join(9, 0, false);
            let mut served = serve(&mut audience);
            served.push(key);
            served.sort_unstable();
            assert_eq!(served, [0, 1, 2, 3, 4], "from {start}");
        }
    }

    /// Goal: a walk that takes longer than the window's age costs nobody a message, one that never ends
    /// still lets old ones go, and they go when it is over. Method: three members, one of whom is served,
    /// then time passes.
    #[test]
    fn what_the_walk_has_not_come_to_does_not_age() {
        let mut audience = Audience::default();
        for key in 0..3 {
            audience.join(key, 0, false);
        }
        append(&mut audience);
        let first = audience.walk().expect("three are behind");
        audience.set_cursor(first.0, audience.log.head());
        let late = Tick::default().after(WINDOW.age_max * 2);
        audience.expire(WINDOW, late);
        assert!(audience.log.bytes() > 0, "two have not been offered it");
        let first_bytes = audience.log.bytes();
        append_at(&mut audience, late);
        assert_eq!(serve(&mut audience), [1, 2, 0], "nobody lost the first");
        audience.expire(WINDOW, late);
        assert_eq!(audience.log.bytes(), first_bytes, "the second is young");
        audience.expire(WINDOW, late.after(WINDOW.age_max * 2));
        assert_eq!(audience.log.bytes(), 0);

        // More is said at every look: the round still ends after three.
        for _ in 0..4 {
            append_at(&mut audience, late);
            let (index, _) = audience.walk().expect("somebody is behind");
            audience.set_cursor(index, audience.log.head());
        }
        let before = audience.log.bytes();
        audience.expire(WINDOW, late.after(WINDOW.age_max * 2));
        assert!(audience.is_walking() && audience.log.bytes() < before);
    }

    /// Goal: a member with a send under way is left to its completion, unless the walk still comes by.
    #[test]
    fn the_walk_passes_members_in_flight() {
        let mut audience = Audience::default();
        let (first, second) = (audience.join(1, 0, false), audience.join(2, 0, false));
        append(&mut audience);
        audience.launch(first);
        assert_eq!(serve(&mut audience), [2]);
        assert!(audience.land(first), "the walk went past it");
        assert!(matches!(audience.next(first), Next::Run { .. }));
        append(&mut audience);
        audience.launch(second);
        assert!(!audience.land(second), "the walk has not begun");
        assert_eq!(serve(&mut audience), [1, 2]);
        audience.launch(second);
        assert!(!audience.land(second), "it has everything");
        audience.launch(first);
        assert!(audience.land(first), "one stretch is owed");
    }

    use proptest::prelude::*;

    /// What happens to an audience.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Join,
        Leave(usize),
        Append,
        Walk,
        Launch(usize),
        Land(usize),
        Expire,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => Just(Step::Join),
            3 => (0..8_usize).prop_map(Step::Leave),
            3 => Just(Step::Append),
            6 => Just(Step::Walk),
            1 => (0..8_usize).prop_map(Step::Launch),
            1 => (0..8_usize).prop_map(Step::Land),
            1 => Just(Step::Expire),
        ]
    }

    /// A member as a list of what it still has to get knows it.
    #[derive(Debug)]
    struct Naive {
        key: Key,
        place: MemberIndex,
        owed: u64,
        in_flight: bool,
        // Something was under way while it was owed more: the walk may have come by meanwhile, and the
        // window may have moved on.
        blind: bool,
    }

    /// The naive audience: everybody has a list.
    #[derive(Debug, Default)]
    struct Model {
        members: Vec<Naive>,
        keys: Key,
        now: Tick,
    }

    impl Model {
        fn apply(&mut self, audience: &mut Audience, step: Step) {
            // Ages at once, as far as everybody was offered it: then being offered is what counts.
            const OLD: Window = Window {
                bytes_max: 1 << 20,
                age_max: Duration::ZERO,
            };
            self.now = self.now.after(Duration::from_nanos(1));
            let count = self.members.len();
            match step {
                Step::Join => {
                    self.members.push(Naive {
                        key: self.keys,
                        place: audience.join(self.keys, 0, false),
                        owed: 0,
                        in_flight: false,
                        blind: false,
                    });
                    self.keys += 1;
                }
                Step::Leave(which) if count > 0 => {
                    let gone = self.members.remove(which % count);
                    if let Some(moved) = audience.leave(gone.place) {
                        let moved = self.members.iter_mut().find(|member| member.key == moved);
                        moved.expect("a member moved").place = gone.place;
                    }
                }
                Step::Append => {
                    let batch = Batch {
                        plain: Piece::alone(Bytes::from_static(b"frame")),
                        deflated: None,
                        frames: 1,
                    };
                    audience.append(batch, OLD, self.now);
                    for member in &mut self.members {
                        member.owed += 1;
                        member.blind |= member.in_flight;
                    }
                }
                Step::Walk => {
                    if let Some((place, key)) = audience.walk() {
                        let member = self.members.iter_mut().find(|member| member.key == key);
                        let member = member.expect("a member is served");
                        assert_eq!(member.place, place);
                        assert!(member.owed > 0 && !member.in_flight, "{member:?}");
                        member.serve(audience);
                    }
                }
                Step::Launch(which) if count > 0 => {
                    let member = &mut self.members[which % count];
                    audience.launch(member.place);
                    member.in_flight = true;
                    member.blind |= member.owed > 0;
                }
                Step::Land(which) if count > 0 => {
                    let member = &mut self.members[which % count];
                    if audience.land(member.place) {
                        member.serve(audience);
                    }
                    member.in_flight = false;
                }
                Step::Expire => audience.expire(OLD, self.now),
                Step::Leave(_) | Step::Launch(_) | Step::Land(_) => {}
            }
        }
    }

    impl Naive {
        /// Everything owed comes, and nothing else; only who was busy when the walk came by may find
        /// that the window has moved on.
        fn serve(&mut self, audience: &mut Audience) {
            loop {
                let before = audience.cursor(self.place);
                let after = match audience.next(self.place) {
                    Next::UpToDate => break,
                    Next::Run { after, .. } => after,
                    Next::Behind { resume, .. } => {
                        assert!(self.blind, "{self:?} was not offered what is gone");
                        resume
                    }
                };
                self.owed -= after.frames_since(before);
                audience.set_cursor(self.place, after);
            }
            assert_eq!(self.owed, 0);
            self.blind = false;
        }
    }

    proptest! {
        /// Goal: whoever joins, leaves and speaks in the middle of a walk, it comes to everybody, nothing
        /// ages that somebody was not offered, and it ends. Method: any order of steps, against a model in
        /// which each member has a count of what it is owed.
        #[test]
        fn a_walk_serves_everybody_whatever_happens_meanwhile(
            steps in proptest::collection::vec(step(), 0..60)
        ) {
            everybody_is_served(&steps);
        }
    }

    fn everybody_is_served(steps: &[Step]) {
        let (mut audience, mut model) = (Audience::default(), Model::default());
        for step in steps {
            model.apply(&mut audience, *step);
            assert_eq!(audience.len(), model.members.len());
        }
        for _ in 0..=2 * audience.len() {
            model.apply(&mut audience, Step::Walk);
        }
        assert!(!audience.is_walking());
        for member in &model.members {
            assert!(member.in_flight || member.owed == 0, "{member:?}");
        }
    }

    /// Goal: somebody served by the completion of a send, between two looks of a walk, and nothing that ages
    /// meanwhile, costs nobody a message. Method: the steps, found by the test above, at which this once failed.
    #[test]
    fn a_completion_between_two_looks_costs_nobody_a_message() {
        use Step::{Append, Expire, Join, Land, Launch, Leave, Walk};
        let mut steps = vec![Join; 5];
        steps.extend([Leave(0), Leave(0), Join, Join, Join, Append]);
        steps.extend([Launch(1), Leave(2), Walk, Walk, Walk, Walk, Expire, Land(1)]);
        everybody_is_served(&steps);
    }
}
