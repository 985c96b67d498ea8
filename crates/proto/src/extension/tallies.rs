//! All tallies and reactions of a room, where they are counted: what is open, what was open of late, and what is to be told
//! when.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::reactions::{REACTIONS, Reactions};
use super::settings::Settings;
use super::speech::Key;
use super::tally::{Ballot, Counted, TALLY, TallyPlan, TallyView, VoteFault, Votes};
use crate::base::clock::{Now, Shift, Tick, UnixTime};
use crate::base::limits::{TALLIES_KEPT, TALLIES_OPEN_MAX, TALLY_INTERVAL};
use crate::tagged::{Fault, Fields, Tagged};

/// What a back end asks of a room's tallies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TallyOrder {
    /// Begin to count.
    Start(TallyPlan),
    /// End it now.
    Stop(Box<str>),
    /// Tell what is counted.
    Get(Box<str>),
}

/// What a node of a cluster asks the home of a room's hash slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TallyAsk {
    /// A back end's order; answered by a [`TallyAnswer`].
    Order(TallyOrder),
    /// Votes and taps of members; answered by a `Result<Counted, VoteFault>` for each vote, in order.
    Casts {
        /// The votes.
        ballots: Vec<Ballot>,
        /// Taps by reaction.
        taps: BTreeMap<Box<str>, u64>,
    },
}

/// Why it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TallyFault {
    /// One of this id is open.
    IsOpen,
    /// As many are open as may be.
    TooMany,
    /// There is none of this id.
    Unknown,
    /// No tag of the room is ours, so that its members give no commands.
    Untagged,
    /// The room is not known.
    NoRoom,
    /// It is not known whether it was done.
    Late,
}

/// What a back end is told.
pub type TallyAnswer = Result<TallyView, TallyFault>;

/// An event for all members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TallyEvent {
    /// `EventName`.
    pub name: &'static str,
    /// `Attributes`.
    pub attributes_json: String,
    /// Whether it waits for no pace.
    pub is_urgent: bool,
    /// The tally that it tells of.
    pub tally: Option<ToldTally>,
}

/// The tally that an event tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldTally {
    /// Its id.
    pub id: Box<str>,
    /// Whether it is told for the last time.
    pub is_last: bool,
}

/// One open tally.
#[derive(Debug)]
struct Open {
    plan: TallyPlan,
    votes: Votes,
    // When it ends, by a clock that never goes back, and by the wall's, for people.
    ends: Tick,
    ends_at: UnixTime,
    // When members are told next; `None`: nothing has changed.
    due: Option<Tick>,
    // When they were told last.
    told: Option<Tick>,
}

impl Open {
    fn view(&self, is_open: bool) -> TallyView {
        TallyView {
            id: self.plan.id.clone(),
            is_open,
            question: self.plan.question.clone(),
            options: self.plan.options.clone(),
            counts: self.votes.counts().into(),
            ends_ms: self.ends_at.millis(),
        }
    }

    /// Notes that something is to be told, at most each second.
    fn changed(&mut self, now: Tick) {
        let next = self.told.map_or(now, |told| told.after(TALLY_INTERVAL));
        self.due.get_or_insert(next.max(now));
    }
}

/// One that has ended, and whose last event may be lost still.
#[derive(Debug)]
struct Ended {
    view: TallyView,
    // When it is told next; `None`: the event is on its way.
    due: Option<Tick>,
    // How often it was told.
    tries: u32,
}

/// Those of one room.
#[derive(Debug, Default)]
pub struct Tallies {
    open: Vec<Open>,
    // What has ended and is not known to be told; at most `ENDED_MAX`, oldest first.
    ended: Vec<Ended>,
    // What ended last, for `GetTally`; at most `TALLIES_KEPT`.
    closed: VecDeque<TallyView>,
    /// Taps since the last event.
    pub reactions: Reactions,
}

impl Tallies {
    /// Does what a back end asks.
    ///
    /// # Errors
    ///
    /// Why it is not done.
    pub fn follow(&mut self, order: &TallyOrder, now: Now) -> TallyAnswer {
        match order {
            TallyOrder::Start(plan) => self.start(plan, now),
            TallyOrder::Stop(id) => {
                if let Some(open) = self.find(id, now.tick) {
                    (open.ends, open.ends_at) = (now.tick, now.unix.min(open.ends_at));
                    return Ok(open.view(false));
                }
                self.get(id, now.tick)
            }
            TallyOrder::Get(id) => self.get(id, now.tick),
        }
    }

    fn start(&mut self, plan: &TallyPlan, now: Now) -> TallyAnswer {
        if self.open.iter().any(|open| open.plan.id == plan.id) {
            return Err(TallyFault::IsOpen);
        }
        if self.open.len() >= TALLIES_OPEN_MAX {
            return Err(TallyFault::TooMany);
        }
        self.ended.retain(|ended| ended.view.id != plan.id);
        self.closed.retain(|closed| closed.id != plan.id);
        let time = Duration::from_secs(plan.seconds.into());
        let open = Open {
            votes: Votes::of(plan.options.len()),
            plan: plan.clone(),
            ends: now.tick.after(time),
            ends_at: now.unix.after(time),
            due: Some(now.tick),
            told: None,
        };
        let view = open.view(true);
        self.open.push(open);
        Ok(view)
    }

