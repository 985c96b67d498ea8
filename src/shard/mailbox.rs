//! Bounded mailboxes between threads, and the doorbell that wakes a sleeping one.
//!
//! One single-producer single-consumer queue for each ordered pair; a push costs nanoseconds, and the
//! wake-up (a write to an eventfd, 30-45 µs until the other core runs) happens only when the consumer
//! sleeps, at most once a turn.
//!
//! The type of an item decides what a full mailbox does with it, so no sender can forget to:
//! [`Refusable`] items come back to their sender, which answers the cause; [`MustArrive`] items are kept.

use std::collections::VecDeque;
use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use super::doorbell::Doorbell;
use uproar_proto::base::limits::MAILBOX_COMMANDS;

/// An item whose sender can answer its cause with a refusal.
pub trait Refusable {}

/// An item whose loss no thread would notice. It is never lost; in return each source of such items is bounded,
/// or waits while [`MailboxSender::has_room`] is false.
pub trait MustArrive {}

/// The sending side of one mailbox.
#[derive(Debug)]
pub struct MailboxSender<T> {
    queue: Producer<T>,
    // Items that did not fit; sent first, so that order is kept.
    kept: VecDeque<T>,
    bell: Arc<Doorbell>,
    rung: bool,
}

/// The mailbox is full.
#[derive(Debug)]
pub struct Full<T>(pub T);

impl<T: Refusable> MailboxSender<T> {
    /// Sends `item` if the mailbox has room for it now.
    ///
    /// # Errors
    ///
    /// Returns the item if the mailbox is full.
    pub fn offer(&mut self, item: T) -> Result<(), Full<T>> {
        self.queue
            .push(item)
            .map_err(|rtrb::PushError::Full(item)| Full(item))?;
        self.rung = false;
        Ok(())
    }
}

impl<T: MustArrive> MailboxSender<T> {
    /// Sends `item`, in order. While the mailbox is full it is kept on this side, until [`MailboxSender::flush`]
    /// finds room or the receiver's thread has ended.
    #[inline]
    pub fn deliver(&mut self, item: T) {
        if !self.kept.is_empty() {
            self.kept.push_back(item);
        } else if let Err(rtrb::PushError::Full(item)) = self.queue.push(item) {
            self.kept.push_back(item);
        }
        self.rung = false;
    }

    /// Whether nothing is kept. A source that can wait does so until this is true; kept items are then at most
    /// those of one turn.
    pub fn has_room(&self) -> bool {
        self.kept.is_empty()
    }
}

impl<T> MailboxSender<T> {
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
            // The receiver's thread has ended, so no thread takes these items any more.
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

    /// Number of kept items.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }
}

/// A mailbox of the usual size: the sender's side and the receiver's. `bell` is the receiver's.
pub fn mailbox<T>(bell: &Arc<Doorbell>) -> (MailboxSender<T>, Consumer<T>) {
    mailbox_of(bell, MAILBOX_COMMANDS)
}

/// As [`mailbox`], with this many places.
pub fn mailbox_of<T>(bell: &Arc<Doorbell>, places: usize) -> (MailboxSender<T>, Consumer<T>) {
    let (queue, consumer) = RingBuffer::new(places);
    let sender = MailboxSender {
        queue,
        kept: VecDeque::new(),
        bell: Arc::clone(bell),
        rung: true,
    };
    (sender, consumer)
}

/// Capacity for kept items that is not freed.
const KEPT_SPARE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Required(usize);
    impl MustArrive for Required {}

    #[derive(Debug, PartialEq)]
    struct Optional(usize);
    impl Refusable for Optional {}

    fn bell() -> Arc<Doorbell> {
        Arc::new(Doorbell::new().expect("an eventfd"))
    }

    /// Goal: items that must arrive do, in order, however small the mailbox and however late its reader.
    #[test]
    fn items_that_must_arrive_do_in_order() {
        for places in [1, 2, 7] {
            let (mut sender, mut consumer) = mailbox_of(&bell(), places);
            let mut expected = 0;
            for item in 0..1_000 {
                sender.deliver(Required(item));
                assert_eq!(sender.has_room(), sender.kept() == 0);
                if item % 3 == 0 && consumer.pop().is_ok_and(|item| item == Required(expected)) {
                    expected += 1;
                }
                if item % 5 == 0 {
                    sender.flush();
                }
            }
            loop {
                while let Ok(item) = consumer.pop() {
                    assert_eq!(item, Required(expected));
                    expected += 1;
                }
                if !sender.flush() && consumer.is_empty() {
                    break;
                }
            }
            assert_eq!(expected, 1_000);
        }
    }

    /// Goal: a refusable item comes back whole, and a full mailbox keeps none of it.
    #[test]
    fn refusable_items_come_back() {
        let (mut sender, mut consumer) = mailbox_of(&bell(), 2);
        sender.offer(Optional(0)).expect("room");
        sender.offer(Optional(1)).expect("room");
        assert!(matches!(sender.offer(Optional(2)), Err(Full(Optional(2)))));
        assert_eq!(sender.kept(), 0);
        assert_eq!(consumer.pop(), Ok(Optional(0)));
        sender.offer(Optional(3)).expect("room again");
    }

    /// Goal: items for a thread that ended are not kept for ever, and block no sender.
    #[test]
    fn nothing_is_kept_for_an_ended_thread() {
        let (mut sender, consumer) = mailbox_of(&bell(), 1);
        for item in 0..3 {
            sender.deliver(Required(item));
        }
        assert!(sender.flush() && !sender.has_room());
        drop(consumer);
        assert!(!sender.flush() && sender.has_room());
    }
}
