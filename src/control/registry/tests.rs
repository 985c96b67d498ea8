//! Three registries on one bucket in memory, with its faults, by seeds.

mod admin;
mod model;
mod nodes;

use std::cell::Cell;
use std::rc::Rc;

use super::*;
use crate::control::fault::Fault;
use crate::control::record::{Destination, ExtensionRecord, ResourceHeader};
use crate::control::store::Table;
use model::{FAULTS, Faults, Model};
use nodes::{Node, account, facts, run};

const SEEDS: u64 = 12;

const ALL: Faults = Faults {
    answer_lost: 8,
    write_lost: 8,
    write_late: 8,
    write_held: 8,
    watch_cut: 3,
    watch_late: 20,
};

fn room(number: u128) -> RoomRecord {
    RoomRecord {
        header: ResourceHeader::new(RoomId::from_random(number), 1_000),
        message_rate: 10,
        message_length: 500,
        handler: None,
        logging: None,
        extension: ExtensionRecord::default(),
    }
}

fn logging(number: u128) -> LoggingRecord {
    LoggingRecord {
        header: ResourceHeader::new(LoggingId::from_random(number), 1_000),
        destination: Destination::S3 {
            bucket_name: "logs".to_owned(),
        },
        state: LoggingState::Active,
    }
}

async fn three(model: &Model) -> Vec<Node> {
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        nodes.push(Node::start(model, name).await);
    }
    nodes
}

/// Runs the futures at once, and returns what they return.
async fn all<T: 'static>(
    work: impl IntoIterator<Item = impl Future<Output = T> + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = work.into_iter().map(tokio::task::spawn_local).collect();
    let mut done = Vec::new();
    for task in tasks {
        done.push(task.await.expect("no panic"));
    }
    done
}

/// All nodes have what the bucket has: in memory, in the database, and at the shards.
async fn same_everywhere(model: &Model, nodes: &[Node]) {
    model.heal();
    model.quiet().await;
    let rooms = model.values("room.");
    for node in nodes {
        node.registry.barrier().await.expect("a quorum");
        let replica = node.registry.replica().expect("of a cluster");
        replica.settled(replica.applied()).await;
        let mut found = node
            .registry
            .rooms
            .each(|room| serde_json::to_vec(room).expect("JSON"));
        let mut expected: Vec<Vec<u8>> = rooms.iter().map(|(_, value)| value.to_vec()).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "memory of {}", node.name);
        let mut shards = node.shards();
        let mut expected = node.registry.room_settings();
        shards.sort_by_key(|(id, _)| *id);
        expected.sort_by_key(|(id, _)| *id);
        assert_eq!(shards, expected, "shards of {}", node.name);
    }
}

/// Goal: a room that a call removes is not said never to have been there, whatever becomes of the attempts. Method: nodes
/// remove rooms that nobody else removes, while writes happen late and brokers refuse what comes behind them.
#[test]
fn a_removal_that_happens_late_is_still_this_removal() {
    for seed in 0..SEEDS {
        run(async move {
            let model = Model::new(seed, Faults::default());
            facts(&model);
            let nodes = three(&model).await;
            for number in 1..=8 {
                let created = nodes[0].registry.insert(room(number), 10).await;
                created.expect("creates");
            }
            model.set_faults(Faults {
                write_late: 40,
                ..ALL
            });
            model.set_late(8 * replica::RETRY);
            for number in 1..=8 {
                let node = &nodes[usize::try_from(number % 3).expect("few")];
                node.registry.barrier().await.expect("in time");
                let removed = node.registry.remove_room(room(number).id()).await;
                assert!(removed.expect("in time"), "seed {seed}, room {number}");
            }
            same_everywhere(&model, &nodes).await;
        });
    }
}

