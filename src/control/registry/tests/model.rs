//! A bucket in memory, with the faults of real ones: answers that are lost, writes that happen later or never, watchers
//! that are late or cut off, no quorum, and acknowledged writes that are lost.

use std::cell::RefCell;
use std::collections::HashSet;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{spawn_local, yield_now};

use uproar_proto::base::limits::BUCKET_HISTORY;

use crate::cluster::bucket::{
    Bucket, BucketRequest, BucketWrite, Change, Expected, Inspected, Revision, WriteFault, channel,
};

/// How often each fault comes, in percent of requests.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    /// The write happens, its answer is lost.
    pub(super) answer_lost: u8,
    /// The write never happens, and nobody says so.
    pub(super) write_lost: u8,
    /// The answer is lost, and the write happens later, if its condition still holds.
    pub(super) write_late: u8,
    /// The answer is lost, and the write lies in a socket: other ones overtake it, and then it comes to the leader.
    pub(super) write_held: u8,
    /// A watch ends, of the changes that it sends.
    pub(super) watch_cut: u8,
    /// A watcher waits before a change.
    pub(super) watch_late: u8,
}

/// Kinds of faults.
pub(super) const FAULTS: usize = 6;

struct State {
    log: Vec<Change>,
    faults: Faults,
    counted: [usize; FAULTS],
    random: fastrand::Rng,
    has_quorum: bool,
    length: watch::Sender<usize>,
    // Keys of writes that are still to happen.
    late: HashSet<String>,
    // How many writes lie in sockets.
    held: usize,
    // How late both are; `None`: some turns.
    later: Option<Duration>,
}

/// The bucket; its clones are the same one.
#[derive(Clone)]
pub(super) struct Model(Rc<RefCell<State>>);

