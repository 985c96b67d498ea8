//! Tables of the database, and a change of one.

use redb::TableDefinition;

/// One kind of record, each by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Rooms.
    Rooms,
    /// Logging configurations.
    Logging,
    /// Bans.
    Bans,
    /// Sets of rules.
    RuleSets,
    /// Of a node of a cluster: which state of the cluster's registry this database is a copy of, and the revision
    /// of each record. Empty otherwise.
    Cluster,
}

impl Table {
    pub(super) const ALL: [Self; 5] = [
        Self::Rooms,
        Self::Logging,
        Self::Bans,
        Self::RuleSets,
        Self::Cluster,
    ];

    /// Its name in the database, and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rooms => "rooms",
            Self::Logging => "logging-configurations",
            Self::Bans => "bans",
            Self::RuleSets => "rule-sets",
            Self::Cluster => "cluster",
        }
    }

    pub(super) const fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

/// One change.
#[derive(Debug, Clone)]
pub struct Write {
    /// The table.
    pub table: Table,
    /// The record.
    pub id: String,
    /// The new value; `None` removes the record.
    pub value: Option<Vec<u8>>,
}