/// Goal: changes of one room on all nodes at once lose nothing, whatever is lost between nodes and brokers; an
/// acknowledged one is there. Method: each node adds tags of its own; in the end all nodes have all of them.
#[test]
fn updates_on_all_nodes_at_once_lose_nothing() {
    let mut counted = [0; FAULTS];
    for seed in 0..SEEDS {
        let counts = run(async move {
            let model = Model::new(seed, Faults::default());
            facts(&model);
            let nodes = three(&model).await;
            let id = room(1).id();
            nodes[0]
                .registry
                .insert(room(1), 10)
                .await
                .expect("creates");
            model.set_faults(ALL);
            let edits = nodes
                .iter()
                .flat_map(|node| (0..6).map(move |number| (node, number)));
            let edits = edits.map(|(node, number)| {
                let (registry, tag) = (Rc::clone(&node.registry), format!("{}{number}", node.name));
                async move {
                    let add = |room: &mut RoomRecord| {
                        room.header.tags.insert(tag.clone(), String::new());
                        Ok(())
                    };
                    // A node that has not seen the creation yet asks for it.
                    registry.barrier().await.expect("in time");
                    let edited = registry.edit(id, add).await.expect("in time");
                    edited.map(|_| tag)
                }
            });
            let done = all(edits.collect::<Vec<_>>()).await;
            let tags: Vec<String> = done
                .into_iter()
                .map(|tag| tag.expect("the room is there"))
                .collect();
            same_everywhere(&model, &nodes).await;
            let found = nodes[1].registry.rooms.get(id).expect("there");
            assert_eq!(found.header.tags.len(), 18, "seed {seed}");
            assert!(
                tags.iter().all(|tag| found.header.tags.contains_key(tag)),
                "seed {seed}"
            );
            model.counted()
        });
        counted
            .iter_mut()
            .zip(counts)
            .for_each(|(sum, count)| *sum += count);
    }
    assert!(
        counted.iter().all(|count| *count > 0),
        "no such fault: {counted:?}"
    );
}

/// Goal: what one node has answered, every other node reads at once, and what it has deleted is gone.
#[test]
fn a_read_on_another_node_sees_what_was_answered() {
    for seed in 0..SEEDS {
        run(async move {
            let model = Model::new(seed, ALL);
            facts(&model);
            let nodes = three(&model).await;
            for number in 0..8 {
                let (writer, reader) = (number % 3, (number + 1) % 3);
                let record = room(u128::try_from(number).expect("small") + 1);
                let id = record.id();
                let [writer, reader] = [writer, reader].map(|index| &nodes[index].registry);
                writer.insert(record, 10).await.expect("creates");
                reader.barrier().await.expect("in time");
                assert!(reader.rooms.contains(id), "seed {seed}");
                assert!(reader.remove_room(id).await.expect("in time"));
                writer.barrier().await.expect("in time");
                assert!(!writer.rooms.contains(id), "seed {seed}");
                assert!(!writer.remove_room(id).await.expect("in time"));
            }
            same_everywhere(&model, &nodes).await;
        });
    }
}

/// Goal: a quota holds over all nodes, exactly: as many creations succeed as there are places, and those are there.
#[test]
fn a_quota_holds_over_all_nodes() {
    for seed in 0..SEEDS {
        run(async move {
            let model = Model::new(seed, ALL);
            facts(&model);
            let nodes = three(&model).await;
            let work = (1..=12_u128).map(|number| {
                let registry =
                    Rc::clone(&nodes[usize::try_from(number % 3).expect("small")].registry);
                async move {
                    registry
                        .insert(room(number), 5)
                        .await
                        .map(|()| room(number).id())
                }
            });
            let done = all(work.collect::<Vec<_>>()).await;
            let made: Vec<RoomId> = done.into_iter().flatten().collect();
            same_everywhere(&model, &nodes).await;
            assert_eq!(made.len(), 5, "seed {seed}");
            let there = |id: &RoomId| nodes[2].registry.rooms.contains(*id);
            let missing: Vec<_> = made.iter().filter(|id| !there(id)).collect();
            let count = nodes[2].registry.rooms.count();
            assert_eq!((count, missing), (5, Vec::new()), "seed {seed}");
        });
    }
}

