//! Bounded mailboxes between threads, and the doorbell that wakes a sleeping one.
//!
//! One single-producer single-consumer queue for each ordered pair; a push costs nanoseconds, and the
//! wake-up (a write to an eventfd, 30-45 µs until the other core runs) happens only when the consumer
//! sleeps, at most once a turn.

use std::collections::VecDeque;
use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use super::doorbell::Doorbell;
use crate::base::limits::{MAILBOX_COMMANDS, MAILBOX_OVERFLOW_MAX};

/// The sending side of one mailbox.
#[derive(Debug)]
pub struct Post<T> {
    queue: Producer<T>,
    // What did not fit; drained first, so that order is kept.
    kept: VecDeque<T>,
    bell: Arc<Doorbell>,
    rung: bool,
}

/// The mailbox and everything its sender may keep are full.
#[derive(Debug)]
pub struct Full<T>(pub T);

impl<T> Post<T> {
    /// Sends `item`. It may wait on this side until [`Post::flush`] finds room.
    pub fn push(&mut self, item: T) -> Result<(), Full<T>> {
        if self.kept.is_empty() {
            match self.queue.push(item) {
                Ok(()) => {}
                Err(rtrb::PushError::Full(item)) => self.kept.push_back(item),
            }
        } else if self.kept.len() < MAILBOX_OVERFLOW_MAX {
            self.kept.push_back(item);
        } else {
            return Err(Full(item));
        }
        self.rung = false;
        Ok(())
    }

    /// Sends `item` only if the mailbox has room for it now.
    pub fn offer(&mut self, item: T) -> Result<(), Full<T>> {
        if !self.kept.is_empty() {
            return Err(Full(item));
        }
        self.queue
            .push(item)
            .map_err(|rtrb::PushError::Full(item)| Full(item))?;
        self.rung = false;
        Ok(())
    }

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
        if !self.rung {
            self.rung = true;
            self.bell.ring();
        }
        !self.kept.is_empty()
    }
}

/// A mailbox: the sender's side and the receiver's. `bell` is the receiver's.
pub fn mailbox<T>(bell: &Arc<Doorbell>) -> (Post<T>, Consumer<T>) {
    let (queue, consumer) = RingBuffer::new(MAILBOX_COMMANDS);
    let post = Post {
        queue,
        kept: VecDeque::new(),
        bell: Arc::clone(bell),
        rung: true,
    };
    (post, consumer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: order is kept through a full queue, and the bound on the sender's side holds.
    #[test]
    fn a_full_mailbox_keeps_order_and_its_bound() {
        let bell = Arc::new(Doorbell::new().expect("an eventfd"));
        let (mut post, mut consumer) = mailbox(&bell);
        let capacity = MAILBOX_COMMANDS + MAILBOX_OVERFLOW_MAX;
        for item in 0..MAILBOX_COMMANDS {
            post.offer(item).expect("room in the queue");
        }
        assert!(matches!(post.offer(0), Err(Full(0))));
        for item in MAILBOX_COMMANDS..capacity {
            post.push(item).expect("below the bound");
        }
        assert!(matches!(post.push(0), Err(Full(0))));
        let mut expected = 0;
        loop {
            while let Ok(item) = consumer.pop() {
                assert_eq!(item, expected);
                expected += 1;
            }
            if !post.flush() && consumer.is_empty() {
                break;
            }
        }
        assert_eq!(expected, capacity);
    }
}
