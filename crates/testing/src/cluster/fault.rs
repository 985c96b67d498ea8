//! What goes wrong in a world of several nodes, how often, and how often it did.

use std::fmt;
use std::ops::AddAssign;

use crate::simulation::dice::Dice;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Something that goes wrong outside of a node's own code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

faults! {
    /// An append never reaches its broker.
    AppendLost,
    /// An append reaches its broker after its node has given it up.
    AppendLate,
    /// A record is committed, and its ack is lost.
    AckLost,
    /// A record is committed, and its ack comes after its node has given it up.
    AckLate,
    /// A record is committed and never republished, to one node.
    NotRepublished,
    /// A record is committed and never republished, to nobody.
    NeverRepublished,
    /// A record is republished twice.
    RepublishedTwice,
    /// A record is republished behind later ones.
    RepublishedLate,
    /// A stream has no leader for seconds: what is proposed then is lost or committed at the end.
    NoLeader,
    /// A leader has no quorum for seconds: it refuses what comes behind a proposal of which nobody knows.
    NoQuorum,
    /// A condition is refused although nothing has changed.
    RefusedForNothing,
    /// A leader that was deposed answers a read without the newest records.
    ReadStale,
    /// A read is not answered.
    ReadLost,
    /// A read is answered by parts.
    ReadInParts,
    /// The oldest records of a stream are no longer stored: by age, or because it is full.
    RecordsGone,
    /// A stream is emptied.
    StreamEmptied,
    /// A message between nodes is lost.
    MessageLost,
    /// A message between nodes is late.
    MessageLate,
    /// A message overtakes those of other senders, and of its own.
    MessageReordered,
    /// Brokers have no subscriber for a node that lives.
    NoResponders,
    /// A heartbeat is lost.
    HereLost,
    /// A node, or each of them, hears no other one for seconds, itself alone; all else reaches it.
    Deaf,
    /// A node and its brokers do not reach each other: what they send is lost.
    Partition,
    /// A node and its brokers do not reach each other: what they send is sent afterwards.
    Blackout,
    /// A node runs, and its brokers hear nothing from it; it hears them.
    HalfPartition,
    /// A node does not run for seconds, and its inputs wait.
    Paused,
    /// A node does not run for so long that brokers cut it.
    PausedLong,
    /// A node's wall clock is wrong.
    ClockSkewed,
    /// A node's wall clock steps.
    ClockStepped,
    /// A node's process is killed; another one begins later.
    Killed,
    /// A node's process is killed, and the next one begins at once.
    KilledShortly,
    /// A node drains and ends.
    Drained,
    /// A node hands over to a new process.
    Upgraded,
    /// All nodes are killed, and stay away for so long that every log is empty by age.
    AllAway,
    /// No node reaches its brokers, for so long that every log is empty by age; viewers stay.
    AllCut,
    /// A slot is moved by hand.
    Moved,
    /// A shard of a node answers late: a message is reviewed.
    AuthoredLate,
    /// A shard refuses a request.
    AuthorRefuses,
    /// Frames reach the archive of chat logs late.
    ArchivedLate,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How often each fault happened.
#[derive(Debug, Clone)]
pub struct Tally([u64; Fault::ALL.len()]);

impl Default for Tally {
    fn default() -> Self {
        Self([0; Fault::ALL.len()])
    }
}

impl Tally {
    /// Each fault, and how often it happened.
    pub fn iter(&self) -> impl Iterator<Item = (Fault, u64)> {
        Fault::ALL.iter().copied().zip(self.0)
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }
}

/// Decides what goes wrong. Each world has faults of its own, so that a rare combination is not drowned by others.
pub(super) struct Chaos {
    pub(super) dice: Dice,
    /// Once in how many chances each fault happens in this world; 0: never.
    once_in: [usize; Fault::ALL.len()],
    tally: Tally,
    /// Nothing goes wrong any more.
    calm: bool,
}

impl Chaos {
    /// Makes the faults of a world.
    pub(super) fn new(mut dice: Dice) -> Self {
        let mut once_in = [0; Fault::ALL.len()];
        // From a quiet world to one in which every second fault happens.
        let share = dice.below(8);
        for (fault, once_in) in Fault::ALL.iter().zip(&mut once_in) {
            if dice.below(8) < share {
                *once_in = fault.chance() << dice.below(3);
            }
        }
        Self {
            dice,
            once_in,
            tally: Tally::default(),
            calm: false,
        }
    }

    /// Whether `fault` happens now.
    pub(super) fn strikes(&mut self, fault: Fault) -> bool {
        let once_in = self.once_in[fault as usize];
        let strikes = !self.calm && once_in > 0 && self.dice.once_in(once_in);
        self.tally.0[fault as usize] += u64::from(strikes);
        strikes
    }

    /// From now on nothing goes wrong.
    pub(super) fn calm(&mut self) {
        self.calm = true;
    }

    /// Returns how often each fault happened.
    pub(super) fn tally(&self) -> Tally {
        self.tally.clone()
    }
}

impl Fault {
    /// Once in how many chances it happens, where it happens most.
    #[expect(clippy::match_same_arms, reason = "sorted by what a chance is")]
    fn chance(self) -> usize {
        match self {
            // Chances: each append, record, message or read.
            Self::AppendLost | Self::AppendLate | Self::AckLost | Self::AckLate => 20,
            Self::NotRepublished | Self::NeverRepublished => 20,
            Self::RepublishedTwice | Self::RepublishedLate => 20,
            Self::RefusedForNothing => 30,
            Self::ReadStale | Self::ReadLost | Self::ReadInParts => 4,
            Self::MessageLost | Self::MessageLate | Self::MessageReordered => 12,
            Self::NoResponders => 400,
            Self::HereLost => 6,
            Self::AuthoredLate | Self::AuthorRefuses | Self::ArchivedLate => 10,
            // Chances: each step of 100 ms.
            Self::NoLeader | Self::NoQuorum => 30,
            Self::RecordsGone => 60,
            Self::StreamEmptied => 120,
            Self::Partition | Self::Blackout | Self::HalfPartition => 50,
            Self::Deaf => 30,
            Self::Paused => 40,
            Self::PausedLong => 100,
            Self::ClockStepped | Self::Drained | Self::Upgraded => 60,
            Self::Killed | Self::KilledShortly => 60,
            Self::AllAway | Self::AllCut => 250,
            Self::Moved => 20,
            // Chances: each node.
            Self::ClockSkewed => 2,
        }
    }
}
