//! The requests of this node to one hash slot, from their arrival to their outcome.
//!
//! A request is kept until its frame is read in the log, its home refuses it, or it is given up. Numbers hold for
//! one epoch: whoever has read a `Takeover` has read everything before it, so what is still kept then is
//! not in the log, and may be numbered anew for the next home. So nothing is lost, and nothing is there twice.
//!
//! Owns: their order, numbers, and what of them the home is known to have.
//! Never: what they ask for, how they are sent.

use std::collections::VecDeque;

use super::message::Ask;
use super::{Epoch, Number};
use crate::base::clock::Tick;
use crate::base::limits::{CLUSTER_BATCH_BYTES_MAX, CLUSTER_KEPT_MAX, CLUSTER_RESEND};

/// A request without outcome.
#[derive(Debug)]
pub(super) struct Kept<T> {
    /// Who waits for the outcome.
    pub waiter: T,
    /// The request.
    pub ask: Ask,
    /// When it came.
    pub asked: Tick,
}

/// Bytes of memory that a kept request takes beside its texts.
const KEPT_BYTES: usize = 128;

impl<T> Kept<T> {
    /// Returns the memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        KEPT_BYTES + self.ask.bytes()
    }
}

/// Requests to send: the number of the first, and the requests; `None`: given up.
pub(super) type Sending = (Number, Vec<Option<Ask>>);

/// The requests to one hash slot that have no outcome, in the order of their arrival.
#[derive(Debug)]
pub(super) struct KeptRequests<T> {
    // Numbers are of this epoch; `None`: of none yet.
    epoch: Option<Epoch>,
    // The numbers from `first` on; `None`: it has its outcome, and its place keeps the numbers in step.
    queue: VecDeque<Option<Kept<T>>>,
    // Number of the queue's front.
    first: u64,
    // Places at the front that are known to be empty, so that nobody passes over them again.
    empty: usize,
    // The home has everything below.
    taken: u64,
    // Everything below was sent in this epoch. Invariant: `taken` <= `sent` <= end of the queue.
    sent: u64,
    // When the epoch began, or the home was asked again last.
    asked_again: Tick,
    // Invariant: the number of requests in the queue.
    count: usize,
}

impl<T> Default for KeptRequests<T> {
    fn default() -> Self {
        Self {
            epoch: None,
            queue: VecDeque::new(),
            first: Number::FIRST.0,
            empty: 0,
            taken: Number::FIRST.0,
            sent: Number::FIRST.0,
            asked_again: Tick::default(),
            count: 0,
        }
    }
}

impl<T> KeptRequests<T> {
    /// Number of requests.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Keeps a request, unsent.
    pub(super) fn push(&mut self, kept: Kept<T>) {
        self.queue.push_back(Some(kept));
        self.count += 1;
    }

    /// The oldest number whose outcome is not known.
    pub(super) fn oldest(&self) -> Number {
        Number(self.first)
    }

    /// Takes a request that has its outcome, if it was sent and is still kept.
    pub(super) fn take(&mut self, number: Number) -> Option<Kept<T>> {
        if number.0 >= self.sent {
            return None;
        }
        let index = number.0.checked_sub(self.first)?;
        let found = self.queue.get_mut(usize::try_from(index).ok()?)?.take();
        self.count -= usize::from(found.is_some());
        // The home takes requests in order.
        self.taken = self.taken.max(number.0 + 1);
        self.trim();
        found
    }

    /// Learns that the home has all requests below `next`, and wants this one; whether it must be sent again.
    pub(super) fn have(&mut self, next: Number) -> bool {
        if next.0 < self.taken || next.0 > self.sent {
            return false;
        }
        let is_progress = next.0 > self.taken;
        self.taken = next.0;
        self.trim();
        // What was sent behind a lost message is of no use to the home. One answer causes one message.
        is_progress && self.taken < self.sent
    }

    /// Whether something was never sent in this epoch.
    pub(super) fn is_unsent(&self) -> bool {
        self.sent < self.end()
    }

    /// Takes what was not sent yet, as much as a message may hold, and marks it as sent.
    pub(super) fn send(&mut self) -> Option<Sending> {
        self.is_unsent().then(|| {
            let (first, requests) = self.collect(self.sent);
            self.sent = first.0 + count(requests.len());
            (first, requests)
        })
    }

    /// When to ask the home again, because the oldest request waits for long; `None` while nothing that was sent waits.
    pub(super) fn resend_due(&self) -> Option<Tick> {
        let oldest = self.oldest_kept()?;
        let since = oldest.asked.max(self.asked_again);
        (self.first < self.sent).then(|| since.after(CLUSTER_RESEND))
    }