impl Model {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Self(Rc::new(RefCell::new(State {
            log: Vec::new(),
            faults,
            counted: [0; FAULTS],
            random: fastrand::Rng::with_seed(seed),
            has_quorum: true,
            length: watch::Sender::new(0),
            late: HashSet::new(),
            held: 0,
            later: None,
        })))
    }

    /// How often each fault came, in the order of [`Faults`].
    pub(super) fn counted(&self) -> [usize; FAULTS] {
        self.0.borrow().counted
    }

    /// Ready once no write is on its way that happens later, whose caller has given it up.
    pub(super) async fn quiet(&self) {
        let is_quiet = |state: &State| state.late.is_empty() && state.held == 0;
        while !is_quiet(&self.0.borrow()) {
            yield_now().await;
        }
    }

    /// Late writes happen after this time.
    pub(super) fn set_late(&self, late: Duration) {
        self.0.borrow_mut().later = Some(late);
    }

    pub(super) fn heal(&self) {
        self.set_faults(Faults::default());
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        self.0.borrow_mut().faults = faults;
    }

    pub(super) fn set_quorum(&self, has_quorum: bool) {
        self.0.borrow_mut().has_quorum = has_quorum;
    }

    /// Loses all changes but the first `kept`, as brokers do after a power cut.
    pub(super) fn truncate(&self, kept: usize) {
        let mut state = self.0.borrow_mut();
        state.log.truncate(kept);
        state.length.send_replace(kept);
    }

    pub(super) fn len(&self) -> usize {
        self.0.borrow().log.len()
    }

    /// Ready once there are as many changes.
    pub(super) async fn reaches(&self, changes: usize) {
        let mut length = self.0.borrow().length.subscribe();
        drop(length.wait_for(|length| *length >= changes).await);
    }

    /// The values of all keys with this prefix.
    pub(super) fn values(&self, prefix: &str) -> Vec<(String, Bytes)> {
        let changes = self.after(Revision::NONE).into_iter();
        let last: BTreeMap<String, Option<Bytes>> =
            changes.map(|change| (change.key, change.value)).collect();
        last.into_iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .filter_map(|(key, value)| Some((key, value?)))
            .collect()
    }

    /// Writes without faults.
    pub(super) fn put(&self, key: &str, value: Option<&[u8]>) -> Revision {
        self.apply(BucketWrite {
            key: key.to_owned(),
            value: value.map(Bytes::copy_from_slice),
            expected: Expected::Any,
        })
        .expect("without a condition")
    }

    /// One node's access to it.
    pub(super) fn connect(&self) -> Bucket {
        let (bucket, end) = channel();
        let model = self.clone();
        spawn_local(async move { model.serve(end.0).await });
        bucket
    }

    async fn serve(self, mut requests: mpsc::Receiver<BucketRequest>) {
        let mut watching: Option<tokio::task::JoinHandle<()>> = None;
        while let Some(request) = requests.recv().await {
            match request {
                BucketRequest::Write(write, answer) => {
                    spawn_local(self.clone().write(write, answer));
                }
                BucketRequest::Inspect(key, answer) => {
                    let last = Revision(self.len().try_into().expect("few"));
                    let mut all = self.after(Revision::NONE).into_iter();
                    let found = all.rfind(|change| change.key == key);
                    let found = found.map(|change| (change.revision, change.value));
                    drop(answer.send(Ok(Inspected { found, last })));
                }
                BucketRequest::Watch(after, changes) => {
                    if let Some(before) = watching.take() {
                        before.abort();
                    }
                    watching = Some(spawn_local(self.clone().feed(after, changes)));
                }
            }
        }
    }

    async fn write(
        self,
        write: BucketWrite,
        answer: oneshot::Sender<Result<Revision, WriteFault>>,
    ) {
        self.pause(8).await;
        let unknown = Err(WriteFault::Unknown("the model says nothing".to_owned()));
        if !self.0.borrow().has_quorum {
            drop(answer.send(unknown));
            return;
        }
        let Faults {
            answer_lost,
            write_lost,
            write_late,
            write_held,
            ..
        } = self.0.borrow().faults;
        if self.comes(1, write_lost) {
            drop(answer.send(unknown));
        } else if self.comes(5, write_held) {
            drop(answer.send(unknown));
            self.0.borrow_mut().held += 1;
            self.pause_late().await;
            self.0.borrow_mut().held -= 1;
            let _too_late = self.apply(write);
        } else if self.0.borrow().late.contains(&write.key) {
            // A leader refuses what comes behind a proposal of the same key that is not committed yet.
            drop(answer.send(Err(WriteFault::Conflict)));
        } else if self.comes(2, write_late) {
            drop(answer.send(unknown));
            self.0.borrow_mut().late.insert(write.key.clone());
            self.pause_late().await;
            self.0.borrow_mut().late.remove(&write.key);
            let _too_late = self.apply(write);
        } else if self.comes(0, answer_lost) {
            let _answer = self.apply(write);
            drop(answer.send(unknown));
        } else {
            let applied = self.apply(write);
            self.pause(8).await;
            drop(answer.send(applied));
        }
    }

    fn apply(&self, write: BucketWrite) -> Result<Revision, WriteFault> {
        let mut state = self.0.borrow_mut();
        let last = state
            .log
            .iter()
            .rev()
            .find(|change| change.key == write.key);
        let holds = match write.expected {
            Expected::Any => true,
            Expected::Unused => last.is_none(),
            Expected::At(revision) => last.is_some_and(|last| last.revision == revision),
        };
        if !holds {
            return Err(WriteFault::Conflict);
        }
        let revision = Revision(u64::try_from(state.log.len()).expect("few") + 1);
        state.log.push(Change {
            revision,
            key: write.key,
            value: write.value,
        });
        let length = state.log.len();
        state.length.send_replace(length);
        Ok(revision)
    }

    /// Each key's latest changes behind a revision, as many as a bucket keeps, in order.
    fn after(&self, after: Revision) -> Vec<Change> {
        let state = self.0.borrow();
        let mut seen: HashMap<&str, i64> = HashMap::new();
        let mut kept: Vec<Change> = Vec::new();
        for change in state.log.iter().rev() {
            let count = seen.entry(&change.key).or_default();
            *count += 1;
            if *count <= BUCKET_HISTORY && change.revision > after {
                kept.push(change.clone());
            }
        }
        kept.reverse();
        kept
    }

    async fn feed(self, mut after: Revision, changes: mpsc::Sender<Change>) {
        let mut length = self.0.borrow().length.subscribe();
        loop {
            let Some(next) = self.after(after).into_iter().next() else {
                let _alive = length.changed().await;
                continue;
            };
            let Faults {
                watch_cut,
                watch_late,
                ..
            } = self.0.borrow().faults;
            if self.comes(3, watch_cut) {
                return;
            }
            if self.comes(4, watch_late) {
                self.pause(100).await;
                continue;
            }
            after = next.revision;
            if changes.send(next).await.is_err() {
                return;
            }
        }
    }

    fn comes(&self, fault: usize, percent: u8) -> bool {
        let mut state = self.0.borrow_mut();
        let comes = state.random.u8(0..100) < percent;
        state.counted[fault] += usize::from(comes);
        comes
    }

    async fn pause_late(&self) {
        let late = self.0.borrow().later;
        match late {
            Some(late) => tokio::time::sleep(late).await,
            None => self.pause(200).await,
        }
    }

    async fn pause(&self, turns_max: usize) {
        let turns = self.0.borrow_mut().random.usize(0..turns_max);
        for _ in 0..turns {
            yield_now().await;
        }
    }
}
