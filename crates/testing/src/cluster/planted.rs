//! Faults that no cluster survives, planted where an engine meets its world. The oracle must see each of them.

/// What is broken in a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// Brokers take every append, whatever its condition.
    ConditionsIgnored,
    /// Brokers forget a record after they acknowledged and republished it.
    RecordForgotten,
    /// Reads leave a record out in the middle.
    ReadsWithHoles,
    /// A process gets no takeovers to see.
    TakeoversHidden,
    /// A delivery is made twice.
    DeliveredTwice,
    /// A delivery is left out.
    NotDelivered,
    /// What a home appends is delivered before it is in the log.
    DeliveredEarly,
    /// A request's end is told twice.
    ToldTwice,
    /// A request's end is not told.
    NotTold,
    /// A request is told to be in the log when it is asked.
    ToldEarly,
    /// What is in the log is told to be refused.
    ToldRefused,
    /// Shards give times of their own clock, whatever is delivered.
    TimesNotAdopted,
    /// A shard answers twice for one request, under two numbers.
    AuthoredTwice,
    /// Shards give entries of another request's.
    AuthoredForAnother,
    /// Messages between nodes are lost for ever, after a while.
    NoMessages,
    /// The home of hash slot 0 grants more of the account's rate than it charges.
    GrantsInflated,
    /// Shards that ship do not get a record's frames.
    NotShown,
    /// Shards that ship get a record's frames twice.
    ShownTwice,
    /// A token that was used is told to be unused.
    TokenTwice,
}

impl Planted {
    /// Those that viewers of the shards that ship must see.
    pub const OF_VIEWERS: &[Self] = &[Self::NotShown, Self::ShownTwice, Self::TokenTwice];

    /// All others.
    pub const ALL: &[Self] = &[
        Self::ConditionsIgnored,
        Self::RecordForgotten,
        Self::ReadsWithHoles,
        Self::TakeoversHidden,
        Self::DeliveredTwice,
        Self::NotDelivered,
        Self::DeliveredEarly,
        Self::ToldTwice,
        Self::NotTold,
        Self::ToldEarly,
        Self::ToldRefused,
        Self::TimesNotAdopted,
        Self::AuthoredTwice,
        Self::AuthoredForAnother,
        Self::NoMessages,
        Self::GrantsInflated,
    ];
}

impl Planted {
    /// Whether it is always there once it is; others happen now and then.
    pub(super) fn is_constant(self) -> bool {
        matches!(
            self,
            Self::NoMessages | Self::TimesNotAdopted | Self::TakeoversHidden | Self::GrantsInflated
        )
    }
}
