//! Bounded mailboxes between threads, and the doorbell that wakes a sleeping one.
//!
//! One single-producer single-consumer queue for each ordered pair; a push costs nanoseconds, and the
//! wake-up (a write to an eventfd, 30-45 µs until the other core runs) happens only when the consumer
//! sleeps, at most once a turn.
//!
//! What becomes of mail for a full mailbox is decided by its type, so that no sender can forget to:
//! [`Refusable`] mail comes back to its sender, who answers for it; [`MustArrive`] mail never does.

use std::collections::VecDeque;
use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use super::doorbell::Doorbell;
use crate::base::limits::MAILBOX_COMMANDS;

/// Mail that its sender can refuse to whoever caused it.
pub trait Refusable {}

/// Mail whose loss nobody would notice. It is never lost; in return each of its sources is bounded, or
/// waits while [`Post::has_room`] says no.
pub trait MustArrive {}

/// The sending side of one mailbox.
#[derive(Debug)]
pub struct Post<T> {
    queue: Producer<T>,
    // What did not fit; drained first, so that order is kept.
    kept: VecDeque<T>,
    bell: Arc<Doorbell>,
    rung: bool,
}

/// The mailbox is full.
#[derive(Debug)]
pub struct Full<T>(pub T);

impl<T: Refusable> Post<T> {
    /// Sends `item` if the mailbox has room for it now.
    ///
    /// # Errors
    ///
    /// Gives it back if there is none.
    pub fn offer(&mut self, item: T) -> Result<(), Full<T>> {
        self.queue
            .push(item)
            .map_err(|rtrb::PushError::Full(item)| Full(item))?;
        self.rung = false;
        Ok(())
    }
}

impl<T: MustArrive> Post<T> {
    /// Sends `item`, in order. While the mailbox is full it is kept on this side, until [`Post::flush`]
    /// finds room or the receiver's thread has ended.
    pub fn deliver(&mut self, item: T) {
        if !self.kept.is_empty() {
            self.kept.push_back(item);
        } else if let Err(rtrb::PushError::Full(item)) = self.queue.push(item) {
            self.kept.push_back(item);
        }
        self.rung = false;
    }

    /// Whether nothing is kept. A source that can wait does, until it is so: then what is kept is at
    /// most what one turn has to say.
    pub fn has_room(&self) -> bool {
        self.kept.is_empty()
    }
}

impl<T> Post<T> {
    /// Moves kept items on and wakes the receiver if it sleeps. Call at the end of a turn.
    /// Returns whether anything is still kept.
    pub fn flush(&mut self) -> bool {
        while let Some(item) = self.kept.pop_front() {
            if let Err(rtrb::PushError::Full(item)) = self.queue.push(item) {
                self.kept.push_front(item);
                break;
            }
            self.rung = false;
        }
        if !self.kept.is_empty() && self.queue.is_abandoned() {
            // The receiver ended: at the end of the process nobody is left to hear it.
            self.kept.clear();
        }
        if self.kept.is_empty() && self.kept.capacity() > KEPT_SPARE {
            self.kept = VecDeque::new();
        }
        if !self.rung {
            self.rung = true;
            self.bell.ring();
        }
        !self.kept.is_empty()
    }

    /// How much is kept.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }
}

/// A mailbox of the usual size: the sender's side and the receiver's. `bell` is the receiver's.
pub fn mailbox<T>(bell: &Arc<Doorbell>) -> (Post<T>, Consumer<T>) {
    mailbox_of(bell, MAILBOX_COMMANDS)
}

/// As [`mailbox`], with so many places.
pub fn mailbox_of<T>(bell: &Arc<Doorbell>, places: usize) -> (Post<T>, Consumer<T>) {
    let (queue, consumer) = RingBuffer::new(places);
    let post = Post {
        queue,
        kept: VecDeque::new(),
        bell: Arc::clone(bell),
        rung: true,
    };
    (post, consumer)
}

/// Places for kept items whose memory stays.
const KEPT_SPARE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Order(usize);
    impl MustArrive for Order {}

    #[derive(Debug, PartialEq)]
    struct Wish(usize);
    impl Refusable for Wish {}

    fn bell() -> Arc<Doorbell> {
        Arc::new(Doorbell::new().expect("an eventfd"))
    }

    /// Goal: what must arrive does, in order, however small the mailbox and however late its reader.
    #[test]
    fn what_must_arrive_does_in_order() {
        for places in [1, 2, 7] {
            let (mut post, mut consumer) = mailbox_of(&bell(), places);
            let mut expected = 0;
            for item in 0..1_000 {
                post.deliver(Order(item));
                assert_eq!(post.has_room(), post.kept() == 0);
                if item % 3 == 0 && consumer.pop().is_ok_and(|order| order == Order(expected)) {
                    expected += 1;
                }
                if item % 5 == 0 {
                    post.flush();
                }
            }
            loop {
                while let Ok(item) = consumer.pop() {
                    assert_eq!(item, Order(expected));
                    expected += 1;
                }
                if !post.flush() && consumer.is_empty() {
                    break;
                }
            }
            assert_eq!(expected, 1_000);
        }
    }

    /// Goal: what can be refused comes back whole, and a full mailbox keeps none of it.
    #[test]
    fn what_can_be_refused_comes_back() {
        let (mut post, mut consumer) = mailbox_of(&bell(), 2);
        post.offer(Wish(0)).expect("room");
        post.offer(Wish(1)).expect("room");
        assert!(matches!(post.offer(Wish(2)), Err(Full(Wish(2)))));
        assert_eq!(post.kept(), 0);
        assert_eq!(consumer.pop(), Ok(Wish(0)));
        post.offer(Wish(3)).expect("room again");
    }

    /// Goal: mail for a thread that ended is not kept for ever, and holds nobody up.
    #[test]
    fn nothing_is_kept_for_the_dead() {
        let (mut post, consumer) = mailbox_of(&bell(), 1);
        for item in 0..3 {
            post.deliver(Order(item));
        }
        assert!(post.flush() && !post.has_room());
        drop(consumer);
        assert!(!post.flush() && post.has_room());
    }
}