/// Goal: no room names a logging configuration that is gone, whoever deletes it and whoever names it at the same time;
/// and each is told what came of it.
#[test]
fn a_deletion_and_rooms_that_name_it_exclude_each_other() {
    let (mut deleted, mut kept) = (0, 0);
    for seed in 0..2 * SEEDS {
        let was_deleted = run(async move {
            let model = Model::new(seed, ALL);
            facts(&model);
            let nodes = three(&model).await;
            let (id, account) = (logging(9).id(), account());
            let arn = account.arn(id);
            nodes[0]
                .registry
                .insert(logging(9), 10)
                .await
                .expect("creates");
            nodes[1]
                .registry
                .insert(room(1), 10)
                .await
                .expect("creates");
            let (deleter, namer, creator) = (&nodes[0], &nodes[1], &nodes[2]);
            let (registry, text) = (Rc::clone(&deleter.registry), arn.clone());
            // Every third time each of them has the first word; else chance decides.
            let (is_named, was_named) = (Rc::new(Cell::new(false)), seed % 3 == 1);
            let until_named = Rc::clone(&is_named);
            let delete = tokio::task::spawn_local(async move {
                while was_named && !until_named.get() {
                    tokio::task::yield_now().await;
                }
                registry.remove_logging(&text, id).await
            });
            while seed % 3 == 0 && !delete.is_finished() {
                tokio::task::yield_now().await;
            }
            let (registry, text, own) = (Rc::clone(&namer.registry), arn.clone(), account.clone());
            let name = tokio::task::spawn_local(async move {
                let named = async {
                    let attaching = registry.attach(&own, std::slice::from_ref(&text)).await?;
                    let change = |room: &mut RoomRecord| room.logging = Some(vec![text.clone()]);
                    registry
                        .change_room(room(1).id(), 2_000, attaching, change)
                        .await
                };
                let named = named.await;
                is_named.set(true);
                named
            });
            let (registry, text, own) =
                (Rc::clone(&creator.registry), arn.clone(), account.clone());
            let create = tokio::task::spawn_local(async move {
                let attaching = registry.attach(&own, std::slice::from_ref(&text)).await?;
                let mut new = room(2);
                new.logging = Some(vec![text]);
                registry.insert_room(&new, attaching, 10).await
            });
            let deleted = delete.await.expect("no panic");
            let (named, created) = (
                name.await.expect("no panic"),
                create.await.expect("no panic"),
            );
            same_everywhere(&model, &nodes).await;
            let registry = &nodes[0].registry;
            let exists = registry.logging.contains(id);
            let names = |id| {
                registry
                    .rooms
                    .get(id)
                    .is_some_and(|room| room.logging == Some(vec![arn.clone()]))
            };
            assert_eq!(deleted.is_ok(), !exists, "seed {seed}: {deleted:?}");
            assert_eq!(named.is_ok(), names(room(1).id()), "seed {seed}: {named:?}");
            assert_eq!(
                created.is_ok(),
                names(room(2).id()),
                "seed {seed}: {created:?}"
            );
            if exists {
                let state = registry.logging.get(id).map(|record| record.state);
                assert_eq!(state, Some(LoggingState::Active), "seed {seed}");
            } else {
                assert!(named.is_err() && created.is_err(), "seed {seed}");
            }
            !exists
        });
        deleted += usize::from(was_deleted);
        kept += usize::from(!was_deleted);
    }
    assert!(deleted > 0 && kept > 0, "{deleted} deleted, {kept} kept");
}

/// Goal: a deletion that nobody else interferes with is no conflict, whatever becomes of its attempts, and leaves no mark. Method:
/// writes happen late, and brokers refuse what comes behind them; beside that one of six deleters dies with its mark.
#[test]
fn a_deletion_is_not_its_own_conflict() {
    let mut late = 0;
    for seed in 0..SEEDS {
        late += run(async move {
            let model = Model::new(seed, Faults::default());
            facts(&model);
            let nodes = three(&model).await;
            model.set_late(8 * replica::RETRY);
            for number in 1..=6 {
                let (id, node) = (logging(number).id(), &nodes[0].registry);
                model.set_faults(Faults::default());
                node.insert(logging(number), 10).await.expect("creates");
                model.set_faults(Faults {
                    write_late: 40,
                    ..ALL
                });
                let arn = account().arn(id);
                if number == 6 {
                    let mut marked = logging(number);
                    marked.state = LoggingState::Deleting;
                    let value = serde_json::to_vec(&marked).expect("JSON");
                    model.put(&key::of_record(id), Some(&value));
                    continue;
                }
                let removed = node.remove_logging(&arn, id).await;
                assert!(matches!(removed, Ok(true)), "seed {seed}: {removed:?}");
            }
            model.quiet().await;
            model.heal();
            let ends = async {
                while !model.values("log").is_empty() {
                    tokio::time::sleep(10 * replica::RETRY).await;
                }
            };
            let patience = std::time::Duration::from_secs(10);
            let _ended = tokio::time::timeout(patience, ends).await;
            let left = model.values("log");
            assert!(left.is_empty(), "seed {seed}: {left:?}");
            model.counted()[2]
        });
    }
    assert!(late > 0, "no write happened late");
}

