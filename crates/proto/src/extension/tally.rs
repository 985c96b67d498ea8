//! Polls of a room: what is asked, how a vote is counted, and what members and back ends are told.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::settings::Roles;
use super::speech::Key;
use crate::base::clock::UnixTime;
use crate::base::limits::{TALLY_ID_CHARS_MAX, TALLY_OPTIONS_MAX, TALLY_TEXT_BYTES_MAX};
use crate::chat::{ErrorCode, encode, texts};

/// `EventName` of what a tally has counted.
pub const TALLY: &str = "uproar:tally";

/// What a tally asks, of whom, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TallyPlan {
    /// Its id, which its caller chooses.
    pub id: Box<str>,
    /// What is asked.
    pub question: Box<str>,
    /// What may be answered, in order; members name them by number, from 1.
    pub options: Box<[Box<str>]>,
    /// From the start to the end.
    pub seconds: u32,
    /// Who may vote; `None`: everybody.
    pub roles: Option<Roles>,
    /// Whether a vote may be changed until the end.
    pub may_change: bool,
}

impl TallyPlan {
    /// Whether a text is the id of a tally: letters, digits, `-` and `_`.
    pub fn is_id(text: &str) -> bool {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=TALLY_ID_CHARS_MAX).contains(&text.len()) && text.bytes().all(is_plain)
    }

    /// Whether question and options are as few and as short as they must be.
    pub fn is_short(&self) -> bool {
        let bytes: usize = self.options.iter().map(|option| option.len()).sum();
        self.options.len() <= TALLY_OPTIONS_MAX
            && self.question.len() + bytes <= TALLY_TEXT_BYTES_MAX
    }
}

/// A vote of a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// The tally's id.
    pub tally: Box<str>,
    /// The option's number, from 1.
    pub option: u8,
    /// The member.
    pub voter: Key,
    /// The member's role.
    pub role: Option<Box<str>>,
}

/// A vote that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Counted {
    /// The member's first.
    First,
    /// It replaces the one before.
    Changed,
}

/// Why a vote does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VoteFault {
    /// No tally of this id is open.
    NotOpen,
    /// It has options up to this number.
    Option(u8),
    /// It is open to these roles.
    Role(Box<str>),
    /// The member has voted.
    Voted,
    /// More votes are counted than may be.
    Full,
}

impl VoteFault {
    /// Code and text for the member.
    pub fn refusal(&self) -> (ErrorCode, Cow<'static, str>) {
        match self {
            Self::NotOpen => (
                ErrorCode::NotFound,
                "no tally of this id is open here".into(),
            ),
            Self::Option(most) => {
                let text = format!("uproar:option must be an integer from 1 to {most}");
                (ErrorCode::BadRequest, text.into())
            }
            Self::Role(roles) => (
                ErrorCode::Forbidden,
                format!("the tally is open to: {roles}").into(),
            ),
            Self::Voted => (ErrorCode::Forbidden, "already voted".into()),
            Self::Full => (ErrorCode::TooManyRequests, texts::RATE.into()),
        }
    }
}

/// What a tally has counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TallyView {
    /// Its id.
    pub id: Box<str>,
    /// Whether votes are taken still.
    pub is_open: bool,
    /// What is asked.
    pub question: Box<str>,
    /// What may be answered.
    pub options: Box<[Box<str>]>,
    /// Votes for each of them.
    pub counts: Box<[u64]>,
    /// When it ends or has ended, in milliseconds since 1970.
    pub ends_ms: u64,
}

impl TallyView {
    /// `open` or `closed`.
    pub const fn state(&self) -> &'static str {
        if self.is_open { "open" } else { "closed" }
    }

    /// Votes for all options.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// When it ends or has ended, as a text.
    pub fn ends_at(&self) -> String {
        encode::send_time(UnixTime::from_millis(self.ends_ms))
    }

    /// `Attributes` of the event: texts, of which two are lists in JSON.
    pub fn attributes_json(&self) -> String {
        let options = serde_json::to_string(&self.options).unwrap_or_default();
        let counts = serde_json::to_string(&self.counts).unwrap_or_default();
        encode::attributes_json([
            ("Id", &*self.id),
            ("State", self.state()),
            ("Question", &self.question),
            ("Options", &options),
            ("Counts", &counts),
            ("Total", &self.total().to_string()),
            ("EndsAt", &self.ends_at()),
        ])
    }
}

/// The votes of one tally: one of each member.
#[derive(Debug, Default)]
pub(super) struct Votes {
    // Invariant: for each option, the number of voters who have it.
    counts: Vec<u64>,
    // Each voter's option, from 0.
    voters: HashMap<Key, u8>,
}

impl Votes {
    /// None, for this number of options.
    pub(super) fn of(options: usize) -> Self {
        Self {
            counts: vec![0; options],
            voters: HashMap::new(),
        }
    }

    /// Counts a vote under the rules of `plan`; `has_room`: for a voter more.
    pub(super) fn cast(
        &mut self,
        ballot: &Ballot,
        plan: &TallyPlan,
        has_room: bool,
    ) -> Result<Counted, VoteFault> {
        let option = usize::from(ballot.option).wrapping_sub(1);
        if option >= self.counts.len() {
            let most = u8::try_from(self.counts.len()).unwrap_or(u8::MAX);
            return Err(VoteFault::Option(most));
        }
        if let Some(roles) = &plan.roles
            && ballot
                .role
                .as_deref()
                .is_none_or(|role| !roles.contains(role))
        {
            return Err(VoteFault::Role(roles.joined(", ").into()));
        }
        let before = self.voters.get(&ballot.voter).copied();
        match before {
            Some(_) if !plan.may_change => return Err(VoteFault::Voted),
            None if !has_room => return Err(VoteFault::Full),
            Some(before) => self.add(before, false),
            None => {}
        }
        let option = ballot.option - 1;
        self.voters.insert(ballot.voter, option);
        self.add(option, true);
        Ok(before.map_or(Counted::First, |_| Counted::Changed))
    }

    fn add(&mut self, option: u8, is_more: bool) {
        if let Some(count) = self.counts.get_mut(usize::from(option)) {
            *count = if is_more { *count + 1 } else { *count - 1 };
        }
    }

    /// Votes for each option.
    pub(super) fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Number of voters.
    pub(super) fn len(&self) -> usize {
        self.voters.len()
    }

    /// Each voter and its option, from 0.
    pub(super) fn voters(&self) -> impl Iterator<Item = (Key, u8)> {
        self.voters.iter().map(|(voter, option)| (*voter, *option))
    }

    /// Takes over a vote of another process; an option that there is not is left out.
    pub(super) fn inherit(&mut self, voter: Key, option: u8) {
        let is_there = usize::from(option) < self.counts.len();
        if is_there && self.voters.insert(voter, option).is_none() {
            self.add(option, true);
        }
    }
}
