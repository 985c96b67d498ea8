//! What a cluster's registry says about itself, and what a node's database says it is a copy of.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cluster::bucket::Revision;
use crate::control::arn::Account;
use crate::control::store::{Table, backup};

/// Key of the facts in the bucket, written last when a registry is made: without them there is none.
pub(super) const FACTS_KEY: &str = "fact.cluster";
/// Row of the database that names what it is a copy of.
pub(super) const COPY_ROW: &str = "copy";

/// Facts of a cluster that all its nodes must agree on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Its name.
    pub cluster: String,
    /// Random: another cluster of the same name has another one.
    pub identity: String,
    /// Counts how often the bucket was restored. A revision means something within its era only.
    pub era: u64,
    /// Region of every ARN.
    pub region: String,
    /// Account of every ARN.
    pub account: String,
    /// Hash slots that rooms are dealt into.
    pub slots: u16,
    /// The version that made it.
    pub version: String,
}

/// What a node's database is a copy of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyMark {
    /// The cluster's name.
    pub cluster: String,
    /// The cluster's identity.
    pub identity: String,
    /// The era of the revision.
    pub era: u64,
    /// All changes up to here are in the database, and none behind.
    pub revision: u64,
}

/// The cluster that a database is a copy of, which a server may have open; `None` if it is none, or cannot be read.
pub fn copied_cluster(database: &Path) -> Option<String> {
    let row = backup::read_one(database, Table::Cluster, COPY_ROW).ok()??;
    let mark: CopyMark = serde_json::from_value(row).ok()?;
    Some(mark.cluster)
}

/// Where a node begins to follow the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// Behind what it has.
    After(Revision),
    /// At the first change: what it then has and the bucket has not is dropped.
    Anew,
}

/// Why a node cannot follow a bucket. The texts are for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misfit {
    #[error(
        "the brokers have no registry of cluster {0}: run `uproar cluster init --config FILE` on the first node, stopped; \
         if there was one and its data is lost, `uproar cluster restore --config FILE` on the node that was up last"
    )]
    NoRegistry(String),
    #[error(
        "the data directory is a copy of another cluster named {0} (identity {1}; the brokers' is {2}): start with an \
         empty server.data_dir, or name the brokers of that cluster"
    )]
    OtherCluster(String, String, String),
    #[error(
        "the cluster is of region {0} and account {1}, this node's configuration says {2} and {3}: make aws.region and \
         aws.account the same"
    )]
    OtherAccount(String, String, String, String),
    #[error(
        "the cluster deals its rooms into {0} slots, this version into {1}: use the version that made it, {2}"
    )]
    OtherSlots(u16, u16, String),
    #[error(
        "the brokers have less than this node: their last change is {last}, this node's {own}. They lost acknowledged \
         writes. Stop this node and run `uproar cluster restore --config FILE` here; it puts the missing records back"
    )]
    Behind {
        /// The bucket's last change.
        last: u64,
        /// The node's.
        own: u64,
    },
}

impl Facts {
    /// Decides where a node with this account and copy begins to follow a bucket whose last change is `last`.
    pub(super) fn begin(
        &self,
        account: &Account,
        own: Option<&CopyMark>,
        last: Revision,
    ) -> Result<Begin, Misfit> {
        if (&self.region, &self.account) != (&account.region, &account.id) {
            let (region, id) = (account.region.clone(), account.id.clone());
            let (theirs, theirs_id) = (self.region.clone(), self.account.clone());
            return Err(Misfit::OtherAccount(theirs, theirs_id, region, id));
        }
        if self.slots != SLOTS {
            let version = self.version.clone();
            return Err(Misfit::OtherSlots(self.slots, SLOTS, version));
        }
        let Some(own) = own else {
            return Ok(Begin::Anew);
        };
        if own.identity != self.identity {
            let (own, theirs) = (own.identity.clone(), self.identity.clone());
            return Err(Misfit::OtherCluster(self.cluster.clone(), own, theirs));
        }
        if own.era != self.era || own.revision == 0 {
            return Ok(Begin::Anew);
        }
        if own.revision > last.0 {
            return Err(Misfit::Behind {
                last: last.0,
                own: own.revision,
            });
        }
        Ok(Begin::After(Revision(own.revision)))
    }
}

/// Hash slots of a cluster.
pub(super) const SLOTS: u16 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            cluster: "main".to_owned(),
            identity: "a1".to_owned(),
            era: 2,
            region: "us-west-2".to_owned(),
            account: "123456789012".to_owned(),
            slots: SLOTS,
            version: "0.1.0".to_owned(),
        }
    }

    /// Goal: a node follows only its own cluster's bucket, and only one that has all that the node has.
    #[test]
    fn a_node_follows_what_it_is_a_copy_of() {
        let account = Account {
            region: "us-west-2".to_owned(),
            id: "123456789012".to_owned(),
        };
        let copy = |identity: &str, era, revision| CopyMark {
            cluster: "main".to_owned(),
            identity: identity.to_owned(),
            era,
            revision,
        };
        let begin =
            |own: Option<CopyMark>, last| facts().begin(&account, own.as_ref(), Revision(last));
        assert_eq!(begin(None, 7), Ok(Begin::Anew));
        assert_eq!(
            begin(Some(copy("a1", 2, 7)), 7),
            Ok(Begin::After(Revision(7)))
        );
        assert_eq!(begin(Some(copy("a1", 2, 0)), 7), Ok(Begin::Anew));
        assert_eq!(begin(Some(copy("a1", 1, 900)), 7), Ok(Begin::Anew));
        let behind = Misfit::Behind { last: 6, own: 7 };
        assert_eq!(begin(Some(copy("a1", 2, 7)), 6), Err(behind));
        let other = begin(Some(copy("b2", 2, 7)), 9);
        assert!(matches!(other, Err(Misfit::OtherCluster(..))), "{other:?}");
        let abroad = Account {
            region: "eu-west-1".to_owned(),
            ..account.clone()
        };
        let refused = facts().begin(&abroad, None, Revision(7));
        assert!(
            matches!(refused, Err(Misfit::OtherAccount(..))),
            "{refused:?}"
        );
        let more = Facts {
            slots: 512,
            ..facts()
        };
        let refused = more.begin(&account, None, Revision(7));
        assert!(
            matches!(refused, Err(Misfit::OtherSlots(..))),
            "{refused:?}"
        );
    }
}