/// Goal: without a quorum reads and writes are refused with 500, and work again after it; what was refused and has
/// happened after all is on all nodes.
#[test]
fn without_a_quorum_calls_are_refused() {
    run(async {
        let model = Model::new(1, Faults::default());
        facts(&model);
        let nodes = three(&model).await;
        nodes[0]
            .registry
            .insert(room(1), 10)
            .await
            .expect("creates");
        model.set_quorum(false);
        let registry = &nodes[1].registry;
        let (read, written) = tokio::join!(registry.barrier(), registry.insert(room(2), 10));
        assert_eq!(
            (read, written),
            (Err(Fault::Internal), Err(Fault::Internal))
        );
        model.set_quorum(true);
        registry.insert(room(3), 10).await.expect("creates");
        same_everywhere(&model, &nodes).await;
    });
}

/// Goal: a node that was away finds in its database what it had, and gets only what has changed since, deletions too.
#[test]
fn a_node_that_was_away_catches_up() {
    run(async {
        let model = Model::new(1, Faults::default());
        facts(&model);
        let away = Node::start(&model, "a").await;
        let (directory, stays) = (Rc::clone(&away.directory), Node::start(&model, "b").await);
        for number in 1..=3 {
            away.registry
                .insert(room(number), 10)
                .await
                .expect("creates");
        }
        away.stop().await;
        assert!(
            stays
                .registry
                .remove_room(room(2).id())
                .await
                .expect("in time")
        );
        stays.registry.insert(room(4), 10).await.expect("creates");
        let back = Node::start_in(&model, "a", Rc::clone(&directory)).await;
        same_everywhere(&model, &[stays, back]).await;
    });
}

/// Goal: a node whose brokers have lost acknowledged changes does not follow them: it says so and what to do, at its
/// start and while it runs; once the bucket was restored, it has what the bucket has.
#[test]
fn a_bucket_that_went_back_is_not_followed() {
    run(async {
        let model = Model::new(1, Faults::default());
        facts(&model);
        let node = Node::start(&model, "a").await;
        let directory = Rc::clone(&node.directory);
        for number in 1..=3 {
            node.registry
                .insert(room(number), 10)
                .await
                .expect("creates");
        }
        let kept = model.len() - 1;
        let stays = Node::start(&model, "b").await;
        node.stop().await;
        model.truncate(kept);
        let back = Node::new(&model, "a", Rc::clone(&directory));
        let reason = back.stale_because("uproar cluster restore").await;
        assert!(reason.contains("lost acknowledged writes"), "{reason}");
        // The other one finds out by what it is answered.
        assert_eq!(stays.registry.barrier().await, Err(Fault::Internal));
        stays.stale_because("uproar cluster restore").await;
        let mut restored = nodes::facts_of_tests();
        restored.era += 1;
        model.put(
            "fact.cluster",
            Some(&serde_json::to_vec(&restored).expect("JSON")),
        );
        for node in [&back, &stays] {
            node.current().await;
        }
        same_everywhere(&model, &[back, stays]).await;
    });
}

/// Goal: a new record never takes the place of one with its id. Method: two creations of one id at once, and a third.
#[test]
fn a_creation_replaces_nothing() {
    run(async {
        let registry = Registry::load(nodes::store(&Node::directory())).expect("loads");
        let named = |name: &str| {
            let mut record = room(1);
            record.header.name = Some(name.to_owned());
            record
        };
        let (first, second) = tokio::join!(
            registry.insert(named("first"), 10),
            registry.insert(named("second"), 10)
        );
        let third = registry.insert(named("third"), 10).await;
        first.expect("creates");
        for refused in [second, third] {
            assert!(
                matches!(refused, Err(Fault::Conflict { .. })),
                "{refused:?}"
            );
        }
        let there = registry.rooms.get(RoomId::from_random(1)).expect("created");
        assert_eq!(there.header.name.as_deref(), Some("first"));
    });
}

/// Goal: the database of a server alone, and that of another cluster, are refused by name, and stay as they are.
#[test]
fn a_database_that_is_no_copy_is_refused() {
    run(async {
        let model = Model::new(1, Faults::default());
        facts(&model);
        let alone = Node::directory();
        let registry = Registry::load(nodes::store(&alone)).expect("loads");
        registry.insert(room(1), 10).await.expect("creates");
        drop(registry);
        let load = |directory, settings| Registry::load_copy(nodes::store(directory), settings);
        let refused = load(&alone, nodes::settings(&model, "a"))
            .expect_err("no copy")
            .to_string();
        assert!(
            refused.contains("1 records") && refused.contains("cluster init"),
            "{refused}"
        );
        let node = Node::start(&model, "a").await;
        let directory = Rc::clone(&node.directory);
        node.registry.insert(room(2), 10).await.expect("creates");
        node.stop().await;
        let mut other = nodes::settings(&model, "a");
        other.cluster = "other".to_owned();
        let refused = load(&directory, other)
            .expect_err("another cluster's")
            .to_string();
        assert!(refused.contains("copy of cluster main"), "{refused}");
        let mut store = nodes::store(&directory);
        assert_eq!(store.take(Table::Rooms).len(), 1);
    });
}

