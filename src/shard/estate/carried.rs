//! How many viewers are carried over to another process, and why others are not.

/// Where the sender of a message under review was in the process that handed it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SenderTag {
    /// Number of its shard there.
    pub shard: u64,
    /// Key of its connection there.
    pub key: u64,
}

/// Why a viewer is not carried over: its connection ends with the old process, and official clients
/// come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotCarried {
    /// A message larger than a decoder keeps was arriving.
    Oversized,
    /// More bytes wait for it than may be carried.
    Backlog,
    /// Its record has not what this version needs.
    Record,
    /// Its room does not exist any more.
    Room,
    /// The kernel has no place for it.
    NoPlace,
}

impl NotCarried {
    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 5] = [
        Self::Oversized,
        Self::Backlog,
        Self::Record,
        Self::Room,
        Self::NoPlace,
    ];

    /// The label `reason` of a metric.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Oversized => "oversized",
            Self::Backlog => "backlog",
            Self::Record => "record",
            Self::Room => "room",
            Self::NoPlace => "no_place",
        }
    }
}

/// Numbers of viewers that were carried over, and of those that were not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Carried {
    /// Those that were.
    pub viewers: u64,
    // Those that were not, in the order of `NotCarried::ALL`.
    not: [u64; NotCarried::ALL.len()],
}

impl Carried {
    /// Counts one that was not.
    pub fn refuse(&mut self, reason: NotCarried) {
        let reasons = NotCarried::ALL.iter().zip(&mut self.not);
        for (_, count) in reasons.filter(|(other, _)| **other == reason) {
            *count += 1;
        }
    }

    /// Returns the number of those that were not, by reason.
    pub fn not_carried(&self) -> impl Iterator<Item = (NotCarried, u64)> {
        NotCarried::ALL.into_iter().zip(self.not)
    }
}

impl std::ops::AddAssign for Carried {
    fn add_assign(&mut self, other: Self) {
        self.viewers += other.viewers;
        for (count, more) in self.not.iter_mut().zip(other.not) {
            *count += more;
        }
    }
}

/// How far `Core::viewers` has come; the default is the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct ViewersCursor {
    /// Index of the next connection in the shard's table.
    pub(in crate::shard) next: u32,
    /// Bytes of unfinished sends so far.
    pub(in crate::shard) rest_bytes: usize,
    /// Whether every connection was looked at.
    pub(in crate::shard) is_end: bool,
    /// What was carried, and what was not.
    pub(in crate::shard) carried: Carried,
}

impl ViewersCursor {
    /// Whether every viewer was returned.
    pub fn is_end(&self) -> bool {
        self.is_end
    }

    /// Returns the numbers so far.
    pub fn carried(&self) -> Carried {
        self.carried
    }
}