    fn get(&self, id: &str, now: Tick) -> TallyAnswer {
        let open = self.open.iter().find(|open| *open.plan.id == *id);
        let view = open.map(|open| open.view(now < open.ends));
        let ended = self.ended.iter().map(|ended| &ended.view);
        let mut closed = ended.chain(&self.closed);
        let closed = || closed.find(|closed| *closed.id == *id).cloned();
        view.or_else(closed).ok_or(TallyFault::Unknown)
    }

    /// The open tally of this id that has not ended.
    fn find(&mut self, id: &str, now: Tick) -> Option<&mut Open> {
        let mut open = self.open.iter_mut();
        open.find(|open| *open.plan.id == *id && now < open.ends)
    }

    /// Counts a vote; `has_room`: for a voter more. What comes at the end or behind it does not count.
    ///
    /// # Errors
    ///
    /// Why it does not count.
    pub fn vote(
        &mut self,
        ballot: &Ballot,
        has_room: bool,
        now: Tick,
    ) -> Result<Counted, VoteFault> {
        let open = self.find(&ballot.tally, now).ok_or(VoteFault::NotOpen)?;
        let counted = open.votes.cast(ballot, &open.plan, has_room)?;
        open.changed(now);
        Ok(counted)
    }

    /// Ends all that are open, at this instant.
    pub fn end_all(&mut self, now: Now) {
        for open in &mut self.open {
            (open.ends, open.ends_at) = (open.ends.min(now.tick), open.ends_at.min(now.unix));
        }
    }

    /// When something is to be told.
    pub fn due(&self) -> Option<Tick> {
        let tallies = self.open.iter().map(|open| {
            let due = open.due.unwrap_or(open.ends);
            due.min(open.ends)
        });
        let ended = self.ended.iter().filter_map(|ended| ended.due);
        tallies.chain(ended).chain(self.reactions.due()).min()
    }

    /// What is to be told now; what becomes of the events is told by [`Tallies::told`]. The voters of a tally that has ended
    /// are forgotten.
    pub fn take_due(&mut self, settings: &Settings, now: Now) -> Vec<TallyEvent> {
        let mut events = Vec::new();
        let just_ended = &mut self.ended;
        self.open.retain_mut(|open| {
            let has_ended = open.ends <= now.tick;
            if !has_ended && open.due.is_none_or(|due| now.tick < due) {
                return true;
            }
            let view = open.view(!has_ended);
            if has_ended {
                let (due, tries) = (Some(now.tick), 0);
                just_ended.push(Ended { view, due, tries });
                return false;
            }
            // Nobody misses the beginning.
            events.push(view.event(open.told.is_none()));
            (open.due, open.told) = (None, Some(now.tick));
            true
        });
        while self.ended.len() > ENDED_MAX {
            let oldest = self.ended.remove(0);
            self.keep(oldest.view);
        }
        for ended in &mut self.ended {
            if ended.due.is_some_and(|due| due <= now.tick) {
                events.push(ended.view.event(true));
                (ended.due, ended.tries) = (None, ended.tries + 1);
            }
        }
        if self.reactions.due().is_some_and(|due| due <= now.tick) {
            let sums = self.reactions.take();
            events.push(TallyEvent {
                name: REACTIONS,
                attributes_json: Reactions::attributes_json(&sums, settings),
                is_urgent: false,
                tally: None,
            });
        }
        events
    }

    /// Notes what became of an event that was taken: members are told it, or it is lost and to be told again in a moment. A last
    /// one is lost for good if it was so for a minute.
    pub fn told(&mut self, told: &ToldTally, is_told: bool, now: Tick) {
        if !told.is_last {
            let mut open = self.open.iter_mut();
            if let Some(open) = open.find(|open| !is_told && open.plan.id == told.id) {
                open.changed(now);
            }
            return;
        }
        let mut ended = self.ended.iter_mut();
        let Some(ended) = ended.find(|ended| ended.view.id == told.id) else {
            return;
        };
        if !is_told && ended.tries < LAST_TRIES_MAX {
            ended.due = Some(now.after(TALLY_INTERVAL));
            return;
        }
        let view = ended.view.clone();
        self.ended.retain(|ended| ended.view.id != view.id);
        self.keep(view);
    }

    /// Keeps what has ended, and is told, for a while.
    fn keep(&mut self, view: TallyView) {
        if self.closed.len() >= TALLIES_KEPT {
            self.closed.pop_front();
        }
        self.closed.push_back(view);
    }

    /// Number of open tallies.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Number of voters of all of them.
    pub fn voters(&self) -> usize {
        self.open.iter().map(|open| open.votes.len()).sum()
    }

