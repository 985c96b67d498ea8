//! `uproar cluster init` and `restore` on a bucket in memory.

use std::rc::Rc;

use super::model::{Faults, Model};
use super::nodes::{Node, account, run, secret, store};
use super::{ALL, SEEDS, logging, room};
use crate::control::registry::admin::{AdminError, NodeRecords, Written, init, restore};
use crate::control::registry::{ClusterSecret, Registry};
use crate::durable::faults::Scratch;
use uproar_proto::base::limits::BUCKET_RETRY;

const ROOMS: u128 = 12;

fn records(directory: &Scratch) -> NodeRecords {
    NodeRecords {
        cluster: "main".to_owned(),
        account: account(),
        secret: secret(),
        store: store(directory),
        access_keys: vec![("AKUP1".to_owned(), b"one".to_vec().into())],
        ring: b"ring".to_vec().into(),
        progress: |_, _| (),
    }
}

/// A server alone with some records.
async fn alone() -> Rc<Scratch> {
    let directory = Node::directory();
    let registry = Registry::load(store(&directory)).expect("loads");
    for number in 1..=ROOMS {
        registry.insert(room(number), 100).await.expect("creates");
    }
    registry.insert(logging(1), 10).await.expect("creates");
    directory
}

/// Goal: an `init` that is interrupted anywhere, whatever is lost, makes no registry, and run again makes all of it, once.
#[test]
fn an_interrupted_init_goes_on() {
    for seed in 0..SEEDS {
        run(async move {
            let model = Model::new(seed, ALL);
            let directory = alone().await;
            let bucket = model.connect();
            let interrupted = usize::try_from(seed).expect("small");
            tokio::select! {
                biased;
                () = model.reaches(interrupted) => {}
                done = init(&bucket, records(&directory)) => drop(done.expect("ends")),
            }
            let is_made = !model.values("fact.").is_empty();
            let again = init(&bucket, records(&directory)).await.expect("goes on");
            assert_eq!(again.was_whole, is_made, "seed {seed}");
            model.heal();
            assert_eq!(model.values("room.").len(), 12, "seed {seed}");
            assert_eq!(model.values("").len(), 12 + 1 + 2 + 1, "seed {seed}");
            let node = Node::start_in(&model, "a", Rc::clone(&directory)).await;
            assert_eq!(node.registry.rooms.count(), 12);
            let stranger = alone().await;
            let other = init(&bucket, records(&stranger)).await;
            assert!(matches!(other, Err(AdminError::Exists(_))), "{other:?}");
        });
    }
}

/// Goal: an `init` is not told that somebody else has written what an attempt of its own is about to write. Method: brokers
/// refuse what comes behind a write that happens late.
#[test]
fn an_attempt_of_ones_own_is_nobody_elses() {
    let mut late = 0;
    for seed in 0..SEEDS {
        late += run(async move {
            let model = Model::new(
                seed,
                Faults {
                    write_late: 20,
                    ..Faults::default()
                },
            );
            model.set_late(BUCKET_RETRY * 3 / 2);
            let directory = alone().await;
            let made = init(&model.connect(), records(&directory)).await;
            assert!(made.is_ok(), "seed {seed}: {made:?}");
            model.counted()[2]
        });
    }
    assert!(late > 0, "no write happened late");
}

/// Goal: `restore` puts back what is missing, and nothing that was removed or changed since; every node then has the same.
#[test]
fn a_restore_puts_back_what_is_missing() {
    run(async {
        let model = Model::new(1, Faults::default());
        let directory = alone().await;
        let bucket = model.connect();
        init(&bucket, records(&directory)).await.expect("makes");
        let node = Node::start_in(&model, "a", Rc::clone(&directory)).await;
        let other = Node::start(&model, "b").await;
        let before = model.len();
        node.registry.insert(room(50), 100).await.expect("creates");
        node.registry.insert(room(51), 100).await.expect("creates");
        node.stop().await;
        let nothing = restore(&bucket, records(&directory)).await.expect("whole");
        assert!(nothing.was_whole, "{nothing:?}");
        // The brokers forget the two; and another node removes a third.
        other.stop().await;
        model.truncate(before);
        model.put(&crate::control::registry::key::of_record(room_id(1)), None);
        let restored = restore(&bucket, records(&directory))
            .await
            .expect("restores");
        let expected = Written {
            made: 2,
            found: 12 + 1 + 2,
            was_whole: false,
        };
        assert_eq!(restored, expected);
        let node = Node::start_in(&model, "a", Rc::clone(&directory)).await;
        let fresh = Node::start(&model, "c").await;
        for node in [&node, &fresh] {
            assert_eq!(node.registry.rooms.count(), 13, "{}", node.name);
            assert!(!node.registry.rooms.contains(room_id(1)));
            assert!(node.registry.rooms.contains(room_id(51)));
        }
    });
}

/// Goal: a node with another secret is told so by both commands, and nothing is written.
#[test]
fn another_secret_is_refused() {
    run(async {
        let model = Model::new(1, Faults::default());
        let directory = alone().await;
        let bucket = model.connect();
        init(&bucket, records(&directory)).await.expect("makes");
        let before = model.len();
        let strange = || NodeRecords {
            secret: ClusterSecret::of(&[8; 32]),
            ..records(&directory)
        };
        let again = init(&bucket, strange()).await;
        assert!(
            matches!(again, Err(AdminError::OtherSecret(_))),
            "{again:?}"
        );
        let restored = restore(&bucket, strange()).await;
        assert!(
            matches!(restored, Err(AdminError::OtherSecret(_))),
            "{restored:?}"
        );
        assert_eq!(model.len(), before);
    });
}

fn room_id(number: u128) -> uproar_proto::base::id::RoomId {
    use crate::control::record::Record;
    room(number).id()
}
