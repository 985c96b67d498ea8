//! What a room's home has of tallies and reactions: what it counts, what waits for the home of a cluster, and what those who
//! join are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use super::command::Voter;
use uproar_proto::base::clock::{Now, Tick, UnixTime};
use uproar_proto::base::limits::{CASTS_INTERVAL, CASTS_PER_ASK_MAX, CASTS_WAITING_MAX};
use uproar_proto::chat::encode::EVENT_START;
use uproar_proto::extension::tally::Ballot;
use uproar_proto::extension::{Extension, Tallies};
use uproar_proto::ws;

/// What a room's home has of tallies and reactions.
#[derive(Debug, Default)]
pub(in crate::shard) struct RoomTallies {
    /// What is counted here.
    pub counted: Tallies,
    /// What is to be counted elsewhere: at the home of the room's hash slot.
    pub waiting: Waiting,
    // The newest frame of each open tally, and when it is forgotten if no last one comes.
    shown: BTreeMap<Box<str>, (Bytes, Tick)>,
    // The room's state with these frames, for those who join.
    greeting: Option<Arc<Extension>>,
    /// Whether it is in the list of rooms with something to tell.
    pub is_listed: bool,
}

/// Votes and taps that a node collects.
#[derive(Debug, Default)]
pub(in crate::shard) struct Waiting {
    ballots: Vec<(Voter, Ballot)>,
    taps: BTreeMap<Box<str>, u64>,
    since: Option<Tick>,
}

/// Votes and taps of one request to a home.
#[derive(Debug, Default)]
pub(in crate::shard) struct Casts {
    /// Who waits for an answer, in the order of `ballots`.
    pub voters: Vec<Voter>,
    /// The votes.
    pub ballots: Vec<Ballot>,
    /// Taps by reaction.
    pub taps: BTreeMap<Box<str>, u64>,
}

impl Waiting {
    /// Collects a vote.
    ///
    /// # Errors
    ///
    /// As many wait as may.
    pub(in crate::shard) fn vote(
        &mut self,
        voter: Voter,
        ballot: Ballot,
        now: Tick,
    ) -> Result<(), Voter> {
        if self.ballots.len() >= CASTS_WAITING_MAX {
            return Err(voter);
        }
        self.ballots.push((voter, ballot));
        self.since.get_or_insert(now);
        Ok(())
    }

    /// Collects taps.
    pub(in crate::shard) fn tap(&mut self, key: &str, count: u64, now: Tick) {
        let sum = self.taps.entry(key.into()).or_default();
        *sum = sum.saturating_add(count);
        self.since.get_or_insert(now);
    }

    /// Whether nothing waits.
    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    fn due(&self) -> Option<Tick> {
        Some(self.since?.after(CASTS_INTERVAL))
    }

    /// What has waited long enough, or all of it if it `hurries`; in requests of a bounded size.
    pub(in crate::shard) fn take(&mut self, hurries: bool, now: Tick) -> Vec<Casts> {
        let is_due = self.due().is_some_and(|due| hurries || due <= now);
        if !is_due {
            return Vec::new();
        }
        self.since = None;
        let mut all = Vec::new();
        let mut casts = Casts {
            taps: std::mem::take(&mut self.taps),
            ..Casts::default()
        };
        for (voter, ballot) in std::mem::take(&mut self.ballots) {
            if casts.ballots.len() >= CASTS_PER_ASK_MAX {
                all.push(std::mem::take(&mut casts));
            }
            casts.voters.push(voter);
            casts.ballots.push(ballot);
        }
        all.push(casts);
        all
    }
}

impl RoomTallies {
    /// When the room is to be looked at; `None`: nothing is to be told.
    pub(in crate::shard) fn due(&self) -> Option<Tick> {
        let shown = self.shown.values().map(|(_, until)| *until).min();
        let due = [self.counted.due(), self.waiting.due(), shown];
        due.into_iter().flatten().min()
    }

    /// Whether a frame tells of a tally.
    pub(in crate::shard) fn concerns(frame: &[u8]) -> bool {
        let payload = ws::payloads(frame).next().unwrap_or_default();
        let named = payload
            .strip_prefix(EVENT_START)
            .and_then(|rest| rest.get(ID_BYTES..));
        named.is_some_and(|rest| rest.starts_with(NAMED))
    }

    /// Notes what members are told of a tally: who joins is told the same while it is open.
    pub(in crate::shard) fn show(&mut self, frame: &Bytes, now: Now) {
        let payload = ws::payloads(frame).next().unwrap_or_default();
        let Ok(told) = serde_json::from_slice::<Told<'_>>(payload) else {
            return;
        };
        self.greeting = None;
        if told.attributes.state == "open" {
            let ends: Option<UnixTime> = told.ends();
            let left = ends.map(|ends| ends.since(now.unix)).unwrap_or_default();
            let until = now.tick.after(left).after(SHOWN_AFTER);
            self.shown
                .insert(told.attributes.id.into(), (frame.clone(), until));
        } else {
            self.shown.remove(told.attributes.id);
        }
    }

    /// The room's state with the open tallies, for who joins; `None`: none is open.
    pub(in crate::shard) fn greeting(&mut self, extension: &Extension) -> Option<Arc<Extension>> {
        if self.shown.is_empty() {
            return None;
        }
        let greeting = self.greeting.get_or_insert_with(|| {
            let frames = self.shown.values().map(|(frame, _)| &frame[..]);
            let frames: Vec<&[u8]> = frames.collect();
            Arc::new(extension.with_tallies(frames.concat().into()))
        });
        Some(Arc::clone(greeting))
    }

    /// Makes the greeting anew: the room's state has changed.
    pub(in crate::shard) fn renew_greeting(&mut self) {
        self.greeting = None;
    }

    /// Forgets tallies whose end nobody has told: the node that counted is gone.
    pub(in crate::shard) fn forget_overdue(&mut self, now: Tick) {
        let before = self.shown.len();
        self.shown.retain(|_, (_, until)| now < *until);
        if self.shown.len() < before {
            self.greeting = None;
        }
    }
}

/// How long after its end a tally is shown whose last event does not come.
const SHOWN_AFTER: std::time::Duration = std::time::Duration::from_secs(5);

/// A frame that tells of a tally, as far as it concerns those who join.
#[derive(Deserialize)]
struct Told<'a> {
    #[serde(rename = "Attributes", borrow)]
    attributes: ToldAttributes<'a>,
}

#[derive(Deserialize)]
struct ToldAttributes<'a> {
    #[serde(rename = "Id")]
    id: &'a str,
    #[serde(rename = "State")]
    state: &'a str,
    #[serde(rename = "EndsAt")]
    ends_at: &'a str,
}

impl Told<'_> {
    fn ends(&self) -> Option<UnixTime> {
        let ends: jiff::Timestamp = self.attributes.ends_at.parse().ok()?;
        let millis = u64::try_from(ends.as_millisecond()).ok()?;
        Some(UnixTime::from_millis(millis))
    }
}

const ID_BYTES: usize = 12;
/// What follows an event's id, if it is one of a tally.
const NAMED: &[u8] = b"\",\"RequestId\":\"\",\"EventName\":\"uproar:tally\",";
