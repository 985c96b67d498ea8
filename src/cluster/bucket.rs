//! The registry's bucket as the control thread sees it: conditional writes, and the changes in the bucket's order.
//!
//! Channels only. Behind them the cluster thread asks the brokers; in tests a model in memory does.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use uproar_proto::base::limits::{BUCKET_CHANGES_MAX, BUCKET_REQUESTS_MAX};

/// Place of a change in the bucket's order: the sequence of its stream. Each change has a higher one than those
/// before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// Before the first change.
    pub const NONE: Self = Self(0);
}

/// What must hold for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Nothing. The write may take effect late, behind any other one of its key, so only where the value says nothing: barriers.
    Any,
    /// The key never had a value.
    Unused,
    /// The key's last change is this one, a removal perhaps. So a write that arrives late, or twice, happens once.
    At(Revision),
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketWrite {
    /// Words of `A-Z a-z 0-9 _ -`, separated by dots.
    pub key: String,
    /// The new value; `None` removes it.
    pub value: Option<Bytes>,
    /// The condition.
    pub expected: Expected,
}

/// Why a write is not known to have happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteFault {
    /// Its condition does not hold. If the same write was sent before, that one may be the reason.
    #[error("another change came first")]
    Conflict,
    /// No answer: the write has happened, will happen, or never will.
    #[error("no answer from the brokers: {0}")]
    Unknown(String),
}

/// Why the bucket could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectFault {
    /// The brokers have no such bucket.
    #[error("the brokers have no bucket of this cluster")]
    NoBucket,
    /// No answer.
    #[error("no answer from the brokers: {0}")]
    Unknown(String),
}

/// The bucket at one moment, as the leader of its stream knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// The last change of the key that was asked for, if there was one, and its value; `None`: removed.
    pub found: Option<(Revision, Option<Bytes>)>,
    /// The last change of any key.
    pub last: Revision,
}

/// One change, as watchers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its place in the order.
    pub revision: Revision,
    /// The key.
    pub key: String,
    /// The new value; `None`: it was removed.
    pub value: Option<Bytes>,
}

/// A request to whoever has the bucket.
#[derive(Debug)]
pub enum BucketRequest {
    /// Change one key.
    Write(BucketWrite, oneshot::Sender<Result<Revision, WriteFault>>),
    /// Look at one key, and at the last change of all.
    Inspect(String, oneshot::Sender<Result<Inspected, InspectFault>>),
    /// Send every key's last change behind this revision, in order, and then each as it happens, until the next
    /// such request. A change that a later one of its key has replaced may be left out.
    Watch(Revision, mpsc::Sender<Change>),
}

/// The control thread's end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bucket(mpsc::Sender<BucketRequest>);

/// The other end: where the requests arrive.
#[derive(Debug)]
pub struct BucketEnd(pub mpsc::Receiver<BucketRequest>);

/// Makes both ends.
pub fn channel() -> (Bucket, BucketEnd) {
    let (requests, received) = mpsc::channel(BUCKET_REQUESTS_MAX);
    (Bucket(requests), BucketEnd(received))
}

impl Bucket {
    /// Changes one key; a quorum has it when this returns `Ok`.
    ///
    /// # Cancel safety
    ///
    /// The write may happen.
    pub async fn write(&self, write: BucketWrite) -> Result<Revision, WriteFault> {
        let gone = || WriteFault::Unknown("the cluster thread has ended".to_owned());
        let (answer, answered) = oneshot::channel();
        let request = BucketRequest::Write(write, answer);
        self.0.send(request).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Looks at one key, and at the last change of all.
    pub async fn inspect(&self, key: &str) -> Result<Inspected, InspectFault> {
        let gone = || InspectFault::Unknown("the cluster thread has ended".to_owned());
        let (answer, answered) = oneshot::channel();
        let request = BucketRequest::Inspect(key.to_owned(), answer);
        self.0.send(request).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Follows the changes behind `after`. It replaces the watch before, whose channel ends.
    pub async fn watch(&self, after: Revision) -> mpsc::Receiver<Change> {
        let (changes, received) = mpsc::channel(BUCKET_CHANGES_MAX);
        // If the thread has gone, so has the sender: the receiver ends at once.
        let _gone = self.0.send(BucketRequest::Watch(after, changes)).await;
        received
    }
}
