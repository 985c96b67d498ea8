//! Shards of two nodes in a cluster: what is said by one node is heard on all in one order, decided by the home, once.
//! The log between them is the simplest one; what a real one does to nodes is the simulation's subject.

mod world;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use uproar::shard::command::{AdmitError, Command, Eviction, Refused};
use uproar_proto::base::id::{FrameId, LoggingId};
use uproar_proto::base::limits::{JOIN_PARKED_MAX, UNKNOWN_ROOM_WAIT};
use uproar_proto::chat::review::{Rewrite, Verdict};
use uproar_proto::cluster::Sequence;
use uproar_proto::cluster::record::Entry;
use uproar_proto::extension::pin::Pin;
use uproar_proto::extension::{Extension, Settings, Verb};
use uproar_proto::room::RoomSettings;
use uproar_proto::room::review::Fallback;
use uproar_testing::parts::room_settings;

use world::{Log, World, room, says, user};

fn reviewed() -> RoomSettings {
    RoomSettings {
        review: Some(Fallback::Deny),
        ..room_settings()
    }
}

/// Goal: members on every shard of every node hear the same messages in the same order, compressed or not, and a
/// sender its own once. Method: two members a node, all speak.
#[test]
fn all_nodes_hear_one_order() {
    let mut world = World::with_room();
    let viewers: Vec<_> = [0, 1, 0, 1].map(|node| world.join(node)).into();
    assert_eq!(
        viewers
            .iter()
            .map(|viewer| (viewer.node, viewer.shard))
            .collect::<std::collections::HashSet<_>>()
            .len(),
        4,
        "each shard has one"
    );
    for round in 0..3 {
        for (index, viewer) in viewers.iter().enumerate() {
            world.send(*viewer, &says(&format!("{round}{index}")));
        }
        world.turns(8);
    }
    assert_eq!((world.entries.len(), world.unresolved()), (12, 0));
    // Those with an even token read compressed frames.
    let heard = world.heard(viewers[0]);
    assert_eq!(heard.len(), 12);
    assert_eq!(world.heard(viewers[2]), heard);
    for viewer in [viewers[1], viewers[3]] {
        assert!(world.got(viewer).len() > 400, "it got frames");
        assert_eq!(world.got(viewer).matches("ErrorCode").count(), 0);
    }
    let mut all = heard;
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 12, "each once");
}