    /// Whether nothing is counted, or was of late.
    pub fn is_empty(&self) -> bool {
        let is_told = self.open.is_empty() && self.ended.is_empty();
        is_told && self.closed.is_empty() && self.reactions.due().is_none()
    }

    /// Writes them for another process.
    pub fn carry(&self) -> Vec<u8> {
        let mut fields = Fields::default();
        for open in &self.open {
            fields.nested(OPEN, |fields| {
                let plan = serde_json::to_vec(&open.plan).unwrap_or_default();
                fields.bytes(PLAN, &plan);
                fields.number(ENDS, open.ends.nanos());
                fields.number(ENDS_AT, open.ends_at.nanos());
                let mut voters = Vec::with_capacity(open.votes.len() * VOTER_BYTES);
                for (voter, option) in open.votes.voters() {
                    voters.extend(voter.bits().to_le_bytes());
                    voters.push(option);
                }
                fields.bytes(VOTERS, &voters);
            });
        }
        let ended = self.ended.iter().map(|ended| (ENDED, &ended.view));
        let closed = self.closed.iter().map(|closed| (CLOSED, closed));
        for (number, view) in ended.chain(closed) {
            fields.bytes(number, &serde_json::to_vec(view).unwrap_or_default());
        }
        for (key, sum) in self.reactions.sums() {
            fields.nested(TAPS, |fields| {
                fields.bytes(KEY, key.as_bytes());
                fields.number(SUM, sum);
            });
        }
        fields.into_bytes()
    }

    /// Reads what another process wrote, whose ticks are `shift` away. What cannot be read is left out.
    ///
    /// # Errors
    ///
    /// These are no fields.
    pub fn inherit(
        bytes: &[u8],
        shift: Shift,
        settings: &Settings,
        now: Tick,
    ) -> Result<Self, Fault> {
        let fields = Tagged::parse(bytes)?;
        let mut tallies = Self::default();
        for open in fields.all(OPEN).take(TALLIES_OPEN_MAX) {
            let open = Tagged::parse(open).and_then(|open| inherit_open(open, shift, now));
            tallies.open.extend(open.ok());
        }
        let views = |number, most| {
            let views = fields.all(number).take(most);
            views.filter_map(|view| serde_json::from_slice::<TallyView>(view).ok())
        };
        tallies.closed.extend(views(CLOSED, TALLIES_KEPT));
        let ended = views(ENDED, ENDED_MAX).map(|view| {
            let (due, tries) = (Some(now), 0);
            Ended { view, due, tries }
        });
        tallies.ended.extend(ended);
        for taps in fields.all(TAPS) {
            let taps = Tagged::parse(taps)?;
            let (key, sum) = (taps.need_text(KEY)?, taps.need_number(SUM)?);
            tallies.reactions.add(key, sum, settings, now);
        }
        Ok(tallies)
    }
}

fn inherit_open(fields: Tagged<'_>, shift: Shift, now: Tick) -> Result<Open, Fault> {
    let plan = serde_json::from_slice::<TallyPlan>(fields.need(PLAN)?);
    let plan = plan.ok().filter(TallyPlan::is_short);
    let plan = plan.ok_or(Fault::Value(PLAN))?;
    let mut votes = Votes::of(plan.options.len());
    for voter in fields.need(VOTERS)?.chunks_exact(VOTER_BYTES) {
        if let Some((bits, [option])) = voter.split_first_chunk() {
            votes.inherit(Key::from_bits(u64::from_le_bytes(*bits)), *option);
        }
    }
    Ok(Open {
        plan,
        votes,
        ends: shift.tick(fields.need_number(ENDS)?),
        ends_at: UnixTime::from_nanos(fields.need_number(ENDS_AT)?),
        due: Some(now),
        told: Some(now),
    })
}

impl TallyView {
    /// The event that tells of it.
    fn event(&self, is_urgent: bool) -> TallyEvent {
        TallyEvent {
            name: TALLY,
            attributes_json: self.attributes_json(),
            is_urgent,
            tally: Some(ToldTally {
                id: self.id.clone(),
                is_last: !self.is_open,
            }),
        }
    }
}

/// Tallies of a room that have ended and are not known to be told: more are not worth a try.
const ENDED_MAX: usize = 16;
/// How often the last event of a tally is told until members have it: for a minute.
const LAST_TRIES_MAX: u32 = 60;

// The fields that another process reads: an open tally, one that has ended and is told, taps of a reaction, one that has ended
// and is not.
const OPEN: u32 = 1;
const CLOSED: u32 = 2;
const TAPS: u32 = 3;
const ENDED: u32 = 4;
// Of an open one: its plan as JSON, its end by both clocks, its voters.
const PLAN: u32 = 1;
const ENDS: u32 = 2;
const ENDS_AT: u32 = 3;
const VOTERS: u32 = 4;
/// Bytes of a voter: a key, an option.
const VOTER_BYTES: usize = 9;
// Of taps.
const KEY: u32 = 1;
const SUM: u32 = 2;

#[cfg(test)]
mod tests;
