//! Every interleaving of the doorbell. See Cargo.toml for how to run it.
#![cfg(loom)]
#![allow(missing_docs, reason = "a test binary")]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

#[path = "../../../src/shard/doorbell.rs"]
#[allow(dead_code, reason = "the server uses more of it")]
mod doorbell;

use doorbell::Sleep;

/// Goal: mail is never left lying while its receiver sleeps. Method: the receiver announces sleep and
/// looks once more; it sleeps only if it saw nothing, and then the sender must have rung.
#[test]
fn no_wake_up_is_lost() {
    loom::model(|| {
        let sleep = Arc::new(Sleep::default());
        let mail = Arc::new(AtomicBool::new(false));
        let rings = Arc::new(AtomicUsize::new(0));
        let sender = {
            let (sleep, mail, rings) = (Arc::clone(&sleep), Arc::clone(&mail), Arc::clone(&rings));
            thread::spawn(move || {
                mail.store(true, Ordering::Release);
                if sleep.must_wake() {
                    rings.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        sleep.announce();
        let saw_mail = mail.load(Ordering::Acquire);
        sender.join().unwrap();
        assert!(
            saw_mail || rings.load(Ordering::Relaxed) == 1,
            "asleep beside unread mail"
        );
    });
}

/// Goal: two senders wake a sleeping receiver once, not twice.
#[test]
fn a_sleeper_is_woken_once() {
    loom::model(|| {
        let sleep = Arc::new(Sleep::default());
        sleep.announce();
        let rings = Arc::new(AtomicUsize::new(0));
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let (sleep, rings) = (Arc::clone(&sleep), Arc::clone(&rings));
                thread::spawn(move || {
                    if sleep.must_wake() {
                        rings.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.join().unwrap();
        }
        assert_eq!(rings.load(Ordering::Relaxed), 1);
    });
}