    /// Takes what was sent and is not known to be taken, as much as a message may hold; nothing, if all of it is taken: then
    /// the empty message asks for refusals that were lost.
    pub(super) fn resend(&mut self, now: Tick) -> Sending {
        self.asked_again = now;
        let (first, mut requests) = self.collect(self.taken);
        let sent = usize::try_from(self.sent - first.0).unwrap_or(usize::MAX);
        requests.truncate(sent);
        (first, requests)
    }

    /// An epoch begins: requests are numbered from 1, and none is sent. But numbers of an epoch that is found again hold on: its
    /// home knows them.
    pub(super) fn begin(&mut self, epoch: Epoch, now: Tick) {
        if self.epoch != Some(epoch) {
            self.over(now);
            self.epoch = Some(epoch);
        }
    }

    /// The epoch is over for good: requests that are kept are not in it.
    pub(super) fn over(&mut self, now: Tick) {
        self.epoch = None;
        self.asked_again = now;
        self.queue.retain(Option::is_some);
        self.empty = 0;
        self.first = Number::FIRST.0;
        self.taken = self.first;
        self.sent = self.first;
    }

    /// Takes the oldest request if it is to be given up.
    pub(super) fn expire(&mut self, now: Tick) -> Option<Kept<T>> {
        self.trim();
        while self.queue.get(self.empty).is_some_and(Option::is_none) {
            self.empty += 1;
        }
        let oldest = self.queue.get_mut(self.empty)?;
        let expired = oldest.take_if(|kept| kept.asked.after(CLUSTER_KEPT_MAX) <= now)?;
        self.count -= 1;
        self.trim();
        Some(expired)
    }

    /// When to call [`KeptRequests::expire`].
    pub(super) fn expiry_due(&self) -> Option<Tick> {
        let oldest = self.oldest_kept()?;
        Some(oldest.asked.after(CLUSTER_KEPT_MAX))
    }

    /// Takes the requests of these waiters that were sent in this epoch: what became of them cannot be known any more.
    pub(super) fn drain_sent(&mut self, whose: impl Fn(&T) -> bool) -> Vec<Kept<T>> {
        let sent = usize::try_from(self.sent - self.first).unwrap_or(usize::MAX);
        let places = self.queue.iter_mut().take(sent);
        let found = places.filter_map(|place| place.take_if(|kept| whose(&kept.waiter)));
        let found: Vec<_> = found.collect();
        self.count -= found.len();
        found
    }

    fn oldest_kept(&self) -> Option<&Kept<T>> {
        self.queue.iter().skip(self.empty).flatten().next()
    }

    fn end(&self) -> u64 {
        self.first + count(self.queue.len())
    }

    /// The requests from `number` on, as much as a message may hold, and at least one.
    fn collect(&self, number: u64) -> Sending {
        let start = usize::try_from(number - self.first).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let places = self.queue.iter().skip(start);
        let fitting = places.take_while(|place| {
            let before = bytes;
            bytes += place.as_ref().map_or(16, |kept| kept.ask.bytes());
            before == 0 || bytes <= CLUSTER_BATCH_BYTES_MAX
        });
        let requests = fitting.map(|place| place.as_ref().map(|kept| kept.ask.clone()));
        (Number(number), requests.collect())
    }

    /// Drops places at the front that nobody needs. One that the home has not taken is needed: it is told that the request
    /// was given up.
    fn trim(&mut self) {
        while self.first < self.taken && self.queue.front().is_some_and(Option::is_none) {
            self.queue.pop_front();
            self.empty = self.empty.saturating_sub(1);
            self.first += 1;
        }
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).expect("a queue is shorter than 2^64")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{FrameId, RoomId};
    use crate::cluster::message::{AskKind, AskTexts};
    use crate::extension::Speaker;

    fn kept(waiter: u32, asked: Tick) -> Kept<u32> {
        let ask = Ask {
            room: RoomId::from_random(1),
            id: FrameId::from_random(waiter.into()),
            kind: AskKind::SendMessage,
            is_from_api: false,
            speaker: Speaker::default(),
            is_exempt: false,
            texts: AskTexts::new(&mut bytes::BytesMut::new(), ["a", "", "", "", ""]),
        };
        Kept { waiter, ask, asked }
    }

    fn at(millis: u64) -> Tick {
        Tick::from_nanos(millis * 1_000_000)
    }

    fn three() -> KeptRequests<u32> {
        let mut requests = KeptRequests::default();
        for waiter in 0..3 {
            requests.push(kept(waiter, at(0)));
        }
        requests
    }