/// Goal: keys reach every node, opened; under another secret a node is not current, and says which file is wrong.
#[test]
fn keys_reach_the_nodes_that_have_the_secret() {
    run(async {
        let model = Model::new(1, Faults::default());
        facts(&model);
        let sealed = nodes::secret()
            .seal("secret.key.AKUP1", b"one")
            .expect("random bytes");
        model.put("secret.key.AKUP1", Some(&sealed));
        let node = Node::start(&model, "a").await;
        let one = KeyChange::AccessKey("AKUP1".to_owned(), Some(b"one".to_vec().into()));
        assert!(node.keys().contains(&one), "{:?}", node.keys());
        model.put("secret.key.AKUP1", None);
        node.registry.barrier().await.expect("in time");
        let replica = node.registry.replica().expect("of a cluster");
        replica.settled(replica.applied()).await;
        assert!(
            node.keys()
                .contains(&KeyChange::AccessKey("AKUP1".to_owned(), None))
        );
        let wrong = ClusterSecret::of(&[9; 32])
            .seal("secret.ring", b"x")
            .expect("random bytes");
        model.put("secret.ring", Some(&wrong));
        let reason = node.stale_because("secret_file").await;
        assert!(reason.contains("secret.ring"), "{reason}");
        let late = Node::new(&model, "b", Node::directory());
        late.stale_because("secret_file").await;
    });
}

fn ban(number: u32, by: &str) -> BanRecord {
    let room = RoomId::from_random(1);
    let user_id = format!("user {number} ü");
    BanRecord {
        header: ResourceHeader::new(BanId::of(Some(room), &user_id), 1_000),
        room: Some(room.to_string()),
        user_id,
        mode: "ban".to_owned(),
        until_ms: None,
        reason: String::new(),
        by: by.to_owned(),
        networks: Vec::new(),
    }
}

/// Goal: bans that all nodes make and lift at once are the same everywhere in the end, whatever is lost between nodes and
/// brokers; each user has one.
#[test]
fn bans_of_all_nodes_are_the_same_everywhere() {
    for seed in 0..SEEDS {
        run(async move {
            let model = Model::new(seed, Faults::default());
            facts(&model);
            let nodes = three(&model).await;
            model.set_faults(ALL);
            let nodes_and_users = nodes
                .iter()
                .flat_map(|node| (0..5).map(move |number| (node, number)));
            let changes = nodes_and_users.map(|(node, number)| {
                let (registry, by) = (Rc::clone(&node.registry), node.name);
                async move {
                    let ban = ban(number, by);
                    registry.put_ban(ban.clone()).await.expect("in time");
                    if number == 4 {
                        registry.remove_ban(ban.id()).await.expect("in time");
                    }
                }
            });
            all(changes.collect::<Vec<_>>()).await;
            model.heal();
            let mut expected: Vec<Vec<u8>> = model
                .values("ban.")
                .iter()
                .map(|(_, value)| value.to_vec())
                .collect();
            expected.sort();
            assert!((4..=5).contains(&expected.len()), "one of each user");
            for node in &nodes {
                node.registry.barrier().await.expect("a quorum");
                let mut found = node
                    .registry
                    .bans
                    .each(|ban| serde_json::to_vec(ban).expect("JSON"));
                found.sort();
                assert_eq!(found, expected, "memory of {}", node.name);
            }
        });
    }
}

/// Goal: a ban that was lifted, and a set of rules that was removed, do not come back by an attempt that lay in a socket until then.
/// Method: half of all attempts lie there for longer than the whole change takes.
#[test]
fn what_was_removed_does_not_come_back_late() {
    let mut held = 0;
    for seed in 0..SEEDS {
        held += run(async move {
            let model = Model::new(seed, Faults::default());
            facts(&model);
            let nodes = three(&model).await;
            model.set_late(50 * replica::RETRY);
            for number in 0..4 {
                let (ban, set) = (ban(number, "a"), rule_set(&format!("s{number}"), "a"));
                model.set_faults(Faults {
                    write_held: 50,
                    ..Faults::default()
                });
                let registry = &nodes[0].registry;
                registry.put_ban(ban.clone()).await.expect("in time");
                registry.put_rule_set(set.clone()).await.expect("in time");
                model.set_faults(Faults::default());
                let other = &nodes[1].registry;
                other.barrier().await.expect("a quorum");
                assert!(other.remove_ban(ban.id()).await.expect("in time"));
                assert!(other.remove_rule_set(set.id()).await.expect("in time"));
            }
            model.quiet().await;
            let back = [model.values("ban."), model.values("rules.")].concat();
            assert!(back.is_empty(), "seed {seed}: {back:?}");
            model.counted()[5]
        });
    }
    assert!(held > 0, "no attempt lay in a socket");
}

