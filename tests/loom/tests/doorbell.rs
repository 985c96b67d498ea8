//! Every interleaving of the doorbell's senders and its receiver. See Cargo.toml for how to run it.
#![cfg(loom)]
#![allow(missing_docs, reason = "a test binary")]

use std::future::poll_fn;
use std::task::{Poll, Waker};

use loom::future::block_on;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

#[path = "../../../src/shard/doorbell.rs"]
#[allow(dead_code, reason = "the server uses more of it")]
mod doorbell;

use doorbell::{Doorbell, Wake};

/// Stands for the eventfd: a readiness that a wake-up sets and the end of a wait clears.
struct Event {
    state: Mutex<Readiness>,
}

#[derive(Default)]
struct Readiness {
    is_readable: bool,
    waiting: Option<Waker>,
    wakes: usize,
}

impl Wake for Event {
    fn wake(&self) {
        let mut state = self.state.lock().unwrap();
        state.wakes += 1;
        state.is_readable = true;
        if let Some(waiting) = state.waiting.take() {
            waiting.wake();
        }
    }
}

impl Event {
    async fn wait(&self) {
        poll_fn(|context| {
            let mut state = self.state.lock().unwrap();
            if std::mem::take(&mut state.is_readable) {
                return Poll::Ready(());
            }
            state.waiting = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A bell, its event, and a mailbox of which the model keeps only the number of items.
struct Receiver {
    bell: Doorbell<std::sync::Arc<Event>>,
    event: std::sync::Arc<Event>,
    items: AtomicUsize,
}

impl Wake for std::sync::Arc<Event> {
    fn wake(&self) {
        Event::wake(self);
    }
}

impl Receiver {
    fn new() -> Arc<Self> {
        let event = std::sync::Arc::new(Event {
            state: Mutex::default(),
        });
        Arc::new(Self {
            bell: Doorbell::with(std::sync::Arc::clone(&event)),
            event,
            items: AtomicUsize::new(0),
        })
    }

    fn push(&self) {
        self.items.fetch_add(1, Ordering::Release);
        self.bell.ring();
    }

    /// Takes items, sleeping between them, until `expected` have arrived.
    fn take(&self, expected: usize) {
        let mut taken = 0;
        loop {
            taken += self.items.swap(0, Ordering::AcqRel);
            if taken == expected {
                return;
            }
            let has_items = || self.items.load(Ordering::Acquire) > 0;
            block_on(self.bell.sleep(has_items, self.event.wait()));
        }
    }
}

/// Runs `model` in every interleaving with at most this many preemptions, so that it ends within seconds.
fn check(preemptions_max: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions_max);
    builder.check(model);
}

/// Goal: no item is left lying while its receiver sleeps. Method: a sender pushes twice; a lost wake-up leaves the
/// receiver asleep for ever, which the model reports as a deadlock.
#[test]
fn no_wake_up_is_lost() {
    check(4, || {
        let receiver = Receiver::new();
        let sender = {
            let receiver = Arc::clone(&receiver);
            thread::spawn(move || {
                receiver.push();
                receiver.push();
            })
        };
        receiver.take(2);
        sender.join().unwrap();
    });
}

/// Goal: the same with two senders, of which each relies on its own push only.
#[test]
fn no_wake_up_is_lost_between_senders() {
    check(3, || {
        let receiver = Receiver::new();
        let senders = [0, 1].map(|_| {
            let receiver = Arc::clone(&receiver);
            thread::spawn(move || receiver.push())
        });
        receiver.take(2);
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

/// Goal: two senders wake a sleeping receiver once, not twice. Method: the receiver sees its mailbox empty and
/// sleeps; both senders push before it runs.
#[test]
fn a_sleeper_is_woken_once() {
    loom::model(|| {
        let receiver = Receiver::new();
        let own = Arc::clone(&receiver);
        let woken = async {
            let senders = [0, 1].map(|_| {
                let receiver = Arc::clone(&own);
                thread::spawn(move || receiver.push())
            });
            for sender in senders {
                sender.join().unwrap();
            }
            own.event.wait().await;
        };
        block_on(receiver.bell.sleep(|| false, woken));
        assert_eq!(receiver.event.state.lock().unwrap().wakes, 1);
    });
}