    fn ids((first, requests): Sending) -> (u64, Vec<Option<FrameId>>) {
        let ids = requests.into_iter().map(|ask| ask.map(|ask| ask.id));
        (first.0, ids.collect())
    }

    #[expect(clippy::unnecessary_wraps, reason = "as what it is compared with")]
    fn id(waiter: u32) -> Option<FrameId> {
        Some(FrameId::from_random(waiter.into()))
    }

    /// Goal: a new epoch numbers what is left from 1, in the old order; what came in the old epoch's numbers is not
    /// taken for it before it is sent again.
    #[test]
    fn a_new_epoch_numbers_what_is_left() {
        let mut requests = three();
        assert_eq!(
            ids(requests.send().expect("three")),
            (1, vec![id(0), id(1), id(2)])
        );
        assert_eq!(requests.take(Number(2)).map(|kept| kept.waiter), Some(1));
        assert!(requests.take(Number(2)).is_none(), "once");
        requests.begin(Epoch(7), at(2));
        assert!(requests.take(Number(1)).is_none(), "not sent in this epoch");
        assert_eq!(ids(requests.send().expect("two")), (1, vec![id(0), id(2)]));
        assert_eq!(requests.take(Number(2)).map(|kept| kept.waiter), Some(2));
        assert_eq!((requests.len(), requests.oldest()), (1, Number(1)));
    }

    /// Goal: only what the home is not known to have goes again; a lost message is made good at once, but one answer
    /// causes one.
    #[test]
    fn what_the_home_has_is_not_sent_again() {
        let mut requests = three();
        let _first = requests.send();
        assert_eq!(requests.resend_due(), Some(at(500)));
        assert_eq!(
            ids(requests.resend(at(500))),
            (1, vec![id(0), id(1), id(2)])
        );
        assert!(requests.have(Number(2)), "the rest is wanted");
        assert_eq!(ids(requests.resend(at(500))), (2, vec![id(1), id(2)]));
        assert!(!requests.have(Number(2)), "said before");
        assert!(!requests.have(Number(9)), "never sent");
        assert!(!requests.have(Number(4)), "it has all");
        assert_eq!(requests.resend_due(), Some(at(1000)));
        assert_eq!(
            ids(requests.resend(at(1102))),
            (4, vec![]),
            "asks for refusals"
        );
        assert_eq!(requests.len(), 3, "none has its outcome");
    }

    /// Goal: a request that is given up before the home took it leaves its number, so that the home does not wait for it.
    #[test]
    fn a_request_given_up_keeps_its_number() {
        let mut requests = KeptRequests::default();
        requests.push(kept(0, at(0)));
        requests.push(kept(1, at(9_000)));
        let _lost = requests.send();
        let late = Tick::default().after(CLUSTER_KEPT_MAX);
        assert_eq!(requests.expiry_due(), Some(late));
        assert_eq!(requests.expire(late).map(|kept| kept.waiter), Some(0));
        assert!(requests.expire(late).is_none());
        assert_eq!(ids(requests.resend(late)), (1, vec![None, id(1)]));
        assert!(!requests.have(Number(3)));
        assert_eq!(requests.oldest(), Number(2));
        assert_eq!(requests.take(Number(2)).map(|kept| kept.waiter), Some(1));
        assert_eq!(requests.resend_due(), None);
    }

    /// Goal: behind a hole in the log only what was sent is without an outcome.
    #[test]
    fn what_was_never_sent_survives_a_hole() {
        let mut requests = three();
        let _sent = requests.send();
        requests.push(kept(3, at(1)));
        let lost: Vec<_> = requests
            .drain_sent(|waiter| *waiter != 1)
            .into_iter()
            .map(|kept| kept.waiter)
            .collect();
        assert_eq!(lost, [0, 2], "whom it may be asked of twice is not told");
        requests.begin(Epoch(7), at(2));
        assert_eq!(ids(requests.send().expect("two")), (1, vec![id(1), id(3)]));
        assert_eq!(requests.len(), 2);
    }

    /// Goal: a message holds no more than brokers take, and at least one request.
    #[test]
    fn a_message_has_a_bound() {
        let mut requests = KeptRequests::default();
        let mut buffer = bytes::BytesMut::new();
        let large = "x".repeat(CLUSTER_BATCH_BYTES_MAX / 2);
        for waiter in 0..3 {
            let mut kept = kept(waiter, at(0));
            kept.ask.texts = AskTexts::new(&mut buffer, [&large, "", "", "", ""]);
            requests.push(kept);
        }
        for first in 1..=3 {
            let (number, sending) = requests.send().expect("one each");
            assert_eq!((number.0, sending.len()), (first, 1));
        }
        assert!(requests.send().is_none());
    }
}