/// Goal: the room's rate holds for senders of all nodes together, and a refusal reaches the sender on its node.
#[test]
fn the_home_holds_the_rooms_rate() {
    let mut world = World::new(Some(RoomSettings {
        messages_per_second: 3,
        ..room_settings()
    }));
    let (here, there) = (world.join(0), world.join(1));
    for number in 0..4 {
        world.send(here, &says(&format!("a{number}")));
        world.send(there, &says(&format!("b{number}")));
    }
    world.turns(5);
    assert_eq!(world.entries.len(), 3);
    let refused = |viewer| world.got(viewer).matches(r#""ErrorCode":429"#).count();
    assert_eq!(refused(here) + refused(there), 5);
    assert!(refused(there) > 0);
    assert_eq!(world.unresolved(), 0);
}

/// Goal: a call of the API is answered when its event is in the log, with the id that the members see; a kick closes
/// the user's connections on both nodes, behind the event.
#[test]
fn calls_are_answered_by_the_log() {
    let mut world = World::with_room();
    let viewers = [world.join(0), world.join(1), world.join(1)];
    world.log = Log::Stands;
    let mut event = world.command(1, |answer| Command::SendEvent {
        room: room(),
        name: "goal".into(),
        attributes_json: r#"{"by":"7"}"#.into(),
        answer,
    });
    world.turns(5);
    assert_eq!(event.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    world.answer();
    world.turns(5);
    let id = event.try_recv().unwrap().unwrap().id;
    for viewer in [viewers[0], viewers[2]] {
        assert_eq!(world.got(viewer).matches(id.as_str()).count(), 1);
    }
    // Its token was the second.
    let mut kicked = world.command(0, |answer| Command::DisconnectUser {
        room: room(),
        eviction: Eviction {
            user_id: user(3).into(),
            reason: "enough".into(),
        },
        is_banned: false,
        answer,
    });
    world.turns(6);
    assert!(kicked.try_recv().unwrap().is_ok());
    let got = world.got(viewers[2]);
    let event_at = got.find("aws:DISCONNECT_USER").expect("the event");
    assert!(
        got[event_at..].contains("enough"),
        "the Close frame follows: {got}"
    );
    assert!(world.got(viewers[0]).contains("aws:DISCONNECT_USER"));
    world.send(viewers[2], &says("still here?"));
    world.turns(4);
    assert!(world.heard(viewers[0]).is_empty(), "it is out");
}

/// Goal: the pin of a deleted message is taken back also if the home does not know of it yet: by the node that does.
/// Method: the home's record is older than that of the other node, where the message is deleted.
#[test]
fn a_node_that_knows_a_pin_takes_it_back() {
    let mut world = World::with_room();
    let pin = Pin {
        id: FrameId::parse("abcdefghijkl").unwrap(),
        text: "pin me".into(),
        user: "".into(),
        by: "".into(),
        attributes_json: "".into(),
        until: None,
    };
    let now = world.now.unix;
    let extension = Extension::new(room(), Settings::default(), Some(&pin), (1, now));
    let pinned = RoomSettings {
        extension: Some(Arc::new(extension)),
        ..room_settings()
    };
    world.put_room(1, pinned);
    let [mut at_home, mut elsewhere] = [0, 1].map(|node| {
        let (orders, ordered) = mpsc::channel(4);
        world.home_shard(node).core.set_orders(orders);
        ordered
    });
    for id in ["abcdefghijkm", "abcdefghijkl"] {
        assert!(elsewhere.try_recv().is_err(), "another message's is kept");
        let mut deleted = world.command(1, |answer| Command::DeleteMessage {
            room: room(),
            id: id.into(),
            reason: "".into(),
            answer,
        });
        world.turns(5);
        assert!(matches!(deleted.try_recv(), Ok(Ok(_))));
    }
    let order = elsewhere.try_recv().expect("the pin is taken back");
    assert!(matches!(order.verb, Verb::Unpin(Some(id)) if id == pin.id));
    assert!(elsewhere.try_recv().is_err(), "once");
    assert!(at_home.try_recv().is_err(), "the home knows of no pin");
}

/// Goal: without a word of the log a sender gets ERROR 500 and a caller `Late`, and nothing waits on.
#[test]
fn unknown_outcomes_are_told() {
    let mut world = World::with_room();
    let viewer = world.join(1);
    world.log = Log::Stands;
    world.send(viewer, &says("lost"));
    let mut deleted = world.command(0, |answer| Command::DeleteMessage {
        room: room(),
        id: "abcdefghijkl".into(),
        reason: "".into(),
        answer,
    });
    world.turns(3);
    world.give_up();
    world.turns(3);
    assert_eq!(deleted.try_recv(), Ok(Err(Refused::Late)));
    let got = world.got(viewer);
    assert!(
        got.contains(r#""RequestId":"r-lost","ErrorCode":500"#),
        "{got}"
    );
    let mut unknown = world.command(0, |answer| Command::DeleteMessage {
        room: uproar_proto::base::id::RoomId::parse("nobodyknowsx").unwrap(),
        id: "abcdefghijkl".into(),
        reason: "".into(),
        answer,
    });
    assert_eq!(unknown.try_recv(), Ok(Err(Refused::NoSuchRoom)));
}

/// Goal: a token opens one connection in the whole cluster, and none before the log says so; without its word the
/// token may be tried again.
#[test]
fn a_token_opens_one_connection_anywhere() {
    let mut world = World::with_room();
    world.log = Log::Stands;
    let token = world.present_new(0);
    world.present(1, token);
    world.turns(3);
    assert!(world.viewers().is_empty(), "both wait");
    world.answer();
    world.turns(4);
    assert_eq!(world.viewers().len(), 1);
    assert_eq!(world.home_shard(1).rejected, [AdmitError::TokenUsed]);

    world.log = Log::Stands;
    let token = world.present_new(1);
    world.turns(3);
    world.present(1, token);
    world.turns(3);
    assert_eq!(
        world.home_shard(1).rejected.pop(),
        Some(AdmitError::TokenUsed),
        "while it waits"
    );
    world.give_up();
    world.turns(3);
    assert_eq!(
        world.home_shard(1).rejected.pop(),
        Some(AdmitError::Unconfirmed)
    );
    world.log = Log::Answers;
    world.present(1, token);
    world.turns(4);
    assert_eq!(world.viewers().len(), 2, "nobody used it");
}

/// Goal: handshakes that wait are bounded in number and time; an answer that comes later than that opens nothing.
#[test]
fn parked_handshakes_are_bounded() {
    let mut world = World::with_room();
    world.log = Log::Stands;
    for _ in 0..6 {
        world.present_new(0);
    }
    world.turns(2);
    assert_eq!(
        world.home_shard(0).rejected,
        [AdmitError::Busy; 2],
        "four may wait"
    );
    world.pass(JOIN_PARKED_MAX);
    world.turns(1);
    let rejected = &mut world.home_shard(0).rejected;
    assert_eq!(rejected[2..], [AdmitError::Unconfirmed; 4]);
    world.answer();
    world.turns(4);
    assert!(world.viewers().is_empty());
}

/// Goal: a connection to a room that its node does not know waits until the node knows all rooms, whoever made them, and is
/// then let in or refused at once; many share one search, those that come meanwhile the next; without an answer they
/// are refused as unconfirmed, and beyond the bound at once.
#[test]
fn connections_wait_for_their_room() {
    let mut world = World::new(None);
    for _ in 0..3 {
        world.present_new(0);
    }
    world.turns(3);
    assert_eq!(world.searches.len(), 1, "one for all");
    world.present_new(0);
    world.present_new(0);
    world.turns(3);
    assert_eq!(world.searches.len(), 1, "one at a time");
    assert_eq!(world.home_shard(0).rejected, [AdmitError::Busy], "four may");
    world.searched();
    world.turns(3);
    let rejected = &mut world.home_shard(0).rejected;
    assert_eq!(rejected[1..], [AdmitError::NoSuchRoom; 3]);
    rejected.clear();
    assert_eq!(world.searches.len(), 2, "the fourth came later");
    world.put_room(0, room_settings());
    world.turns(4);
    assert_eq!(world.viewers().len(), 1, "its room came");
    world.searched();
    world.turns(1);
    assert!(world.home_shard(0).rejected.is_empty());

    world.present_new(1);
    world.turns(2);
    assert_eq!(world.searches.len(), 3);
    world.pass(UNKNOWN_ROOM_WAIT);
    world.turns(1);
    assert_eq!(world.home_shard(1).rejected, [AdmitError::Unconfirmed]);
}

/// Goal: the home reviews for all nodes: a denial reaches the sender on its own one, allowed messages keep the order
/// of their arrival whatever the order of verdicts.
#[test]
fn the_home_reviews_for_all() {
    let mut world = World::new(Some(reviewed()));
    let (here, there) = (world.join(0), world.join(1));
    for (viewer, content) in [(there, "one"), (here, "two"), (there, "three")] {
        world.send(viewer, &says(content));
        world.turns(4);
    }
    assert!(
        world.home_shard(1).to_reviewer.pop().is_err(),
        "the home alone asks"
    );
    let mut asked = Vec::new();
    while let Ok(request) = world.home_shard(0).to_reviewer.pop() {
        asked.push(request.ticket);
    }
    let allow = |content: &str| {
        Some(Verdict::Allow(Rewrite {
            content: content.into(),
            attributes_json: None,
        }))
    };
    let verdicts = [
        (asked[2], Some(Verdict::Deny("no".into()))),
        (asked[1], allow("TWO")),
        (asked[0], allow("ONE")),
    ];
    for (ticket, verdict) in verdicts {
        let now = world.now;
        let core = &mut world.home_shard(0).core;
        core.begin(now);
        core.command(Command::Verdict(room(), ticket, verdict));
        world.turns(1);
    }
    world.turns(5);
    assert_eq!(world.heard(here), ["ONE", "TWO"]);
    assert_eq!(world.unresolved(), 0);
    let got = world.got(there);
    assert!(
        got.contains(r#""RequestId":"r-three","ErrorCode":406"#),
        "{got}"
    );
}

/// Goal: when the home moves, what was under review there is reviewed by the new home, once; the old verdicts mean
/// nothing, nobody is told of them, and the time never goes back.
#[test]
fn reviews_begin_anew_at_the_next_home() {
    let mut world = World::new(Some(reviewed()));
    let viewer = world.join(1);
    world.send(viewer, &says("held"));
    world.turns(4);
    let old = world.home_shard(0).to_reviewer.pop().unwrap();
    world.move_home(1);
    world.turns(3);
    let now = world.now;
    let core = &mut world.home_shard(0).core;
    core.begin(now);
    core.command(Command::Verdict(
        room(),
        old.ticket,
        Some(Verdict::Deny("late".into())),
    ));
    world.turns(3);
    assert!(!world.got(viewer).contains("late"));
    let new = world.home_shard(1).to_reviewer.pop().unwrap();
    assert_eq!(new.id, old.id, "the request is the same");
    let now = world.now;
    let core = &mut world.home_shard(1).core;
    core.begin(now);
    let rewrite = Rewrite {
        content: "allowed".into(),
        attributes_json: None,
    };
    core.command(Command::Verdict(
        room(),
        new.ticket,
        Some(Verdict::Allow(rewrite)),
    ));
    world.turns(4);
    assert_eq!((world.entries.len(), world.fenced), (1, 0));
    assert!(world.got(viewer).contains("allowed"));
    // The first home's deadline passes without a word.
    world.pass(Duration::from_secs(1));
    world.turns(3);
    assert!(!world.got(viewer).contains("ErrorCode"));
}

/// Goal: a room that is deleted while its home reviews a message leaves no request without an outcome. Method: the
/// home's registry is ahead of the other node's.
#[test]
fn a_deleted_room_leaves_no_request_behind() {
    let mut world = World::new(Some(reviewed()));
    let viewer = world.join(1);
    world.send(viewer, &says("held"));
    world.turns(4);
    assert_eq!(world.unresolved(), 1);
    let mut deleted = world.command(0, |answer| Command::DeleteRoom(room(), answer));
    world.turns(4);
    assert_eq!(deleted.try_recv(), Ok(Ok(())));
    assert_eq!(world.unresolved(), 0);
    assert!(world.got(viewer).contains(r#""ErrorCode":404"#));
}

/// Goal: bytes of the log that are no frames reach no member, and frames behind them do.
#[test]
fn unreadable_frames_are_dropped() {
    let mut world = World::with_room();
    let viewers = [world.join(0), world.join(0)];
    world.send(viewers[0], &says("whole"));
    world.turns(6);
    let whole = world.entries[0].clone();
    for bytes in [&b"\x81\x7e\xff"[..], b"\x81\x05ab", b"GET /"] {
        let entry = Entry {
            frame: bytes::Bytes::copy_from_slice(bytes),
            ..whole.clone()
        };
        world.deliver(&entry);
    }
    world.deliver(&whole);
    world.turns(6);
    let plain = viewers
        .into_iter()
        .find(|viewer| world.heard(*viewer) == ["whole", "whole"]);
    assert!(plain.is_some());
    let got = world.got(plain.unwrap());
    assert!(!got.contains("GET /") && !got.contains("ab"), "{got}");
}

/// Goal: a request for a room that the home does not know yet waits for it, and is refused if it does not come.
#[test]
fn requests_wait_for_their_room() {
    let mut world = World::new(None);
    world.put_room(1, room_settings());
    let viewer = world.join(1);
    world.send(viewer, &says("early"));
    world.turns(4);
    assert!(world.entries.is_empty());
    world.put_room(0, room_settings());
    world.turns(4);
    assert_eq!(world.entries.len(), 1);
    assert_eq!(world.heard(viewer), ["early"]);

    let mut world = World::new(None);
    world.put_room(1, room_settings());
    let viewer = world.join(1);
    world.send(viewer, &says("never"));
    world.turns(4);
    world.pass(UNKNOWN_ROOM_WAIT);
    world.turns(4);
    assert!(world.got(viewer).contains(r#""ErrorCode":404"#));
    assert_eq!(world.unresolved(), 0);
}

/// Goal: the home's archive alone gets frames of a logged room, members do not wait for it, and the cluster hears how
/// far it is once they are in the spool.
#[test]
fn the_home_logs() {
    let logged = RoomSettings {
        archive: [LoggingId::from_random(1)].into_iter().collect(),
        ..room_settings()
    };
    let mut world = World::new(Some(logged));
    let viewer = world.join(1);
    world.send(viewer, &says("a"));
    world.send(viewer, &says("b"));
    world.turns(5);
    assert_eq!(world.heard(viewer), ["a", "b"], "nothing is spooled yet");
    assert!(world.home_shard(1).to_archive.pop().is_err());
    let mut frames = Vec::new();
    while let Ok(entry) = world.home_shard(0).to_archive.pop() {
        frames.extend_from_slice(&entry.frames);
    }
    let whole: Vec<u8> = world
        .entries
        .iter()
        .flat_map(|entry| entry.frame.to_vec())
        .collect();
    assert_eq!(frames, whole);
    world.pass(Duration::from_secs(1));
    world.turns(1);
    assert!(world.archived.is_empty());
    for spooled in [1, 2] {
        world.home_shard(0).spooled.deliver(Command::Spooled(1));
        world.turns(1);
        world.pass(Duration::from_secs(1));
        world.turns(1);
        let (node, _, sequence) = world.archived.pop().unwrap();
        assert_eq!((node, sequence), (0, Sequence(spooled)));
    }
}

/// Goal: a shard that hands over owes nobody an answer. Method: freeze with a request and a handshake on their way.
#[test]
fn a_freeze_waits_for_the_cluster() {
    let mut world = World::with_room();
    let viewer = world.join(0);
    world.log = Log::Stands;
    world.send(viewer, &says("last"));
    world.present_new(0);
    world.turns(3);
    let mut frozen = Vec::new();
    for shard in &mut world.nodes[0] {
        let (answer, answered) = oneshot::channel();
        shard.core.begin(world.now);
        shard.core.freeze(answer);
        frozen.push(answered);
    }
    for _ in 0..20 {
        cancel_receives(&mut world);
        world.turns(1);
    }
    assert!(
        frozen
            .iter_mut()
            .any(|answered| answered.try_recv().is_err())
    );
    world.answer();
    for _ in 0..20 {
        cancel_receives(&mut world);
        world.turns(1);
    }
    assert!(world.nodes[0].iter().all(|shard| shard.core.is_frozen()));
    assert!(world.got(viewer).contains("last"));
}

fn cancel_receives(world: &mut World) {
    const ECANCELED: i32 = 125;
    for shard in &mut world.nodes[0] {
        shard.core.begin(world.now);
        for key in std::mem::take(&mut shard.core.io_mut().cancelled) {
            let cancelled = std::io::Error::from_raw_os_error(ECANCELED);
            shard.core.received(key, None, &Err(cancelled), false);
        }
    }
}

/// Goal: a shard stops reading from the cluster while another one does not keep up, so that the cluster's thread feels
/// it, and nothing is lost. Method: small mailboxes; the other shard takes no turn while much is said.
#[test]
fn a_slow_shard_slows_the_cluster_down() {
    const PLACES: usize = 4;
    let mut world = World::with_places(PLACES);
    let viewers = [world.join(0), world.join(0), world.join(1)];
    let home = world.home_number();
    let slow = viewers
        .into_iter()
        .find(|viewer| viewer.node == 0 && viewer.shard != home);
    let slow = slow.expect("each shard of the node has one");
    world.asleep = Some((0, slow.shard));
    for number in 0..40 {
        world.send(viewers[2], &says(&number.to_string()));
        world.turns(3);
    }
    let waiting = world.home_shard(0).from_cluster.kept();
    assert!(waiting > PLACES, "{waiting} commands wait for the shard");
    world.asleep = None;
    world.turns(60);
    assert_eq!(world.home_shard(0).from_cluster.kept(), 0);
    let all: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let plain = viewers
        .into_iter()
        .find(|viewer| viewer.node == 0 && world.heard(*viewer) == all);
    assert!(plain.is_some(), "one of them reads uncompressed frames");
    assert_eq!(world.unresolved(), 0);
}