/// Goal: a ban that is to leave longer ones alone does so whichever node has stored them, at once too: in the end each user has
/// the longest that was asked for, and every call is told what it has stored. Method: each node asks for another length.
#[test]
fn the_longest_ban_stays_whoever_asks_last() {
    let ending = |number: u32, until_ms: u64| BanRecord {
        until_ms: Some(until_ms),
        ..ban(number, "")
    };
    for seed in 0..SEEDS {
        run(async move {
            let model = Model::new(seed, Faults::default());
            facts(&model);
            let nodes = three(&model).await;
            model.set_faults(ALL);
            let asked = nodes.iter().zip([20, 40, 30]);
            let asked = asked.flat_map(|(node, ms)| (0..4).map(move |number| (node, number, ms)));
            let asked = asked.map(|(node, number, until_ms)| {
                let registry = Rc::clone(&node.registry);
                async move {
                    let wanted = ending(number, until_ms);
                    let over = |there: &BanRecord| ending(number, until_ms).over(there, 10);
                    let put = registry.put_ban_over(&wanted, over).await;
                    let put = put.expect("in time");
                    assert!(put.is_none_or(|put| put.until_ms == Some(until_ms)));
                }
            });
            all(asked.collect::<Vec<_>>()).await;
            model.heal();
            for node in &nodes {
                node.registry.barrier().await.expect("a quorum");
                let found = node.registry.bans.each(|ban| ban.until_ms);
                assert_eq!(found, [Some(40); 4], "seed {seed}, {}", node.name);
            }
        });
    }
}

fn rule_set(name: &str, word: &str) -> RuleSetRecord {
    let mut header = ResourceHeader::new(RuleSetId::of(name), 1_000);
    header.name = Some(name.to_owned());
    let rule =
        serde_json::json!({"id": "r", "kind": "words", "patterns": [word], "action": "mask"});
    RuleSetRecord {
        header,
        rules: vec![rule],
    }
}

/// Goal: sets of rules that all nodes put and remove at once are the same everywhere in the end, whatever is lost between nodes
/// and brokers; each name has one, and an acknowledged removal that nothing follows holds.
#[test]
fn rule_sets_of_all_nodes_are_the_same_everywhere() {
    for seed in 0..SEEDS {
        run(async move {
            let model = Model::new(seed, Faults::default());
            facts(&model);
            let nodes = three(&model).await;
            model.set_faults(ALL);
            let changes = nodes
                .iter()
                .flat_map(|node| (0..4).map(move |number| (node, number)));
            let changes = changes.map(|(node, number)| {
                let (registry, word) = (Rc::clone(&node.registry), node.name);
                async move {
                    let set = rule_set(&format!("set{number}"), word);
                    registry.put_rule_set(set.clone()).await.expect("in time");
                    if number == 3 {
                        registry.remove_rule_set(set.id()).await.expect("in time");
                    }
                }
            });
            all(changes.collect::<Vec<_>>()).await;
            model.heal();
            for node in &nodes {
                node.registry.barrier().await.expect("a quorum");
            }
            let gone = nodes[0]
                .registry
                .remove_rule_set(RuleSetId::of("set3"))
                .await;
            gone.expect("in time");
            let stored = model.values("rules.");
            let mut expected: Vec<Vec<u8>> =
                stored.iter().map(|(_, value)| value.to_vec()).collect();
            expected.sort();
            assert_eq!(expected.len(), 3, "one of each name: {stored:?}");
            for node in &nodes {
                node.registry.barrier().await.expect("a quorum");
                let sets = &node.registry.rule_sets;
                let mut found = sets.each(|set| serde_json::to_vec(set).expect("JSON"));
                found.sort();
                assert_eq!(found, expected, "memory of {}, seed {seed}", node.name);
            }
        });
    }
}
